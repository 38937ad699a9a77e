"""What is found in the cases before anything is taught: contents are read once, names fit, what 255 means."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from small_cases import volume, write

from ProMISeCore import exports, truth
from ProMISeCore.survey import Survey
from ProMISeCore.volumes import Volume
from ProMISeCore.wish import Wish


def told(survey: Survey) -> list[str]:
    return [str(problem["what"]) for problem in survey.problems]


def test_what_a_label_map_holds_is_read_once(tmp_path: Path, monkeypatch) -> None:
    """It was read for every case that was left out."""
    for number in range(4):
        voxels, mask = volume(number)
        write(tmp_path, f"c{number}", voxels, {"Scheibe": mask})
    reads: Counter[Path] = Counter()

    def counted(path: Path, real=truth.contents) -> dict:
        reads[path] += 1
        return real(path)

    monkeypatch.setattr(truth, "contents", counted)
    survey = Survey([str(tmp_path)], None, Wish("a", {"Scheibchen": None}))
    assert "it holds none of the targets (Scheibchen); the cases hold: Scheibe" in survey.why_not
    assert len(reads) == 4 and set(reads.values()) == {1}


def test_segmentations_called_as_no_image_are_told(tmp_path: Path) -> None:
    for name in ("a", "b", "p02"):
        write(tmp_path, name, *_disc())
    (tmp_path / "p02.nrrd").rename(tmp_path / "p2.nrrd")
    (what,) = [what for what in told(Survey([str(tmp_path)], None, Wish("a"))) if "no image is called" in what]
    assert "as p02.seg.nrrd says, and no segmentation as p2.nrrd: these are not used; name them" in what
    (tmp_path / "p2.nrrd").unlink()  # more segmentations than images were given
    assert not [what for what in told(Survey([str(tmp_path)], None, Wish("a"))) if "no image is called" in what]


def test_results_that_nobody_has_corrected_are_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path, name, *_disc())
    voxels, masks = _disc()
    written = Volume(voxels, np.diag([-1.0, -1, 4, 1]), "b")
    exports.write_segmentation(tmp_path / "b.seg.nrrd", masks, written, [{"name": "Scheibe"}], automatic=True)
    (what,) = [what for what in told(Survey([str(tmp_path)], None, Wish("a"))) if "promise segment" in what]
    assert what.startswith(
        "1 of 2 segmentations are what promise segment has found, and nobody has saved them since (b)"
    )


def test_encoding_that_takes_more_than_the_minutes_is_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path, name, *_disc())
    quick, slow = (
        Survey([str(tmp_path)], None, Wish("a", backbone=name, minutes=2.0)) for name in ("tiny", "sam_vit_h")
    )
    assert not [what for what in told(quick) if "encoding takes" in what]
    (what,) = [what for what in told(slow) if "encoding takes" in what]
    took = slow.estimate(tmp_path)
    assert took["train_seconds"] == 60 < took["encode_seconds"]
    assert "learning gets half of the 2 min all the same: " in what


def _disc() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    voxels, mask = volume(0)
    return voxels, {"Scheibe": mask}


def test_voxels_of_a_segmentation_are_not_read_for_its_names(tmp_path: Path, monkeypatch) -> None:
    voxels, mask = volume(0)
    write(tmp_path, "c", voxels, {"Scheibe": mask})
    monkeypatch.setattr(truth, "read_layers", lambda path: pytest.fail("unpacked"))
    assert truth.contents(tmp_path / "c.seg.nrrd") == {"Scheibe": None}


@pytest.mark.parametrize("name", ["x" * 201, "LV\u200b"])
def test_names_that_no_pack_can_keep_are_told_at_once(tmp_path: Path, name: str) -> None:
    for number in range(2):
        voxels, mask = volume(number)
        write(tmp_path, f"c{number}", voxels, {name: mask})
    survey = Survey([str(tmp_path)], None, Wish("a"))
    assert not survey.ready and f"the target's name {ascii(name)} cannot be kept in a pack" in survey.why_not


def picture(folder: Path, name: str, values: dict[int, int]) -> None:
    """values: radius of a disc → its value in the label map, larger ones first."""
    rows, columns = np.mgrid[:64, :64]
    mask = np.zeros((64, 64), np.uint8)
    for radius, value in values.items():
        mask[np.hypot(rows - 32, columns - 30) < radius] = value
    folder.mkdir(exist_ok=True)
    sitk.WriteImage(
        sitk.GetImageFromArray(np.stack([mask // 2 + 40] * 3, -1), isVector=True), str(folder / f"{name}.jpg")
    )
    sitk.WriteImage(sitk.GetImageFromArray(mask), str(folder / f"{name}.png"))


def test_255_means_the_same_in_all_label_maps(tmp_path: Path) -> None:
    """One mask of 0 and 255 made it a target in all of them."""
    for number in range(3):
        picture(tmp_path, f"e{number}", {18: 128, 8: 255})
    for _ in range(2):
        survey = Survey([str(tmp_path)], None, Wish("a"))
        assert survey.targets == {"label 128": 128}
        assert any(
            "the value 255 counts as unknown, since the label maps hold others, too (e0" in what
            for what in told(survey)
        )
        picture(tmp_path, "e3", {8: 255})
    both = {"disc": 128, "cup": 255}
    assert [case.labelled for case in Survey([str(tmp_path)], None, Wish("a", both)).cases][0] == ["disc", "cup"]


def test_255_alone_is_a_target(tmp_path: Path) -> None:
    for number in range(2):
        picture(tmp_path, f"e{number}", {8: 255})
    picture(tmp_path, "e2", {})
    survey = Survey([str(tmp_path)], None, Wish("a"))
    assert (
        survey.targets == {"label 255": 255} and survey.ready and not any("255 counts" in what for what in told(survey))
    )


def test_a_segment_called_as_a_label_maps_value_is_learned_together_with_it(tmp_path: Path) -> None:
    """As `promise segment` calls what it finds with a pack that was taught from label maps."""
    for name in ("a", "c"):
        write(tmp_path, name, _disc()[0], {"label 1": _disc()[1]["Scheibe"]})
    labels = sitk.GetImageFromArray(_disc()[1]["Scheibe"].astype(np.uint8))
    labels.CopyInformation(sitk.ReadImage(str(tmp_path / "a.nrrd")))
    for name in ("a", "b"):
        sitk.WriteImage(sitk.ReadImage(str(tmp_path / "c.nrrd")), str(tmp_path / f"{name}.nrrd"))
        sitk.WriteImage(labels, str(tmp_path / f"{name}-label.nrrd"))
    (tmp_path / "a.seg.nrrd").unlink()
    survey = Survey([str(tmp_path)], None, Wish("a"))
    assert survey.targets == {"label 1": 1}
    assert [case.states["label 1"].state for case in survey.cases] == ["labelled"] * 3


def test_a_label_map_that_holds_a_target_of_another_name_is_not_said_to_be_empty(tmp_path: Path) -> None:
    voxels, masks = _disc()
    write(tmp_path, "a", voxels, masks)
    labels = sitk.GetImageFromArray(masks["Scheibe"].astype(np.uint8))
    labels.CopyInformation(sitk.ReadImage(str(tmp_path / "a.nrrd")))
    sitk.WriteImage(labels, str(tmp_path / "a-label.nrrd"))
    (tmp_path / "a.seg.nrrd").unlink()
    survey = Survey([str(tmp_path)], None, Wish("a", {"label 1": None}))
    assert "it holds none of the targets (label 1)" in survey.why_not and "empty" not in survey.why_not


def test_one_slice_of_the_only_case_is_told_to_judge_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a", *_disc())
    said = "no held-out slice holds 'Scheibe': it is taught without a score, and its last state is kept"
    whole = told(Survey([str(tmp_path)], None, Wish("a")))
    few = told(Survey([str(tmp_path)], None, Wish("a", slices=1)))
    assert not [what for what in whole if said in what]
    assert [what for what in few if said in what] == [f"{said}; allow more --slices to judge it"]
