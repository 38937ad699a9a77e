"""Many random actions: nothing breaks, nothing piles up, and undo leads back to the start."""

from __future__ import annotations

import numpy as np
import pytest
from desks import Desk, changed


class Monkey:
    """Does random things to a session, each a method's name; always the same for a seed."""

    PROMPTS = ("add", "move", "delete", "box", "propagate")
    REST = ("lock", "release", "undo", "redo", "segment", "cancel", "worst", "edit")
    #: The only ones that such a session has a reason for.
    REFUSALS = ("there is no prompt step", "is empty")

    def __init__(self, d: Desk, seed: int, patience: float = 0.7) -> None:
        """patience: the share of actions whose answers are waited for."""
        self.d, self.random, self.patience = d, np.random.default_rng(seed), patience

    def act(self, names: tuple[str, ...]) -> None:
        from ProMISeSlicerLib.session import SessionError

        try:
            getattr(self, str(self.random.choice(names)))()
        except SessionError as error:
            assert any(refusal in str(error) for refusal in self.REFUSALS), error
        self.pause()

    def pause(self) -> None:
        if self.random.random() < self.patience:
            self.d.settle()

    def add(self) -> None:
        self.d.session.addPoint(self._target(), self._place(), bool(self.random.random() < 0.6))

    def move(self) -> None:
        node = self._points()
        if node.GetNumberOfControlPoints():
            index = int(self.random.integers(node.GetNumberOfControlPoints()))
            node.SetNthControlPointPositionWorld(index, *self._place())

    def delete(self) -> None:
        node = self._points()
        if node.GetNumberOfControlPoints():
            node.RemoveNthControlPoint(int(self.random.integers(node.GetNumberOfControlPoints())))

    def box(self) -> None:
        roi = self.d.session.promptNodes(self._target())[2]
        if roi.GetNumberOfControlPoints():
            roi.SetSize(*np.abs(np.array(roi.GetSize()) * self.random.uniform(0.6, 1.4, 3)))

    def propagate(self) -> None:
        count = None if self.random.random() < 0.3 else int(self.random.integers(1, 4))
        self.d.session.propagate(self._target(), self._slice(), count, int(self.random.integers(-1, 2)))
        self.d.settle()

    def lock(self) -> None:
        self.d.session.lock(self._slice(), self._target())

    def release(self) -> None:
        self.d.session.release(self._slice())

    def undo(self) -> None:
        self.d.session.undo()

    def redo(self) -> None:
        self.d.session.redo()

    def segment(self) -> None:
        self.d.session.segment(self._slice())

    def cancel(self) -> None:
        self.d.session.cancel()

    def worst(self) -> None:
        self.d.session.nextWorstSlice(self._target())

    def edit(self) -> None:
        """By hand, as Segment Editor does: behind the session's back."""
        session, n = self.d.session, self._slice()
        id_ = session.segmentId(self._target())
        mask = session.segments.read(id_, n)
        row, column = self.random.integers(2, 20, 2)
        mask[row : row + 3, column : column + 3] ^= True
        session.segments.write(id_, n, mask)

    def _target(self) -> str:
        return str(self.random.choice(self.d.session.targets))

    def _points(self):
        return self.d.session.promptNodes(self._target())[int(self.random.integers(2))]

    def _slice(self) -> int:
        return int(self.random.integers(len(self.d.session.source)))

    def _place(self) -> np.ndarray:
        count, height, width = self.d.session.grid.shape
        nrc = self.random.uniform([-0.4, 0, 0], [count - 0.6, height - 1, width - 1])
        return self.d.session.source.world([nrc])[0]


class Local(Monkey):
    """Acts on a few slices of a small field, so that targets, steps and answers get into each other's way."""

    SLICES = (4, 7)  # the first, and the one after the last

    def _slice(self) -> int:
        return int(self.random.integers(*self.SLICES))

    def _place(self) -> np.ndarray:
        return self.d.world(self._slice(), *self.random.uniform([10, 6], [22, 34]))


class Field(Local):
    """On all slices, where both targets are, so that masks of one often reach into the other."""

    SLICES = (0, 10)


def places(d: Desk) -> list[tuple]:
    """What every control point looks like, in an order of their own."""
    found = []
    for name in d.session.targets:
        marks = d.session.target(name).readTable().values()
        found += [(name, mark.positive, mark.user, *np.round(mark.nrc, 3)) for mark in marks]
    return sorted(found)


@pytest.mark.parametrize("seed", range(3))
def test_undo_leads_back_to_the_start(desk, seed: int) -> None:
    d = desk("oblique")
    masks, points = d.everything(), places(d)
    monkey = Monkey(d, seed)
    for _ in range(60):
        monkey.act(Monkey.PROMPTS)
    d.settle()
    last = d.everything()
    assert any(changed(masks, last).values())
    steps = 0
    while d.session.canUndo:
        d.session.undo()
        d.settle()
        steps += 1
    assert 5 < steps <= 100
    assert changed(masks, d.everything()) == {"bar": [], "rod": []} and places(d) == points
    while d.session.canRedo:
        d.session.redo()
        d.settle()
    assert changed(last, d.everything()) == {"bar": [], "rod": []}


def test_200_actions_leave_nothing_behind(desk, scene) -> None:
    d = desk()
    monkey = Field(d, 0)
    counts = scene.GetNumberOfNodes(), d.session._watcher.count
    for _ in range(200):
        monkey.act(Monkey.PROMPTS + Monkey.REST)
    d.settle()
    assert (scene.GetNumberOfNodes(), d.session._watcher.count) == counts and not d.session.isClosed
    bar, rod = d.everything().values()
    taken = [n for n in range(len(bar)) if (bar[n] & rod[n]).any()]
    kept = [n for n in taken if all(d.session.target(name).isKept(n) for name in ("bar", "rod"))]
    assert taken == kept, "automatic slices give way; only where both are the user's may they overlap"
    for n in range(len(bar)):
        d.session.release(n, "bar")
    d.session.segment()
    d.settle()
    automatic = np.stack([d.engine.automatic(n).masks["bar"] for n in range(len(bar))])
    rod = d.masks("rod")
    assert (automatic & rod).any() and not (d.masks("bar") & rod).any(), "nor does a pass find what is the other's"
