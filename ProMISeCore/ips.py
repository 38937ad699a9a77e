"""Incremental pattern shifting: learned offsets of the mask decoder's four mask tokens.

Wang et al. 2024 (arXiv 2403.04164). The frozen decoder then draws the target's patterns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Ips(nn.Module):
    """With PaE: the offsets follow from the image. Embedding (B, 256, G, G) to shift (B, tokens, width).

    Published: hidden 1024, 1.31 M parameters.
    """

    def __init__(self, hidden: int = 1024, tokens: int = 4, width: int = 256) -> None:
        super().__init__()
        self.tokens, self.width = tokens, width
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, tokens * width)

    def forward(self, embedding: Tensor) -> Tensor:
        pooled = embedding.mean((2, 3))
        return self.lin2(F.gelu(self.lin1(pooled))).unflatten(1, (self.tokens, self.width))


class IpsStatic(nn.Module):
    """Without PaE: the same learned offsets for every image. Embedding (B, 256, G, G) to shift (B, tokens, width)."""

    def __init__(self, tokens: int = 4, width: int = 256) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(tokens, width))

    def forward(self, embedding: Tensor) -> Tensor:
        return self.shift.expand(embedding.shape[0], -1, -1)
