"""Views as if they had been encoded, of embeddings that tell nothing, and a training on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ProMISeCore.dataset import Views
from ProMISeCore.material import Material
from ProMISeCore.settings import Settings
from ProMISeCore.training import Training


def views(count: int = 8, cases: int = 4, seed: int = 0) -> Views:
    """Random embeddings at grid 4, a square in each mask (1 target), rows shared out to the cases, all known."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((count, 1, 16, 16), bool)
    masks[:, :, 4:10, 5:11] = True
    embedding = generator.standard_normal((count, 256, 4, 4), np.float32).astype(np.float16)
    case = np.arange(count) * cases // count
    return Views(embedding, {}, masks, case, "v", np.ones_like(masks), np.ones(count, bool), np.arange(count))


def half_known() -> Views:
    """The same, of which nothing is known beyond column 8 of 16."""
    material = views()
    material.known[..., 8:] = False
    return material


def training(model, material: Views, held: Views | None, checkpoint: Path, **changes) -> Training:
    settings = replace(Settings(steps=6, batch=4, every=3, patience=None, rate=3e-3), **changes)
    labels = {info.name: info.point_labels for info in model.manifest.targets}
    return Training(model, Material(material, labels), held, settings, checkpoint)
