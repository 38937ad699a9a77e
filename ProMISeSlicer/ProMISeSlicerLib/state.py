"""What a session remembers, all of it in the scene: node references and one JSON text on a scripted module node."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import slicer

MODULE = "ProMISeSlicer"
MARK = "ProMISe.session"  # attribute of the node, and the role under which other nodes may refer to it
FORMAT = 1
_PARAMETER = "state"


class FormatError(ValueError):
    """A session's node holds what this version does not know."""


class SceneState:
    """One session's node. `data` is plain JSON: pack, targets, slices; `save` writes it, only if it has changed."""

    def __init__(self, node) -> None:
        self.node = node
        text = node.GetParameter(_PARAMETER)
        self.data: dict[str, Any] = json.loads(text) if text else {"format": FORMAT, "targets": [], "slices": {}}
        if self.data.get("format") != FORMAT:
            found = self.data.get("format")
            raise FormatError(f"the session in {node.GetName()!r} has format {found}, not {FORMAT}; update ProMISe")

    @classmethod
    def create(cls, name: str) -> SceneState:
        scene = slicer.mrmlScene
        node = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", scene.GetUniqueNameByString(name))
        node.SetModuleName(MODULE)
        node.SetAttribute("ModuleName", MODULE)
        node.SetAttribute(MARK, str(FORMAT))
        node.SetHideFromEditors(True)
        return cls(node)

    @property
    def turn(self) -> int:
        """The greater, the later it was at work; 0 in scenes that do not say it."""
        return self.data.get("turn", 0)

    @property
    def packName(self) -> str:
        return self.data.get("pack", {}).get("manifest", {}).get("name", "")

    def save(self) -> None:
        text = json.dumps(self.data, separators=(",", ":"), sort_keys=True)
        if text != self.node.GetParameter(_PARAMETER):
            self.node.SetParameter(_PARAMETER, text)

    def refer(self, role: str, node) -> None:
        self.node.SetNodeReferenceID(role, node.GetID() if node is not None else None)

    def referred(self, role: str):
        return self.node.GetNodeReference(role)


def promptRoles(number: int) -> list[str]:
    """Under which a session refers to the prompt nodes of its target of this number."""
    return [f"{role}.{number}" for role in ("positive", "negative", "roi")]


def sessionNodes() -> list:
    """Every session's node in the scene, oldest first."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
    return [node for node in nodes if node.GetAttribute(MARK)]


def sessionsIn(segmentationNode) -> list:
    """Those that work in a segmentation, oldest first."""
    return [node for node in sessionNodes() if node.GetNodeReference("segmentation") is segmentationNode]


def lastFirst(nodes: Iterable) -> list:
    """These sessions' nodes, given oldest first: the one that was last at work first, where scenes do not say it the
    newest; those that a later version has made come after the others."""
    return sorted(reversed(list(nodes)), key=lambda node: -_turnOf(node))


def _turnOf(node) -> int:
    state = stateOf(node)
    return -1 if state is None else state.turn


def stateOf(node) -> SceneState | None:
    """What a session's node remembers; None where a later version has made it."""
    try:
        return SceneState(node)
    except FormatError:
        return None


def statesIn(segmentationNode) -> list[SceneState]:
    """What the sessions that worked in a segmentation remember, on whatever volume, the one that was last at work
    first; without a later version's."""
    return [*filter(None, map(stateOf, lastFirst(sessionsIn(segmentationNode))))]


def statesOn(volumeNode, segmentationNode) -> list[SceneState]:
    """Those of `statesIn` that are on this volume."""
    return [state for state in statesIn(segmentationNode) if state.referred("volume") is volumeNode]


def findSession(node):
    """The session's node that is meant: the node itself, one it refers to, or that last at work on it; else None.

    node: a session's node, a parameter node (also wrapped), a volume, a segmentation, or None for the only one.
    """
    found = sessionNodes()
    node = getattr(node, "parameterNode", node)
    if node is None:
        return found[-1] if len(found) == 1 else None
    if node.GetAttribute(MARK):
        return node
    referred = node.GetNodeReference(MARK)
    if referred is not None:
        return referred
    uses = [s for s in found if node in (s.GetNodeReference("volume"), s.GetNodeReference("segmentation"))]
    if uses:
        return lastFirst(uses)[0]
    isModule = node.IsA("vtkMRMLScriptedModuleNode")
    return found[-1] if isModule and len(found) == 1 else None


def volumeIn(segmentationNode):
    """The volume that a segmentation was made on: its last session's, or that of its geometry; None if unknown."""
    used = lastFirst(sessionsIn(segmentationNode))
    if used:
        return used[0].GetNodeReference("volume")
    return segmentationNode.GetNodeReference(segmentationNode.GetReferenceImageGeometryReferenceRole())


def stateFor(volumeNode, segmentationNode, targets: list[str]) -> SceneState:
    """The memory of the session that worked on these nodes with these targets, or a new one.

    Raises FormatError where only a later version's session has worked in the segmentation.
    """
    if segmentationNode is None:
        return _newState(volumeNode)
    used = lastFirst(sessionsIn(segmentationNode))
    for state in list(filter(None, map(stateOf, used))) or map(SceneState, used):
        known = [target["name"] for target in state.data["targets"]]
        if state.node.GetNodeReference("volume") is volumeNode and known == targets:
            return state
    return _newState(volumeNode)


def nextTurn(state: SceneState) -> int:
    """What makes a session the last that is at work in the scene: its own turn, where it is that already."""
    others = [_turnOf(node) for node in sessionNodes() if node is not state.node]
    return max(state.turn, max([0, *others]) + 1)


def _newState(volumeNode) -> SceneState:
    return SceneState.create(f"{volumeNode.GetName()} ProMISe session")
