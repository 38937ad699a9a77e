"""Where the Data module shows what a session makes."""

from __future__ import annotations

import pytest
from desks import addVolume
from test_saving import reopened


@pytest.fixture
def tree(scene):
    import slicer

    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def place(tree, node) -> list[str]:
    """Names from a node's own up to the scene's."""
    item, names = tree.GetItemByDataNode(node), []
    while item != tree.GetSceneItemID():
        names.append(tree.GetItemName(item))
        item = tree.GetItemParent(item)
    return names


def volume_in_study(tree):
    """As the DICOM importer leaves one."""
    volume = addVolume("plain")
    study = tree.CreateStudyItem(tree.CreateSubjectItem(tree.GetSceneItemID(), "P1"), "Cardiac MR")
    tree.CreateItem(study, volume)
    return volume


def test_the_segmentation_stands_in_its_volumes_study_and_the_prompts_in_a_folder_there(desk, tree) -> None:
    volume = volume_in_study(tree)
    session = desk(volume=volume).session
    name = volume.GetName()
    assert place(tree, session.segmentationNode) == [f"{name} ProMISe", "Cardiac MR", "P1"]
    for target in ("bar", "rod"):
        for node, role in zip(session.promptNodes(target), ("positive", "negative", "ROI"), strict=True):
            assert place(tree, node) == [f"{name} {target} {role}", f"{name} prompts", "Cardiac MR", "P1"]


def test_of_a_volume_that_stands_nowhere_too(desk, tree) -> None:
    session = desk().session
    name = session.volumeNode.GetName()
    assert place(tree, session.segmentationNode) == [f"{name} ProMISe"]
    assert place(tree, session.promptNodes("rod")[2]) == [f"{name} rod ROI", f"{name} prompts"]


def test_what_the_user_has_moved_stays_also_through_a_file_and_what_was_removed_comes_back(
    desk, scene, tree, tmp_path
) -> None:
    import slicer
    import vtk

    d = desk()
    mine = tree.CreateFolderItem(tree.GetSceneItemID(), "mine")
    tree.SetItemParent(tree.GetItemByDataNode(d.session.promptNodes("bar")[0]), mine)
    tree.SetItemParent(tree.GetItemByDataNode(d.session.promptNodes("bar")[1]), tree.GetSceneItemID())
    d = reopened(d, scene, tmp_path)
    name = d.session.volumeNode.GetName()
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    assert place(tree, d.session.promptNodes("bar")[0])[1:] == ["mine"]
    scene.RemoveNode(d.session.promptNodes("rod")[1])
    d.settle()
    assert len(place(tree, d.session.promptNodes("bar")[1])) == 1, "at the top"
    others = [d.session.promptNodes("bar")[2], *d.session.promptNodes("rod")]
    assert all(place(tree, node)[1:] == [f"{name} prompts"] for node in others)
    folders = vtk.vtkIdList()
    tree.GetItemsByName(f"{name} prompts", folders)
    assert folders.GetNumberOfIds() == 1
    d.session.close()


def test_another_segmentation_of_the_volume_has_a_folder_of_its_own(desk, tree) -> None:
    import slicer

    first = desk().session
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "second")
    second = desk(volume=first.volumeNode, segmentationNode=segmentation).session
    parents = [
        {tree.GetItemParent(tree.GetItemByDataNode(node)) for node in s.promptNodes("bar")} for s in (first, second)
    ]
    assert len(parents[0]) == len(parents[1]) == 1 and parents[0] != parents[1]
    first.close(), second.close()
