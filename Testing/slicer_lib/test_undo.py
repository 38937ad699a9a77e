"""Undo and redo are exact, whatever was done and whenever its answers came: random sessions, always the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cranked import Cranked
from desks import Desk, changed
from test_monkey import Local, places

PROMPTS = ("add", "add", "move", "delete", "box", "drag", "propagate", "stop", "undo", "redo")
OWNERSHIP = ("lock", "release", "segment", "cancel", "worst", "outside")
TARGETS = ("bar", "rod", "third")  # of the third there is nothing but what is prompted


class Player(Local):
    """Some answers come between two actions, or none."""

    def __init__(self, d: Desk, seed: int, most: int) -> None:
        """most: turns of the worker's crank between two actions."""
        super().__init__(d, seed)
        self.most = most

    def play(self, actions: tuple[str, ...], count: int) -> None:
        for _ in range(count):
            self.act(actions)

    def pause(self) -> None:
        for _ in range(int(self.random.integers(self.most + 1))):
            self.d.session.pump()

    def undoAll(self) -> int:
        """How many steps there were."""
        count = 0
        while self.d.session.canUndo:
            self.d.session.undo()
            self.pause()
            count += 1
        return count

    def thereAndBack(self) -> None:
        """Undo all, and redo it; what had been undone before stays so."""
        for _ in range(self.undoAll()):
            self.d.session.redo()
            self.pause()

    def drag(self) -> None:
        """A point is held while answers come and something else is done."""
        node = self._points()
        if node.GetNumberOfControlPoints():
            index = int(self.random.integers(node.GetNumberOfControlPoints()))
            node.InvokeEvent(node.PointStartInteractionEvent)
            for _ in range(2):
                if index < node.GetNumberOfControlPoints():
                    node.SetNthControlPointPositionWorld(index, *self._place())
                self.pause()
                self.play(("undo", "redo", "add", "worst", "worst", "worst"), 1)
            node.InvokeEvent(node.PointEndInteractionEvent)

    def propagate(self) -> None:
        """Nobody waits for its end."""
        count = None if self.random.random() < 0.3 else int(self.random.integers(1, 5))
        self.d.session.propagate(self._target(), self._slice(), count, int(self.random.integers(-1, 2)))

    def stop(self) -> None:
        self.d.session.cancel()

    def outside(self) -> None:
        node = self._points()
        if node.GetNumberOfControlPoints():
            index = int(self.random.integers(node.GetNumberOfControlPoints()))
            node.SetNthControlPointPositionWorld(index, *self.d.world(-3, 8, 8))

    def edit(self) -> None:
        """By hand, as Segment Editor does, where prompts are."""
        session, n = self.d.session, self._slice()
        id_ = session.segmentId(self._target())
        mask = session.segments.read(id_, n)
        row, column = self.random.integers([10, 6], [20, 30])
        mask[row : row + 3, column : column + 3] ^= True
        session.segments.write(id_, n, mask)


@pytest.fixture
def cranked(desk, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Desk]:
    """`desk` whose answers come when `pump` is called, one for two calls."""
    monkeypatch.setattr("ProMISeSlicerLib.jobs.Worker", Cranked)
    return desk


def boxes(d: Desk) -> list[tuple]:
    found = []
    for name in d.session.targets:
        prompts = d.session.target(name).prompts
        state = prompts.roiState()
        found.append(state and (np.round(state[0], 6).tolist(), np.round(state[1], 6).tolist(), state[2]))
    return found


def bases(d: Desk) -> list[tuple]:
    """What the next click corrects, where that is not what the prompts alone lead to."""
    found = []
    for name in d.session.targets:
        for n, record in sorted(d.session.target(name).records.items()):
            base = record.get("base")
            earlier = base and sorted(np.round(mark.nrc, 3).tolist() for mark in base.earlier)
            known = base and (base.mask.tobytes(), earlier, base.box and np.round(base.box, 3).tolist())
            found += [(name, n, known)] if record.get("refined") else []
    return found


