"""SAM's ViT encoder, the same function of the same weights, ordered for the memory of the machine and in one precision.

Against segment_anything's own order: weights are cast once; attention's logits are made, biased, normalised and used in
pieces that stay in the processor's cache, never as one (heads, G², G²) map; the padding of windows is filled in after
the projection to queries, keys and values, where it is the bias, so that no product is spent on it. On accelerators the
relative positions ride inside scaled-dot-product attention: queries are widened by their position terms and keys by
indicators of their row and column, whose product is the bias (exact).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ProMISeCore.segment_anything_parts import ImageEncoderViT

#: Attention logits at once; 4 MB in bfloat16, a fraction of a processor's last cache.
_LOGITS = 2**21


class FastViT:
    """Frames (B, 3, S, S), normalised as SAM's, to embedding (B, 256, G, G) and block outputs (B, E, G, G), float32.

    encoder: on the device already, frozen; its weights are copied in `dtype`. The residual stream, norms and the neck
    stay in float32.
    """

    def __init__(self, encoder: ImageEncoderViT, dtype: torch.dtype) -> None:
        self._encoder, self._dtype = encoder, dtype
        self._blocks = [_Block(block, encoder.pos_embed.shape[1], dtype) for block in encoder.blocks]

    def __call__(self, images: Tensor, blocks: Sequence[int] = ()) -> tuple[Tensor, list[Tensor]]:
        encoder, wanted = self._encoder, {}
        x = (encoder.patch_embed(images) + encoder.pos_embed).contiguous()  # (B, G, G, E)
        for number, block in enumerate(self._blocks, start=1):
            x = block(x)
            if number in blocks:
                wanted[number] = x.permute(0, 3, 1, 2)
        return encoder.neck(x.permute(0, 3, 1, 2)), [wanted[number] for number in blocks]


class _Block:
    """Attention and MLP of one block on the residual stream (B, G, G, E) float32."""

    def __init__(self, block: nn.Module, grid: int, dtype: torch.dtype) -> None:
        self._norms, self._dtype = (block.norm1, block.norm2), dtype
        self._window = block.window_size or grid
        attention, mlp = block.attn, block.mlp
        self._heads = attention.num_heads
        layers = (attention.qkv, attention.proj, mlp.lin1, mlp.lin2)
        self._qkv, self._proj, self._up, self._down = (_cast(layer, dtype) for layer in layers)
        self._rows = _table(attention.rel_pos_h, self._window).to(dtype)
        self._columns = _table(attention.rel_pos_w, self._window).to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        x = x + self._attend(self._norms[0](x).to(self._dtype))
        inner = F.linear(self._norms[1](x).to(self._dtype), *self._up)
        return x.add_(F.linear(torch.ops.aten.gelu_(inner), *self._down))  # in place: new maps cost page faults

    def _attend(self, x: Tensor) -> Tensor:
        """Self-attention of (B, G, G, E) inside windows; one window of G in the global blocks."""
        (b, g, _, e), s = x.shape, self._window
        count = -(-g // s)  # windows along a side
        qkv = F.linear(x, *self._qkv)
        if count * s != g:
            padded = self._qkv[1].expand(b, count * s, count * s, -1).clone()  # the projection of zeros is the bias
            padded[:, :g, :g] = qkv
            qkv = padded
        qkv = qkv.view(b, count, s, count, s, 3, self._heads, -1).permute(5, 0, 1, 3, 6, 2, 4, 7)
        q, k, v = qkv.reshape(3, b * count * count * self._heads, s * s, -1).unbind(0)
        x = (_in_pieces if x.device.type == "cpu" else _widened)(q, k, v, *self._terms(q))
        x = x.view(b, count, count, self._heads, s, s, -1).permute(0, 1, 4, 2, 5, 3, 6)
        return F.linear(x.reshape(b, count * s, count * s, e)[:, :g, :g].contiguous(), *self._proj)

    def _terms(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """What queries (N, s·s, d) add to the logits of keys by their row and by their column, each (N, s·s, s)."""
        s = self._window
        q = q.view(-1, s, s, q.shape[-1])
        rows = torch.einsum("nijd,ikd->nijk", q, self._rows)
        columns = torch.einsum("nijd,jkd->nijk", q, self._columns)
        return rows.reshape(len(q), s * s, s), columns.reshape(len(q), s * s, s)


def _in_pieces(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Attention (N, T, d) with T = s·s and terms (N, T, s), `_LOGITS` logits at a time."""
    n, t, d = q.shape
    together = _LOGITS // (t * t)  # items whose logits fit at once
    if not together:
        return torch.stack([_item(*parts) for parts in zip(q, k * d**-0.5, v, rows, columns, strict=True)])
    q, k = _widen(q, k, rows, columns)
    pieces = [slice(i, i + together) for i in range(0, n, together)]
    return torch.cat([torch.bmm(_softmax(torch.bmm(q[i], k[i].transpose(1, 2))), v[i]) for i in pieces])


def _item(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """One item, some rows of queries at a time, in one buffer: its terms, plus products, to weights."""
    t, s = rows.shape
    length, out = max(s, _LOGITS // t // s * s), torch.empty_like(v)
    buffer = q.new_empty(length, t)
    for i in range(0, t, length):
        piece = slice(i, i + length)
        logits = buffer[: len(q[piece])]
        torch.add(rows[piece, :, None], columns[piece, None], out=logits.view(-1, s, s))
        torch.mm(_softmax(logits.addmm_(q[piece], k.T)), v, out=out[piece])
    return out


def _softmax(logits: Tensor) -> Tensor:
    return torch.softmax(logits, -1, out=logits)


def _widened(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The same in one scaled-dot-product attention, whose kernels hold no map of logits."""
    d = v.shape[-1]
    q, k = _widen(q, k, rows, columns)
    v = F.pad(v, (0, q.shape[-1] - d))
    return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], scale=1.0)[:, 0, :, :d]


def _widen(q: Tensor, k: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Queries with their terms and keys with indicators of their row and column: their product has scale and bias."""
    n, t, d = q.shape
    s = rows.shape[-1]
    place = torch.arange(t, device=q.device)
    fill = q.new_zeros(n, t, -(d + 2 * s) % 8)  # kernels want multiples of 8
    indicators = torch.cat([F.one_hot(place // s, s), F.one_hot(place % s, s)], dim=1).to(q.dtype)
    return torch.cat([q * d**-0.5, rows, columns, fill], 2), torch.cat([k, indicators.expand(n, -1, -1), fill], 2)


def _table(positions: Tensor, side: int) -> Tensor:
    """Relative positions (2·side − 1, d) spread over pairs, (query, key, d)."""
    place = torch.arange(side, device=positions.device)
    return positions[place[:, None] - place + side - 1]


def _cast(layer: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return layer.weight.detach().to(dtype), layer.bias.detach().to(dtype)
