"""Teaching in between: what a reader has made of the volumes so far becomes a pack; the next lesson goes on from it.

The code is that of `promise teach`; packs lie in a home folder of the experiment's own, so that no installed pack is
seen and lessons that were finished are not given again when an experiment goes on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ProMISeCore import packs
from ProMISeCore.commands import Commands
from ProMISeCore.pairs import Pair
from ProMISeCore.settings import PASSES, Settings
from ProMISeCore.survey import Survey
from ProMISeCore.teaching import Order, Teaching
from ProMISeCore.volumes import Stack
from ProMISeCore.whole_file import replacing
from ProMISeCore.wish import Wish


@dataclass(frozen=True)
class Lesson:
    """A pack's file, and what teaching it was like: steps, processor seconds, cases named as suspicious."""

    pack: Path
    notes: dict[str, Any]


class Lessons:
    """The lessons on one target. folder: of their own; unlike: an embedded pack that is no start for them.

    minutes: of processor time for each lesson, encoding and training together. backbone, side: as `Wish` takes them.
    """

    def __init__(
        self,
        folder: Path,
        target: str,
        orientation: str,
        minutes: float,
        seed: int,
        unlike: str = "",
        backbone: str = "tiny",
        side: int | None = None,
    ) -> None:
        self.folder, self.target, self.orientation = folder, target, orientation
        self.minutes, self.seed, self.unlike = minutes, seed, unlike
        self.backbone, self.side = backbone, side

    def keep(self, pair: Pair, stack: Stack, labels: np.ndarray) -> Pair:
        """Write what a reader has made of a volume, (n, H, W) on the stack's slices; the pair to learn from."""
        path = self.folder / "labels" / f"{pair.name}_label.nii.gz"
        image = sitk.GetImageFromArray(np.ascontiguousarray(stack.join(labels)))
        image.CopyInformation(sitk.ReadImage(str(pair.image)))
        with replacing(path) as part:
            sitk.WriteImage(image, str(part))
        return pair._replace(label=path)

    def teach(self, cases: Sequence[Pair], base: Lesson | None) -> Lesson:
        """The pack after so many cases, taught now unless it was before. base: the lesson to go on from."""
        name = f"after-{len(cases)}"
        notes = self.folder / f"{name}.json"
        with self._home():
            pack = packs.folder() / f"{name}{packs.SUFFIX}"
            if not (pack.is_file() and notes.is_file()):
                told = self._run(name, cases, base)
                with replacing(notes) as part:
                    part.write_text(json.dumps(told) + "\n", encoding="utf-8")
        return Lesson(pack, json.loads(notes.read_text(encoding="utf-8")))

    def _run(self, name: str, cases: Sequence[Pair], base: Lesson | None) -> dict[str, Any]:
        told: dict[str, dict[str, Any]] = {}
        began = time.process_time()
        wish = Wish(
            name,
            {self.target: 1},
            self.backbone,
            self.side,
            self.minutes,
            held_out=(),
            orientation=self.orientation,
            unlabelled="background",  # slices that nobody has accepted are unknown by their voxels
            seed=self.seed,
        )
        survey = Survey([str(case.image) for case in cases], [str(case.label) for case in cases], wish)
        settings = Settings(minutes=self.minutes, passes=PASSES, batch=12, patience=None, seed=self.seed)
        pack = None if base is None else base.pack
        starts = [] if base is not None else self._starts()
        order = Order(self.folder / "work", settings, "cpu", pack, starts, clock=time.process_time)
        Teaching(survey, order, lambda event, **values: told.update({event: values}), Commands(None)).run()
        done = told["done"]
        seconds = round(time.process_time() - began, 1)
        return {"cases": len(cases), "steps": done["step"], "seconds": seconds, "suspicious": done["suspicious"]}

    def _starts(self) -> list[packs.Pack]:
        embedded = [pack for pack in packs.installed() if pack.path.parent == packs.EMBEDDED]
        return [pack for pack in embedded if pack.path.stem != self.unlike]

    @contextmanager
    def _home(self) -> Iterator[None]:
        before, os.environ["PROMISE_HOME"] = os.environ.get("PROMISE_HOME"), str(self.folder)
        try:
            yield
        finally:
            os.environ.pop("PROMISE_HOME")
            if before is not None:
                os.environ["PROMISE_HOME"] = before
