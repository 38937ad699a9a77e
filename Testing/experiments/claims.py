"""The paper's claims on a frozen backbone, on polyps and skin lesions: every variant, several seeds, table and plot.

    python Testing/experiments/claims.py --data ../shared/data --workspace DIR [--subjects polyp skin] [--seeds 3]
    python Testing/experiments/claims.py --workspace DIR --report docs/results.md --plot docs/pictures/claims.svg

One JSON file per cell of the grid in DIR/cells; what is there is not computed again, so the command can be stopped and
started at will. The second form only writes the section of the report, from the cells that are there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from os.path import relpath
from pathlib import Path
from typing import Any

import numpy as np
import sections
import torch
from cells import Cells
from claims_page import draw, report
from learners import AUTO, TRUTH, Design, Learner, right_points, solve, teach
from learning import Budget, Recipe
from subjects import Material, encode, subject
from variants import COUNT, COUNTS, SCORED, VARIANTS
from verdicts import Results

from ProMISeCore import sam
from ProMISeCore.sam import Sam


def grid(about: str, seeds: int) -> Iterator[tuple[str, Design, int]]:
    """Key, design and seed of every cell of a subject: what all variants share comes first, then the fewest and the
    most points, so that a run that is cut short answers most claims."""
    counts = sorted(COUNTS, key=lambda count: (count != COUNT, count not in (min(COUNTS), max(COUNTS))))
    for count in counts:
        for seed in range(seeds):
            for name, variant in VARIANTS.items():
                if count in variant.counts:
                    design = replace(variant.design, count=count)
                    yield f"{about}.{name}.n{count}.seed{seed}", design, seed


def measure(backbone: Sam, material: Material, design: Design, seed: int, lead: int, steps: int) -> dict[str, Any]:
    """Train one variant, and score it on the cases that nothing was chosen by."""
    torch.manual_seed(seed)
    learner = Learner(backbone, design)
    result: dict[str, Any] = {"parameters": sum(p.numel() for p in learner.parameters() if p.requires_grad)}
    if learner.learns:
        fitted = teach(learner, material, Recipe(Budget(steps=steps), seed=seed), lead)
        result |= {"held_out": fitted.best, "steps": fitted.steps, "looks": fitted.looks}
    result |= score(learner, material, design, design.points, seed)
    if design.points == AUTO:
        result["with_truth"] = score(learner, material, design, TRUTH, seed)
    return result | {"summary": f"Dice {np.mean(result['dice']):.3f}"}


def score(learner: Learner, material: Material, design: Design, points: str, seed: int) -> dict[str, Any]:
    """Dice of every case, the same after one corrective click, and shares of points on the right side."""
    solved = solve(learner, material.val, points, seed, correct=True)
    shares = right_points(solved.points[:, 0], design.labels, material.val.masks[:, 0])
    return {
        "dice": _rounded(material.truth.dice(solved.logits)[:, 0]),
        "corrected": _rounded(material.truth.dice(solved.corrected[:, None])[:, 0]),
        "points_right": [None if np.isnan(share) else round(share, 4) for share in shares],
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]


def compute(arguments: argparse.Namespace) -> None:
    """All cells that are not there yet."""
    backbone = sam.load(arguments.backbone, "cpu", arguments.side)
    cells = Cells(arguments.workspace / "cells", settings(arguments, backbone))
    effort = arguments.lead, arguments.steps
    for name in arguments.subjects:
        about = subject(name, arguments.data, "squeeze", arguments.most, SCORED[name])
        material = encode(about, backbone, arguments.workspace / name, arguments.views, 4)
        for key, design, seed in grid(name, arguments.seeds):
            cells.run(key, lambda d=design, s=seed, m=material: measure(backbone, m, d, s, *effort))


def settings(arguments: argparse.Namespace, backbone: Sam) -> dict[str, Any]:
    """What all cells of a workspace share, and what a reader has to know of them."""
    named = {key: getattr(arguments, key) for key in ("lead", "steps", "views", "most", "side")}
    return named | {"backbone": backbone.name, "fingerprint": backbone.fingerprint(), "torch": torch.__version__}


def collect(workspace: Path) -> tuple[dict[str, Any], dict[str, Results]]:
    """Settings, and every subject's results of all seeds. Raises InputError for none."""
    shared, cells = Cells.all(workspace / "cells")
    found: dict[str, dict[str, dict[int, dict[str, dict[str, Any]]]]] = {}
    for key, result in cells.items():
        about, variant, count, seed = key.split(".")
        found.setdefault(about, {}).setdefault(variant, {}).setdefault(int(count[1:]), {})[seed] = result
    return shared, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="the shared data; without it nothing is computed")
    parser.add_argument("--subjects", nargs="+", choices=sorted(SCORED), default=list(SCORED))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument(
        "--side", type=int, default=256, help="frame side; the shipped packs use 512, three times slower"
    )
    parser.add_argument("--most", type=int, default=600, help="training cases of a subject at most")
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--lead", type=int, default=300, help="steps in which the points learn their places alone")
    parser.add_argument("--steps", type=int, default=100, help="steps of everything, through the decoder")
    parser.add_argument("--report", type=Path, help="page of which a section is written")
    parser.add_argument("--section", default="claims", help="its name (%(default)s)")
    parser.add_argument("--plot", type=Path, help="picture to draw (.svg or .png)")
    arguments = parser.parse_args()
    if arguments.data:
        compute(arguments)
    shared, found = collect(arguments.workspace)
    if arguments.plot:
        draw(arguments.plot, found)
    picture = arguments.plot and arguments.report and relpath(arguments.plot, arguments.report.parent)
    sections.publish(arguments.report, arguments.section, report(shared, found, picture))


if __name__ == "__main__":
    main()
