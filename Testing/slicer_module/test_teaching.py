"""The section Teach, clicked in the test double: a child process that stands in for the slow one, and its faults."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

TEACHER = Path(__file__).with_name("stand_in_teacher.py")


def add_segmentation(volume, name: str, **segments: int):
    """A segmentation of a volume: segment name → the voxel value that it is."""
    import slicer
    from ProMISeSlicerLib import mrml

    node, voxels = mrml.createSegmentation(volume, name), slicer.util.arrayFromVolume(volume)
    for segment, value in segments.items():
        id_ = node.GetSegmentation().AddEmptySegment("", segment, [1, 0, 0])
        slicer.util.updateSegmentBinaryLabelmapFromArray((voxels == value).astype(np.uint8), node, id_, volume)
    return node


def add_volume(name: str, shift: int):
    import slicer

    rows, columns = np.mgrid[:32, :40]
    radius = np.hypot(rows - 16, columns - 20 - shift)
    picture = np.where(radius < 5, 100, np.where(radius < 10, 200, 0)).astype(np.int16)
    return slicer.util.addVolumeFromArray(np.repeat(picture[None], 6, 0), name=name)


def everything(scene) -> dict[str, bytes]:
    """What the user's volumes and segmentations are, to see that nothing of it changes."""
    import slicer

    found = {}
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        found[node.GetID()] = slicer.util.arrayFromVolume(node).tobytes()
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        for id_ in node.GetSegmentation().GetSegmentIDs():
            segment = node.GetSegmentation().GetSegment(id_)
            array = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, id_)
            found[f"{node.GetID()} {id_}"] = array.tobytes() + segment.GetName().encode()
    return found


@pytest.fixture
def school(opened):
    """`school(fault="none")`: the panel with two segmented volumes of awkward names, Teach opened."""
    import slicer

    def make(fault: str = "none", cases: int = 2):
        for number in range(cases):
            volume = add_volume(f"Müller, Jörg {number}", number)
            add_segmentation(volume, f"Läsion {number}", disc=100, ring=200)
        panel = opened(volume=False)
        teach = panel.widget.teach
        teach.command = (sys.executable, str(TEACHER), fault)
        panel.ui.teachCollapsibleButton.collapsed = False
        panel.ui.teachNameEdit.text = "Große Läsion"
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == cases
        return panel

    return make


def settle(panel, seconds: float = 30.0) -> None:
    panel.settle(lambda: not panel.widget.teach.isRunning, seconds)


def names(table) -> list[str]:
    return [table.item(row, 0).text() for row in range(table.rowCount)]


def test_opening_lists_the_scenes_cases_and_the_union_of_segments(school) -> None:
    panel = school()
    assert names(panel.ui.teachCaseTable) == ["Müller, Jörg 0", "Müller, Jörg 1"]
    assert panel.widget.teach.chosenTargets() == ["disc", "ring"]
    assert panel.ui.teachButton.enabled and panel.ui.teachButton.text == "Teach"


def test_check_says_what_was_found_and_makes_no_pack(school, home) -> None:
    panel = school()
    panel.click("teachCheckButton")
    settle(panel)
    text = panel.ui.teachFoundLabel.text
    assert "2 cases" in text and "disc: in 2 cases, on 6 slices" in text and "10 min" in text and "244 MB" in text
    assert "held out: Müller, Jörg" in text and "case-" not in text
    assert panel.ui.teachCaseTable.item(0, 3).text() == "3 slices"
    assert not list((home / "packs").glob("Gro*")) and panel.widget.teach.tuition.course.looks == []
    assert panel.status == "Checked; see below."


