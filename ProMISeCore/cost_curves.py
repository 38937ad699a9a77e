"""How time and memory grow with slices, the frame's side, targets and prompts, on the embedded backbone."""

from __future__ import annotations

import statistics
import tempfile
import time
from typing import Any

import numpy as np

from ProMISeCore import measures
from ProMISeCore.cache import Cache
from ProMISeCore.segmenter import Segmenter

SLICES = (10, 100, 300, 1000)
SIDES = (256, 512, 768, 1024)
TARGETS = (1, 2, 5, 10, 20)
PROMPTS = (1, 4, 16, 64)


def slices(counts: tuple[int, ...] = SLICES, side: int = 512) -> list[dict[str, Any]]:
    """Seconds and peak bytes of `promise segment` in a process of its own, for volumes of that many slices."""
    found = [measures.peak_memory((count, side, side)) for count in counts]
    return [{"slices": one["shape"][0], "seconds": one["seconds"], "peak": one["peak"]} for one in found if one]


def sides(device: str, values: tuple[int, ...] = SIDES) -> list[dict[str, Any]]:
    """Median seconds of a slice, encoded and from the cache, for frames of that side."""
    return [{"side": side, **_slice_seconds(measures.any_model("tiny", side)[0], device)} for side in values]


def targets(device: str, counts: tuple[int, ...] = TARGETS) -> list[dict[str, Any]]:
    """Likewise for packs of that many targets."""
    return [
        {"targets": count, **_slice_seconds(measures.any_model("tiny", targets=count)[0], device)} for count in counts
    ]


def prompts(device: str, counts: tuple[int, ...] = PROMPTS) -> list[dict[str, Any]]:
    """Median seconds of one target's mask on an encoded slice, for that many points."""
    model, _ = measures.any_model("tiny")
    segmenter = Segmenter(model, measures.noise((1, 512, 512)), device)
    generator, found = np.random.default_rng(1), []
    for count in counts:
        points = generator.uniform(100, 400, (count, 2))
        segmenter.segment_slice(0, points_rc=points)
        seconds = [measures.seconds_of(lambda: segmenter.segment_slice(0, points_rc=points)) for _ in range(9)]  # noqa: B023
        found.append({"points": count, "seconds": statistics.median(seconds)})
    return found


def _slice_seconds(model: measures.Promise, device: str) -> dict[str, float]:
    """Median seconds of five slices, cold and cached."""
    volume = measures.noise((6, 512, 512))
    with tempfile.TemporaryDirectory(prefix="promise-bench-") as folder:
        both = []
        for _ in range(2):
            segmenter, marks = Segmenter(model, volume, device, cache=Cache(folder), batch=1), [time.perf_counter()]
            marks += [time.perf_counter() for _ in segmenter.segment_volume()]
            both.append(statistics.median(np.diff(marks)[1:]))  # the first sets things up
    return {"cold": both[0], "cached": both[1]}
