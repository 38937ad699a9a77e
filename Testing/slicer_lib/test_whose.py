"""Whose slices are, after another pack, in copies and files, in a turned volume: never the user's by mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from desks import addVolume, rotation


def theCase(session):
    from ProMISeSlicerLib import cases

    return cases.proposed(session.volumeNode, session.segmentationNode)


def told(case, *targets: str) -> dict[str, np.ndarray]:
    """Target → (K, J, I): 1 the target, 0 not, 255 unknown, as a teaching is told."""
    from ProMISeSlicerLib import cases

    found = cases.masks(case, list(targets), cases.voxels(case))
    nowhere = np.zeros_like(found[targets[0]])
    return {
        name: np.where(found.get(f"{cases.UNKNOWN} {name}", nowhere), 255, found[name]).astype(np.uint8)
        for name in targets
    }


def taught(case, *targets: str) -> dict[str, list[int]]:
    """Target → places along K where anything of it is known."""
    return {name: np.flatnonzero((one != 255).any((1, 2))).tolist() for name, one in told(case, *targets).items()}


def states(d, target: str = "bar") -> list[str]:
    return [cell["state"] for cell in d.session.sliceStates(target)]


def again(desk, d, targets=("bar", "rod"), **more):
    """Another session on the same nodes."""
    d.session.close()
    return desk(targets=targets, volume=d.session.volumeNode, segmentationNode=d.session.segmentationNode, **more)


def turn(d, matrix: np.ndarray) -> None:
    """Put the volume under a transform; the segmentation follows."""
    import slicer
    from ProMISeSlicerLib import mrml

    transform, whole = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode"), np.eye(4)
    whole[:3, :3] = matrix
    transform.SetMatrixTransformToParent(mrml.matrixFromArray(whole))
    d.session.volumeNode.SetAndObserveTransformNodeID(transform.GetID())
    assert d.session.segmentationNode.GetTransformNodeID() == transform.GetID()


def editedBetween(d, target: str, n: int) -> None:
    """By hand, in Segment Editor, while no session is open."""
    d.session.close()
    mask = d.session.segments.read(d.session.segmentId(target), n)
    mask[0, 0] = True
    d.session.segments.write(d.session.segmentId(target), n, mask)


def test_after_a_second_pack_the_first_ones_slices_are_no_ones(desk) -> None:
    first = desk()
    first.session.lock(3, "rod")
    second = again(desk, first, ("lung",))
    second.session.lock(5)
    assert taught(theCase(second.session), "bar", "rod", "lung") == {"bar": [], "rod": [3], "lung": [5]}


def test_a_pack_with_other_targets_knows_what_was_automatic_and_what_was_the_users(desk) -> None:
    """Slice 2 is locked, 5 corrected for `bar`, 7 edited for `rod`. The other pack takes the bars the other way round,
    so that what is automatic changes."""
    first = desk()
    first.session.lock(2)
    first.session.addPoint("bar", first.world(5, 3, 3), True)
    first.settle()
    editedBetween(first, "rod", 7)
    before = first.everything()
    wider = again(desk, first, ("rod", "bar", "extra"))
    assert wider.session.hint == "1 slices were edited by hand and are kept; release them to replace them"
    assert states(wider) == ["auto"] * 2 + ["locked"] + ["auto"] * 2 + ["user"] + ["auto"] * 4
    assert states(wider, "rod") == ["auto"] * 2 + ["locked"] + ["auto"] * 4 + ["user"] + ["auto"] * 2
    after = wider.everything()
    kept = {name: [n for n in range(9) if np.array_equal(after[name][n], before[name][n])] for name in before}
    assert kept == {"bar": [2, 5], "rod": [2, 7]}
    case = theCase(wider.session)
    assert taught(case, "bar", "rod", "extra") == {"bar": [2, 5], "rod": [2, 7], "extra": []}


def test_who_goes_back_to_the_first_pack_finds_what_was_done_with_the_second(desk) -> None:
    first = desk()
    first.session.lock(2)
    wider = again(desk, first, ("rod", "bar", "extra"))
    wider.session.lock(8, "bar")
    wider.session.release(2, "bar")
    wider.session.segment()
    wider.settle()
    back = again(desk, wider, segmented=False)
    assert back.session.node is first.session.node
    assert states(back) == ["auto"] * 8 + ["locked", "auto"]
    assert taught(theCase(back.session), "bar", "rod") == {"bar": [8], "rod": [2]}
    back.session.segment()
    back.settle()
    assert back.session.hint == "" and np.array_equal(back.masks()[4], back.session.source.slices[4] == 100)
    assert taught(theCase(back.session), "bar", "rod") == {"bar": [8], "rod": [2]}


def test_slices_that_another_session_wrote_across_are_no_hand_edits(desk) -> None:
    """The second one's slices are sagittal, and take the bars the other way round."""
    from ProMISeSlicerLib import mrml

    first = desk()
    first.session.lock(3)
    across = again(desk, first, ("rod", "bar"), axis="sagittal")
    assert "slices were filled before" in across.session.hint
    for n in range(40):
        across.session.release(n)
    across.session.segment()
    across.settle()
    back = again(desk, across, segmented=False)
    assert np.array_equal(back.masks()[3], back.session.source.slices[3] == 200)
    assert states(back) == ["auto"] * 10
    with pytest.raises(mrml.GeometryError, match="no slice of 'scan' is yours yet"):
        told(theCase(back.session), "bar", "rod")


