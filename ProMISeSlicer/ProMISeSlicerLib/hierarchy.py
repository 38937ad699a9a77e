"""Where the Data module shows what a session makes: the segmentation beside its volume, the prompts in a folder there.

What the user has put elsewhere stays there.
"""

from __future__ import annotations

from collections.abc import Sequence

import slicer

_PROMPTS = "ProMISe.prompts"  # attribute of the folder


def putBeside(node, volumeNode) -> None:
    """A new node into the folder, study or subject of its volume."""
    tree = _tree()
    if tree is not None:
        tree.SetItemParent(_item(tree, node), _parentOf(tree, volumeNode))


def gather(newNodes: Sequence, promptNodes: Sequence, volumeNode) -> None:
    """Of a session's prompts the new ones, to the folder of the others or into a new one by the volume."""
    tree = _tree()
    if tree is None or not newNodes:
        return
    parents = [tree.GetItemParent(_item(tree, node)) for node in promptNodes]
    folder = next((parent for parent in parents if tree.HasItemAttribute(parent, _PROMPTS)), None)
    if folder is None:
        folder = tree.CreateFolderItem(_parentOf(tree, volumeNode), f"{volumeNode.GetName()} prompts")
        tree.SetItemAttribute(folder, _PROMPTS, "1")
        tree.SetItemExpanded(folder, False)
    for node in newNodes:
        tree.SetItemParent(_item(tree, node), folder)


def _tree():
    """The scene's subject hierarchy; None where there is none, as while a scene is closed."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def _item(tree, node) -> int:
    """A node's own; the application makes it when the node comes, scripts without one do not."""
    return tree.GetItemByDataNode(node) or tree.CreateItem(tree.GetSceneItemID(), node)


def _parentOf(tree, volumeNode) -> int:
    item = tree.GetItemByDataNode(volumeNode)
    return tree.GetItemParent(item) if item else tree.GetSceneItemID()
