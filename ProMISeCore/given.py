"""What somebody gives as prompts of one slice, checked: points with labels and whose they are, a box, a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ProMISeCore.errors import InputError
from ProMISeCore.frame import Frame


@dataclass(frozen=True)
class Given:
    """points_rc (N, 2) as (row, column), labels (N,) 1 or 0, own (N,) bool; box_rc (4,); mask (H, W); empty or None.

    told: whether it was said whose the points are, so that a person may have taken automatic ones away.
    """

    points_rc: np.ndarray
    labels: np.ndarray
    own: np.ndarray
    told: bool
    box_rc: np.ndarray | None = None
    mask: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        points_rc: Sequence | np.ndarray | None = None,
        labels: Sequence[int] | np.ndarray | None = None,
        box_rc: Sequence[float] | np.ndarray | None = None,
        mask: np.ndarray | None = None,
        own: Sequence[bool] | np.ndarray | None = None,
    ) -> Given:
        """labels: all 1 unless given; own: which points are a person's, all unless given. Raises InputError."""
        points = np.zeros((0, 2)) if points_rc is None or not len(points_rc) else np.asarray(points_rc)
        if points.ndim != 2 or points.shape[1] != 2 or points.dtype.kind not in "iuf":
            raise InputError(f"points are {points.shape} {points.dtype}; expected numbers, (N, 2): row, column of each")
        if not len(points) and labels is not None and len(labels):
            raise InputError(f"there are {len(labels)} labels and no points; give one label per point")
        marks = np.ones(len(points), int) if labels is None else np.asarray(labels).reshape(-1)
        if len(marks) != len(points) or not np.isin(marks, (0, 1)).all() or not np.isfinite(points).all():
            raise InputError(
                f"{len(points)} finite points need as many labels, 1 for foreground or 0 for background; "
                f"got {marks.tolist()}"
            )
        owned = np.ones(len(points), bool) if own is None else np.asarray(own).reshape(-1)
        if len(owned) != len(points) or not np.isin(owned, (0, 1)).all():
            raise InputError(f"own has {owned.tolist()}; expected True or False for each of {len(points)} points")
        box = None if box_rc is None else np.asarray(box_rc, float).reshape(-1)
        if box is not None and (box.shape != (4,) or not np.isfinite(box).all()):
            raise InputError(f"a box is four numbers: row, column, row, column of two corners; got {box.tolist()}")
        mask = None if mask is None else np.asarray(mask)
        return cls(points, marks.astype(np.int64), owned.astype(bool), own is not None, box, mask)

    def __bool__(self) -> bool:
        return len(self.points_rc) > 0 or self.box_rc is not None or self.mask is not None

    def before(self, count: int) -> Given:
        """What there was when `count` of the person's own points were placed: those, and all that is not theirs."""
        chosen = ~self.own | (np.cumsum(self.own) <= count)
        return replace(self, points_rc=self.points_rc[chosen], labels=self.labels[chosen], own=self.own[chosen])

    @property
    def key(self) -> tuple:
        """Equal for equal prompts, whoever's they are."""
        arrays = (self.points_rc, self.labels, self.box_rc, self.mask)
        return tuple(None if array is None else (array.shape, array.dtype.str, array.tobytes()) for array in arrays)

    def gone(self, points_rc: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
        """Which of some points (N, 2) with labels (N,) are not among these, (N,) bool; None where these hold others.

        Places are the same up to a quarter of a pixel: what an accelerator and a processor compute differs.
        """
        apart = np.abs(self.points_rc[:, None] - points_rc[None]).max(-1, initial=0)
        same = (apart < 0.25) & (self.labels[:, None] == labels[None])
        return ~same.any(0) if same.any(1).all() else None

    def tensors(self, frame: Frame) -> dict[str, Tensor]:
        """As `Promise.solve` takes them, in frame pixels, a batch of one; nothing for nothing. Raises InputError."""
        given: dict[str, Tensor] = {}
        if len(self.points_rc):
            given["points"] = torch.from_numpy(frame.rc_to_xy(self.points_rc)).float()[None]
            given["labels"] = torch.from_numpy(self.labels)[None]
        if self.box_rc is not None:
            given["box"] = torch.from_numpy(np.asarray(frame.box_rc_to_xy(self.box_rc))).float()[None]
        if self.mask is not None:
            given["mask"] = frame.mask_prompt(self.mask)[None]
        return given
