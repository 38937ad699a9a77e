"""Prompts, undo and redo that do not wait for answers: undoing all of it still leads back, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from desks import Desk, changed, middle
from test_monkey import Local, places

NOTHING = {"bar": [], "rod": []}


class Hasty(Local):
    """Acts on two slices, across both targets, and waits for answers only now and then."""

    ACTIONS = ("add", "add", "move", "delete", "box", "undo", "undo", "redo", "drag")
    SLICES = (4, 6)

    def drag(self) -> None:
        """A point is held while answers to earlier prompts come in and something else is done."""
        node = self._points()
        if node.GetNumberOfControlPoints():
            index = int(self.random.integers(node.GetNumberOfControlPoints()))
            node.InvokeEvent(node.PointStartInteractionEvent)
            node.SetNthControlPointPositionWorld(index, *self._place())
            self.d.settle()
            self.act(("add", "undo", "redo"))
            node.InvokeEvent(node.PointEndInteractionEvent)


def undoAll(d: Desk) -> None:
    while d.session.canUndo:
        d.session.undo()
        d.settle()


def test_undo_to_a_prompt_that_was_never_answered_gives_others_back_first(desk) -> None:
    d = desk()
    before, (row, column) = d.everything(), middle(d, "rod")
    d.move(4, row, column - 4)
    d.session.pump(0)
    d.move(4, row, column + 3)
    d.settle()
    both = d.everything()
    d.session.undo()
    d.settle()
    first = d.everything()
    assert first["bar"][4][row, column - 4] and not (first["bar"][4] & first["rod"][4]).any()
    assert np.array_equal(first["rod"][4], before["rod"][4] & ~first["bar"][4]), "the second prompt has left no mark"
    d.session.redo()
    d.settle()
    assert changed(both, d.everything()) == NOTHING
    undoAll(d)
    assert changed(before, d.everything()) == NOTHING


def test_an_answer_that_comes_during_a_drag_elsewhere_belongs_to_its_own_step(desk) -> None:
    d = desk()
    before = d.everything()
    d.session.addPoint("bar", d.world(4, *middle(d, "rod")), True)
    node = d.session.promptNodes("bar")[0]
    index = d.onSlice(6)[0]
    node.InvokeEvent(node.PointStartInteractionEvent)
    node.SetNthControlPointPositionWorld(index, *d.world(6, 8, 8))
    d.settle()
    node.InvokeEvent(node.PointEndInteractionEvent)
    d.settle()
    assert changed(before, d.everything()) == {"bar": [4, 6], "rod": [4]}
    undoAll(d)
    assert changed(before, d.everything()) == NOTHING


def test_points_that_outrun_each_other_all_refine_what_was_propagated(desk) -> None:
    d = desk()
    d.session.propagate("bar", 4, count=1)
    d.settle()
    before = d.masks()[5].copy()
    for column in (22, 30):
        d.session.addPoint("bar", d.world(5, 26, column), True)
    for action in (lambda: None, d.session.undo, d.session.redo):
        action()
        d.settle()
        assert d.masks()[5][26, 22] and (d.masks()[5] & before).sum() == before.sum()


@pytest.mark.parametrize(("actions", "patience"), [(60, 0.3), (6, 0.1)])
@pytest.mark.parametrize("seed", [2, 3, 5, 101, 164, 171])
def test_hasty_prompts_undo_and_redo_lead_back_to_the_start(desk, seed: int, actions: int, patience: float) -> None:
    d = desk()
    masks, points = d.everything(), places(d)
    monkey = Hasty(d, seed, patience)
    for _ in range(actions):
        monkey.act(Hasty.ACTIONS)
    d.settle()
    undoAll(d)
    assert changed(masks, d.everything()) == NOTHING and places(d) == points
