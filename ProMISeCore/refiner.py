"""Redraws the decoder's masks on the slice's own picture, where the frozen embedding is too coarse or knows too little.

Not in the paper. A small U-Net (Ronneberger et al. 2015) sees the picture at half of the frame's side and the decoder's
logits of its targets, and adds to these. A new one adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = (1, 2, 3, 4)  # channels, in widths
_TOLD = "down.0.enter.weight"  # reads the picture and what is told of the targets
_SOFT = 4.0  # logits: the scale on which a mask's certainty is seen and changed


class Refiner(nn.Module):
    """Picture (B, 3, S/2, S/2) as `seen` gives it and logits (B, T, S/4, S/4) to logits of the same shape, float32.

    targets: T, which share all but their channel of the logits, 0 where it is not told. width: channels of the finest
    level, a multiple of 8; with 16 about 230 k weights. patch: logits along a side of a cell of that level; 2 is four
    times as quick as 1 and learns worse from few slices.
    """

    def __init__(self, targets: int = 1, width: int = 16, patch: int = 1) -> None:
        super().__init__()
        self.targets, self.patch = targets, patch
        widths = [width * level for level in _LEVELS]
        cell = patch**2
        self.down = nn.ModuleList(map(_Block, [(3 * 4 + targets) * cell, *widths[:-1]], widths))
        pairs = zip(widths[-2::-1], widths[:0:-1], strict=True)
        self.up = nn.ModuleList(_Block(below + here, here) for here, below in pairs)
        self.read = nn.Conv2d(width, targets * cell, 1)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    @property
    def is_idle(self) -> bool:
        """Whether it adds nothing, as a new one."""
        return not (self.read.weight.any() or self.read.bias.any())

    def forward(self, picture: Tensor, logits: Tensor) -> Tensor:
        """The logits, changed; the picture's dimension 0 may be 1."""
        logits = logits.float()
        told = F.pixel_unshuffle(torch.tanh(logits / _SOFT), self.patch)
        x = torch.cat([F.pixel_unshuffle(picture.expand(len(logits), -1, -1, -1), 2 * self.patch), told], 1)
        passed: list[Tensor] = []
        for block in self.down:
            x = block(F.avg_pool2d(passed[-1], 2, ceil_mode=True) if passed else x)
            passed.append(x)
        for block, beside in zip(self.up, passed[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, beside.shape[2:], mode="bilinear"), beside], 1))
        return logits + _SOFT * F.pixel_shuffle(self.read(x), self.patch).float()

    def redrawn(self, picture: Tensor, logits: Tensor, target: int) -> Tensor:
        """The logits (B, 1, S/4, S/4) of one target, changed, where nothing is told of the others."""
        told = logits.new_zeros(len(logits), self.targets, *logits.shape[2:])
        told[:, target] = logits[:, 0]
        return self(picture, told)[:, target : target + 1]

    def narrowed(self, targets: Sequence[int]) -> Refiner:
        """A new one for some of its targets, in this order; `redrawn` gives the same for them."""
        made = Refiner(len(targets), self.read.in_channels, self.patch)
        state, cell, channels = self.state_dict(), self.patch**2, torch.tensor(targets)
        told = state[_TOLD].shape[1] - self.targets * cell  # the picture's channels come first
        answers = (channels[:, None] * cell + torch.arange(cell)).flatten()
        state[_TOLD] = state[_TOLD][:, torch.cat([torch.arange(told), told + answers])]
        state |= {key: state[key][answers] for key in ("read.weight", "read.bias")}
        made.load_state_dict(state)
        return made


class _Block(nn.Module):
    """Two 3×3 convolutions with norm and GELU, the first's output added. (B, inputs, h, w) to (B, outputs, h, w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.enter_norm = nn.GroupNorm(8, outputs)
        self.mix = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.mix_norm = nn.GroupNorm(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.enter_norm(self.enter(x)))
        return x + F.gelu(self.mix_norm(self.mix(x)))


def expected_iou(logits: Tensor) -> Tensor:
    """What the logits (B, T, s, s) themselves let expect of the IoU of their masks, 0…1 (B, T); 0 for empty masks."""
    probability, mask = logits.sigmoid(), logits > 0
    inside = (probability * mask).sum((2, 3))
    return inside / (mask.sum((2, 3)) + (probability * ~mask).sum((2, 3))).clamp(min=1e-6)


def seen(images: Tensor) -> Tensor:
    """Of frames (B, 3, S, S), normalised as SAM's, what a refiner sees: (B, 3, S/2, S/2)."""
    return F.avg_pool2d(images.float(), 2)
