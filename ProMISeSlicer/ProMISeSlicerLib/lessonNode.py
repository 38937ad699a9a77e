"""What the section Teach shows, saved with the scene: one hidden node with references and a JSON text. No Qt.

Every case has roles of its own, `volume.0`, `segmentation.0`, …: MRML takes a reference to a removed node out of its
role, and the others of that role would move up to the wrong partner.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import slicer

from .cases import Case
from .state import MODULE

MARK = "ProMISe.lesson"  # attribute of the node
_PARAMETER, _ROLES = "lesson", ("volume", "segmentation")
_HELD_OUT = "heldOut"  # role of the segmentation of the case that is held out


def _node():
    nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
    return next((node for node in nodes if node.GetAttribute(MARK)), None)


def _made():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "ProMISe Teach")
    node.SetModuleName(MODULE)
    node.SetAttribute("ModuleName", MODULE)
    node.SetAttribute(MARK, "1")
    node.SetHideFromEditors(True)
    return node


def save(chosen: Sequence[Case], settings: dict[str, Any], heldOutNode=None) -> None:
    """settings: plain JSON; heldOutNode: segmentation of the case that is held out, None for what is proposed.

    A scene in which nothing was taught gets no node; a case without a volume is not kept.
    """
    chosen, node = [case for case in chosen if case.volumeNode is not None], _node()
    if node is None and not chosen and not settings.get("folders"):
        return
    node = node or _made()
    _forgetReferences(node)
    entries = []
    for number, case in enumerate(chosen):
        for role, referred in zip(_ROLES, (case.volumeNode, case.segmentationNode), strict=True):
            node.SetNodeReferenceID(f"{role}.{number}", referred.GetID())
        entries.append({"slices": case.chosen, "isChosen": bool(case.chosen), "used": case.used})
    node.SetNodeReferenceID(_HELD_OUT, heldOutNode.GetID() if heldOutNode is not None else None)
    text = json.dumps(settings | {"cases": entries}, sort_keys=True, ensure_ascii=False)
    if node.GetParameter(_PARAMETER) != text:
        node.SetParameter(_PARAMETER, text)


def _forgetReferences(node) -> None:
    for role in [node.GetNthNodeReferenceRole(n) for n in range(node.GetNumberOfNodeReferenceRoles())]:
        if role.partition(".")[0] in _ROLES:
            node.RemoveNodeReferenceIDs(role)


def _pairs(node, count: int) -> list[tuple]:
    """Volume and segmentation of so many cases, None for nodes that have gone. Scenes of earlier versions have one role
    for all volumes and one for all segmentations: where one is missing, nobody knows which belong together.
    """
    if any(node.GetNumberOfNodeReferences(role) for role in _ROLES):
        isWhole = all(node.GetNumberOfNodeReferences(role) == count for role in _ROLES)
        pairs = [tuple(node.GetNthNodeReference(role, number) for role in _ROLES) for number in range(count)]
        return pairs if isWhole else [(None, None)] * count
    return [tuple(node.GetNodeReference(f"{role}.{number}") for role in _ROLES) for number in range(count)]


def read() -> tuple[list[Case], dict[str, Any]]:
    """Cases whose nodes are both there, and the settings; none of either where the scene holds no such node.

    Scenes of earlier versions do not say whether the user has chosen which slices count: there nobody has.
    """
    node = _node()
    if node is None:
        return [], {}
    settings = json.loads(node.GetParameter(_PARAMETER) or "{}")
    found, entries = [], settings.pop("cases", [])
    for nodes, entry in zip(_pairs(node, len(entries)), entries, strict=True):
        if None not in nodes:
            found.append(Case(*nodes, entry["slices"] if entry.get("isChosen") else "", entry["used"]))
    return found, settings


def heldOut():
    """Segmentation of the case that is held out, None for what is proposed. Earlier versions kept its name."""
    node = _node()
    return node.GetNodeReference(_HELD_OUT) if node is not None else None
