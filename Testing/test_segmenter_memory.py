"""The segmenter where a device, its memory or its numbers run out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from segmenting import balanced, count_encoded, run, volume

from ProMISeCore.cache import Cache
from ProMISeCore.errors import InputError, PromiseError, WeightsError
from ProMISeCore.segmenter import Segmenter


def test_unknown_and_absent_devices() -> None:
    from ProMISeCore import devices

    with pytest.raises(InputError, match="unknown device 'gpu'"):
        devices.choose("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="not available here"):
            devices.choose("cuda")
        assert devices.choose("auto").type in ("cpu", "mps")


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: not enough memory"),
    ],
    ids=["CUDA", "Python", "CPU allocator"],
)
def test_out_of_memory_halves_the_batch(tiny_model, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    model = tiny_model()
    expected = run(Segmenter(model, volume((9, 20, 24)), "cpu")).masks()["a"]
    encode, sizes = model.sam.encode, []

    def limited(images):
        sizes.append(len(images))
        if len(images) > 2:
            raise error
        return encode(images)

    monkeypatch.setattr(model.sam, "encode", limited)
    notices: list[str] = []
    segmenter = run(Segmenter(model, volume((9, 20, 24)), "cpu", batch=8, notice=notices.append))
    np.testing.assert_array_equal(segmenter.masks()["a"], expected)
    assert sizes == [1, 8, 4, 2, 2, 2, 2]
    assert len(notices) == 2 and "4 slices" in notices[0] and "2 slices" in notices[1]


def test_out_of_memory_in_the_decoder_too(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    expected = run(Segmenter(model, volume(), "cpu")).masks()["a"]
    decode = model.sam.decode

    def limited(embedding, *rest):
        if len(embedding) > 1:
            raise MemoryError
        return decode(embedding, *rest)

    monkeypatch.setattr(model.sam, "decode", limited)
    segmenter = run(Segmenter(model, volume(), "cpu", batch=4, notice=lambda message: None))
    np.testing.assert_array_equal(segmenter.masks()["a"], expected)


def test_the_cpu_is_the_last_resort(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    notices: list[str] = []
    segmenter = Segmenter(model, volume(), "cpu", batch=1, notice=notices.append)
    segmenter._embedder.device = torch.device("meta")  # stands for an accelerator that has no memory at all
    monkeypatch.setattr(model.sam, "encode", _raise(MemoryError()))
    with pytest.raises(PromiseError, match="not enough memory"):
        run(segmenter)
    assert segmenter.device.type == "cpu"
    assert len(notices) == 1 and "CPU" in notices[0]


def test_bfloat16_is_within_tolerance_and_has_its_own_cache(tiny_model, tmp_path: Path, monkeypatch) -> None:
    from ProMISeCore import devices, scores

    model, cache = balanced(tiny_model, volume()), Cache(tmp_path)
    exact = run(Segmenter(model, volume(), "cpu", cache=cache))
    monkeypatch.setattr(devices, "encoder_dtype", lambda device, architecture: torch.bfloat16)
    batches = count_encoded(model, monkeypatch)
    rounded = run(Segmenter(model, volume(), "cpu", cache=cache))
    assert (exact.precision, rounded.precision) == ("float32", "bfloat16") and sum(batches) == 5
    assert scores.dice(exact.masks()["a"], rounded.masks()["a"]) > 0.97


def test_other_errors_are_not_swallowed(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    monkeypatch.setattr(model.sam, "encode", _raise(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(Segmenter(model, volume(), "cpu"))


def _raise(error: Exception):
    def fail(*arguments, **options):
        raise error

    return fail


def test_nan_is_refused(tiny_model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, cache = tiny_model(), Cache(tmp_path)
    encode = model.sam.encode
    monkeypatch.setattr(model.sam, "encode", lambda images: encode(images) * torch.nan)
    with pytest.raises(WeightsError, match="not numbers"):
        run(Segmenter(model, volume(), "cpu", cache=cache))
    assert cache.size() == (0, 0)
    monkeypatch.undo()
    broken = tiny_model()
    torch.nn.init.constant_(broken.targets["a"].ips.lin2.bias, torch.nan)
    with pytest.raises(WeightsError, match="pack"):
        run(Segmenter(broken, volume(), "cpu"))


def test_large_values_survive_float16(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    encode = model.sam.encode
    monkeypatch.setattr(model.sam, "encode", lambda images: encode(images) * 1e6)
    results = list(Segmenter(model, volume(), "cpu").segment_volume())
    logits = np.stack([values for result in results for values in result.logits.values()])
    assert len(results) == 5 and np.isfinite(logits).all() and np.ptp(logits) > 0
