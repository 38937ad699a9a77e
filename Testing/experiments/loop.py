"""The loop of teaching: clicks that a simulated reader needs for volume after volume, with teaching in between.

    python Testing/experiments/loop.py --data ../shared/data --workspace DIR [--subjects left-ventricle] [--seeds 3]
    python Testing/experiments/loop.py --workspace DIR --report docs/teach.md [--plot docs/pictures/loop.svg]

Four ways, on the same volumes in the same order: `teach`: the first volume is corrected from nothing, with prompts to
the backbone alone, then a pack is taught from what the reader made, segments the next volume, is taught again, and so
on; `paint`: the same, but slices that clicks do not bring to an end are painted by hand and learned from; `once`: no
teaching in between, the pack of the first volume is kept; `plain`: prompts to the backbone alone for every volume.

One JSON file per subject, way and seed in DIR/cells; lessons that were finished are not given again, so stop and start
at will. To fit a small machine: --minutes, --after 1 2 4 9, --every 2.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path
from typing import Any

import numpy as np
import sections
import torch
from cells import Cells
from lessons import Lesson, Lessons
from loop_page import WAYS, collected, draw, report
from reader import Reader
from sitting import Plain, Sitting, sit
from subjects import patient

import ProMISeCore
from ProMISeCore import pairs, sam, volumes
from ProMISeCore.errors import InputError
from ProMISeCore.pairs import Pair
from ProMISeCore.sam import Sam
from ProMISeCore.segmenter import Segmenter


@dataclass(frozen=True)
class Subject:
    """One target of a set of volumes, which the embedded pack trained on it is named after.

    values: of the label map, all that make up the target.
    """

    target: str
    volumes: str
    values: tuple[int, ...]
    orientation: str


SUBJECTS = {
    "left-ventricle": Subject("left ventricle", "heart", (3,), "axial"),
    "myocardium": Subject("myocardium", "heart", (2,), "axial"),
    "right-ventricle": Subject("right ventricle", "heart", (1,), "axial"),
    "hippocampus": Subject("hippocampus", "hippocampus", (1, 2), "sagittal"),
}


def chosen(about: Subject, data: Path, split: str, count: int, seed: int) -> list[Pair]:
    """One volume each of `count` patients, drawn by the seed. Raises InputError where there are fewer."""
    found = pairs.find([str(data / "volumes" / about.volumes / split)])
    rng, by_patient = np.random.default_rng(seed), {}
    for pair in found:
        by_patient.setdefault(patient(about.volumes, pair.name), []).append(pair)
    if count > len(by_patient):
        raise InputError(
            f"--volumes is {count}, one per patient; {about.volumes} {split} has {len(by_patient)} patients"
        )
    names = [sorted(by_patient)[n] for n in rng.permutation(len(by_patient))[:count]]
    return [by_patient[name][rng.integers(len(by_patient[name]))] for name in names]


@dataclass(frozen=True)
class Loop:
    """One way through the volumes of one subject. after: numbers of volumes after which is taught; others: `sit`'s."""

    about: Subject
    backbone: Sam
    reader: Reader
    lessons: Lessons
    after: Sequence[int]
    every: int = 1
    most: int = 10
    paint: bool = False

    def run(self, cases: Sequence[Pair]) -> dict[str, Any]:
        """Every volume corrected once, in this order."""
        lesson, learned, told, taught = None, [], [], []
        for number, pair in enumerate(cases, start=1):
            segmenter, sitting = self._sit(pair, lesson)
            told.append({"case": pair.name, "lessons": len(taught)} | sitting.entries())
            learned.append(self.lessons.keep(pair, segmenter.stack, sitting.labels))
            if number in self.after and number < len(cases) and any(map(_filled, learned)):
                lesson = self.lessons.teach(learned, lesson)
                taught.append({"after": number} | lesson.notes)
        clicks = [sum(volume["clicks"].values()) for volume in told]
        return {"volumes": told, "lessons": taught, "summary": f"clicks {' '.join(map(str, clicks))}"}

    def _sit(self, pair: Pair, lesson: Lesson | None) -> tuple[Segmenter, Sitting]:
        volume, label = volumes.read_pair(pair.image, pair.label)
        if lesson is None:
            model = Plain(self.backbone, self.about.target, self.about.orientation)
        else:
            model = ProMISeCore.load(lesson.pack, self.lessons.backbone)
        segmenter = Segmenter(model, volume, "cpu")
        truth = np.isin(segmenter.stack.canonical(label.voxels), self.about.values)
        return segmenter, sit(self.reader, segmenter, truth, self.every, self.most, self.paint)


