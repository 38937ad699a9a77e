"""The time-critical parts under pytest-benchmark, to compare one commit with another on the same machine.

    pip install pytest-benchmark
    pytest Testing/benchmarks/bench_speed.py --benchmark-autosave       then, after a change
    pytest Testing/benchmarks/bench_speed.py --benchmark-compare

Ratios to segment_anything and the cost curves are `promise bench --ratios --curves`; not collected by the test command.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ProMISeCore import measures, sam
from ProMISeCore.cache import Cache
from ProMISeCore.encoder import Encoder
from ProMISeCore.segmenter import Segmenter

pytest.importorskip("pytest_benchmark", reason="pip install pytest-benchmark")


@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
@pytest.mark.parametrize("architecture", ["tiny", "mobile_sam", "vit_b"])
@torch.inference_mode()
def test_encode(benchmark, architecture: str, exact: bool) -> None:
    torch.manual_seed(0)
    model = sam.build(architecture).freeze()
    encode, image = Encoder(model, exact), torch.randn(1, 3, model.side, model.side)
    benchmark.pedantic(encode, (image,), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
@torch.inference_mode()
def test_decode(benchmark, exact: bool) -> None:
    torch.manual_seed(0)
    model = sam.build("mobile_sam").freeze()
    model.exact = exact
    embedding, points = torch.randn(1, 256, model.grid, model.grid), torch.tensor([[[300.0, 400.0]]])
    benchmark.pedantic(model.decode, (embedding, points, torch.ones(1, 1)), rounds=20, warmup_rounds=2)


@pytest.mark.parametrize("known", ["nothing", "embeddings", "answers"])
def test_volume(benchmark, known: str, tmp_path: Path) -> None:
    volume, model = measures.noise((8, 512, 512)), measures.any_model("tiny")[0]
    count = iter(range(1000))

    def prepared() -> tuple[tuple[Segmenter], dict]:
        folder = tmp_path / (str(next(count)) if known == "nothing" else "kept")
        if known != "nothing":
            _all(Segmenter(model, volume, "cpu", cache=Cache(folder)))
        if known == "embeddings":  # another pack on the same backbone
            model.load_tensors({key: value + 1e-3 for key, value in model.tensors().items()})
        return (Segmenter(model, volume, "cpu", cache=Cache(folder)),), {}

    benchmark.pedantic(_all, setup=prepared, rounds=3)


def _all(segmenter: Segmenter) -> int:
    return len(list(segmenter.segment_volume()))
