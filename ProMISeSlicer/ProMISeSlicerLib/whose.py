"""Whose the slices of a segment are, by what the sessions that worked in it have left in the scene. No Qt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from .history import checksum
from .mrml import SliceGrid
from .prompts import USER
from .state import SceneState


class Known(NamedTuple):
    """What a session knows of a segment. records: number of a slice, as text → its record, as in the scene.

    then: the slices that they tell of, None in scenes that do not say it; axis: along which these are cut.
    """

    records: Mapping[str, dict]
    then: SliceGrid | None
    axis: str

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
        return np.array([_isUsers(self.records.get(str(n)), mask) for n, mask in enumerate(slices)], bool)


def _shape(grid: SliceGrid) -> tuple[int, ...]:
    """(K, J, I) of the voxels that its slices are of."""
    return grid.toBlock(np.broadcast_to(False, grid.shape)).shape


def _isUsers(record: dict | None, mask: np.ndarray) -> bool:
    record = record or {}
    return bool(record.get("locked")) or record.get("state") == USER or checksum(mask) != record.get("crc", 0)


def knownIn(states: Iterable[SceneState]) -> dict[str, Known]:
    """Segment's id → what the first session knows of it that knows it."""
    found: dict[str, Known] = {}
    for state in states:
        data = state.data
        then = SliceGrid.ofPlain(data["grid"]) if "grid" in data else None
        axis = data.get("axis") or data.get("pack", {}).get("manifest", {}).get("orientation", "")
        for entry in data["targets"]:
            found.setdefault(entry["segment"], Known(data["slices"].get(entry["name"], {}), then, axis))
    return found