def test_teach_makes_a_pack_that_can_be_used_at_once(school, home) -> None:
    panel = school()
    before = everything(panel)
    panel.click("teachButton")
    settle(panel)
    assert everything(panel) == before
    assert panel.status.startswith("Done:") and "Große Läsion, version 1" in panel.status
    assert panel.widget.parameterNode.pack == "Große Läsion"
    assert panel.widget.choice.chosen().path == home / "packs" / "Große Läsion.safetensors"
    assert "0.100" in panel.ui.teachResultLabel.text and "0.900" in panel.ui.teachResultLabel.text
    assert "Müller, Jörg" in panel.ui.teachResultLabel.text and "looks wrong" in panel.ui.teachResultLabel.text
    found = [panel.ui.teachCaseTable.item(row, 3).text() for row in range(2)]
    assert sorted(found) == ["3 slices", "3 slices, ⚠ looks wrong"]
    assert len(panel.widget.teach.tuition.course.looks) == 4
    assert panel.ui.teachCurveLabel.visible is False or not panel.ui.teachCurveLabel.pixmap.isNull()
    assert [version.number for version in panel.widget.keeping._versions] == [1]


def test_no_name_of_a_volume_reaches_the_child_or_its_files(school, home) -> None:
    panel = school()
    panel.click("teachButton")
    settle(panel)
    lesson = panel.widget.teach.tuition.lesson
    assert not [part for part in lesson.arguments() if "Müller" in part]
    written = [path for path in (home / "teach" / "Große Läsion" / "cases").iterdir()]
    assert len(written) == 6 and not [path for path in written if "ller" in path.name]
    assert not [path for path in written if b"ller" in path.read_bytes()]


def test_only_ticked_cases_and_segments_are_learned(school) -> None:
    import qt

    panel = school()
    panel.ui.teachCaseTable.item(0, 0).setCheckState(qt.Qt.Unchecked)
    panel.ui.teachTargetList.item(1).setCheckState(qt.Qt.Unchecked)
    panel.click("teachCheckButton")
    settle(panel)
    report = panel.widget.teach.tuition.course.report
    assert len(report["cases"]) == 1 and [target["name"] for target in report["targets"]] == ["disc"]
    panel.ui.teachCaseTable.item(1, 0).setCheckState(qt.Qt.Unchecked)
    assert not panel.ui.teachButton.enabled and "Add cases first" in panel.ui.teachButton.toolTip


def test_held_out_case_is_the_chosen_one(school) -> None:
    panel = school()
    panel.ui.teachHeldOutComboBox.setCurrentIndex(2)
    panel.click("teachCheckButton")
    settle(panel)
    tuition = panel.widget.teach.tuition
    uses = {tuition.lesson.caseName(case["case"]): case["use"] for case in tuition.course.report["cases"]}
    assert uses == {"Müller, Jörg 0": "learn", "Müller, Jörg 1": "held-out"}


def test_pause_go_on_and_stop_keep_the_best_so_far(school) -> None:
    panel = school("slow")
    course = lambda: panel.widget.teach.tuition.course  # noqa: E731
    panel.click("teachButton")
    panel.settle(lambda: len(course().looks) >= 2)
    assert not panel.ui.teachButton.enabled and "going on" in panel.ui.teachButton.toolTip
    panel.click("teachPauseButton")
    panel.settle(lambda: course().isPaused)
    assert panel.ui.teachPauseButton.text == "Go on" and panel.ui.teachStageLabel.text == "Paused."
    panel.click("teachPauseButton")
    panel.settle(lambda: not course().isPaused)
    panel.click("teachStopButton")
    assert panel.ui.teachStopButton.text == "End at once"
    settle(panel)
    assert panel.status.startswith("Stopped; the best so far is the pack Große Läsion, version 1")


def test_a_paused_teaching_can_be_stopped(school) -> None:
    panel = school("slow")
    panel.click("teachButton")
    panel.settle(lambda: panel.widget.teach.tuition.course.looks != [])
    panel.click("teachPauseButton")
    panel.settle(lambda: panel.widget.teach.tuition.course.isPaused)
    panel.click("teachStopButton")
    settle(panel)
    assert panel.status.startswith("Stopped")


