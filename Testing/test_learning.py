"""Training of experiments: budgets are kept, the best state is what stays, the same seed gives the same weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from evaluation import pooled_dice
from learning import Budget, Recipe, fit
from torch import nn

from ProMISeCore.errors import InputError


class Line(nn.Module):
    """y = weight · x; `frozen` asks for no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def loss(self, generator: torch.Generator) -> torch.Tensor:
        x = torch.rand(8, generator=generator)
        return (self.weight * x - 2 * x).square().mean()


def test_a_budget_in_steps_is_kept_and_looks_are_spread_to_its_end():
    line = Line()
    fitted = fit(line, line.loss, lambda: 0.0, Recipe(Budget(steps=20), looks=4))
    assert fitted.steps == 20 and [step for step, _ in fitted.looks] == [5, 10, 15, 20]


def test_a_budget_of_processor_time_counts_what_was_spent_before():
    line = Line()
    fitted = fit(line, line.loss, lambda: 0.0, Recipe(Budget(cpu_minutes=1 / 60), looks=2), spent_seconds=0.9)
    assert fitted.cpu_seconds >= 1.0 and fitted.looks
    spent = fit(Line(), line.loss, lambda: 0.0, Recipe(Budget(cpu_minutes=1 / 60)), spent_seconds=1.5)
    assert spent.steps == 0 and spent.cpu_seconds == 1.5


def test_the_best_look_is_what_stays_and_what_is_frozen_is_untouched():
    line, seen = Line(), []

    def look() -> float:
        seen.append(line.weight.item())
        return [0.1, 0.7, 0.3][len(seen) - 1]

    fitted = fit(line, line.loss, look, Recipe(Budget(steps=30), rate=0.1, looks=3))
    assert fitted.best == 0.7 and line.weight.item() == seen[1] != seen[2]
    assert float(line.frozen) == 1 and not line.training


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    weights = []
    for seed in (0, 0, 1):
        line = Line()
        fit(line, line.loss, lambda: 0.0, Recipe(Budget(steps=5), rate=0.1, seed=seed))
        weights.append(float(line.weight))
    assert weights[0] == weights[1] != weights[2]


def test_gradients_that_are_not_numbers_leave_the_weights_alone():
    line = Line()
    fit(line, lambda generator: line.weight.sum() * math.inf, lambda: 0.0, Recipe(Budget(steps=2)))
    assert float(line.weight) == 0


@pytest.mark.parametrize("given", [{}, {"steps": 0}, {"cpu_minutes": -1.0}, {"steps": 3, "cpu_minutes": 1.0}])
def test_unclear_budgets_are_refused(given):
    with pytest.raises(InputError, match="give steps or cpu_minutes"):
        Budget(**given)


def test_dice_is_pooled_over_a_case_s_slices_and_empty_cases_count_one():
    masks = np.zeros((3, 1, 2, 2), bool)
    masks[0, 0, 0] = True  # case 0: two pixels in slice 0, none in slice 1
    found = np.zeros_like(masks)
    found[0, 0, 0, 0] = found[1, 0, 1, 1] = True
    assert pooled_dice(found, masks, np.array([0, 0, 1])) == pytest.approx((2 * 1 / 4 + 1) / 2)