def everything(d: Desk) -> dict:
    """Masks, prompts and their order on each slice, what they correct, and whose the slices are."""
    masks = {name: np.packbits(mask).tobytes() for name, mask in d.everything().items()}
    for name in d.session.targets:  # hand edits are found when somebody asks
        for n in range(len(d.session.source)):
            d.session.target(name).isUsers(n)
    parts = ("state", "propagated", "iou")
    states = {
        name: [[cell[part] for part in parts] for cell in d.session.sliceStates(name)] for name in d.session.targets
    }
    order = {
        (name, n): [(mark.positive, *np.round(mark.nrc, 3)) for mark in d.session.target(name).marks(n)]
        for name in d.session.targets
        for n in range(len(d.session.source))
    }
    found = {"masks": masks, "points": places(d), "order": order, "boxes": boxes(d), "states": states}
    return found | {"bases": bases(d)}


def different(a: dict, b: dict) -> list[str]:
    return [part for part in a if a[part] != b[part]]


@pytest.mark.parametrize("seed", range(25))
def test_undoing_all_and_redoing_all_changes_nothing(cranked, scene, seed: int) -> None:
    d = cranked(targets=TARGETS[: 2 + seed % 2])
    counts = scene.GetNumberOfNodes(), d.session._watcher.count
    player = Player(d, seed, most=(0, 1, 4, 12)[seed % 4])
    player.play((*PROMPTS, *OWNERSHIP, "edit"), 25)
    d.settle()
    last = everything(d)
    for _ in range(2):  # also the second time, from other moments on
        player.thereAndBack()
        d.settle()
        assert different(last, everything(d)) == []
    assert (scene.GetNumberOfNodes(), d.session._watcher.count) == counts


@pytest.mark.parametrize("seed", range(100, 115))
def test_undoing_all_leads_back_to_the_start(cranked, seed: int) -> None:
    d = cranked(targets=TARGETS[: 2 + seed % 2])
    first = everything(d)
    player = Player(d, seed, most=(0, 1, 4, 12)[seed % 4])
    player.play(PROMPTS, 25)
    player.undoAll()
    d.settle()
    assert different(first, everything(d)) == []


@pytest.mark.parametrize("seed", range(200, 210))
def test_what_was_not_answered_yet_is_shown_again_as_it_was(cranked, seed: int) -> None:
    d = cranked(targets=TARGETS[: 2 + seed % 2])
    player = Player(d, seed, most=2)
    player.play(PROMPTS, 25)
    d.session.cancel()
    d.session.pump(0)
    last, player.most = everything(d), 0
    player.thereAndBack()
    assert different(last, everything(d)) == []


def reached(d: Desk) -> list[int]:
    return [cell["slice"] for cell in d.session.sliceStates("bar") if cell["propagated"]]


def test_undo_stops_a_propagation_and_takes_back_what_it_has_done(cranked) -> None:
    d = cranked()
    first = everything(d)
    d.session.propagate("bar", 2, None, 1)
    for _ in range(5):
        d.session.pump()
    assert reached(d) == [3, 4]
    d.session.undo()
    d.settle()
    assert not d.session.canUndo and different(first, everything(d)) == []
    d.session.redo()
    d.settle()
    assert reached(d) == [3, 4]


def test_undo_before_the_first_slice_of_a_propagation_takes_back_no_prompt(cranked) -> None:
    d = cranked()
    d.move(4, 8, 9)
    d.settle()
    masks, points = d.everything(), places(d)
    d.session.propagate("bar", 4, None, 1)
    d.session.undo()
    d.settle()
    assert changed(masks, d.everything()) == {"bar": [], "rod": []} and places(d) == points
    assert d.session.canUndo and not d.session.canRedo


