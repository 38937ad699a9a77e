"""Encoders and the decoder against fp32, batch 1, timed in turns in one run because machines are shared.

    python Testing/benchmarks/core_speed.py [--rounds 3] [--json FILE]

ViT-B's baseline is segment_anything's own encoder; MobileSAM's is the same network in float32. Weights are random: time
does not depend on values, and the relative errors printed are those of random weights on noise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ProMISeCore import devices, sam
from ProMISeCore.bench import machine

ENCODERS = {"mobile_sam": 2.5, "vit_b": 4.0}  # and the speed-up asked for
DECODE_MS = 40


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds, and what came out."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


@torch.inference_mode()
def encoder(architecture: str, rounds: int) -> dict[str, object]:
    """Median seconds of float32 and of the precision that is used here, and the relative error between them."""
    torch.manual_seed(0)
    model = sam.build(architecture).freeze()
    image = torch.randn(1, 3, model.side, model.side)
    dtype = devices.encoder_dtype(torch.device("cpu"), architecture)

    def fast() -> Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return model.encode(image)

    plain, used = [], []
    for _ in range(rounds):
        seconds, expected = timed(lambda: model.image_encoder(image))
        plain.append(seconds)
        seconds, got = timed(fast)
        used.append(seconds)
    baseline, ours = statistics.median(plain), statistics.median(used)
    error = float((got.float() - expected).norm() / expected.norm())
    figures = {"precision": str(dtype), "rounds": rounds, "baseline": baseline, "ours": ours}
    return figures | {"ratio": baseline / ours, "asked": ENCODERS[architecture], "relative_error": error}


@torch.inference_mode()
def decoder(rounds: int) -> dict[str, object]:
    """Median milliseconds of one point on one embedding of a 1024² frame."""
    torch.manual_seed(0)
    model = sam.build("mobile_sam").freeze()
    embedding = torch.randn(1, 256, model.grid, model.grid)
    points, labels = torch.tensor([[[300.0, 400.0]]]), torch.ones(1, 1)
    seconds = [timed(lambda: model.decode(embedding, points, labels)[0])[0] for _ in range(rounds + 1)][1:]
    return {"rounds": rounds, "ms": 1000 * statistics.median(seconds), "asked_ms": DECODE_MS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report: dict[str, object] = {"machine": machine(), "weights": "random", "gpu": "not measured"}
    report["decode"] = decoder(20)
    print("decode", report["decode"], flush=True)
    for name in ENCODERS:
        report[name] = encoder(name, arguments.rounds)
        print(name, report[name], flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
