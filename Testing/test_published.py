"""Teaching as the paper trains: pictures are changed and encoded in every step, from random weights, by masks alone."""

from __future__ import annotations

import torch
from small_cases import NAME, tensors

from ProMISeCore import packs
from ProMISeCore.augment import Augment
from ProMISeCore.commands import Commands
from ProMISeCore.dataset import LabelledStack, Task
from ProMISeCore.pairs import find
from ProMISeCore.published import FreshViews, PublishedTeaching, as_published
from ProMISeCore.settings import Settings
from ProMISeCore.survey import Survey
from ProMISeCore.teaching import Order
from ProMISeCore.wish import Wish

TASK = Task({"Scheibe": None}, "axial", {"mode": "percentile", "low": 0.5, "high": 99.5}, "neighbours", "corner")
STILL = Augment(keep=1.0)


def stacks(cases) -> list[LabelledStack]:
    return [LabelledStack(pair, TASK, 64) for pair in find([str(cases)])]


def test_every_look_at_a_slice_is_a_new_view_of_picture_and_mask(cases, tiny_sam) -> None:
    views = FreshViews(stacks(cases), tiny_sam, Augment(keep=0.0), seed=0)
    assert len(views) == 24 and views.masks.shape == (24, 1, 16, 16) and views.case.tolist()[5:7] == [0, 1]
    (one, _, mask), (other, _, moved) = views.take([3, 9]), views.take([3, 9])
    assert one.shape == (2, 256, tiny_sam.grid, tiny_sam.grid) and not one.is_inference()
    assert not torch.allclose(one, other, atol=1e-3) and not torch.equal(mask, moved)


def test_views_that_are_not_changed_are_the_slices_themselves(cases, tiny_sam) -> None:
    views = FreshViews(stacks(cases), tiny_sam, STILL, seed=0)
    embedding, features, masks = views.take([3, 9])
    again, _, _ = views.take([9, 3])
    assert features == [] and torch.equal(masks, torch.from_numpy(views.masks[[3, 9]])) and masks.any()
    assert torch.allclose(embedding, again.flip(0), atol=1e-3)


def test_a_pack_comes_out_that_began_from_nothing_installed(cases, home, tmp_path) -> None:
    settings, told = as_published(Settings(steps=3, batch=4, seed=0)), []
    assert (settings.guide, settings.corrections, settings.refine, settings.rate) == (0, 0, 0, 1e-3)
    survey = Survey([str(cases)], None, Wish(NAME, side=64, held_out=()))
    assert survey.small, "else nobody sees that refiners are left out"
    order = Order(tmp_path / "work", settings, "cpu", starts=packs.installed())
    PublishedTeaching(survey, order, lambda event, **values: told.append(event), Commands(None)).run()
    manifest = packs.read_manifest(packs.find(NAME))
    assert not manifest.refiners and manifest.targets[0].ips is not None
    assert told == ["look", "done"], "nothing is encoded before, and no start is looked for"
    assert not list((tmp_path / "work").glob("views-*"))
    assert all(value.isfinite().all() for value in tensors().values())
