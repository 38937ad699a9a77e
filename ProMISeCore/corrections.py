"""A person's clicks on a mask: each is obeyed, and changes only what it belongs to.

A click asks the decoder first: of what its new answer changes, the connected piece that holds the click is taken over
(Chen et al., FocalClick, CVPR 2022); the rest of the mask stays. Where the decoder does not obey, the mask is bent
locally: people click into the middle of what is wrong, so the way from the click to the mask's border is also about
the way to where the border should be. It is bent less where the picture looks different from the place of the click.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

_NEAR = 3.0  # a piece is taken over up to this many times the click's depth from it
_LEAST_NEAR = 6.0  # pixels
_BENT = 1.5  # depths by which the border is moved at one depth from the click
_SEEN = 3.0  # depths from the click beyond which nothing is bent
_FLOOR = 2.0  # depths outside the mask below which all is equally far
_SHARE = 0.6  # of the mask's radius, if it were a disc: no click bends more
_LEAST_SHARE = 1 / 32  # of the slice's longer side, where the mask is small or empty
_LEAST_CRUMB = 16.0  # pixels
_CRUMB, _CRUMB_SHARE = 1 / 4, 1 / 3  # of the depth squared, and of the change
_UNLIKE = 1.0  # how much farther a place is that differs from the click's by one deviation
_LEAST_DEVIATION = 4.0  # of 255: less is noise
_CELLS = 32  # along half a window: larger ones are looked at more coarsely


class Click(NamedTuple):
    """A person's control point on a slice: the pixel, whether it marks the target or what is not, and its exact place,
    as the decoder takes it."""

    row: int
    column: int
    positive: bool
    exact: tuple[float, float] | None = None

    @property
    def pixel(self) -> tuple[int, int]:
        return self.row, self.column

    def within(self, shape: tuple[int, int]) -> bool:
        return 0 <= self.row < shape[0] and 0 <= self.column < shape[1]


class Chain:
    """The masks after each of a row of clicks. The next row goes on from where it is like the last one.

    What it answers depends on the prompts alone: all that is kept could be computed again.
    """

    def __init__(self) -> None:
        self._place: Hashable = None
        self._clicks: list[Click] = []
        self._masks: list[np.ndarray] = []

    def follow(
        self,
        place: Hashable,
        clicks: Sequence[Click],
        start: Callable[[], np.ndarray],
        answer: Callable[[int], np.ndarray],
        picture: np.ndarray,
    ) -> np.ndarray:
        """The mask (H, W) bool after all clicks, in their order; those beside the slice do nothing.

        place: all that `start`, the mask before the clicks, depends on; answer(count): the decoder's mask with the
        first `count` clicks, asked for where they change something; picture (H, W, C) 0…255.
        """
        if place != self._place:
            self._place, self._clicks, self._masks = place, [], [start()]
        same = 0
        while same < min(len(clicks), len(self._clicks)) and clicks[same] == self._clicks[same]:
            same += 1
        self._clicks, self._masks = list(clicks[:same]), self._masks[: same + 1]
        for click in clicks[same:]:
            mask = self._masks[-1]
            if click.within(mask.shape) and mask[click.pixel] != click.positive:
                earlier = [other for other in self._clicks if other.within(mask.shape)]
                mask = corrected(mask, click, earlier, answer(len(self._clicks) + 1), picture)
            self._clicks.append(click)
            self._masks.append(mask)
        return self._masks[-1]


def clicks(points_rc: np.ndarray, labels: np.ndarray) -> list[Click]:
    """Points (N, 2) as (row, column) with labels (N,) 1 or 0, on the nearest pixels."""
    pixels, places = np.rint(points_rc).astype(int).tolist(), np.asarray(points_rc, float).tolist()
    return [
        Click(row, column, bool(label), tuple(place))
        for (row, column), label, place in zip(pixels, labels, places, strict=True)
    ]


def corrected(
    mask: np.ndarray, click: Click, earlier: Sequence[Click], answer: np.ndarray, picture: np.ndarray
) -> np.ndarray:
    """The mask (H, W) bool after one more click, which it obeys, as it goes on to obey the earlier ones.

    answer: the decoder's mask (H, W) bool with this click and the earlier ones; picture (H, W, C) 0…255. Of clicks on
    one pixel, the last counts.
    """
    if mask[click.pixel] == click.positive:
        return mask
    against = [other for other in earlier if other.positive != click.positive and other.pixel != click.pixel]
    if answer[click.pixel] == click.positive:
        near = _away(mask.shape, click) <= max(_LEAST_NEAR, _NEAR * _depth(mask, click))
        change = _holding(click, (mask != click.positive) & (answer == click.positive) & near)
    else:
        change = _bend(mask, click, picture)
    if any(change[other.pixel] for other in against):
        change = _holding(click, change & _nearer(mask.shape, click, against))
    changed = mask.copy()
    changed[change] = click.positive
    changed[_crumbs(changed, change, _depth(mask, click), click, against, answer)] = click.positive
    return changed


def without(mask: np.ndarray, taken: Sequence[Click], answer: np.ndarray, kept: Sequence[Click] = ()) -> np.ndarray:
    """The mask (H, W) bool after points were taken away: where one was obeyed and the decoder's answer (H, W) bool to
    those that are left says otherwise, the connected piece of what this answer changes; the rest stays.

    kept: a person's points; one of the same sign in such a piece keeps it, as where a point was moved a little.
    """
    left = mask.copy()
    for click in taken:
        if click.within(mask.shape) and mask[click.pixel] == click.positive != answer[click.pixel]:
            piece = _holding(click, (mask == click.positive) & (answer != click.positive))
            if not any(c.positive == click.positive and c.within(mask.shape) and piece[c.pixel] for c in kept):
                left[piece] = not click.positive
    return left


def agreeing(logits: np.ndarray, mask: np.ndarray, cut: float) -> np.ndarray:
    """Logits (H, W) mirrored at the cut wherever the mask says otherwise than they do."""
    above = np.maximum(2 * cut - logits, np.nextafter(np.float32(cut), np.float32(np.inf)))
    return np.where((logits > cut) == mask, logits, np.where(mask, above, 2 * cut - logits)).astype(np.float32)


def _crumbs(
    changed: np.ndarray, change: np.ndarray, depth: float, click: Click, against: Sequence[Click], answer: np.ndarray
) -> np.ndarray:
    """Where (H, W) bool a change leaves pieces beside it that are smaller than it and no click is in: they go with it.

    What is larger than a small part of the change, or of the click's depth squared, may be meant, a cavity or an
    island: it goes only where the decoder's answer (H, W) bool says so for most of it.
    """
    most = max(_LEAST_CRUMB, min(_CRUMB * depth**2, _CRUMB_SHARE * float(change.sum())))
    pieces, count = ndimage.label(changed != click.positive)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    beside = np.unique(pieces[ndimage.binary_dilation(change)])
    kept = {0, 1 + int(sizes[1:].argmax()) if count else 0, *(int(pieces[other.pixel]) for other in against)}
    agreed = np.bincount(pieces.ravel(), answer.ravel() == click.positive, count + 1)
    gone = [
        piece
        for piece in beside.tolist()
        if piece not in kept and (sizes[piece] <= most or sizes[piece] < min(change.sum(), 2 * agreed[piece]))
    ]
    return np.isin(pieces, gone)


def _holding(click: Click, region: np.ndarray) -> np.ndarray:
    """The face-connected piece of a region (H, W) that holds the click."""
    pieces, _ = ndimage.label(region)
    return pieces == pieces[click.pixel]


def _bend(mask: np.ndarray, click: Click, picture: np.ndarray) -> np.ndarray:
    """Where the mask changes (H, W) bool as its signed distance is raised, or lowered, by a bell around the click."""
    sign = 1 if click.positive else -1
    area = mask.sum() if click.positive else mask.size - mask.sum()
    most = max(3.0, _LEAST_SHARE * max(mask.shape), _SHARE * float(np.sqrt(area / np.pi)))
    depth = min(_depth(mask, click), most)
    window, centre = _window(mask.shape, click, int(np.ceil((_SEEN + _FLOOR) * depth)))
    inside = np.maximum(sign * _signed(mask[window]), -_FLOOR * depth)  # of what the click wants more of
    way = _way(picture[window], centre, depth)
    bell = np.exp(-0.5 * (way / depth) ** 2)
    height = max(_BENT * depth * np.exp(0.5), 0.5 - inside[centre])
    change = np.zeros_like(mask)
    change[window] = (inside + height * bell > 0) & (inside <= 0) & (way <= _SEEN * depth)
    return _holding(click, change)


def _depth(mask: np.ndarray, click: Click) -> float:
    """Pixels from the click to the mask, or out of it: the nearest pixel that is as the click wants it."""
    rows, columns = np.nonzero(mask == click.positive)
    if not len(rows):
        return float(max(mask.shape))
    return float(np.sqrt(((rows - click.row) ** 2 + (columns - click.column) ** 2).min()))


def _signed(mask: np.ndarray) -> np.ndarray:
    """Pixels to the mask's border, positive inside; far where there is no border."""
    far = float(sum(mask.shape))
    if mask.all() or not mask.any():
        return np.where(mask, far, -far)
    return np.where(mask, ndimage.distance_transform_edt(mask) - 0.5, 0.5 - ndimage.distance_transform_edt(~mask))


