"""`promise rank`: which of the unsegmented cases a pack is least sure of, so that a person segments that one next."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ProMISeCore import pairs, truth, volumes
from ProMISeCore.commands import Commands
from ProMISeCore.errors import InputError
from ProMISeCore.reading import plain_name
from ProMISeCore.segment import add_model_arguments
from ProMISeCore.terminal import once, progress, say, table

_UNKNOWN = dict.fromkeys(("uncertainty", "predicted_iou", "disagreement"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `promise rank`."""
    parser.add_argument("--pack", required=True, metavar="NAME", help="pack's name (see promise packs) or file")
    parser.add_argument("--images", required=True, nargs="+", metavar="PATH", help="folder, pattern or files")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--listen", action="store_true", help="commands on stdin: pause, resume, stop, kill")
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Segment every image without labels and list them, the least sure first."""
    if sys.platform == "win32":  # where a read that waits on a pipe may block the loading of libraries
        import torch  # noqa: F401
    commands = Commands(0 if arguments.listen else None)
    found = pairs.sort_out(arguments.images)
    images = sorted([*found.unlabelled, *(pair.image for pair in found.pairs if truth.is_automatic(pair.label))])
    if not images:
        raise InputError(
            f"all {len(found.pairs)} images have labels; give the folder of those that are not segmented yet"
        )
    ranked = rank(images, arguments, commands)
    if arguments.json:
        print(json.dumps(ranked, ensure_ascii=False))
        return
    rows = [["case", "uncertainty", "predicted IoU", "slices disagree", "why"]]
    for one in ranked:
        numbers = (one[key] for key in ("uncertainty", "predicted_iou", "disagreement"))
        rows.append([one["case"], *("–" if number is None else f"{number:.3f}" for number in numbers), one["why"]])
    print(table(rows))


def rank(images: Sequence[Path], arguments: argparse.Namespace, commands: Commands) -> list[dict[str, Any]]:
    """An entry for every image as docs/teach.md describes it, the least sure first; last those that cannot be used.

    Raises InputError where none can be, KeyboardInterrupt where the asking program wants it to stop or has gone.
    """
    import ProMISeCore
    from ProMISeCore.cache import Cache
    from ProMISeCore.segmenter import Segmenter

    model = ProMISeCore.load(pack=arguments.pack, backbone=arguments.backbone, device="cpu")
    tell, found, unusable = once(say), [], []
    names = pairs.distinct(images, [plain_name(path) for path in images])
    for case, path in progress(list(zip(names, images, strict=True)), len(images), "rank"):
        about = {"case": case, "image": str(path.resolve())}
        cache = None if arguments.no_cache else Cache(notice=tell)
        try:
            segmenter = Segmenter(model, volumes.read(path), arguments.device, arguments.axis, cache, notice=tell)
            results = sorted(segmenter.segment_volume(cancel=commands.stop), key=lambda result: result.index)
        except InputError as error:
            unusable.append({**about, **_UNKNOWN, "why": str(error), "targets": {}})
            continue
        if commands.stopped:
            raise KeyboardInterrupt
        targets = {
            name: of_slices([result.masks[name] for result in results], [result.iou[name] for result in results])
            for name in segmenter.targets
        }
        found.append({**about, **_summary(targets), "targets": targets})
    if not found:
        raise InputError(f"none of {len(images)} images can be used; the first: {unusable[0]['why']}")
    return sorted(found, key=lambda entry: -entry["uncertainty"]) + unusable


def of_slices(masks: Sequence[np.ndarray], iou: Sequence[float]) -> dict[str, Any]:
    """How sure a target's masks (H, W), slice by slice in order, are: predicted_iou, the mean SAM expects of the slices
    with a mask (0 without any), and disagreement, the mean of 1 − Dice between neighbours, weighted by their size."""
    filled = [number for number, mask in enumerate(masks) if mask.any()]
    expected = float(np.mean([np.clip(iou[number], 0, 1) for number in filled])) if filled else 0.0
    areas, apart = 0, 0
    for one, other in zip(masks[:-1], masks[1:], strict=True):
        areas += int(one.sum()) + int(other.sum())
        apart += int((one != other).sum())
    disagreement = apart / areas if areas else 0.0
    return {"predicted_iou": round(expected, 4), "disagreement": round(disagreement, 4), "slices": len(filled)}


def _summary(targets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Of all targets: the means, their combination, and the reason in words."""
    expected = float(np.mean([one["predicted_iou"] for one in targets.values()]))
    disagreement = float(np.mean([one["disagreement"] for one in targets.values()]))
    missing = [name for name, one in targets.items() if not one["slices"]]
    if missing:
        why = f"{', '.join(missing)} not found"
    elif 1 - expected >= disagreement:
        worst = min(targets, key=lambda name: targets[name]["predicted_iou"])
        why = f"{worst} is expected to be imprecise"
    else:
        worst = max(targets, key=lambda name: targets[name]["disagreement"])
        why = f"{worst} jumps from slice to slice"
    return {
        "uncertainty": round((1 - expected + disagreement) / 2, 4),
        "predicted_iou": round(expected, 4),
        "disagreement": round(disagreement, 4),
        "why": why,
    }
