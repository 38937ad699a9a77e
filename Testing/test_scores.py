"""Every score against values worked out by hand on arrays that can be read."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ProMISeCore import scores
from ProMISeCore.errors import InputError

EMPTY = np.zeros((2, 2), bool)
CORNER = np.array([[1, 0], [0, 0]], bool)
TOP = np.array([[1, 1], [0, 0]], bool)
OPPOSITE = np.array([[0, 0], [0, 1]], bool)


@pytest.mark.parametrize(
    ("prediction", "truth", "dice", "iou"),
    [
        (TOP, TOP, 1, 1),
        (TOP, CORNER, 2 / 3, 1 / 2),
        (CORNER, OPPOSITE, 0, 0),
        (EMPTY, EMPTY, 1, 1),
        (CORNER, EMPTY, 0, 0),
        (EMPTY, CORNER, 0, 0),
        (np.array([[0.5, 0.7], [0.49, 0]]), CORNER, 2 / 3, 1 / 2),
    ],
)
def test_overlap(prediction: np.ndarray, truth: np.ndarray, dice: float, iou: float) -> None:
    assert scores.dice(prediction, truth) == pytest.approx(dice)
    assert scores.iou(prediction, truth) == pytest.approx(iou)


def test_mean_absolute_error() -> None:
    assert scores.mae(TOP, CORNER) == 0.25
    assert scores.mae(np.array([[0.9, 0.1], [0.2, 0.0]]), CORNER) == pytest.approx(0.1)


def test_f_beta_weighs_precision() -> None:
    assert scores.f_beta(TOP, CORNER) == pytest.approx(1.3 * 0.5 / (0.3 * 0.5 + 1))  # precision 1/2, recall 1
    assert scores.f_beta(CORNER, TOP) == pytest.approx(1.3 * 0.5 / (0.3 * 1 + 0.5))  # precision 1, recall 1/2
    assert scores.f_beta(EMPTY, EMPTY) == 1
    assert scores.f_beta(CORNER, OPPOSITE) == scores.f_beta(EMPTY, TOP) == scores.f_beta(TOP, EMPTY) == 0


def test_s_measure() -> None:
    assert scores.s_measure(CORNER, CORNER) == pytest.approx(1)
    # Foreground 1. Background: 0, 1, 1, so mean 2/3, deviation √2/3. Each region is one pixel, so their score is 1.
    background = 2 * (2 / 3) / ((2 / 3) ** 2 + 1 + math.sqrt(2) / 3)
    assert scores.s_measure(TOP, CORNER) == pytest.approx(0.5 * (0.25 + 0.75 * background) + 0.5)
    assert scores.s_measure(TOP, EMPTY) == 0.5
    assert scores.s_measure(TOP, ~EMPTY) == 0.5


def test_s_measure_sees_regions() -> None:
    truth = np.zeros((4, 4), bool)
    truth[1:3, 1:3] = True  # centroid after two rows and two columns: four 2×2 quadrants of one corner pixel each
    prediction = truth.copy()
    prediction[1, 1] = False  # upper left quadrant: covariance 0, so its score is 0; the others match
    foreground = 2 * 0.75 / (0.75**2 + 1 + math.sqrt(3) / 4)
    expected = 0.5 * (0.25 * foreground + 0.75) + 0.5 * 0.75
    assert scores.s_measure(prediction, truth) == pytest.approx(expected)


def test_e_measure() -> None:
    assert scores.e_measure(CORNER, CORNER) == pytest.approx(4 / 3)  # the published divisor is one pixel less
    assert scores.e_measure(OPPOSITE, CORNER) == pytest.approx((1 + 1 + 0.04 + 0.04) / 3)
    assert scores.e_measure(TOP, EMPTY) == pytest.approx(2 / 3)
    assert scores.e_measure(TOP, ~EMPTY) == pytest.approx(2 / 3)


def test_e_measure_of_a_map_takes_the_best_threshold() -> None:
    assert scores.e_measure(np.array([[0.3, 0.1], [0.1, 0.1]]), CORNER) == pytest.approx(4 / 3)


def test_surfaces_in_millimetres() -> None:
    a, b = np.zeros((2, 3, 5), bool), np.zeros((2, 3, 5), bool)
    a[0, 0, 0] = b[0, 0, 3] = True
    assert scores.hd95(a, b, (5, 1, 2)) == 6
    assert scores.surface_dice(a, b, (5, 1, 2), tolerance=5.9) == 0
    assert scores.surface_dice(a, b, (5, 1, 2), tolerance=6) == 1
    b[1, 0, 0] = True
    assert scores.hd95(a, b, (5, 1, 2)) == pytest.approx(np.percentile([5, 6], 95))
    assert scores.surface_dice(a, b, (5, 1, 2), tolerance=5) == pytest.approx(2 / 3)


def test_inner_voxels_are_no_surface() -> None:
    block = np.ones((3, 3), bool)
    ring = block.copy()
    ring[1, 1] = False
    assert scores.hd95(block, ring, (1, 1)) == 0
    grown = np.ones((5, 5), bool)
    shrunk = np.zeros((5, 5), bool)
    shrunk[1:4, 1:4] = True
    assert scores.hd95(grown, shrunk, (1, 1)) == pytest.approx(math.sqrt(2))


def test_surfaces_of_empty_masks() -> None:
    assert scores.hd95(EMPTY, EMPTY, (1, 1)) == 0
    assert scores.hd95(EMPTY, CORNER, (1, 1)) == math.inf
    assert scores.surface_dice(EMPTY, EMPTY, (1, 1)) == 1
    assert scores.surface_dice(CORNER, EMPTY, (1, 1)) == 0


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match=r"\(2, 2\).*\(3, 2\)"):
        scores.dice(CORNER, np.zeros((3, 2)))
    with pytest.raises(InputError, match="sigmoid"):
        scores.mae(np.array([[3.0, -2.0], [0, 0]]), CORNER)
    with pytest.raises(InputError, match="2 spacings"):
        scores.hd95(CORNER, TOP, (1, 1, 1))
