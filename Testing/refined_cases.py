"""Refiners that have learned something, and views that only a refiner can answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import small_views
import torch

from ProMISeCore.dataset import Views
from ProMISeCore.training import Training


def stirred(module: torch.nn.Module, seed: int = 0) -> None:
    """Weights as if something had been learned: what a new refiner adds is no longer nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("read.weight"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))


def views(count: int = 12) -> Views:
    """Two of each case, a bright square in each picture where its mask is, on another place in each."""
    generator = np.random.default_rng(0)
    masks, pictures = np.zeros((count, 1, 16, 16), bool), np.full((count, 3, 32, 32), 60, np.uint8)
    for number in range(count):
        row, column = generator.integers(2, 8, 2)
        masks[number, :, row : row + 6, column : column + 6] = True
        pictures[number, :, 2 * row : 2 * row + 12, 2 * column : 2 * column + 12] = 200
    return replace(small_views.views(count, count // 2), masks=masks, pictures=pictures)


def training(model, material: Views, held: Views | None, checkpoint: Path, **changes) -> Training:
    return small_views.training(model, material, held, checkpoint, **{"steps": 10, "refine": 0.4} | changes)


def parts_of(model, refiners: bool) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.tensors().items() if key.startswith("refiners.") == refiners}
