"""Training of anything for an experiment: a budget in steps or in processor time, and the best state by a look."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ProMISeCore.errors import InputError

_WARM = 0.05  # of the budget: the rate rises
_END = 0.01  # of the rate, where the cosine ends


@dataclass(frozen=True)
class Budget:
    """How long to train: steps, or minutes of processor time of this process, all its threads together.

    Processor time and not the clock's, so that a busy machine takes longer but nobody's share changes.
    Raises InputError unless exactly one is given, above 0.
    """

    steps: int | None = None
    cpu_minutes: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.steps, self.cpu_minutes) if value is not None]
        if len(given) != 1 or not given[0] > 0:
            raise InputError(f"the budget is {self}; give steps or cpu_minutes, above 0")

    def share(self, step: int, cpu_seconds: float) -> float:
        """How much of it is used after so many steps and seconds, 0…; 1 is all."""
        return step / self.steps if self.steps is not None else cpu_seconds / (60 * self.cpu_minutes)


@dataclass(frozen=True)
class Recipe:
    """How to train. looks: at the held-out cases, spread evenly over the budget; the last is at its end."""

    budget: Budget
    rate: float = 1e-3
    weight_decay: float = 0.05
    looks: int = 10
    seed: int = 0


@dataclass
class Fitted:
    """What a training reached: steps, processor time, best value of a look, and (step, value) of every look."""

    steps: int = 0
    cpu_seconds: float = 0.0
    best: float = -math.inf
    looks: list[tuple[int, float]] = field(default_factory=list)


def fit(
    module: nn.Module,
    loss: Callable[[torch.Generator], Tensor],
    look: Callable[[], float],
    recipe: Recipe,
    spent_seconds: float = 0.0,
) -> Fitted:
    """Train what of `module` asks for gradients with AdamW and leave it, in evaluation mode, as it was best.

    loss: draws a batch with the generator and gives its loss; look: a score, the higher the better; spent_seconds: of
    processor time, counted against the budget before the first step (to encode views, say).
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, weight_decay=recipe.weight_decay)
    generator = torch.Generator().manual_seed(recipe.seed)
    fitted, state, started = Fitted(cpu_seconds=spent_seconds), _copy(module), time.process_time()
    share = recipe.budget.share(0, spent_seconds)
    while share < 1:
        module.train()
        _step(optimizer, parameters, loss(generator), recipe.rate * _factor(share))
        fitted.steps += 1
        fitted.cpu_seconds = spent_seconds + time.process_time() - started
        before, share = share, recipe.budget.share(fitted.steps, fitted.cpu_seconds)
        if int(before * recipe.looks) < int(min(share, 1) * recipe.looks):
            module.eval()
            fitted.looks.append((fitted.steps, round(look(), 4)))
            if fitted.looks[-1][1] > fitted.best:
                fitted.best, state = fitted.looks[-1][1], _copy(module)
    module.load_state_dict(state, strict=False)
    module.eval()
    return fitted


def _step(optimizer: torch.optim.Optimizer, parameters: list[Tensor], loss: Tensor, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if nn.utils.clip_grad_norm_(parameters, 1.0).isfinite():
        optimizer.step()


def _factor(share: float) -> float:
    """Of the learning rate: rises at first, then falls as a cosine."""
    return min(1.0, (share + 0.002) / _WARM) * (_END + (1 - _END) / 2 * (1 + math.cos(math.pi * min(share, 1))))


def _copy(module: nn.Module) -> dict[str, Tensor]:
    """What training changes: parameters that ask for gradients, and buffers (batch normalisation's)."""
    frozen = {key for key, p in module.named_parameters() if not p.requires_grad}
    return {key: value.detach().clone() for key, value in module.state_dict().items() if key not in frozen}
