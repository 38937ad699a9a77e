"""The command line: what `promise segment` and the small commands write and say, also when stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scan_files import files, refused, scan

from ProMISeCore import packs, truth
from ProMISeCore.cache import Cache
from ProMISeCore.reading import read_entries

ROOT = Path(__file__).resolve().parent.parent


def test_segment_writes_three_files_beside_the_scan(promise, weights, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    source = scan(folder / "scan.nii.gz")
    code, out, _ = promise("segment", source, *weights())
    assert code == 0
    assert files(folder) == ["scan.nii.gz", "scan.prompts.mrk.json", "scan.seg.nrrd", "scan.sheet.png"]
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
    assert before["scan.sheet.png"] == after["scan.sheet.png"] and before["scan.seg.nrrd"] == after["scan.seg.nrrd"]


def test_no_cache_leaves_none(promise, weights, tmp_path: Path) -> None:
    assert promise("segment", scan(tmp_path / "scan.nii.gz"), *weights(), "--no-cache")[0] == 0
    assert Cache().size() == (0, 0)


def test_a_label_map_on_the_scans_grid(promise, weights, tmp_path: Path) -> None:
    source = scan(tmp_path / "scan.mha")
    assert promise("segment", source, *weights(), "--format", "nii.gz", "--out", tmp_path / "out")[0] == 0
    label, image = sitk.ReadImage(str(tmp_path / "out" / "scan_seg.nii.gz")), sitk.ReadImage(str(source))
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
    source = scan(tmp_path / "scan.seg.nrrd")  # a strange name for an image, but one that can be read
    before = source.read_bytes()
    refused(promise("segment", source, *weights()), "overwritten", "--out")
    assert source.read_bytes() == before


@pytest.mark.parametrize("ending", ["seg.nrrd", "nii.gz"])
def test_a_result_is_written_again_but_nobodys_work_is_overwritten(promise, weights, tmp_path: Path, ending) -> None:
    source, arguments = scan(tmp_path / "scan.nii.gz"), [*weights(), "--format", ending]
    result = tmp_path / {"seg.nrrd": "scan.seg.nrrd", "nii.gz": "scan_seg.nii.gz"}[ending]
    assert promise("segment", source, *arguments)[0] == promise("segment", source, *arguments)[0] == 0
    assert truth.is_automatic(result)
    image = sitk.ReadImage(str(result))
    voxels = sitk.GetArrayFromImage(image)
    voxels.flat[0] ^= 1
    corrected = sitk.GetImageFromArray(voxels, isVector=image.GetNumberOfComponentsPerPixel() > 1)
    for key in image.GetMetaDataKeys():  # as a program that leaves the entry there
        corrected.SetMetaData(key, image.GetMetaData(key))
    sitk.WriteImage(corrected, str(result))
    assert "ProMISe_automatic" in str(read_entries(result)) and not truth.is_automatic(result)
    before = result.read_bytes()
    refused(promise("segment", source, *arguments), result.name, "saved by another program", "--out")
    assert result.read_bytes() == before
    result.write_bytes(b"damaged")
    refused(promise("segment", source, *arguments), result.name, "--out")
    assert result.read_bytes() == b"damaged"


def test_corrected_prompts_are_not_overwritten_whatever_the_format(promise, weights, tmp_path: Path) -> None:
    source, arguments = scan(tmp_path / "scan.nii.gz"), weights()
    assert promise("segment", source, *arguments)[0] == 0
    prompts = tmp_path / "scan.prompts.mrk.json"
    written = json.loads(prompts.read_text(encoding="utf-8"))
    next(point for one in written["markups"] for point in one["controlPoints"])["description"] = "user"
    prompts.write_text(json.dumps(written), encoding="utf-8")
    refused(promise("segment", source, *arguments, "--format", "nii.gz"), prompts.name, "somebody has placed", "--out")
    assert json.loads(prompts.read_text(encoding="utf-8")) == written and not (tmp_path / "scan_seg.nii.gz").exists()


def test_first_and_axis(promise, weights, tmp_path: Path) -> None:
    source = scan(tmp_path / "scan.nii.gz")
    code, out, lines = promise("segment", source, *weights(), "--axis", "coronal", "--first", "3", "--out", tmp_path)
    assert code == 0 and "20 coronal slices" in out
    assert any("trained on axial" in line for line in lines)
    refused(promise("segment", source, *weights(), "--first", "4"), "slices 0 to 3")


def test_the_estimate_comes_before_the_run(promise, weights, tmp_path: Path) -> None:
    _, _, lines = promise("segment", scan(tmp_path / "scan.nii.gz"), *weights())
    assert any("4 slices on cpu, 4 to encode" in line and "of memory" in line for line in lines)


def test_one_slice_works(promise, weights, tmp_path: Path) -> None:
    assert promise("segment", scan(tmp_path / "scan.nii.gz", (1, 20, 24)), *weights())[0] == 0


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
    arguments = ["segment", scan(tmp_path / "s.nii.gz", (40, 40, 40)), *weights(), "--out", tmp_path / "out"]
    process = start(arguments, home)
    while Cache().size()[1] < 10 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was still running"
    kept = Cache().size()[1]
    assert 10 <= kept < 80 and files(tmp_path / "out") == []
    code, out, _ = promise(*arguments)
    assert code == 0
    from_cache = int(out.split("encoded, ")[1].split()[0])
    assert from_cache >= kept // 2 - 1  # an embedding and an answer each


def test_a_process_of_its_own(weights, tmp_path: Path, home: Path) -> None:
    process = start(["segment", tmp_path / "typo.nii.gz", *weights()], home)
    out, error = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    assert error.startswith("promise: ") and error.count("\n") == 1 and "does not exist" in error


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


def test_demo_segments_a_phantom(promise, weights, tmp_path: Path) -> None:
    code, out, _ = promise("demo", *weights(), "--out", tmp_path / "demo")
    assert code == 0 and "10 axial slices" in out
    assert files(tmp_path / "demo") == [
        "phantom.nii.gz",
        "phantom.prompts.mrk.json",
        "phantom.seg.nrrd",
        "phantom.sheet.png",
    ]


def test_import_of_something_else_is_refused(promise, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"hello")
    refused(promise("import", tmp_path / "x.pt", "--out", tmp_path / "x.safetensors"), "x.pt")
    assert files(tmp_path) == ["x.pt"]
