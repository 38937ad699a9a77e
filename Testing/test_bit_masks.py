"""Masks come back as they were put in, whatever their shape."""

from __future__ import annotations

import numpy as np
import pytest

from ProMISeCore.bit_masks import BitMasks


@pytest.mark.parametrize("shape", [(3, 2, 4), (2, 3, 3), (1, 1, 1), (4, 5, 7)])
def test_masks_come_back(shape: tuple[int, int, int]) -> None:
    masks = np.random.default_rng(0).random(shape) > 0.5
    masks[0] = True
    stack = BitMasks(shape)
    assert stack.is_empty(0) and not stack.whole().any()
    for n, mask in enumerate(masks):
        stack[n] = mask
    np.testing.assert_array_equal(stack.whole(), masks)
    assert stack.whole().dtype == stack[0].dtype == bool
    for n, mask in enumerate(masks):
        np.testing.assert_array_equal(stack[n], mask)
        assert stack.is_empty(n) == (not mask.any())


def test_what_was_read_is_a_copy() -> None:
    stack = BitMasks((1, 2, 2))
    stack[0][:] = True
    stack.whole()[:] = True
    assert stack.is_empty(0)
