"""How well a backbone follows prompts: mean IoU with a box, one click, and one plus two corrective clicks, per set.

    python Testing/experiments/prompts.py --workspace DIR [--backbone tiny | --edges] [--most 60] [--json FILE]
        [--worst PICTURE]
    python Testing/experiments/prompts_page.py FILE FILE … --report docs/results.md

DIR holds the corpus that `promise pretrain` packed; the `val` split is packed there when it is absent and --data given.
Objects: connected components of every value, at least 20 pixels at 256². The mask with the highest predicted IoU is
scored.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from edges import Edges
from torch.nn import functional as F
from worst_prompts import Answer, worst, write

import ProMISeCore
from ProMISeCore import backbones, corpus, simulate
from ProMISeCore.frame import PIXEL_MEAN, PIXEL_STD
from ProMISeCore.whole_file import replacing

#: Prompts to logits (P, s, s) and predicted IoU (P,).
Solve = Callable[[simulate.Prompts], tuple[torch.Tensor, torch.Tensor]]

MEDICAL = (
    "kvasir", "polypgen", "isic", "foot_ulcer", "fetal_head", "brain_tumour", "chest_xray", "blood_cells", "nuclei",
    "hippocampus", "heart", "atrium",
)  # fmt: skip


def pictures_of(workspace: Path, most: int, rng: np.random.Generator):
    """(set, picture (3, 256, 256) 0…255, valid (256, 256), label (256, 256)) of at most `most` pictures of each set."""
    flat, deep = corpus.load(workspace, "val")
    for one in flat:
        for number in rng.permutation(len(one.pictures))[:most]:
            valid = np.zeros(one.labels.shape[1:], np.float32)
            valid[: one.extents_rc[number][0], : one.extents_rc[number][1]] = 1
            yield one.name, np.array(one.pictures[number], np.float32), valid, one.labels[number].astype(np.float32)
    for one in deep:
        for _ in range(most):
            voxels, label = one.volumes[rng.integers(len(one.volumes))]
            number = rng.choice(np.flatnonzero(label.any((1, 2))))
            yield one.name, *square(voxels[number], label[number])


def square(picture: np.ndarray, label: np.ndarray):
    side = corpus.PICTURE_SIDE
    scale = side / max(picture.shape)
    shape = [round(length * scale) for length in picture.shape]
    out, valid, target = (
        np.zeros((3, side, side), np.float32),
        np.zeros((side, side), np.float32),
        np.zeros((side, side), np.float32),
    )
    out[:, : shape[0], : shape[1]] = F.interpolate(
        torch.from_numpy(picture[None, None]).float(), shape, mode="bilinear"
    )[0]
    target[: shape[0], : shape[1]] = F.interpolate(torch.from_numpy(label[None, None]).float(), shape)[0, 0]
    valid[: shape[0], : shape[1]] = 1
    return out, valid, target


def embed(sam, picture: np.ndarray, valid: np.ndarray) -> torch.Tensor:
    size = (sam.side, sam.side)
    x = F.interpolate(torch.from_numpy(picture)[None], size, mode="bilinear", antialias=True)
    v = F.interpolate(torch.from_numpy(valid)[None, None], size)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    return sam.encode((x - mean) / deviation * v)


def best(sam, embedding) -> Solve:
    """The backbone's answer to prompts: the mask with the highest predicted IoU."""

    def solve(prompts: simulate.Prompts) -> tuple[torch.Tensor, torch.Tensor]:
        points, labels = (prompts.points, prompts.labels) if prompts.points.shape[1] else (None, None)
        logits, quality = sam.decode(embedding, points, labels, prompts.box, prompts.mask)
        rows, pick = torch.arange(len(logits)), quality.argmax(1)
        return logits[rows, pick], quality[rows, pick]

    return solve


