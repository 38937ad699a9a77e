"""Dragging, ROIs, propagation, and everything that can happen to a scene while a session is at work."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from desks import GEOMETRIES, Desk, addVolume, changed, manifest, rotation


def drag(d: Desk, node, index: int, path: list, during=None) -> None:
    """As the markups widget does it: start, one modification per mouse move, end."""
    events = type(node)
    node.InvokeEvent(events.PointStartInteractionEvent)
    for ras in path:
        node.SetNthControlPointPositionWorld(index, *ras)
        d.settle()
        if during is not None:
            during()
    node.InvokeEvent(events.PointEndInteractionEvent)
    d.settle()


def test_a_drag_is_shown_at_once_and_is_one_step(desk) -> None:
    d = desk()
    before, seen = d.everything(), []
    positive, _, _ = d.session.promptNodes("bar")
    index = d.onSlice(4)[0]
    path = [d.world(4, 8, column) for column in (10, 14, 18)]
    drag(d, positive, index, path, lambda: seen.append((d.masks()[4].copy(), d.session.canUndo)))
    assert [mask[8, column] for (mask, _), column in zip(seen, (10, 14, 18), strict=True)] == [True] * 3
    assert [undo for _, undo in seen] == [False] * 3 and d.session.canUndo
    assert positive.GetNthControlPointDescription(index) == "user" and positive.GetNthControlPointSelected(index)
    d.session.undo()
    d.settle()
    assert changed(before, d.everything()) == {"bar": [], "rod": []} and not d.session.canUndo


def test_a_drag_across_slices_leaves_those_between_as_they_were(desk) -> None:
    d = desk()
    before = d.everything()
    positive, _, _ = d.session.promptNodes("bar")
    drag(d, positive, d.onSlice(3)[0], [d.world(n, 8, 9) for n in (4, 5, 6)])
    assert changed(before, d.everything()) == {"bar": [3, 6], "rod": []}
    assert not d.masks()[3].any(), "no positive point is left there"
    d.session.undo()
    d.settle()
    assert changed(before, d.everything()) == {"bar": [], "rod": []}


def test_a_point_beside_a_slice_goes_to_the_nearest(desk) -> None:
    d = desk("oblique")
    assert d.session.addPoint("bar", d.world(4.4, 8, 9), True) == 4
    d.settle()
    node = d.session.promptNodes("bar")[0]
    placed = node.GetNthControlPointPositionWorld(node.GetNumberOfControlPoints() - 1)
    assert np.allclose(placed, d.world(4, 8, 9), atol=1e-3)
    assert "nearest slice, 5, 1.0 mm" in d.session.hint


def test_a_point_outside_is_not_used(desk) -> None:
    d = desk()
    before = d.everything()
    assert d.session.addPoint("bar", d.world(4, -30, 9), True) is None
    d.settle()
    assert "outside" in d.session.hint
    assert not changed(before, d.everything())["rod"]


def test_of_a_point_beyond_the_first_slice_nothing_is_left_when_it_is_deleted(desk) -> None:
    d = desk()
    d.session.addPoint("bar", d.world(-3, 8, 8), True)
    d.settle()
    assert d.session.target("bar").deleteLast(0) and not d.session.target("bar").deleteLast(0)


def test_points_without_a_position_are_no_prompts(desk) -> None:
    d = desk()
    node = d.session.promptNodes("bar")[0]
    node.UnsetNthControlPointPosition(node.AddControlPointWorld(*d.world(4, 8, 9)))
    d.settle()
    assert node.GetNumberOfControlPoints() == node.GetNumberOfDefinedControlPoints() + 1
    assert not d.engine.calls and not d.session.canUndo


def test_removing_all_points_empties_the_slices_and_can_be_undone(desk) -> None:
    d = desk()
    before = d.everything()
    d.session.promptNodes("bar")[0].RemoveAllControlPoints()
    d.settle()
    assert not d.masks().any() and not changed(before, d.everything())["rod"]
    d.session.undo()
    d.settle()
    assert changed(before, d.everything()) == {"bar": [], "rod": []}


@pytest.mark.parametrize("geometry", [name for name in GEOMETRIES if name != "single"])
def test_an_edited_roi_is_a_box_on_every_slice_it_crosses(desk, geometry) -> None:
    d = desk(geometry)
    before = d.everything()
    _, _, roi = d.session.promptNodes("rod")
    prompts = d.session.target("rod").prompts
    centre = d.session.source.nrc(prompts.roiCorners().mean(axis=0)[None])[0]
    size = np.array(roi.GetSize())
    roi.SetSize(*(size * 0.5))
    d.settle()
    touched = [n for n in range(len(d.session.grid)) if d.session.sliceStates("rod")[n]["state"] == "user"]
    assert touched == [n for n in range(len(d.session.grid) - 1) if abs(n - centre[0]) <= (len(d.session.grid) - 1) / 4]
    n = touched[len(touched) // 2]
    boxes = d.session.target("rod").roi.boxes
    points = [m for m in d.session.target("rod").table.values() if m.slice == n]
    rc, labels = [m.nrc[1:] for m in points], [int(m.positive) for m in points]
    answer = d.engine.segmentSlice(n, "rod", rc, labels, boxes[n], None)
    assert np.array_equal(d.masks("rod")[n], answer.masks["rod"]) and answer.masks["rod"].any()
    assert not changed(before, d.everything())["bar"]
    assert set(changed(before, d.everything())["rod"]) <= set(touched)
    d.session.undo()
    d.settle()
    assert changed(before, d.everything()) == {"bar": [], "rod": []}
    assert np.allclose(roi.GetSize(), size)


def test_the_cut_of_a_tilted_box() -> None:
    pytest.importorskip("slicer_core", reason="slicer-core is not installed; pip install slicer-core")
    from ProMISeSlicerLib.prompts import crossing

    signs = np.array([[1 if row >> axis & 1 else -1 for axis in range(3)] for row in range(8)])
    upright = signs * (1.5, 4, 6) + (5, 10, 20)
    assert crossing(upright, 20) == {n: (6.0, 14.0, 14.0, 26.0) for n in (4, 5, 6)}
    assert crossing(signs * (0.2, 4, 6) + (5.4, 10, 20), 20) == {5: (6.0, 14.0, 14.0, 26.0)}
    tilted = (signs * (2, 2, 6)) @ rotation(0, 0, 45).T + (5, 10, 20)
    cut = crossing(tilted, 20)
    assert sorted(cut) == [3, 4, 5, 6, 7]
    assert np.allclose(cut[5], (10 - 8**0.5, 14, 10 + 8**0.5, 26))
    assert np.allclose(cut[7], (10 - 0.8284, 14, 10.8284, 26), atol=1e-3)
    assert crossing(upright + (50, 0, 0), 20) == {}


def test_propagation_takes_a_corrected_slice_to_its_neighbours(desk) -> None:
    d = desk()
    d.move(4, 8, 9)
    d.settle()
    d.move(7, 20, 9)
    d.settle()
    corrected, before = d.masks()[4].copy(), d.everything()
    d.session.propagate("bar", 4, count=3)
    d.settle()
    assert changed(before, d.everything())["bar"] == [1, 2, 3, 5, 6], "7 is the user's"
    assert (d.masks()[5] & corrected).sum() > 0.9 * corrected.sum()
    d.session.undo()
    d.settle()
    assert changed(before, d.everything()) == {"bar": [], "rod": []}
    d.session.redo()
    d.settle()
    assert changed(before, d.everything())["bar"] == [1, 2, 3, 5, 6]


def test_a_propagation_ends_where_confidence_falls_to_three_quarters_of_the_first_neighbours() -> None:
    from ProMISeSlicerLib.engine import SliceResult
    from ProMISeSlicerLib.propagation import Propagation

    class Sinking:
        """Less confident from slice to slice: 0.9, 0.8, 0.7, 0.6, of which the last is less than 0.675."""

        def segmentSlice(self, n, target, points, labels, box, mask, own):
            return SliceResult(n, {target: mask}, iou={target: 0.9 - 0.1 * n})

    way = Propagation("a", np.ones((4, 4), bool), [list(range(9))], untilUnsure=True)
    assert [result.index for result in way.results(Sinking())] == [0, 1, 2]


def test_review_finds_the_worst_slice(desk) -> None:
    d = desk()
    states = d.session.sliceStates("rod")
    assert [cell["slice"] for cell in states] == list(range(10)) and {cell["state"] for cell in states} == {"auto"}
    assert states[4]["agreement"] == 1.0 and states[8]["agreement"] == 0.5 and states[4]["iou"] == pytest.approx(0.86)
    visited = [d.session.nextWorstSlice("rod") for _ in range(11)]
    assert visited[:2] == [9, 8] and sorted(visited[:10]) == list(range(10)) and visited[10] == 9
    d.session.lock(9)
    assert d.session.sliceStates("rod")[9]["state"] == "locked"


def test_locked_slices_are_left_out(desk) -> None:
    d = desk(segmented=False)
    d.session.lock(2)
    d.session.segment()
    d.settle()
    assert not d.masks()[2].any() and d.masks()[3].any()
    d.session.release(2, "bar")
    d.session.segment()
    d.settle()
    assert d.masks()[2].any() and not d.masks("rod")[2].any()


def test_the_segment_editors_undo_goes_its_own_way(desk) -> None:
    import slicer

    d = desk()
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(d.session.segmentationNode.GetSegmentation())
    history.SetMaximumNumberOfStates(5)
    before = d.everything()
    history.SaveState()
    d.move(4, 8, 9)
    d.settle()
    moved = d.everything()
    history.RestorePreviousState()
    assert changed(before, d.everything()) == {"bar": [], "rod": []}
    history.RestoreNextState()
    assert changed(moved, d.everything()) == {"bar": [], "rod": []}
    edited = d.masks()[4].copy()
    edited[0, 0] = True
    d.session.segments.write(d.session.segmentId("bar"), 4, edited)
    d.session.undo()
    expected = before["bar"][4].copy()
    expected[0, 0] = True
    assert np.array_equal(d.masks()[4], expected), "the hand edit stays, the prompt step is gone"


def test_surfaces_are_dropped_and_can_be_made_again(desk) -> None:
    d = desk()
    segmentation = d.session.segmentationNode
    segmentation.CreateClosedSurfaceRepresentation()
    d.move(4, 8, 9)
    d.settle()
    assert not segmentation.GetSegmentation().ContainsRepresentation("Closed surface")
    segmentation.CreateClosedSurfaceRepresentation()
    assert segmentation.GetClosedSurfaceInternalRepresentation(d.session.segmentId("bar")).GetNumberOfPoints() > 0


@pytest.mark.parametrize("disaster", ["scene", "volume", "segmentation", "session"])
def test_what_vanishes_in_the_middle_of_a_run_ends_the_session(desk, scene, disaster) -> None:
    from ProMISeSlicerLib.session import SessionError

    d = desk(segmented=False, delay=0.02)
    d.session.segment()
    while d.session.pump().done < 2:
        pass
    if disaster == "scene":
        scene.Clear(0)
    else:
        nodes = {"volume": d.session.volumeNode, "segmentation": d.session.segmentationNode, "session": d.session.node}
        scene.RemoveNode(nodes[disaster])
    assert d.session.isClosed and not d.session.isBusy and d.session.pump() == (0, 0, None)
    with pytest.raises(SessionError, match="has ended"):
        d.session.segment()


def test_removed_prompts_and_segments_are_made_again(desk, scene) -> None:
    d = desk()
    before = d.everything()
    scene.RemoveNode(d.session.promptNodes("bar")[0])
    d.settle()
    assert d.session.promptNodes("bar")[0].GetScene() is scene
    assert changed(before, d.everything()) == {"bar": [], "rod": []}
    segmentation = d.session.segmentationNode.GetSegmentation()
    segmentation.RemoveSegment(d.session.segmentId("bar"))
    d.session.segment()
    d.settle()
    assert changed(before, d.everything()) == {"bar": [], "rod": []}


def test_moving_the_parent_transform_moves_everything_and_decodes_nothing(desk, scene) -> None:
    import slicer
    from ProMISeSlicerLib import mrml

    d = desk()
    before = d.everything()
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(10, 20, 30), [40, 50, 60]
    transform.SetMatrixTransformToParent(mrml.matrixFromArray(matrix))
    d.session.volumeNode.SetAndObserveTransformNodeID(transform.GetID())
    d.settle()
    assert d.session.segmentationNode.GetTransformNodeID() == transform.GetID()
    assert not d.engine.calls and changed(before, d.everything()) == {"bar": [], "rod": []}
    d.move(4, 8, 9)
    d.settle()
    assert changed(before, d.everything()) == {"bar": [4], "rod": []} and d.masks()[4][8, 9]
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(
        d.session.segmentationNode, d.session.segmentId("bar"), d.session.volumeNode
    )
    assert voxels.sum() == d.masks().sum()


def test_a_bent_transform(desk, scene) -> None:
    import vtk

    volume = addVolume()
    bend = vtk.vtkThinPlateSplineTransform()
    bend.SetBasisToR()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for corner in np.ndindex(2, 2, 2):
        source.InsertNextPoint(*(np.array(corner) * 60.0 - 30))
        target.InsertNextPoint(*(np.array(corner) * 60.0 - 30 + np.array([3, -2, 1]) * sum(corner)))
    bend.SetSourceLandmarks(source)
    bend.SetTargetLandmarks(target)
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    transform.SetAndObserveTransformToParent(bend)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    d = desk(volume=volume)
    before = d.everything()
    assert np.abs(d.session.source.nrc(d.session.source.world([[4, 8, 9]])) - (4, 8, 9)).max() < 1e-2
    d.move(4, 8, 9)
    d.settle()
    assert changed(before, d.everything()) == {"bar": [4], "rod": []} and d.masks()[4][8, 9]


def test_a_colour_picture(desk, scene) -> None:
    import slicer

    voxels = np.zeros((1, 30, 40, 3), np.uint8)
    voxels[0, 5:12, 8:20] = 100
    volume = slicer.util.addVolumeFromArray(voxels, nodeClassName="vtkMRMLVectorVolumeNode")
    d = desk(volume=volume)
    assert d.session.grid.shape == (1, 30, 40) and np.array_equal(d.masks()[0], voxels[0, ..., 0] == 100)
    d.session.addPoint("bar", d.world(0, 25, 30), True)
    d.settle()
    assert d.masks()[0][25, 30]


def test_another_frame_of_a_sequence(desk) -> None:
    import slicer

    d = desk()
    voxels = slicer.util.arrayFromVolume(d.session.volumeNode)
    voxels[:] = np.roll(voxels, 4, axis=1)
    slicer.util.arrayFromVolumeModified(d.session.volumeNode)
    d.session.segment()
    d.settle()
    segment = slicer.util.arrayFromSegmentBinaryLabelmap(
        d.session.segmentationNode, d.session.segmentId("bar"), d.session.volumeNode
    )
    assert np.array_equal(segment != 0, voxels == 100)


def test_fifty_targets(desk) -> None:
    names = tuple(f"target {i}" for i in range(50))
    d = desk(targets=names)
    assert d.masks(names[0]).any() and d.masks(names[1]).any() and not d.masks(names[2]).any()
    before = d.everything()
    d.session.addPoint(names[40], d.world(4, 8, 9), True)
    d.settle()
    assert {name: slices for name, slices in changed(before, d.everything()).items() if slices} == {names[40]: [4]}


def test_repeated_runs_leave_nothing_behind(desk, scene) -> None:
    d = desk()
    volume, counts = d.session.volumeNode, []
    for _ in range(3):
        segmentation = d.session.segmentationNode
        d.session.close()
        d = desk(volume=volume, segmentationNode=segmentation)
        counts.append((scene.GetNumberOfNodes(), len(d.onSlice(4)), d.session._watcher.count))
        d.session.close()
    assert len(set(counts)) == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ProMISe")]


def test_two_volumes_at_a_time(desk, scene) -> None:
    from ProMISeSlicerLib.session import Session

    a, b = desk("oblique"), desk("flipped")
    before = b.everything()
    a.move(4, 8, 9)
    a.settle()
    b.settle()
    assert changed(before, b.everything()) == {"bar": [], "rod": []}
    again = Session.fromScene(b.session.segmentationNode, b.engine)
    assert again.node is b.session.node and again.volumeNode is b.session.volumeNode
    again.close()


def test_an_engine_that_fails_says_so_once_and_the_session_lives(desk) -> None:
    from ProMISeSlicerLib.session import SessionError

    d = desk()
    before, solve = d.everything(), d.engine.segmentSlice

    def fails(*args):
        raise ValueError("no such thing")

    d.engine.segmentSlice = fails
    d.move(4, 8, 9)
    with pytest.raises(SessionError, match="no such thing"):
        d.settle()
    d.settle()
    assert changed(before, d.everything()) == {"bar": [], "rod": []}
    d.engine.segmentSlice = solve
    d.move(4, 9, 9)
    d.settle()
    assert d.masks()[4][9, 9]


def test_a_session_without_its_pack_teaches(desk, scene) -> None:
    from ProMISeSlicerLib.session import Session, SessionError

    d = desk()
    d.session.close()
    with pytest.raises(SessionError, match="fake"):
        Session.fromScene(None)
    scene.RemoveNode(d.session.volumeNode)
    with pytest.raises(SessionError, match="volume"):
        Session.fromScene(d.session.node, d.engine)


def test_a_segmentation_on_another_grid_is_refused(scene) -> None:
    import slicer
    from ProMISeSlicerLib.fakeEngine import FakeEngine
    from ProMISeSlicerLib.session import Session, SessionError

    other = slicer.util.addVolumeFromArray(np.zeros((5, 6, 7), np.uint8), np.diag([3.0, 2, 1, 1]))
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(other)
    id_ = segmentation.GetSegmentation().AddEmptySegment("a")
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones((5, 6, 7), np.uint8), segmentation, id_, other)
    with pytest.raises(SessionError, match="another grid"):
        Session(addVolume(), manifest(), segmentation, FakeEngine())
