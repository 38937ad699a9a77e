"""`promise bench teach`: held-out Dice after a few minutes with a few patients, taught and by a U-Net.

One JSON file per cell of the grid; a rerun measures only the cells that have none. The budget is processor time of this
process, divided by two: what two idle cores would take, so that other load on the machine does not change the result.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ProMISeCore import packs, pairs, volumes
from ProMISeCore.pairs import Pair
from ProMISeCore.terminal import say, table
from ProMISeCore.whole_file import replacing


@dataclass(frozen=True)
class _Set:
    """A data set: its targets, how a case's name gives the patient's, the orientation and the U-Net's frame side."""

    targets: Mapping[str, int]
    patient: str  # what comes after the patient in a case's name
    orientation: str
    side: int
    pack: str  # which was trained on it, and is no start for it


SETS = {
    "heart": _Set(
        {"right ventricle": 1, "myocardium": 2, "left ventricle": 3}, "_frame", "axial", 128, "heart"
    ),
    "hippocampus": _Set(
        {"anterior hippocampus": 1, "posterior hippocampus": 2}, "_image", "sagittal", 64, "hippocampus"
    ),
}  # fmt: skip


#: What becomes of cases that judge, in methods that have some.
_HELD_OUT = {"teach-default": {"held_out": None}, "teach-judge-only": {"held_out": None, "judge_only": True}}
METHODS = ("teach", "unet", "published", "teach-wrong", *_HELD_OUT)


@dataclass(frozen=True)
class _Cell:
    """One entry of the grid. method: one of METHODS; published: encoder in the loop; teach-wrong: one case's labels lie
    far aside; teach-default: a case is held out and learned from at last, as where nothing else is asked for;
    teach-judge-only: it is never learned from; side: of the frames of a taught pack, the backbone's own unless given.
    """

    data: str
    patients: int
    minutes: float
    seed: int
    method: str
    side: int | None = None

    @property
    def file(self) -> str:
        side = "" if self.side is None else f"-{self.side}"
        return f"{self.data}-{self.patients}-{self.minutes:g}-{self.seed}-{self.method}{side}.json"


