"""What is taught with: a volume and a segmentation of the scene, and what of it counts. No Qt."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from . import environment, mrml
from .sliceGrid import SliceGrid
from .state import lastFirst, sessionsIn, statesIn, statesOn
from .whose import Known, knownIn

AS_SEGMENTED, MINE = "segmented", "mine"  # which slices count: all, or those that a session knows for the user's
UNKNOWN = "ProMISe unknown"  # begins the names of segments that hold what nobody has looked at, as core's truth.NOBODY


@dataclass
class Case:
    """A volume and its segmentation. chosen: what the user says of `slices`, or ""; used: whether it is taught with.

    Nodes that have left the scene are None, and so is a volume that is not known.
    """

    volumeNode: Any
    segmentationNode: Any
    chosen: str = ""
    used: bool = True

    @property
    def name(self) -> str:
        return self.volumeNode.GetName() if self.volumeNode is not None else ""

    @property
    def isInScene(self) -> bool:
        """Whether its nodes still are; a volume that is not known is not missed."""
        return all(node is None or node.GetScene() is not None for node in (self.volumeNode, self.segmentationNode))

    def segments(self) -> dict[str, list[str]]:
        """Name → ids of the segments called so; several pieces of one name are one target."""
        found: dict[str, list[str]] = {}
        if self.segmentationNode is not None:
            segmentation = self.segmentationNode.GetSegmentation()
            for segmentId in segmentation.GetSegmentIDs():
                found.setdefault(segmentation.GetSegment(segmentId).GetName(), []).append(segmentId)
        return found

    def colours(self) -> dict[str, tuple[float, ...]]:
        """Name → red, green, blue 0…1, of the first segment called so."""
        segmentation = self.segmentationNode.GetSegmentation()
        return {name: tuple(segmentation.GetSegment(ids[0]).GetColor()) for name, ids in self.segments().items()}

    def results(self) -> dict[str, Known | None]:
        """Id of each segment that ProMISe has made → what the session on these nodes that was last at work on it knows.

        None where there is no such session: the segmentation is a copy, or came from a file without its scene. Other
        segments are the user's own work.
        """
        if self.segmentationNode is None:
            return {}
        among = statesIn(self.segmentationNode)
        known = knownIn(statesOn(self.volumeNode, self.segmentationNode), among)
        segmentation = self.segmentationNode.GetSegmentation()
        return {
            each: known.get(each)
            for each in segmentation.GetSegmentIDs()
            if each in known or mrml.targetOf(segmentation.GetSegment(each))
        }

    @property
    def slices(self) -> str:
        """AS_SEGMENTED or MINE. Of what ProMISe has made, also since it was listed, only what is the user's counts,
        unless the user says otherwise."""
        return self.chosen or (MINE if self.results() else AS_SEGMENTED)

    @property
    def isUntold(self) -> bool:
        """Whether ProMISe has made a segment of it, and nothing in the scene says which slices of it are the user's."""
        return None in self.results().values()