def test_a_propagation_ends_before_a_slice_that_has_become_the_users(cranked) -> None:
    d = cranked()
    d.session.propagate("bar", 2, None, 1)
    d.session.addPoint("bar", d.world(5, 26, 30), True)
    d.settle()
    assert reached(d) == [3, 4] and d.masks()[5][26, 30]
    d.session.undo()
    assert reached(d) == [3, 4] and not d.masks()[5][26, 30], "the point was the last thing done"
    d.session.undo()
    assert reached(d) == [] and not d.session.canUndo


def test_redo_keeps_what_was_edited_by_hand_between_undo_and_redo(cranked) -> None:
    d = cranked()
    session, id_ = d.session, d.session.segmentId("bar")
    d.move(4, 8, 9)
    d.settle()
    session.undo()
    mask = session.segments.read(id_, 4)
    mask[30, 38] = True
    session.segments.write(id_, 4, mask)
    session.redo()
    assert d.masks()[4][30, 38] and d.masks()[4][8, 9]
    session.undo()
    assert np.array_equal(d.masks()[4], mask)


def test_undo_leaves_a_lock_alone_and_takes_back_a_point_outside(cranked) -> None:
    d = cranked()
    first = places(d)
    assert d.session.addPoint("bar", d.world(-3, 8, 8), True) is None
    d.settle()
    d.session.undo()
    assert places(d) == first
    d.move(4, 8, 9)
    d.session.lock(4, "bar")
    d.session.undo()
    assert d.session.sliceStates("bar")[4]["state"] == "locked"


def test_undo_and_redo_after_the_segment_was_deleted(cranked) -> None:
    """In Segment Editor; the new segment holds what the step took away, and nothing else."""
    d = cranked()
    before = d.masks()[4]
    d.move(4, 8, 9)
    d.settle()
    after = d.masks()[4]
    d.session.segmentationNode.GetSegmentation().RemoveSegment(d.session.segmentId("bar"))
    d.session.undo()
    assert np.array_equal(d.masks()[4], before & ~after) and np.flatnonzero(d.masks().any(axis=(1, 2))).tolist() == [4]
    d.session.redo()
    assert not d.masks().any() and d.session.canUndo
    d.session.segmentationNode.GetSegmentation().RemoveSegment(d.session.segmentId("bar"))
    d.session.segment()
    d.settle()
    assert d.masks()[3].any()


def test_a_step_whose_undo_fails_can_be_undone_again(cranked, monkeypatch) -> None:
    d = cranked()
    before = everything(d)
    d.move(4, 8, 9)
    d.settle()
    for take, isNext in ((d.session.undo, "canUndo"), (d.session.redo, "canRedo")):
        with monkeypatch.context() as patch:
            patch.setattr(d.session.target("bar"), "replacePoints", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                take()
        assert getattr(d.session, isNext)
        take()
    d.session.undo()
    assert different(before, everything(d)) == []


@pytest.mark.parametrize("isSaved", [False, True])
def test_an_answer_that_had_not_come_when_the_session_ended_comes_in_the_next(
    cranked, scene, tmp_path, isSaved
) -> None:
    from ProMISeSlicerLib.fakeEngine import FakeEngine
    from ProMISeSlicerLib.session import Session

    d = cranked()
    place = d.world(4, 26, 30)
    d.session.addPoint("bar", place, True)
    before = d.everything()
    assert not d.masks()[4][26, 30], "the answer has not come"
    if isSaved:
        assert scene.WriteToMRB(str(tmp_path / "scene.mrb"), None)
        scene.Clear(0)
        assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    else:
        d.session.close()
    d.engine = FakeEngine()
    d.session = Session.fromScene(None, d.engine)
    d.settle()
    assert changed(before, d.everything()) == {"bar": [4], "rod": []} and d.masks()[4][26, 30]
    d.session.close()
    d.session = Session.fromScene(None, d.engine)
    assert not d.session.isBusy, "it has come"
