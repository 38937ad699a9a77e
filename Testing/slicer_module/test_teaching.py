"""The section Teach, clicked in the test double: what is chosen, and what a child that stands in makes of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from scene_cases import everything, names, settle

_SOURCE = "referenceImageGeometryRef"  # role of a segmentation's source volume


def test_opening_lists_the_scenes_cases_and_the_union_of_segments(school) -> None:
    panel = school()
    assert names(panel.ui.teachCaseTable) == ["Müller, Jörg 0", "Müller, Jörg 1"]
    assert panel.widget.teach.segments.chosen == ["disc", "ring"]
    assert panel.ui.teachButton.enabled and panel.ui.teachButton.text == "Teach"


def test_a_segmentation_that_was_loaded_from_a_file_finds_its_volume(module, school, tmp_path) -> None:
    """Such a node names no source volume: the only volume on whose voxels it lies, or the one of its name."""
    import slicer
    from ProMISeSlicerLib import cases
    from scene_cases import add_segmentation, add_volume

    def loaded(volume, name: str):
        written, read = add_segmentation(volume, "written", disc=100), slicer.vtkMRMLSegmentationNode()
        for node, name_ in ((written, "WriteData"), (read, "ReadData")):
            storage = slicer.vtkMRMLSegmentationStorageNode()
            slicer.mrmlScene.AddNode(storage)
            storage.SetFileName(str(tmp_path / "x.seg.nrrd"))
            slicer.mrmlScene.AddNode(node)
            assert getattr(storage, name_)(node)
        slicer.mrmlScene.RemoveNode(written)
        read.SetName(name)
        return read

    scan = add_volume("scan", 0)
    slicer.util.addVolumeFromArray(slicer.util.arrayFromVolume(scan)[:3], name="smaller")
    node = loaded(scan, "anything")
    assert cases.volumeOf(node) is scan, "it lies beyond the smaller one"
    assert [(case.volumeNode, case.segmentationNode) for case in cases.ofScene()] == [(scan, node)]
    contrast = add_volume("contrast.1", 0)
    assert cases.volumeOf(node) is None
    assert [(case.volumeNode, case.segmentationNode, case.used) for case in cases.ofScene()] == [(None, node, False)]
    for name in ("contrast.1", "contrast.1.seg", "Contrast.1 Segmentation"):
        node.SetName(name)
        assert cases.volumeOf(node) is contrast
    node.SetName("contrast?1")
    panel = school(cases=1)
    assert sorted(names(panel.ui.teachCaseTable)) == ["", "Müller, Jörg 0"]
    assert "Whose segmentation contrast?1 is, is not known: choose the volume in the list" in panel.status


def test_the_volume_of_a_segmentation_can_be_chosen_in_the_list(school) -> None:
    """Where it is not known. The segmentation itself is not changed, and is listed once however often one looks."""
    import qt
    import slicer
    from scene_cases import add_segmentation, add_volume

    first, second = add_volume("T1", 3), add_volume("T1", 4)
    node = add_segmentation(first, "drawn elsewhere", disc=100)
    node.SetNodeReferenceID(_SOURCE, None)
    slicer.util.addVolumeFromArray(np.zeros((3, 32, 40), np.int16), name="smaller")
    panel = school(cases=1)
    table, before = panel.ui.teachCaseTable, everything(panel)
    row = names(table).index("")
    combo = table.cellWidget(row, 0)
    assert [combo.itemText(index) for index in range(combo.count)][:3] == ["choose its volume", "T1", "T1 (2)"]
    assert combo.itemText(combo.count - 1) == "smaller" and combo.currentIndex == 0
    assert len(panel.widget.teach.table.used) == 1, "nothing is taught with that nobody has chosen"
    combo.setCurrentIndex(2)
    assert table.cellWidget(row, 0) is None and table.item(row, 0).checkState() == qt.Qt.Checked
    assert panel.widget.teach.table.cases[row].volumeNode is second
    for _ in range(2):
        panel.click("teachSceneButton")
        assert table.rowCount == 2 and panel.widget.teach.table.cases[row].volumeNode is second
    panel.click("teachCheckButton")
    settle(panel)
    assert len(panel.widget.teach.tuition.course.report["cases"]) == 2
    assert everything(panel) == before and node.GetNodeReference(_SOURCE) is None


def test_of_a_copy_of_a_result_nothing_is_learned_before_the_user_has_looked_at_all_of_it(segmented) -> None:
    """As the Data module clones it, or a file has it: nothing in the scene says which slices are the user's."""
    import slicer
    from ProMISeSlicerLib import cases

    copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "copy")
    copy.Copy(segmented.widget.parameterNode.segmentation)
    copy.SetName("copy")
    assert cases.unlabelled([]) == [segmented.widget.parameterNode.inputVolume]
    segmented.ui.teachCollapsibleButton.collapsed = False
    assert segmented.status.startswith("ProMISe has made copy; nothing here says which slices are yours. Once you have")
    combos = [segmented.ui.teachCaseTable.cellWidget(row, 2) for row in range(2)]
    assert [combo.currentText for combo in combos] == ["only mine", "only mine"]
    assert "nothing says which slices are yours" in combos[1].toolTip and "nothing says" not in combos[0].toolTip
    combos[1].setCurrentIndex(1)
    assert [case.slices for case in segmented.widget.teach.table.used] == [cases.MINE, cases.AS_SEGMENTED]
    segmented.ui.statusLabel.text = ""
    segmented.click("teachSceneButton")
    assert segmented.status == ""


