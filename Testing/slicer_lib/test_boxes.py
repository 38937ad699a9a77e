"""A box edited where points correct a mask: a new question, whose answer they then correct, one after another."""

from __future__ import annotations

import numpy as np
import pytest
from desks import Desk, changed
from test_base import P1, P2, disc, edited, include, propagated, remove, undoAndRedoAreExact


def resize(d: Desk, *factors: float) -> None:
    roi = d.session.promptNodes("bar")[2]
    roi.SetSize(*(np.array(roi.GetSize()) * factors))
    d.settle()


def shift(d: Desk, slices: float) -> None:
    roi = d.session.promptNodes("bar")[2]
    way = d.world(slices, 0, 0) - d.world(0, 0, 0)
    roi.SetCenter(*(np.array(roi.GetCenter()) + way))
    d.settle()


def boxed(d: Desk, mask: np.ndarray, n: int = 5) -> np.ndarray:
    """What the engine makes of a mask, the automatic points and the box that there is on a slice."""
    marks = [mark for mark in d.session.target("bar").marks(n) if not mark.user]
    points, labels = np.array([mark.nrc[1:] for mark in marks]), np.array([int(mark.positive) for mark in marks])
    box, own = d.session.target("bar").roi.boxes[n], np.zeros(len(marks), bool)
    return d.engine.segmentSlice(n, "bar", points, labels, box, mask, own).masks["bar"]


BEFORE = {"propagated": propagated, "edited": edited}


@pytest.fixture(params=BEFORE)
def clicked(desk, request: pytest.FixtureRequest) -> tuple[Desk, np.ndarray, dict]:
    """Two clicks on a slice that was propagated to or edited; its mask before them, and how all began."""
    d = desk()
    start = d.everything()
    mask = BEFORE[request.param](d)
    if request.param == "edited":
        start = d.everything()
    include(d, P1)
    include(d, P2)
    return d, mask, start


def test_the_box_is_asked_with_and_the_clicks_correct_the_answer(clicked) -> None:
    d, mask, start = clicked
    resize(d, 0.4, 0.4, 1)
    answer = boxed(d, mask)
    assert answer.any() and (answer != mask).any() and not answer[P1] and not answer[P2]
    assert np.array_equal(d.masks()[5], answer | disc(d, *P1) | disc(d, *P2))
    d.session.addPoint("bar", d.world(5, *P1), False)
    d.settle()
    assert np.array_equal(d.masks()[5], (answer | disc(d, *P1) | disc(d, *P2)) & ~disc(d, *P1))
    for place in (P2, P1):
        remove(d, place)
    remaining = d.session.promptNodes("bar")[1]
    remaining.RemoveNthControlPoint(remaining.GetNumberOfControlPoints() - 1)
    d.settle()
    assert np.array_equal(d.masks()[5], answer)
    undoAndRedoAreExact(d, start)


def test_a_box_leaves_locked_slices_as_they_are(desk) -> None:
    d = desk()
    d.session.lock(4)
    before = d.everything()
    resize(d, 0.4, 0.4, 1)
    found = changed(before, d.everything())["bar"]
    assert 4 not in found and {3, 5} <= set(found)


def test_boxes_do_not_pile_up(clicked) -> None:
    """The way to a box says nothing: the mask asked with is always the one that was propagated or edited."""
    d, mask, start = clicked
    resize(d, 0.6, 0.6, 1)
    first = d.masks()[5].copy()
    resize(d, 0.5, 0.5, 1)
    assert d.masks()[5].sum() < first.sum()
    resize(d, 2, 2, 1)
    assert np.array_equal(d.masks()[5], first)
    assert np.array_equal(first, boxed(d, mask) | disc(d, *P1) | disc(d, *P2))
    undoAndRedoAreExact(d, start)


def test_a_box_that_leaves_the_slice_takes_its_answer_with_it(clicked) -> None:
    d, mask, start = clicked
    resize(d, 0.4, 0.4, 0.4)
    assert 5 in d.session.target("bar").roi.boxes and not np.array_equal(d.masks()[5], mask)
    shift(d, 4)
    assert 5 not in d.session.target("bar").roi.boxes
    assert np.array_equal(d.masks()[5], mask | disc(d, *P1) | disc(d, *P2))
    undoAndRedoAreExact(d, start)


def test_one_undo_takes_the_box_back_alone(clicked) -> None:
    d, _, _ = clicked
    before = d.masks()[5].copy()
    resize(d, 0.4, 0.4, 1)
    after = d.masks()[5].copy()
    assert not np.array_equal(before, after)
    d.session.undo()
    d.settle()
    assert np.array_equal(d.masks()[5], before)
    include(d, (28, 12))
    assert np.array_equal(d.masks()[5], before | disc(d, 28, 12)), "no box is asked with any more"
    d.session.undo()
    d.settle()
    resize(d, 0.4, 0.4, 1)
    assert np.array_equal(d.masks()[5], after)


def test_an_edit_by_hand_stands_for_the_box_before_it(clicked) -> None:
    d, _, _ = clicked
    resize(d, 0.4, 0.4, 1)
    mask = d.masks()[5] & ~disc(d, *P1)
    mask[1:4, 1:4] = True
    d.session.segments.write(d.session.segmentId("bar"), 5, mask)
    include(d, (28, 12))
    assert np.array_equal(d.masks()[5], mask | disc(d, 28, 12))
    resize(d, 0.9, 0.9, 1)
    assert not d.masks()[5][2, 2], "the box was edited after it, and leaves that out"
    assert d.masks()[5][28, 12]


def test_what_is_shown_while_the_box_is_dragged_is_what_stays(clicked) -> None:
    d, _, _ = clicked
    d.session.currentSlice = 5
    roi = d.session.promptNodes("bar")[2]
    before = d.masks()[5].copy()
    roi.InvokeEvent(roi.PointStartInteractionEvent)
    for factor in (0.8, 0.5):
        resize(d, factor, factor, 1)
    shown = d.masks()[5].copy()
    assert not np.array_equal(shown, before) and shown[P1] and shown[P2]
    roi.InvokeEvent(roi.PointEndInteractionEvent)
    d.settle()
    assert np.array_equal(d.masks()[5], shown)
    d.session.undo()
    d.settle()
    assert np.array_equal(d.masks()[5], before)


def test_clicks_before_an_edit_by_hand_ask_with_the_box_and_correct_nothing(desk) -> None:
    d = desk()
    include(d, P1)
    d.session.segments.write(d.session.segmentId("bar"), 5, d.masks()[5] | disc(d, *P2))
    asked, solve = {}, d.engine.segmentSlice

    def watched(n, target, points, labels, box, mask, own):
        asked[n] = own
        return solve(n, target, points, labels, box, mask, own)

    d.engine.segmentSlice = watched
    resize(d, 0.4, 0.4, 1)
    assert len(asked[5]) == 3 and not any(asked[5])
    include(d, (28, 12))
    assert asked[5].tolist() == [False, False, False, True]


def test_on_an_erased_slice_the_box_and_the_clicks_after_it_are_the_question(desk) -> None:
    d = desk()
    d.session.segments.write(d.session.segmentId("bar"), 5, np.zeros(d.masks().shape[1:], bool))
    place = (16, 13)
    include(d, place)
    assert np.array_equal(d.masks()[5], disc(d, *place))
    resize(d, 0.4, 0.4, 1)
    assert 0 < d.masks()[5].sum() < disc(d, *place).sum() and d.masks()[5][place]
    d.session.undo()
    d.settle()
    assert np.array_equal(d.masks()[5], disc(d, *place))