def _way(picture: np.ndarray, centre: tuple[int, int], depth: float) -> np.ndarray:
    """Pixels (H, W) from the centre along the quickest way, which is slow where the picture is unlike the centre."""
    step = max(1, round(max(picture.shape[:2]) / (2 * _CELLS)))
    smooth = ndimage.uniform_filter(picture, (step, step, 1)) if step > 1 else picture
    at = int(max(1, depth / 3))
    rows, columns = (slice(max(0, place - at), place + at + 1) for place in centre)
    unlike = ((smooth - picture[rows, columns].mean((0, 1))) ** 2).mean(-1)
    deviation = max(float(picture.var((0, 1)).mean()), _LEAST_DEVIATION**2)
    first = tuple(place % step for place in centre)
    speed = 1 / (1 + _UNLIKE * unlike[first[0] :: step, first[1] :: step] / deviation)
    march = sitk.FastMarchingImageFilter()
    march.SetTrialPoints([tuple(place // step for place in centre[::-1])])
    image = sitk.GetImageFromArray(speed.astype(np.float64))
    image.SetSpacing((step, step))
    times = sitk.GetArrayFromImage(march.Execute(image))
    times = np.minimum(times, float(sum(picture.shape[:2])))  # cells that were not reached
    if step == 1:
        return times
    rows, columns = ((np.arange(side) - start) / step for side, start in zip(picture.shape, first, strict=False))
    return ndimage.map_coordinates(times, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")


def _window(shape: tuple[int, int], click: Click, reach: int) -> tuple[tuple[slice, slice], tuple[int, int]]:
    """The part of a slice up to `reach` pixels from the click, and where the click is in it."""
    starts = [max(0, place - reach) for place in click.pixel]
    window = tuple(
        slice(start, min(side, place + reach + 1))
        for start, place, side in zip(starts, click.pixel, shape, strict=True)
    )
    return window, (click.row - starts[0], click.column - starts[1])


def _away(shape: tuple[int, int], click: Click) -> np.ndarray:
    """Pixels (H, W) from the click."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(rows - click.row, columns - click.column)


def _nearer(shape: tuple[int, int], click: Click, others: Sequence[Click]) -> np.ndarray:
    """Where (H, W) bool the click is nearer than all the others."""
    found, away = np.ones(shape, bool), _away(shape, click)
    for other in others:
        found &= away < _away(shape, other)
    return found