def test_a_child_that_does_not_listen_is_ended_by_a_second_click(school, home) -> None:
    panel = school("deaf")
    panel.click("teachButton")
    panel.settle(lambda: panel.widget.teach.tuition.course.looks != [])
    panel.click("teachStopButton")
    panel.click("teachStopButton")
    settle(panel)
    assert "was killed or crashed" in panel.status and not list((home / "packs").glob("Gro*.safetensors"))
    assert panel.ui.teachResumeButton.enabled and panel.ui.teachUnfinishedComboBox.currentText == "Große Läsion"


def test_a_crash_is_told_and_the_teaching_goes_on_after_a_restart(school, opened, home) -> None:
    import slicer

    panel = school("crash")
    panel.click("teachButton")
    settle(panel)
    assert "ended with code 11" in panel.status and "Segmentation fault" in panel.status
    assert "What it had learned is kept" in panel.status
    panel.widget.cleanup()
    slicer.mrmlScene.Clear()
    again = opened(volume=False)  # as after a restart: another scene, another widget
    again.widget.teach.command = (sys.executable, str(TEACHER), "none")
    again.ui.teachCollapsibleButton.collapsed = False
    assert again.ui.teachUnfinishedComboBox.currentText == "Große Läsion"
    again.click("teachResumeButton")
    settle(again)
    looks = again.widget.teach.tuition.course.looks
    assert [look.step for look in looks] == [1, 2, 3, 4]  # the first two from before
    assert again.status.startswith("Done:") and (home / "packs" / "Große Läsion.safetensors").is_file()
    assert again.ui.teachUnfinishedComboBox.count == 0


def test_what_was_cut_off_can_be_discarded(school, home, monkeypatch) -> None:
    import slicer

    panel = school("crash")
    panel.click("teachButton")
    settle(panel)
    for agreed in (False, True):
        monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_, agreed=agreed: agreed)
        panel.click("teachDiscardButton")
        assert (home / "teach" / "Große Läsion").exists() != agreed
    assert panel.ui.teachUnfinishedComboBox.count == 0


def test_figures_that_are_no_numbers_do_no_harm(school) -> None:
    panel = school("nan")
    panel.click("teachButton")
    settle(panel)
    looks = panel.widget.teach.tuition.course.looks
    assert [look.meanDice for look in looks] == [None] * 4 and panel.status.startswith("Done:")


def test_what_libraries_print_is_passed_over(school) -> None:
    panel = school("chatter")
    panel.click("teachButton")
    settle(panel)
    assert panel.status.startswith("Done:") and len(panel.widget.teach.tuition.course.looks) == 4


def test_two_teachings_of_one_name_are_refused_in_the_childs_words(school) -> None:
    panel = school("refuse")
    panel.click("teachButton")
    settle(panel)
    assert panel.status == "⚠ Große Läsion: the workspace is in use by another process (4711)"
    assert panel.ui.teachButton.enabled


def test_an_interpreter_that_is_not_there_is_told(school) -> None:
    panel = school()
    panel.widget.teach.command = ("/nowhere/python",)
    panel.click("teachButton")
    settle(panel)
    assert "was killed or crashed" in panel.status and panel.ui.teachButton.enabled


def test_closing_the_scene_does_not_end_the_teaching(school) -> None:
    import slicer

    panel = school("slow")
    panel.click("teachButton")
    panel.settle(lambda: len(panel.widget.teach.tuition.course.looks) >= 1)
    slicer.mrmlScene.Clear()
    assert panel.ui.teachCaseTable.rowCount == 0
    seen = len(panel.widget.teach.tuition.course.looks)
    panel.settle(lambda: len(panel.widget.teach.tuition.course.looks) > seen)
    panel.click("teachStopButton")
    settle(panel)
    assert "the pack Große Läsion, version 1" in panel.status


def test_closing_the_application_ends_the_child_with_something_to_go_on_from(school, opened) -> None:
    panel = school("slow")
    panel.click("teachButton")
    panel.settle(lambda: len(panel.widget.teach.tuition.course.looks) >= 2)
    child = panel.widget.teach.tuition._child
    panel.widget.cleanup()
    assert not child.isRunning
    again = opened(volume=False)
    again.widget.teach.command = (sys.executable, str(TEACHER), "none")
    again.widget.teach.refresh()
    again.click("teachResumeButton")
    settle(again)
    steps = [look.step for look in again.widget.teach.tuition.course.looks]
    assert again.status.startswith("Done:") and steps == list(range(1, max(steps) + 1)) and len(steps) >= 4