def test_a_volume_that_has_gone_cannot_be_chosen(school) -> None:
    import slicer
    from scene_cases import add_segmentation, add_volume

    gone = add_volume("T1", 0)
    add_volume("T1", 0)
    add_segmentation(gone, "drawn elsewhere", disc=100).SetNodeReferenceID(_SOURCE, None)
    panel = school(cases=1)
    table = panel.ui.teachCaseTable
    row = names(table).index("")
    slicer.mrmlScene.RemoveNode(gone)
    table.cellWidget(row, 0).setCurrentIndex(1)
    combo = table.cellWidget(row, 0)
    assert combo.currentIndex == 0 and combo.count == 3 and panel.widget.teach.table.pending
    panel.widget.teach.restore()
    assert len(panel.widget.teach.table.pending) == 1, "the question is not lost where the list is shown anew"


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


def test_a_pack_whose_teaching_ends_while_another_module_is_open_is_chosen(school) -> None:
    panel = school()
    panel.choose("lung")
    panel.click("teachButton")
    panel.widget.exit()
    settle(panel)
    panel.widget.enter()
    assert panel.widget.parameterNode.pack == panel.widget.choice.chosen().path.stem == "Große Läsion"


def test_a_pack_to_begin_from_brings_its_backbone(school, home, monkeypatch) -> None:
    """And a backbone that was downloaded meanwhile is listed."""
    from ProMISeSlicerLib import folders, teaching

    panel, installed = school(), {"tiny"}
    box = panel.ui.teachBackboneComboBox
    monkeypatch.setattr(teaching, "_isInstalled", lambda name: name in installed)
    panel.widget.onSettingsChanged()
    assert [box.itemText(index) for index in range(box.count)] == ["tiny"]
    installed.add("mobile_sam")
    panel.widget.exit()
    panel.widget.enter()
    assert sorted(box.itemText(index) for index in range(box.count)) == ["mobile_sam", "tiny"]
    box.setCurrentIndex(box.findText("mobile_sam"))
    panel.widget.teach.refresh()
    assert box.currentText == "mobile_sam"
    assert [pack.path.stem for pack in folders.ownPacks()] == ["fake", "lung"]
    panel.ui.teachBaseComboBox.setCurrentIndex(1)
    assert panel.widget.teach.base == "fake" and box.currentText == "tiny"


