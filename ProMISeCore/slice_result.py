"""What the segmenter says of one slice."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class SliceResult:
    """One slice, per target: mask (H, W) bool, points (N, 2) as (row, column) with labels (N,) 1/0, logits (H, W)
    float32, SAM's own IoU guess and the presence probability, both 0…1 (presence only where the pack has one)."""

    index: int
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    points_rc: dict[str, np.ndarray] = field(default_factory=dict)
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    iou: dict[str, float] = field(default_factory=dict)
    presence: dict[str, float] = field(default_factory=dict)
    logits: dict[str, np.ndarray] = field(default_factory=dict)

    def only(self, target: str) -> SliceResult:
        """What it says of one target."""
        parts = {name: value for name, value in vars(self).items() if isinstance(value, dict)}
        kept = {name: {target: part[target]} for name, part in parts.items() if target in part}
        return SliceResult(self.index, **kept)