def test_labels_edited_meanwhile_do_not_reach_the_running_child(school) -> None:
    import slicer

    panel = school("slow")
    panel.click("teachButton")
    panel.settle(lambda: len(panel.widget.teach.tuition.course.looks) >= 1)
    files = [Path(file) for file in panel.widget.teach.tuition.lesson.files]
    before = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]
    node = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0]
    slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, node.GetSegmentation().GetNthSegmentID(0))[:] = 0
    node.Modified()
    panel.settle(lambda: len(panel.widget.teach.tuition.course.looks) >= 3)
    assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in files] == before
    panel.click("teachStopButton")
    settle(panel)


def test_a_removed_volume_leaves_the_list(school) -> None:
    import slicer

    panel = school()
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("Müller, Jörg 0"))
    assert names(panel.ui.teachCaseTable) == ["Müller, Jörg 1"]


def test_a_volume_with_nans_is_left_out_and_named(school) -> None:
    import slicer

    panel = school()
    bad = slicer.util.addVolumeFromArray(np.full((6, 32, 40), 100, np.float32), name="Schäden")
    add_segmentation(bad, "bad", disc=100)
    slicer.util.arrayFromVolume(bad)[0, 0, 0] = np.nan
    panel.click("teachSceneButton")
    panel.click("teachCheckButton")
    settle(panel)
    assert "Schäden" in panel.ui.teachFoundLabel.text and "NaN" in panel.ui.teachFoundLabel.text
    assert panel.ui.teachCaseTable.item(2, 3).text() == "⚠ left out"
    assert len(panel.widget.teach.tuition.course.report["cases"]) == 2


def test_the_same_voxels_twice_are_told(school) -> None:
    panel = school()
    add_segmentation(add_volume("copy", 0), "again", disc=100)
    panel.click("teachSceneButton")
    panel.click("teachCheckButton")
    settle(panel)
    assert "hold the same voxels" in panel.ui.teachFoundLabel.text


def test_a_read_only_home_is_told_and_nothing_begins(school, home, monkeypatch) -> None:
    (home / "teach").write_text("a file where the folder should be")
    panel = school()
    panel.click("teachButton")
    settle(panel)
    assert panel.status.startswith("⚠") and "cannot be written" in panel.status
    assert panel.ui.teachButton.enabled


def test_the_scene_remembers_the_section(school) -> None:
    import qt
    import slicer

    panel, scene = school(), slicer.mrmlScene
    panel.ui.teachCaseTable.item(1, 0).setCheckState(qt.Qt.Unchecked)
    panel.ui.teachTargetList.item(0).setCheckState(qt.Qt.Unchecked)
    panel.ui.teachMinutesSpinBox.value = 7
    scene.SetSaveToXMLString(1)
    scene.Commit()
    text = scene.GetSceneXMLString()
    scene.Clear(False)
    assert panel.ui.teachCaseTable.rowCount == 0
    panel.ui.teachNameEdit.text = "another"
    scene.SetLoadFromXMLString(1)
    scene.SetSceneXMLString(text)
    assert scene.Import()
    assert names(panel.ui.teachCaseTable) == ["Müller, Jörg 0", "Müller, Jörg 1"]
    assert panel.ui.teachCaseTable.item(1, 0).checkState() == qt.Qt.Unchecked
    assert panel.ui.teachNameEdit.text == "Große Läsion" and panel.ui.teachMinutesSpinBox.value == 7
    assert panel.widget.teach._unticked == {"disc"}  # the segments' voxels were not saved here


