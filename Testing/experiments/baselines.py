"""The packs' way against a U-Net and a fine-tuned decoder: same cases, augmentation, loss, kind and size of budget.

    python Testing/experiments/baselines.py --data ../shared/data --workspace DIR [--subjects polyp heart] [--minutes 5]
    python Testing/experiments/baselines.py … --patients 1 2 5 10 20 all --subjects heart hippocampus
    python Testing/experiments/baselines.py --workspace DIR --report docs/results.md [--plot docs/pictures/few.svg]

The first form trains on all cases, the second on few patients; the last writes the section of the report. One JSON file
per cell in DIR/cells: stop and start at will. The budget is processor time, encoding of the views included; whoever
overfits keeps the state that was best on held-out cases (of a single patient: on the patient's own slices).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from os.path import relpath
from pathlib import Path
from typing import Any

import numpy as np
import plots
import sections
import torch
from cells import Cells
from default_packs import RECIPES
from evaluation import Truth
from learners import AUTO, NONE, Design, Learner, solve, teach
from learning import Budget, Fitted, Recipe
from subjects import Subject, encode, every_slice, subject
from unet import Frames, predict, train

from ProMISeCore import sam
from ProMISeCore.dataset import plan
from ProMISeCore.errors import InputError
from ProMISeCore.sam import Sam

WAYS = {
    "pack": "pack (APM + IPS + presence)",
    "decoder": "decoder fine-tuned, no points",
    "unet": "U-Net (MONAI BasicUNet)",
}
_DESIGNS = {
    "pack": Design(AUTO, presence=True),
    "decoder": Design(NONE, ips=None, decoder=True),
}
_NOT_MEASURED = ["0", "not measured yet", *["–"] * 4]
_LEAD = 150  # steps in which a pack's points learn their places alone
_RATES = {"pack": 1e-3, "decoder": 5e-4, "unet": 1e-3}


def grid(subjects: Sequence[str], patients: Sequence[str], seeds: int) -> Iterator[tuple[str, str, str, str, int]]:
    """Key, subject, number of patients or "all", way and seed of every cell."""
    for seed in range(seeds):
        for about in subjects:
            for count in patients:
                for way in WAYS:
                    yield f"{about}.{count}.{way}.seed{seed}", about, count, way, seed


def measure(about: Subject, way: str, backbone: Sam, arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train one way on one subject and score it on all slices of its `val` cases."""
    recipe = Recipe(Budget(cpu_minutes=arguments.minutes), rate=_RATES[way], seed=seed)
    solve_one = _unet if way == "unet" else _on_embeddings
    logits, truth, fitted, parameters = solve_one(about, way, backbone, recipe, arguments)
    dice = truth.dice(logits)
    return {
        "dice": np.round(dice, 4).tolist(),  # per case, per target
        "targets": list(about.task.values),
        "cases": {"learn": len(about.learn), "held": len(about.held), "val": len(about.val)},
        "parameters": parameters,
        "fitted": asdict(fitted),
        "summary": "Dice " + ", ".join(f"{value:.3f}" for value in dice.mean(0)),
    }


def _on_embeddings(about: Subject, way: str, backbone: Sam, recipe: Recipe, arguments: argparse.Namespace):
    """Logits on `val`, its truth, what the training reached, trained parameters; of a pack or a decoder."""
    folder = arguments.workspace / about.name
    material = encode(about, backbone, folder, arguments.views, arguments.slices, seed=recipe.seed)
    torch.manual_seed(recipe.seed)
    learner = Learner(backbone, _DESIGNS[way], len(about.task.values))
    fitted = teach(learner, material, recipe, _LEAD, spent_seconds=material.encode_seconds)
    logits = solve(learner, material.val, learner.design.points).logits
    return logits, material.truth, fitted, sum(p.numel() for p in learner.parameters() if p.requires_grad)


def _unet(about: Subject, way: str, backbone: Sam, recipe: Recipe, arguments: argparse.Namespace):
    """The same of a U-Net, on frames of its own side and on the same slices."""
    side = arguments.unet_side
    parts = [
        Frames.of(plan(cases, about.task, side, 1, arguments.slices, recipe.seed), side)
        for cases in (about.learn, about.held)
    ]
    net, fitted = train(*parts, about.augment, recipe)
    logits = predict(net, Frames.of(every_slice(about.val, about.task), side))
    return logits, Truth.of(about.val, about.task, side), fitted, sum(p.numel() for p in net.parameters())


def compute(arguments: argparse.Namespace) -> None:
    """All cells that are not there yet."""
    backbone = sam.load(arguments.backbone, "cpu", arguments.side)
    cells = Cells(arguments.workspace / "cells", settings(arguments, backbone))
    for key, name, count, way, seed in grid(arguments.subjects, arguments.patients, arguments.seeds):
        about = subject(name, arguments.data, most=arguments.most)
        about = about if count == "all" else about.few(int(count), seed)
        cells.run(key, lambda a=about, w=way, s=seed: measure(a, w, backbone, arguments, s))


def settings(arguments: argparse.Namespace, backbone: Sam) -> dict[str, Any]:
    """What all cells of a workspace share."""
    named = {key: getattr(arguments, key) for key in ("minutes", "views", "slices", "most", "unet_side")}
    return named | {
        "side": backbone.side,
        "backbone": backbone.name,
        "fingerprint": backbone.fingerprint(),
        "torch": torch.__version__,
    }


#: Subject → number of patients or "all" → way → one result per seed.
Found = dict[str, dict[str, dict[str, list[dict[str, Any]]]]]


