"""The second part of a training: refiners, on what the decoder says of every view once its shifts are learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ProMISeCore.augment import BENT, Augment
from ProMISeCore.dataset import Views
from ProMISeCore.frame import as_pixels, normalised
from ProMISeCore.pretrain import mask_loss
from ProMISeCore.refiner import Refiner

#: draw(name, rows, generator): logits (B, 2, s, s) of the method's mask on some rows, automatic and after clicks.
Draw = Callable[[str, np.ndarray, torch.Generator], Tensor]

# Share of slices on which a refiner is told no decoder's logits: one that only copies them learns nothing.
_UNTOLD = 0.5
_STEPS = 8  # per logit: they are kept as bytes
_MOST = 15.8  # logits
# Of the logits alone: on slices that the decoder has learned they are nearer to the truth than they will be.
_ASTRAY = Augment(rotation=0, zoom=(1, 1), shift=0, mirror=0, elastic=BENT.elastic)


class Refining:
    """Losses of a model's refiners on its training views. What the decoder says is drawn once per target.

    groups: refiners with the names of their targets; numbers: of all targets, the place in the views' masks.
    """

    def __init__(
        self,
        views: Views,
        groups: Sequence[tuple[Refiner, Sequence[str]]],
        numbers: Sequence[str],
        seed: int,
        draw: Draw,
    ) -> None:
        self._views, self._numbers, self._seed, self._draw = views, list(numbers), seed, draw
        self._group = {name: group for group in groups for name in group[1]}
        self._drawn: dict[str, np.ndarray] = {}

    @property
    def ready(self) -> bool:
        """Whether all is drawn."""
        return self._drawn.keys() == self._group.keys()

    def prepare(self, stop: Callable[[], bool], batch: int = 32) -> bool:
        """Draw what is not drawn yet, a batch at a time; False where `stop()`, asked before each, says so."""
        for number, name in enumerate(self._group):
            if name in self._drawn:
                continue
            side = self._views.masks.shape[-1]
            kept = np.zeros((len(self._views), 2, side, side), np.int8)
            generator = torch.Generator().manual_seed(1_000_003 * self._seed + number)
            for first in range(0, len(kept), batch):
                if stop():
                    return False
                rows = np.arange(first, min(len(kept), first + batch))
                with torch.no_grad():
                    logits = self._draw(name, rows, generator).float().clamp(-_MOST, _MOST)
                kept[rows] = (_STEPS * logits).round().to(torch.int8).cpu().numpy()
            self._drawn[name] = kept
        return True

    def loss(
        self, name: str, rows: np.ndarray, generator: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Of the refined masks (B, T) of all targets of a target's refiner on some rows (B,), and whether each of them
        (B, T) has anything there; on half of the rows it is told what the decoder says of the one named."""
        refiner, names = self._group[name]
        masks, known = self._truth(names, rows)
        said, is_told = self._said(name, rows, generator), torch.zeros(len(rows), len(names), 1, 1, dtype=torch.bool)
        is_told[:, names.index(name), 0, 0] = torch.rand(len(rows), generator=generator) >= _UNTOLD
        picture = self._picture(rows, generator)
        maps = (picture, said + _MOST, masks.float(), known.float())
        picture, said, masks, known = BENT.moved([part.to(device) for part in maps], generator)
        told, masks, known = (said - _MOST) * is_told.to(device), masks > 0.5, known > 0.999
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type in ("cpu", "cuda")):
            refined = refiner(picture, told)
        flat = [part.flatten(0, 1)[:, None] for part in (refined, masks, known)]
        return mask_loss(*flat)[:, 0].view(len(rows), len(names)), masks.flatten(2).any(2)

    def _truth(self, names: Sequence[str], rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Masks (B, T, s, s) bool, and where something is known of them."""
        numbers = [self._numbers.index(name) for name in names]
        masks = torch.from_numpy(np.ascontiguousarray(self._views.masks[rows][:, numbers]))
        known = [self._views.take_known(rows, number) for number in numbers]
        return masks, torch.ones_like(masks) if known[0] is None else torch.stack(known, 1)

    def _said(self, name: str, rows: np.ndarray, generator: torch.Generator) -> Tensor:
        """What the decoder says of a target (B, 1, s, s), automatic or after clicks, a little astray."""
        which = torch.randint(2, (len(rows),), generator=generator).numpy()
        logits = torch.from_numpy(self._drawn[name][rows, which]).float()[:, None] / _STEPS
        return _ASTRAY.moved([logits + _MOST], generator)[0] - _MOST

    def _picture(self, rows: np.ndarray, generator: torch.Generator) -> Tensor:
        """What a refiner sees (B, 3, S/2, S/2), its intensities changed at random."""
        return normalised(BENT.recoloured(as_pixels(self._views.take_pictures(rows)), generator))
