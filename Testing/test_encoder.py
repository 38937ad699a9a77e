"""Quick encoders and the quick decoder compute what segment_anything's own order computes, or step aside."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from ProMISeCore import devices, encoder, sam
from ProMISeCore.encoder import Encoder
from ProMISeCore.errors import InputError, WeightsError
from ProMISeCore.fast_tiny_vit import FastTinyViT
from ProMISeCore.fast_vit import FastViT, _in_pieces, _widened
from ProMISeCore.sam import Sam


def lively(architecture: str, side: int) -> Sam:
    """A backbone in which nothing is zero or one: positions, biases, norms and running statistics are drawn."""
    torch.manual_seed(3)
    model = sam.build(architecture, side)
    for module in model.image_encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
        for name, values in module.named_parameters(recurse=False):
            if "pos" in name or name in ("attention_biases", "bias"):
                nn.init.normal_(values, std=0.2)
    return model.freeze()


def frames(count: int, side: int) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(5))


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


@pytest.mark.parametrize("side", [256, 320])  # 16 cells pad windows of 14 to 28; 20 likewise, another remainder
@pytest.mark.parametrize("architecture", ["vit_b", "mobile_sam"])
def test_fast_encoders_compute_the_same_function(architecture: str, side: int) -> None:
    model, images = lively(architecture, side), frames(2, side)
    make = {"vit_b": FastViT, "mobile_sam": FastTinyViT}[architecture]
    with torch.inference_mode():
        expected = model.image_encoder(images)
        assert error(make(model.image_encoder, torch.float32)(images)[0], expected) < 1e-5
        assert error(make(model.image_encoder, torch.bfloat16)(images)[0], expected) < 1e-2


def test_fast_vit_gives_the_features_of_blocks_in_the_order_asked_for() -> None:
    model, images = lively("vit_b", 256), frames(1, 256)
    with torch.inference_mode():
        _, expected = model.encode_with_features(images, (12, 3, 4))
        _, features = FastViT(model.image_encoder, torch.float32)(images, (12, 3, 4))
    assert [tuple(x.shape) for x in features] == [(1, 768, 16, 16)] * 3
    for got, wanted in zip(features, expected, strict=True):
        assert error(got, wanted) < 1e-5


@pytest.mark.parametrize("attend", [_in_pieces, _widened])
@pytest.mark.parametrize("side", [4, 48])  # many items at once; one item whose 48⁴ logits exceed a piece
def test_attention_with_relative_positions_is_the_textbook_one(attend, side: int) -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(3, side * side, 20, generator=generator) for _ in range(3))
    rows, columns = (torch.randn(3, side * side, side, generator=generator) for _ in range(2))
    bias = (rows[..., :, None] + columns[..., None, :]).flatten(2)
    expected = torch.softmax(q @ k.transpose(1, 2) / 20**0.5 + bias, -1) @ v
    torch.testing.assert_close(attend(q, k, v, rows, columns), expected, atol=2e-5, rtol=1e-4)


def test_weights_stay_as_they_were() -> None:
    model = lively("vit_b", 64)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    Encoder(model)(frames(1, 64))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("architecture", ["vit_b", "mobile_sam", "tiny"])
def test_results_do_not_depend_on_the_batch(architecture: str) -> None:
    model, images = lively(architecture, 128), frames(3, 128)
    encode = Encoder(model)
    together = encode(images)[0]
    alone = torch.cat([encode(image[None])[0] for image in images])
    torch.testing.assert_close(together, alone, atol=2e-2 if encode.precision == "bfloat16" else 1e-4, rtol=0)


def test_exact_is_segment_anythings_own_result_to_the_last_bit() -> None:
    model, images = lively("vit_b", 128), frames(1, 128)
    exact = Encoder(model, exact=True)
    with torch.inference_mode():
        assert torch.equal(exact(images)[0], model.image_encoder(images))
    assert (exact.way, exact.precision) == ("float32", "float32")


def test_the_cache_can_tell_ways_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively("mobile_sam", 64)
    ways = [Encoder(model, exact=True).way]
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(devices, "encoder_dtype", lambda device, architecture, dtype=dtype: dtype)
        ways.append(Encoder(model).way)
    assert ways == ["float32", "fast float32", "fast bfloat16"]


@pytest.mark.parametrize("fault", ["raises", "nan"])
def test_a_quick_way_that_fails_is_left_for_the_plain_one_and_said_once(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images, told = lively("vit_b", 64), frames(1, 64), []

    def broken(images, blocks):
        if fault == "raises":
            raise RuntimeError("no kernel for this machine\nmore")
        return torch.full((1, 256, 4, 4), torch.nan), []

    monkeypatch.setitem(encoder._FAST, "vit_b", lambda part, dtype: broken)
    encode = Encoder(model, say=told.append)
    with torch.inference_mode():
        expected = model.image_encoder(images)
    assert torch.equal(encode(images)[0], expected) and torch.equal(encode(images)[0], expected)
    assert len(told) == 1 and "plain one" in told[0] and "more" not in told[0]
    assert encode.way == "float32"


def test_memory_that_runs_out_is_not_taken_for_a_failing_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(images, blocks):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes")

    monkeypatch.setitem(encoder._FAST, "vit_b", lambda part, dtype: full)
    encode = Encoder(lively("vit_b", 64))
    with pytest.raises(RuntimeError, match="not enough memory"):
        encode(frames(1, 64))
    assert encode.way.startswith("fast")


def test_fast_encoders_check_what_they_are_given() -> None:
    encode = Encoder(lively("mobile_sam", 64))
    with pytest.raises(InputError, match=r"\(1, 3, 32, 32\)"):
        encode(frames(1, 32))
    with pytest.raises(WeightsError, match="none"):
        encode(frames(1, 64), (3,))


def test_the_quick_decoder_computes_the_same_function() -> None:
    torch.manual_seed(2)
    model = sam.build("tiny", 256).freeze()
    embedding, shift = torch.randn(2, 256, 16, 16), torch.randn(2, 4, 256)
    points, labels = torch.rand(2, 9, 2) * 256, torch.randint(-1, 2, (2, 9))
    prompts = [
        {},
        {"points": points, "labels": labels, "shift": shift},
        {"box": torch.tensor([[20.0, 30.0, 200.0, 180.0]]), "mask": torch.randn(1, 1, 64, 64)},
    ]
    with torch.inference_mode():
        for given in prompts:
            quick = model.decode_tokens(embedding, **given)
            model.exact = True
            plain = model.decode_tokens(embedding, **given)
            model.exact = False
            for got, expected in zip(quick, plain, strict=True):
                torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def test_what_the_quick_decoder_keeps_does_not_depend_on_who_asked_first() -> None:
    """A training in half precision before it changed float32 results by what rounding positions to 8 bits does."""
    torch.manual_seed(2)
    models, embedding = [sam.build("tiny", 64).freeze() for _ in range(2)], torch.randn(1, 256, 4, 4)
    models[1].load_state_dict(models[0].state_dict())
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            half = models[0].decode(embedding)[0]
        exact = [model.decode(embedding)[0] for model in models]
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(models[1].decode(embedding)[0], half)
    assert torch.equal(*exact) and not torch.equal(exact[0], half)


def test_the_quick_decoder_has_the_same_gradients() -> None:
    torch.manual_seed(2)
    model, gradients = sam.build("tiny", 64), []
    embedding, shift = torch.randn(1, 256, 4, 4), torch.randn(1, 4, 256, requires_grad=True)
    for model.exact in (False, True):
        logits, _ = model.decode_tokens(embedding, shift=shift)
        logits.square().mean().backward()
        layer = model.mask_decoder.transformer.layers[1].cross_attn_image_to_token
        gradients.append([x.grad.clone() for x in (shift, layer.out_proj.bias, layer.q_proj.weight)])
        model.zero_grad()
        shift.grad = None
    for quick, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(quick, plain, atol=1e-7, rtol=1e-3)


def test_first_batches_grow_with_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda:0")
    sizes = []
    for free in (1e9, 8e9, 24e9, 80e9, 1e12):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (int(free), int(1e12)))
        sizes.append(devices.first_batch(cuda, "vit_b", 1024))
    assert sizes[0] == 1 and sizes[-1] == 64 and all(a < b for a, b in pairwise(sizes))
    assert devices.first_batch(torch.device("cpu"), "vit_b", 1024) == 1
