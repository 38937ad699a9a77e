"""The usual way, to be measured against: MONAI's BasicUNet trained from scratch on frames.

Needs the extra `experiments` (pip install -e ".[experiments]"). Nothing is pretrained; same cases, augmentation, loss
and kind of budget as the packs: a target is a channel of its own (sigmoid, the packs' loss, bfloat16), and the best
look at held-out cases counts. `promise bench teach` has another (ProMISeCore/unet.py), trained as a teaching is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from evaluation import masks_of, pooled_dice
from learning import Fitted, Recipe, fit
from torch import Tensor, nn

from ProMISeCore.augment import Augment
from ProMISeCore.dataset import LabelledStack, Plan
from ProMISeCore.errors import InputError
from ProMISeCore.frame import Frame
from ProMISeCore.pretrain import mask_loss

FEATURES = (32, 32, 64, 128, 256, 32)  # BasicUNet's own default: 2.0 M weights in 2D


@dataclass(frozen=True)
class Frames:
    """Labelled frames. M of them, T targets, side S.

    pictures (M, 3, S, S) uint8; valid (M, 1, S, S) bool, where there is content; masks (M, T, S, S) bool;
    case (M,) index of the case each comes from.
    """

    pictures: np.ndarray
    valid: np.ndarray
    masks: np.ndarray
    case: np.ndarray

    def __len__(self) -> int:
        return len(self.case)

    @classmethod
    def of(cls, plan: Plan, side: int) -> Frames:
        """The plan's slices as they are; its further views are left out, since frames are augmented when drawn."""
        parts, case = [], []
        for number, pair in enumerate(plan.pairs):
            slices = sorted({n for of, n, _ in plan.rows if of == number})
            stack, truth = LabelledStack(pair, plan.task, side), masks_of(pair, plan.task)[1]
            for n in slices:
                picture, valid = stack.sample(n)[:2]
                masks = _framed(truth[n], stack.frame)
                parts.append((picture.clamp(0, 255).round().byte().numpy(), valid.numpy() > 0, masks))
            case += [number] * len(slices)
        pictures, valid, masks = (np.stack(part) for part in zip(*parts, strict=True))
        return cls(pictures, valid, masks, np.array(case))

    def take(self, rows: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (B, 3, S, S) 0…255, valid (B, 1, S, S) and masks (B, T, S, S), float32, of some rows."""
        return tuple(torch.from_numpy(part[rows]).float() for part in (self.pictures, self.valid, self.masks))


def _framed(masks: np.ndarray, frame: Frame) -> np.ndarray:
    """Masks (T, H, W) of a slice as (T, S, S) of its frame, each pixel as the slice's nearest; nothing beside it."""
    rows = ((np.arange(frame.rows) + 0.5) / frame.scale_xy[1]).astype(int).clip(0, frame.height - 1)
    columns = ((np.arange(frame.columns) + 0.5) / frame.scale_xy[0]).astype(int).clip(0, frame.width - 1)
    out = np.zeros((len(masks), frame.side, frame.side), bool)
    out[:, : frame.rows, : frame.columns] = masks[:, rows[:, None], columns]
    return out


class UNet(nn.Module):
    """Frames (B, 3, S, S) 0…255 with valid (B, 1, S, S) to logits (B, T, S, S). Raises InputError without MONAI."""

    def __init__(self, targets: int, features: Sequence[int] = FEATURES) -> None:
        super().__init__()
        try:
            from monai.networks.nets import BasicUNet
        except ImportError as error:
            raise InputError('MONAI is not installed; add it with: pip install -e ".[experiments]"') from error
        self.net = BasicUNet(2, 3, targets, features)

    def forward(self, pictures: Tensor, valid: Tensor) -> Tensor:
        with torch.autocast(pictures.device.type, torch.bfloat16):
            return self.net((pictures / 255 - 0.5) * 4 * valid).float()


def train(learn: Frames, held: Frames, augment: Augment, recipe: Recipe, batch: int = 16) -> tuple[UNet, Fitted]:
    """A U-Net trained on augmented batches of `learn`, as it was best by mean Dice over the cases of `held`.

    recipe.budget: what it may take; a rate of its own is not needed, AdamW's 1e-3 serves both.
    """
    torch.manual_seed(recipe.seed)
    net = UNet(learn.masks.shape[1])
    started = time.process_time()

    def loss(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(learn), (min(batch, len(learn)),), generator=generator).numpy()
        pictures, valid, masks = augment(*learn.take(rows), generator)
        logits = net(pictures, valid)
        return torch.stack(
            [mask_loss(logits[:, t : t + 1], masks[:, t : t + 1]) for t in range(logits.shape[1])]
        ).mean()

    fitted = fit(net, loss, lambda: pooled_dice(predict(net, held) > 0, held.masks, held.case), recipe)
    return net, replace(fitted, cpu_seconds=time.process_time() - started)


@torch.inference_mode()
def predict(net: UNet, frames: Frames, batch: int = 16) -> np.ndarray:
    """Logits (M, T, S, S) of frames as they are."""
    net.eval()
    rows = [np.arange(first, min(first + batch, len(frames))) for first in range(0, len(frames), batch)]
    return np.concatenate([net(*frames.take(part)[:2]).numpy() for part in rows])
