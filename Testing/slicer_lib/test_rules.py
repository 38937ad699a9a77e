"""Who may change what: Segment Editor's masking, targets beside each other, propagated and released slices."""

from __future__ import annotations

import numpy as np
import pytest
from desks import addVolume, changed, manifest, middle


def editor(d):
    """Segment Editor's parameters for the session's segmentation, as its module keeps them."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    node.SetAndObserveSegmentationNode(d.session.segmentationNode)
    node.SetAndObserveSourceVolumeNode(d.session.volumeNode)
    return node


def addSegment(d, name: str, mask: np.ndarray) -> str:
    """A segment of the user's own: mask (n, H, W)."""
    id_ = d.session.segments.ensure("", name, (0.1, 0.9, 0.1))
    for n, slice_ in enumerate(mask):
        d.session.segments.write(id_, n, slice_)
    return id_


def rightHalf(d) -> np.ndarray:
    mask = np.zeros(d.session.grid.shape, bool)
    mask[:, :, 13:] = True
    return mask


def test_prompts_and_passes_stay_inside_the_masking_segment(desk) -> None:
    import slicer

    d = desk(segmented=False)
    half = rightHalf(d)
    own = addSegment(d, "mine", half)
    rules = editor(d)
    rules.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    rules.SetMaskSegmentID(own)
    d.session.segment()
    d.settle()
    free = {name: mask.copy() for name, mask in d.everything().items()}
    assert free["bar"].any() and not free["bar"][~half].any()
    d.move(4, 8, 13)
    d.settle()
    masked = d.masks()[4]
    assert masked[8, 14] and not masked[8, 12]
    assert np.array_equal(d.session.segments.readAll(own), half), "another segment is never changed"


def test_masking_outside_other_segments_leaves_the_edited_one_free(desk) -> None:
    import slicer

    d = desk()
    addSegment(d, "mine", rightHalf(d))
    editor(d).SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments)
    d.move(4, 8, 12)
    d.settle()
    mask = d.masks()[4]
    assert mask[8, 11] and not (mask & rightHalf(d)[4] & ~d.session.segments.read(d.session.segmentId("bar"), 4)).any()
    assert not mask[8, 14]


def test_masking_outside_visible_segments_knows_no_hidden_ones(desk) -> None:
    import slicer

    d = desk()
    own = addSegment(d, "mine", rightHalf(d))
    rules = editor(d)
    rules.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideVisibleSegments)
    before = d.masks()[4].copy()
    d.move(4, 8, 13)
    d.settle()
    assert not (d.masks()[4] & ~before)[:, 13:].any()
    d.session.segmentationNode.GetDisplayNode().SetSegmentVisibility(own, False)
    d.move(4, 8, 14)
    d.settle()
    assert d.masks()[4][8, 15]


def test_masking_inside_all_segments_takes_the_edited_one_for_one_of_them(desk) -> None:
    import slicer

    d = desk()
    before = d.masks()[4].copy()
    editor(d).SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideAllSegments)
    row, column = middle(d, "bar")
    d.move(4, row, column)
    d.settle()
    mask = d.masks()[4]
    assert mask[row, column] and (mask != before).any() and not (mask & ~(before | d.masks("rod")[4])).any()


def test_intensity_masking_counts_too_and_only_for_this_segmentation(desk) -> None:
    import slicer

    d = desk()
    rules = editor(d)
    rules.SetSourceVolumeIntensityMask(True)
    rules.SetSourceVolumeIntensityMaskRange(150, 250)
    before = d.masks()[4].copy()
    d.move(4, 4, 5)
    d.settle()
    assert np.array_equal(d.masks()[4], before), "no voxel there lies in the range"
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    rules.SetAndObserveSegmentationNode(other)
    d.move(4, 5, 6)
    d.settle()
    assert not np.array_equal(d.masks()[4], before)


def test_a_range_of_intensities_of_another_volume_masks_nothing(desk) -> None:
    d = desk()
    rules = editor(d)
    rules.SetAndObserveSourceVolumeNode(addVolume(name="other"))
    rules.SetSourceVolumeIntensityMask(True)
    rules.SetSourceVolumeIntensityMaskRange(150, 250)
    d.move(4, 4, 5)
    d.settle()
    assert d.masks()[4][4, 5]


def test_an_automatic_target_gives_way_and_gets_back_with_undo(desk) -> None:
    d = desk()
    before = d.everything()
    row, column = middle(d, "rod")
    d.move(4, row, column)
    d.settle()
    after = d.everything()
    assert after["bar"][4][row, column] and not (after["bar"][4] & after["rod"][4]).any()
    assert changed(before, after) == {"bar": [4], "rod": [4]}
    d.move(4, row, column - 12)
    d.settle()
    assert np.array_equal(d.masks("rod")[4] & ~before["rod"][4], np.zeros_like(before["rod"][4]))
    d.session.undo()
    d.settle()
    assert changed(after, d.everything()) == {"bar": [], "rod": []}
    d.session.undo()
    d.settle()
    assert changed(before, d.everything()) == {"bar": [], "rod": []}
    d.session.redo()
    d.settle()
    assert changed(after, d.everything()) == {"bar": [], "rod": []}


def test_a_slice_that_is_the_users_does_not_give_way(desk) -> None:
    d = desk()
    d.session.lock(4, "rod")
    before = d.everything()
    d.move(4, *middle(d, "rod"))
    d.settle()
    assert changed(before, d.everything()) == {"bar": [4], "rod": []}
    assert not (d.masks("bar")[4] & before["rod"][4]).any()


