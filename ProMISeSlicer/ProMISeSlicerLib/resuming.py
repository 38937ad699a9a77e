"""Finding the sessions that a scene was saved with, and going on with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .session import Session
from .state import SceneState, findSession, sessionNodes


def _packOf(node) -> str:
    """Name of the pack in a session's node."""
    return SceneState(node).data.get("pack", {}).get("manifest", {}).get("name", "")


def saved(volumeNode, segmentationNode, pack: str = ""):
    """The newest session's node on these nodes, one with the named pack before others; or None."""
    wanted = (volumeNode, segmentationNode)
    if None in wanted:
        return None
    found = [
        node
        for node in reversed(sessionNodes())
        if (node.GetNodeReference("volume"), node.GetNodeReference("segmentation")) == wanted
    ]
    return next((node for node in found if _packOf(node) == pack), next(iter(found), None))


def segmentationOf(volumeNode):
    """The segmentation that the last session on this volume has worked in, or None."""
    node = findSession(volumeNode) if volumeNode is not None else None
    return node.GetNodeReference("segmentation") if node is not None else None


def resume(node, packs: Sequence, makeEngine: Callable) -> tuple:
    """A saved session, and its pack out of those that are installed.

    makeEngine(pack): what computes. Raises SessionError where the pack or the volume is not there any more.
    """
    pack = next((pack for pack in packs if pack.manifest.name == _packOf(node)), None)
    if pack is None:
        return Session.fromScene(node), None  # raises, and says what is missing
    return Session.fromScene(node, makeEngine(pack), pack), pack
