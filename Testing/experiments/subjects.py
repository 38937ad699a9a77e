"""What experiments are about: the cases of a shipped pack, encoded once in views, and the truth on their own grid."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from default_packs import RECIPES, places
from evaluation import Truth, masks_of

from ProMISeCore import pairs
from ProMISeCore.apm import feature_blocks
from ProMISeCore.augment import VOLUMES, Augment
from ProMISeCore.dataset import Encoder, Plan, Task, Views, plan
from ProMISeCore.errors import InputError
from ProMISeCore.pairs import Pair
from ProMISeCore.sam import Sam
from ProMISeCore.whole_file import replacing


@dataclass(frozen=True)
class Subject:
    """Cases to learn from and to be scored on, how they become frames and how their views are changed."""

    name: str
    learn: Sequence[Pair]
    held: Sequence[Pair]
    val: Sequence[Pair]
    task: Task
    augment: Augment

    def few(self, count: int, seed: int) -> Subject:
        """The same with `count` labelled patients, one of them held out (of a single one, its own slices are)."""
        patients = sorted({patient(self.name, pair.name) for pair in (*self.learn, *self.held)})
        if count > len(patients):
            raise InputError(f"{count} patients of {self.name} were asked for, there are {len(patients)}")
        chosen = [patients[n] for n in np.random.default_rng(seed).permutation(len(patients))[:count]]
        kept = {who: [p for p in (*self.learn, *self.held) if patient(self.name, p.name) == who] for who in chosen}
        held = chosen[: max(1, round(0.1 * count))]
        learn = chosen[len(held) :] or held
        return replace(self, learn=[p for who in learn for p in kept[who]], held=[p for who in held for p in kept[who]])


def patient(subject: str, case: str) -> str:
    """Whom a case is of: the heart's are called by patient and phase, others stand for themselves."""
    return case.rsplit("_", 1)[0] if subject == "heart" else case


def subject(
    name: str, data: Path, padding: str = "corner", most: int | None = None, only: str | None = None
) -> Subject:
    """The cases of the shipped pack `name`, a tenth of the training cases held out.

    padding: as a manifest's; most: training cases at most, drawn with a fixed seed; only: of several sets, the one
    whose `val` is scored. Raises InputError where the data are not there.
    """
    recipe = RECIPES[name]
    train, val = places(recipe, data, "train"), places(recipe, data, "val")
    val = [place for place in val if only is None or Path(place).parent.name == only]
    if not train or not val:
        raise InputError(f"the data of {name} are not in {data}; expected {', '.join(recipe['images'])}")
    found, rng = pairs.find(train), np.random.default_rng(0)
    found = [found[n] for n in rng.permutation(len(found))[:most]]
    count = max(1, round(0.1 * len(found)))
    return Subject(name, found[count:], found[:count], pairs.find(val), _task(recipe, padding), _augment(recipe))


def _task(recipe: dict, padding: str) -> Task:
    values = {target: int(value) for target, value in (entry.split("=") for entry in recipe["targets"])}
    orientation = recipe["options"][recipe["options"].index("--orientation") + 1]
    if orientation == "image":
        return Task(values, orientation, {"mode": "bytes"}, "repeat", padding)
    return Task(values, orientation, {"mode": "percentile", "low": 0.5, "high": 99.5}, "neighbours", padding)


def _augment(recipe: dict) -> Augment:
    """As `promise train` does."""
    if "image" not in recipe["options"]:
        return VOLUMES
    return Augment(mirror=0.0) if "--upright" in recipe["options"] else Augment(upset=0.5)


def every_slice(cases: Sequence[Pair], task: Task) -> Plan:
    """All slices of the cases as they are, empty ones too."""
    counts = [len(masks_of(pair, task)[1]) for pair in cases]
    return Plan(cases, task, [(number, n, 0) for number, count in enumerate(counts) for n in range(count)], 0)


@dataclass(frozen=True)
class Material:
    """Encoded views to learn from, of the cases held out, and of the cases that are scored, with their truth.

    encode_seconds: processor time that the first two took when they were encoded.
    """

    learn: Views
    held: Views
    val: Views
    truth: Truth
    encode_seconds: float


def encode(about: Subject, sam: Sam, folder: Path, views: int, slices: int, seed: int = 0) -> Material:
    """Encode a subject once; what is on disk in `folder` is used again."""
    encoder = Encoder(sam, blocks_of(sam), about.augment, folder)
    learn, learn_seconds = _encoded(encoder, plan(about.learn, about.task, sam.side, views, slices, seed))
    held, held_seconds = _encoded(encoder, plan(about.held, about.task, sam.side, 1, slices, seed))
    val, _ = _encoded(encoder, every_slice(about.val, about.task))
    return Material(learn, held, val, Truth.of(about.val, about.task, sam.side), learn_seconds + held_seconds)


def _encoded(encoder: Encoder, chosen: Plan) -> tuple[Views, float]:
    """A plan's views, and the processor time that they took when they were encoded, which is kept beside them."""
    began = time.process_time()
    views = encoder.views(chosen, lambda steps, total: steps)
    note = encoder.root / f"views-{views.key}" / "cpu_seconds.txt"
    if not note.exists():
        with replacing(note) as part:
            part.write_text(f"{time.process_time() - began:.2f}\n", encoding="utf-8")
    return views, float(note.read_text(encoding="utf-8"))


def blocks_of(sam: Sam) -> tuple[int, ...]:
    """The blocks that the paper's APM reads; none of a backbone that has none."""
    return feature_blocks(sam.depth) if sam.depth else ()
