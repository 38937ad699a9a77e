"""What is taught with: a volume and a segmentation of the scene, and what of it counts. No Qt."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from . import environment, mrml
from .history import checksum
from .state import SceneState, sessionNodes, stateOf
from .target import USER

AS_SEGMENTED, MINE = "segmented", "mine"  # which slices count: all, or those that a session knows for the user's
UNKNOWN = "ProMISe unknown"  # begins the names of segments that hold what nobody has looked at, as core's truth.NOBODY


@dataclass
class Case:
    """A volume and its segmentation. slices: AS_SEGMENTED or MINE; used: whether it is taught with.

    Nodes that have left the scene are None, and so is a volume that is not known.
    """

    volumeNode: Any
    segmentationNode: Any
    slices: str = AS_SEGMENTED
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

    def session(self) -> SceneState | None:
        """The memory of the newest ProMISe session on these two nodes that this version knows."""
        mine = [
            node
            for node in reversed(sessionNodes())
            if (node.GetNodeReference("volume"), node.GetNodeReference("segmentation"))
            == (self.volumeNode, self.segmentationNode)
        ]
        return next(filter(None, map(stateOf, mine)), None)


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
    sessions = [
        node.GetNodeReference("volume")
        for node in reversed(sessionNodes())
        if node.GetNodeReference("segmentation") is segmentationNode
    ]
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
    """Of a session's segmentation only what is the user's counts, unless the user says otherwise."""
    case = Case(volumeNode, segmentationNode)
    case.used = volumeNode is not None and bool(case.segments())
    if case.session() is not None:
        case.slices = MINE
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
        case.volumeNode for case in ofScene() if case.segments() and case.session() is None
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
    segments = case.segments()
    found = {name: _union(case, segments[name]) for name in targets if name in segments}
    if not found or case.session() is None:
        return found
    if case.slices == AS_SEGMENTED:  # the user has looked at all of them: nothing is, and nothing is to be guessed
        return found | {UNKNOWN: np.zeros(volume.voxels.shape[:3], bool)}
    unknown = unknownVoxels(case, found, volume)
    if unknown.keys() == found.keys() and all(where.all() for where in unknown.values()):
        raise mrml.GeometryError(
            f"no slice of {case.name!r} is yours yet: correct, lock or edit slices, or let all of them count"
        )
    for name, where in unknown.items():
        found[name] = found[name] & ~where
    return found | {f"{UNKNOWN} {name}": where for name, where in unknown.items()}


def _union(case: Case, segmentIds: list[str]) -> np.ndarray:
    pieces = [mrml.segmentOnVolume(case.segmentationNode, each, case.volumeNode) for each in segmentIds]
    return np.logical_or.reduce(pieces)


def unknownVoxels(case: Case, found: dict[str, np.ndarray], volume) -> dict[str, np.ndarray]:
    """Target → (K, J, I) bool: whole slices that are neither corrected, locked nor edited by hand in the session.

    Segments that the session knows nothing of are the user's own work and known everywhere.
    """
    state = case.session()
    if state is None:
        return {}
    axis = state.data.get("axis") or state.data["pack"]["manifest"]["orientation"]
    grid = mrml.SliceGrid.of(environment.core("volumes").Stack(volume, axis))
    targets = {target["segment"]: target["name"] for target in state.data["targets"]}
    unknown = {}
    for name, ids in case.segments().items():
        target = next((targets[each] for each in ids if each in targets), None)
        if target is not None and name in found:
            records = state.data["slices"].get(target, {})
            slices = grid.fromBlock(found[name])
            mine = np.array([_isUsers(records.get(str(n)), slices[n]) for n in range(len(grid))])
            unknown[name] = grid.toBlock(np.broadcast_to(~mine[:, None, None], grid.shape))
    return unknown


def _isUsers(record: dict | None, mask: np.ndarray) -> bool:
    """As Target.isUsers says it, from what the scene holds."""
    record = record or {}
    return bool(record.get("locked")) or record.get("state") == USER or checksum(mask) != record.get("crc", 0)