def add_arguments(parser: argparse._ArgumentGroup) -> None:
    """Options of `promise bench teach`."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="with volumes/heart/train and so on")
    parser.add_argument("--cells", type=Path, metavar="DIR", help="where each cell's JSON is kept")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument(
        "--patients", nargs="+", type=_count, default=[1, 2, 5, 10, 20], metavar="K", help="labelled ones, or all"
    )
    parser.add_argument("--minutes", nargs="+", type=float, default=[5, 15], metavar="M")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["teach", "unet"])
    parser.add_argument("--side", type=int, metavar="S", help="frame side of taught packs (default: the backbone's)")


def run(arguments: argparse.Namespace) -> None:
    """Measure the cells that are missing, then print all of them."""
    from ProMISeCore.errors import InputError

    if arguments.data is None or arguments.cells is None:
        raise InputError("promise bench teach needs --data DIR and --cells DIR")
    arguments.cells.mkdir(parents=True, exist_ok=True)
    grid = [
        _Cell(
            data,
            patients or len(_patients(data, arguments.data)),
            minutes,
            seed,
            method,
            None if method == "unet" else arguments.side,
        )
        for seed in arguments.seeds
        for minutes in arguments.minutes
        for patients in arguments.patients
        for data in arguments.sets
        for method in arguments.methods
    ]
    grid = list(dict.fromkeys(grid))  # all patients may be as many as asked for beside
    for cell in grid:
        path = arguments.cells / cell.file
        if not path.exists():
            say(f"measuring {path.stem}")
            report = measure(cell, arguments.data)
            with replacing(path) as part:
                part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        report = json.loads(path.read_text(encoding="utf-8"))
        if cell.method != "unet" and report.get("backbone") != _backbone():
            raise InputError(
                f"{path} was measured on another version of the backbone; remove it to measure it again, or use "
                "another --cells"
            )
        print(_line(cell, report), flush=True)
    print(_as_table(grid, arguments.cells))


def measure(cell: _Cell, data: Path) -> dict[str, Any]:
    """Train and score on every `val` case."""
    chosen = _chosen(cell, data)
    started = time.monotonic()
    scorer, details = (_unet if cell.method == "unet" else _teach)(cell, chosen)
    trained = time.monotonic() - started
    val = pairs.find([str(data / "volumes" / cell.data / "val")])
    scores = {pair.name: _dice(scorer(pair), pair, SETS[cell.data].targets) for pair in val}
    targets = SETS[cell.data].targets
    return {
        "cases": [pair.name for pair in chosen],
        **details,
        "wall_seconds": round(trained, 1),
        "scores": scores,
        "mean": {name: float(np.mean([one[name] for one in scores.values()])) for name in targets},
        "sd": {name: float(np.std([one[name] for one in scores.values()])) for name in targets},
    }


def _count(text: str) -> int | None:
    """A number of patients, or None for all."""
    if text == "all":
        return None
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of patients; give 1, 2, … or all")
    return int(text)


def _patients(name: str, data: Path) -> dict[str, list[Pair]]:
    """Volumes of each patient that can be learned from."""
    found: dict[str, list[Pair]] = {}
    for pair in pairs.find([str(data / "volumes" / name / "train")]):
        found.setdefault(pair.name.split(SETS[name].patient)[0], []).append(pair)
    return dict(sorted(found.items()))


def _chosen(cell: _Cell, data: Path) -> list[Pair]:
    """All volumes of K patients drawn by the seed."""
    patients = list(_patients(cell.data, data).values())
    drawn = np.random.default_rng(cell.seed).permutation(len(patients))[: cell.patients]
    return [pair for n in sorted(drawn) for pair in patients[n]]


@functools.cache
def _backbone() -> str:
    """Fingerprint of the embedded backbone, on which packs are taught."""
    from ProMISeCore import sam

    return sam.load("tiny").fingerprint()


def _two_cores() -> float:
    return time.process_time() / 2


def _teach(cell: _Cell, chosen: list[Pair]):
    """A taught pack, as `promise teach` makes it, starting from packs that were not trained on this data set; or one
    taught as published."""
    import ProMISeCore
    from ProMISeCore.commands import Commands
    from ProMISeCore.errors import InputError
    from ProMISeCore.published import PublishedTeaching, as_published
    from ProMISeCore.segmenter import Segmenter
    from ProMISeCore.settings import PASSES, Settings
    from ProMISeCore.survey import Survey
    from ProMISeCore.teaching import Order, Teaching
    from ProMISeCore.wish import Wish

    kind, told = SETS[cell.data], {}
    starts = [pack for pack in packs.installed() if pack.path.stem != kind.pack]
    wish = Wish(
        "bench", kind.targets, side=cell.side, minutes=cell.minutes,
        orientation=kind.orientation, seed=cell.seed, **_HELD_OUT.get(cell.method, {"held_out": ()}),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="promise-bench-") as folder:
        labels = [str(pair.label) for pair in chosen]
        if cell.method == "teach-wrong":
            labels[0] = str(_misplaced(chosen[0].label, Path(folder) / "wrong"))
        home, os.environ["PROMISE_HOME"] = os.environ.get("PROMISE_HOME"), folder
        try:
            kind_of = Teaching
            settings = Settings(minutes=cell.minutes, passes=PASSES, batch=12, patience=None, seed=cell.seed)
            if cell.method == "published":
                kind_of, settings = PublishedTeaching, as_published(settings)
            order = Order(Path(folder) / "work", settings, "cpu", None, starts, clock=_two_cores)
            survey = Survey([str(pair.image) for pair in chosen], labels, wish)
            kind_of(survey, order, lambda event, **values: told.update({event: values}), Commands(None)).run()
            if told["done"]["problem"] is not None:
                raise InputError(f"the teaching did not come to its end: {told['done']['problem']}")
            model = ProMISeCore.load(told["done"]["pack"])
        finally:
            os.environ.pop("PROMISE_HOME")
            if home is not None:
                os.environ["PROMISE_HOME"] = home

    def segment(pair: Pair) -> Mapping[str, np.ndarray]:
        segmenter = Segmenter(model, volumes.read(pair.image), "cpu")
        for _ in segmenter.segment_volume():
            pass
        return segmenter.masks()

    done = told["done"]
    kept = {key: done[key] for key in ("suspicious", "held_out", "learned_held_out")}
    return segment, {"steps": done["step"], **kept, "backbone": model.sam.fingerprint()}


def _misplaced(label: Path, folder: Path) -> Path:
    """A copy of a label map, moved by a quarter of the image along rows and columns."""
    folder.mkdir()
    image = sitk.ReadImage(str(label))
    voxels = sitk.GetArrayFromImage(image)
    moved = sitk.GetImageFromArray(np.roll(voxels, [extent // 4 for extent in voxels.shape[1:]], (1, 2)))
    moved.CopyInformation(image)
    sitk.WriteImage(moved, str(folder / label.name))
    return folder / label.name


def _unet(cell: _Cell, chosen: list[Pair]):
    from ProMISeCore import masks
    from ProMISeCore.augment import BENT
    from ProMISeCore.dataset import Task
    from ProMISeCore.unet import Unet

    kind = SETS[cell.data]
    window = {"mode": "percentile", "low": 0.5, "high": 99.5}
    task = Task(kind.targets, kind.orientation, window, "neighbours", "corner")
    net = Unet(task, kind.side, BENT, cell.seed)
    steps = net.train(chosen, cell.minutes, _two_cores)

    def segment(pair: Pair) -> Mapping[str, np.ndarray]:
        found = net.segment(volumes.read(pair.image))
        return {name: masks.largest_piece(mask) for name, mask in found.items()}

    return segment, {"steps": steps}


def _dice(found: Mapping[str, np.ndarray], pair: Pair, targets: Mapping[str, int]) -> dict[str, float]:
    from ProMISeCore import scores

    label = volumes.read_label(pair.label).voxels
    return {name: scores.dice(found[name], label == value) for name, value in targets.items()}


def _line(cell: _Cell, report: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name} {value:.3f}" for name, value in report["mean"].items())
    return f"{Path(cell.file).stem}: {values}; {report['steps']} steps"


def _as_table(grid: list[_Cell], folder: Path) -> str:
    """Mean Dice over the targets, per set, number of patients and minutes; mean ± sd over the seeds."""
    methods = [method for method in METHODS if any(cell.method == method for cell in grid)]
    rows = [["data", "patients", "minutes", "seeds", *methods]]
    keys = dict.fromkeys((cell.data, cell.patients, cell.minutes) for cell in grid)
    for data, patients, minutes in keys:
        cells = [cell for cell in grid if (cell.data, cell.patients, cell.minutes) == (data, patients, minutes)]
        by_method = {method: [_mean(folder / c.file) for c in cells if c.method == method]
                     for method in methods}  # fmt: skip
        seeds = str(len({cell.seed for cell in cells}))
        shown = [
            "–" if not values else f"{np.mean(values):.3f} ± {np.std(values):.3f}" for values in by_method.values()
        ]
        rows.append([data, str(patients), f"{minutes:g}", seeds, *shown])
    return table(rows)


def _mean(path: Path) -> float:
    return float(np.mean(list(json.loads(path.read_text(encoding="utf-8"))["mean"].values())))
