"""Refiners: they change nothing until they have learned, and see the slice that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from refined_cases import parts_of, stirred
from segmenting import volume
from torch.nn import functional as F

from ProMISeCore import packs
from ProMISeCore.augment import Augment
from ProMISeCore.cache import Cache
from ProMISeCore.dataset import Encoder, LabelledStack, Plan, Task, joined
from ProMISeCore.errors import InputError
from ProMISeCore.frame import PIXEL_MEAN, PIXEL_STD
from ProMISeCore.given import Given
from ProMISeCore.pairs import Pair
from ProMISeCore.refiner import Refiner, expected_iou, seen
from ProMISeCore.segmenter import Segmenter
from ProMISeCore.survey import Survey
from ProMISeCore.survey_report import SurveyReport
from ProMISeCore.wish import Wish

SIDE = 64


# The network


@pytest.mark.parametrize("side", [64, 80, 208])
def test_a_new_one_adds_nothing(side: int) -> None:
    logits = torch.randn(3, 1, side // 4, side // 4)
    picture = torch.randn(3, 3, side // 2, side // 2)
    for patch in (1, 2):
        assert torch.equal(Refiner(patch=patch)(picture, logits), logits)
    assert torch.equal(Refiner(3)(picture, logits.expand(-1, 3, -1, -1)), logits.expand(-1, 3, -1, -1))


def test_of_several_targets_one_is_redrawn_where_nothing_is_told_of_the_others() -> None:
    refiner = Refiner(3, width=8)
    stirred(refiner)
    picture, logits = torch.randn(2, 3, 32, 32), torch.randn(2, 1, 16, 16)
    told = torch.zeros(2, 3, 16, 16)
    told[:, 2:] = logits
    assert torch.equal(refiner.redrawn(picture, logits, 2), refiner(picture, told)[:, 2:])
    assert not torch.allclose(refiner.redrawn(picture, logits, 2), refiner.redrawn(picture, logits, 1), atol=0.1)


@pytest.mark.parametrize("patch", [1, 2])
def test_one_for_some_of_its_targets_redraws_them_as_before(patch: int) -> None:
    refiner = Refiner(3, width=8, patch=patch)
    stirred(refiner)
    picture, logits = torch.randn(2, 3, 32, 32), torch.randn(2, 1, 16, 16)
    some = refiner.narrowed([2, 0])
    assert some.targets == 2
    for now, before in ((0, 2), (1, 0)):
        torch.testing.assert_close(some.redrawn(picture, logits, now), refiner.redrawn(picture, logits, before))


@pytest.mark.parametrize(("patch", "weights"), [(1, 58_161), (2, 60_996)])
def test_its_size(patch: int, weights: int) -> None:
    assert sum(p.numel() for p in Refiner(1, 8, patch).parameters()) == weights


def test_one_picture_serves_all_masks_on_it() -> None:
    refiner = Refiner()
    stirred(refiner)
    picture, logits = torch.randn(1, 3, 32, 32), torch.randn(3, 1, 16, 16)
    together = refiner(picture, logits)
    assert not torch.allclose(together, logits, atol=0.1)
    for number in range(3):
        assert torch.allclose(refiner(picture, logits[number : number + 1]), together[number : number + 1], atol=1e-4)


def test_it_sees_the_mean_of_four_pixels() -> None:
    frame = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    assert seen(frame)[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_only_the_first_mask_is_redrawn_and_only_on_its_picture(tiny_model: Callable) -> None:
    model, images = tiny_model(("a",), refiner=8), torch.randn(2, 3, SIDE, SIDE)
    stirred(model)
    encoded = model.encode(images)
    plain, refined = model.solve(encoded, refined=False), model.solve(encoded)
    assert torch.equal(refined.logits[:, 1:], plain.logits[:, 1:])
    expected = model.refiners[0](F.avg_pool2d(images, 2), plain.logits[:, :1])
    assert torch.equal(refined.iou[:, :1], expected_iou(expected)) and torch.equal(refined.iou[:, 1:], plain.iou[:, 1:])
    assert torch.equal(refined.logits[:, :1], expected) and not torch.allclose(expected, plain.logits[:, :1], atol=0.1)
    encoded.picture = None
    with pytest.raises(InputError, match="there is no picture"):
        model.solve(encoded)
    assert tiny_model(("a",)).encode(images).picture is None


@pytest.mark.parametrize(
    "prompt", [{"box": torch.tensor([[4.0, 4.0, 20.0, 20.0]])}, {"mask": torch.ones(1, 1, 16, 16)}]
)
def test_boxes_and_masks_may_be_of_something_else(tiny_model: Callable, prompt: dict) -> None:
    model = tiny_model(("a",), refiner=8)
    stirred(model)
    encoded = model.encode(torch.randn(1, 3, SIDE, SIDE))
    assert torch.equal(model.solve(encoded, **prompt).logits, model.solve(encoded, **prompt, refined=False).logits)


def test_logits_tell_how_good_their_mask_will_be() -> None:
    sure, half = 40.0, float(torch.logit(torch.tensor(0.75)))
    logits = torch.tensor(
        [[[[sure, sure], [-sure, -sure]], [[half, half], [-half, -sure]], [[-1.0, -1.0], [-1.0, -1.0]]]]
    )
    assert torch.allclose(expected_iou(logits), torch.tensor([[1.0, 1.5 / 2.25, 0.0]]), atol=1e-5)


# What is kept for it


def test_views_keep_what_it_will_see(tiny_model: Callable, tmp_path: Path, sparse_pair: Pair) -> None:
    task = Task({"a": 1}, "axial", {"mode": "fixed", "low": 0, "high": 255}, "repeat", "corner")
    sam = tiny_model(("a",)).sam
    chosen = Plan([sparse_pair], task, [(0, 1, 0), (0, 1, 1)], 0)
    found = Encoder(sam, (), Augment(), tmp_path, pictures=True).views(chosen, lambda steps, total: steps)
    picture, valid, _ = LabelledStack(sparse_pair, task, SIDE).sample(1)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    expected = seen(((picture - mean) / deviation * valid)[None])
    taken = found.take_pictures([0, 1])
    assert torch.allclose(taken[:1], expected, atol=0.51 / min(PIXEL_STD))
    assert not torch.allclose(taken[1:], expected, atol=0.1)
    assert torch.equal(joined([found, found]).take_pictures([3]), taken[1:])
    without = Encoder(sam, (), Augment(), tmp_path).views(chosen, lambda steps, total: steps)
    assert without.pictures is None and without.key != found.key and without.take_pictures([0]) is None


@pytest.fixture
def sparse_pair(tmp_path: Path) -> Pair:
    """A volume of three slices 40 × 50, and its label map with a square."""
    voxels = np.random.default_rng(0).integers(0, 255, (3, 40, 50)).astype(np.int16)
    label = np.zeros((3, 40, 50), np.uint8)
    label[:, 10:30, 10:30] = 1
    image_path, label_path = tmp_path / "c_image.nii.gz", tmp_path / "c_label.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(image_path))
    sitk.WriteImage(sitk.GetImageFromArray(label), str(label_path))
    return Pair("c", image_path, label_path)


# In use


@pytest.mark.parametrize("cached", [False, True])
def test_every_slice_is_refined_on_its_own_picture(tiny_model: Callable, tmp_path: Path, cached: bool) -> None:
    model = tiny_model(("a", "b"), refiner=8)
    stirred(model)
    cache = Cache(tmp_path / "cache") if cached else None
    segmenter = Segmenter(model, volume((5, 40, 48)), "cpu", cache=cache, batch=2)
    found = {result.index: result for result in segmenter.segment_volume()}
    for n in range(5):
        with torch.inference_mode():
            encoded = model.encode(segmenter._answers.image(n)[None])
            expected = {name: model.solve(encoded, name).logits[0, 0] for name in model.targets}
            unrefined = model.solve(encoded, "a", refined=False).logits[0, 0]
        for name, logits in expected.items():
            assert np.allclose(found[n].logits[name], segmenter.frame.logits(logits).numpy(), atol=0.1)
        assert not np.allclose(found[n].logits["a"], segmenter.frame.logits(unrefined).numpy(), atol=0.5)


def test_a_click_is_answered_on_the_picture_too(tiny_model: Callable) -> None:
    model = tiny_model(("a",), refiner=8)
    stirred(model)
    segmenter = Segmenter(model, volume((3, 40, 48)), "cpu")
    given = Given.of([[20, 24]])
    result = segmenter._prompted(1, "a", given)
    with torch.inference_mode():
        encoded = model.encode(segmenter._answers.image(1)[None])
        expected = model.solve(encoded, "a", **given.tensors(segmenter.frame)).logits[0, 0]
    assert np.allclose(result.logits["a"], segmenter.frame.logits(expected).numpy(), atol=0.1)


def test_one_that_never_helped_is_left_out(tiny_model: Callable) -> None:
    alone = [{"width": 8, "patch": patch, "targets": [name]} for patch, name in ((1, "a"), (2, "b"))]
    model = tiny_model(("a", "b"), refiners=alone)
    stirred(model.refiners[1])
    learned = {key: value.clone() for key, value in model.refiners[1].state_dict().items()}
    kept = model.without_idle_refiners()
    assert list(kept.manifest.refiners) == alone[1:] and kept.refines
    found = {key.removeprefix("refiners.0."): value for key, value in parts_of(kept, refiners=True).items()}
    assert found.keys() == learned.keys() and all(torch.equal(found[key], value) for key, value in learned.items())
    assert (kept.refiner_of("a"), kept.refiner_of("b")) == (None, 0)
    tiny_model(("a",), refiner=8).without_idle_refiners().load_tensors(tiny_model(("a",)).tensors())


def test_packs_hold_it_and_others_stay_as_they_were(tiny_model: Callable, tmp_path: Path) -> None:
    model = tiny_model(("a",), refiner=8)
    stirred(model)
    packs.save(tmp_path / "a.safetensors", model.manifest, model.tensors())
    manifest, tensors = packs.read_manifest(tmp_path / "a.safetensors"), packs.tensors(tmp_path / "a.safetensors")
    assert manifest.refiners == ({"width": 8, "patch": 1, "targets": ["a"]},) and manifest == model.manifest
    again = tiny_model(("a",), refiner=8).load_tensors(tensors)
    assert again.fingerprint() == model.fingerprint() != tiny_model(("a",), refiner=8).fingerprint()
    assert "refiners" not in tiny_model(("a",)).manifest.entries()


# Teaching


@pytest.mark.parametrize(("width", "small"), [(96, True), (97, False)])
def test_small_slices_are_taught_with_one_on_small_frames(tmp_path: Path, width: int, small: bool) -> None:
    """A crop may be long along one axis, its slices are small all the same."""
    for name in ("a", "b"):
        voxels = np.random.default_rng(0).integers(0, 255, (4, 120, width)).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / f"{name}_image.nii.gz"))
        sitk.WriteImage(sitk.GetImageFromArray((voxels > 99).astype(np.uint8)), str(tmp_path / f"{name}_label.nii.gz"))
    survey = Survey([str(tmp_path)], None, Wish("x"))
    assert (survey.small, survey.side) == (small, 256 if small else None)
    report = SurveyReport(survey, tmp_path)
    assert report.entries()["proposal"]["side"] == survey.side
    assert ("frame side 256" in report.text()) == small
    assert Survey([str(tmp_path)], None, Wish("x", side=512)).side == 512
