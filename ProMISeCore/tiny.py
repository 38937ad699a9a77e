"""Encoder of the embedded default backbone: MobileNetV2 read at half the frame's resolution, and a feature pyramid.

The frame (side S) is averaged 2×2 first, so prompts and masks live on a fine frame while the network pays for a
quarter of it. The pyramid's output lies on SAM's grid (G = S/16) with SAM's width, so that SAM's own prompt encoder and
mask decoder work on it unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: (expansion, output channels, stride) of MobileNetV2's 17 blocks (Sandler et al. 2018, table 2).
_BLOCKS = (
    [(1, 16, 1)]
    + [(6, 24, 2), (6, 24, 1)]
    + [(6, 32, 2)] + [(6, 32, 1)] * 2
    + [(6, 64, 2)] + [(6, 64, 1)] * 3
    + [(6, 96, 1)] * 3
    + [(6, 160, 2)] + [(6, 160, 1)] * 2
    + [(6, 320, 1)]
)  # fmt: skip
#: Blocks after which strides 4, 8, 16 and 32 are complete, and their widths.
_LEVELS = {2: 24, 5: 32, 12: 96, 16: 320}


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: stride 2 on an even side pads right and bottom only."""

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 2:
            return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride, 0, 1, self.groups)
        return super().forward(x)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> _SameConv:
    return _SameConv(inputs, outputs, kernel, stride, kernel // 2, groups=groups)


class _InvertedResidual(nn.Module):
    """Expand, filter depthwise, project; the input is added where shapes agree. Batch norm is folded into biases."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        if expansion > 1:
            self.expand = _conv(inputs, hidden, 1)
        self.depthwise = _conv(hidden, hidden, 3, stride, hidden)
        self.project = _conv(hidden, outputs, 1)
        self.adds_input = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.expand(x)) if hasattr(self, "expand") else x
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.adds_input else y


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Mixer(nn.Module):
    """ConvNeXt's block (Liu et al. 2022): 7×7 depthwise, norm, pointwise expansion, residual with a learned scale."""

    def __init__(self, width: int, expansion: int = 2) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = LayerNorm2d(width)
        self.expand = nn.Conv2d(width, expansion * width, 1)
        self.project = nn.Conv2d(expansion * width, width, 1)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.project(F.gelu(self.expand(self.norm(self.depthwise(x)))))


class TinyEncoder(nn.Module):
    """Frame (B, 3, S, S), normalised as SAM's, to embedding (B, 256, S/16, S/16). S: a multiple of 16, at least 64.

    SAM normalises with ImageNet's mean and deviation; MobileNetV2 was trained on RGB / 127.5 − 1. The difference is
    an affine map per channel, kept as two buffers so that the pretrained weights see what they saw.
    """

    def __init__(self, width: int = 192, embedding_width: int = 256) -> None:
        super().__init__()
        mean, deviation = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
        self.register_buffer("input_scale", (deviation / 127.5).view(3, 1, 1))
        self.register_buffer("input_shift", (mean / 127.5 - 1).view(3, 1, 1))
        self.stem = _conv(3, 32, 3, 2)
        blocks, inputs = [], 32
        for expansion, outputs, stride in _BLOCKS:
            blocks.append(_InvertedResidual(inputs, outputs, stride, expansion))
            inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.detail = nn.Conv2d(4 * _LEVELS[2], width, 1)  # stride 4, four neighbours stacked to stride 8
        self.lateral8 = nn.Conv2d(_LEVELS[5], width, 1)
        self.lateral16 = nn.Conv2d(_LEVELS[12], width, 1)
        self.lateral32 = nn.Conv2d(_LEVELS[16], width, 1)
        self.context = nn.Conv2d(_LEVELS[16], width, 1)  # of the global mean
        self.mix32 = _Mixer(width)
        self.mix16 = nn.Sequential(_Mixer(width), _Mixer(width))
        self.mix8 = nn.Sequential(_Mixer(width), _Mixer(width))
        self.neck = nn.Sequential(
            LayerNorm2d(width), nn.Conv2d(width, embedding_width, 1), LayerNorm2d(embedding_width)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.from_half(F.avg_pool2d(images, 2))

    def from_half(self, halves: Tensor) -> Tensor:
        """The embedding of frames that are already averaged 2×2, (B, 3, S/2, S/2)."""
        stride4, stride8, stride16, stride32 = self._levels(halves * self.input_scale + self.input_shift)
        x = self.mix32(self.lateral32(stride32) + self.context(stride32.mean((2, 3), keepdim=True)))
        x = self.mix16(_resize(x, stride16) + self.lateral16(stride16))
        x = self.mix8(_resize(x, stride8) + self.lateral8(stride8) + self.detail(F.pixel_unshuffle(stride4, 2)))
        return self.neck(x)

    def _levels(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem(x))
        levels = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in _LEVELS:
                levels.append(x)
        return levels

    def start_from_imagenet(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy MobileNetV2's folded convolutions (`stem`, `blockNN.expand/depthwise/project`) into this encoder."""
        parts = {"stem": self.stem}
        for number, block in enumerate(self.blocks):
            parts |= {f"block{number:02}.{name}": part for name, part in block.named_children()}
        with torch.no_grad():
            for name, part in parts.items():
                part.weight.copy_(torch.from_numpy(arrays[f"{name}.weight"].astype(np.float32)))
                part.bias.copy_(torch.from_numpy(arrays[f"{name}.bias"].astype(np.float32)))


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
