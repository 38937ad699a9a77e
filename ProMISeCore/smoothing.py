"""How far neighbouring slices have a say in a new pack's results: tried on held-out volumes, or usual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ProMISeCore import scores, truth, volumes
from ProMISeCore.case import Case
from ProMISeCore.dataset import Task
from ProMISeCore.errors import Cancelled
from ProMISeCore.manifest import MOST_SMOOTHING
from ProMISeCore.pairs import Pair
from ProMISeCore.promise import Promise
from ProMISeCore.segmenter import Segmenter

_MOST_SLICES = 120  # of all volumes together: each is segmented twice
_LEAST_GAIN = 0.002  # Dice
_THIN = 1.5  # times the width of a pixel


def usual_sigma(cases: Sequence[Case], task: Task) -> float:
    """The sigma in mm where it is not tried on volumes: the distance of slices where all are about as thin as pixels
    are wide, so that neighbours show nearly the same, else 0."""
    spacings = [_spacing(case, task.orientation) for case in cases]
    thin = all(between <= _THIN * within for between, within in spacings)
    distances = [between for between, _ in spacings]
    return round(min(float(np.median(distances)), MOST_SMOOTHING), 3) if distances and thin else 0.0


def _spacing(case: Case, orientation: str) -> tuple[float, float]:
    """Of slices, and the smaller one within them, in mm; as the survey has found it, the volume is not read again."""
    volume = volumes.Volume(np.broadcast_to(0, case.shape), np.array(case.affine), case.pair.name, case.picture)
    stack = volumes.Stack(volume, orientation)
    return stack.spacing_slice, min(stack.spacing_rc)


def best_sigma(
    model: Promise, pairs: Sequence[Pair], task: Task, device: str, stop: Callable[[], bool] = lambda: False
) -> float | None:
    """The sigma in mm: the distance of slices where that gives a higher Dice on the volumes than none, else 0; None
    where no volume is tried.

    Volumes beyond `_MOST_SLICES` slices are not. Raises Cancelled where `stop()`, asked before every batch, says so.
    """
    tried, slices, spacings = [], 0, []
    for pair in pairs:
        _obey(stop)
        volume = volumes.read(pair.image)
        stack = volumes.Stack(volume, task.orientation)
        slices += len(stack)
        if slices > _MOST_SLICES:
            break
        tried.append((volume, truth.read(volume, pair.label, task.values, task.unlabelled, stack.slice_axis)))
        spacings.append(stack.spacing_slice)
    if not tried:
        return None
    sigma = float(np.median(spacings))
    if not 0 < sigma <= MOST_SMOOTHING:
        return 0.0
    with_it, without = (
        np.mean([_dice(model, volume, known, one, device, stop) for volume, known in tried]) for one in (sigma, 0.0)
    )
    return round(sigma, 3) if with_it >= without + _LEAST_GAIN else 0.0


def _obey(stop: Callable[[], bool]) -> None:
    if stop():
        raise Cancelled("stopped while smoothing was tried: what was learned is kept")


def _dice(
    model: Promise,
    volume: volumes.Volume,
    labels: Sequence[np.ndarray],
    sigma: float,
    device: str,
    stop: Callable[[], bool] = lambda: False,
) -> float:
    """Mean Dice of the targets on a volume, where something is known."""
    own = model.manifest
    model.manifest = replace(own, smoothing_mm=sigma)
    try:
        segmenter = Segmenter(model, volume, device)
        for _ in segmenter.segment_volume(cancel=stop):
            pass
        _obey(stop)
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