def test_no_name_of_a_volume_reaches_the_child_or_its_files(school, home) -> None:
    panel = school()
    panel.click("teachButton")
    settle(panel)
    lesson = panel.widget.teach.tuition.lesson
    assert not [part for part in lesson.arguments() if "Müller" in part]
    written = [path for path in (home / "teach" / "Große Läsion" / "cases").rglob("*") if path.is_file()]
    assert len(written) == 4 and not [path for path in written if "ller" in path.name]
    assert not [path for path in written if b"ller" in path.read_bytes()]


def test_a_segments_colour_is_written_anew_when_it_is_another(school) -> None:
    import slicer

    from ProMISeCore import truth

    panel, found = school(cases=1), []
    segmentation = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0].GetSegmentation()
    for colour in ((0.25, 0.5, 1.0), (0.75, 0.5, 0.0)):
        segmentation.GetSegment(segmentation.GetNthSegmentID(0)).SetColor(*colour)
        panel.click("teachCheckButton")
        settle(panel)
        labels = next(file for file in panel.widget.teach.tuition.lesson.files if file.endswith(".seg.nrrd"))
        found.append(truth.colours(Path(labels))["disc"])
    assert found == [(0.25, 0.5, 1.0), (0.75, 0.5, 0.0)]


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


def test_a_segment_called_like_a_value_of_a_label_map_can_be_learned(school) -> None:
    import slicer

    panel = school()
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        node.GetSegmentation().GetNthSegment(0).SetName("T=1")
    panel.widget.teach.table.show()
    assert panel.widget.teach.segments.chosen == ["T=1=", "ring"]
    panel.click("teachCheckButton")
    settle(panel)
    assert "T=1: in 2 cases, on 6 slices" in panel.ui.teachFoundLabel.text
    assert panel.widget.teach.segments.chosen == ["T=1=", "ring"]


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


def test_a_removed_volume_leaves_the_list(school) -> None:
    import slicer

    panel = school()
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("Müller, Jörg 0"))
    assert names(panel.ui.teachCaseTable) == ["Müller, Jörg 1"]


def test_the_scene_remembers_the_section(school) -> None:
    import qt
    import slicer

    panel, scene = school(), slicer.mrmlScene
    panel.ui.teachCaseTable.item(1, 0).setCheckState(qt.Qt.Unchecked)
    panel.ui.teachTargetList.item(0).setCheckState(qt.Qt.Unchecked)
    panel.ui.teachMinutesSpinBox.value = 7
    panel.ui.teachHeldOutComboBox.setCurrentIndex(1)
    panel.ui.teachUnlabelledComboBox.setCurrentIndex(2)
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
    assert panel.widget.teach.segments.unticked == {"disc"}  # the segments' voxels were not saved here
    assert panel.ui.teachHeldOutComboBox.currentText == "Müller, Jörg 0"
    assert "--unlabelled-slices unknown" in " ".join(panel.widget.teach.wanted().arguments())


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
    assert panel.widget.teach.segments.chosen == ["Milz"]


def test_names_given_to_label_values_outlive_the_scene(school, tmp_path) -> None:
    import slicer
    from ProMISeSlicerLib.segmentList import SegmentList

    panel, scene = school(), slicer.mrmlScene
    panel.widget.teach.table.addFolder(str(tmp_path))
    known = {"label 1=1": 4, "label 2=2": 4}
    panel.widget.teach.segments.show(known, (), "")
    panel.ui.teachTargetList.item(1).setText("Niere")
    scene.SetSaveToXMLString(1)
    scene.Commit()
    text = scene.GetSceneXMLString()
    scene.Clear(False)
    panel.widget.teach.segments = SegmentList(panel.ui.teachTargetList, panel.widget.teach.onEdited)
    scene.SetLoadFromXMLString(1)
    scene.SetSceneXMLString(text)
    assert scene.Import()
    panel.widget.teach.segments.show(known, (), "")
    assert panel.widget.teach.segments.chosen == ["label 1=1", "Niere=2"]
    panel.ui.teachTargetList.item(1).setText("label 2=2")
    assert panel.widget.teach.segments.named == {}


