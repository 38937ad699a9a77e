"""How far neighbouring slices have a say in a new pack's results: tried on held-out volumes, or usual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ProMISeCore import scores, truth, volumes
from ProMISeCore.dataset import Task
from ProMISeCore.manifest import MOST_SMOOTHING
from ProMISeCore.pairs import Pair
from ProMISeCore.promise import Promise
from ProMISeCore.segmenter import Segmenter

_MOST_SLICES = 120  # of all volumes together: each is segmented twice
_LEAST_GAIN = 0.002  # Dice
_THIN = 1.5  # times the width of a pixel


def usual_sigma(pairs: Sequence[Pair], task: Task) -> float:
    """The sigma in mm where nothing is held out to try it on: the distance of slices where all are about as thin as
    pixels are wide, so that neighbours show nearly the same, else 0."""
    spacings = [_spacing(pair, task.orientation) for pair in pairs]
    thin = all(between <= _THIN * within for between, within in spacings)
    distances = [between for between, _ in spacings]
    return round(min(float(np.median(distances)), MOST_SMOOTHING), 3) if distances and thin else 0.0


def _spacing(pair: Pair, orientation: str) -> tuple[float, float]:
    """Of slices, and the smaller one within them, in mm; the volume itself is not kept."""
    stack = volumes.Stack(volumes.read(pair.image), orientation)
    return stack.spacing_slice, min(stack.spacing_rc)


def best_sigma(model: Promise, pairs: Sequence[Pair], task: Task, device: str) -> float:
    """The sigma in mm: the distance of slices where that gives a higher Dice on the volumes than none, else 0.

    Volumes beyond `_MOST_SLICES` slices, or with slices too far apart, are not tried; where none is, it is the usual.
    """
    tried, slices, spacings = [], 0, []
    for pair in pairs:
        volume = volumes.read(pair.image)
        stack = volumes.Stack(volume, task.orientation)
        slices += len(stack)
        if slices > _MOST_SLICES:
            break
        tried.append((volume, truth.read(volume, pair.label, task.values, task.unlabelled, stack.slice_axis)))
        spacings.append(stack.spacing_slice)
    if not tried:
        return usual_sigma(pairs, task)
    sigma = float(np.median(spacings))
    if not 0 < sigma <= MOST_SMOOTHING:
        return 0.0
    with_it, without = (
        np.mean([_dice(model, volume, known, one, device) for volume, known in tried]) for one in (sigma, 0.0)
    )
    return round(sigma, 3) if with_it >= without + _LEAST_GAIN else 0.0


def _dice(model: Promise, volume: volumes.Volume, labels: Sequence[np.ndarray], sigma: float, device: str) -> float:
    """Mean Dice of the targets on a volume, where something is known."""
    own = model.manifest
    model.manifest = replace(own, smoothing_mm=sigma)
    try:
        segmenter = Segmenter(model, volume, device)
        for _ in segmenter.segment_volume():
            pass
        found = segmenter.masks()
    finally:
        model.manifest = own
    return float(
        np.mean(
            [
                scores.dice(found[name] & (one != truth.UNKNOWN), one == 1)
                for name, one in zip(found, labels, strict=True)
            ]
        )
    )
