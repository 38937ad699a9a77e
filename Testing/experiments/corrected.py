"""What a reader's clicks do to slices that start below a Dice of 0.9: the Dice after so many clicks, before and after.

    python Testing/experiments/corrected.py --data ../shared/data [--subjects heart polyp] [--readers careful sloppy]
    python Testing/experiments/corrected.py --data ../shared/data --pictures DIR

`decoded`: the decoder's answer to all points, the automatic and the reader's, is the mask; `corrected`: what
`Segmenter.segment_slice` says when it is told which points are the reader's. The careful reader clicks into the
deepest place of the largest error, the sloppy one at a random place of it. Slices stay as they are once accepted; the
mean over targets gives each the same weight. Ends with the time that a correction takes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from reader import ACCEPT, Point, Reader, Sloppy
from sitting import first, solved

import ProMISeCore
from ProMISeCore import corrections, packs, pairs, scores, volumes
from ProMISeCore.segmenter import Segmenter

AFTER = (0, 1, 2, 3, 5, 10)  # clicks
_READERS = {"careful": Reader, "sloppy": Sloppy}


@dataclass(frozen=True)
class Subject:
    """A pack and the cases it is tried on: target → values of the label map."""

    pack: str
    folder: str
    cases: int
    targets: dict[str, tuple[int, ...]]
    every: int = 1


SUBJECTS = {
    "heart": Subject(
        "heart", "volumes/heart", 2, {"right ventricle": (1,), "myocardium": (2,), "left ventricle": (3,)}
    ),
    "hippocampus": Subject(
        "hippocampus", "volumes/hippocampus", 4, {"anterior hippocampus": (1,), "posterior hippocampus": (2,)}
    ),
    "atrium": Subject("atrium", "volumes/atrium", 1, {"left atrium": (1,)}, every=8),
    "polyp": Subject("polyp", "images/kvasir", 20, {"polyp": (1,)}),
    "skin": Subject("skin", "images/isic", 20, {"skin lesion": (1,)}),
}


@dataclass
class Course:
    """One slice under one reader: the Dice after 0, 1, 2 … clicks, and whether it was accepted."""

    dice: list[float]
    accepted: bool
    mask: np.ndarray
    points: Sequence[Point] = ()

    def after(self, clicks: int) -> float:
        return self.dice[min(clicks, len(self.dice) - 1)]


@dataclass(frozen=True)
class Start:
    """A slice to correct: of a target, with its first mask (H, W), points and truth (H, W)."""

    segmenter: Segmenter
    case: str
    n: int
    target: str
    mask: np.ndarray
    points: Sequence[Point] = field(repr=False)
    truth: np.ndarray = field(repr=False)


def starts(subject: Subject, data: Path, enough: float, split: str = "val") -> Iterator[Start]:
    """Slices that hold a target and are not good enough."""
    model = ProMISeCore.load(packs.find(subject.pack))
    for pair in pairs.find([str(data / subject.folder / split)])[: subject.cases]:
        volume, label = volumes.read_pair(pair.image, pair.label)
        segmenter = Segmenter(model, volume, "cpu")
        labels = segmenter.stack.canonical(label.voxels)
        found = first(segmenter)
        for target, values in subject.targets.items():
            masks, points = found[target]
            for n in range(min(subject.every // 2, len(masks) - 1), len(masks), subject.every):
                truth = np.isin(labels[n], values)
                if truth.any() and scores.dice(masks[n], truth) < enough:
                    yield Start(segmenter, pair.name, n, target, masks[n], points[n], truth)


def decoded(start: Start, points: Sequence[Point]) -> np.ndarray:
    """As it was: the answer to all points at once."""
    return solved(start.segmenter, start.n, start.target, [Point(p.row, p.column, p.positive) for p in points])


def corrected(start: Start, points: Sequence[Point]) -> np.ndarray:
    """As it is: the reader's points correct the mask."""
    return solved(start.segmenter, start.n, start.target, points)


WAYS: dict[str, Callable[[Start, Sequence[Point]], np.ndarray]] = {"decoded": decoded, "corrected": corrected}


def course(start: Start, reader: Reader, way: Callable, most: int = AFTER[-1]) -> Course:
    """One slice, click after click, until it is accepted or `most` clicks are used up."""
    mask, points, dice = start.mask, start.points, [scores.dice(start.mask, start.truth)]
    while True:
        action = reader.act(start.truth, mask, points)
        if action.kind == ACCEPT or len(dice) > most:
            return Course(dice, action.kind == ACCEPT, mask, points)
        points = action.points
        mask = way(start, points)
        dice.append(scores.dice(mask, start.truth))


