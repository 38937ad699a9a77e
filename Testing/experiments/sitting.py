"""A reader at work on one volume: the segmenter's first result, then click after click, slice after slice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from reader import ACCEPT, REJECT, Point, Reader

from ProMISeCore import scores
from ProMISeCore.manifest import BackboneInfo, Manifest, TargetInfo
from ProMISeCore.promise import Encoded, Output, Promise
from ProMISeCore.sam import Sam
from ProMISeCore.segmenter import Segmenter
from ProMISeCore.truth import UNKNOWN

_WINDOW = {"mode": "percentile", "low": 0.5, "high": 99.5}


class Plain(Promise):
    """A backbone without a pack: prompts go to it unchanged, and the mask of the highest predicted IoU is its answer.

    Windows and channels are those that teaching proposes for MR volumes.
    """

    def __init__(self, sam: Sam, target: str, orientation: str) -> None:
        backbone = BackboneInfo(sam.name, sam.fingerprint(), sam.side)
        targets = (TargetInfo(target),)
        super().__init__(
            sam, Manifest("plain", backbone, targets, "MR", orientation, _WINDOW, channels="neighbours").check()
        )

    def solve(self, encoded: Encoded, target: str | None = None, *prompts, **named) -> Output:
        """As `Promise.solve`, with the best of the three masks in the place where the method's mask is looked for."""
        output = super().solve(encoded, target, *prompts, **named)
        order = output.iou.argsort(1, descending=True)
        output.iou = output.iou.gather(1, order)
        output.logits = output.logits[torch.arange(len(order))[:, None], order]
        return output


@dataclass
class Sitting:
    """What a reader made of a volume. masks (n, H, W) bool; visited, accepted, painted (n,) bool, of its slices.

    clicks: by kind of action; untouched: slices accepted as they were; before, after: Dice of all visited slices
    together, at first and in the end.
    """

    masks: np.ndarray
    visited: np.ndarray
    accepted: np.ndarray
    painted: np.ndarray
    clicks: Counter = field(default_factory=Counter)
    untouched: int = 0
    before: float = 0.0
    after: float = 0.0

    @property
    def labels(self) -> np.ndarray:
        """What the reader has made sure of (n, H, W) uint8: 1 the target, 0 not, UNKNOWN on all other slices."""
        known = self.accepted | self.painted
        return np.where(known[:, None, None], self.masks, UNKNOWN).astype(np.uint8)

    def entries(self) -> dict[str, Any]:
        """For JSON."""
        count = int(self.visited.sum())
        return {
            "slices": count,
            "untouched": self.untouched,
            "given_up": count - int(self.accepted.sum()),
            "clicks": dict(self.clicks),
            "before": round(self.before, 4),
            "after": round(self.after, 4),
        }


def sit(
    reader: Reader, segmenter: Segmenter, truth: np.ndarray, every: int = 1, most: int = 10, paint: bool = False
) -> Sitting:
    """Correct every `every`-th slice of a volume, `most` clicks on each at most, after which it is given up.

    paint: slices that are given up are then painted by hand, as the truth is; that is in the labels, and not counted.

    truth (n, H, W) bool, of the segmenter's only target on the stack's slices. A model that places no points by itself
    starts from empty slices.
    """
    (target,) = segmenter.targets
    masks, points = first(segmenter)[target]
    visited = np.zeros(len(masks), bool)
    visited[(len(masks) - 1) % every // 2 :: every] = True
    sitting = Sitting(masks, visited, *np.zeros((2, len(masks)), bool))
    sitting.before = scores.dice(masks[visited], truth[visited])
    for n in np.flatnonzero(visited).tolist():
        masks[n], sitting.accepted[n], clicks = _corrected(reader, segmenter, n, truth[n], masks[n], points[n], most)
        sitting.clicks += clicks
        sitting.untouched += set(clicks) == {ACCEPT}
    sitting.after = scores.dice(masks[visited], truth[visited])
    if paint:
        sitting.painted[:] = visited & ~sitting.accepted
        masks[sitting.painted] = truth[sitting.painted]
    return sitting


def first(segmenter: Segmenter) -> dict[str, tuple[np.ndarray, list[Sequence[Point]]]]:
    """Per target, masks (n, H, W) and points of every slice before anybody has clicked.

    No points on empty slices, as in Slicer; without a part that places points, nothing at all.
    """
    targets = segmenter.model.targets
    found = {result.index: result for result in segmenter.segment_volume()} if _places(segmenter) else {}
    made = segmenter.masks()
    started = {}
    for target in targets:
        masks, points = segmenter.stack.canonical(made[target]).copy(), [()] * len(segmenter)
        for n in np.flatnonzero(masks.any((1, 2))).tolist():
            places, labels = found[n].points_rc[target], found[n].labels[target]
            points[n] = tuple(Point(*map(float, rc), bool(label)) for rc, label in zip(places, labels, strict=True))
        started[target] = masks, points
    return started


def _places(segmenter: Segmenter) -> bool:
    return any(target.apm is not None for target in segmenter.model.targets.values())


def _corrected(
    reader: Reader,
    segmenter: Segmenter,
    n: int,
    truth: np.ndarray,
    mask: np.ndarray,
    points: Sequence[Point],
    most: int,
) -> tuple[np.ndarray, bool, Counter]:
    """Slice n as the reader leaves it, whether it is accepted, and the clicks. Accepting is a click of its own."""
    clicks: Counter = Counter()
    while True:
        action = reader.act(truth, mask, points)
        if action.kind == ACCEPT or clicks.total() == most:
            clicks[ACCEPT] += action.kind == ACCEPT
            return mask, action.kind == ACCEPT, clicks
        clicks[action.kind] += 1
        points = action.points
        mask = np.zeros_like(mask) if action.kind == REJECT else solved(segmenter, n, segmenter.targets[0], points)


def solved(segmenter: Segmenter, n: int, target: str, points: Sequence[Point]) -> np.ndarray:
    """The mask that a session in Slicer shows for these points; empty without a positive one."""
    if not any(point.positive for point in points):
        return np.zeros(segmenter.stack.shape[1:], bool)
    points = sorted(points, key=lambda point: not point.positive)  # the session has a list of each kind
    places, labels = [(point.row, point.column) for point in points], [int(point.positive) for point in points]
    placed = segmenter.model.targets[target].apm is not None  # else the slice started empty
    own = [point.own for point in points] if placed else None
    return segmenter.segment_slice(n, target, places, labels, own=own).masks[target]
