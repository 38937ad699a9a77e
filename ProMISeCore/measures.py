"""What `promise bench` measures: each figure with its baseline in the same run, on random weights where need be.

Time does not depend on the weights' values, so where a backbone's are not installed, random ones serve and are marked.
Baselines are segment_anything's own modules in float32, one image at a time, as its package ships them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from safetensors.torch import save_file

from ProMISeCore import backbones, packs, sam
from ProMISeCore.cache import Cache
from ProMISeCore.dataset import Views
from ProMISeCore.errors import PromiseError
from ProMISeCore.material import Material
from ProMISeCore.promise import Promise
from ProMISeCore.sam import Sam
from ProMISeCore.segmenter import Segmenter
from ProMISeCore.settings import Settings
from ProMISeCore.training import Training
from ProMISeCore.volumes import Volume

#: Linux's ru_maxrss begins with that of the process that started this one; VmHWM is of this one alone.
_PEAK = """
import json, sys, resource
from pathlib import Path
from ProMISeCore.__main__ import main
code = main(json.loads(sys.argv[1]))
if sys.platform == "darwin":
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
else:
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
print(json.dumps({"code": code, "peak": peak}))
"""


def noise(shape: tuple[int, int, int]) -> Volume:
    """A volume (K, J, I) int16 of bright blobs on noise at 0.7 × 0.7 × 1 mm; no two slices are alike."""
    generator = np.random.default_rng(0)
    voxels = generator.integers(0, 200, shape, dtype=np.int16)
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    for k in range(shape[0]):
        row, column = generator.integers(0, shape[1]), generator.integers(0, shape[2])
        voxels[k][np.hypot(rows - row, columns - column) < shape[1] / 6] += 600
    return Volume(voxels, np.diag([-0.7, -0.7, 1.0, 1.0]), "bench")


def any_model(name: str, side: int | None = None, targets: int = 1) -> tuple[Promise, bool]:
    """A model with random targets on a backbone, and whether that backbone's weights are the real ones."""
    backbone = backbones.TABLE[name]
    real = backbones.location(backbone).is_file()
    frozen = sam.load(name, side=side) if real else sam.build(backbone.architecture, side).freeze()
    return Promise(frozen, _manifest(frozen, targets)).eval(), real


def _manifest(sam: Sam, targets: int) -> packs.Manifest:
    """Targets with everything a default pack has: lite APM of eight points, IPS with PaE, presence."""
    target = packs.TargetInfo(
        "target 1",
        apm={"kind": "lite", "count": 8, "width": 64},
        ips={"kind": "pae", "hidden": 256},
        presence={"width": 64},
        point_labels=(1, 1, 1, 1, 0, 0, 0, 0),
    )
    return packs.Manifest(
        name="bench",
        backbone=packs.BackboneInfo(sam.name, sam.fingerprint(), sam.side),
        targets=tuple(replace(target, name=f"target {1 + i}") for i in range(targets)),
        modality="CT",
        orientation="axial",
        window={"mode": "percentile", "low": 0.5, "high": 99.5},
        channels="neighbours",
        presence_threshold=0.0,
    )


def time_backbone(name: str, device: str, slices: int) -> dict[str, Any]:
    """Median seconds per slice, cold (encoded) and warm (from the cache), and of prompting a slice again."""
    model, real = any_model(name)
    volume = noise((slices + 1, 512, 512))
    with tempfile.TemporaryDirectory(prefix="promise-bench-") as folder:
        cold = Segmenter(model, volume, device, cache=Cache(folder), batch=1)
        cold_seconds = list(_intervals(cold.segment_volume()))[1:]  # the first sets things up
        warm = Segmenter(model, volume, device, cache=Cache(folder), batch=1)
        warm_seconds = list(_intervals(warm.segment_volume()))[1:]
    generator = np.random.default_rng(1)
    middle = len(warm) // 2
    again = [
        seconds_of(lambda: warm.segment_slice(middle, points_rc=generator.uniform(100, 400, (2, 2)), labels=[1, 0]))
        for _ in range(21)
    ][1:]
    return {
        "weights": "real" if real else "random",
        "device": str(warm.device),
        "precision": cold.precision,
        "side": model.sam.side,
        "cold": statistics.median(cold_seconds),
        "warm": statistics.median(warm_seconds),
        "prompt": statistics.median(again),
    }


