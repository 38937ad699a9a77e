"""Finding the sessions that a scene was saved with, and going on with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from . import environment
from .packfile import packFile, versionsOf
from .session import Session
from .state import SceneState, lastFirst, sessionNodes, sessionsIn, stateOf


def packOf(node) -> str:
    """Name of the pack in a session's node."""
    return SceneState(node).packName


def saved(volumeNode, segmentationNode, pack: str = ""):
    """The node of the session that was last at work on these nodes, with the named pack before others; or None.

    One that a later version has made is given only where there is no other: going on with it raises FormatError.
    """
    if None in (volumeNode, segmentationNode):
        return None
    found = lastFirst(node for node in sessionsIn(segmentationNode) if node.GetNodeReference("volume") is volumeNode)
    states = list(filter(None, map(stateOf, found)))
    known = [state.node for state in states]
    return next((state.node for state in states if state.packName == pack), next(iter(known or found), None))


def segmentationOf(volumeNode, axis: str | None = None, last: str | None = None):
    """The segmentation that a session on this volume has worked in, or None: the one with the node ID `last`, else that
    of the session that was last at work.

    axis: of its slices, "" for the pack's own; None for whatever they were.
    """
    if volumeNode is None:
        return None
    found = lastFirst(node for node in sessionNodes() if node.GetNodeReference("volume") is volumeNode)
    if axis is not None:
        states = filter(None, map(stateOf, found))
        found = [state.node for state in states if (state.data.get("axis") or "") == axis]
    referred = [node.GetNodeReference("segmentation") for node in found]
    segmentations = [node for node in referred if node is not None]
    left = [node for node in segmentations if node.GetID() == last]
    return next(iter(left or segmentations), None)


def resume(node, packs: Sequence, makeEngine: Callable) -> tuple:
    """A saved session, and its pack out of those that are installed: the session goes on with the version of it that
    the scene was made with, where that was kept.

    makeEngine(pack): what computes. Raises SessionError where the pack or the volume is not there any more.
    """
    recorded = SceneState(node).data.get("pack", {})
    named = [pack for pack in packs if pack.manifest.name == packOf(node)]
    others = [pack for pack in packs if pack not in named]  # may have been called otherwise
    found = next(_sameFiles([*named, *others], recorded.get("sha256")), None)
    if found is None and not named:
        return Session.fromScene(node), None  # raises, and says what is missing
    pack, used = found or (named[0], named[0])
    return Session.fromScene(node, makeEngine(used), used), pack


def _sameFiles(packs: Sequence, sha256: str | None) -> Iterator[tuple]:
    """Packs of which some version has these bytes, each with that version; the present one of all packs first."""
    if sha256 is None:  # of a session without a pack's file
        return
    for pack in packs:
        if packFile(pack).sha256 == sha256:
            yield pack, pack
    for pack in packs:
        for version in _versions(pack):
            if packFile(version).sha256 == sha256:
                yield pack, version


def lastingFile(pack):
    """Where a pack's bytes stay when another version becomes the present one: the file of their version, where they
    have one; else the pack's own."""
    sha256 = packFile(pack).sha256
    return next((version.path for version in _versions(pack) if packFile(version).sha256 == sha256), pack.path)


def _versions(pack) -> list:
    """Those that were kept; none of a pack that nobody has taught here. A folder of one's own has copies alone."""
    core = environment.core("packs")
    if not (core.folder() / pack.path.name).is_file():
        return []
    return list(filter(None, (core.readable(version.path) for version in versionsOf(pack.path.stem))))
