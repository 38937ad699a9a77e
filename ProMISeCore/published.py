"""Teaching the way the paper trains, to be measured against in `promise bench teach`: the encoder is in the loop.

Every step changes and encodes its pictures anew; APM and IPS begin from random numbers and learn from the mask loss
alone. All slices are there to be drawn. Rate, budget, presence and what becomes of the result are a teaching's, so that
nothing else differs: the paper's own rate of 1e-5 learns nothing in minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ProMISeCore import encoder
from ProMISeCore.augment import VOLUMES, Augment
from ProMISeCore.case_encoder import EncodedCases
from ProMISeCore.dataset import LabelledStack, changed, masks_of
from ProMISeCore.manifest import Manifest
from ProMISeCore.promise import Promise
from ProMISeCore.sam import Sam
from ProMISeCore.settings import Settings
from ProMISeCore.teaching import Teaching
from ProMISeCore.training import Training


class FreshViews:
    """All slices of some cases as `Views` gives them, changed at random and encoded whenever they are taken."""

    known = plain = pictures = None
    key = "fresh"

    def __init__(self, stacks: Sequence[LabelledStack], sam: Sam, augment: Augment, seed: int) -> None:
        self._stacks, self._device = stacks, next(sam.parameters()).device
        self._encode, self._augment = encoder.Encoder(sam), augment
        self._generator = torch.Generator().manual_seed(seed)
        self._rows = [(case, n) for case, stack in enumerate(stacks) for n in range(len(stack.labels[0]))]
        self.case = np.array([case for case, _ in self._rows])
        self.masks = np.stack([masks_of(stacks[case].sample(n)[2]).numpy() for case, n in self._rows])

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: Sequence[int] | np.ndarray) -> tuple[Tensor, list[Tensor], Tensor]:
        """Embedding (B, 256, G, G), no features, and masks (B, T, s, s) bool of new views of some rows."""
        samples = []
        for row in rows:
            case, n = self._rows[row]
            samples.append(changed(self._stacks[case].sample(n), self._augment, self._generator))
        images, labels = (torch.stack(parts) for parts in zip(*samples, strict=True))
        embedding, _ = self._encode(images.to(self._device))
        return (
            embedding.float().clone(),
            [],
            masks_of(labels),
        )  # the clone: what is encoded cannot take part in learning

    def take_known(self, rows: Sequence[int] | np.ndarray, target: int) -> None:
        """Everything is known."""

    def take_pictures(self, rows: Sequence[int] | np.ndarray) -> None:
        """There are no refiners."""


class PublishedTeaching(Teaching):
    """A teaching without cache, starts, refiners, pulled points and simulated clicks; nothing is held out."""

    def _manifest(self, backbone: Sam) -> Manifest:
        return replace(super()._manifest(backbone), refiners=())

    def _encode(self, model: Promise) -> EncodedCases:
        task, cases = self._task(model.manifest), self.survey.learn
        stacks = [LabelledStack(case.pair, task, model.sam.side) for case in cases]
        return EncodedCases(FreshViews(stacks, model.sam, VOLUMES, self.survey.wish.seed), None, 0.0, cases, ())

    def _begin(self, training: Training) -> None:
        """From random numbers."""

    def _train(self, training: Training) -> None:
        training.run(self._report, self._commands.stop)


def as_published(settings: Settings) -> Settings:
    """No pull of points, no simulated clicks, no refiners: the mask's loss, and presence's."""
    return replace(settings, guide=0.0, corrections=0.0, refine=0.0, patience=None, passes=None)
