"""Boxes around masks: no set voxel outside, none of their sides without one, and where they lie."""

from __future__ import annotations

import numpy as np
import pytest

from ProMISeCore.bounds import bounds, of_voxels


def test_bounds_of_a_mask() -> None:
    mask = np.zeros((5, 6), bool)
    assert bounds(mask) == (slice(0, 0), slice(0, 0))
    mask[1, 4] = mask[3, 2] = True
    assert bounds(mask) == (slice(1, 4), slice(2, 5))


@pytest.mark.parametrize("seed", range(20))
def test_all_is_inside_and_every_side_is_touched(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shape = generator.integers(1, 8, generator.integers(1, 5))
    mask = generator.random(shape) < 0.05
    mask[tuple(generator.integers(0, shape))] = True
    box = bounds(mask)
    assert mask[box].sum() == mask.sum()
    for axis in range(mask.ndim):
        assert mask[box].take(0, axis).any() and mask[box].take(-1, axis).any()


def test_an_empty_mask_has_an_empty_box_in_every_dimension() -> None:
    for shape in ((4,), (4, 5), (4, 5, 6), (0, 3)):
        assert np.zeros(shape, bool)[bounds(np.zeros(shape, bool))].size == 0


def test_the_box_of_voxels_holds_their_edges() -> None:
    affine = np.array([[0.0, -3, 0, 10], [2, 0, 0, 20], [0, 0, 4, -30], [0, 0, 0, 1]])
    box = of_voxels([1, 2, 0], [3, 2, 1], affine)
    assert box.size_mm.tolist() == [6, 3, 8]  # 3, 1 and 2 voxels of 2, 3 and 4 mm
    assert box.center_ras.tolist() == [4, 24, -28]  # of I 2, J 2, K 0.5
    assert box.axes_ras.tolist() == [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