def test_what_a_pass_finds_leaves_out_what_another_target_keeps(desk) -> None:
    d = desk()
    d.move(4, *middle(d, "rod"))
    d.settle()
    yours = d.masks()[4].copy()
    d.session.segment()
    d.settle()
    assert yours.any() and np.array_equal(d.masks()[4], yours) and not (d.masks("rod")[4] & yours).any()


def test_propagated_slices_are_kept_from_passes_until_released(desk) -> None:
    d = desk()
    d.move(4, 20, 9)
    d.settle()
    d.session.propagate("bar", 4, count=1)
    d.settle()
    kept = d.everything()
    cells = d.session.sliceStates("bar")
    assert [cell["state"] for cell in cells[3:6]] == ["user"] * 3
    assert [cell["propagated"] for cell in cells[3:6]] == [True, False, True]
    d.session.segment()
    d.settle()
    assert changed(kept, d.everything()) == {"bar": [], "rod": []}
    d.session.release(5)
    d.session.segment()
    d.settle()
    assert changed(kept, d.everything())["bar"] == [5]


def test_a_point_on_a_propagated_slice_refines_what_was_propagated(desk) -> None:
    d = desk()
    d.move(4, 20, 9)
    d.settle()
    d.session.propagate("bar", 4, count=1)
    d.settle()
    before = d.masks()[5].copy()
    for column in (22, 30):  # the second point, too, goes on from the mask
        assert d.session.addPoint("bar", d.world(5, 26, column), True) == 5
        d.settle()
        assert d.masks()[5][26, column] and (d.masks()[5] & before).sum() == before.sum()


def test_released_points_look_automatic_and_the_next_pass_replaces_them(desk) -> None:
    d = desk()
    d.move(4, 8, 9)
    d.settle()
    node = d.session.promptNodes("bar")[0]
    index = d.onSlice(4)[0]
    assert node.GetNthControlPointSelected(index)
    d.session.release(4)
    d.settle()
    assert not node.GetNthControlPointSelected(index) and node.GetNthControlPointDescription(index) == "auto"
    assert d.session.sliceStates("bar")[4]["state"] == "auto" and len(d.onSlice(4)) == 1
    d.session.segment()
    d.settle()
    nrc = d.session.source.nrc([node.GetNthControlPointPositionWorld(d.onSlice(4)[0])])[0]
    assert abs(nrc[1:] - (8, 9)).max() > 1


def test_what_the_engine_notices_reaches_the_user_once(desk) -> None:
    d = desk()
    d.engine.notices.append("the cache cannot be written")
    d.move(4, 8, 9)
    d.settle()
    assert d.session.hint == "the cache cannot be written" and not d.engine.notices
    d.move(4, 9, 9)
    d.settle()
    assert d.session.hint == ""


def test_the_scene_records_pack_and_settings(desk) -> None:
    import json

    d = desk()
    data = json.loads(d.session.node.GetParameter("state"))
    assert data["settings"] == {"device": "none"} and data["axis"] is None
    assert data["pack"]["manifest"]["name"] == "fake" and data["pack"]["sha256"] is None


def test_a_lock_is_recorded_in_the_scene_at_once(desk) -> None:
    import json

    d = desk()
    d.session.lock(4, "rod")
    assert json.loads(d.session.node.GetParameter("state"))["slices"]["rod"]["4"]["locked"]


def test_a_scene_of_another_version_of_its_pack_is_refused(scene) -> None:
    from ProMISeSlicerLib.packfile import recordedPack
    from ProMISeSlicerLib.session import SessionError

    from ProMISeCore import packs

    pack = packs.EMBEDDED / "heart.safetensors"
    recorded = {"manifest": packs.read_manifest(pack).entries(), "sha256": "ab" * 32}
    with pytest.raises(SessionError, match="another version than the one this scene was made with"):
        recordedPack(recorded, "scene", pack)


def test_a_scene_whose_pack_is_missing_says_which_and_keeps_everything(desk, scene) -> None:
    import json

    from ProMISeSlicerLib.session import Session, SessionError

    d = desk()
    node, before = d.session.node, d.everything()
    d.session.close()
    data = json.loads(node.GetParameter("state"))
    data["pack"]["sha256"] = "ab" * 32
    data["pack"]["manifest"]["name"] = "gone"
    node.SetParameter("state", json.dumps(data))
    with pytest.raises(SessionError, match=r"pack 'gone', version .*SHA-256 abababababab.*pack folder"):
        Session.fromScene(node)
    assert changed(before, d.everything()) == {"bar": [], "rod": []} and len(d.onSlice(4)) == 1


def bar_moved_onto_rod(described) -> tuple[dict, dict]:
    """Everything before and after a point of the bar was moved onto the rod on slice 4, with a pack so described."""
    from desks import Desk
    from ProMISeSlicerLib.fakeEngine import FakeEngine
    from ProMISeSlicerLib.session import Session

    engine = FakeEngine()
    d = Desk(Session(addVolume(), described, engine=engine), engine)
    d.session.segment()
    d.settle()
    before = d.everything()
    d.move(4, *middle(d, "rod"))
    d.settle()
    after = d.everything()
    d.session.close()
    return before, after


def test_packs_whose_targets_may_overlap_leave_each_other_alone(scene) -> None:
    assert changed(*bar_moved_onto_rod(manifest(exclusive=False))) == {"bar": [4], "rod": []}


@pytest.mark.parametrize(("pair", "meet"), [(("bar", "rod"), True), (("bar", "pin"), False)])
def test_only_the_pairs_that_a_pack_names_may_overlap(scene, pair, meet) -> None:
    before, after = bar_moved_onto_rod(manifest(("bar", "rod", "pin"), overlaps=(pair,)))
    assert (after["bar"][4] & after["rod"][4]).any() == meet
    assert (before["rod"][4] & ~after["rod"][4]).any() != meet, "it gives way where they may not meet"
