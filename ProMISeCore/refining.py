"""The second part of a training: refiners, on what the decoder says of every view once its shifts are learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from ProMISeCore.augment import Augment
from ProMISeCore.dataset import Views
from ProMISeCore.pretrain import mask_loss
from ProMISeCore.refiner import Refiner

#: draw(name, rows, generator): logits (B, 2, s, s) of the method's mask on some rows, automatic and after clicks.
Draw = Callable[[str, np.ndarray, torch.Generator], Tensor]

_UNTOLD = 0.5  # share of slices on which the refiner is not told the decoder's logits: one that only copies them learns
# nothing
_STEPS = 8  # per logit: they are kept as bytes
_MOST = 15.8  # logits
_LIGHT = 0.2  # deviation of random gain and offset of the picture, in units of its normalised values
BENT = 0.1  # how elastic pictures are
_MOVED = Augment(rotation=12, zoom=(0.85, 1.2), shift=0.05, mirror=0.0, elastic=BENT)
_ASTRAY = Augment(rotation=0, zoom=(1, 1), shift=0, mirror=0, elastic=BENT)  # of the logits alone: on slices that
# the decoder has learned they are nearer to the truth than they will be


class Refining:
    """Losses of the refiners of a model on its training views. What the decoder says is drawn once per target."""

    def __init__(self, views: Views, refiners: Mapping[str, Refiner], seed: int, draw: Draw) -> None:
        self._views, self._refiners, self._seed, self._draw = views, refiners, seed, draw
        self._drawn: dict[str, np.ndarray] = {}

    @property
    def ready(self) -> bool:
        """Whether all is drawn."""
        return self._drawn.keys() == self._refiners.keys()

    def prepare(self, stop: Callable[[], bool], batch: int = 32) -> bool:
        """Draw what is not drawn yet, a batch at a time; False where `stop()`, asked before each, says so."""
        for number, name in enumerate(self._refiners):
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
        self, name: str, rows: np.ndarray, masks: Tensor, known: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """Of the refined masks on some rows (B,). masks, known (B, s, s) bool, None where everything is known."""
        device, count = masks.device, len(rows)
        told = torch.randint(2, (count,), generator=generator).numpy()
        logits = torch.from_numpy(self._drawn[name][rows, told]).float()[:, None] / _STEPS
        logits = _ASTRAY.moved([logits + _MOST], generator)[0] - _MOST
        logits *= torch.rand(count, 1, 1, 1, generator=generator) >= _UNTOLD
        gain, offset = _LIGHT * torch.randn(2, count, 1, 1, 1, generator=generator)
        picture = self._views.take_pictures(rows) * (1 + gain) + offset
        known = torch.ones_like(masks) if known is None else known
        maps = (logits + _MOST, masks.float()[:, None], known.float()[:, None])
        moved = _MOVED.moved([part.to(device) for part in (picture, *maps)], generator)
        picture, logits, masks, known = moved[0], moved[1] - _MOST, moved[2] > 0.5, moved[3] > 0.999
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type in ("cpu", "cuda")):
            refined = self._refiners[name](picture, logits)
        return mask_loss(refined, masks, known)[:, 0]
