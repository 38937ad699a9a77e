"""The section Teach with `python -m ProMISeCore teach` as its child, on volumes of a few voxels: no stand-in."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scene_cases import add_segmentation, add_volume, everything, settle
from test_teaching_cases import folder_of

from ProMISeCore.lock import alone

SHORT = ["--steps", "2", "--every", "1", "--side", "64", "--views", "2", "--start", "none"]


@pytest.fixture
def real(school: Callable, weights: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """`real(cases=2)`: as `school`, with the real child; what is asked of it is as short as can be."""

    def make(cases: int = 2):
        panel = school(cases=cases)
        teach = panel.widget.teach
        teach.command, wanted, backbone = None, teach.wanted, weights()[3]

        def short():
            lesson = wanted()
            lesson.backbone, lesson.more = backbone, list(SHORT)
            return lesson

        monkeypatch.setattr(teach, "wanted", short)
        return panel

    return make


def test_what_the_panel_gives_is_learned(real, home) -> None:
    panel = real()
    before = everything(panel)
    panel.click("teachButton")
    settle(panel, 300)
    tuition = panel.widget.teach.tuition
    assert tuition.problem == "" and tuition.lesson.state == "done" and everything(panel) == before
    assert {case["use"] for case in tuition.course.report["cases"]} == {"learn", "held-out"}
    assert [entry["target"] for entry in tuition.course.result["table"]] == ["disc", "ring"]
    assert tuition.course.looks[-1].step == 2 and Path(tuition.course.picture).is_file()
    (made,) = [pack for pack in panel.widget.choice.packs if pack.path.stem == "Große Läsion"]
    assert [target.name for target in made.manifest.targets] == ["disc", "ring"]
    assert "Müller" not in json.dumps(made.manifest.entries(), ensure_ascii=False)


def test_a_read_only_folder_of_packs_is_told_before_anything_is_encoded(real, home) -> None:
    panel = real()
    for path in (home / "packs").iterdir():
        path.unlink()
    (home / "packs").rmdir()
    (home / "packs").write_bytes(b"a file where the folder should be")
    panel.click("teachButton")
    settle(panel, 300)
    assert panel.status.startswith("⚠ Große Läsion: ") and f"{home / 'packs'} cannot be written" in panel.status
    assert "another PROMISE_HOME" in panel.status and not list((home / "teach").rglob("views-*"))
    assert panel.ui.teachButton.enabled


def test_versions_that_cannot_be_written_are_told_before_the_minutes_and_leave_the_pack(real, home) -> None:
    panel = real()
    panel.click("teachButton")
    settle(panel, 300)
    present, versions = (home / "packs" / f"Große Läsion.{end}" for end in ("safetensors", "versions"))
    before = present.read_bytes()
    versions.rename(home / "kept")
    versions.write_bytes(b"a file where the folder should be")
    panel.click("teachButton")
    settle(panel, 300)
    assert f"{versions} cannot be written (File exists)" in panel.status
    assert panel.widget.teach.tuition.course.encoded == (0, 0)
    assert present.read_bytes() == before and panel.ui.teachButton.enabled


def test_two_teachings_of_one_name_are_refused(real, home) -> None:
    panel = real()
    with alone(home / "teach" / "Große Läsion", ""):
        panel.click("teachButton")
        settle(panel, 300)
    assert "is in use by another process" in panel.status and panel.ui.teachButton.enabled


def test_folders_that_give_nothing_and_images_without_a_segmentation_are_named(real, home, tmp_path) -> None:
    panel, folders = real(cases=1), {name: tmp_path / name for name in ("empty", "study", "images", "mixed")}
    for place in (folders["empty"], folders["images"]):
        place.mkdir()
    for place in (folders["study"] / "patient", folders["mixed"]):
        folder_of(place, disc=100)
    (image,) = folders["mixed"].glob("case-????????.nrrd")
    for number in range(3):
        shutil.copy(image, folders["images"] / f"scan {number}.nrrd")
    shutil.copy(image, folders["mixed"] / "another.nrrd")
    for place in folders.values():
        panel.widget.teach.table.addFolder(str(place))
    panel.click("teachCheckButton")
    settle(panel, 300)
    assert panel.status == "Checked; see below."
    lines = panel.ui.teachFoundLabel.text.split("<br>")
    told = [line.removeprefix(f"⚠ {tmp_path}{os.sep}") for line in lines if str(tmp_path) in line]
    absent = "no image was found in it; it has to hold the files itself: add each folder in it that does"
    left = "images have no segmentation and are not used; that of scan.nrrd is scan.seg.nrrd"
    assert told == [f"empty: {absent}", f"study: {absent}", f"images: 3 {left}", f"mixed: 1 {left}"]
    assert str(home) not in panel.ui.teachFoundLabel.text


def test_segments_without_a_voxel_are_named(real) -> None:
    panel = real(cases=0)
    for number in range(2):
        add_segmentation(add_volume(f"Müller {number}", number), "leer", disc=-1)
    panel.click("teachSceneButton")
    panel.click("teachButton")
    settle(panel, 300)
    assert "none of 2 labelled cases can be used, Müller " in panel.status, panel.status
    assert "nothing is segmented in it yet (disc: empty)" in panel.status
    assert panel.ui.teachFoundLabel.text.count("nothing is segmented in it yet") >= 2


def test_what_is_wrong_with_cases_is_told_once_where_they_are_taught(real) -> None:
    panel = real(cases=1)
    add_segmentation(add_volume("empty", 1), "leer", disc=-1)
    panel.click("teachSceneButton")
    panel.click("teachButton")
    settle(panel, 300)
    text = panel.ui.teachFoundLabel.text
    assert panel.status.startswith("Done:") and text.count("empty: nothing is segmented in it yet") == 1
    assert [text.count(words) for words in ("nothing is segmented in it yet", "it is the only case")] == [1, 1]


def test_volumes_of_one_slice_can_be_learned_from_and_a_single_one_is_refused(real, home) -> None:
    import slicer

    panel = real(cases=0)
    for number in range(2):
        voxels = slicer.util.arrayFromVolume(add_volume(f"whole {number}", number))
        flat = slicer.util.addVolumeFromArray(np.array(voxels[:1]), name=f"flat {number}")
        add_segmentation(flat, f"of flat {number}", disc=100)
    panel.click("teachSceneButton")
    panel.widget.teach.table.cases[1].used = False
    panel.widget.teach.table.show()
    panel.click("teachButton")
    settle(panel, 300)
    assert "one labelled slice is all there is; segment at least two" in panel.status
    panel.widget.teach.table.cases[1].used = True
    panel.widget.teach.table.show()
    panel.click("teachButton")
    settle(panel, 300)
    assert panel.status.startswith("Done:") and (home / "packs" / "Große Läsion.safetensors").is_file()
