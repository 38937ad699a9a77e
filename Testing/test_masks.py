"""Logits become masks as the manifest says, on arrays that can be read."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from ProMISeCore import masks

SPECK = np.array(
    [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 1],
        [0, 0, 0, 0, 0, 0],
    ],
    bool,
)


def test_cut_is_the_logit() -> None:
    assert masks.cut(0.5) == 0
    assert masks.cut(0.8) == pytest.approx(math.log(4))
    assert masks.cut(0) == -math.inf and masks.cut(1) == math.inf


def test_opening_removes_specks_and_keeps_the_edge() -> None:
    expected = SPECK.copy()
    expected[2, 5] = False
    np.testing.assert_array_equal(masks.opened(SPECK, 3), expected)


def test_specks_fall_below_the_cut() -> None:
    low = np.where(SPECK, 3.0, -3.0)
    without = masks.without_specks(low, 3, at=1.0)
    assert without[2, 5] == -1.0  # 3 mirrored at 1
    assert (without[:3, :3] == 3).all() and (without[3] == -3).all()


def test_the_highest_logit_wins() -> None:
    logits = {"a": np.array([[1.0, 2.0, -1.0]]), "b": np.array([[2.0, 1.0, -2.0]])}
    found = masks.apart(logits, 0, {"a": ["b"], "b": ["a"]})
    assert found["a"].tolist() == [[False, True, False]]
    assert found["b"].tolist() == [[True, False, False]]
    assert masks.apart({}, 0, {}) == {}


def test_only_rivals_exclude_each_other_and_of_equals_the_first_stays() -> None:
    logits = {"a": np.array([[1.0, 1.0]]), "b": np.array([[1.0, 2.0]]), "c": np.array([[3.0, 3.0]])}
    found = masks.apart(logits, 0, {"a": ["b"], "b": ["a"], "c": []})
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "a": [[True, False]],
        "b": [[False, True]],
        "c": [[True, True]],
    }


def test_what_has_given_way_takes_nothing_from_a_third() -> None:
    logits = {"liver": np.array([[1.0]]), "kidney": np.array([[2.0]]), "tumour": np.array([[3.0]])}
    found = masks.apart(logits, 0, {"liver": ["kidney"], "kidney": ["liver", "tumour"], "tumour": ["kidney"]})
    assert {name: bool(mask[0, 0]) for name, mask in found.items()} == {"liver": True, "kidney": False, "tumour": True}


def test_largest_piece() -> None:
    expected = SPECK.copy()
    expected[2, 5] = False
    np.testing.assert_array_equal(masks.largest_piece(SPECK), expected)
    assert not masks.largest_piece(np.zeros((2, 2), bool)).any()


def test_largest_piece_keeps_what_the_user_touched() -> None:
    volume = np.zeros((3, 2, 4), bool)
    volume[0, :, :2] = volume[2, 0, 3] = volume[1, 0, 3] = True
    by_user = np.array([False, False, True])[:, None, None]
    np.testing.assert_array_equal(masks.largest_piece(volume, by_user), volume)
    kept = masks.largest_piece(volume, np.zeros((3, 1, 1), bool))
    assert kept[0, :, :2].all() and not kept[1:].any()


def test_one_of_two_equal_pieces_stays() -> None:
    assert masks.largest_piece(np.array([True, False, True])).tolist() == [True, False, False]


def test_prompted_pieces_are_those_that_were_asked_for() -> None:
    mask = np.zeros((6, 9), bool)
    mask[0:2, 0:2] = mask[0:4, 4:6] = mask[5, 8] = True
    points, labels = np.array([[0.6, 1.2], [2.0, 5.0], [99.0, 0.0]]), np.array([1, 0, 1])
    only = masks.prompted_pieces(mask, points, labels)
    assert only[:2, :2].all() and only.sum() == 4
    given = np.zeros((6, 9), bool)
    given[5, 7:] = True
    both = masks.prompted_pieces(mask, points, labels, given)
    assert both[5, 8] and both.sum() == 5 and given.sum() == 2
    nothing = masks.prompted_pieces(mask, np.zeros((0, 2)), np.zeros(0, int))
    np.testing.assert_array_equal(nothing, masks.largest_piece(mask))


def test_parts_without_points_are_the_organs_unless_they_are_specks_beside_it() -> None:
    mask = np.zeros((20, 40), bool)
    mask[:, :20] = mask[0:2, 30:32] = mask[8:11, 30] = True  # 400 pixels with a point; 4 and 3 without
    found = masks.organ_pieces(mask, np.array([[5.0, 5.0], [8.0, 30.0]]), np.array([1, 0]))
    assert found.sum() == 404 and found[0, 30] and not found[8, 30]
    assert not masks.organ_pieces(np.zeros((4, 4), bool), np.array([[1.0, 1.0]]), np.array([1])).any()


def test_the_largest_piece_is_found_in_any_corner() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        mask = random.random((4, 7, 9)) > 0.7
        pieces, _ = ndimage.label(mask)
        sizes = np.bincount(pieces.ravel())[1:]
        np.testing.assert_array_equal(masks.largest_piece(mask), pieces == 1 + sizes.argmax())
        far = np.zeros((14, 17, 19), bool)
        far[5:9, 10:17, 10:19] = mask
        np.testing.assert_array_equal(masks.largest_piece(far)[5:9, 10:17, 10:19], masks.largest_piece(mask))
        assert masks.largest_piece(far).sum() == sizes.max()