def test_how_far_reading_the_cases_is_is_shown(school) -> None:
    from ProMISeSlicerLib import findings
    from ProMISeSlicerLib.course import Course

    course = Course()
    assert findings.stage(course, False, False) == "Getting ready: loading the model…"
    for what, words in (
        ("segments", "Looking for segments"),
        ("images", "Reading the images"),
        ("?", "Reading the cases"),
    ):
        course.take(json.dumps({"event": "checking", "what": what, "done": 3, "total": 40}))
        assert findings.stage(course, False, False) == f"{words} (3 of 40)…"
    panel = school("slow")
    panel.click("teachButton")
    tuition, bar = panel.widget.teach.tuition, panel.ui.teachProgressBar
    tuition.course.take('{"event": "checking", "what": "images", "done": 3, "total": 40}')
    panel.widget.teach.onNews()
    assert (bar.value, bar.maximum) == (3, 40)
    panel.settle(lambda: tuition.course.looks)
    assert bar.maximum == 1000 and "checking" not in tuition.lesson.eventsFile.read_text(encoding="utf-8")
    tuition.kill()
    settle(panel)


def test_what_a_stop_brings_is_said_as_far_as_it_is_known(module) -> None:
    """A look, also one from before a restart, tells that something is learned; the views have to be there anyhow."""
    from ProMISeSlicerLib import findings
    from ProMISeSlicerLib.course import Course

    def stage(*events: str) -> str:
        course = Course()
        for event in ("checked", *events):
            course.take(json.dumps({"event": event, "step": 1, "done": 8, "total": 8}))
        return findings.stage(course, False, True)

    learned, none = "Stopping; the best so far becomes the pack…", "Stopping before anything is learned: "
    unknown = "Stopping; what is learned by now becomes the pack, if anything is…"
    assert stage("encoding", "look") == stage("look", "encoding") == learned
    assert stage("encoding") == unknown and stage().startswith(none) and stage("look").startswith(none)


def test_the_window_never_waits_for_a_child_that_is_deaf(school, monkeypatch) -> None:
    import qt

    panel, waited = school("deaf"), []
    for name in ("waitForStarted", "waitForReadyRead", "waitForBytesWritten", "waitForFinished"):
        monkeypatch.setattr(qt.QProcess, name, lambda *_, name=name: waited.append(name))
    panel.click("teachButton")
    tuition = panel.widget.teach.tuition
    panel.settle(lambda: len(tuition.course.looks) >= 2)
    tuition.pause(True)
    tuition.pause(False)
    tuition.stop()
    looks = len(tuition.course.looks)
    panel.settle(lambda: len(tuition.course.looks) > looks)
    assert tuition.isRunning, "it does not obey"
    tuition.kill()
    settle(panel)
    assert waited == []


def test_a_segment_that_is_called_like_an_option(module) -> None:
    from ProMISeSlicerLib.lesson import Lesson

    made = Lesson("a", targets=["-x", "LV"]).arguments()
    assert made[made.index("--targets") + 1 :][:2] == [" -x", "LV"]


def test_arguments_of_a_lesson(module) -> None:
    from ProMISeSlicerLib.lesson import Lesson

    lesson = Lesson("Leber links", ["liver", "label 3=3"], base="Leber", heldOut="case-1", files=["a b.nrrd"])
    made = lesson.arguments()
    assert made[:4] == ["teach", "--events", "--name", "Leber links"]
    at = made.index("--targets")
    assert made[at : at + 3] == ["--targets", "liver", "label 3=3"] and "--check" not in made
    assert lesson.arguments(check=True)[-1] == "--check"
    assert os.path.isabs(made[made.index("--workspace") + 1]) and json.dumps(made)
