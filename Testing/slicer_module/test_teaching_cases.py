"""The section Teach: which volume belongs to which segmentation, and which segments there are to learn."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from scene_cases import TEACHER, add_segmentation, add_volume, names, settle

_SOURCE = "referenceImageGeometryRef"  # role of a segmentation's source volume


def pairs(cases) -> list[tuple[str, str]]:
    return [(case.volumeNode.GetName(), case.segmentationNode.GetName()) for case in cases]


def texts(combo) -> list[str]:
    return [combo.itemText(index) for index in range(combo.count)]


def ticks(panel) -> dict[str, bool]:
    import qt

    items = [panel.ui.teachTargetList.item(row) for row in range(panel.ui.teachTargetList.count)]
    return {item.text(): item.checkState() == qt.Qt.Checked for item in items if not item.isHidden()}


def lesson_node():
    import slicer
    from ProMISeSlicerLib import lessonNode

    nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
    return next(each for each in nodes if each.GetAttribute(lessonNode.MARK))


def folder_of(place: Path, **segments: int) -> str:
    """A folder with one case of these segments, as files."""
    import slicer
    from ProMISeSlicerLib.cases import Case
    from ProMISeSlicerLib.exporting import Exporter

    volume = add_volume("of a folder", 9)
    node = add_segmentation(volume, "of a folder", **segments)
    (made,) = Exporter(place).write([Case(volume, node)], list(segments))
    made.files[1].rename(place / made.files[1].name)
    for each in (volume, node):
        slicer.mrmlScene.RemoveNode(each)
    return str(place)


def test_a_volume_that_is_removed_while_another_module_is_open_takes_only_its_own_case_along(school) -> None:
    import slicer
    from ProMISeSlicerLib import lessonNode

    panel = school()
    panel.widget.exit()
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("Müller, Jörg 0"))
    assert pairs(lessonNode.read()[0]) == [("Müller, Jörg 1", "Läsion 1")]
    panel.widget.enter()
    panel.widget.onSceneChanged(None, None)
    assert pairs(panel.widget.teach.table.cases) == [("Müller, Jörg 1", "Läsion 1")]
    panel.ui.teachMinutesSpinBox.value = 7
    assert pairs(lessonNode.read()[0]) == [("Müller, Jörg 1", "Läsion 1")]


def test_scenes_of_earlier_versions_are_read_where_it_is_sure_what_belongs_together(school) -> None:
    """They have one role for all volumes and one for all segmentations."""
    from ProMISeSlicerLib import lessonNode

    panel, node = school(), lesson_node()
    for number in range(2):
        for role in ("volume", "segmentation"):
            node.AddNodeReferenceID(role, node.GetNodeReferenceID(f"{role}.{number}"))
            node.RemoveNodeReferenceIDs(f"{role}.{number}")
    assert pairs(lessonNode.read()[0]) == [("Müller, Jörg 0", "Läsion 0"), ("Müller, Jörg 1", "Läsion 1")]
    node.RemoveNthNodeReferenceID("volume", 0)
    found, settings = lessonNode.read()
    assert found == [] and settings["name"] == "Große Läsion"
    panel.ui.teachMinutesSpinBox.value = 7
    assert pairs(lessonNode.read()[0]) == [("Müller, Jörg 0", "Läsion 0"), ("Müller, Jörg 1", "Läsion 1")]


def test_another_volume_can_be_chosen_for_a_listed_segmentation(school) -> None:
    import qt
    from ProMISeSlicerLib import lessonNode

    other = add_volume("other", 1)
    panel = school()
    table, source = panel.ui.teachCaseTable, panel.widget.teach.table.cases[1].volumeNode
    table.cellDoubleClicked.emit(1, 1)
    assert table.cellWidget(1, 0) is None, "it is the volume's cell that was not clicked"
    table.cellDoubleClicked.emit(1, 0)
    combo = table.cellWidget(1, 0)
    assert texts(combo) == ["other", "Müller, Jörg 0", "Müller, Jörg 1"] and combo.currentText == "Müller, Jörg 1"
    combo.setCurrentIndex(0)
    assert table.cellWidget(1, 0) is None and table.item(1, 0).checkState() == qt.Qt.Checked
    assert pairs(lessonNode.read()[0]) == [("Müller, Jörg 0", "Läsion 0"), ("other", "Läsion 1")]
    case = panel.widget.teach.table.cases[1]
    assert case.volumeNode is other and case.segmentationNode.GetNodeReference(_SOURCE) is source


def test_segments_that_were_drawn_and_renamed_meanwhile_are_listed_and_learned(school) -> None:
    import slicer

    panel = school(cases=1)
    (case,) = panel.widget.teach.table.cases
    segmentation = case.segmentationNode.GetSegmentation()
    assert ticks(panel) == {"disc": True, "ring": True}
    panel.widget.exit()
    id_ = segmentation.AddEmptySegment("", "tumour", [1, 0, 0])
    voxels = slicer.util.arrayFromVolume(case.volumeNode) == 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        voxels.astype(np.uint8), case.segmentationNode, id_, case.volumeNode
    )
    case.volumeNode.SetName("renamed")
    panel.widget.enter()
    assert ticks(panel) == {"disc": True, "ring": True, "tumour": True}
    assert names(panel.ui.teachCaseTable) == ["renamed"]
    segmentation.GetNthSegment(0).SetName("hole")  # by a script, while the module is open
    panel.click("teachButton")
    settle(panel)
    assert panel.widget.teach.tuition.lesson.targets == ["hole", "ring", "tumour"]
    assert panel.status.startswith("Done:") and "hole: in 1 cases" in panel.ui.teachFoundLabel.text


def test_segments_that_only_a_folder_has_are_found_beside_those_of_the_scene(school, tmp_path) -> None:
    import qt

    panel = school(cases=1)
    panel.widget.teach.table.addFolder(folder_of(tmp_path / "pairs", tumour=100))
    panel.ui.teachTargetList.item(0).setCheckState(qt.Qt.Unchecked)
    panel.click("teachCheckButton")
    settle(panel)
    assert ticks(panel) == {"disc": False, "ring": True, "tumour": True}
    panel.click("teachButton")
    settle(panel)
    assert panel.widget.teach.tuition.lesson.targets == ["ring", "tumour"]
    assert panel.status.startswith("Done:")


def test_a_segment_that_is_renamed_after_a_check_is_not_listed_twice(school, tmp_path) -> None:
    import qt

    panel = school(cases=1)
    panel.widget.teach.table.addFolder(folder_of(tmp_path / "pairs", tumour=100, ring=200))
    panel.click("teachCheckButton")
    settle(panel)
    assert ticks(panel) == {"disc": True, "ring": True, "tumour": True}
    (case,) = panel.widget.teach.table.cases
    for number, name in enumerate(("hole", "rim")):
        case.segmentationNode.GetSegmentation().GetNthSegment(number).SetName(name)
    panel.widget.teach.refresh()
    assert ticks(panel) == {"hole": True, "rim": True, "tumour": True, "ring": True}, "ring is that of the folder"
    panel.ui.teachTargetList.item(1).setCheckState(qt.Qt.Unchecked)
    assert panel.widget.teach.wanted().targets == ["hole", "ring", "tumour"]
    panel.click("teachCheckButton")
    settle(panel)
    assert ticks(panel) == {"hole": True, "rim": False, "tumour": True, "ring": True}


def test_a_check_that_ends_while_another_module_is_open_is_kept_in_the_scene(school, tmp_path) -> None:
    from ProMISeSlicerLib import lessonNode

    panel, folder = school(cases=1), folder_of(tmp_path / "pairs", tumour=100)
    panel.widget.teach.table.addFolder(folder)
    panel.click("teachCheckButton")
    panel.widget.exit()
    settle(panel)
    assert lessonNode.read()[1]["checked"] == {"folders": [folder], "targets": {"tumour": 1}}
    panel.widget.enter()
    panel.widget.onSceneChanged(None, None)
    assert ticks(panel) == {"disc": True, "ring": True, "tumour": True}


def test_all_of_a_folder_is_learned_where_nothing_was_chosen_from_it(school, tmp_path) -> None:
    panel = school(cases=1)
    panel.widget.teach.table.addFolder(folder_of(tmp_path / "pairs", tumour=100))
    panel.click("teachButton")
    settle(panel)
    found = panel.widget.teach.tuition.course.report["targets"]
    assert sorted(target["name"] for target in found) == ["disc", "ring", "tumour"]
    assert ticks(panel) == {"disc": True, "ring": True, "tumour": True}


def test_an_unticked_segment_of_a_folder_stays_in_the_list(school, tmp_path) -> None:
    import qt
    import slicer

    panel, scene = school(cases=1), slicer.mrmlScene
    panel.ui.teachCaseTable.selectRow(0)
    panel.click("teachForgetButton")
    panel.widget.teach.table.addFolder(folder_of(tmp_path / "pairs", tumour=100, oedema=200))
    panel.click("teachCheckButton")
    settle(panel)
    assert ticks(panel) == {"tumour": True, "oedema": True}
    panel.ui.teachTargetList.item(0).setCheckState(qt.Qt.Unchecked)
    for button in ("teachCheckButton", "teachButton"):
        panel.click(button)
        settle(panel)
        assert panel.widget.teach.tuition.lesson.targets == ["oedema"]
        assert ticks(panel) == {"tumour": False, "oedema": True}
    scene.SetSaveToXMLString(1)
    scene.Commit()
    text = scene.GetSceneXMLString()
    scene.Clear(False)
    scene.SetLoadFromXMLString(1)
    scene.SetSceneXMLString(text)
    assert scene.Import()
    assert ticks(panel) == {"tumour": False, "oedema": True}
    assert panel.widget.teach.wanted().targets == ["oedema"]


def test_a_named_value_of_a_label_map_is_listed_once_after_every_check(school, tmp_path) -> None:
    import qt
    from ProMISeSlicerLib.lesson import Lesson

    panel, teach = school(cases=1), None
    teach = panel.widget.teach
    panel.ui.teachCaseTable.selectRow(0)
    panel.click("teachForgetButton")
    teach.table.addFolder(str(tmp_path))

    def told(lesson: Lesson, *values: tuple[str, int]) -> None:
        found = [{"name": name, "value": value, "cases": 2} for name, value in values]
        states = {name: {"state": "labelled"} for name, _ in values}
        files = [{"case": name, "use": "learn", "targets": states} for name in ("a", "b")]
        teach._learn(lesson, {"targets": found, "cases": files})
        teach.fillTargets()

    told(Lesson("a", folders=[str(tmp_path)]), ("label 1", 1), ("label 2", 2))
    panel.ui.teachTargetList.item(0).setText("liver")
    assert teach.wanted().targets == ["liver=1", "label 2=2"]
    panel.ui.teachTargetList.item(1).setCheckState(qt.Qt.Unchecked)
    told(teach.wanted(), ("liver", 1))
    assert ticks(panel) == {"liver=1": True, "label 2=2": False}


def test_a_segment_cannot_be_renamed_in_the_list(school) -> None:
    """Its case would have nothing of that name. Nor does a name that an earlier version took count."""
    import qt

    panel = school(cases=1)
    panel.widget.teach.segments.named = {"disc": "Tumour"}
    panel.widget.teach.segments.show({"disc": 1, "label 3=3": 1}, (), "")
    segment, value = (panel.ui.teachTargetList.item(row) for row in range(2))
    assert not segment.flags() & qt.Qt.ItemIsEditable and "use the Segment Editor" in segment.toolTip()
    assert value.flags() & qt.Qt.ItemIsEditable and "double-click to name it" in value.toolTip()
    assert panel.widget.teach.segments.chosen == ["disc", "label 3=3"]


def test_volumes_of_one_name_keep_their_numbers_where_one_is_unticked(school) -> None:
    import qt

    panel = school(cases=3)
    for case in panel.widget.teach.table.cases:
        case.volumeNode.SetName("T1")
    table = panel.ui.teachCaseTable
    panel.widget.teach.refresh()
    table.item(0, 0).setCheckState(qt.Qt.Unchecked)
    assert names(table) == ["T1", "T1 (2)", "T1 (3)"]
    assert texts(panel.ui.teachHeldOutComboBox) == ["as proposed", "T1 (2)", "T1 (3)"]
    panel.ui.teachHeldOutComboBox.setCurrentIndex(2)
    panel.click("teachButton")
    settle(panel)
    tuition = panel.widget.teach.tuition
    assert tuition.exported[1].shown == "T1 (3)" and tuition.lesson.heldOut == tuition.exported[1].name
    found = [table.item(row, 3).text() for row in range(3)]
    assert found[0] == "" and found[2].startswith("3 slices, held out") and "3 slices" in found[1]


def test_a_check_leaves_a_stopped_teaching_as_it_was(school, home) -> None:
    import qt

    from ProMISeCore import truth

    panel = school("slow")
    panel.click("teachButton")
    panel.settle(lambda: panel.widget.teach.tuition.course.looks != [])
    panel.click("teachStopButton")
    settle(panel)
    lesson = json.loads((home / "teach" / "Große Läsion" / "lesson.json").read_text(encoding="utf-8"))
    files = {Path(file) for file in lesson["files"]}
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}
    panel.ui.teachTargetList.item(0).setCheckState(qt.Qt.Unchecked)
    panel.click("teachCheckButton")
    settle(panel)
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files} == before
    checked = {Path(file) for file in panel.widget.teach.tuition.lesson.files}
    images = {file for file in files if not file.name.endswith(".seg.nrrd")}
    assert checked & files == images, "they have not changed"
    assert [list(truth.contents(file)) for file in checked - images] == [["ring"], ["ring"]]
    panel.ui.teachNameEdit.text = "another"
    panel.click("teachCheckButton")
    settle(panel)
    cases = home / "teach" / "Große Läsion" / "cases"
    assert {path for path in cases.rglob("*") if path.is_file()} == files, "what the check alone needed has gone"
    panel.widget.teach.letGo()
    assert sorted(path.name for path in (home / "teach").iterdir()) == ["Große Läsion"]


def test_a_teaching_removes_what_the_one_before_it_was_taught_with(school, home) -> None:
    import slicer

    panel = school()
    panel.click("teachButton")
    settle(panel)
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("Müller, Jörg 0"))
    panel.click("teachButton")
    settle(panel)
    files = {Path(file) for file in panel.widget.teach.tuition.lesson.files}
    cases = home / "teach" / "Große Läsion" / "cases"
    assert len(files) == 2 and {path for path in cases.rglob("*") if path.is_file()} == files
    kept = cases.parent / "lesson.json"
    for text in (kept.read_text(encoding="utf-8"), '{"format": 2}'):
        kept.write_text(text, encoding="utf-8")
        panel.widget.teach.letGo()
        assert {path for path in cases.rglob("*") if path.is_file()} == files, "the next version is taught with them"


def test_of_a_case_that_promise_works_in_after_it_was_listed_only_what_is_the_users_counts(opened) -> None:
    """The user's own segment does, as before; of what ProMISe has made nothing does, before that is said."""
    from ProMISeCore.reading import read_entries

    volume = add_volume("scan", 0)
    node = add_segmentation(volume, "mine", tumour=100)
    panel = opened(volume=False)
    teach = panel.widget.teach
    teach.command = (sys.executable, str(TEACHER), "none")
    panel.ui.teachCollapsibleButton.collapsed = False
    assert panel.ui.teachCaseTable.item(0, 2).text() == "all"
    panel.widget.parameterNode.segmentation = node
    panel.choose("fake")
    panel.click("segmentButton")
    panel.settle()
    panel.ui.teachNameEdit.text = "n"

    def told() -> list[str]:
        panel.click("teachCheckButton")
        settle(panel)
        (labels,) = [Path(file) for file in teach.tuition.lesson.files if file.endswith(".seg.nrrd")]
        return [value for key, value in read_entries(labels).items() if key.endswith("_Name")]

    assert told() == ["tumour", "disc", "ring", "ProMISe unknown disc", "ProMISe unknown ring"]
    combo = panel.ui.teachCaseTable.cellWidget(0, 2)
    assert combo.currentText == "only mine"
    combo.setCurrentIndex(1)
    assert told() == ["tumour", "disc", "ring", "ProMISe unknown"]
    assert panel.ui.teachCaseTable.cellWidget(0, 2).currentText == "all"


def test_only_what_the_user_has_chosen_for_a_result_comes_back_with_the_scene(segmented) -> None:
    """Scenes of earlier versions say "segmented" also of cases that ProMISe worked in after they were listed."""
    from ProMISeSlicerLib import cases, lessonNode

    segmented.ui.teachCollapsibleButton.collapsed = False
    assert [case.slices for case in lessonNode.read()[0]] == [cases.MINE]
    segmented.ui.teachCaseTable.cellWidget(0, 2).setCurrentIndex(1)
    assert [case.slices for case in lessonNode.read()[0]] == [cases.AS_SEGMENTED]
    node = lesson_node()
    settings = json.loads(node.GetParameter("lesson"))
    assert settings["cases"] == [{"isChosen": True, "slices": "segmented", "used": True}]
    settings["cases"] = [{"slices": "segmented", "used": True}]
    node.SetParameter("lesson", json.dumps(settings))
    (case,) = lessonNode.read()[0]
    assert case.slices == cases.MINE and case.used
