"""What a session finds in its segments: slices that it or another session knows of, and some that nobody does."""

from __future__ import annotations

import numpy as np

from .base import readRecords
from .history import checksum
from .segments import Segments
from .sliceGrid import SliceGrid
from .state import SceneState, statesIn, statesOn
from .target import BASE, FOUND, REFINED, USER
from .whose import Known, knownIn


class Heritage:
    """state: the session's memory as it was left, or a new one; segments: on the slices that there are now.

    What was automatic stays so, and what was the user's stays the user's, whatever pack it was made with. found: how
    many slices hold what nobody knows of; they are kept from passes, and are not the user's.
    """

    def __init__(self, state: SceneState, segments: Segments) -> None:
        others = [each for each in statesOn(segments.volumeNode, segments.node) if each.node is not state.node]
        among, isNew, self._segments, self.found = statesIn(segments.node), not state.data["targets"], segments, 0
        self._own = knownIn([state], among)
        self._later = knownIn([each for each in others if isNew or each.turn > state.turn], among)
        self.awaited = () if self._later else state.data.get("awaited", ())  # answers to what was there since

    def records(self, segmentId: str) -> dict[int, dict]:
        """Of the slices that there are now."""
        own, later = self._own.get(segmentId), self._later.get(segmentId)
        if own is not None and later is None and not own.since and own.isOn(self._segments.grid):
            return readRecords(own.records, self._segments.grid)
        slices, now = self._segments.readAll(segmentId), self._segments.grid
        grids = [each and each.gridIn(now.toBlock(slices), now) for each in (own, later)]
        if own is not None and (grids[0] is None or grids[0].plain() != now.plain()):
            self.awaited = ()  # of slices that have other numbers now, or are no more
        mine, theirs = (_carried(*each, slices, now) for each in zip((own, later), grids, strict=True))
        if theirs is None and (later is not None or mine is None):
            return self._unknown(slices, mine or {})
        known, then = (own, grids[0]) if later is None else (later, grids[1])
        return _merged(mine or {}, theirs or {}) | self._others(known, then, slices, now)

    def _others(self, known: Known, then: SliceGrid, slices: np.ndarray, now: SliceGrid) -> dict[int, dict]:
        """Of slices that hold what a session on another volume has written since."""
        others = known.others(then.fromBlock(now.toBlock(slices)))
        if others:
            self.awaited = ()
        self.found += len(others)
        places = [_place(n, then, now) for n in others]
        return {place: _asFound(slices[place]) for place in places}

    def _unknown(self, slices: np.ndarray, known: dict[int, dict]) -> dict[int, dict]:
        """Of what was there before, or was made on slices across these; what nobody has changed stays known."""
        same = {n: each for n, each in known.items() if n < len(slices) and each.get("crc", 0) == checksum(slices[n])}
        filled = [n for n in np.flatnonzero(slices.any(axis=(1, 2))).tolist() if n not in same]
        self.found += len(filled)
        return same | {n: _asFound(slices[n]) for n in filled}


def _asFound(mask: np.ndarray) -> dict:
    """The record of a slice of which nobody knows whose it is."""
    return {"state": FOUND, "iou": None, "crc": checksum(mask), REFINED: True}


def _place(n: int, then: SliceGrid, now: SliceGrid) -> int:
    """The number now of what was slice n then."""
    return int(now.fromIjk(then.toIjk([[n, 0, 0]]))[0, 0])


def _carried(known: Known | None, then: SliceGrid | None, slices: np.ndarray, now: SliceGrid) -> dict[int, dict] | None:
    """Records of the slices now, of those that were the same voxels then; None where there were no such."""
    if known is None or then is None or not then.isAlong(now):
        return None
    records = readRecords(known.records, now)
    if then.plain() == now.plain():
        return records
    before, found = then.fromBlock(now.toBlock(slices)), {}
    for n, record in records.items():
        place = _place(n, then, now)
        isEdited = checksum(before[n]) != record.get("crc", 0)
        found[place] = record | {"crc": checksum(slices[place])} | ({"state": USER} if isEdited else {})
    return found


def _merged(mine: dict[int, dict], theirs: dict[int, dict]) -> dict[int, dict]:
    """theirs: what a session that was at work later knows. Where it has changed nothing, what prompts correct stays;
    elsewhere, as it has prompts of its own, they correct the mask that is found."""
    found = dict(mine)
    for n, record in theirs.items():
        own = mine.get(n)
        if own is not None and own.get("crc") == record.get("crc"):
            found[n] = own | {key: record[key] for key in ("state", "locked") if key in record}
        else:
            found[n] = {key: value for key, value in record.items() if key != BASE} | {REFINED: True}
    return found


def ofKept(edited: int, found: int, madeOn: str) -> str:
    """What to tell of slices that a pass keeps, as they hold something else than was written last; "" without any.

    madeOn: name of another volume on which those were made that were found, or "".
    """
    told = []
    if edited:
        told.append(f"{edited} slices were edited by hand and are kept")
    if found and madeOn:
        told.append(f"{found} slices hold what was made on {madeOn!r} and are kept")
    elif found:
        told.append(f"{found} slices were filled before, nothing says whether you looked at them, and are kept")
    if told:
        told.append("release them to replace them")
    return "; ".join(told) + (", or choose no segmentation to get a new one" if found and madeOn else "")
