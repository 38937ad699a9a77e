"""The section Teach: which volume belongs to which segmentation, and which segments there are to learn."""

from __future__ import annotations

def pairs(cases) -> list[tuple[str, str]]:
    return [(case.volumeNode.GetName(), case.segmentationNode.GetName()) for case in cases]


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
