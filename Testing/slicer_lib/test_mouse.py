"""Slicer's real markups widgets under synthetic mouse events: place, drag and delete points, drag an ROI's handle."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from desks import Desk, changed
from offscreen import SliceView, canRender


@pytest.fixture(scope="module")
def renders() -> None:
    if importlib.util.find_spec("slicer_core") is None:
        pytest.skip("slicer-core is not installed; pip install slicer-core")
    if not canRender():
        pytest.skip("nothing renders offscreen here; apt-get install libegl1 libgl1-mesa-dri")


@pytest.fixture
def seen(renders, desk):
    """A session and a view on its slice 4."""
    d = desk()
    view = SliceView(d.session.volumeNode)
    view.show(d.world(4, 16, 20))
    yield d, view
    view.close()


def place(node, persistent: bool = False) -> None:
    import slicer

    slicer.modules.markups.logic().SetActiveList(node)
    slicer.modules.markups.logic().StartPlaceMode(persistent)


def answer(d: Desk, target: str, n: int) -> np.ndarray:
    """What the engine says to the prompts that the scene shows now."""
    points = [mark for mark in d.session.target(target).readTable().values() if mark.slice == n]
    rc, labels = [mark.nrc[1:] for mark in points], [int(mark.positive) for mark in points]
    return d.engine.segmentSlice(n, target, rc, labels, d.session.target(target).roi.boxes.get(n), None).masks[target]


@pytest.mark.parametrize("positive", [True, False])
def test_placing_a_point(seen, positive: bool) -> None:
    d, view = seen
    before = d.everything()
    node = d.session.promptNodes("bar")[0 if positive else 1]
    x, y = view.xy(d.world(4, 25, 30))
    place(node)
    view.move(x - 30, y)
    d.settle()
    assert not d.engine.calls, "the point under the mouse is not placed yet"
    told = []
    d.session.onActivity = lambda: told.append(1)
    for step in range(5):
        view.move(x - 20 + step, y)
    assert told == [], "nor is it news that it follows the mouse"
    d.session.onActivity = None
    view.click(x, y)
    d.settle()
    assert set(changed(before, d.everything())["bar"]) <= {4} and not changed(before, d.everything())["rod"]
    assert np.array_equal(d.masks()[4], answer(d, "bar", 4)) and d.masks()[4][25, 30] == positive
    index = node.GetNumberOfDefinedControlPoints() - 1
    assert np.allclose(node.GetNthControlPointPositionWorld(index), view.ras(round(x), round(y)), atol=1e-3)
    assert node.GetNthControlPointDescription(index) == "user"


def test_points_go_while_another_follows_the_mouse(seen, capfd) -> None:
    import slicer

    d, view = seen
    node = d.session.promptNodes("bar")[0]
    x, y = view.xy(d.world(4, 25, 30))
    place(node, persistent=True)
    for step in range(3):
        view.click(x - 20 * step, y)
        d.settle()
    while d.session.canUndo:
        view.move(x, y + 30)
        d.session.undo()
        d.settle()
    placed = node.GetNumberOfDefinedControlPoints()
    view.click(x, y + 30)
    assert node.GetNumberOfDefinedControlPoints() == placed + 1, "clicks still place points"
    d.settle()
    view.move(x, y)
    d.session.undo()
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    assert node.GetNumberOfControlPoints() == node.GetNumberOfDefinedControlPoints(), "nothing follows the mouse now"
    assert "ERR|" not in "".join(capfd.readouterr())


def test_dragging_a_point(seen) -> None:
    d, view = seen
    before = d.everything()
    node = d.session.promptNodes("bar")[0]
    start = view.xy(node.GetNthControlPointPositionWorld(d.onSlice(4)[0]))
    end = view.xy(d.world(4, 26, 28))
    view.press(*start)
    view.move(*[(a + b) / 2 for a, b in zip(start, end, strict=True)])
    d.settle()
    between = d.masks()[4].copy()
    assert not np.array_equal(between, before["bar"][4]) and not d.session.canUndo
    view.move(*end)
    view.release(*end)
    d.settle()
    assert changed(before, d.everything()) == {"bar": [4], "rod": []} and d.masks()[4][26, 28]
    assert np.array_equal(d.masks()[4], answer(d, "bar", 4)) and not np.array_equal(d.masks()[4], between)
    d.session.undo()
    d.settle()
    assert changed(before, d.everything()) == {"bar": [], "rod": []}


def test_deleting_a_point(seen) -> None:
    d, view = seen
    before = d.everything()
    node = d.session.promptNodes("bar")[0]
    count = node.GetNumberOfControlPoints()
    view.delete(*view.xy(node.GetNthControlPointPositionWorld(d.onSlice(4)[0])))
    d.settle()
    assert node.GetNumberOfControlPoints() == count - 1
    assert changed(before, d.everything()) == {"bar": [4], "rod": []} and not d.masks()[4].any()


def test_dragging_a_handle_of_the_roi(seen) -> None:
    d, view = seen
    before = d.everything()
    d.session.currentSlice = 4
    roi = d.session.promptNodes("rod")[2]
    roi.GetDisplayNode().SetHandlesInteractive(True)
    view.window.Render()
    size, centre = np.array(roi.GetSize()), np.array(roi.GetCenter())
    side = centre - [size[0] / 2, 0, 0]
    start = view.xy(side)
    view.drag(start, (start[0] - 20 * np.sign(start[0] - view.xy(centre)[0]), start[1]))
    d.settle()
    assert roi.GetSize()[0] < size[0] - 0.5
    found = changed(before, d.everything())
    assert found["rod"] and not found["bar"]
    for n in sorted(d.session.target("rod").roi.boxes):
        if d.session.sliceStates("rod")[n]["state"] == "user":
            assert np.array_equal(d.masks("rod")[n], answer(d, "rod", n))
    d.session.undo()
    d.settle()
    assert changed(before, d.everything()) == {"bar": [], "rod": []}