def test_who_goes_back_after_a_look_at_another_pack_corrects_the_same_masks(desk) -> None:
    """What the user's points correct is kept where the other pack has changed nothing."""
    from ProMISeSlicerLib.target import BASE

    first = desk()
    editedBetween(first, "bar", 5)
    first = again(desk, first)
    first.session.addPoint("bar", first.world(5, 3, 3), True)
    first.settle()
    corrected = first.session.target("bar").record(5)[BASE].mask
    look = again(desk, first, ("bar", "extra"), segmented=False)
    back = again(desk, look, segmented=False)
    assert np.array_equal(back.session.target("bar").record(5)[BASE].mask, corrected)
    assert states(back).count("user") == 1


def asCopy(node, folder: Path):
    import slicer

    copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "copy")
    copy.Copy(node)
    return copy


def asFile(node, folder: Path):
    import slicer

    read = slicer.vtkMRMLSegmentationNode()
    for each, way in ((node, "WriteData"), (read, "ReadData")):
        storage = slicer.vtkMRMLSegmentationStorageNode()
        slicer.mrmlScene.AddNode(storage)
        storage.SetFileName(str(folder / "x.seg.nrrd"))
        slicer.mrmlScene.AddNode(each)
        assert getattr(storage, way)(each)
    read.CreateDefaultDisplayNodes()
    return read


@pytest.mark.parametrize("brought", [asCopy, asFile])
def test_a_result_without_its_session_is_not_the_users_before_he_says_so(desk, tmp_path, brought) -> None:
    from ProMISeSlicerLib import cases, mrml

    d = desk()
    d.session.lock(4)
    node, volume = brought(d.session.segmentationNode, tmp_path), d.session.volumeNode
    case = cases.proposed(volume, node)
    assert case.slices == cases.MINE and case.isUntold and not theCase(d.session).isUntold
    with pytest.raises(mrml.GeometryError, match="nothing in this scene says which slices are yours: once you have"):
        told(case, "bar", "rod")
    drawn = node.GetSegmentation().AddEmptySegment("", "drawn", [1, 0, 0])
    assert taught(case, "bar", "drawn") == {"bar": [], "drawn": list(range(10))}, drawn
    case.chosen = cases.AS_SEGMENTED
    assert np.array_equal(told(case, "bar")["bar"] == 1, d.session.grid.toBlock(d.masks()))


