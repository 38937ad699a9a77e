"""Whose the slices of a segment are, by what the sessions that worked in it have left in the scene. No Qt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from .history import checksum
from .mrml import ijkToRas
from .prompts import USER
from .sliceGrid import SliceGrid
from .state import SceneState
from .target import FOUND


class Known(NamedTuple):
    """What a session knows of a segment. records: number of a slice, as text → its record, as in the scene.

    then: the slices that they tell of, None in scenes that do not say it; axis: along which these are cut; since:
    what sessions on other volumes have written there since, like `records`, or None where these are other slices.
    """

    records: Mapping[str, dict]
    then: SliceGrid | None
    axis: str
    since: tuple[Mapping[str, dict] | None, ...] = ()

    def isOn(self, now: SliceGrid) -> bool:
        """Whether nothing says that the volume lay otherwise."""
        return self.then is None or self.then.plain() == now.plain()

    def gridIn(self, block: np.ndarray, now: SliceGrid) -> SliceGrid | None:
        """The slices that the records tell of in a segment's voxels (K, J, I): those of now, or as the volume lay then.

        It may have been put under a transform that turns it since, or been stored in another order of voxels: those
        are meant on which more of the masks are what was written. None where neither are.
        """
        if self.isOn(now):
            return now
        found = [grid for grid in (self.then, now) if _shape(grid) == block.shape]
        if not any(record.get("crc") for record in self.records.values()):
            return next(iter(found), None)
        fits = [self._fits(grid.fromBlock(block)) for grid in found]
        return found[fits.index(max(fits))] if any(fits) else None

    def _fits(self, slices: np.ndarray) -> int:
        """On how many slices that are not empty the mask is the one that was written last."""
        crcs = {int(n): record.get("crc") for n, record in self.records.items()}
        return sum(bool(crc) and n < len(slices) and checksum(slices[n]) == crc for n, crc in crcs.items())

    def isUsers(self, slices: np.ndarray) -> np.ndarray:
        """(n,) bool, as Target.isUsers says it; slices: the segment's masks on the slices that the records tell of."""
        users = np.array([_isUsers(self.records.get(str(n)), mask) for n, mask in enumerate(slices)], bool)
        users[self.others(slices)] = False
        return users

    def others(self, slices: np.ndarray) -> list[int]:
        """Those that hold what a session on another volume has written since; where its slices lie across these, all
        that are not as they were written here: none of them is a hand edit."""
        return [n for n, mask in enumerate(slices) if self.since and self._isOthers(str(n), checksum(mask))]

    def _isOthers(self, n: str, crc: int) -> bool:
        if crc == self.records.get(n, {}).get("crc", 0):
            return False
        return any(written is None or written.get(n, {}).get("crc") == crc for written in self.since)

    def isOfSame(self, other: Known) -> bool:
        """Whether records of another volume on the same grid tell of the same slices."""
        return self.axis == other.axis and (other.then is None or self.isOn(other.then))


def _shape(grid: SliceGrid) -> tuple[int, ...]:
    """(K, J, I) of the voxels that its slices are of."""
    return grid.toBlock(np.broadcast_to(False, grid.shape)).shape


def _isUsers(record: dict | None, mask: np.ndarray) -> bool:
    record = record or {}
    return bool(record.get("locked")) or record.get("state") == USER or checksum(mask) != record.get("crc", 0)


def knownIn(states: Iterable[SceneState], among: Iterable[SceneState]) -> dict[str, Known]:
    """Segment's id → what the first session knows of it that knows it.

    states: of one volume and segmentation; among: of all volumes, in that segmentation.
    """
    found: dict[str, Known] = {}
    for state in states:
        volume = state.referred("volume")
        beside = [each for each in among if each.referred("volume") is not volume and each.turn >= state.turn]
        for segmentId, known in _toldBy(state).items():
            if segmentId not in found:
                since = tuple(_writtenBy(each, segmentId, volume, known) for each in beside)
                found[segmentId] = known._replace(since=tuple(written for written in since if written != {}))
    return found


def _toldBy(state: SceneState) -> dict[str, Known]:
    """Segment's id → what a session knows of it."""
    data = state.data
    then = SliceGrid.ofPlain(data["grid"]) if "grid" in data else None
    axis = data.get("axis") or data.get("pack", {}).get("manifest", {}).get("orientation", "")
    slices = data["slices"]
    return {entry["segment"]: Known(slices.get(entry["name"], {}), then, axis) for entry in data["targets"]}


def _writtenBy(state: SceneState, segmentId: str, volumeNode, known: Known) -> dict[str, dict] | None:
    """Records of what a session on another volume wrote, not only found, of a segment; None where there are such, but
    of other slices than those that are known on this volume."""
    theirs = _toldBy(state).get(segmentId)
    records = {} if theirs is None else theirs.records
    written = {n: record for n, record in records.items() if record.get("state") != FOUND}
    isSame = not written or (_areOnOneGrid(volumeNode, state.referred("volume")) and known.isOfSame(theirs))
    return written if isSame else None


def _areOnOneGrid(volumeNode, other) -> bool:
    """Whether two volumes' voxels are at the same places; False where one of them has gone, or has no voxels."""
    images = [node.GetImageData() for node in (volumeNode, other) if node is not None]
    if len(images) < 2 or None in images or images[0].GetDimensions() != images[1].GetDimensions():
        return False
    last = np.diag([*images[0].GetDimensions(), 1.0])
    apart = np.linalg.solve(ijkToRas(volumeNode), ijkToRas(other) @ last) - last
    return bool(np.abs(apart).max() < 0.5)  # voxels
