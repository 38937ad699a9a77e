"""What a training has reached, and what it has seen of that when it looked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """What a training has reached; per target the best held-out Dice, when it was, and the Dice before the first step.

    seconds: pauses left out; doubts: how often labels were doubted; suspects: what `Training.doubt` has found;
    unjudged: targets whose held-out labels are doubted themselves; refining_from: share of the budget at which the
    refiners' part began, refining_step: how many steps came before it; begun: share at which training began.
    """

    step: int = 0
    seconds: float = 0.0
    best: dict[str, float] = field(default_factory=dict)
    best_step: dict[str, int] = field(default_factory=dict)
    before: dict[str, float | None] = field(default_factory=dict)
    doubts: int = 0
    suspects: list[dict[str, Any]] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)
    refining_from: float | None = None
    refining_step: int = 0
    begun: float = 0.0

    @property
    def scored(self) -> dict[str, float | None]:
        """The best, None of a target that has no score."""
        return {name: value if value >= 0 else None for name, value in self.best.items()}


@dataclass(frozen=True)
class Look:
    """One look at the held-out cases. share: of the training's budget, 0…1; loss: mean since the last look; dice: None
    where nothing is held out; suspects: cases doubted since the last look."""

    step: int
    seconds: float
    share: float
    loss: dict[str, float]
    dice: dict[str, float | None]
    best: dict[str, float | None]
    suspects: list[dict[str, Any]]
