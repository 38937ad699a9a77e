"""What points correct on a slice that was propagated to or edited by hand: that mask, whatever comes and goes."""

from __future__ import annotations

import numpy as np
from desks import Desk, changed
from test_interaction import drag

NOTHING = {"bar": [], "rod": []}
P1, P2 = (26, 22), (26, 32)  # beside the phantom, and each other


def propagated(d: Desk) -> np.ndarray:
    """A prompted slice's mask taken to slice 5, where it is not what is there automatically."""
    d.move(4, 8, 9)
    d.settle()
    automatic = d.masks()[5].copy()
    d.session.propagate("bar", 4, count=1, direction=1)
    d.settle()
    found = d.masks()[5].copy()
    assert d.session.sliceStates("bar")[5]["propagated"] and found[8, 9] and not automatic[8, 9]
    return found


def edited(d: Desk, n: int = 5) -> np.ndarray:
    """A square drawn by hand, and one taken away."""
    id_, mask = d.session.segmentId("bar"), d.masks()[n].copy()
    mask[1:10, 28:37] = True
    mask[16:18, 12:14] = False
    assert (mask != d.masks()[n]).sum() == 85
    d.session.segments.write(id_, n, mask)
    return mask


def include(d: Desk, place: tuple[int, int], n: int = 5) -> None:
    d.session.addPoint("bar", d.world(n, *place), True)
    d.settle()


def remove(d: Desk, place: tuple[int, int], n: int = 5) -> None:
    node = d.session.promptNodes("bar")[0]
    (index,) = [i for i, found in enumerate(d.controlPoints()) if np.allclose(found, (n, *place), atol=0.01)]
    node.RemoveNthControlPoint(index)
    d.settle()


def disc(d: Desk, row: float, column: float) -> np.ndarray:
    """What the fake engine adds for an Include point."""
    from ProMISeSlicerLib.fakeEngine import RADIUS

    rows, columns = np.indices(d.masks().shape[1:])
    return (rows - row) ** 2 + (columns - column) ** 2 <= RADIUS**2


def undoAndRedoAreExact(d: Desk, start: dict) -> None:
    last, count = d.everything(), 0
    while d.session.canUndo:
        d.session.undo()
        d.settle()
        count += 1
    assert changed(start, d.everything()) == NOTHING
    for _ in range(count):
        d.session.redo()
        d.settle()
    assert changed(last, d.everything()) == NOTHING


def test_a_click_on_a_propagated_slice_can_be_moved_and_deleted(desk) -> None:
    d = desk()
    start = d.everything()
    mask = propagated(d)
    iou = d.session.sliceStates("bar")[5]["iou"]
    include(d, P1)
    include(d, P2)
    assert np.array_equal(d.masks()[5], mask | disc(d, *P1) | disc(d, *P2))
    remove(d, P1)
    assert np.array_equal(d.masks()[5], mask | disc(d, *P2)), "as if the first had never been there"
    node = d.session.promptNodes("bar")[0]
    drag(d, node, node.GetNumberOfControlPoints() - 1, [d.world(5, 26, column) for column in (28, 16)])
    assert np.array_equal(d.masks()[5], mask | disc(d, 26, 16)), "nothing is left where it was"
    remove(d, (26, 16))
    assert np.array_equal(d.masks()[5], mask) and d.onSlice(5), "automatic points are left, and decide nothing"
    assert d.session.sliceStates("bar")[5]["iou"] == iou
    undoAndRedoAreExact(d, start)


def test_without_any_points_a_propagated_slice_stays_as_it_was_propagated(desk) -> None:
    d = desk()
    mask = propagated(d)
    include(d, P1)
    for positive in (True, False):
        node = d.session.promptNodes("bar")[0 if positive else 1]
        for index in reversed(d.onSlice(5, positive=positive)):
            node.RemoveNthControlPoint(index)
    d.settle()
    assert not d.onSlice(5) and np.array_equal(d.masks()[5], mask)


def test_a_click_corrects_what_was_edited_by_hand(desk) -> None:
    d = desk()
    mask = edited(d)
    include(d, (5, 32))
    assert np.array_equal(d.masks()[5], mask), "the point was true already"
    include(d, P1)
    assert np.array_equal(d.masks()[5], mask | disc(d, *P1))
    remove(d, P1)
    remove(d, (5, 32))
    assert np.array_equal(d.masks()[5], mask)
    for _ in range(4):
        d.session.undo()
        d.settle()
    assert np.array_equal(d.masks()[5], mask) and not d.session.canUndo


