"""A MONAI U-Net trained on the same cases, changes and time as a taught pack, for `promise bench teach`.

It is not the U-Net of Testing/experiments/unet.py, which is measured against packs trained for long: here targets
exclude each other (softmax, Dice and cross-entropy, float32), the learning rate follows the clock as a teaching's does,
and nothing is held out, so the last weights count. Either's figures would change if both were one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ProMISeCore import volumes
from ProMISeCore.augment import Augment
from ProMISeCore.dataset import LabelledStack, Task
from ProMISeCore.errors import InputError
from ProMISeCore.frame import Frame, as_pixels
from ProMISeCore.pairs import Pair


class Unet:
    """BasicUNet, 2D, on frames of `side` pixels; one output per target and one for the rest."""

    def __init__(self, task: Task, side: int, augment: Augment, seed: int) -> None:
        try:
            from monai.losses import DiceCELoss
            from monai.networks.nets import BasicUNet
        except ImportError as error:
            raise InputError(
                "MONAI is needed for this comparison: pip install 'promise-slicer[experiments]'"
            ) from error
        torch.manual_seed(seed)
        self.task, self.side, self._augment = task, side, augment
        self._net = BasicUNet(spatial_dims=2, in_channels=3, out_channels=len(task.values) + 1)
        self._loss = DiceCELoss(to_onehot_y=True, softmax=True)
        self._generator = torch.Generator().manual_seed(seed)

    def train(
        self, pairs: Sequence[Pair], minutes: float, clock: Callable[[], float], batch: int = 8, rate: float = 1e-3
    ) -> int:
        """Train for so many minutes of the clock; returns the steps."""
        pictures, valid, labels = self._samples(pairs)
        optimizer = torch.optim.AdamW(self._net.parameters(), lr=rate, weight_decay=0.01)
        start, step = clock(), 0
        self._net.train()
        while (share := (clock() - start) / (60 * minutes)) < 1:
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / 20) * (0.01 + 0.495 * (1 + math.cos(math.pi * share)))
            rows = torch.randint(len(pictures), (batch,), generator=self._generator)
            shown, _, truth = self._augment(pictures[rows], valid[rows], labels[rows], self._generator)
            optimizer.zero_grad(set_to_none=True)
            self._loss(self._net(_normalised(shown)), truth).backward()
            optimizer.step()
            step += 1
        return step

    def _samples(self, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor, Tensor]:
        """All slices: pictures (M, 3, s, s) 0…255, valid and labels (M, 1, s, s): 0, or the target's number from 1."""
        found = []
        for pair in pairs:
            stack = LabelledStack(pair, self.task, self.side)
            for n in range(len(stack.labels[0])):
                picture, valid, labels = stack.sample(n)
                numbers = torch.arange(1, len(labels) + 1).view(-1, 1, 1)
                found.append((picture, valid, ((labels == 1) * numbers).amax(0, keepdim=True).float()))
        pictures, valid, labels = (torch.stack(parts) for parts in zip(*found, strict=True))
        return pictures, valid, labels

    @torch.inference_mode()
    def segment(self, volume: volumes.Volume) -> Mapping[str, np.ndarray]:
        """Target → (K, J, I) bool."""
        self._net.eval()
        stack = volumes.Stack(volume, self.task.orientation)
        shown = volumes.pictures(stack, volumes.Window.of(self.task.window, volume.voxels), self.task.channels)
        frame = Frame(*stack.shape[1:], self.side, self.task.padding, stack.spacing_rc)
        labels = np.zeros(stack.shape, int)
        for n in range(len(stack)):
            picture = _plain(frame, shown[n])
            labels[n] = frame.logits(self._net(_normalised(picture[None]))[0]).argmax(0).numpy()
        return {name: stack.join(labels == number) for number, name in enumerate(self.task.values, 1)}


def _plain(frame: Frame, picture: np.ndarray) -> Tensor:
    """A slice's picture (3, S, S) 0…255 in the frame, as `LabelledStack.sample` gives it."""
    return as_pixels(frame.image(picture))


def _normalised(pictures: Tensor) -> Tensor:
    return (pictures - 127.5) / 64