def test_continue_teaching_makes_the_next_version_and_one_can_go_back(school, home) -> None:
    panel = school()
    panel.click("teachButton")
    settle(panel)
    panel.ui.teachBaseComboBox.setCurrentIndex(
        [panel.ui.teachBaseComboBox.itemText(i) for i in range(panel.ui.teachBaseComboBox.count)].index("Große Läsion")
    )
    assert panel.ui.teachButton.text == "Continue teaching" and panel.ui.teachNameEdit.text == "Große Läsion"
    panel.click("teachButton")
    settle(panel)
    assert "--base" in panel.widget.teach.tuition.lesson.arguments() and "version 2" in panel.status
    tree = panel.ui.ownVersionTree
    assert [tree.topLevelItem(row).text(3) for row in range(2)] == ["", "✓"]
    assert not panel.ui.ownRollBackButton.enabled
    tree.setCurrentItem(tree.topLevelItem(0))
    panel.click("ownRollBackButton")
    assert [tree.topLevelItem(row).text(3) for row in range(2)] == ["✓", ""]
    first = home / "packs" / "Große Läsion.versions" / "1.safetensors"
    assert (home / "packs" / "Große Läsion.safetensors").read_bytes() == first.read_bytes()


def test_export_delete_and_import_keep_the_pack(school, home, tmp_path, monkeypatch) -> None:
    import qt
    import slicer

    panel = school()
    panel.click("teachButton")
    settle(panel)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: True)
    place = tmp_path / "Große Läsion.safetensors"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", staticmethod(lambda *_: str(place)))
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", staticmethod(lambda *_: str(place)))
    panel.click("ownExportButton")
    kept = place.read_bytes()
    panel.widget.keeping.fill("Große Läsion")
    panel.click("ownDeleteButton")
    assert not list((home / "packs").glob("Gro*")) and not (home / "teach" / "Große Läsion").exists()
    assert "Große Läsion" not in [pack.path.stem for pack in panel.widget.choice.packs]
    panel.click("ownImportButton")
    assert (home / "packs" / "Große Läsion.safetensors").read_bytes() == kept
    assert "Große Läsion" in [pack.path.stem for pack in panel.widget.choice.packs]


def test_a_pack_folder_of_ones_own_gets_a_copy(school, tmp_path) -> None:
    panel, folder = school(), tmp_path / "meine Packs"
    folder.mkdir()
    panel.ui.packFolderButton.directory = str(folder)
    panel.click("teachButton")
    settle(panel)
    assert (folder / "Große Läsion.safetensors").is_file()
    assert panel.widget.choice.chosen().path == folder / "Große Läsion.safetensors"


def test_the_curve_is_where_the_figures_are(module) -> None:
    """Dice 1 on the upper line, 0.5 in the middle, in the target's colour; a gap where it is not known."""
    import qt
    from ProMISeSlicerLib.course import Look
    from ProMISeSlicerLib.curve import Curve, colourOf

    label = qt.QLabel()
    label.setFixedSize(342, 142)  # 300 × 100 for the curve itself
    dice = [1.0, 1.0, None, 0.5, 0.5]
    Curve(label).show([Look(n, float(n), None, {"a": value}) for n, value in enumerate(dice)])
    picture = label.pixmap.toImage()

    def isLine(seconds: float, value: float) -> bool:
        colour = picture.pixelColor(round(34 + 75 * seconds), round(122 - 100 * value))
        return max(abs(a - b) for a, b in zip(colour.getRgb()[:3], colourOf(0), strict=True)) < 40

    assert isLine(0.5, 1.0) and isLine(3.5, 0.5)
    assert not isLine(0.5, 0.5) and not isLine(2.5, 0.75) and not isLine(1.5, 1.0)


