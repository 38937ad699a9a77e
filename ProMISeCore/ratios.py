"""How much quicker than segment_anything as its package ships: both in one run, in turns, with what was asked for."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ProMISeCore import devices, measures, sam
from ProMISeCore.cache import Cache
from ProMISeCore.encoder import Encoder
from ProMISeCore.promise import Promise
from ProMISeCore.segmenter import Segmenter

#: Multiply-adds of ViT-B on a frame of 1024²: products with weights, and attention's.
VIT_B_MULTIPLY_ADDS = 480e9
_NAMES = {"vit_b": "ViT-B", "mobile_sam": "MobileSAM"}


@dataclass(frozen=True)
class Row:
    """One figure: seconds now, of the baseline (None where the figure stands alone), what was asked, and a remark."""

    what: str
    seconds: float | None
    baseline: float | None = None
    asked: str = ""
    remark: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times quicker than the baseline."""
        return self.baseline / self.seconds if self.seconds and self.baseline else None

    def report(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"ratio": self.ratio}


def rows(device: str, rounds: int, shape: tuple[int, int, int], views: int) -> Iterator[Row]:
    """Every row, as it is measured. rounds: of each timing; shape (K, J, I): of the volume; views: of the epoch."""
    place = devices.choose(device)
    yield encode("vit_b", place, rounds)
    yield encode("mobile_sam", place, rounds)
    yield decode(place, 5 * rounds)
    if place.type == "cuda":
        yield decode_many(place, 5 * rounds)
    yield from volume("tiny", device, shape)
    yield from volume("sam_vit_b", device, (4, *shape[1:]))
    yield epoch("tiny", place, views)
    yield epoch("sam_vit_b", place, max(8, views // 10))
    if place.type != "cuda":
        yield Row("every row of a data-centre GPU", None, remark="not measured: no CUDA device here")


@torch.inference_mode()
def encode(architecture: str, device: torch.device, rounds: int) -> Row:
    """One frame of 1024²; ours in batches as large as the device's memory allows."""
    torch.manual_seed(0)
    model = sam.build(architecture).freeze().to(device)
    ours = Encoder(model)
    images = torch.randn(devices.first_batch(device, architecture, model.side), 3, model.side, model.side).to(device)
    baseline, seconds, (plain, quick) = _in_turns(
        lambda: model.image_encoder(images[:1]), lambda: ours(images)[0], rounds, device
    )
    seconds /= len(images)
    remark = f"{ours.way}, batch {len(images)}, relative error {float((quick[:1] - plain).norm() / plain.norm()):.1e}"
    if architecture == "vit_b":
        remark += f", {2e-12 * VIT_B_MULTIPLY_ADDS / seconds:.2f} TFLOP/s"
    asked = {"vit_b": (4, 10), "mobile_sam": (2.5, 6)}[architecture][device.type == "cuda"]
    return Row(f"{_NAMES[architecture]} encode, 1024²", seconds, baseline, f"≥ {asked}×", remark)


@torch.inference_mode()
def decode(device: torch.device, rounds: int) -> Row:
    """One point on a slice of 1024² that has been encoded."""
    model, embedding, points, labels = _prompted(device, 1)

    def plain() -> Tensor:
        sparse, dense = model.prompt_encoder((points, labels), None, None)
        position = model.prompt_encoder.get_dense_pe()
        return model.mask_decoder.predict_masks(embedding, position, sparse, dense)[0]

    baseline, seconds, _ = _in_turns(plain, lambda: model.decode(embedding, points, labels)[0], rounds, device)
    return Row("decode one point, 1024²", seconds, baseline, "≤ 4 ms" if device.type == "cuda" else "≤ 40 ms")


@torch.inference_mode()
def decode_many(device: torch.device, rounds: int) -> Row:
    """64 slices in one batch."""
    model, embedding, points, labels = _prompted(device, 64)
    work = lambda: model.decode(embedding, points, labels)[0]  # noqa: E731
    _, seconds, _ = _in_turns(work, work, rounds, device)
    return Row("decode 64 slices in one batch, 1024²", seconds, None, "≤ 40 ms")


def volume(name: str, device: str, shape: tuple[int, int, int]) -> Iterator[Row]:
    """A volume (K, J, I) with a new cache, again from the cache on disk, and with another pack on the same backbone."""
    model, _ = measures.any_model(name)
    other = Promise(model.sam, model.manifest).eval()
    other.load_tensors({key: value + 0.01 for key, value in other.tensors().items()})
    scan, size = measures.noise(shape), " × ".join(map(str, shape[::-1]))
    with tempfile.TemporaryDirectory(prefix="promise-bench-") as folder:
        passes = [_pass(pack, scan, device, folder) for pack in (model, model, other)]
    (cold, _), (again, _), (another, encoded) = passes
    asked = "≤ 60 s" if name == "tiny" else ""
    yield Row(f"{size} volume, {name}, cold", cold, None, asked)
    yield Row("the same again, from the cache on disk", again, cold, "≥ 20×")
    yield Row("another pack, same backbone", another, cold, "encodes nothing", f"{encoded} slices encoded")


def _pass(model: Promise, scan: measures.Volume, device: str, folder: str) -> tuple[float, int]:
    """Seconds of segmenting the volume, and how many slices were encoded for it."""
    start = time.perf_counter()
    segmenter = Segmenter(model, scan, device, cache=Cache(folder))
    for _ in segmenter.segment_volume():
        pass
    segmenter.masks()
    return time.perf_counter() - start, segmenter.encoded


@torch.inference_mode()
def epoch(name: str, device: torch.device, views: int) -> Row:
    """One epoch of training from cached embeddings; the baseline encodes every view, as the published code does.

    The baseline is that epoch and the encoder's time for one view, measured twice, times the number of views.
    """
    with torch.inference_mode(False):
        seconds = measures.epoch(views, name, device)["seconds"]
    model = measures.any_model(name)[0].sam.to(device)
    image = torch.randn(1, 3, model.side, model.side, device=device)
    encode_seconds = min(_timed(lambda: model.image_encoder(image), device)[0] for _ in range(2))
    remark = f"{views} views, {encode_seconds:.3f} s to encode one"
    return Row(f"epoch of a pack's training, {name}", seconds, seconds + views * encode_seconds, "≥ 20×", remark)


def _prompted(device: torch.device, batch: int) -> tuple[sam.Sam, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    model = sam.build("mobile_sam").freeze().to(device)
    embedding = torch.randn(batch, 256, model.grid, model.grid, device=device)
    points = torch.tensor([[[300.0, 400.0]]], device=device).expand(batch, -1, -1)
    return model, embedding, points, torch.ones(batch, 1, device=device)


def _in_turns(
    baseline: Callable[[], Tensor], ours: Callable[[], Tensor], rounds: int, device: torch.device
) -> tuple[float, float, tuple[Tensor, Tensor]]:
    """Median seconds of both, one after the other so that both see the same machine, and what they gave last."""
    results = baseline(), ours()  # what a first time sets up
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for i, work in enumerate((baseline, ours)):
            seconds[i].append(_timed(work, device)[0])
    return statistics.median(seconds[0]), statistics.median(seconds[1]), results


def _timed(work: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
    """Seconds until the result is there, and the result."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result