@pytest.mark.parametrize("brought", [asCopy, asFile])
def test_a_session_keeps_what_it_finds_but_not_as_the_users(desk, tmp_path, brought) -> None:
    d = desk()
    before = d.masks()
    node = brought(d.session.segmentationNode, tmp_path)
    d.session.close()
    found = desk(volume=d.session.volumeNode, segmentationNode=node)
    said = "18 slices were filled before, nothing says whether you looked at them, and are kept; release them"
    assert found.session.hint.startswith(said) and states(found) == ["auto"] * 10
    assert np.array_equal(found.masks(), before)
    found.session.lock(4)
    found.session.release(6)
    found.session.segment()
    found.settle()
    assert found.session.hint == "" and taught(theCase(found.session), "bar", "rod") == {"bar": [4], "rod": [4]}


def turnedLater(desk, matrix):
    """Slice 3 is locked, slice 6 of bar edited, and the volume turned after that."""
    d = desk()
    d.session.lock(3)
    editedBetween(d, "bar", 6)
    d = again(desk, d, segmented=False)
    turn(d, matrix)
    return d


HALF_TURNS = [np.diag([1.0, -1, -1]), np.diag([-1.0, -1, 1]), np.diag([-1.0, 1, -1])]


@pytest.mark.parametrize("matrix", [*HALF_TURNS, rotation(90, 0, 0), rotation(0, 0, 90)])
def test_a_volume_turned_later_has_the_same_slices_of_the_users(desk, matrix) -> None:
    d = turnedLater(desk, matrix)
    assert taught(theCase(d.session), "bar", "rod") == {"bar": [3, 6], "rod": [3]}


@pytest.mark.parametrize("matrix", HALF_TURNS)
def test_a_session_in_a_volume_turned_by_half_goes_on_with_whose_slices_were(desk, matrix) -> None:
    turned = again(desk, turnedLater(desk, matrix))
    places = {3, 6} if matrix[2, 2] > 0 else {9 - 3, 9 - 6}
    assert {n for n, state in enumerate(states(turned)) if state != "auto"} == places
    assert taught(theCase(turned.session), "bar", "rod") == {"bar": [3, 6], "rod": [3]}


def test_in_a_volume_turned_by_a_quarter_slices_are_kept_and_no_ones(desk) -> None:
    from ProMISeSlicerLib import mrml

    d = desk()
    d.session.lock(3)
    before = d.session.grid.toBlock(d.masks())
    turn(d, rotation(90, 0, 0))
    turned = again(desk, d)
    assert "slices were filled before" in turned.session.hint and len(turned.session.grid) == 32
    assert np.array_equal(turned.session.grid.toBlock(turned.masks()), before)
    with pytest.raises(mrml.GeometryError, match="no slice of 'scan' is yours yet"):
        told(theCase(turned.session), "bar", "rod")


def test_voxels_changed_in_a_volume_that_was_turned_end_the_session(desk) -> None:
    import slicer
    from ProMISeSlicerLib.failing import SessionError

    d = desk()
    turn(d, HALF_TURNS[0])
    slicer.util.arrayFromVolume(d.session.volumeNode)[0, 0, 0] = 7
    slicer.util.arrayFromVolumeModified(d.session.volumeNode)
    with pytest.raises(SessionError, match="has another size or other slices now"):
        d.session.segment()
    assert d.session.isClosed


def test_a_volume_stored_in_another_order_has_the_same_slices_of_the_users(desk) -> None:
    """As Slicer's readers turn left-handed volumes around: slices are as they were, voxels are not."""
    import slicer
    from ProMISeSlicerLib import mrml

    d = desk("flipped")
    d.session.lock(3)
    d.session.close()
    volume, affine = d.session.volumeNode, mrml.ijkToRas(d.session.volumeNode)
    voxels = slicer.util.arrayFromVolume(volume)[::-1].copy()
    affine[:3, 3] += affine[:3, 2] * 9
    affine[:3, 2] *= -1
    volume.SetIJKToRASMatrix(mrml.matrixFromArray(affine))
    slicer.util.updateVolumeFromArray(volume, voxels)
    assert d.session.grid.origin[2] == 9
    assert taught(theCase(d.session), "bar", "rod") == {"bar": [3], "rod": [3]}
    loaded = again(desk, d)
    assert loaded.session.hint == "" and states(loaded) == ["auto"] * 3 + ["locked"] + ["auto"] * 6
    assert taught(theCase(loaded.session), "bar", "rod") == {"bar": [3], "rod": [3]}


