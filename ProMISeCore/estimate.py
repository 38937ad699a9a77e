"""How many slices and views fit into the time, and what they will take of time, disk and memory."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ProMISeCore import backbones
from ProMISeCore.case import Case
from ProMISeCore.errors import InputError
from ProMISeCore.terminal import amount
from ProMISeCore.wish import Wish

#: Seconds to encode a view at the backbone's own frame side on two CPU cores, measured by `promise bench`, for
#: estimates and for how many views fit.
_ENCODE_SECONDS = {"tiny": 0.06, "mobile_sam": 0.9, "vit_b": 6.6, "vit_l": 18.0, "vit_h": 35.0}
_ENCODED, _ENCODED_SMALL = 0.25, 0.12  # of the time; on small slices most is learned from pictures
_LEAST_ENCODING = 0.3  # of the time at the backbone's own frame side: smaller frames gain less than their area
_MOST_SLICES = 24  # of a case
_TARGET_BYTES = 20_000_000  # on disk: two checkpoints and one that is being written, of a target, and the pack
_PROCESS_BYTES = 600_000_000
_BYTES, _BYTES_SMALL = 3, 5  # in memory, of each pixel of each view's masks; refiners keep what decoders say of it


class Estimate:
    """What it takes to teach from some cases. small: they have refiners; side: of the frames, None for the backbone's.

    learn, rest: cases learned from at once, and those that judge before; held: those that judge.
    """

    def __init__(
        self,
        wish: Wish,
        small: bool,
        side: int | None,
        learn: Sequence[Case],
        rest: Sequence[Case],
        held: Sequence[Case],
    ) -> None:
        self._wish, self._small, self._held, self._learns_at_last = wish, small, held, bool(rest)
        self._encoded = [*learn, *(case for case in rest if case.use != "both")]
        self._backbone = backbones.TABLE.get(wish.backbone, backbones.TABLE["tiny"])
        self._side = side or self._backbone.side
        self.slices, self.views = self._size()

    def _size(self) -> tuple[int, int]:
        """Slices of a case at most, and views of each: as many as a share of the time can encode."""
        wish, cases = self._wish, max(1, len(self._encoded))
        seconds = 60 * (wish.minutes or 5)
        share = _ENCODED_SMALL if self._small else _ENCODED
        rows = int(np.clip(share * seconds / self._view_seconds, 64, 1200))
        slices = wish.slices or int(np.clip(rows // (2 * cases), 4, _MOST_SLICES if cases > 1 else 2 * _MOST_SLICES))
        there = sum(min(slices, case.known_slices) for case in self._encoded) or 1
        return slices, wish.views or int(np.clip(rows // there, 1, 12))

    @property
    def encode_seconds(self) -> float:
        """Of all views; from the table of encoding times, so a guess on other machines."""
        return self._rows * self._view_seconds

    @property
    def train_seconds(self) -> float | None:
        """What is left of the minutes, half of them at least; None for a budget in steps."""
        minutes = self._wish.minutes
        return None if minutes is None else max(30 * minutes, 60 * minutes - self.encode_seconds)

    @property
    def _view_seconds(self) -> float:
        larger = max(_LEAST_ENCODING, (self._side / self._backbone.side) ** 2)
        return larger * _ENCODE_SECONDS[self._backbone.architecture]

    @property
    def _learned(self) -> int:
        """Views that are learned from."""
        return sum(min(self.slices, case.known_slices) for case in self._encoded) * self.views

    @property
    def _rows(self) -> int:
        """All views."""
        return self._learned + sum(map(self._judging, self._held))

    def _judging(self, case: Case) -> int:
        """Slices of a held-out case that judge, in one view; they are counted among what is learned, too, if both."""
        if case.use == "both":
            return min(self.slices, case.known_slices) // 4
        return min(2 * self.slices, case.known_slices)

    def entries(self, workspace: Path, targets: int, voxels: int) -> dict[str, Any]:
        """Views, seconds, bytes. voxels: of the largest case."""
        side, rows = self._side, self._rows
        per_view = 2 * 256 * (side // 16) ** 2 + 2 * targets * (side // 4) ** 2
        per_view += 3 * (side // 2) ** 2 if self._small else 0
        there = next(folder for folder in (workspace, *workspace.parents) if folder.exists())
        twice = self._learned * self._learns_at_last  # the last training has its own
        kept, train = (rows + twice) * targets * (side // 4) ** 2, self.train_seconds
        return {
            "views": rows,
            "encode_seconds": round(self.encode_seconds, 1),
            "train_seconds": None if train is None else round(train, 1),
            "disk_bytes": rows * per_view + targets * _TARGET_BYTES,
            "free_bytes": shutil.disk_usage(there).free,
            "memory_bytes": _PROCESS_BYTES + 12 * voxels + (_BYTES_SMALL if self._small else _BYTES) * kept,
        }


def check_room(found: Mapping[str, Any], workspace: Path) -> None:
    """Raise InputError where the disk is too small by an estimate's entries; what is there already counts."""
    kept = [*workspace.glob("views-*/*"), *workspace.glob("training-*.pt")]
    there = sum(path.stat().st_size for path in kept)
    if found["disk_bytes"] > found["free_bytes"] + there:
        raise InputError(
            f"this takes about {amount(found['disk_bytes'])} of disk, {amount(found['free_bytes'])} are free in "
            f"{workspace}; free some, teach with fewer --slices or --views, or give another --workspace"
        )
