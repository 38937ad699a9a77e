"""The command line: what it writes and says, and one line with exit code 2 for everything a user can mend."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ProMISeCore import __main__ as command_line
from ProMISeCore import exports, packs
from ProMISeCore.cache import Cache
from ProMISeCore.whole_file import replacing

ROOT = Path(__file__).resolve().parent.parent


def scan(path: Path, shape=(4, 20, 24), voxels: np.ndarray | None = None) -> Path:
    """A file with a volume (K, J, I) at 1.5 × 1.5 × 4 mm."""
    if voxels is None:
        voxels = np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)
    image = sitk.GetImageFromArray(voxels)
    if image.GetDimension() == 3:
        image.SetSpacing((1.5, 1.5, 4.0))
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def promise(capsys: pytest.CaptureFixture[str]) -> Callable:
    """`promise(*words)` → (exit code, stdout, lines of stderr)."""

    def run(*words: object) -> tuple[int, str, list[str]]:
        capsys.readouterr()
        try:
            code = command_line.main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return run


def refused(answer: tuple[int, str, list[str]], *words: str) -> None:
    """Exit code 2, nothing on stdout, and a last line of ours that has all of the words."""
    code, out, lines = answer
    assert (code, out) == (2, ""), lines
    assert lines[-1].startswith("promise: ") and all(word in lines[-1] for word in words), lines


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# segment


def test_segment_writes_three_files_beside_the_scan(promise, weights, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    source = scan(folder / "scan.nii.gz")
    code, out, _ = promise("segment", source, *weights())
    assert code == 0
    assert files(folder) == ["scan.nii.gz", "scan.png", "scan.prompts.mrk.json", "scan.seg.nrrd"]
    assert "4 axial slices" in out and "4 encoded" in out and " ml on " in out
    assert str(folder / "scan.seg.nrrd") in out
    assert "Research use only, not for clinical use." in out
    segmentation = sitk.ReadImage(str(folder / "scan.seg.nrrd"))
    assert segmentation.GetMetaData("Segment0_Name") == "a" and segmentation.GetMetaData("Segment1_Name") == "b"
    markups = json.loads((folder / "scan.prompts.mrk.json").read_text(encoding="utf-8"))["markups"]
    points = [node for node in markups if node["type"] == "Fiducial"]
    assert [node["name"] for node in points] == ["a positive", "a negative", "b positive", "b negative"]
    assert all(point["description"] == "auto" for node in points for point in node["controlPoints"])


def test_a_second_run_encodes_nothing_and_replaces_its_files(promise, weights, tmp_path: Path) -> None:
    arguments = ["segment", scan(tmp_path / "scan.nii.gz"), *weights(), "--out", tmp_path / "out"]
    assert promise(*arguments)[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    code, out, _ = promise(*arguments)
    assert code == 0 and "0 encoded, 4 from the cache" in out
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert before.keys() == after.keys()
    assert before["scan.png"] == after["scan.png"] and before["scan.seg.nrrd"] == after["scan.seg.nrrd"]


def test_no_cache_leaves_none(promise, weights, tmp_path: Path) -> None:
    assert promise("segment", scan(tmp_path / "scan.nii.gz"), *weights(), "--no-cache")[0] == 0
    assert Cache().size() == (0, 0)


def test_a_label_map_on_the_scans_grid(promise, weights, tmp_path: Path) -> None:
    source = scan(tmp_path / "scan.mha")
    assert promise("segment", source, *weights(), "--format", "nii.gz", "--out", tmp_path / "out")[0] == 0
    label, image = sitk.ReadImage(str(tmp_path / "out" / "scan.nii.gz")), sitk.ReadImage(str(source))
    assert label.GetSize() == image.GetSize()
    np.testing.assert_allclose(label.GetSpacing(), image.GetSpacing(), rtol=1e-6)
    assert set(np.unique(sitk.GetArrayFromImage(label))) <= {0, 1, 2}


def test_a_picture_is_not_overwritten_by_its_sheet(promise, weights, tmp_path: Path) -> None:
    picture = tmp_path / "polyp.png"
    scan(picture, voxels=np.random.default_rng(0).integers(0, 255, (30, 40)).astype(np.uint8))
    before = picture.read_bytes()
    code, out, _ = promise("segment", picture, *weights(orientation="image", window={"mode": "bytes"}))
    assert code == 0 and "of the picture" in out
    assert picture.read_bytes() == before
    assert {"polyp.sheet.png", "polyp.seg.nrrd", "polyp.prompts.mrk.json"} <= set(files(tmp_path))


def test_the_input_is_never_overwritten(promise, weights, tmp_path: Path) -> None:
    source = scan(tmp_path / "scan.nii.gz")
    before = source.read_bytes()
    refused(promise("segment", source, *weights(), "--format", "nii.gz"), "overwritten", "--out")
    assert source.read_bytes() == before


def test_first_and_axis(promise, weights, tmp_path: Path) -> None:
    source = scan(tmp_path / "scan.nii.gz")
    code, out, lines = promise("segment", source, *weights(), "--axis", "coronal", "--first", "3", "--out", tmp_path)
    assert code == 0 and "20 coronal slices" in out
    assert any("trained on axial" in line for line in lines)
    refused(promise("segment", source, *weights(), "--first", "4"), "slices 0 to 3")


def test_the_estimate_comes_before_the_run(promise, weights, tmp_path: Path) -> None:
    _, _, lines = promise("segment", scan(tmp_path / "scan.nii.gz"), *weights())
    assert any("4 slices on cpu, 4 to encode" in line and "of memory" in line for line in lines)


# Bad input


def truncated(path: Path) -> Path:
    data = scan(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def four_dimensional(path: Path) -> Path:
    sitk.WriteImage(sitk.JoinSeries([sitk.Image(4, 4, 4, sitk.sitkInt16)] * 2), str(path))
    return path


def not_numbers(path: Path) -> Path:
    voxels = np.zeros((3, 8, 8), np.float32)
    voxels[1, 2, 3] = np.nan
    return scan(path, voxels=voxels)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def emptied(path: Path) -> Path:
    path.mkdir()
    return path


BAD_INPUTS = {
    "missing": (lambda folder: folder / "typo.nii.gz", ["does not exist"]),
    "empty file": (lambda folder: written(folder / "scan.nii.gz", b""), ["empty"]),
    "not an image": (lambda folder: written(folder / "scan.nii.gz", b"hello" * 99), ["scan.nii.gz"]),
    "unknown format": (lambda folder: written(folder / "scan.docx", b"hello"), ["format"]),
    "cut off": (lambda folder: truncated(folder / "scan.nii.gz"), ["scan.nii.gz"]),
    "4D": (lambda folder: four_dimensional(folder / "scan.nii.gz"), ["dimensions"]),
    "NaN": (lambda folder: not_numbers(folder / "scan.nii.gz"), ["not numbers"]),
    "constant": (lambda folder: scan(folder / "scan.nii.gz", voxels=np.full((3, 8, 8), 5, np.int16)), ["constant"]),
    "thin slices": (lambda folder: scan(folder / "scan.nii.gz", (4, 1, 24)), ["--axis"]),
    "no series": (lambda folder: emptied(folder / "series"), ["DICOM"]),
    "one row": (lambda folder: scan(folder / "x.png", voxels=np.zeros((1, 200), np.uint8)), ["1 × 200 pixels"]),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input_is_one_line_and_leaves_nothing(promise, weights, tmp_path: Path, case: str) -> None:
    make, words = BAD_INPUTS[case]
    folder = tmp_path / "scans"
    folder.mkdir()
    source = make(folder)
    arguments = weights()
    before = files(folder)
    refused(promise("segment", source, *arguments), *words)
    assert files(folder) == before


def test_results_lie_beside_a_link_not_where_it_leads(promise, weights, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "work").mkdir()
    link = tmp_path / "work" / "mine.nii.gz"
    link.symlink_to(scan(tmp_path / "archive" / "0001.nii.gz"))
    assert promise("segment", link, *weights())[0] == 0
    assert files(tmp_path / "archive") == ["0001.nii.gz"] and (tmp_path / "work" / "mine.seg.nrrd").is_file()


def test_a_folder_in_the_place_of_a_result_is_found_before_the_work(promise, weights, tmp_path: Path) -> None:
    source, out = scan(tmp_path / "s.nii.gz"), tmp_path / "out"
    (out / "s.png").mkdir(parents=True)
    refused(promise("segment", source, *weights(), "--out", out), "s.png is a folder", "--out")
    assert files(out) == [] and Cache().size() == (0, 0)


def test_a_licence_of_several_lines_does_not_break_the_table(promise, weights, home: Path) -> None:
    pack = Path(weights()[1])
    manifest = replace(packs.read_manifest(pack), licence="one\ntwo")
    packs.save(home / "packs" / "lined.safetensors", manifest, packs.tensors(pack))
    (line,) = [line for line in promise("packs")[1].splitlines() if line.startswith("lined")]
    assert "one two" in line


def test_demo_without_its_pack_leaves_nothing(promise, tmp_path: Path) -> None:
    refused(promise("demo", "--pack", "nowhere", "--out", tmp_path / "demo"), "'nowhere'")
    assert not (tmp_path / "demo").exists()


def test_tables_are_printed_where_their_lines_cannot_be_encoded() -> None:
    command = [sys.executable, "-m", "ProMISeCore", "backbones"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": "cp1252"}, capture_output=True)
    assert done.returncode == 0 and b"sam_vit_b" in done.stdout, done.stderr


def test_one_slice_works(promise, weights, tmp_path: Path) -> None:
    assert promise("segment", scan(tmp_path / "scan.nii.gz", (1, 20, 24)), *weights())[0] == 0


def test_20000_pixels_are_refused(promise, weights, tmp_path: Path) -> None:
    image = sitk.Image(20000, 20000, sitk.sitkUInt8)
    image[5, 5] = 9
    sitk.WriteImage(image, str(tmp_path / "wide.nrrd"), useCompression=True)
    refused(promise("segment", tmp_path / "wide.nrrd", *weights()), "20000", "crop")


def test_a_pack_for_another_backbone(promise, weights, tmp_path: Path) -> None:
    arguments = weights()
    model_pack = Path(arguments[1])
    manifest = packs.read_manifest(model_pack)
    foreign = replace(manifest, backbone=replace(manifest.backbone, fingerprint="0" * 64))
    packs.save(tmp_path / "foreign.safetensors", foreign, packs.tensors(model_pack))
    arguments[1] = str(tmp_path / "foreign.safetensors")
    refused(promise("segment", scan(tmp_path / "s.nii.gz"), *arguments), "backbone")


@pytest.mark.parametrize("damage", ["missing", "text", "cut off"])
def test_a_bad_pack(promise, weights, tmp_path: Path, damage: str) -> None:
    arguments = weights()
    pack = Path(arguments[1])
    data = pack.read_bytes()
    if damage == "missing":
        pack.unlink()
    else:
        pack.write_bytes(b"hello" if damage == "text" else data[:-100])
    refused(promise("segment", scan(tmp_path / "s.nii.gz"), *arguments), "test")


def test_an_unknown_pack_lists_what_there_is(promise, tmp_path: Path) -> None:
    refused(promise("segment", scan(tmp_path / "s.nii.gz"), "--pack", "hart"), "'hart'", "installed")


def test_an_unwritable_folder_is_found_before_the_work(promise, weights, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = promise("segment", scan(tmp_path / "s.nii.gz"), *weights(), "--out", tmp_path / "file" / "out")
    refused(answer, "cannot be written", "--out")
    assert Cache().size() == (0, 0)


def test_a_full_disk_leaves_nothing_half_written(promise, weights, tmp_path: Path, monkeypatch) -> None:
    source, out = scan(tmp_path / "s.nii.gz"), tmp_path / "out"

    def full(path, *rest) -> None:
        with replacing(path) as part:
            part.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exports, "write_contact_sheet", full)
    refused(promise("segment", source, *weights(), "--out", out), "No space left on device", str(out / "s.png"))
    assert files(out) == [] and list(out.iterdir()) == []


def test_an_earlier_result_survives_a_full_disk(promise, weights, tmp_path: Path, monkeypatch) -> None:
    source, out = scan(tmp_path / "s.nii.gz"), tmp_path / "out"
    arguments = ["segment", source, *weights(), "--out", out]
    promise(*arguments)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*rest) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exports, "write_prompts", full)
    refused(promise(*arguments), "No space left on device")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_cache_that_cannot_be_written_is_a_warning(promise, weights, tmp_path: Path, home: Path) -> None:
    (home / "cache").write_text("in the way")
    code, _, lines = promise("segment", scan(tmp_path / "s.nii.gz"), *weights())
    assert code == 0
    assert len([line for line in lines if "cache" in line and "not written" in line]) == 1


def test_memory_that_runs_out_is_one_line(promise, weights, tmp_path: Path, monkeypatch) -> None:
    from ProMISeCore.sam import Sam

    def out_of_memory(*arguments) -> None:
        raise MemoryError

    monkeypatch.setattr(Sam, "encode", out_of_memory)
    refused(promise("segment", scan(tmp_path / "s.nii.gz"), *weights()), "not enough memory")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["segmnt", "x"], "segmnt"),
        ([], "COMMAND"),
        (["segment", "x.nii.gz"], "--pack"),
        (["segment", "x.nii.gz", "--pack", "heart", "--axis", "oblique"], "oblique"),
    ],
)
def test_mistakes_in_the_command_are_one_line(promise, words: list[str], message: str) -> None:
    code, out, lines = promise(*words)
    assert (code, out, len(lines)) == (2, "", 1)
    assert message in lines[0] and "--help" in lines[0]


def test_an_unknown_device(promise, weights, tmp_path: Path) -> None:
    arguments = [*weights()[:-1], "gpu"]
    refused(promise("segment", scan(tmp_path / "s.nii.gz"), *arguments), "'gpu'", "cuda")


def test_notices_of_the_reader_are_said(promise, weights, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(2):  # two series of one slice
        image = sitk.GetImageFromArray(random.integers(0, 1000, (1, 20, 24)).astype(np.int16))
        image.SetMetaData("0020|000e", f"1.2.3.{number}")
        (tmp_path / "series").mkdir(exist_ok=True)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(tmp_path / "series" / f"{number}.dcm"))
        writer.Execute(image)
    code, _, lines = promise("segment", tmp_path / "series", *weights())
    assert code == 0
    assert len([line for line in lines if line.startswith("promise: ") and "2 DICOM series" in line]) == 1
    assert (tmp_path / "series.seg.nrrd").exists(), "beside the folder, not among its files"


def test_a_dicom_modality_that_does_not_fit_is_a_warning(promise, weights, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 1000, (1, 20, 24)).astype(np.int16))
    image.SetMetaData("0008|0060", "CT")
    sitk.WriteImage(image, str(tmp_path / "slice.dcm"))
    code, _, lines = promise("segment", tmp_path / "slice.dcm", *weights())
    assert code == 0
    assert any("is CT" in line and "trained on MR" in line for line in lines)


# Interruption


def test_stopping_is_exit_code_130(promise, weights, tmp_path: Path, monkeypatch) -> None:
    from ProMISeCore.segmenter import Segmenter

    arguments = ["segment", scan(tmp_path / "s.nii.gz"), *weights(), "--out", tmp_path / "out"]
    original = Segmenter.segment_volume

    def stopped(self, *rest):
        results = original(self, *rest)
        yield next(results)
        raise KeyboardInterrupt

    monkeypatch.setattr(Segmenter, "segment_volume", stopped)
    code, out, lines = promise(*arguments)
    assert (code, out) == (130, "") and "goes on" in lines[-1]
    assert files(tmp_path / "out") == []
    monkeypatch.undo()


def start(arguments: list[object], home: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "ProMISeCore", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PROMISE_HOME": str(home), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals are different there")
def test_a_killed_run_goes_on_from_the_cache(promise, weights, tmp_path: Path, home: Path) -> None:
    arguments = ["segment", scan(tmp_path / "s.nii.gz", (120, 40, 40)), *weights(), "--out", tmp_path / "out"]
    process = start(arguments, home)
    while Cache().size()[1] < 20 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was still running"
    kept = Cache().size()[1]
    assert 20 <= kept < 240 and files(tmp_path / "out") == []
    code, out, _ = promise(*arguments)
    assert code == 0
    from_cache = int(out.split("encoded, ")[1].split()[0])
    assert from_cache >= kept // 2 - 1  # an embedding and an answer each


def test_a_process_of_its_own(weights, tmp_path: Path, home: Path) -> None:
    process = start(["segment", tmp_path / "typo.nii.gz", *weights()], home)
    out, error = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    assert error.startswith("promise: ") and error.count("\n") == 1 and "does not exist" in error


# The other commands


def test_version_and_help(promise) -> None:
    import ProMISeCore

    assert promise("--version")[:2] == (0, f"promise {ProMISeCore.__version__}\n")
    code, out, _ = promise("--help")
    assert code == 0 and "segment" in out and "pretrain" not in out
    assert "--pack" in promise("segment", "--help")[1]


def test_packs_are_installed_listed_and_removed(promise, weights, home: Path) -> None:
    pack = Path(weights()[1])
    assert promise("packs", "--install", pack)[0] == 0
    assert (home / "packs" / "test.safetensors").exists()
    code, out, _ = promise("packs")
    assert code == 0 and "test" in out and "a, b" in out and "MR, axial" in out
    assert promise("packs", "--remove", "test")[0] == 0
    refused(promise("packs", "--remove", "test"), "no installed pack 'test'")
    pack.write_bytes(b"hello")
    refused(promise("packs", "--install", pack), "test.safetensors")
    assert files(home) == []


def test_backbones_are_listed(promise) -> None:
    code, out, _ = promise("backbones")
    assert code == 0
    assert all(name in out for name in ("tiny", "mobile_sam", "sam_vit_b", "Apache-2.0", "375.0 MB"))
    refused(promise("backbones", "--download", "sam_vit_x"), "sam_vit_x")
    refused(promise("backbones", "--remove", "sam_vit_b"), "not installed")


def test_cache_is_shown_and_cleared(promise, weights, tmp_path: Path, home: Path) -> None:
    promise("segment", scan(tmp_path / "s.nii.gz"), *weights())
    assert f"{home / 'cache'}: 8 files" in promise("cache")[1]
    assert "removed 8 files" in promise("cache", "--clear")[1]
    assert ": 0 files" in promise("cache")[1]


def labelled(folder: Path, promise, weights) -> tuple[Path, list[str]]:
    """A folder of two cases whose label maps are what the pack makes of them, so that every score is perfect."""
    folder.mkdir()
    arguments = weights(exclusive=True)
    for name, seed in (("one", 1), ("two", 2)):
        voxels = np.random.default_rng(seed).integers(0, 1000, (3, 20, 24)).astype(np.int16)
        source = scan(folder / f"{name}_image.nii.gz", voxels=voxels)
        code, _, lines = promise("segment", source, *arguments, "--format", "nii.gz", "--out", folder / "out")
        assert code == 0, lines
        (folder / "out" / f"{name}_image.nii.gz").rename(folder / f"{name}_label.nii.gz")
    return folder, arguments


def test_evaluate_scores_cases_and_means(promise, weights, tmp_path: Path) -> None:
    folder, arguments = labelled(tmp_path / "cases", promise, weights)
    report_file = tmp_path / "scores.json"
    code, out, lines = promise("evaluate", *arguments, "--images", folder, "--json", report_file, "--surface")
    assert code == 0, lines
    assert "1.0000 ± 0.0000" in out and "2 cases" in out
    report = json.loads(report_file.read_text(encoding="utf-8"))
    assert [case["name"] for case in report["cases"]] == ["one", "two"]
    assert report["mean"]["a"]["dice"] == report["mean"]["union"]["iou"] == 1
    assert report["cases"][0]["targets"]["b"] == {"dice": 1, "iou": 1, "hd95_mm": 0, "surface_dice": 1}


def test_evaluate_with_other_values(promise, weights, tmp_path: Path) -> None:
    folder, arguments = labelled(tmp_path / "cases", promise, weights)
    code, _, _ = promise("evaluate", *arguments, "--images", folder, "--values", 2, 1, "--json", tmp_path / "s.json")
    report = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert code == 0 and report["values"] == {"a": 2, "b": 1}
    assert report["mean"]["a"]["dice"] == 0 and report["mean"]["union"]["dice"] == 1
    refused(promise("evaluate", *arguments, "--images", folder, "--values", 1), "--values", "a, b")


@pytest.mark.parametrize("half", [True, False])
def test_evaluate_records_its_means_in_the_pack(promise, weights, tmp_path: Path, half: bool) -> None:
    folder, arguments = labelled(tmp_path / "cases", promise, weights)
    pack = Path(arguments[1])
    packs.save(pack, packs.read_manifest(pack), packs.tensors(pack), half)
    before, size = packs.tensors(pack), pack.stat().st_size
    for data in ("others val", "cases val", "cases val"):
        assert promise("evaluate", *arguments, "--images", folder, "--record", data)[0] == 0
    scores = packs.read_manifest(pack).scores
    assert [(score["data"], score["target"]) for score in scores] == [
        ("others val", "a"), ("others val", "b"), ("cases val", "a"), ("cases val", "b")
    ]  # fmt: skip
    assert scores[0] == {"data": "others val", "cases": 2, "target": "a", "dice": pytest.approx(1, abs=0.05)} | {
        "iou": scores[0]["iou"]
    }
    assert all((before[key] == value).all() for key, value in packs.tensors(pack).items())
    assert pack.stat().st_size < size + 2000


def test_evaluate_pictures_as_the_paper(promise, weights, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    scan(folder / "x.jpg", voxels=random.integers(0, 255, (30, 40)).astype(np.uint8))
    scan(folder / "x.png", voxels=np.where(np.arange(40) < 20, 255, 0).astype(np.uint8) * np.ones((30, 1), np.uint8))
    arguments = weights(("polyp",), orientation="image", window={"mode": "bytes"})
    code, out, lines = promise("evaluate", *arguments, "--images", folder, "--json", tmp_path / "s.json")
    assert code == 0, lines
    (case,) = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["cases"]
    assert set(case["targets"]["polyp"]) == {"dice", "iou", "mae", "s_measure", "e_measure", "f_beta"}
    assert "union" not in case["targets"]


def test_evaluate_refuses_labels_that_do_not_fit(promise, weights, tmp_path: Path) -> None:
    scan(tmp_path / "x_image.nii.gz"), scan(tmp_path / "x_label.nii.gz", (4, 20, 23))
    images = ["--images", tmp_path / "x_image.nii.gz", "--labels", tmp_path / "x_label.nii.gz"]
    refused(promise("evaluate", *weights(), *images), "shape", "grid")
    refused(promise("evaluate", *weights(), "--images", tmp_path / "typo"), "does not exist")


def test_demo_segments_a_phantom(promise, weights, tmp_path: Path) -> None:
    code, out, _ = promise("demo", *weights(), "--out", tmp_path / "demo")
    assert code == 0 and "10 axial slices" in out
    assert files(tmp_path / "demo") == ["phantom.nii.gz", "phantom.png", "phantom.prompts.mrk.json", "phantom.seg.nrrd"]


def test_import_of_something_else_is_refused(promise, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"hello")
    refused(promise("import", tmp_path / "x.pt", "--out", tmp_path / "x.safetensors"), "x.pt")
    assert files(tmp_path) == ["x.pt"]
