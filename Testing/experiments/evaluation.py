"""Dice of many slices at once, pooled over each case, as looks at held-out cases need it."""

from __future__ import annotations

import numpy as np


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
