"""`promise bench`: seconds and bytes on this machine, measured, with what they were measured on.

Where a backbone's weights are not installed, random ones are measured and marked so: time does not depend on values.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ProMISeCore import backbones, bench_teach
from ProMISeCore.terminal import amount, duration, say, table
from ProMISeCore.whole_file import replacing

WHOLE = (200, 512, 512)  # (K, J, I) of the volume that is timed cold, again and with another pack
#: Backbone → slices timed; the slow ones on fewer.
SLICES = {"tiny": 16, "mobile_sam": 5, "sam_vit_b": 3}
LARGE = (300, 512, 512)  # (K, J, I) of the volume whose segmentation's memory is measured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `promise bench`."""
    parser.add_argument("what", nargs="?", choices=("speed", "teach"), default="speed", help="default: speed")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("--backbones", nargs="+", metavar="NAME", choices=backbones.TABLE, help="which ones")
    parser.add_argument("--ratios", action="store_true", help="also against segment_anything's own, minutes")
    parser.add_argument(
        "--curves", action="store_true", help="also against slices, frame side, targets, points; minutes"
    )
    parser.add_argument("--quick", action="store_true", help="tiny only, small volumes: a check, no measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    bench_teach.add_arguments(parser.add_argument_group("teach: a few cases, a few minutes, against a U-Net"))


def run(arguments: argparse.Namespace) -> None:
    """Measure, print tables, write the JSON."""
    if arguments.what == "teach":
        bench_teach.run(arguments)
        return
    from ProMISeCore import measures

    report: dict[str, Any] = {"machine": machine(), "backbones": {}}
    print("  ".join(f"{name}: {value}" for name, value in report["machine"].items()))
    for name in arguments.backbones or (["tiny"] if arguments.quick else list(SLICES)):
        say(f"timing {name}")
        slices = 3 if arguments.quick else SLICES.get(name, 3)
        report["backbones"][name] = measures.time_backbone(name, arguments.device, slices)
    print(_as_table(report["backbones"]))
    shape = (8, 128, 128) if arguments.quick else LARGE
    say(f"measuring the memory of segmenting {' × '.join(map(str, shape[::-1]))} voxels")
    report["memory"] = measures.peak_memory(shape)
    print(_memory_line(report["memory"]))
    say("timing an epoch of training from cached embeddings")
    report["epoch"] = measures.epoch(16 if arguments.quick else 160)
    views, seconds = report["epoch"].values()
    print(f"one epoch of training a pack of one target on tiny, {views} cached views: {seconds:.1f} s")
    if arguments.ratios:
        report["ratios"] = _ratios(arguments.device, arguments.quick)
    if arguments.curves:
        report["curves"] = _curves(arguments.device, arguments.quick)
    if arguments.json is not None:
        with replacing(arguments.json) as part:
            part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(arguments.json)


def _ratios(device: str, quick: bool) -> list[dict[str, Any]]:
    """Rows against segment_anything's own, printed together when all are measured."""
    from ProMISeCore import ratios

    found = []
    for row in ratios.rows(device, 1 if quick else 3, (4, 128, 128) if quick else WHOLE, 8 if quick else 160):
        say(f"{row.what}: {row.seconds:.3f} s" if row.seconds else row.what)
        found.append(row)
    cells = [["against segment_anything, fp32, batch 1", "baseline s", "here s", "ratio", "asked", "remark"]]
    for row in found:
        numbers = ["" if x is None else f"{x:.3f}" for x in (row.baseline, row.seconds)]
        cells.append([row.what, *numbers, "" if row.ratio is None else f"{row.ratio:.1f}×", row.asked, row.remark])
    print(table(cells))
    return [row.report() for row in found]


def _curves(device: str, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Each printed as it is done."""
    from ProMISeCore import cost_curves

    few: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "slices of 512 × 512": lambda: cost_curves.slices((4,), 64) if quick else cost_curves.slices(),
        "frame side": lambda: cost_curves.sides(device, (256,) if quick else cost_curves.SIDES),
        "targets": lambda: cost_curves.targets(device, (2,) if quick else cost_curves.TARGETS),
        "points": lambda: cost_curves.prompts(device, (2,) if quick else cost_curves.PROMPTS),
    }
    found = {}
    for name, measure in few.items():
        say(f"measuring against {name}")
        found[name] = measure()
        print(_curve_table(found[name]))
    return found


def _curve_table(points: list[dict[str, Any]]) -> str:
    shown = [
        [amount(value) if key == "peak" else f"{value:.3f}" if isinstance(value, float) else str(value)
         for key, value in point.items()]
        for point in points
    ]  # fmt: skip
    return table(
        [[name if name in ("slices", "side", "targets", "points", "peak") else f"{name} s" for name in points[0]]]
        + shown
    )


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
