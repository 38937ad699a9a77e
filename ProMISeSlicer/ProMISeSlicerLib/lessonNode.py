"""What the section Teach shows, saved with the scene: one hidden node with references and a JSON text. No Qt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import slicer

from .cases import Case
from .state import MODULE

MARK = "ProMISe.lesson"  # attribute of the node
_PARAMETER, _ROLES = "lesson", ("volume", "segmentation")


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


def save(chosen: Sequence[Case], settings: dict[str, Any]) -> None:
    """settings: plain JSON. A scene in which nothing was taught gets no node; a case without a volume is not kept."""
    chosen, node = [case for case in chosen if case.volumeNode is not None], _node()
    if node is None and not chosen and not settings.get("folders"):
        return
    node = node or _made()
    for role in _ROLES:
        node.RemoveNodeReferenceIDs(role)
    entries = []
    for case in chosen:
        for role, referred in zip(_ROLES, (case.volumeNode, case.segmentationNode), strict=True):
            node.AddNodeReferenceID(role, referred.GetID())
        entries.append({"slices": case.slices, "used": case.used})
    text = json.dumps(settings | {"cases": entries}, sort_keys=True, ensure_ascii=False)
    if node.GetParameter(_PARAMETER) != text:
        node.SetParameter(_PARAMETER, text)


def read() -> tuple[list[Case], dict[str, Any]]:
    """Cases whose nodes are both there, and the settings; none of either where the scene holds no such node."""
    node = _node()
    if node is None:
        return [], {}
    settings = json.loads(node.GetParameter(_PARAMETER) or "{}")
    found = []
    for number, entry in enumerate(settings.pop("cases", [])):
        nodes = [node.GetNthNodeReference(role, number) for role in _ROLES]
        if None not in nodes:
            found.append(Case(*nodes, slices=entry["slices"], used=entry["used"]))
    return found, settings
