"""Which case next: masks that jump and masks that are expected to be imprecise come first."""

from __future__ import annotations

import json

import numpy as np
import SimpleITK as sitk

from ProMISeCore.__main__ import main
from ProMISeCore.rank import of_slices


def square(first: int) -> np.ndarray:
    mask = np.zeros((6, 6), bool)
    mask[2:4, first : first + 2] = True
    return mask


def test_equal_neighbours_agree_and_disjoint_ones_do_not() -> None:
    assert of_slices([square(1), square(1)], [0.9, 0.7]) == {"predicted_iou": 0.8, "disagreement": 0.0, "slices": 2}
    assert of_slices([square(0), square(3)], [0.9, 0.7])["disagreement"] == 1.0
    assert of_slices([square(1), square(2)], [1, 1])["disagreement"] == 0.5  # 2 of 4 pixels shared


def test_empty_slices_do_not_count_and_nothing_found_is_the_least_sure() -> None:
    empty = np.zeros((6, 6), bool)
    assert of_slices([empty, square(1), empty, empty], [0, 0.9, 0, 0]) == {
        "predicted_iou": 0.9, "disagreement": 1.0, "slices": 1,
    }  # fmt: skip
    assert of_slices([empty, empty], [0.9, 0.9]) == {"predicted_iou": 0.0, "disagreement": 0.0, "slices": 0}


def test_the_command_ranks_images_without_labels(tmp_path, weights, capsys) -> None:
    generator = np.random.default_rng(0)
    for name in ("ä 1", "b", "c"):
        image = sitk.GetImageFromArray(generator.integers(0, 255, (3, 20, 24)).astype(np.int16))
        sitk.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    (tmp_path / "c_label.nrrd").write_bytes(b"")
    command = ["rank", "--images", str(tmp_path), *weights(), "--no-cache"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {entry["case"] for entry in found} == {"ä 1", "b"}
    assert [entry["uncertainty"] for entry in found] == sorted((e["uncertainty"] for e in found), reverse=True)
    assert set(found[0]["targets"]) == {"a", "b"}
    assert main(command) == 0
    assert "uncertainty" in capsys.readouterr().out


def test_what_a_pack_has_found_is_no_label_and_its_sheet_no_image(tmp_path, weights, capsys) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (3, 20, 24)).astype(np.int16)
    for name in ("a", "b", "c"):
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / f"{name}.nrrd"))
    for name, ending in (("a", "seg.nrrd"), ("b", "nii.gz")):
        assert main(["segment", str(tmp_path / f"{name}.nrrd"), *weights(), "--no-cache", "--format", ending]) == 0
    (tmp_path / "c.seg.nrrd").write_bytes(b"damaged")  # somebody's, as far as anybody can tell
    capsys.readouterr()
    assert main(["rank", "--images", str(tmp_path), *weights(), "--no-cache", "--json"]) == 0
    assert sorted(entry["case"] for entry in json.loads(capsys.readouterr().out)) == ["a", "b"]


def test_an_image_that_cannot_be_used_comes_last_with_its_reason(tmp_path, weights, capsys) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (3, 20, 24)).astype(np.int16)
    for name, values in (("a", voxels), ("constant", np.full_like(voxels, 5))):
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"{name}.nrrd"))
    (tmp_path / "cut ä.nrrd").write_bytes((tmp_path / "a.nrrd").read_bytes()[:300])
    command = ["rank", "--images", str(tmp_path), *weights(), "--no-cache"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["case"] for entry in found] == ["a", "constant", "cut ä"]
    assert [entry["uncertainty"] is None for entry in found] == [False, True, True]
    assert "shows nothing" in found[1]["why"] and found[1]["targets"] == {}
    assert main(command) == 0
    assert "–" in capsys.readouterr().out
    (tmp_path / "a.nrrd").unlink()
    assert main(command) == 2
    assert "none of 2 images can be used" in capsys.readouterr().err


def test_cases_in_folders_of_their_own_are_told_apart(tmp_path, weights, capsys) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (3, 20, 24)).astype(np.int16)
    for patient in ("patient 1", "patient 2"):
        (tmp_path / patient).mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / patient / "MRHead.nrrd"))
    assert main(["rank", "--images", str(tmp_path / "*" / "*"), *weights(), "--no-cache", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {entry["case"] for entry in found} == {"patient 1/MRHead", "patient 2/MRHead"}
