"""SAM's mask decoder, the same function of the same weights in float32, with fewer passes over the image's tokens.

Against segment_anything's own order: what one layer asks of the image's tokens (keys, values, queries of the other
direction) is one product; what it makes of their positions never changes and is kept; the transposed convolutions that
upscale are products, too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ProMISeCore.segment_anything_parts import MaskDecoder


class FastDecoder:
    """Source (B, 256, G, G) and queries (B, n, 256) to logits (B, 4, S/4, S/4) and predicted IoU (B, 4).

    position: code of the grid (1, 256, G, G). Differentiable in source, queries and the decoder's weights.
    """

    def __init__(self, decoder: MaskDecoder, position: Tensor) -> None:
        self._decoder, self._grid = decoder, position.shape[-1]
        position, transformer = _tokens(position)[0], decoder.transformer
        self._layers = [_Layer(layer, position) for layer in transformer.layers]
        final = transformer.final_attn_token_to_image
        self._last = final, _Asked(position, keys=final.k_proj, values=final.v_proj)
        self._norm = transformer.norm_final_attn

    def __call__(self, source: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        tokens, pixels = queries, _tokens(source)
        for layer in self._layers:
            tokens, pixels = layer(tokens, pixels, queries)
        attention, asked = self._last
        tokens = self._norm(tokens + _attend(attention, attention.q_proj(tokens + queries), *asked(pixels)))
        return self._masks(tokens, pixels), self._decoder.iou_prediction_head(tokens[:, 0])

    def _masks(self, tokens: Tensor, pixels: Tensor) -> Tensor:
        """Logits from the transformer's tokens (B, 5 + n, 256) and pixels (B, G·G, 256).

        The transposed convolutions of `output_upscaling` are 2×2 with stride 2 and do not overlap, so each cell of the
        grid makes its own 4×4 logits, as matrix products that move no pixels.
        """
        first, norm, activation, second, _ = self._decoder.output_upscaling
        fine = _cells(pixels, first)  # (B, G·G, 4, 64)
        fine = activation(F.layer_norm(fine, norm.weight.shape, norm.weight, norm.bias, norm.eps))
        finer = activation(_cells(fine, second)).flatten(1, -2)  # (B, G·G·16, 32): cell, quarter, quarter of a quarter
        networks = self._decoder.output_hypernetworks_mlps
        kernels = torch.stack([network(tokens[:, 1 + i]) for i, network in enumerate(networks)], dim=2)  # (B, 32, 4)
        grid = self._grid
        logits = (finer @ kernels).view(len(tokens), grid, grid, 2, 2, 2, 2, -1).permute(0, 7, 1, 3, 5, 2, 4, 6)
        return logits.reshape(len(tokens), -1, 4 * grid, 4 * grid)


class _Layer:
    """One layer of the two-way transformer: tokens (B, n, 256) and pixels (B, G·G, 256) attend to each other."""

    def __init__(self, layer: nn.Module, position: Tensor) -> None:
        self._layer = layer
        inward, outward = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        self._asked = _Asked(position, keys=inward.k_proj, values=inward.v_proj, queries=outward.q_proj)

    def __call__(self, tokens: Tensor, pixels: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        layer = self._layer
        inward, outward = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        if layer.skip_first_layer_pe:
            tokens = layer.self_attn(tokens, tokens, tokens)
        else:
            tokens = tokens + layer.self_attn(tokens + code, tokens + code, tokens)
        tokens = layer.norm1(tokens)
        keys, values, queries = self._asked(pixels)
        tokens = layer.norm2(tokens + _attend(inward, inward.q_proj(tokens + code), keys, values))
        tokens = layer.norm3(tokens + layer.mlp(tokens))
        keys, values = outward.k_proj(tokens + code), outward.v_proj(tokens)
        return tokens, layer.norm4(_told(outward, queries, keys, values, pixels))


class _Asked:
    """Several projections of pixels as one product; keys and queries see the pixels with their position, values not."""

    def __init__(self, position: Tensor, **projections: nn.Linear) -> None:
        self._widths = [part.out_features for part in projections.values()]
        self._weight = torch.cat([part.weight for part in projections.values()])
        constants = [
            part.bias.expand(len(position), -1) if name == "values" else part(position)
            for name, part in projections.items()
        ]
        self._constant = torch.cat(constants, dim=1)  # (G·G, sum of widths)

    def __call__(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return F.linear(pixels, self._weight).add_(self._constant).split(self._widths, dim=-1)


def _attend(attention: nn.Module, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Multi-head attention of projected (B, n, 128) and (B, m, 128), and its output's projection."""
    heads = [x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for x in (queries, keys, values)]
    return attention.out_proj(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


def _told(attention: nn.Module, queries: Tensor, keys: Tensor, values: Tensor, pixels: Tensor) -> Tensor:
    """Pixels (B, m, 256) plus what attention with their queries (B, m, 128) reads from few keys and values (B, n, 128).

    The few are projected to the output before they are read, head by head, and carry their share of its bias: a head's
    weights sum to 1. Scores are kept as (keys, pixels), since the softmax over few numbers in a row is slow.
    """
    heads, width = attention.num_heads, keys.shape[-1]
    queries, keys, values = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (queries, keys, values))
    scores = keys * (width // heads) ** -0.5 @ queries.transpose(2, 3)  # (B, heads, n, m)
    weights = scores.softmax(2).flatten(1, 2)  # (B, heads·n, m)
    output = attention.out_proj.weight.T.unflatten(0, (heads, -1))  # (heads, 16, 256)
    read = (values @ output + attention.out_proj.bias / heads).flatten(1, 2)  # (B, heads·n, 256)
    return torch.baddbmm(pixels, weights.transpose(1, 2), read)


def _tokens(x: Tensor) -> Tensor:
    """(B, C, G, G) as (B, G·G, C), row by row."""
    return x.flatten(2).transpose(1, 2).contiguous()


def _cells(x: Tensor, convolution: nn.ConvTranspose2d) -> Tensor:
    """A transposed 2×2 convolution with stride 2 of cells (…, C): the four quarters (…, 4, C') of each, row by row."""
    weight = convolution.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (4·C', C)
    return F.linear(x, weight, convolution.bias.repeat(4)).unflatten(-1, (4, -1))
