"""Dice of many slices at once: pooled over each case, and on the cases' own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ProMISeCore import masks, scores, volumes
from ProMISeCore.dataset import Task
from ProMISeCore.frame import Frame
from ProMISeCore.pairs import Pair


def pooled_dice(found: np.ndarray, masks: np.ndarray, case: np.ndarray) -> float:
    """Dice of every case and target over all its slices, averaged; 1 where both are empty.

    found, masks (M, T, s, s) bool; case (M,) index of the case each row is of.
    """
    both, total = (found & masks).sum((2, 3)), found.sum((2, 3)) + masks.sum((2, 3))
    scores = []
    for number in np.unique(case):
        overlap, size = both[case == number].sum(0), total[case == number].sum(0)
        scores.append(np.where(size > 0, 2 * overlap / np.maximum(size, 1), 1.0))
    return float(np.mean(scores))


def masks_of(pair: Pair, task: Task) -> tuple[volumes.Stack, np.ndarray]:
    """A case's slices, and the truth (n, T, H, W) bool on their grid."""
    volume, label = volumes.read_pair(pair.image, pair.label)
    stack = volumes.Stack(volume, "image" if volume.picture else task.orientation)
    values = np.array(list(task.values.values()))[None, :, None, None]
    return stack, stack.canonical(label.voxels)[:, None] == values


@dataclass(frozen=True)
class Truth:
    """The labels of cases on their own grid: per case its frame and masks (n, T, H, W) bool."""

    frames: Sequence[Frame]
    masks: Sequence[np.ndarray]

    @classmethod
    def of(cls, cases: Sequence[Pair], task: Task, side: int) -> Truth:
        found = [masks_of(pair, task) for pair in cases]
        frames = [Frame(*stack.shape[1:], side, task.padding, stack.spacing_rc) for stack, _ in found]
        return cls(frames, [masks for _, masks in found])

    def dice(self, logits: np.ndarray) -> np.ndarray:
        """Dice (cases, T) of logits (M, T, s, s) over whole frames, the rows of all cases one after the other.

        Scored on the cases' own grid, over all slices together; of several targets the strongest takes a pixel.
        """
        found, first = [], 0
        for frame, truth in zip(self.frames, self.masks, strict=True):
            rows = torch.from_numpy(np.asarray(logits[first : first + len(truth)], np.float32))
            first += len(truth)
            mask = exclusive(frame.logits(rows).numpy())
            found.append([scores.dice(mask[:, t], truth[:, t]) for t in range(truth.shape[1])])
        return np.array(found)


def exclusive(logits: np.ndarray) -> np.ndarray:
    """Masks (n, T, H, W) of logits (n, T, H, W), each pixel given to the strongest target where that exceeds 0."""
    every = range(logits.shape[1])
    parts = [masks.apart(dict(enumerate(one)), 0.0, dict.fromkeys(every, every)) for one in logits]
    return np.stack([np.stack(list(part.values())) for part in parts])
