"""The case that is held out stays the one that was chosen, whatever happens to its name and to other rows."""

from __future__ import annotations

import json

from scene_cases import names, settle


def choose(panel, name: str) -> None:
    combo = panel.ui.teachHeldOutComboBox
    combo.setCurrentIndex([combo.itemText(index) for index in range(combo.count)].index(name))


def numbered(school):
    """Three volumes of one name, the second held out: the panel and the three."""
    panel = school(cases=3)
    volumes = [case.volumeNode for case in panel.widget.teach.table.cases]
    for volume in volumes:
        volume.SetName("T1")
    panel.widget.teach.refresh()
    choose(panel, "T1 (2)")
    return panel, volumes


def held_out(panel):
    """The volume that a check is asked to hold out, by the file that is made of it."""
    from ProMISeSlicerLib import cases

    panel.click("teachCheckButton")
    settle(panel)
    name = panel.widget.teach.tuition.lesson.heldOut
    found = [case for case in panel.widget.teach.table.cases if cases.fileName(cases.voxels(case)) == name]
    return found[0].volumeNode if found else None


def reloaded(panel) -> None:
    """The scene is saved, closed and loaded again."""
    import slicer

    scene = slicer.mrmlScene
    scene.SetSaveToXMLString(1)
    scene.Commit()
    text = scene.GetSceneXMLString()
    scene.Clear(False)
    assert panel.ui.teachHeldOutComboBox.currentText == "as proposed"
    scene.SetLoadFromXMLString(1)
    scene.SetSceneXMLString(text)
    assert scene.Import()


def test_another_volume_of_the_name_that_is_removed_does_not_move_it(school) -> None:
    import slicer

    panel, volumes = numbered(school)
    slicer.mrmlScene.RemoveNode(volumes[0])
    assert names(panel.ui.teachCaseTable) == ["T1", "T1 (2)"]
    assert panel.ui.teachHeldOutComboBox.currentText == "T1" and held_out(panel) is volumes[1]


def test_a_volume_that_is_renamed_stays_held_out(school) -> None:
    panel, volumes = numbered(school)
    panel.widget.exit()
    volumes[1].SetName("renamed")
    panel.widget.enter()
    assert panel.ui.teachHeldOutComboBox.currentText == "renamed" and held_out(panel) is volumes[1]


def test_a_case_that_is_unticked_and_ticked_again_is_held_out_as_before(school) -> None:
    import qt

    panel, volumes = numbered(school)
    item = panel.ui.teachCaseTable.item
    item(1, 0).setCheckState(qt.Qt.Unchecked)
    assert panel.ui.teachHeldOutComboBox.currentText == "as proposed" and panel.widget.teach.wanted().heldOut == ""
    item(1, 0).setCheckState(qt.Qt.Checked)
    assert panel.ui.teachHeldOutComboBox.currentText == "T1 (2)" and held_out(panel) is volumes[1]


def test_where_it_leaves_the_scene_this_is_told(school) -> None:
    import slicer

    panel, volumes = numbered(school)
    slicer.mrmlScene.RemoveNode(volumes[1])
    assert panel.ui.teachHeldOutComboBox.currentText == "as proposed"
    assert panel.status == "T1 (2) was held out and has left the scene: what is proposed is held out instead."
    panel.widget.say("")
    slicer.mrmlScene.RemoveNode(volumes[0])
    slicer.mrmlScene.Clear(False)
    assert "held out" not in panel.status


def test_the_scene_remembers_the_case_and_not_its_name(school) -> None:
    import slicer

    panel, volumes = numbered(school)
    panel.widget.exit()
    slicer.mrmlScene.RemoveNode(volumes[0])
    panel.widget.enter()
    reloaded(panel)
    held = panel.widget.teach.heldOut.node
    assert panel.ui.teachHeldOutComboBox.currentText == "T1" and held.GetName() == "Läsion 1"


def test_scenes_of_earlier_versions_tell_its_name(school) -> None:
    import slicer
    from ProMISeSlicerLib import lessonNode

    panel, _ = numbered(school)
    nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
    (node,) = [each for each in nodes if each.GetAttribute(lessonNode.MARK)]
    for name, held, shown in (("T1 (3)", "Läsion 2", "T1 (3)"), ("gone", None, "as proposed")):
        node.RemoveNodeReferenceIDs("heldOut")
        settings = json.loads(node.GetParameter("lesson")) | {"heldOut": name}
        node.SetParameter("lesson", json.dumps(settings))
        panel.widget.teach.restore()
        assert panel.ui.teachHeldOutComboBox.currentText == shown
        found = panel.widget.teach.heldOut.node
        assert (found and found.GetName()) == held
    choose(panel, "T1 (2)")
    assert "heldOut" not in json.loads(node.GetParameter("lesson"))
    assert lessonNode.heldOut().GetName() == "Läsion 1"