def overlap(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    found = logits > 0
    return (found & masks).sum((1, 2)) / (found | masks).sum((1, 2)).clamp(min=1)


@torch.inference_mode()
def score(solve: Solve, masks: torch.Tensor, clicks: int) -> tuple[dict[str, list[float]], torch.Tensor]:
    """IoU of every object (P, s, s) with each kind of prompt, clicks to 0.85 (cap `clicks`), IoU-prediction error of
    its box; and the answers to the boxes (P, s, s) bool."""
    count, generator = len(masks), torch.Generator().manual_seed(0)
    nothing = torch.zeros(count, 0, 2), torch.zeros(count, 0, dtype=torch.long)
    logits, quality = solve(simulate.Prompts(*nothing, box=simulate.boxes(masks, 0.0, generator)))
    found, boxed = {"box": overlap(logits, masks), "error": (quality - overlap(logits, masks)).abs()}, logits > 0
    prompts = simulate.Prompts(simulate.deepest_point(masks), torch.ones(count, 1, dtype=torch.long))
    needed = torch.full((count,), clicks)
    for click in range(1, clicks + 1):
        logits, _ = solve(prompts)
        reached = overlap(logits, masks)
        needed = torch.where((reached >= 0.85) & (needed > click), click, needed)
        if click in (1, 3):
            found["click" if click == 1 else "clicks3"] = reached
        prompts = prompts.add(*simulate.correction(masks, logits > 0), logits[:, None].clamp(-32, 32))
    return {key: value.tolist() for key, value in (found | {"noc85": needed.float()}).items()}, boxed


def measured(sam, arguments: argparse.Namespace) -> tuple[dict[str, dict[str, list[float]]], list[Answer]]:
    """Scores by set and kind, one for each object, and the answers to boxes."""
    collected: dict[str, dict[str, list[float]]] = {}
    answers, rng = [], np.random.default_rng(0)
    for name, picture, valid, label in pictures_of(arguments.workspace, arguments.most, rng):
        step = corpus.PICTURE_SIDE // (sam.side // 4)
        low = label[step // 2 :: step, step // 2 :: step] if step else np.kron(label, np.ones((2, 2)))
        pieces = corpus.components(low, 20 // max(step, 1) ** 2)
        if not pieces:
            continue
        masks = torch.from_numpy(np.stack([pieces[n] for n in rng.permutation(len(pieces))[:4]]))
        with torch.inference_mode():
            solve = Edges(picture, valid) if arguments.edges else best(sam, embed(sam, picture, valid))
        found, boxed = score(solve, masks, arguments.clicks)
        for key, values in found.items():
            collected.setdefault(name, {}).setdefault(key, []).extend(values)
        answers += [
            Answer(name, iou, picture, mask.numpy(), one.numpy())
            for iou, mask, one in zip(found["box"], masks, boxed, strict=True)
        ]
    return collected, answers


def settings(arguments: argparse.Namespace, fingerprint: str) -> dict[str, Any]:
    """What was measured and how. place: in the table, backbones that are asked for by name first."""
    embedded = not arguments.edges and arguments.backbone in backbones.TABLE
    name = "edges" if arguments.edges else arguments.backbone if embedded else Path(arguments.backbone).stem
    about = "watershed of the picture's edges" if arguments.edges else f"fingerprint {fingerprint[:12]}…"
    return {
        "name": arguments.name or name,
        "about": arguments.about or about,
        "place": 0 if embedded else 2 if arguments.edges else 1,
        "most": arguments.most,
        "clicks": arguments.clicks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--edges", action="store_true", help="the baseline: watershed of the picture's edges")
    parser.add_argument("--most", type=int, default=60, help="pictures per set")
    parser.add_argument("--clicks", type=int, default=20)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worst", type=Path, help="picture to draw of the worst answers to boxes (.jpg)")
    parser.add_argument("--name", help="in the table")
    parser.add_argument("--about", help="one line beside it")
    arguments = parser.parse_args()
    if arguments.data:
        corpus.pack(arguments.data, arguments.workspace, "val")
    sam = ProMISeCore.load_backbone(arguments.backbone)
    collected, answers = measured(sam, arguments)
    means = {
        name: {key: float(np.mean(values)) for key, values in scores.items()} | {"objects": len(scores["box"])}
        for name, scores in collected.items()
    }
    medical = [means[name] for name in MEDICAL if name in means]
    means["medical sets"] = {key: float(np.mean([m[key] for m in medical])) for key in medical[0] if key != "objects"}
    print(f"{'set':14}{'objects':>8}{'box':>8}{'click':>8}{'+2':>8}{'NoC@85':>8}{'IoU err':>8}")
    for name, m in means.items():
        scored = "".join(f"{m[key]:8.3f}" for key in ("box", "click", "clicks3"))
        print(f"{name:14}{m.get('objects', ''):>8}{scored}{m['noc85']:8.1f}{m['error']:8.3f}")
    shown = worst(answers)
    if arguments.worst:
        write(arguments.worst, shown)
    if arguments.json:
        told = [{"set": answer.name, "iou": round(answer.iou, 4)} for answer in shown]
        found = {"settings": settings(arguments, sam.fingerprint()), "sets": means, "worst": told}
        with replacing(arguments.json) as part:
            part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
