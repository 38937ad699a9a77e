"""How well the quick ways agree with `--exact` on real slices: embeddings' relative error, masks' Dice.

    python Testing/benchmarks/agreement.py SCAN [SCAN …] [--slices 4] [--json FILE]

Of every scan, evenly spread slices; per slice, masks of nine clicks on a 3 × 3 grid, all three mask tokens. Where a
backbone's weights are not installed, random ones are used and said: their masks cut through the slice at any level, so
they are a harder test than those of a trained network.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ProMISeCore import backbones, sam, volumes
from ProMISeCore.encoder import Encoder
from ProMISeCore.frame import Frame
from ProMISeCore.sam import Sam
from ProMISeCore.terminal import table
from ProMISeCore.whole_file import replacing

BACKBONES = ("tiny", "mobile_sam", "sam_vit_b")


def frames(scan: Path, count: int, side: int) -> list[Tensor]:
    """Evenly spread axial slices, or the picture, as frames (1, 3, S, S)."""
    volume = volumes.read(scan)
    stack = volumes.Stack(volume, "image" if volume.picture else "axial")
    window = {"mode": "bytes"} if volume.picture else {"mode": "percentile", "low": 0.5, "high": 99.5}
    pictures = volumes.pictures(stack, volumes.Window.of(window, volume.voxels), "repeat")
    frame = Frame(*stack.shape[1:], side, "corner", stack.spacing_rc)
    chosen = np.linspace(0, len(pictures) - 1, min(count, len(pictures)) + 2)[1:-1].round().astype(int)
    return [frame.image(pictures[int(n)])[None] for n in sorted(set(chosen.tolist()))]


def masks(model: Sam, embedding: Tensor) -> Tensor:
    """Masks (9, 3, S/4, S/4) of nine clicks."""
    places = torch.tensor([0.25, 0.5, 0.75]) * model.side
    points = torch.cartesian_prod(places, places)[:, None]
    return model.decode(embedding, points, torch.ones(9, 1))[0] > 0


@torch.inference_mode()
def compare(name: str, scans: list[Path], count: int) -> dict[str, object]:
    """Worst and mean of both figures over all slices."""
    real = backbones.location(backbones.TABLE[name]).is_file()
    torch.manual_seed(0)
    model = sam.load(name) if real else sam.build(backbones.TABLE[name].architecture).freeze()
    quick, plain, errors, dices = Encoder(model), Encoder(model, exact=True), [], []
    for image in [image for scan in scans for image in frames(scan, count, model.side)]:
        model.exact = True
        expected = plain(image)[0]
        wanted = masks(model, expected)
        model.exact = False
        found = quick(image)[0]
        errors.append(float((found - expected).norm() / expected.norm()))
        got = masks(model, found)
        sizes = got.sum((2, 3)) + wanted.sum((2, 3))
        dices += (2 * (got & wanted).sum((2, 3))[sizes > 0] / sizes[sizes > 0]).tolist()
    return {
        "backbone": name,
        "weights": "real" if real else "random",
        "way": quick.way,
        "slices": len(errors),
        "masks": len(dices),
        "error mean": float(np.mean(errors)),
        "error worst": max(errors),
        "Dice mean": float(np.mean(dices)),
        "Dice 5 %": float(np.quantile(dices, 0.05)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", nargs="+", type=Path)
    parser.add_argument("--slices", type=int, default=4, help="of every scan (default: %(default)s)")
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=BACKBONES)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = [compare(name, arguments.scans, arguments.slices) for name in arguments.backbones]
    cells = [[f"{value:.5f}" if isinstance(value, float) else str(value) for value in one.values()] for one in found]
    print(table([list(found[0]), *cells]))
    if arguments.json is not None:
        with replacing(arguments.json) as part:
            part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
