"""How large APM has to be: `lite` at several widths against the paper's `resnet`, with the same IPS and training.

    python Testing/experiments/apm_size.py --data ../shared/data --workspace DIR [--subjects polyp] [--seeds 3]
    python Testing/experiments/apm_size.py --workspace DIR --report docs/results.md

On a ViT backbone the paper's `resnet` reads the features of three blocks. Compact backbones (`tiny`, MobileSAM) have no
such blocks; there the same network reads the embedding, which says less about the paper's claim: a large APM against a
small one, on the same input. One JSON file per cell in DIR/cells; stop and start at will.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sections
import torch
from cells import Cells
from learners import Design, Learner, solve, teach
from learning import Budget, Recipe
from subjects import Material, encode, subject
from variants import SCORED

from ProMISeCore import sam
from ProMISeCore.sam import Sam

WIDTHS = (16, 32, 64, 128)
KINDS = (*(f"lite {width}" for width in WIDTHS), "resnet")
MARGIN = 0.5  # points of Dice within which `lite` is as good


def measure(backbone: Sam, material: Material, kind: str, seed: int, steps: int, lead: int) -> dict[str, Any]:
    """Train APM + IPS with one kind of APM; Dice of every scored case."""
    torch.manual_seed(seed)
    learner = Learner(backbone, Design(apm=kind))
    teach(learner, material, Recipe(Budget(steps=steps), seed=seed), lead)
    dice = material.truth.dice(solve(learner, material.val, learner.design.points).logits)[:, 0]
    parameters = sum(p.numel() for p in learner.targets[0].apm.parameters())
    return {"dice": np.round(dice, 4).tolist(), "parameters": parameters, "summary": f"Dice {dice.mean():.3f}"}


def compute(arguments: argparse.Namespace) -> None:
    """All cells that are not there yet, all kinds of one seed before the next."""
    backbone = sam.load(arguments.backbone, "cpu", arguments.side)
    named = {key: getattr(arguments, key) for key in ("steps", "lead", "views", "most", "side")}
    named |= {"backbone": backbone.name, "fingerprint": backbone.fingerprint(), "blocks": bool(backbone.depth)}
    cells = Cells(arguments.workspace / "cells", named)
    effort = arguments.steps, arguments.lead
    for name in arguments.subjects:
        about = subject(name, arguments.data, "squeeze", arguments.most, SCORED[name])
        material = encode(about, backbone, arguments.workspace / name, arguments.views, 4)
        for seed in range(arguments.seeds):
            for kind in KINDS:
                key = f"{name}.{kind.replace(' ', '-')}.seed{seed}"
                cells.run(key, lambda k=kind, s=seed, m=material: measure(backbone, m, k, s, *effort))


def report(shared: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> str:
    """The section of docs/results.md: a table, and for every width whether it is within `MARGIN` of `resnet`."""
    source = "features of three encoder blocks" if shared["blocks"] else "the embedding, since it has no block features"
    text = (
        f"APM + IPS, 8 points, on `{shared['backbone']}` (fingerprint {shared['fingerprint'][:12]}…) at frame side "
        f"{shared['side']}; `resnet` reads {source}. {shared['lead']} steps of the points alone and "
        f"{shared['steps']} of everything. Mean Dice × 100 ± standard deviation over seeds; the difference to `resnet` "
        "is taken seed by seed."
    )
    rows = [["subject", "APM", "weights", "seeds", "Dice", "difference", f"within {MARGIN} of resnet or better"]]
    for about in dict.fromkeys(key.split(".")[0] for key in found):
        large = _means(found, about, "resnet")
        for kind in KINDS:
            means = _means(found, about, kind)
            if means:
                rows.append(
                    [about, f"`{kind}`", _weights(found, about, kind), str(len(means)), *_figures(means, large)]
                )
    return f"{text}\n\n{sections.table(rows)}"


def _keys(about: str, kind: str) -> str:
    return f"{about}.{kind.replace(' ', '-')}."


def _means(found: Mapping[str, Mapping[str, Any]], about: str, kind: str) -> dict[str, float]:
    """Seed → mean Dice × 100."""
    start = _keys(about, kind)
    return {key[len(start) :]: 100 * float(np.mean(r["dice"])) for key, r in found.items() if key.startswith(start)}


def _weights(found: Mapping[str, Mapping[str, Any]], about: str, kind: str) -> str:
    count = next(result["parameters"] for key, result in found.items() if key.startswith(_keys(about, kind)))
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"


def _figures(means: Mapping[str, float], large: Mapping[str, float]) -> list[str]:
    """Dice, its difference to `large` over the seeds that both have, and the answer, which asks for 3 of them."""
    apart = [value - large[seed] for seed, value in means.items() if seed in large]
    if not apart or means is large or means == large:
        return [_spread(list(means.values())), "–", "–"]
    answer = "open: fewer than 3 seeds" if len(apart) < 3 else "yes" if np.mean(apart) >= -MARGIN else "no"
    return [_spread(list(means.values())), _spread(apart, "+"), answer]


def _spread(values: Sequence[float], sign: str = "") -> str:
    mean = f"{np.mean(values):{sign}.1f}"
    return f"{mean} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="the shared data; without it nothing is computed")
    parser.add_argument("--subjects", nargs="+", choices=sorted(SCORED), default=["polyp"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--side", type=int, default=256, help="frame side; the shipped packs use 512")
    parser.add_argument("--most", type=int, default=600, help="training cases of a subject at most")
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--lead", type=int, default=300, help="steps in which the points learn their places alone")
    parser.add_argument("--steps", type=int, default=100, help="steps of everything, through the decoder")
    parser.add_argument("--report", type=Path, help="page whose section `apm-size` is written")
    arguments = parser.parse_args()
    if arguments.data:
        compute(arguments)
    sections.publish(arguments.report, "apm-size", report(*Cells.all(arguments.workspace / "cells")))


if __name__ == "__main__":
    main()
