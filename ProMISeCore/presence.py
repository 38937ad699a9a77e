"""Is the target in this slice at all? The published method always places points; most slices of a volume are empty."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Presence(nn.Module):
    """Embedding (B, 256, G, G) to the logit (B,) that the target is in the slice."""

    def __init__(self, width: int = 64, embedding_width: int = 256) -> None:
        super().__init__()
        self.project = nn.Conv2d(embedding_width, width, 1)
        self.read = nn.Linear(2 * width, 1)

    def forward(self, embedding: Tensor) -> Tensor:
        x = F.gelu(self.project(embedding))
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        return self.read(pooled)[:, 0].float()
