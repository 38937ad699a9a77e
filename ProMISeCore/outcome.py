"""What a teaching has come to: what its held-out cases say, and the trainings that the pack is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ProMISeCore.training import Training


@dataclass
class Outcome:
    """table: per target, as docs/teach.md says of `done`; scores: as manifests have them; smoothing: mm, along slices.

    stages: the judged training, and that from all cases if it came to its end. stopped: before that; problem: what
    else kept it from its end.
    """

    table: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    smoothing: float
    stages: list[Training]
    stopped: bool = False
    problem: str | None = None

    @classmethod
    def of(cls, judged: Training, smoothing: float, within: bool) -> Outcome:
        """Of the training that held-out cases judge. within: held-out slices are of cases that were learned from."""
        found = {name: list(judged.held_dice(name).values()) for name in judged.names}
        data = "slices held out of the cases learned from" if within else "held-out cases of the user's own"
        table = [_before_and_after(judged, number, name, dice) for number, (name, dice) in enumerate(found.items())]
        scores = [_score(name, dice, data) for name, dice in found.items() if dice]
        return cls(table, scores, smoothing, [judged], judged.stopped)

    def add(self, last: Training) -> None:
        """The training from all cases has come to its end: the scores are of the one before."""
        self.stages.append(last)
        for score in self.scores:
            score["data"] += ", before they were learned from, too"

    @property
    def whole(self) -> bool:
        """Whether held-out cases were learned from."""
        return len(self.stages) > 1

    @property
    def ended(self) -> bool:
        """Whether it came to its end, so that nothing is left to go on from."""
        return not self.stopped and self.problem is None

    @property
    def steps(self) -> int:
        return sum(stage.progress.step for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Of learning, without encoding."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def suspects(self) -> list[dict[str, Any]]:
        """Entries as of `Training.doubt`."""
        return [suspect for stage in self.stages for suspect in stage.progress.suspects]


def _before_and_after(judged: Training, number: int, name: str, dice: Sequence[float]) -> dict[str, Any]:
    slices = int(judged.held.known[:, number].any((1, 2)).sum()) if dice else 0
    before = None if name in judged.progress.unjudged else judged.progress.before.get(name)
    after = _mean(dice) if dice else None
    return {"target": name, "before": before, "after": after, "cases": len(dice), "slices": slices}


def _score(name: str, dice: Sequence[float], data: str) -> dict[str, Any]:
    iou = _mean([one / (2 - one) for one in dice])
    return {"data": data, "cases": len(dice), "target": name, "dice": _mean(dice), "iou": iou}


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)