def test_a_folder_of_pairs_is_learned_from_where_it_lies(school, tmp_path) -> None:
    from ProMISeCore import exports
    from ProMISeCore.volumes import Volume

    folder = tmp_path / "meine Fälle"
    folder.mkdir()
    volume = Volume(np.zeros((4, 8, 8), np.int16), np.eye(4), "a")
    mask = np.zeros((4, 8, 8), bool)
    mask[1:3, 2:5, 2:5] = True
    exports.write_segmentation(folder / "fall 1.seg.nrrd", {"Milz": mask}, volume, [{"name": "Milz"}])
    panel = school()
    panel.widget.teach.table.addFolder(str(folder))
    panel.ui.teachTargetList.item(0)
    panel.widget.teach.table.cases = []
    panel.widget.teach.table.show()
    assert names(panel.ui.teachCaseTable) == ["Folder meine Fälle"] and panel.ui.teachButton.enabled
    panel.click("teachCheckButton")
    settle(panel)
    assert panel.widget.teach.chosenTargets() == ["Milz"]


def test_which_case_next_lists_the_worst_first_and_shows_it(school, tmp_path, monkeypatch) -> None:
    import tempfile

    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    panel = school()
    add_volume("ohne A", 3), add_volume("ohne B", 4)
    panel.widget.updateButtons()
    panel.click("rankButton")
    panel.settle(lambda: not panel.widget.rank.isRunning)
    tree = panel.ui.nextCaseTree
    assert [tree.topLevelItem(row).text(0) for row in range(tree.topLevelItemCount)] == ["ohne A", "ohne B"]
    assert [tree.topLevelItem(row).text(1) for row in range(2)] == ["0.90", "0.60"]
    assert list(copies.iterdir()) == []
    panel.widget.rank.onClicked(tree.topLevelItem(1), 0)
    assert panel.widget.parameterNode.inputVolume.GetName() == "ohne B"


def test_the_window_stays_alive_while_a_child_is_deaf(school) -> None:
    """Every turn of the event loop is short: nothing waits for the child."""
    import time

    import slicer

    panel = school("deaf")
    panel.click("teachButton")
    longest, end = 0.0, time.monotonic() + 2
    while time.monotonic() < end:
        start = time.monotonic()
        slicer.app.processEvents()
        longest = max(longest, time.monotonic() - start)
        time.sleep(0.005)
    assert longest < 1.0, longest
    panel.widget.teach.tuition.kill()
    settle(panel)


def test_the_real_core_teaches_what_the_panel_gives_it(school, weights) -> None:
    """No stand-in: `python -m ProMISeCore teach` on two small volumes and a tiny backbone, two steps."""
    from ProMISeSlicerLib.tuition import Tuition

    panel = school()
    teach, ended = panel.widget.teach, []
    wanted = teach.wanted()
    wanted.backbone = weights()[3]
    wanted.more = ["--steps", "2", "--every", "1", "--side", "64", "--views", "2", "--start", "none"]
    tuition = Tuition(wanted, lambda: None, lambda: ended.append(True))
    tuition.begin(teach.table.used, ["disc", "ring"])
    panel.settle(lambda: bool(ended), 300)
    assert tuition.problem == "" and tuition.lesson.state == "done"
    assert {case["use"] for case in tuition.course.report["cases"]} == {"learn", "held-out"}
    assert [entry["target"] for entry in tuition.course.result["table"]] == ["disc", "ring"]
    assert tuition.course.looks and tuition.course.looks[-1].step == 2 and Path(tuition.course.picture).is_file()
    panel.widget.choice.fill()
    (made,) = [pack for pack in panel.widget.choice.packs if pack.path.stem == "Große Läsion"]
    assert [target.name for target in made.manifest.targets] == ["disc", "ring"]
    assert "Müller" not in json.dumps(made.manifest.entries(), ensure_ascii=False)


def test_arguments_of_a_lesson(module) -> None:
    from ProMISeSlicerLib.lesson import Lesson

    lesson = Lesson("Leber links", ["liver", "label 3=3"], base="Leber", heldOut="case-1", files=["a b.nrrd"])
    made = lesson.arguments()
    assert made[:4] == ["teach", "--events", "--name", "Leber links"]
    at = made.index("--targets")
    assert made[at : at + 3] == ["--targets", "liver", "label 3=3"] and "--check" not in made
    assert lesson.arguments(check=True)[-1] == "--check"
    assert os.path.isabs(made[made.index("--workspace") + 1]) and json.dumps(made)
