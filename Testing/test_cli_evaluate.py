"""`promise evaluate`: scores of cases and means, also recorded in the pack."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scan_files import refused, scan

from ProMISeCore import packs

ROOT = Path(__file__).resolve().parent.parent


def labelled(folder: Path, promise, weights, looked_at: bool = True) -> tuple[Path, list[str]]:
    """A folder of two cases whose label maps are what the pack makes of them, so that every score is perfect."""
    folder.mkdir()
    arguments = weights(exclusive=True)
    for name, seed in (("one", 1), ("two", 2)):
        voxels = np.random.default_rng(seed).integers(0, 1000, (3, 20, 24)).astype(np.int16)
        source = scan(folder / f"{name}_image.nii.gz", voxels=voxels)
        code, _, lines = promise("segment", source, *arguments, "--format", "nii.gz", "--out", folder / "out")
        assert code == 0, lines
        (folder / "out" / f"{name}_image_seg.nii.gz").rename(folder / f"{name}_label.nii.gz")
        if looked_at:
            label = sitk.ReadImage(str(folder / f"{name}_label.nii.gz"))
            label.EraseMetaData("ITK_FileNotes")
            sitk.WriteImage(label, str(folder / f"{name}_label.nii.gz"))
    return folder, arguments


def test_a_pack_is_not_scored_by_its_own_results_unsaid(promise, weights, tmp_path: Path) -> None:
    folder, arguments = labelled(tmp_path / "cases", promise, weights, looked_at=False)
    words = ("evaluate", *arguments, "--images", folder)
    code, _, lines = promise(*words)
    assert code == 0 and any("2 of 2 segmentations are what promise segment has found" in line for line in lines)
    refused(promise(*words, "--record", "mine"), "nobody has saved them since (one, two)", "--record")


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