@pytest.mark.parametrize("columns", [slice(12, 14), slice(16, 24)], ids=["inside", "beside"])
def test_ones_own_segment_beside_a_target_of_its_name_says_what_is_on_its_slices(desk, columns) -> None:
    """The rest of an automatic piece is neither the target nor background there; elsewhere that piece decides."""
    import slicer
    from ProMISeSlicerLib import mrml

    volume, drawn = addVolume(), np.zeros((10, 32, 40), np.uint8)
    node = mrml.createSegmentation(volume, "mine")
    drawn[:2, 16, columns] = 1
    own = node.GetSegmentation().AddEmptySegment("", "bar", [1, 0, 0])
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, own, volume)
    d = desk(volume=volume, segmentationNode=node)
    automatic = d.masks()
    assert [node.GetSegmentation().GetNthSegment(n).GetName() for n in range(3)] == ["bar", "bar", "rod"]
    bar = told(theCase(d.session), "bar")["bar"]
    for n in range(2):
        assert np.array_equal(bar[n] == 1, drawn[n] == 1)
        assert np.array_equal(bar[n] == 255, automatic[n] & (drawn[n] == 0)) and (bar[n] == 0).any()
    assert (bar[2:] == 255).all()
    d.session.lock(1, "bar")
    d.session.lock(5, "bar")
    bar = told(theCase(d.session), "bar")["bar"]
    assert np.array_equal(bar[1] == 1, automatic[1] | (drawn[1] == 1)) and not (bar[1] == 255).any()
    assert np.array_equal(bar[5] == 1, automatic[5]) and not (bar[5] == 255).any()
    assert (bar[2:5] == 255).all() and (bar[6:] == 255).all()


def test_scenes_that_say_neither_where_slices_lay_nor_who_was_last_go_on(desk) -> None:
    d = desk()
    d.session.lock(3)
    editedBetween(d, "bar", 6)
    data = json.loads(d.session.node.GetParameter("state"))
    data.pop("grid", None), data.pop("turn", None)
    d.session.node.SetParameter("state", json.dumps(data))
    assert taught(theCase(d.session), "bar", "rod") == {"bar": [3, 6], "rod": [3]}
    loaded = again(desk, d)
    assert loaded.session.hint.startswith("1 slices were edited by hand") and states(loaded).count("auto") == 8
    assert taught(theCase(loaded.session), "bar", "rod") == {"bar": [3, 6], "rod": [3]}


@pytest.mark.parametrize("isFirst", [True, False])
def test_a_pasted_copy_of_a_segment_makes_nothing_known_of_its_target(desk, isFirst) -> None:
    """Two pieces of one name, of which a session knows one: whichever comes first, and nothing is known of the other
    target that only the copy is."""
    import slicer

    d = desk()
    d.session.lock(3)
    segmentation = d.session.segmentationNode.GetSegmentation()
    for target in ("bar", "rod"):
        pasted = slicer.vtkSegment()
        pasted.DeepCopy(segmentation.GetSegment(d.session.segmentId(target)))
        assert segmentation.AddSegment(pasted, f"pasted {target}", *([d.session.segmentId("bar")] if isFirst else []))
    segmentation.GetSegment("pasted rod").SetName("rod of a copy")
    assert (segmentation.GetSegmentIDs()[0] == d.session.segmentId("bar")) != isFirst
    assert taught(theCase(d.session), "bar", "rod", "rod of a copy") == {"bar": [], "rod": [3], "rod of a copy": []}


def onOther(desk, d, **more):
    """A session on another volume of the same grid, where the bars lie otherwise and reach the last slice, in the same
    segmentation."""
    import slicer

    d.session.close()
    other = addVolume(name="other")
    voxels = slicer.util.arrayFromVolume(other)
    voxels[9] = voxels[8]
    voxels[:] = np.roll(voxels, 2, axis=2)
    slicer.util.arrayFromVolumeModified(other)
    return desk(volume=other, segmentationNode=d.session.segmentationNode, **more)


