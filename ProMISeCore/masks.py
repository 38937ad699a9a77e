"""From logits to masks: cut, opening as published, one target per pixel, the largest piece."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np
from scipy import ndimage

from ProMISeCore.bounds import bounds

#: Of the pixels in pieces with points: a smaller piece is a speck, a larger one may be held by other slices.
_PART = 0.01


def cut(threshold: float) -> float:
    """The logit of a probability threshold, −∞…∞."""
    if threshold <= 0 or threshold >= 1:
        return math.inf if threshold >= 1 else -math.inf
    return math.log(threshold / (1 - threshold))


def opened(mask: np.ndarray, side: int) -> np.ndarray:
    """Morphological opening of (H, W) by a side × side square; the picture's edge erodes nothing, as in OpenCV."""
    square = np.ones((side, side), bool)
    return ndimage.binary_dilation(ndimage.binary_erosion(mask, square, border_value=1), square)


def without_specks(low: np.ndarray, side: int, at: float) -> np.ndarray:
    """Low-resolution logits (s, s) in which what opening removes is mirrored below the cut `at`.

    The published evaluation opens the mask at this resolution (5×5 at 256×256); so do we, before it is enlarged.
    """
    mask = low > at
    removed = mask & ~opened(mask, side)
    return np.where(removed, 2 * at - low, low)


def apart(logits: Mapping[str, np.ndarray], at: float, rivals: Mapping[str, Collection[str]]) -> dict[str, np.ndarray]:
    """Masks (H, W) of logits (H, W) that exceed `at`; of targets that are rivals the one with the highest logit stays.

    rivals: target → those that it never overlaps, which hold for both or for neither. What has given way to one
    target takes nothing from a third.
    """
    open_ = {name: values > at for name, values in logits.items()}
    found = {name: np.zeros_like(mask) for name, mask in open_.items()}
    others = {name: [other for other in logits if other in rivals[name] and other != name] for name in logits}
    while any(mask.any() for mask in open_.values()):
        for name, mask in _highest(logits, open_, others).items():
            found[name] |= mask
            open_[name] &= ~mask
            for other in others[name]:
                open_[other] &= ~mask
    return found


def _highest(
    logits: Mapping[str, np.ndarray], open_: Mapping[str, np.ndarray], others: Mapping[str, Collection[str]]
) -> dict[str, np.ndarray]:
    """Where a target is open and no other open one has a higher logit; of equals, the first."""
    found: dict[str, np.ndarray] = {}
    for name, mask in open_.items():
        highest = mask.copy()
        for other in others[name]:
            highest &= ~open_[other] | (logits[name] >= logits[other])
            if other in found:
                highest &= ~found[other]
        found[name] = highest
    return found


def largest_piece(mask: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    """The largest face-connected piece of `mask` (any dimension), and those with a voxel in `keep` (broadcast)."""
    box = bounds(mask)  # numbering pieces takes twelve bytes a voxel
    inside = mask[box]
    pieces, count = ndimage.label(inside)
    if count < 2:
        return mask
    sizes = np.bincount(pieces[inside], minlength=count + 1)
    kept = sizes == sizes.max()
    kept[np.flatnonzero(kept)[1:]] = False  # of equals, the first
    if keep is not None:
        kept[np.unique(pieces[np.broadcast_to(keep, mask.shape)[box] & inside])] = True
    found = np.zeros_like(mask)
    found[box] = kept[pieces]
    return found


def prompted_pieces(
    mask: np.ndarray, points_rc: np.ndarray, labels: np.ndarray, given: np.ndarray | None = None
) -> np.ndarray:
    """The pieces of (H, W) that hold a positive point or meet the `given` mask; without any, the largest piece.

    points_rc (N, 2) as (row, column), labels (N,) 1 or 0. For single organs: nobody has asked for the other pieces.
    """
    found = asked_pieces(mask, points_rc, labels, given)
    return found if found.any() else largest_piece(mask)


def asked_pieces(
    mask: np.ndarray, points_rc: np.ndarray, labels: np.ndarray, given: np.ndarray | None = None
) -> np.ndarray:
    """Likewise; without any, nothing."""
    asked = np.zeros_like(mask) if given is None else np.asarray(given, bool).copy()
    inside = np.rint(points_rc[labels == 1]).astype(int).reshape(-1, 2)
    rows, columns = inside[((inside >= 0) & (inside < mask.shape)).all(axis=1)].T
    asked[rows, columns] = True
    pieces, _ = ndimage.label(mask)
    return np.isin(pieces, np.unique(pieces[asked & mask]))


def organ_pieces(mask: np.ndarray, points_rc: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of an automatic mask (H, W), what `prompted_pieces` says, and all other pieces that are no specks beside it.

    Of a single organ, pieces that are apart on one slice may hang together in others.
    """
    held = prompted_pieces(mask, points_rc, labels)
    pieces, count = ndimage.label(mask)
    large = np.bincount(pieces.ravel(), minlength=count + 1) >= _PART * held.sum()
    return held | (mask & large[pieces])
