"""`promise bench`: seconds and bytes on this machine, measured, with what they were measured on.

Where a backbone's weights are not installed, random ones are measured and marked so: time does not depend on values.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ProMISeCore import backbones, packs
from ProMISeCore.cache import Cache
from ProMISeCore.errors import PromiseError
from ProMISeCore.terminal import amount, duration, say, table
from ProMISeCore.volumes import Volume
from ProMISeCore.whole_file import replacing

if TYPE_CHECKING:
    from ProMISeCore.promise import Promise
    from ProMISeCore.sam import Sam

#: Backbone → slices timed; the slow ones on fewer.
SLICES = {"tiny": 16, "mobile_sam": 5, "sam_vit_b": 3}
LARGE = (300, 512, 512)  # (K, J, I) of the volume whose segmentation's memory is measured
_PEAK = """
import json, sys, resource
from ProMISeCore.__main__ import main
code = main(json.loads(sys.argv[1]))
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps({"code": code, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `promise bench`."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("--backbones", nargs="+", metavar="NAME", choices=backbones.TABLE, help="which ones")
    parser.add_argument("--quick", action="store_true", help="tiny only, small volumes: a check, no measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print a table, write the JSON."""
    report: dict[str, Any] = {"machine": machine(), "backbones": {}, "memory": None, "epoch": None}
    print("  ".join(f"{name}: {value}" for name, value in report["machine"].items()))
    for name in arguments.backbones or (["tiny"] if arguments.quick else list(SLICES)):
        say(f"timing {name}")
        report["backbones"][name] = time_backbone(name, arguments.device, 3 if arguments.quick else SLICES.get(name, 3))
    print(_as_table(report["backbones"]))
    shape = (8, 128, 128) if arguments.quick else LARGE
    say(f"measuring the memory of segmenting {' × '.join(map(str, shape[::-1]))} voxels")
    report["memory"] = peak_memory(shape)
    print(_memory_line(report["memory"]))
    say("timing an epoch of training from cached embeddings")
    report["epoch"] = epoch(16 if arguments.quick else 160)
    views, seconds = report["epoch"].values()
    print(f"one epoch of training a pack of one target on tiny, {views} cached views: {seconds:.1f} s")
    if arguments.json is not None:
        with replacing(arguments.json) as part:
            part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(arguments.json)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    import torch

    from ProMISeCore import devices

    names = {"system": f"{platform.system()} {platform.machine()}", "CPU": _cpu_name()}
    names["cores"] = f"{os.cpu_count()}, {torch.get_num_threads()} threads used"
    if torch.cuda.is_available():
        names["GPU"] = torch.cuda.get_device_name()
    names["bfloat16"] = str(devices.cpu_has_bfloat16()).lower()
    return names | {"Python": platform.python_version(), "torch": torch.__version__}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def noise(shape: tuple[int, int, int]) -> Volume:
    """A volume (K, J, I) int16 of bright blobs on noise at 0.7 × 0.7 × 1 mm; no two slices are alike."""
    generator = np.random.default_rng(0)
    voxels = generator.integers(0, 200, shape, dtype=np.int16)
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    for k in range(shape[0]):
        row, column = generator.integers(0, shape[1]), generator.integers(0, shape[2])
        voxels[k][np.hypot(rows - row, columns - column) < shape[1] / 6] += 600
    return Volume(voxels, np.diag([-0.7, -0.7, 1.0, 1.0]), "bench")


def any_model(name: str) -> tuple[Promise, bool]:
    """A model with one random target on a backbone, and whether that backbone's weights are the real ones."""
    from ProMISeCore import sam
    from ProMISeCore.promise import Promise

    backbone = backbones.TABLE[name]
    real = backbones.location(backbone).is_file()
    frozen = sam.load(name) if real else sam.build(backbone.architecture).freeze()
    return Promise(frozen, _manifest(frozen)).eval(), real


def _manifest(sam: Sam) -> packs.Manifest:
    """One target with everything a default pack has: lite APM of eight points, IPS with PaE, presence."""
    target = packs.TargetInfo(
        "target",
        apm={"kind": "lite", "count": 8, "width": 64},
        ips={"kind": "pae", "hidden": 256},
        presence={"width": 64},
        point_labels=(1, 1, 1, 1, 0, 0, 0, 0),
    )
    return packs.Manifest(
        name="bench",
        backbone=packs.BackboneInfo(sam.name, sam.fingerprint(), sam.side),
        targets=(target,),
        modality="CT",
        orientation="axial",
        window={"mode": "percentile", "low": 0.5, "high": 99.5},
        channels="neighbours",
        presence_threshold=0.0,
    )


def time_backbone(name: str, device: str, slices: int) -> dict[str, Any]:
    """Median seconds per slice, cold (encoded) and warm (from the cache), and of prompting a slice again."""
    from ProMISeCore.segmenter import Segmenter

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
        _seconds(lambda: warm.segment_slice(middle, points_rc=generator.uniform(100, 400, (2, 2)), labels=[1, 0]))
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


def _seconds(work: Callable[[], object]) -> float:
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
            env=os.environ | {"PROMISE_HOME": name},
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - start
    answer = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"code": done.returncode}
    if answer["code"] != 0:
        raise PromiseError(f"segmenting the volume of {' × '.join(map(str, shape))} failed: {done.stderr[-300:]}")
    return {"shape": list(shape), "weights": "real" if real else "random", "peak": answer["peak"], "seconds": seconds}


def epoch(count: int) -> dict[str, Any]:
    """Seconds of one epoch of training a target on tiny, cached views, a quarter of them empty."""
    from ProMISeCore.dataset import Views
    from ProMISeCore.training import Settings, time_epoch

    model, _ = any_model("tiny")
    grid, side = model.sam.grid, model.sam.side // 4
    generator = np.random.default_rng(0)
    embedding = generator.standard_normal((count, 256, grid, grid), np.float32).astype(np.float16)
    rows, columns = np.mgrid[:side, :side]
    disc = np.hypot(rows - side / 2, columns - side / 2) < side / 4
    filled = np.arange(count) % 4 > 0
    views = Views(embedding, {}, filled[:, None, None, None] & disc, np.arange(count) // 4)
    with tempfile.TemporaryDirectory(prefix="promise-bench-") as folder:
        seconds = time_epoch(model, views, Settings(), Path(folder))
    return {"views": count, "seconds": seconds}


def _write_inputs(folder: Path, model: Promise, volume: Volume) -> None:
    """bench.nrrd, backbone.safetensors and pack.safetensors."""
    import SimpleITK as sitk
    from safetensors.torch import save_file

    image = sitk.GetImageFromArray(volume.voxels)
    image.SetSpacing(volume.spacing.tolist())
    sitk.WriteImage(image, str(folder / "bench.nrrd"))
    tensors = {key: value.contiguous() for key, value in model.sam.state_dict().items()}
    save_file(tensors, folder / "backbone.safetensors")
    packs.save(folder / "pack.safetensors", model.manifest, model.tensors())


def _as_table(timed: dict[str, dict[str, Any]]) -> str:
    rows = [["backbone", "weights", "device", "precision", "frame", "cold s/slice", "cached s/slice", "new prompt ms"]]
    for name, figures in timed.items():
        seconds = [f"{figures['cold']:.3f}", f"{figures['warm']:.3f}", f"{1000 * figures['prompt']:.0f}"]
        rows.append([name, figures["weights"], figures["device"], figures["precision"], str(figures["side"]), *seconds])
    return table(rows)


def _memory_line(memory: dict[str, Any] | None) -> str:
    if memory is None:
        return "peak memory: this system does not tell"
    sides = " × ".join(map(str, memory["shape"][::-1]))
    return f"promise segment, {sides} voxels, tiny: peak {amount(memory['peak'])}, {duration(memory['seconds'])} in all"
