"""Refiners that have learned something, and views that only a refiner can answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ProMISeCore.dataset import Views
from ProMISeCore.material import Material
from ProMISeCore.settings import Settings
from ProMISeCore.training import Training


def stirred(module: torch.nn.Module, seed: int = 0) -> None:
    """Weights as if something had been learned: what a new refiner adds is no longer nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("read.weight"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))


def views(count: int = 12) -> Views:
    """Random embeddings at grid 4, a bright square in each picture where its mask is, on another place in each."""
    generator = np.random.default_rng(0)
    masks, pictures = np.zeros((count, 1, 16, 16), bool), np.full((count, 3, 32, 32), 60, np.uint8)
    for number in range(count):
        row, column = generator.integers(2, 8, 2)
        masks[number, :, row : row + 6, column : column + 6] = True
        pictures[number, :, 2 * row : 2 * row + 12, 2 * column : 2 * column + 12] = 200
    embedding = generator.standard_normal((count, 256, 4, 4), np.float32).astype(np.float16)
    known, plain = np.ones_like(masks), np.ones(count, bool)
    return Views(embedding, {}, masks, np.arange(count) // 2, "v", known, plain, np.arange(count), pictures)


def training(model, material: Views, held: Views | None, checkpoint: Path, **changes) -> Training:
    settings = replace(Settings(steps=10, batch=4, every=3, patience=None, rate=3e-3, refine=0.4), **changes)
    labels = {info.name: info.point_labels for info in model.manifest.targets}
    return Training(model, Material(material, labels), held, settings, checkpoint)


def parts_of(model, refiners: bool) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.tensors().items() if key.startswith("refiners.") == refiners}
