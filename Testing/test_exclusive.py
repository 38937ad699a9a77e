"""Targets that exclude each other, where somebody prompts them: who gives way to whom, on literal answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from segmenting import volume

from ProMISeCore.answers import Answer
from ProMISeCore.promise import Output
from ProMISeCore.segmenter import Segmenter

SHAPE = (1, 16, 16)


@pytest.fixture
def literal(tiny_model, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Segmenter]:
    """`literal(**presence)`: automatically "a" is on the left and "b" on the right; prompts are answered everywhere."""

    def make(**presence: float) -> Segmenter:
        model = tiny_model(("a", "b"), exclusive=True, presence_threshold=0.5)
        segmenter = Segmenter(model, volume(SHAPE, affine=np.diag([-1.0, -1, 1, 1])), "cpu")
        logits = {name: np.full(SHAPE[1:], -9.0, np.float16) for name in "ab"}
        logits["a"][4:12, 1:5], logits["b"][4:12, 8:13] = 9, 9
        answers = {name: Answer(logits[name], 0.9, presence=presence.get(name, 0.9)) for name in "ab"}
        monkeypatch.setattr(segmenter._answers, "_decode", lambda items: [answers for _ in items])
        everywhere = Output(torch.full((1, 3, 16, 16), 5.0), torch.ones(1, 3))
        monkeypatch.setattr(model, "solve", lambda *_, **__: everywhere)
        return segmenter

    return make


@pytest.mark.parametrize(("presence", "gives_way"), [(0.9, False), (0.1, True)])
def test_a_click_does_not_take_what_is_more_likely_another_target_that_is_there(literal, presence, gives_way) -> None:
    """The decoder would fill the slice; of that the pixels in which "b" has the higher logit are left out."""
    found = literal(b=presence).segment_slice(0, "a", [[8, 6]], [1], own=[True]).masks["a"]
    assert found[8, 6] and found[4:12, 8:13].any() == gives_way


@pytest.mark.parametrize(("prompted", "whole", "empty"), [("ab", "a", "b"), ("ba", "b", "a"), ("aba", "b", "a")])
def test_the_target_prompted_last_leaves_out_what_was_prompted_before_it(literal, prompted, whole, empty) -> None:
    """As docs/session.md has it of masks that are written: what is kept stays, a new mask gives way to it."""
    segmenter = literal()
    for name in prompted:
        segmenter.segment_slice(0, name, mask=np.ones(SHAPE[1:], bool))
    masks = segmenter.masks()
    assert masks[whole].all() and not masks[empty].any()
