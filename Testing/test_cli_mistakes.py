"""The command line: one line and exit code 2 for all that a user can mend, found before the work, nothing half done."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scan_files import files, refused, scan

from ProMISeCore import exports, packs
from ProMISeCore.cache import Cache
from ProMISeCore.whole_file import replacing

ROOT = Path(__file__).resolve().parent.parent


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
    (out / "s.sheet.png").mkdir(parents=True)
    refused(promise("segment", source, *weights(), "--out", out), "s.sheet.png is a folder", "--out")
    assert files(out) == [] and Cache().size() == (0, 0)


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
    refused(promise("segment", source, *weights(), "--out", out), "No space left on device", str(out / "s.sheet.png"))
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