def ofScene() -> list[Case]:
    """A case per segmentation of the scene, without a volume where that is not known and there is a segment."""
    paired = [(volumeOf(node), node) for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")]
    found = [proposed(volume, segmentation) for volume, segmentation in paired]
    return [case for case in found if case.volumeNode is not None or case.segments()]


def volumesFor(segmentationNode) -> list:
    """The scene's volumes, those first on whose voxels the segmentation lies."""
    return sorted(_images(), key=lambda volume: not mrml.isOnVoxels(segmentationNode, volume))


def volumeOf(segmentationNode):
    """The volume that a segmentation is of, or None: its source volume, or that of a session.

    One that was loaded from a file names none: it is the only volume whose voxels its own are, of several, and of
    pictures, whose files say nothing of their place, the only one of its name.
    """
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    sessions = [node.GetNodeReference("volume") for node in lastFirst(sessionsIn(segmentationNode))]
    for volume in (segmentationNode.GetNodeReference(role), *sessions):
        if _isImage(volume):
            return volume
    alike = [volume for volume in _images() if mrml.isOnVoxels(segmentationNode, volume)]
    if len(alike) > 1 or any(map(mrml.isPicture, alike)):
        alike = [volume for volume in alike if _isCalled(segmentationNode.GetName(), volume.GetName())]
    return alike[0] if len(alike) == 1 else None


def _isCalled(segmentation: str, volume: str) -> bool:
    """As files are: X and X.seg, X-label, X_segmentation or X Segmentation."""
    return bool(re.fullmatch(rf"{re.escape(volume)}([ ._-]?(seg|label|segmentation|mask)s?)*", segmentation, re.I))


def _isImage(node) -> bool:
    return node is not None and node.IsA("vtkMRMLScalarVolumeNode") and not node.IsA("vtkMRMLLabelMapVolumeNode")


def _images() -> list:
    return [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if _isImage(node)]


def proposed(volumeNode, segmentationNode) -> Case:
    """One without a volume or without a segment is not taught with, unless the user says otherwise."""
    case = Case(volumeNode, segmentationNode)
    case.used = volumeNode is not None and bool(case.segments())
    return case


def shownNames(cases: list[Case]) -> list[str]:
    """The volumes' names, each once, see `numbered`."""
    return numbered([case.name for case in cases])


def numbered(names: list[str]) -> list[str]:
    """Each once: a second one of the same name is "name (2)"."""
    shown: list[str] = []
    for given in names:
        name, number = given, 1
        while name in shown:
            number += 1
            name = f"{given} ({number})"
        shown.append(name)
    return shown


def unlabelled(cases: list[Case]) -> list:
    """The scene's volumes that no case is made of and that no segmentation with voxels belongs to."""
    taken = [case.volumeNode for case in cases] + [
        case.volumeNode for case in ofScene() if case.segments() and not case.results()
    ]
    return [node for node in _images() if node not in taken]


def fileName(volume) -> str:
    """A neutral name: the same for the same voxels at the same place, and no patient's name in it."""
    seen = hashlib.sha256(np.ascontiguousarray(volume.voxels).data)
    seen.update(np.asarray(volume.affine, float).round(4).tobytes())
    seen.update(str((volume.voxels.shape, volume.voxels.dtype.str)).encode())
    return f"case-{seen.hexdigest()[:8]}"


def voxels(case: Case):
    """The core's Volume of a case. Raises GeometryError for a volume that cannot be used."""
    node = case.volumeNode
    affine, picture = mrml.affineOf(node), mrml.isPicture(node)
    return environment.core("volumes").Volume(mrml.voxelsOf(node), affine, node.GetName(), picture)


def masks(case: Case, targets: list[str], volume) -> dict[str, np.ndarray]:
    """Target → (K, J, I) bool on the volume's voxels, of those that the segmentation has; beside them UNKNOWN segments.

    What is unknown for a target is told, and taken out of its mask. The user's nodes are not changed. Raises
    GeometryError where everything is unknown.
    """
    segments, results, isWhole = case.segments(), case.results(), case.chosen == AS_SEGMENTED
    found, unknown = {}, {}
    for name in [name for name in targets if name in segments]:
        pieces = _pieces(case, segments[name])
        found[name] = _union(pieces.values(), volume)
        if not isWhole and pieces.keys() & results.keys():
            unknown[name] = unknownVoxels(pieces, results, volume)
            found[name] &= ~unknown[name]
    if found and results and isWhole:  # all were looked at: nothing is, and nothing is guessed
        return found | {UNKNOWN: np.zeros(volume.voxels.shape[:3], bool)}
    if unknown and unknown.keys() == found.keys() and all(where.all() for where in unknown.values()):
        raise mrml.GeometryError(_nothingIn(case))
    return found | {f"{UNKNOWN} {name}": where for name, where in unknown.items()}


def _nothingIn(case: Case) -> str:
    if not any(case.results().values()):
        return (
            f"ProMISe has made {case.segmentationNode.GetName()!r}, and nothing in this scene says which slices are "
            "yours: once you have looked at all of them, let all count"
        )
    return f"no slice of {case.name!r} is yours yet: correct, lock or edit slices, or let all of them count"


def _pieces(case: Case, segmentIds: list[str]) -> dict[str, np.ndarray]:
    """Segment's id → (K, J, I) bool on the volume's voxels."""
    return {each: mrml.segmentOnVolume(case.segmentationNode, each, case.volumeNode) for each in segmentIds}


def _union(pieces: Iterable[np.ndarray], volume) -> np.ndarray:
    found = np.zeros(volume.voxels.shape[:3], bool)
    for piece in pieces:
        found |= piece
    return found


def unknownVoxels(pieces: dict[str, np.ndarray], results: dict[str, Known | None], volume) -> np.ndarray:
    """(K, J, I) bool: where nobody knows whether there is the target that several pieces are.

    Of a piece that ProMISe has made, slices that are not the user's are unknown. Where the user's own segment of this
    name is drawn on such a slice, it says what is there: only the rest of the piece is unknown, neither the target nor
    background. Of a piece without a session nothing is known, and so of the target.
    """
    own = _union((piece for each, piece in pieces.items() if each not in results), volume)
    unknown = np.zeros(own.shape, bool)
    for each in [each for each in pieces if each in results]:
        grid = None if results[each] is None else _gridOf(results[each], pieces[each], volume)
        if grid is None:
            return np.ones_like(unknown)
        slices, drawn = grid.fromBlock(pieces[each]), grid.fromBlock(own)
        isOpen = ~results[each].isUsers(slices)[:, None, None]
        isDrawn = drawn.any(axis=(1, 2), keepdims=True)
        unknown |= grid.toBlock(isOpen & ~drawn & (slices | ~isDrawn))
    return unknown


def _gridOf(known: Known, piece: np.ndarray, volume) -> SliceGrid | None:
    """The slices that a session's records tell of."""
    now = SliceGrid.of(environment.core("volumes").Stack(volume, known.axis))
    return known.gridIn(piece, now)