def line(name: str, reader: str, way: str, courses: Sequence[Course], means: Sequence[float] | None = None) -> str:
    """A row of the table; means: instead of the courses' own."""
    values = means or [float(np.mean([course.after(clicks) for course in courses])) for clicks in AFTER]
    accepted = np.mean([course.accepted for course in courses])
    clicks = np.mean([len(course.dice) - 1 for course in courses])
    cells = " | ".join(f"{value:.3f}" for value in values)
    return f"| {name} | {reader} | {way} | {len(courses)} | {cells} | {accepted:.0%} | {clicks:.1f} |"


def table(by_target: dict[str, dict[tuple[str, str], list[Course]]]) -> str:
    """Target → (reader, way) → courses."""
    heads = " | ".join(map(str, AFTER))
    rows = [f"| target | reader | way | slices | {heads} clicks | accepted | clicks |", "|---" * (6 + len(AFTER)) + "|"]
    for name, found in by_target.items():
        rows += [line(name, reader, way, courses) for (reader, way), courses in found.items()]
    for reader, way in next(iter(by_target.values())):
        groups = [found[reader, way] for found in by_target.values()]
        means = [float(np.mean([np.mean([one.after(k) for one in group]) for group in groups])) for k in AFTER]
        rows.append(line("mean over targets", reader, way, [one for group in groups for one in group], means))
    return "\n".join(rows)


def seconds(side: int = 512, repeats: int = 20) -> tuple[float, float]:
    """Median and 95th percentile of what one correction takes where the decoder does not obey."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    mask = np.hypot(rows - side / 2, columns - side / 2) < side / 5
    picture = generator.uniform(0, 255, (side, side, 1)).astype(np.float32)
    taken = []
    for depth in generator.uniform(3, side / 10, repeats):
        click = corrections.Click(side // 2, int(side / 2 + side / 5 + depth), True)
        began = time.perf_counter()
        corrections.corrected(mask, click, [], mask, picture)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken)), float(np.percentile(taken, 95))


def main(arguments: argparse.Namespace) -> None:
    by_target: dict[str, dict[tuple[str, str], list[Course]]] = {}
    for name in arguments.subjects:
        print(f"{name} …", file=sys.stderr, flush=True)
        for start in starts(SUBJECTS[name], arguments.data, arguments.enough):
            found = by_target.setdefault(start.target, {})
            for kind in arguments.readers:
                for way, solve in WAYS.items():
                    one = course(start, _READERS[kind](arguments.enough), solve)
                    found.setdefault((kind, way), []).append(one)
                    if arguments.pictures is not None and way == "corrected":
                        draw(arguments.pictures, start, one, kind)
        print(table(by_target), file=sys.stderr, flush=True)  # so far
    print(table(by_target))
    median, most = seconds()
    print(
        f"\nOne correction without the decoder, 512 × 512: {1000 * median:.0f} ms median, {1000 * most:.0f} ms at 95 %."
    )


def draw(folder: Path, start: Start, one: Course, kind: str) -> None:
    """Before and after as a PNG: mask yellow, truth cyan, include points green, exclude points red."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    picture = start.segmenter.view(start.n)
    shown = picture / 255 if picture.shape[-1] == 3 else picture[..., 0]
    figure, axes = pyplot.subplots(1, 2, figsize=(12, 6), layout="constrained")
    sides = ((start.mask, start.points, 0), (one.mask, one.points, len(one.dice) - 1))
    for axis, (mask, points, clicks) in zip(axes, sides, strict=True):
        axis.imshow(shown, cmap="gray")
        for region, color in ((start.truth, "cyan"), (mask, "yellow")):
            if region.any():
                axis.contour(region, [0.5], colors=color, linewidths=1)
        for point in points:
            color, size = ("lime" if point.positive else "red"), (9 if point.own else 5)
            axis.plot(point.column, point.row, marker="+" if point.own else ".", color=color, markersize=size)
        axis.set_title(f"{clicks} clicks, Dice {one.after(clicks):.3f}")
        rows, columns = np.nonzero(start.truth | start.mask | one.mask)
        axis.set_xlim(columns.min() - 15, columns.max() + 15)
        axis.set_ylim(rows.max() + 15, rows.min() - 15)
        axis.set_axis_off()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{start.target.replace(' ', '-')}-{start.case}-{start.n}-{kind}.png", dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--readers", nargs="+", choices=_READERS, default=list(_READERS))
    parser.add_argument("--enough", type=float, default=0.9)
    parser.add_argument("--pictures", type=Path)
    torch.set_num_threads(1)
    main(parser.parse_args())
