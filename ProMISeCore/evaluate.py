"""`promise evaluate`: a pack's masks against labelled images, case by case and on average."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ProMISeCore import caveats, failures, packs, pairs, volumes
from ProMISeCore.contact_sheet import write_contact_sheet
from ProMISeCore.errors import InputError
from ProMISeCore.pairs import Pair
from ProMISeCore.segment import add_model_arguments
from ProMISeCore.terminal import duration, once, progress, say, table
from ProMISeCore.whole_file import check_folder, replacing

UNION = "union"
_WORST = 5  # cases that --worst draws
Scores = dict[str, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `promise evaluate`."""
    parser.add_argument("--pack", required=True, metavar="NAME", help="pack's name (see promise packs) or file")
    parser.add_argument("--images", required=True, nargs="+", metavar="PATH", help="folder, pattern or files")
    parser.add_argument("--labels", nargs="+", metavar="PATH", help="likewise (default: among the images)")
    parser.add_argument(
        "--values", nargs="+", type=int, metavar="V", help="label value of each target in order (default: 1 2 …)"
    )
    parser.add_argument("--surface", action="store_true", help="also HD95 (mm) and surface Dice; needs true spacing")
    parser.add_argument("--tolerance", type=float, default=1.0, metavar="MM", help="of surface Dice (%(default)s mm)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every case's scores there")
    parser.add_argument("--worst", type=Path, metavar="DIR", help="draw the five worst cases there, truth in white")
    parser.add_argument("--record", metavar="DATA", help="keep the means in the pack, under this name")
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Segment and score every pair, print a table of means, write the JSON."""
    found = pairs.find(arguments.images, arguments.labels)
    for what in caveats.automatic(found):
        if arguments.record is not None:
            raise InputError(f"{what}; --record keeps scores against the truth only")
        say(what)
    if arguments.json is not None and not arguments.json.resolve().parent.is_dir():
        raise InputError(f"the folder of {arguments.json} does not exist; make it first")
    if arguments.json is not None and arguments.json.is_dir():
        raise InputError(f"{arguments.json} is a folder; give --json a file")
    if arguments.worst is not None:
        check_folder(arguments.worst)
    report = evaluate(found, arguments)
    print(_as_table(report))
    print(f"{len(found)} cases in {duration(report['seconds'])} on {report['device']}; mean ± standard deviation")
    if arguments.json is not None:
        with replacing(arguments.json) as part:
            part.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(arguments.json)
    if arguments.worst is not None:
        draw_worst(found, report, arguments)
        print(arguments.worst)
    if arguments.record is not None:
        print(f"recorded in {record(packs.find(arguments.pack), arguments.record, report)}")


def record(path: Path, data: str, report: Mapping[str, Any]) -> Path:
    """Put a report's means into a pack's manifest, in the place of earlier ones on the same data. Tensors stay."""
    from safetensors import safe_open

    manifest, count = packs.read_manifest(path), len(report["cases"])
    kept = [score for score in manifest.scores if score["data"] != data]
    means = [
        {"data": data, "cases": count, "target": name, "dice": round(means["dice"], 4), "iou": round(means["iou"], 4)}
        for name, means in report["mean"].items()
        if name in report["values"]
    ]
    with safe_open(path, "numpy") as file:
        half = all(file.get_slice(key).get_dtype() == "F16" for key in file.keys())  # noqa: SIM118 (no mapping)
    packs.save(path, replace(manifest, scores=[*kept, *means]), packs.tensors(path), half)
    return path


def evaluate(found: Sequence[Pair], arguments: argparse.Namespace) -> dict[str, Any]:
    """The report that `--json` writes: per case and mean scores of every target and of their union."""
    import ProMISeCore

    model = ProMISeCore.load(pack=arguments.pack, backbone=arguments.backbone, device="cpu")
    values = _values(arguments.values, list(model.targets))
    start, cases, device = time.perf_counter(), [], arguments.device
    tell = once(say)
    for pair in progress(found, len(found), "evaluate"):
        truth, masks, volume, device = _segment(pair, model, values, arguments, tell)
        scores = _case_scores(masks, truth, volume, arguments)
        voxels = {name: failures.counts(mask, truth[name]) for name, mask in masks.items()}
        cases.append({"name": pair.name, "image": pair.image.name, "targets": scores, "voxels": voxels})
    manifest = model.manifest
    return {
        "pack": manifest.name,
        "version": manifest.version,
        "backbone": manifest.backbone.name,
        "device": device,
        "values": values,
        "cases": cases,
        "mean": _over_cases(cases, np.mean),
        "sd": _over_cases(cases, np.std),
        "seconds": round(time.perf_counter() - start, 3),
    }


def draw_worst(found: Sequence[Pair], report: Mapping[str, Any], arguments: argparse.Namespace) -> list[Path]:
    """A contact sheet of each of the five cases with the lowest mean Dice: masks in their colours, truth in white."""
    import ProMISeCore

    model, written = ProMISeCore.load(pack=arguments.pack, backbone=arguments.backbone, device="cpu"), []
    manifest, tell = model.manifest, once(say)
    for rank, number in enumerate(failures.worst(report["cases"], _WORST), start=1):
        truth, masks, volume, _ = _segment(found[number], model, report["values"], arguments, tell)
        stack = volumes.Stack(volume, arguments.axis or manifest.orientation)
        reference = {f"{name}, truth": mask for name, mask in truth.items()}
        targets = [{"name": name, "color": (1.0, 1.0, 1.0)} for name in reference]
        targets += [{"name": target.name, "color": target.color} for target in manifest.targets]
        written.append(arguments.worst / f"worst-{rank}.png")
        window = volumes.Window.of(manifest.window, volume.voxels)
        write_contact_sheet(written[-1], stack, window, reference | masks, targets)
    return written


def _values(given: Sequence[int] | None, targets: list[str]) -> dict[str, int]:
    if given is not None and len(given) != len(targets):
        raise InputError(f"--values has {len(given)} values, the pack has {len(targets)} targets: {', '.join(targets)}")
    return dict(zip(targets, given or range(1, len(targets) + 1), strict=True))


def _segment(pair: Pair, model, values: Mapping[str, int], arguments: argparse.Namespace, tell: Callable):
    """Truth and masks of one case, target → (K, J, I) bool; the volume; the device it ran on."""
    from ProMISeCore.cache import Cache
    from ProMISeCore.segmenter import Segmenter

    volume, label = volumes.read_pair(pair.image, pair.label)
    cache = None if arguments.no_cache else Cache(notice=tell)
    segmenter = Segmenter(model, volume, arguments.device, arguments.axis, cache, notice=tell, exact=arguments.exact)
    for _ in segmenter.segment_volume():
        pass
    return _truth(label.voxels, values, arguments.values), segmenter.masks(), volume, str(segmenter.device)


def _truth(label: np.ndarray, values: Mapping[str, int], given: Sequence[int] | None) -> dict[str, np.ndarray]:
    """Target → bool. A single target without --values takes the one value that the map has (a mask of 0 and 255)."""
    present = np.unique(label[label != 0])
    if given is None and len(values) == 1 and len(present) == 1:
        return {name: label != 0 for name in values}
    return {name: label == value for name, value in values.items()}


def _case_scores(
    masks: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray], volume: volumes.Volume, arguments
) -> dict[str, Scores]:
    predicted = dict(masks)
    expected = dict(truth)
    if len(predicted) > 1:
        predicted[UNION] = np.logical_or.reduce(list(masks.values()))
        expected[UNION] = np.logical_or.reduce(list(truth.values()))
    return {name: _scores(mask, expected[name], volume, arguments) for name, mask in predicted.items()}


def _scores(mask: np.ndarray, truth: np.ndarray, volume: volumes.Volume, arguments: argparse.Namespace) -> Scores:
    from ProMISeCore import scores

    found = {"dice": scores.dice(mask, truth), "iou": scores.iou(mask, truth)}
    if volume.picture:
        picture, expected = mask[0], truth[0]
        found["mae"] = scores.mae(picture, expected)
        found["s_measure"] = scores.s_measure(picture, expected)
        found["e_measure"] = scores.e_measure(picture, expected)
        found["f_beta"] = scores.f_beta(picture, expected)
    if arguments.surface:
        spacing = volume.spacing[::-1]  # along K, J, I
        found["hd95_mm"] = scores.hd95(mask, truth, spacing)
        found["surface_dice"] = scores.surface_dice(mask, truth, spacing, arguments.tolerance)
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _over_cases(cases: Iterable[Mapping[str, Any]], statistic) -> dict[str, Scores]:
    """A statistic over the cases, per target and score; cases without a value (HD95 of an empty mask) left out."""
    collected: dict[str, dict[str, list[float]]] = {}
    for case in cases:
        for target, scores in case["targets"].items():
            for score, value in scores.items():
                kept = collected.setdefault(target, {}).setdefault(score, [])
                kept += [value] if value is not None else []
    return {
        target: {score: float(statistic(values)) if values else None for score, values in scores.items()}
        for target, scores in collected.items()
    }


def _as_table(report: Mapping[str, Any]) -> str:
    mean, sd = report["mean"], report["sd"]
    columns = list(dict.fromkeys(score for scores in mean.values() for score in scores))
    rows = [["target", *columns]]
    for target, scores in mean.items():
        cells = [_cell(scores.get(column), sd[target].get(column)) for column in columns]
        rows.append([target, *cells])
    return table(rows)


def _cell(mean: float | None, sd: float | None) -> str:
    return "–" if mean is None else f"{mean:.4f} ± {sd:.4f}"
