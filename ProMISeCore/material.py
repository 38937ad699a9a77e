"""What a training learns from: batches of rows of cached views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ProMISeCore import simulate
from ProMISeCore.dataset import Views
from ProMISeCore.errors import InputError
from ProMISeCore.settings import Settings


class Material:
    """Views of the training cases for one model: batches of rows, and the good places for every target's points.

    distrusted: per target, cases that are not learned from any more.
    """

    def __init__(self, views: Views, point_labels: Mapping[str, Sequence[int]]) -> None:
        self.views = views
        self._names = list(point_labels)
        self.filled = views.masks.any((2, 3))
        self.known = np.ones_like(self.filled) if views.known is None else views.known.any((2, 3))
        self.distrusted: dict[int, set[int]] = {}
        self.places = {
            name: torch.stack([simulate.places(torch.from_numpy(mask), labels) for mask in views.masks[:, number]])
            for number, (name, labels) in enumerate(point_labels.items())
            if len(labels)
        }

    def rows(self, target: int, settings: Settings, generator: torch.Generator) -> np.ndarray:
        """A random batch of rows, `empty_share` of them without the target where there are such."""
        usable = self.known[:, target] & ~np.isin(self.views.case, list(self.distrusted.get(target, ())))
        filled = np.flatnonzero(usable & self.filled[:, target])
        empty = np.flatnonzero(usable & ~self.filled[:, target])
        if not len(filled):
            raise InputError(
                f"no slice that is learned from holds {self._names[target]!r}; check the label values of --targets, or "
                "use a larger --side if it is a very small target, or more --slices"
            )
        count = round(settings.batch * settings.empty_share) if len(empty) else 0
        draws = [
            torch.randint(len(pool), (size,), generator=generator).numpy()
            for pool, size in ((filled, settings.batch - count), (empty, count))
            if size
        ]
        return np.concatenate([pool[draw] for pool, draw in zip((filled, empty), draws, strict=False)])
