"""How a pack is trained."""

from __future__ import annotations

from dataclasses import dataclass

#: After so many, a few slices are only learned by heart (docs/teach.md, Measured).
PASSES = 120.0


@dataclass(frozen=True)
class Settings:
    """How a pack is trained. Steps count batches of one target; weights of the losses beside the mask's.

    minutes: instead of `steps`, which then does not count; passes: over the slices at most in these minutes, None for
    as many as there is time for.
    """

    steps: int = 1500
    minutes: float | None = None
    passes: float | None = None
    batch: int = 16
    rate: float = 1e-3
    weight_decay: float = 0.05
    every: int = 50  # steps between looks at the held-out cases
    patience: int | None = 8  # looks without improvement before a target stops; None: never
    empty_share: float = 0.2  # of a batch: slices without the target
    empty_weight: float = 0.3  # of the mask loss on them
    guide: float = 2.0  # pull of the points to good places; 0 as published
    presence: float = 0.2
    corrections: float = 0.5  # of the mask loss after simulated clicks; 0 as published
    refine: float = 0.85  # share, of the budget that is left for training, for the refiners, at its end
    seed: int = 0
