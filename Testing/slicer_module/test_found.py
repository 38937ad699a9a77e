"""What a check or a teaching has found stays with the cases that it was found in, and ends with their scene."""

from __future__ import annotations

import sys

import pytest
from scene_cases import TEACHER, add_segmentation, add_volume, names, settle
from test_teaching_cases import folder_of, ticks


def found(panel) -> list[str]:
    table = panel.ui.teachCaseTable
    return [table.item(row, 3).text() for row in range(table.rowCount)]


def other_scene(panel) -> None:
    """Closed, and another one, of which volumes and nodes' IDs are the same, but for the ring."""
    import slicer

    slicer.mrmlScene.Clear(False)
    for number in range(2):
        add_segmentation(add_volume(f"Müller, Jörg {number}", number + 5), f"Läsion {number}", disc=100)
    panel.widget.initializeParameterNode()
    panel.click("teachSceneButton")
    assert names(panel.ui.teachCaseTable) == ["Müller, Jörg 0", "Müller, Jörg 1"]


def test_what_was_found_ends_with_the_scene(school) -> None:
    import qt

    panel = school()
    panel.ui.teachTargetList.item(0).setCheckState(qt.Qt.Unchecked)
    ids = [case.volumeNode.GetID() for case in panel.widget.teach.table.cases]
    panel.click("teachButton")
    settle(panel)
    assert "looks wrong" in found(panel)[1]
    assert "Müller" in panel.ui.teachResultLabel.text and "1 segments" in panel.ui.teachFoundLabel.text
    other_scene(panel)
    assert [case.volumeNode.GetID() for case in panel.widget.teach.table.cases] == ids
    assert found(panel) == ["", ""] and ticks(panel) == {"disc": True}
    assert panel.ui.teachFoundLabel.text == panel.ui.teachResultLabel.text == ""


def test_what_a_running_teaching_shows_goes_on_and_its_findings_are_not_those_of_another_scene(school) -> None:
    panel = school("slow")
    panel.click("teachButton")
    panel.settle(lambda: panel.widget.teach.tuition.course.looks != [])
    other_scene(panel)
    assert "2 cases with a segmentation, 2 segments" in panel.ui.teachFoundLabel.text
    panel.click("teachStopButton")
    settle(panel)
    assert panel.status.startswith("Stopped; the best so far is the pack Große Läsion, version 1")
    assert "Müller, Jörg 1, disc, looks wrong" in panel.ui.teachResultLabel.text
    assert found(panel) == ["", ""]


def test_what_was_found_follows_its_case_where_it_is_called_otherwise(school) -> None:
    import slicer

    panel = school()
    for case in panel.widget.teach.table.cases:
        case.volumeNode.SetName("T1")
    panel.click("teachButton")
    settle(panel)
    assert names(panel.ui.teachCaseTable) == ["T1", "T1 (2)"] and "looks wrong" in found(panel)[1]
    before = found(panel)
    panel.widget.teach.table.cases[0].volumeNode.SetName("other")
    panel.widget.teach.refresh()
    assert names(panel.ui.teachCaseTable) == ["other", "T1"] and found(panel) == before
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("other"))
    assert names(panel.ui.teachCaseTable) == ["T1"] and found(panel) == before[1:]


@pytest.mark.parametrize("where", ["here", "in another scene"])
def test_a_stopped_teaching_that_goes_on_tells_it_of_its_own_cases(school, where: str) -> None:
    panel = school("slow")
    panel.click("teachButton")
    panel.settle(lambda: panel.widget.teach.tuition.course.looks != [])
    panel.click("teachStopButton")
    settle(panel)
    if where == "in another scene":
        other_scene(panel)
    panel.ui.teachNameEdit.text = "other"
    panel.click("teachCheckButton")
    settle(panel)
    assert [text.startswith("3 slices") for text in found(panel)] == [True, True]
    panel.widget.teach.command = (sys.executable, str(TEACHER), "none")
    panel.click("teachResumeButton")
    settle(panel)
    assert panel.status.startswith("Done:") and "Müller, Jörg 1, disc, looks wrong" in panel.ui.teachResultLabel.text
    assert ["looks wrong" in text for text in found(panel)] == [False, where == "here"]


