"""Sessions on real MRML and a fake engine: segment, prompt, undo, lock, save and go on."""

from __future__ import annotations

import numpy as np
import pytest
from desks import GEOMETRIES, addVolume, changed, manifest, phantom


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_segmenting_lands_on_the_right_voxels(desk, geometry) -> None:
    import slicer

    d = desk(geometry)
    voxels = slicer.util.arrayFromVolume(d.session.volumeNode)
    for name, value in (("bar", 100), ("rod", 200)):
        segment = slicer.util.arrayFromSegmentBinaryLabelmap(
            d.session.segmentationNode, d.session.segmentId(name), d.session.volumeNode
        )
        assert np.array_equal(segment != 0, voxels == value)
    assert d.session.progress[:2] == (len(d.session.grid),) * 2


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_automatic_points_lie_on_their_slices_inside(desk, geometry) -> None:
    import slicer

    d = desk(geometry)
    voxels = slicer.util.arrayFromVolume(d.session.volumeNode)
    positive, _, roi = d.session.promptNodes("rod")
    assert positive.GetNumberOfControlPoints() == max(1, len(d.session.grid) - 1)
    from ProMISeSlicerLib import mrml

    for index in range(positive.GetNumberOfControlPoints()):
        ijk = mrml.worldToIjk(d.session.volumeNode, [positive.GetNthControlPointPositionWorld(index)])[0]
        i, j, k = np.rint(ijk).astype(int)
        assert voxels[k, j, i] == 200 and np.abs(ijk - (i, j, k)).max() < 1e-3
        assert positive.GetNthControlPointDescription(index) == "auto"
        assert not positive.GetNthControlPointSelected(index)
    assert roi.GetNumberOfControlPoints() == 1 and min(roi.GetSize()) > 0


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_moving_a_point_changes_exactly_that_slice(desk, geometry) -> None:
    d = desk(geometry)
    n = len(d.session.grid) // 2
    before = d.everything()
    d.move(n, 8, 9)
    d.settle()
    assert changed(before, d.everything()) == {"bar": [n], "rod": []}
    answer = d.engine.segmentSlice(n, "bar", [[8, 9], [0, 0]], [1, 0], None, None).masks["bar"]
    assert np.array_equal(d.masks()[n], answer) and answer.any()
    assert d.session.sliceStates("bar")[n]["state"] == "user"
    d.session.undo()
    assert changed(before, d.everything()) == {"bar": [], "rod": []}
    assert d.session.sliceStates("bar")[n]["state"] == "auto"
    d.session.redo()
    d.settle()
    assert np.array_equal(d.masks()[n], answer)


def test_adding_and_deleting_points(desk) -> None:
    d = desk()
    before = d.everything()
    assert d.session.addPoint("bar", d.world(3, 25, 30), True) == 3
    d.settle()
    assert changed(before, d.everything()) == {"bar": [3], "rod": []}
    assert d.masks()[3][25, 30]
    added = d.everything()
    positive, _, _ = d.session.promptNodes("bar")
    positive.RemoveNthControlPoint(positive.GetNumberOfControlPoints() - 1)
    d.settle()
    assert changed(added, d.everything()) == {"bar": [3], "rod": []} and not d.masks()[3][25, 30]
    d.session.undo()
    d.settle()
    assert changed(added, d.everything()) == {"bar": [], "rod": []}
    d.session.undo()
    d.settle()
    assert changed(before, d.everything()) == {"bar": [], "rod": []} and not d.session.canUndo


def test_a_touched_slice_is_kept_by_the_next_pass_until_released(desk) -> None:
    d = desk()
    before = d.everything()
    d.move(4, 8, 9)
    d.settle()
    moved = d.everything()
    d.session.segment()
    d.settle()
    assert changed(moved, d.everything()) == {"bar": [], "rod": []}
    d.session.release(4)
    d.session.segment()
    d.settle()
    assert changed(before, d.everything()) == {"bar": [], "rod": []}


def test_save_and_go_on(desk, scene, tmp_path) -> None:
    import slicer
    from ProMISeSlicerLib.fakeEngine import FakeEngine
    from ProMISeSlicerLib.session import Session

    d = desk("oblique")
    d.move(4, 8, 9)
    d.settle()
    saved, states = d.everything(), d.session.sliceStates("bar")
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"), None)
    slicer.mrmlScene.Clear(0)
    assert d.session.isClosed
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    d.engine = FakeEngine()
    d.session = Session.fromScene(None, d.engine)
    assert changed(saved, d.everything()) == {"bar": [], "rod": []}
    assert d.session.sliceStates("bar") == states and not d.engine.calls
    d.move(6, 9, 9, "rod")
    d.settle()
    assert changed(saved, d.everything()) == {"bar": [6], "rod": [6]}  # the bar gives way where the rod is now
    d.session.close()


def test_agreement_is_of_the_masks_as_edited_by_hand(desk) -> None:
    """As Segment Editor writes: into the labelmap, without the session being told."""
    import slicer

    d = desk()
    before = [cell["agreement"] for cell in d.session.sliceStates("rod")]
    segmentation, id_ = d.session.segmentationNode, d.session.segmentId("rod")
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, id_, d.session.volumeNode)
    grid = d.session.grid
    masks = grid.fromBlock(voxels.astype(bool))
    masks[4] = False
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        grid.toBlock(masks).astype(np.uint8), segmentation, id_, d.session.volumeNode
    )
    after = [cell["agreement"] for cell in d.session.sliceStates("rod")]
    assert [before[n] for n in (3, 4, 5)] == [1.0, 1.0, 1.0] and [after[n] for n in (3, 4, 5)] == [0.5, 0.0, 0.5]
    assert [after[n] for n in (0, 1, 2, 6, 7, 8, 9)] == [before[n] for n in (0, 1, 2, 6, 7, 8, 9)]