def collect(workspace: Path) -> tuple[dict[str, Any], Found]:
    """Settings and results. Raises InputError for none."""
    shared, found = Cells.all(workspace / "cells")
    sorted_out: Found = {}
    for key, result in found.items():
        about, count, way, _ = key.split(".")
        sorted_out.setdefault(about, {}).setdefault(count, {}).setdefault(way, []).append(result)
    return shared, sorted_out


def report(shared: Mapping[str, Any], found: Found, plot: str | None) -> str:
    """The section of docs/results.md."""
    text = (
        f"Budget: {shared['minutes']:g} minutes of processor time for each training, encoding included, batches of 16, "
        f"AdamW. Packs and decoder on `{shared['backbone']}` (fingerprint {shared['fingerprint'][:12]}…) at frame side "
        f"{shared['side']}, {shared['views']} cached views of at most {shared['slices']} slices of a volume"
        f"{_limit(shared['most'])}; the U-Net from scratch at side {shared['unet_side']}, augmented anew in "
        "every batch. Dice × 100 on all slices of `val`, mean over cases ± standard deviation over seeds (alone: one "
        "seed). Steps and the minutes until the best state are means over seeds."
    )
    parts = [text, sections.table(_rows(found, shared["minutes"]))]
    return "\n\n".join([*parts, *([f"![Dice and number of patients]({plot})"] if plot else [])])


def _limit(most: int | None) -> str:
    return "" if most is None else f", at most {most} cases of a subject"


def _rows(found: Found, minutes: float) -> list[list[str]]:
    rows = [
        [
            "subject",
            "patients or pictures",
            "way",
            "seeds",
            "Dice of each target",
            "mean",
            "trained",
            "steps",
            "best at",
        ]
    ]
    for about, counts in found.items():
        for count in sorted(counts, key=_order):
            labelled = _labelled(count, next(iter(counts[count].values()))[0])
            for way, title in WAYS.items():
                seeds = counts[count].get(way)
                rows.append([about, labelled, title, *(_figures(seeds, minutes) if seeds else _NOT_MEASURED)])
    return rows


def _order(count: str) -> float:
    return float("inf") if count == "all" else int(count)


def _labelled(count: str, result: Mapping[str, Any]) -> str:
    return count if count != "all" else f"all ({result['cases']['learn'] + result['cases']['held']} cases)"


def _figures(seeds: Sequence[Mapping[str, Any]], minutes: float) -> list[str]:
    dice = 100 * np.array([np.mean(result["dice"], axis=0) for result in seeds])  # (seeds, T)
    each = ", ".join(f"{name} {_spread(values)}" for name, values in zip(seeds[0]["targets"], dice.T, strict=True))
    fitted = [Fitted(**result["fitted"]) for result in seeds]
    best = np.mean([_minutes_to_best(one, minutes) for one in fitted])
    steps = f"{np.mean([one.steps for one in fitted]):.0f}"
    trained = f"{seeds[0]['parameters'] / 1e6:.2f} M"
    return [str(len(seeds)), each, _spread(dice.mean(1)), trained, steps, f"{best:.1f} min"]


def _minutes_to_best(fitted: Fitted, minutes: float) -> float:
    """Of the budget until the state that was kept: looks are spread evenly over it, the last one at its end. What was
    spent before the first step (encoding, a pack's lead) has had none."""
    best = next((n for n, (_, value) in enumerate(fitted.looks, 1) if value == fitted.best), len(fitted.looks))
    return minutes * (Recipe.looks - len(fitted.looks) + best) / Recipe.looks


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def draw(path: Path, found: Found) -> None:
    """Dice against the number of patients, a panel for each subject that has several."""
    panels = {}
    for about, counts in found.items():
        for count, ways in counts.items():
            for way, seeds in ways.items():
                first = seeds[0]["cases"]
                at = first["learn"] + first["held"] if count == "all" else int(count)
                line = panels.setdefault(about, {}).setdefault(WAYS[way], {})
                line[at] = [100 * float(np.mean(result["dice"])) for result in seeds]
    panels = {about: lines for about, lines in panels.items() if any(len(line) > 1 for line in lines.values())}
    if not panels:
        raise InputError("no subject has cells of several numbers of patients; compute them with --patients 1 2 5 all")
    plots.lines(path, panels, "labelled patients (all: cases)", "mean Dice × 100", logarithmic=True)


def _count(text: str) -> str:
    if text != "all" and not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of patients; give 1, 2, … or all")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="the shared data; without it nothing is computed")
    parser.add_argument("--subjects", nargs="+", choices=sorted(RECIPES), default=list(RECIPES))
    parser.add_argument(
        "--patients", nargs="+", type=_count, default=["all"], metavar="N", help="labelled ones, or all"
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="of processor time for each training")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--side", type=int, help="frame side of packs and decoder (default: the backbone's)")
    parser.add_argument("--unet-side", type=int, default=128, help="frame side of the U-Net")
    parser.add_argument("--most", type=int, help="training cases of a subject at most")
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--slices", type=int, default=8, help="slices of every volume at most")
    parser.add_argument("--report", type=Path, help="page whose section `baselines` is written")
    parser.add_argument("--plot", type=Path, help="picture to draw (.svg or .png)")
    arguments = parser.parse_args()
    if arguments.data:
        compute(arguments)
    shared, found = collect(arguments.workspace)
    if arguments.plot:
        draw(arguments.plot, found)
    picture = arguments.plot and arguments.report and relpath(arguments.plot, arguments.report.parent)
    sections.publish(arguments.report, "baselines", report(shared, found, picture))


if __name__ == "__main__":
    main()