def test_ticks_of_what_a_folder_has_stay_as_the_folder_does(school, tmp_path) -> None:
    import qt
    import slicer

    panel = school(cases=1)
    panel.widget.teach.table.addFolder(folder_of(tmp_path / "pairs", tumour=100, oedema=200))
    panel.click("teachCheckButton")
    settle(panel)
    for row in (0, 2):
        panel.ui.teachTargetList.item(row).setCheckState(qt.Qt.Unchecked)
    unticked = [name for name, ticked in ticks(panel).items() if not ticked]
    assert unticked == ["disc", "tumour"]
    slicer.mrmlScene.Clear(False)
    assert panel.widget.teach.segments.unticked == {"tumour"} and ticks(panel) == {"oedema": True, "tumour": False}


def test_a_teaching_that_ends_in_another_scene_leaves_what_was_checked_and_unticked_there(school, tmp_path) -> None:
    import qt
    import slicer

    panel, scene = school("slow", cases=1), slicer.mrmlScene
    teach, folder = panel.widget.teach, folder_of(tmp_path / "B", tumour=100, oedema=200)
    teach.table.addFolder(folder)
    panel.click("teachCheckButton")
    settle(panel)
    assert ticks(panel) == {"disc": True, "ring": True, "oedema": True, "tumour": True}
    row = [panel.ui.teachTargetList.item(row).text() for row in range(4)].index("oedema")
    panel.ui.teachTargetList.item(row).setCheckState(qt.Qt.Unchecked)
    scene.SetSaveToXMLString(1)
    scene.Commit()
    text = scene.GetSceneXMLString()
    scene.Clear(False)
    teach.table.folders, teach.segments.unticked = [folder_of(tmp_path / "A", liver=100)], set()
    teach.table.show()
    panel.click("teachButton")
    panel.settle(lambda: teach.tuition.course.looks != [])
    scene.SetLoadFromXMLString(1)
    scene.Clear(False)
    scene.SetSceneXMLString(text)
    assert scene.Import()
    before = ticks(panel)
    assert before["oedema"] is False and before["tumour"] is True
    panel.click("teachStopButton")
    settle(panel)
    assert panel.status.startswith("Stopped; the best so far is the pack")
    assert teach.table.folders == [folder] and ticks(panel) == before
    assert "tumour" in teach.wanted().targets and "oedema" not in teach.wanted().targets


def test_a_file_of_a_folder_that_is_called_as_a_volume_is_another_case(school) -> None:
    from ProMISeSlicerLib import findings
    from ProMISeSlicerLib.course import Course
    from ProMISeSlicerLib.lesson import Lesson

    school()
    lesson, course = Lesson("a", shown={"case-1": "scan"}), Course()
    states = {"disc": {"state": "labelled", "slices": 3}}
    cases = [{"case": "case-1", "use": "learn", "targets": states}, {"case": "scan", "use": "left out"}]
    course.report = {"cases": cases}
    assert findings.ofCases(lesson, course, []) == {"scan": "3 slices"}


def test_a_folder_whose_files_are_links_is_not_said_to_be_empty(module, home, tmp_path) -> None:
    """As the child tells them, they lie elsewhere."""
    from ProMISeSlicerLib import findings
    from ProMISeSlicerLib.lesson import Lesson

    lesson = Lesson("a", folders=[str(tmp_path / "links"), str(tmp_path / "empty")])
    private = home / "teach" / "a" / "cases"
    scene = {"case": "case-1", "image": str(private / "case-1.nrrd"), "label": str(private / "labels-1" / "x.seg.nrrd")}
    linked = {"case": "p1", "image": str(tmp_path / "store" / "1.nrrd"), "label": str(tmp_path / "links" / "1.nrrd")}
    texts = [findings.report(lesson, {"cases": cases}, ()) for cases in ([scene], [scene, linked], [])]
    assert ["links: no image was found" in text for text in texts] == [True, False, False]
    assert ["empty: no image was found" in text for text in texts] == [True, False, False]


def test_a_segment_is_asked_for_as_its_name_is_written(module, home) -> None:
    from ProMISeSlicerLib.lesson import Lesson

    arguments = Lesson("a", targets=["linke  Niere", "-rest", "leber=1"]).arguments()
    assert arguments[arguments.index("--targets") + 1 :][:3] == ["linke Niere", " -rest", "leber=1"]
