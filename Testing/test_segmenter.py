"""The segmenter on tiny random nets: order, prompts, what the manifest asks for, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from placements import storages
from segmenting import balanced, count_encoded, run, volume

from ProMISeCore import masks
from ProMISeCore.cache import Cache
from ProMISeCore.errors import InputError
from ProMISeCore.segmenter import Segmenter

# Order, partial results, shapes


def test_slices_come_nearest_first(tiny_model) -> None:
    segmenter = Segmenter(tiny_model(), volume(), "cpu")
    assert [result.index for result in segmenter.segment_volume(first=1)] == [1, 2, 0, 3, 4]
    assert [result.index for result in segmenter.segment_volume()] == [2, 3, 1, 4, 0]
    assert segmenter.order(4) == [4, 3, 2, 1, 0]


def test_results_have_the_slices_shape(tiny_model) -> None:
    segmenter = Segmenter(tiny_model(), volume(), "cpu")
    result = next(segmenter.segment_volume(first=0))
    for name in ("a", "b"):
        assert result.masks[name].shape == result.logits[name].shape == (20, 24)
        assert result.masks[name].dtype == bool and result.logits[name].dtype == np.float32
        assert result.points_rc[name].shape == (4, 2) and result.labels[name].tolist() == [1, 1, 0, 0]
        assert 0 <= result.presence[name] <= 1
        np.testing.assert_array_equal(result.masks[name], result.logits[name] > 0)
    assert {name: mask.shape for name, mask in segmenter.masks().items()} == {"a": (5, 20, 24), "b": (5, 20, 24)}


def test_masks_lie_where_the_slices_are(tiny_model) -> None:
    segmenter = Segmenter(tiny_model(), volume(), "cpu")
    results = {result.index: result for result in segmenter.segment_volume()}
    canonical = segmenter.stack.canonical(segmenter.masks()["a"])
    for n, result in results.items():
        np.testing.assert_array_equal(canonical[n], result.masks["a"])


def test_points_are_in_ras(tiny_model) -> None:
    segmenter = Segmenter(tiny_model(), volume(), "cpu")
    results = {result.index: result for result in segmenter.segment_volume()}
    prompts = segmenter.prompts()["a"]
    slices = segmenter.stack.ras_to_nrc(prompts.points_ras)
    filled = sorted(n for n, result in results.items() if result.masks["a"].any())
    assert np.unique(slices[:, 0].round()).tolist() == filled
    np.testing.assert_allclose(slices[:4, 1:], results[filled[0]].points_rc["a"], atol=1e-4)
    assert not prompts.user.any()


def test_cancel_keeps_what_is_done(tiny_model) -> None:
    segmenter = Segmenter(tiny_model(), volume(), "cpu", batch=1)
    answers = iter([False, False, True])
    done = [result.index for result in segmenter.segment_volume(cancel=lambda: next(answers))]
    assert done == [2, 3]
    complete = segmenter.stack.canonical(run(Segmenter(tiny_model(), volume(), "cpu")).masks()["a"])
    partial = segmenter.stack.canonical(segmenter.masks()["a"])
    np.testing.assert_array_equal(partial[[2, 3]], complete[[2, 3]])
    assert not partial[[0, 1, 4]].any()


def test_storage_orders_give_one_mask(tiny_model) -> None:
    scan = volume((4, 6, 8), affine=np.diag([-1.5, -1.4, 4.0, 1.0]))
    model = balanced(tiny_model, scan)
    expected = run(Segmenter(model, scan, "cpu")).masks()["a"]
    assert expected.any() and not expected.all()
    stored = list(storages(scan))[::7]  # every order of axes; test_volumes.py has all 48
    labelled = list(storages(replace(scan, voxels=expected)))[::7]
    for one, label in zip(stored, labelled, strict=True):
        found = run(Segmenter(model, one, "cpu")).masks()["a"]
        np.testing.assert_array_equal(found, label.voxels, err_msg=str(label.affine))


# Prompts


def test_prompting_a_slice_encodes_nothing(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    segmenter = run(Segmenter(model, volume(), "cpu"))
    batches = count_encoded(model, monkeypatch)
    result = segmenter.segment_slice(3, "b", points_rc=[[4, 5], [10, 11]], labels=[1, 0])
    assert batches == []
    assert list(result.masks) == ["b"] and result.labels["b"].tolist() == [1, 0]
    np.testing.assert_allclose(result.points_rc["b"], [[4, 5], [10, 11]], atol=1e-4)


def test_points_reach_the_model_in_frame_pixels(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    given = {}
    solve = model.solve

    def watched(encoded, target, **prompts):
        given.update(prompts)
        return solve(encoded, target, **prompts)

    monkeypatch.setattr(model, "solve", watched)
    segmenter = Segmenter(model, volume((3, 32, 16)), "cpu")  # 32 rows fill the frame's 64
    whole = np.ones((32, 16), bool)
    points = {"points_rc": [[0, 0], [31, 15]], "labels": [1, 0], "own": [False, False]}  # asked with once
    segmenter.segment_slice(0, **points, box_rc=[31, 15, 0, 0], mask=whole)
    np.testing.assert_allclose(given["points"], [[[0.5, 0.5], [30.5, 62.5]]])  # x, y of pixel centres
    np.testing.assert_allclose(given["box"], [[0.5, 0.5, 30.5, 62.5]])
    assert given["labels"].tolist() == [[1, 0]] and given["mask"].shape == (1, 1, 16, 16)
    assert given["mask"][0, 0, :, :8].min() > 9 and given["mask"][0, 0, :, 8:].max() < -9  # the padding is background


def test_the_users_slice_is_kept(tiny_model) -> None:
    segmenter = Segmenter(tiny_model(presence_threshold=1.0), volume(), "cpu")
    by_user = segmenter.segment_slice(2, "a", mask=np.ones((20, 24), bool))
    run(segmenter)
    canonical = segmenter.stack.canonical(segmenter.masks()["a"])
    np.testing.assert_array_equal(canonical[2], by_user.masks["a"])
    assert by_user.masks["a"].any(), "a user's prompt is not gated by presence"
    assert not canonical[[0, 1, 3, 4]].any()
    results = {result.index: result for result in segmenter.segment_volume()}
    assert list(results[2].masks) == ["b"] and list(results[1].masks) == ["a", "b"]


def test_a_box_takes_the_place_of_points_prompted_before(tiny_model) -> None:
    segmenter = Segmenter(tiny_model(), volume(), "cpu")
    segmenter.segment_slice(2, "a", [[3, 3]], [1])
    assert segmenter.prompts()["a"].points_ras.shape == (1, 3)
    segmenter.segment_slice(2, "a", box_rc=[2, 2, 15, 15])
    assert segmenter.prompts()["a"].points_ras.shape == (0, 3)


def test_points_are_kept_where_they_have_emptied_the_slice(tiny_model) -> None:
    segmenter = Segmenter(tiny_model(presence_threshold=1.0), volume(), "cpu")
    assert not segmenter.segment_slice(2, "a", [[3, 3]], [0], own=[True]).masks["a"].any()
    assert segmenter.prompts()["a"].labels.tolist() == [0] and segmenter.prompts()["a"].user.tolist() == [True]


def test_without_prompts_a_slice_is_automatic_again(tiny_model) -> None:
    segmenter = run(Segmenter(tiny_model(), volume(), "cpu"))
    before = segmenter.masks()["a"]
    segmenter.segment_slice(2, "a", points_rc=[[0, 0]], labels=[0])
    assert segmenter.prompts()["a"].user.sum() == 1
    result = segmenter.segment_slice(2, "a")
    assert list(result.masks) == ["a"]
    np.testing.assert_array_equal(segmenter.masks()["a"], before)
    assert not segmenter.prompts()["a"].user.any()
    assert list(segmenter.segment_slice(2).masks) == ["a", "b"]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({"points_rc": [[1, 1]], "labels": [1, 0]}, "as many labels"),
        ({"points_rc": [[1, 1]], "labels": [2]}, "1 for foreground"),
        ({"points_rc": [[np.nan, 1]], "labels": [1]}, "finite"),
        ({"points_rc": [[1, 2, 3]], "labels": [1]}, r"\(1, 3\).*expected numbers, \(N, 2\)"),
        ({"points_rc": [1, 2, 3, 4], "labels": [1, 0]}, r"expected numbers, \(N, 2\)"),
        ({"points_rc": "ab"}, "expected numbers"),
        ({"labels": [1]}, "no points"),
        ({"box_rc": [1, 2, 3]}, "four numbers"),
        ({"mask": np.ones((3, 3), bool)}, "mask"),
        ({"target": "c"}, "it has a, b"),
    ],
)
def test_wrong_prompts_are_named(tiny_model, prompts: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Segmenter(tiny_model(), volume(), "cpu").segment_slice(0, **prompts)


def test_wrong_slices_are_named(tiny_model) -> None:
    segmenter = Segmenter(tiny_model(), volume(), "cpu")
    with pytest.raises(InputError, match="slices 0 to 4"):
        segmenter.segment_slice(5)
    with pytest.raises(InputError, match="slices 0 to 4"):
        next(segmenter.segment_volume(first=-1))


# What the manifest asks for


def test_absent_targets_come_out_empty(tiny_model) -> None:
    segmenter = run(Segmenter(tiny_model(presence_threshold=1.0), volume(), "cpu"))
    assert not segmenter.masks()["a"].any()
    assert len(segmenter.prompts()["a"].points_ras) == 0


def test_exclusive_targets_never_overlap(tiny_model) -> None:
    loose = run(Segmenter(tiny_model(), volume(), "cpu")).masks()
    assert (loose["a"] & loose["b"]).any(), "the random net makes overlaps, or this test shows nothing"
    segmenter = run(Segmenter(tiny_model(exclusive=True), volume(), "cpu"))
    found = segmenter.masks()
    assert not (found["a"] & found["b"]).any()
    np.testing.assert_array_equal(found["a"] | found["b"], loose["a"] | loose["b"])
    segmenter.segment_slice(2, "a", mask=np.ones((20, 24), bool))
    found = segmenter.masks()
    assert not (found["a"] & found["b"]).any()


def test_opening_removes_specks(tiny_model) -> None:
    plain = run(Segmenter(tiny_model(), volume(), "cpu")).masks()["a"]
    opened = run(Segmenter(tiny_model(opening=5), volume(), "cpu")).masks()["a"]
    assert opened.sum() < plain.sum() and not (opened & ~plain).any()


def test_largest_component_leaves_one_piece(tiny_model) -> None:
    from scipy import ndimage

    plain = run(Segmenter(balanced(tiny_model, volume()), volume(), "cpu")).masks()["a"]
    kept = run(Segmenter(balanced(tiny_model, volume(), largest_component=True), volume(), "cpu")).masks()["a"]
    assert ndimage.label(plain)[1] > 1 and ndimage.label(kept)[1] == 1
    assert not (kept & ~plain).any()


def test_of_single_organs_every_piece_that_was_prompted_stays(tiny_model) -> None:
    segmenter = Segmenter(tiny_model(largest_component=True, presence_threshold=1.0), volume(), "cpu")
    for n in (0, 4):
        segmenter.segment_slice(n, "a", mask=np.ones((20, 24), bool))
    run(segmenter)
    filled = segmenter.stack.canonical(segmenter.masks()["a"]).any((1, 2))
    assert filled.tolist() == [True, False, False, False, True]


def test_prompted_organs_have_no_pieces_that_nobody_asked_for(tiny_model) -> None:
    def prompted(**changes) -> np.ndarray:
        model = balanced(tiny_model, volume(), **changes)
        return Segmenter(model, volume(), "cpu").segment_slice(2, "a", point, [1]).masks["a"]

    point = [[10, 12]]
    plain = prompted()
    inside = np.argwhere(plain)
    point = [inside[len(inside) // 2].tolist()]
    plain, single = prompted(), prompted(largest_component=True)
    expected = masks.prompted_pieces(plain, np.array(point), np.array([1]))
    np.testing.assert_array_equal(single, expected)
    assert single.sum() < plain.sum(), "the random net gives several pieces"


def test_threshold_is_a_probability(tiny_model) -> None:
    result = next(Segmenter(tiny_model(threshold=0.7), volume(), "cpu").segment_volume())
    np.testing.assert_array_equal(result.masks["a"], torch.sigmoid(torch.from_numpy(result.logits["a"])).numpy() > 0.7)


# Volumes that are unusual


def test_one_slice_works(tiny_model) -> None:
    assert run(Segmenter(tiny_model(), volume((1, 20, 24)), "cpu")).masks()["a"].shape == (1, 20, 24)


def test_thin_slices_say_which_way_to_go(tiny_model) -> None:
    with pytest.raises(InputError, match="1 × 24.*--axis"):
        Segmenter(tiny_model(), volume((5, 1, 24)), "cpu")
    assert run(Segmenter(tiny_model(), volume((5, 1, 24)), "cpu", axis="coronal")).masks()["a"].shape == (5, 1, 24)


def test_constant_volume_is_refused(tiny_model) -> None:
    with pytest.raises(InputError, match="constant"):
        Segmenter(tiny_model(), volume(voxels=np.full((5, 20, 24), 7)), "cpu")


def test_colour_pictures_and_packs_for_pictures(tiny_model) -> None:
    picture = volume(voxels=np.random.default_rng(0).integers(0, 255, (1, 30, 40, 3)).astype(np.uint8), picture=True)
    model = tiny_model(orientation="image", window={"mode": "bytes"})
    segmenter = run(Segmenter(model, picture, "cpu"))
    assert segmenter.masks()["a"].shape == (1, 30, 40) and segmenter.notices == []


@pytest.mark.parametrize(("picture", "orientation"), [(True, "axial"), (False, "image")])
def test_pack_for_another_kind_of_image_warns(tiny_model, picture: bool, orientation: str) -> None:
    notices: list[str] = []
    scan = volume((1 if picture else 2, 20, 24), picture=picture)
    run(Segmenter(tiny_model(orientation=orientation), scan, "cpu", notice=notices.append))
    assert len(notices) == 1 and "expect poor results" in notices[0]


def test_a_volume_of_one_slice_is_a_picture_to_a_pack_for_pictures(tiny_model) -> None:
    segmenter = run(Segmenter(tiny_model(orientation="image"), volume((1, 20, 24)), "cpu"))
    assert segmenter.notices == [] and segmenter.masks()["a"].shape == (1, 20, 24)


def test_another_orientation_warns(tiny_model) -> None:
    notices: list[str] = []
    Segmenter(tiny_model(), volume(), "cpu", axis="sagittal", notice=notices.append)
    assert len(notices) == 1 and "axial" in notices[0] and "sagittal" in notices[0]


# Estimate


def test_estimate_is_made_before_the_run(tiny_model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    batches = count_encoded(model, monkeypatch)
    segmenter = Segmenter(model, volume(), "cpu", cache=Cache(tmp_path))
    estimate = segmenter.estimate(first=0)
    assert (estimate.slices, estimate.encode) == (5, 5)
    assert estimate.seconds > 0 and estimate.memory_bytes > 1e8
    assert estimate.disk_bytes == 5 * 256 * 4 * 4 * 2
    run(segmenter, first=0)
    assert sum(batches) == 5, "what the estimate encoded is used"
    again = Segmenter(model, volume(), "cpu", cache=Cache(tmp_path)).estimate()
    assert (again.encode, again.disk_bytes) == (0, 0)


def test_the_frozen_backbone_stays_as_it_is(tiny_model) -> None:
    model = tiny_model()
    before = {key: value.clone() for key, value in model.sam.state_dict().items()}
    run(Segmenter(model, volume(), "cpu"))
    assert all(torch.equal(before[key], value) for key, value in model.sam.state_dict().items())