def test_an_edit_by_hand_has_the_last_word_on_the_clicks_before_it(desk) -> None:
    d = desk()
    include(d, P1)
    mask = d.masks()[5] & ~disc(d, *P1)
    d.session.segments.write(d.session.segmentId("bar"), 5, mask)
    asked, solve = [], d.engine.segmentSlice
    d.engine.segmentSlice = lambda *args: asked.append(args) or solve(*args)
    include(d, P2)
    _, _, points, _, _, start, own = asked[-1]
    assert np.array_equal(start, mask)
    assert [tuple(point) for point, isOwn in zip(np.round(points, 3), own, strict=True) if isOwn] == [P2]
    remove(d, P2)
    assert np.array_equal(d.masks()[5], mask)


def test_a_slice_that_was_erased_by_hand_begins_anew(desk) -> None:
    d = desk()
    include(d, P1)
    d.session.segments.write(d.session.segmentId("bar"), 5, np.zeros(d.masks().shape[1:], bool))
    include(d, P2)
    assert np.array_equal(d.masks()[5], disc(d, *P2)), "neither the automatic points nor the click before come back"
    remove(d, P2)
    assert not d.masks()[5].any()


def test_a_pass_keeps_what_a_click_then_corrects(desk) -> None:
    d = desk()
    mask = edited(d)
    d.session.segment()
    d.settle()
    assert np.array_equal(d.masks()[5], mask)
    include(d, P1)
    assert np.array_equal(d.masks()[5], mask | disc(d, *P1))


def test_a_drag_that_passes_through_leaves_a_hand_edit_one(desk) -> None:
    d = desk()
    mask = edited(d)
    node = d.session.promptNodes("bar")[0]
    drag(d, node, d.onSlice(4)[0], [d.world(5, 8, 9), d.world(6, 8, 9)])
    assert np.array_equal(d.masks()[5], mask)
    d.session.segment()
    d.settle()
    assert np.array_equal(d.masks()[5], mask), "it is still known to be the user's"


def test_a_released_slice_is_corrected_as_it_is_and_anew_after_the_next_pass(desk) -> None:
    d = desk()
    before = d.masks()[5].copy()
    mask = propagated(d)
    include(d, P1)
    d.session.release(5)
    include(d, P2)
    assert np.array_equal(d.masks()[5], mask | disc(d, *P1) | disc(d, *P2))
    d.session.release(5)
    d.session.segment()
    d.settle()
    assert np.array_equal(d.masks()[5], before)
    for index in reversed(d.onSlice(5)):
        d.session.promptNodes("bar")[0].RemoveNthControlPoint(index)
    d.settle()
    assert not d.masks()[5].any(), "an automatic slice is what its points say"


def test_a_box_on_a_propagated_slice_makes_the_mask_that_clicks_correct(desk) -> None:
    d = desk()
    start = d.everything()
    mask = propagated(d)
    roi = d.session.promptNodes("bar")[2]
    roi.SetSize(*(np.array(roi.GetSize()) * (0.4, 0.4, 1)))
    d.settle()
    boxed = d.masks()[5].copy()
    assert boxed.any() and (boxed & mask).sum() == boxed.sum() < mask.sum()
    include(d, P1)
    assert np.array_equal(d.masks()[5], boxed | disc(d, *P1))
    remove(d, P1)
    assert np.array_equal(d.masks()[5], boxed)
    undoAndRedoAreExact(d, start)


def test_points_are_asked_with_in_the_order_in_which_they_were_placed(desk) -> None:
    d = desk()
    asked, solve = [], d.engine.segmentSlice
    d.engine.segmentSlice = lambda *args: asked.append(args) or solve(*args)
    for column, positive in ((10, False), (20, True), (30, False), (35, True)):
        d.session.addPoint("bar", d.world(5, 8, column), positive)
        d.settle()
    d.session.undo()
    d.session.undo()
    d.session.redo()
    d.session.redo()
    d.session.addPoint("bar", d.world(5, 8, 38), False)
    d.settle()
    _, _, points, labels, _, _, own = asked[-1]
    placed = [(round(column), label) for (_, column), label in zip(points[own], labels[own], strict=True)]
    assert placed == [(10, 0), (20, 1), (30, 0), (35, 1), (38, 0)]
