"""A session on the real engine: ProMISeCore with a tiny model of random weights, in files as a user has them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from desks import Desk, addVolume, changed

absent = [name for name in ("torch", "segment_anything", "safetensors") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")


@pytest.fixture
def core(scene, weights, tmp_path) -> Iterator[Callable[[], Desk]]:
    """`core()`: a session on the real engine, segmented."""
    from ProMISeSlicerLib.engine import CoreEngine
    from ProMISeSlicerLib.session import Session

    made = []

    def make() -> Desk:
        _, pack, _, backbone, *_ = weights(("a", "b"))
        engine = CoreEngine(pack, "cpu", tmp_path / "cache", backbone=backbone)
        made.append(Desk(Session(addVolume("plain"), pack, engine=engine), engine))
        made[-1].session.segment()
        return made[-1].settle(120)

    yield make
    for each in made:
        each.session.close()


def test_what_is_shown_while_an_automatic_point_is_dragged_is_what_stays(core) -> None:
    d = core()
    node, index = d.session.promptNodes("a")[1], d.onSlice(4, "a", positive=False)[0]
    before = d.masks("a")[4].copy()
    node.InvokeEvent(node.PointStartInteractionEvent)
    for column in (12, 14):
        node.SetNthControlPointPositionWorld(index, *d.world(4, 16, column))
        d.settle()
    shown = d.masks("a")[4].copy()
    assert (shown != before).any() and not d.session.canUndo
    node.InvokeEvent(node.PointEndInteractionEvent)
    d.settle()
    assert d.session.canUndo and np.array_equal(d.masks("a")[4], shown)


@pytest.mark.parametrize("how", ["propagated", "edited"])
def test_deleting_clicks_leads_back_to_the_mask_they_corrected(core, how: str) -> None:
    d = core()
    node, session = d.session.promptNodes("a")[1], d.session
    if how == "edited":
        mask = np.indices((32, 40)).sum(0) % 40 < 25
        session.segments.write(session.segmentId("a"), 5, mask)
    else:
        session.addPoint("a", d.world(4, 16, 12), False)
        d.settle(60)
        session.propagate("a", 4, count=1, direction=1)
        d.settle(60)
    mask, seen = d.masks("a")[5].copy(), []
    assert mask.any()
    inside = np.argwhere(mask)
    places = [d.world(5, *inside[len(inside) // part]) for part in (5, 2)]
    for place in places:
        session.addPoint("a", place, False)
        d.settle(60)
        seen.append(d.masks("a")[5].copy())
    assert (seen[0] != mask).any() and (seen[1] != seen[0]).any()
    node.RemoveNthControlPoint(node.GetNumberOfControlPoints() - 2)
    d.settle(60)
    left = d.masks("a")[5].copy()
    assert (left != seen[1]).any() and not left[tuple(inside[len(inside) // 2])]
    node.RemoveNthControlPoint(node.GetNumberOfControlPoints() - 1)
    d.settle(60)
    assert np.array_equal(d.masks("a")[5], mask)
    for _ in range(2):
        session.undo()
        d.settle(60)
    assert np.array_equal(d.masks("a")[5], seen[1])


def test_segment_prompt_save_and_go_on(scene, weights, tmp_path) -> None:
    import slicer
    from ProMISeSlicerLib.engine import CoreEngine
    from ProMISeSlicerLib.session import Session

    _, pack, _, backbone, *_ = weights(("a", "b"))

    def engine():
        return CoreEngine(pack, "cpu", tmp_path / "cache", backbone=backbone)

    d = Desk(Session(addVolume("oblique"), pack, engine=engine()), None)
    d.session.segment(3)
    d.settle(120)
    assert d.session.progress[:2] == (10, 10)
    before = d.everything()
    d.session.addPoint("a", d.world(4, 8, 9), True)
    d.settle(60)
    assert not changed(before, d.everything())["b"] and set(changed(before, d.everything())["a"]) <= {4}
    points = [mark for mark in d.session.target("a").table.values() if mark.slice == 4]
    rc, signs = [mark.nrc[1:] for mark in points], [int(mark.positive) for mark in points]
    own = [mark.user for mark in points]
    assert sum(own) == 1, "the session tells its user's points from automatic ones"
    answer = d.session.engine.segmentSlice(4, "a", rc, signs, own=own)
    assert np.array_equal(d.masks("a")[4], answer.masks["a"]) and d.masks("a")[4][8, 9]
    saved = d.everything()
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"), None)
    slicer.mrmlScene.Clear(0)
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    d.session = Session.fromScene(None, engine(), pack)
    assert not changed(saved, d.everything())["a"]
    d.session.addPoint("b", d.world(5, 8, 9), True)
    d.settle(60)
    assert d.session.engine._segmenter.encoded == 0, "the embedding came from the cache"
    d.session.release(4)
    d.session.segment()
    d.settle(120)
    assert not changed(before, d.everything())["a"]
    d.session.close()


def test_a_box_edited_while_clicks_correct_what_was_edited_is_a_new_question(core) -> None:
    d = core()
    session, (roi, negative) = d.session, (d.session.promptNodes("a")[2], d.session.promptNodes("a")[1])
    mask = np.indices((32, 40)).sum(0) % 40 < 25
    session.segments.write(session.segmentId("a"), 5, mask)
    inside = np.argwhere(mask)
    clicked = [tuple(inside[len(inside) // part].tolist()) for part in (5, 2)]
    for place in clicked:
        session.addPoint("a", d.world(5, *place), False)
        d.settle(60)
    before = d.masks("a")[5].copy()
    roi.SetSize(*(np.array(roi.GetSize()) * (0.5, 0.5, 1)))
    d.settle(60)
    after = d.masks("a")[5].copy()
    assert (after != before).any() and not any(after[place] for place in clicked)
    session.undo()
    assert np.array_equal(d.masks("a")[5], before)
    session.redo()
    assert np.array_equal(d.masks("a")[5], after)
    for index in reversed(d.onSlice(5, "a", positive=False)):
        if negative.GetNthControlPointDescription(index) == "user":
            negative.RemoveNthControlPoint(index)
    d.settle(60)
    marks, box = session.target("a").marks(5), session.target("a").roi.boxes[5]
    points, labels = [mark.nrc[1:] for mark in marks], [int(mark.positive) for mark in marks]
    answer = d.engine.segmentSlice(5, "a", points, labels, box, mask, [False] * len(marks)).masks["a"]
    assert (answer != mask).any() and np.array_equal(d.masks("a")[5], answer)


@pytest.mark.parametrize("how", ["automatic", "edited"])
def test_what_is_asked_after_loading_has_the_same_answer_bit_for_bit(
    scene, weights, tmp_path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer
    from ProMISeSlicerLib.engine import CoreEngine
    from ProMISeSlicerLib.session import Session
    from ProMISeSlicerLib.target import Target

    _, pack, _, backbone, *_ = weights(("a", "b"))

    def engine(folder: str) -> CoreEngine:
        return CoreEngine(pack, "cpu", tmp_path / folder, backbone=backbone)

    def again() -> np.ndarray:
        d.session.addPoint("a", d.world(5, 30.4, 3.7), not d.masks("a")[5][30, 4])
        return d.settle(60).masks("a")[5].copy()

    d = Desk(Session(addVolume("oblique"), pack, engine=engine("first")), None)
    d.session.segment()
    d.settle(120)
    if how == "edited":
        mask = np.indices((32, 40)).sum(0) % 40 < 25
        d.session.segments.write(d.session.segmentId("a"), 5, mask)
    for row, column, positive in ((12, 14, False), (12, 15.5, True), (13, 14, False), (11, 16, True), (12, 13, False)):
        d.session.addPoint("a", d.world(5, row, column), positive)
        d.settle(60)
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"), None)
    expected = again()
    found = []
    for folder in ("first", "second", "third"):  # with the cache, without it, and without the order
        slicer.mrmlScene.Clear(0)
        assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
        if folder == "third":
            monkeypatch.setattr(Target, "__init__", _without_order(Target.__init__))
        d.session = Session.fromScene(None, engine(folder), pack)
        found.append(again())
        d.session.close()
    assert np.array_equal(found[0], expected) and np.array_equal(found[1], expected)
    assert not np.array_equal(found[2], expected), "the order matters here"


def _without_order(made: Callable) -> Callable:
    return lambda *given: made(*given[:-1], ())


@pytest.mark.parametrize("when", ["before the first job", "before the next frame"])
def test_a_pack_that_was_replaced_is_not_loaded_under_the_one_before(scene, weights, tmp_path, when: str) -> None:
    import slicer
    from ProMISeSlicerLib import packfile
    from ProMISeSlicerLib.engine import CoreEngine
    from ProMISeSlicerLib.session import Session, SessionError

    _, pack, _, backbone, *_ = weights(("a", "b"))
    volume = addVolume("plain")
    engine = CoreEngine(pack, "cpu", tmp_path / "cache", backbone=backbone, sha256=packfile.packFile(pack).sha256)
    d = Desk(Session(volume, pack, engine=engine), engine)
    if when == "before the next frame":
        d.session.segment()
        d.settle(120)
        slicer.util.updateVolumeFromArray(volume, slicer.util.arrayFromVolume(volume)[:, ::-1].copy())
    before = d.masks("a").copy()
    weights(("a", "b"), version="2")
    d.session.segment()
    with pytest.raises(SessionError, match="was replaced or removed after this session began"):
        d.settle(120)
    assert np.array_equal(d.masks("a"), before)
    d.session.close()


def test_a_session_of_a_script_knows_its_pack_again(scene, weights) -> None:
    from ProMISeSlicerLib.session import Session, SessionError

    _, pack, *_ = weights(("a", "b"))
    session = Session(addVolume("plain"), pack)
    weights(("a", "b"), version="2")
    session.segment()
    with pytest.raises(SessionError, match="was replaced or removed"):
        Desk(session, None).settle(60)
    session.close()