def _filled(pair: Pair) -> bool:
    return bool((volumes.read_label(pair.label).voxels == 1).any())


def grid(subjects: Sequence[str], ways: Sequence[str], seeds: int) -> Iterator[tuple[str, str, str, int]]:
    """Key, subject, way and seed of every cell."""
    for seed in range(seeds):
        for name in subjects:
            for way in ways:
                yield f"{name}.{way}.seed{seed}", name, way, seed


def compute(arguments: argparse.Namespace) -> None:
    """All cells that are not there yet."""
    backbone = sam.load(arguments.backbone, "cpu", arguments.side)
    shared = settings(arguments, backbone)
    cells = Cells(arguments.workspace / "cells", shared)
    digest = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:8]
    for key, name, way, seed in grid(arguments.subjects, arguments.ways, arguments.seeds):
        about, paints = SUBJECTS[name], way == "paint"
        lessons = Lessons(
            arguments.workspace / f"lessons-{digest}" / f"{name}.seed{seed}{'.paint' * paints}", about.target,
            about.orientation, arguments.minutes, seed, about.volumes, arguments.backbone, arguments.side,
        )  # fmt: skip
        after = {"once": [1], "plain": []}.get(way, shared["after"])
        loop = Loop(about, backbone, Reader(arguments.enough), lessons, after, arguments.every, arguments.most, paints)
        cases = chosen(about, arguments.data, arguments.split, arguments.volumes, seed)
        cells.run(key, lambda one=loop, of=cases: one.run(of))


def settings(arguments: argparse.Namespace, backbone: Sam) -> dict[str, Any]:
    """What all cells of a workspace share, and what somebody who reads the page has to know of them."""
    named = {key: getattr(arguments, key) for key in ("minutes", "every", "most", "enough", "volumes", "split")}
    named["after"] = sorted(arguments.after or range(1, arguments.volumes))
    named |= {"backbone": backbone.name, "fingerprint": backbone.fingerprint(), "side": backbone.side}
    return named | {"torch": torch.__version__}


def _several(text: str) -> int:
    if not text.isdigit() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of volumes; give 2 or more")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="the shared data; without it nothing is computed")
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=["left-ventricle"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--volumes", type=_several, default=10, help="how many are corrected, one per patient")
    parser.add_argument("--split", choices=("train", "val"), default="train", help="`tiny` was pretrained on `train`")
    parser.add_argument("--minutes", type=float, default=0.5, help="of processor time for each lesson")
    parser.add_argument("--after", nargs="+", type=int, help="volumes after which is taught (default: every one)")
    parser.add_argument("--every", type=int, default=1, help="only every so manieth slice is looked at")
    parser.add_argument("--most", type=int, default=10, help="clicks on a slice before it is given up")
    parser.add_argument("--enough", type=float, default=0.9, help="Dice from which a slice is accepted")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--side", type=int, help="frame side (default: the backbone's)")
    parser.add_argument("--report", type=Path, help="page whose section `loop` is written")
    parser.add_argument("--plot", type=Path, help="picture to draw (.svg or .png)")
    arguments = parser.parse_args()
    if arguments.data:
        compute(arguments)
    shared, found = collected(arguments.workspace / "cells")
    if arguments.plot:
        draw(arguments.plot, found)
    picture = arguments.plot and arguments.report and relpath(arguments.plot, arguments.report.parent)
    sections.publish(arguments.report, "loop", report(shared, found, picture))


if __name__ == "__main__":
    main()