def test_what_the_session_writes_leaves_the_agreement_of_other_slices_known(desk, monkeypatch) -> None:
    d = desk()
    d.session.sliceStates("rod")
    target, read = d.session.target("rod"), []
    monkeypatch.setattr(target.agreement, "_read", lambda n: (read.append(n), target.mask(n))[1])
    target.restore(4, np.zeros_like(target.mask(4)))
    d.session.sliceStates("rod")
    assert set(read) == {4}, "its neighbours are known to hold something, and an empty slice agrees with none"


def test_hand_edits_are_kept(desk) -> None:
    d = desk()
    edited = d.masks()[2]
    edited[:3] = True
    d.session.segments.write(d.session.segmentId("bar"), 2, edited)
    d.session.segment()
    d.settle()
    assert np.array_equal(d.masks()[2], edited) and "by hand" in d.session.hint


def test_specks_go_where_the_pack_says_so_but_never_the_users(desk) -> None:
    import slicer
    from desks import addVolume

    volume = addVolume()
    voxels = slicer.util.arrayFromVolume(volume)
    voxels[6:8] = 0
    voxels[2:4] = 0
    d = desk(volume=volume, largest_component=True)  # slices 4 and 5 hold together, 8 and 9 are a speck and nothing
    assert np.flatnonzero(d.masks().any(axis=(1, 2))).tolist() == [0, 1, 4, 5]
    assert not d.onSlice(8) and d.session.sliceStates("bar")[8]["state"] == "auto"
    d.session.addPoint("bar", d.world(8, 8, 9), True)
    d.settle()
    d.session.segment()
    d.settle()
    assert d.masks()[8].any() and not d.masks("rod")[8].any()


def test_cancel_keeps_what_is_done_first_slice_first(desk) -> None:
    d = desk(segmented=False, delay=0.02)
    d.session.segment(1)
    while d.session.pump().done < 3:
        pass
    d.session.cancel()
    d.settle()
    done = [n for n, cell in enumerate(d.session.sliceStates("bar")) if cell["state"] == "auto"]
    assert {0, 1, 2} <= set(done) and len(done) < 10
    assert np.array_equal(d.masks()[1], phantom((10, 32, 40))[1] == 100)


def test_other_segments_are_untouched(desk) -> None:
    import slicer

    d = desk()
    segmentation = d.session.segmentationNode
    other = segmentation.GetSegmentation().AddEmptySegment("other", "mine", [0, 0, 1])
    everything = np.ones((10, 32, 40), np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(everything, segmentation, other, d.session.volumeNode)
    segmentation.GetSegmentation().CollapseBinaryLabelmaps(False)
    d.move(4, 8, 9)
    d.settle()
    found = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, other, d.session.volumeNode)
    assert np.array_equal(found, everything)


def test_nothing_is_left_behind(scene, desk) -> None:
    d = desk()
    assert d.session._watcher.count > 0
    d.session.close()
    positive = d.session.promptNodes("bar")[0]
    calls = len(d.engine.calls)
    positive.RemoveAllControlPoints()
    assert d.session._watcher.count == 0 and not d.session.isBusy and len(d.engine.calls) == calls
    assert d.session.pump() == (0, 0, None)


def test_prompts_that_were_shown_are_shown_again_also_in_a_scene_saved_between_sessions(desk, scene, tmp_path) -> None:
    from ProMISeSlicerLib.fakeEngine import FakeEngine
    from ProMISeSlicerLib.session import Session

    d = desk()
    d.session.promptNodes("rod")[2].SetDisplayVisibility(False)
    d.session.close()
    nodes = [node for target in d.session.targets for node in d.session.promptNodes(target)]
    assert not any(node.GetDisplayVisibility() for node in nodes)
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"), None)
    scene.Clear(0)
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    session = d.session = Session.fromScene(None, FakeEngine())
    nodes = [node for target in session.targets for node in session.promptNodes(target)]
    assert [bool(node.GetDisplayVisibility()) for node in nodes] == [True] * 5 + [False]


def test_a_session_that_closes_itself_tells_why(desk, scene) -> None:
    told = []
    d = desk()
    d.session.onClosed = told.append
    scene.RemoveNode(d.session.segmentationNode)
    assert d.session.isClosed and "was removed" in str(*told)


@pytest.mark.parametrize("wrong", ["nothing", "constant", "thin", "removed"])
def test_errors_teach(scene, wrong) -> None:
    import slicer
    from ProMISeSlicerLib.fakeEngine import FakeEngine
    from ProMISeSlicerLib.session import Session, SessionError

    volume = None if wrong == "nothing" else addVolume()
    if wrong == "constant":
        slicer.util.arrayFromVolume(volume)[:] = 7
    if wrong == "thin":
        volume = slicer.util.addVolumeFromArray(np.arange(120, dtype=np.int16).reshape(10, 3, 4))
    if wrong == "removed":
        slicer.mrmlScene.RemoveNode(volume)
    said = {"nothing": "choose a volume", "constant": "constant", "thin": "only 3 × 4", "removed": "not in the scene"}
    with pytest.raises(SessionError, match=said[wrong]):
        Session(volume, manifest(), engine=FakeEngine())
