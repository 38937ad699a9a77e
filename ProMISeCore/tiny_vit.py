"""MobileSAM's image encoder: TinyViT-5M (Wu et al. 2022) that stays at stride 16, and SAM's neck (Zhang et al. 2023).

Tensor names and shapes are those of `mobile_sam.pt`. Tokens travel as (B, H, W, C) through attention, as (B, C, H, W)
through convolutions. Nothing depends on the frame's side but the sizes of the maps: attention windows are fixed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_WIDTHS = (64, 128, 160, 320)
_DEPTHS = (2, 2, 6, 2)
_HEADS = (2, 4, 5, 10)
_WINDOWS = (7, 7, 14, 7)
_STRIDES = (2, 2, 1)  # of the three merges; TinyViT's last would be 2, MobileSAM keeps SAM's grid


class _ConvNorm(nn.Sequential):
    """Convolution without bias (`c`), then batch norm (`bn`)."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)


class _PatchEmbed(nn.Module):
    """Frame (B, 3, S, S) to (B, 64, S/4, S/4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(_ConvNorm(3, width // 2, 3, 2), nn.GELU(), _ConvNorm(width // 2, width, 3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


class _MBConv(nn.Module):
    """Expand ×4, filter depthwise 3×3, project; the input is added before the last activation."""

    merges = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(width, 4 * width)
        self.conv2 = _ConvNorm(4 * width, 4 * width, 3, groups=4 * width)
        self.conv3 = _ConvNorm(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class _PatchMerging(nn.Module):
    """(B, C, H, W) to the next stage's width, and half the size where the stride is 2."""

    merges = True

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(inputs, outputs)
        self.conv2 = _ConvNorm(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = _ConvNorm(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class _WindowAttention(nn.Module):
    """Norm and self-attention inside windows (B, w·w, C); one learned bias per head and |row|, |column| distance."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)  # per head: query, key, value
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, n, self.heads, 3, -1).permute(3, 0, 2, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=self.spread_biases().to(q.dtype))
        return self.proj(x.transpose(1, 2).reshape(b, n, c))

    def spread_biases(self) -> Tensor:
        """The biases spread over all pairs of a window's tokens, (1, heads, w·w, w·w)."""
        place = torch.arange(self.window, device=self.attention_biases.device)
        distance = (place[:, None] - place).abs()  # (w, w)
        index = distance[:, None, :, None] * self.window + distance[None, :, None, :]  # (row, column, row, column)
        return self.attention_biases[:, index.reshape(self.window**2, -1)].unsqueeze(0)


class _Mlp(nn.Module):
    """Norm, expand ×4, GELU, project."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class _TinyViTBlock(nn.Module):
    """Window attention, depthwise 3×3 convolution, MLP on (B, C, H, W); attention and MLP add to their input."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = _WindowAttention(width, heads, window)
        self.local_conv = _ConvNorm(width, width, 3, groups=width)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.permute(0, 2, 3, 1)
        x = self.local_conv((tokens + self._attend(tokens)).permute(0, 3, 1, 2))
        tokens = x.permute(0, 2, 3, 1)
        return (tokens + self.mlp(tokens)).permute(0, 3, 1, 2)

    def _attend(self, x: Tensor) -> Tensor:
        """Attention inside windows of (B, H, W, C); zeros fill the last ones and take part, as in the original."""
        (b, h, w, c), side = x.shape, self.window
        x = F.pad(x, (0, 0, 0, -w % side, 0, -h % side))
        rows, columns = x.shape[1] // side, x.shape[2] // side
        x = x.view(b, rows, side, columns, side, c).transpose(2, 3).reshape(-1, side * side, c)
        x = self.attn(x).view(b, rows, columns, side, side, c).transpose(2, 3)
        return x.reshape(b, rows * side, columns * side, c)[:, :h, :w]


class _Stage(nn.Module):
    """Blocks, then the merge into the next stage where there is one."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class _LayerNorm2d(nn.Module):
    """Normalises the channels of (B, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6)
        return x.permute(0, 3, 1, 2)


class TinyViT(nn.Module):
    """Frame (B, 3, S, S), normalised as SAM's, to embedding (B, 256, S/16, S/16). S: a multiple of 16.

    `norm_head` and `head` are the classifier of the pretraining: checkpoints hold them, nothing here uses them.
    """

    def __init__(self, embedding_width: int = 256) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbed(_WIDTHS[0])
        self.layers = nn.ModuleList(_stage(number) for number in range(len(_WIDTHS)))
        self.norm_head = nn.LayerNorm(_WIDTHS[-1])
        self.head = nn.Linear(_WIDTHS[-1], 1000)
        self.neck = nn.Sequential(
            nn.Conv2d(_WIDTHS[-1], embedding_width, 1, bias=False),
            _LayerNorm2d(embedding_width),
            nn.Conv2d(embedding_width, embedding_width, 3, padding=1, bias=False),
            _LayerNorm2d(embedding_width),
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images)
        for layer in self.layers:
            x = layer(x)
        return self.neck(x)


def _stage(number: int) -> _Stage:
    width, merge = _WIDTHS[number], None
    if number < len(_STRIDES):
        merge = _PatchMerging(width, _WIDTHS[number + 1], _STRIDES[number])
    if number == 0:
        return _Stage([_MBConv(width) for _ in range(_DEPTHS[0])], merge)
    blocks = [_TinyViTBlock(width, _HEADS[number], _WINDOWS[number]) for _ in range(_DEPTHS[number])]
    return _Stage(blocks, merge)