def _intervals(items: Iterator) -> Iterator[float]:
    start = time.perf_counter()
    for _ in items:
        yield time.perf_counter() - start
        start = time.perf_counter()


def seconds_of(work: Callable[[], object]) -> float:
    """How long that takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_memory(shape: tuple[int, int, int]) -> dict[str, Any] | None:
    """Peak resident bytes of `promise segment` on a new int16 volume (K, J, I), in a process of its own, with tiny.

    None where the system does not tell (Windows). The cache is a new folder, so every slice is encoded.
    """
    if sys.platform == "win32":
        return None
    model, real = any_model("tiny")
    with tempfile.TemporaryDirectory(prefix="promise-bench-") as name:
        folder = Path(name)
        _write_inputs(folder, model, noise(shape))
        files = [str(folder / "bench.nrrd"), "--pack", str(folder / "pack.safetensors"), "--device", "cpu"]
        command = ["segment", *files, "--backbone", str(folder / "backbone.safetensors"), "--out", str(folder)]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, json.dumps(command)],
            env=os.environ | {"PROMISE_HOME": name, "PYTHONUTF8": "1"},
            capture_output=True,
            encoding="utf-8",
        )
        seconds = time.perf_counter() - start
    answer = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"code": done.returncode}
    if answer["code"] != 0:
        raise PromiseError(f"segmenting the volume of {' × '.join(map(str, shape))} failed: {done.stderr[-300:]}")
    return {"shape": list(shape), "weights": "real" if real else "random", "peak": answer["peak"], "seconds": seconds}


def epoch(count: int, name: str = "tiny", device: str | torch.device = "cpu") -> dict[str, Any]:
    """Seconds of one epoch of training a target, cached views, a quarter of them empty."""
    model = any_model(name)[0].to(device)
    grid, side = model.sam.grid, model.sam.side // 4
    generator = np.random.default_rng(0)
    embedding = generator.standard_normal((count, 256, grid, grid), np.float32).astype(np.float16)
    rows, columns = np.mgrid[:side, :side]
    disc = np.hypot(rows - side / 2, columns - side / 2) < side / 4
    filled = np.arange(count) % 4 > 0
    views = Views(embedding, {}, filled[:, None, None, None] & disc, np.arange(count) // 4)
    with tempfile.TemporaryDirectory(prefix="promise-bench-") as folder:
        seconds = _time_epoch(model, views, Settings(), Path(folder))
    return {"views": count, "seconds": seconds}


def _time_epoch(model: Promise, views: Views, settings: Settings, folder: Path) -> float:
    """Seconds of one epoch of every target over cached views."""
    labels = {name: target.point_labels.tolist() for name, target in model.targets.items()}
    steps = max(1, len(views) // settings.batch)
    training = Training(
        model, Material(views, labels), views, replace(settings, steps=steps, every=10**9), folder / "epoch.pt"
    )
    started = time.monotonic()
    for _ in range(steps):
        for name in training.names:
            training.step(name)
    return time.monotonic() - started


def _write_inputs(folder: Path, model: Promise, volume: Volume) -> None:
    """bench.nrrd, backbone.safetensors and pack.safetensors."""
    image = sitk.GetImageFromArray(volume.voxels)
    image.SetSpacing(volume.spacing.tolist())
    sitk.WriteImage(image, str(folder / "bench.nrrd"))
    tensors = {key: value.contiguous() for key, value in model.sam.state_dict().items()}
    save_file(tensors, folder / "backbone.safetensors")
    packs.save(folder / "pack.safetensors", model.manifest, model.tensors())
