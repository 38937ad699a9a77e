"""The section Teach: which volume belongs to which segmentation, and which segments there are to learn."""

from __future__ import annotations

import json
from pathlib import Path

from scene_cases import settle

_SOURCE = "referenceImageGeometryRef"  # role of a segmentation's source volume


def pairs(cases) -> list[tuple[str, str]]:
    return [(case.volumeNode.GetName(), case.segmentationNode.GetName()) for case in cases]


def texts(combo) -> list[str]:
    return [combo.itemText(index) for index in range(combo.count)]


def ticks(panel) -> dict[str, bool]:
    import qt

    items = [panel.ui.teachTargetList.item(row) for row in range(panel.ui.teachTargetList.count)]
    return {item.text(): item.checkState() == qt.Qt.Checked for item in items if not item.isHidden()}


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
    import slicer
    from ProMISeSlicerLib import lessonNode

    panel = school()
    nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
    node = next(each for each in nodes if each.GetAttribute(lessonNode.MARK))
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
