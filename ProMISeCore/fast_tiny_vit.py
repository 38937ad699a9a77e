"""MobileSAM's image encoder, the same function of the same weights: batch norms folded, channels last, one precision.

Batch norms become part of the convolutions before them; maps stay channels-last, so that tokens and maps share memory;
attention's biases are spread over their pairs once; windows' padding is filled in after the projection, where it is
one constant vector. The residual stream, norms, depthwise convolutions on it and the neck stay in float32; so do the
first convolutions, where half precision gains nothing, and the last stage, whose errors nothing evens out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ProMISeCore.tiny_vit import TinyViT


class FastTinyViT:
    """Frames (B, 3, S, S), normalised as SAM's, to embedding (B, 256, G, G), float32.

    encoder: on the device already, frozen; its weights are copied, products run in `dtype`.
    """

    def __init__(self, encoder: TinyViT, dtype: torch.dtype) -> None:
        first, _, second = encoder.patch_embed.seq
        self._first, self._second = _Convolution(first, torch.float32), _Convolution(second, torch.float32)
        self._steps: list[_Narrow | _Block] = []
        for stage in encoder.layers:
            residual = not hasattr(stage.blocks[0], "attn")
            make = _Narrow if residual else _Block
            precision = torch.float32 if stage is encoder.layers[-1] else dtype
            self._steps += [make(block, precision) for block in stage.blocks]
            if stage.downsample is not None:
                self._steps.append(_Narrow(stage.downsample, dtype))
        self._neck = encoder.neck

    def __call__(self, images: Tensor, blocks: Sequence[int] = ()) -> tuple[Tensor, list[Tensor]]:
        """`blocks`: none, as this encoder has none whose outputs a pack can ask for."""
        x = self._first(images.contiguous(memory_format=torch.channels_last))
        x = self._second(_gelu(x))
        for step in self._steps:
            x = step(x)
        return self._neck(x), []


class _Convolution:
    """A convolution with the batch norm after it folded in; its output has the precision of its products."""

    def __init__(self, part: nn.Module, dtype: torch.dtype) -> None:
        convolution, norm = part.c, part.bn
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = convolution.weight * scale.view(-1, 1, 1, 1)
        self._weight = weight.to(dtype, memory_format=torch.channels_last)
        self._bias = (norm.bias - norm.running_mean * scale).to(dtype)
        self._shape = (convolution.stride, convolution.padding, 1, convolution.groups)

    def __call__(self, x: Tensor) -> Tensor:
        return F.conv2d(x.to(self._weight.dtype), self._weight, self._bias, *self._shape)


class _Narrow:
    """Three convolutions with GELU between them: an inverted residual, or the merge into the next stage."""

    def __init__(self, block: nn.Module, dtype: torch.dtype) -> None:
        self._convolutions = [_Convolution(part, dtype) for part in (block.conv1, block.conv2, block.conv3)]
        self._adds_input = not block.merges

    def __call__(self, x: Tensor) -> Tensor:
        first, second, third = self._convolutions
        y = third(_gelu(second(_gelu(first(x)))))
        return _gelu(x + y) if self._adds_input else y.float()


class _Block:
    """Window attention, depthwise convolution, MLP on the stream (B, C, H, W) float32, channels last."""

    def __init__(self, block: nn.Module, dtype: torch.dtype) -> None:
        attention, mlp = block.attn, block.mlp
        self._window, self._heads, self._dtype = block.window, attention.heads, dtype
        self._norms = attention.norm, mlp.norm
        layers = (attention.qkv, attention.proj, mlp.fc1, mlp.fc2)
        self._qkv, self._proj, self._up, self._down = ((x.weight.to(dtype), x.bias.to(dtype)) for x in layers)
        self._biases = attention.spread_biases()[0].to(dtype)  # (heads, w·w, w·w)
        self._padding = attention.qkv(attention.norm.bias).to(dtype)  # what the norm and projection make of zeros
        self._depthwise = _Convolution(block.local_conv, torch.float32)

    def __call__(self, x: Tensor) -> Tensor:
        tokens = x.permute(0, 2, 3, 1)
        tokens = tokens + self._attend(self._norms[0](tokens).to(self._dtype))
        tokens = self._depthwise(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()
        inner = _gelu(F.linear(self._norms[1](tokens).to(self._dtype), *self._up))
        return tokens.add_(F.linear(inner, *self._down)).permute(0, 3, 1, 2)

    def _attend(self, x: Tensor) -> Tensor:
        """Self-attention of normed tokens (B, H, W, C) inside windows."""
        (b, h, w, c), s = x.shape, self._window
        qkv = F.linear(x, *self._qkv)
        rows, columns = -(-h // s), -(-w // s)
        if (rows * s, columns * s) != (h, w):
            padded = self._padding.expand(b, rows * s, columns * s, -1).clone()
            padded[:, :h, :w] = qkv
            qkv = padded
        qkv = qkv.view(b, rows, s, columns, s, self._heads, 3, -1).permute(6, 5, 0, 1, 3, 2, 4, 7)
        q, k, v = qkv.reshape(3, self._heads, b * rows * columns, s * s, -1).unbind(0)
        heads = [_attention(*parts) for parts in zip(q, k, v, self._biases, strict=True)]
        x = torch.stack(heads).view(self._heads, b, rows, columns, s, s, -1).permute(1, 2, 4, 3, 5, 0, 6)
        return F.linear(x.reshape(b, rows * s, columns * s, c)[:, :h, :w].contiguous(), *self._proj)


def _attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """One head in all windows (N, T, d), bias (T, T)."""
    logits = torch.baddbmm(bias, q * q.shape[-1] ** -0.5, k.transpose(1, 2))
    return torch.bmm(torch.softmax(logits, -1, out=logits), v)


def _gelu(x: Tensor) -> Tensor:
    """In place: a new map of 32 MB costs the system more than the function."""
    return torch.ops.aten.gelu_(x)