def writeOnOther(desk, d, *slices: int, **more):
    """As `onOther`; these slices are segmented there."""
    other = onOther(desk, d, **more)
    for n in slices:
        other.session.release(n)
    other.session.segment()
    other.settle()
    return other


def test_what_a_session_on_another_volume_wrote_is_no_hand_edit(desk) -> None:
    """Slice 2 was edited by hand before, 4 is locked; 9 was empty."""
    from ProMISeSlicerLib import mrml
    from ProMISeSlicerLib.state import statesIn

    d = desk()
    d.session.lock(4)
    editedBetween(d, "bar", 2)
    other = writeOnOther(desk, d, 5, 6, 7, 8)
    assert taught(theCase(d.session), "bar", "rod") == {"bar": [2, 4], "rod": [4]}
    back = again(desk, d, segmented=False)
    assert states(back) == ["auto"] * 4 + ["locked"] + ["auto"] * 5 and back.session.node is d.session.node
    assert statesIn(d.session.segmentationNode)[0].node is back.session.node
    before = back.masks()
    back.session.segment()
    assert back.session.hint == (
        "1 slices were edited by hand and are kept; 10 slices hold what was made on 'other' and are kept; release them "
        "to replace them, or choose no segmentation to get a new one"
    )
    back.settle()
    assert np.array_equal(back.masks(), before)
    assert states(back) == ["auto"] * 2 + ["user", "auto", "locked"] + ["auto"] * 5
    back.session.lock(6, "bar")
    assert taught(theCase(d.session), "bar", "rod") == {"bar": [2, 4, 6], "rod": [4]}
    with pytest.raises(mrml.GeometryError, match="no slice of 'other' is yours yet"):
        told(theCase(other.session), "bar", "rod")


def test_a_locked_slice_that_was_written_anew_on_another_volume_is_no_ones(desk) -> None:
    d = desk()
    d.session.lock(4)
    d.session.lock(3)
    writeOnOther(desk, d, 4)
    assert taught(theCase(d.session), "bar", "rod") == {"bar": [3], "rod": [3]}
    assert states(again(desk, d)) == ["auto"] * 3 + ["locked"] + ["auto"] * 6


@pytest.mark.parametrize("isGone", [True, False])
def test_where_slices_on_another_volume_were_others_nothing_changed_since_is_the_users(desk, isGone) -> None:
    """They were cut across, or that volume has gone. What it has only shown stays the user's."""
    import slicer
    from ProMISeSlicerLib import mrml

    d = desk()
    d.session.lock(4)
    editedBetween(d, "bar", 2)
    axis = None if isGone else "sagittal"
    onOther(desk, d, axis=axis, segmented=False).session.close()
    assert taught(theCase(d.session), "bar", "rod") == {"bar": [2, 4], "rod": [4]}
    other = writeOnOther(desk, d, axis=axis)
    other.session.close()
    if isGone:
        slicer.mrmlScene.RemoveNode(other.session.volumeNode)
        assert taught(theCase(d.session), "bar", "rod") == {"bar": [4], "rod": [4]}
    else:
        with pytest.raises(mrml.GeometryError, match="no slice of 'scan' is yours yet"):
            told(theCase(d.session), "bar", "rod")
    assert states(again(desk, d)).count("user") == 0


def test_that_slices_were_made_on_another_volume_is_said_once_and_of_these(desk) -> None:
    other = onOther(desk, desk())
    said = "slices hold what was made on 'scan' and are kept; release them to replace them, or choose no segmentation"
    assert other.session.hint.startswith(f"18 {said}")
    mask = other.session.segments.read(other.session.segmentId("bar"), 5)
    mask[0, 0] = True
    other.session.segments.write(other.session.segmentId("bar"), 5, mask)
    other.session.segment()
    assert other.session.hint == "1 slices were edited by hand and are kept; release them to replace them"
    other.settle()
