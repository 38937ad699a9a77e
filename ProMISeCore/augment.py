"""Random views of pictures for training: one map for picture and label, then intensity changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

_BENDS = 5  # places along a side that are shifted; between them the shift changes smoothly


@dataclass(frozen=True)
class Augment:
    """Ranges of the random changes. Angles in degrees, shifts as a fraction of the side, the rest as factors.

    elastic: deviation of the shifts of single places, as a fraction of half the side.
    """

    rotation: float = 20.0
    zoom: tuple[float, float] = (0.8, 1.25)
    shift: float = 0.1
    mirror: float = 0.5  # probability of a left-right mirror
    upset: float = 0.0  # probability of a top-bottom mirror
    contrast: float = 0.3
    brightness: float = 0.15
    gamma: float = 0.4
    colour: float = 0.1  # change of each channel's gain
    noise: float = 0.03
    elastic: float = 0.0
    keep: float = 0.1  # probability that a picture stays as it is

    def __call__(
        self, pictures: Tensor, valid: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """New views of a batch.

        pictures (B, 3, H, W) float 0…255, valid (B, 1, H, W) 1 where there is content, labels (B, L, H, W) float.
        Returns the three, changed; labels are sampled at the nearest pixel.
        """
        keep = torch.rand(len(pictures), generator=generator) < self.keep
        move = self._mover(pictures.shape, keep, generator)
        moved, labels = move(torch.cat([pictures, valid], 1)), move(labels, "nearest")
        pictures, valid = moved[:, :3], (moved[:, 3:] > 0.5).to(pictures.dtype)
        return self._recolour(pictures, keep, generator), valid, labels

    def moved(self, maps: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Maps (B, L, h, w) of the same squares, each of its own resolution, moved alike; zeros come from outside."""
        keep = torch.rand(len(maps[0]), generator=generator) < self.keep
        return list(map(self._mover(maps[0].shape, keep, generator), maps))

    def recoloured(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        """Pictures (B, 3, H, W) 0…255 where they are, their intensities changed."""
        keep = torch.rand(len(pictures), generator=generator) < self.keep
        return self._recolour(pictures, keep, generator)

    def _mover(self, shape: torch.Size, keep: Tensor, generator: torch.Generator) -> Callable[..., Tensor]:
        """move(maps, interpolation) of maps (B, L, h, w) of squares like `shape`."""
        matrices = self._matrices(shape, keep, generator)
        shifts = None
        if self.elastic:
            shifts = self.elastic * torch.randn(len(keep), 2, _BENDS, _BENDS, generator=generator)
            shifts[keep] = 0

        def move(maps: Tensor, interpolation: str = "bilinear") -> Tensor:
            grid = F.affine_grid(matrices.to(maps.device), maps[:, :1].shape, align_corners=False)
            if shifts is not None:
                bent = F.interpolate(shifts.to(maps.device), maps.shape[2:], mode="bicubic", align_corners=True)
                grid = grid + bent.permute(0, 2, 3, 1)
            return F.grid_sample(maps, grid, interpolation, "zeros", False)

        return move

    def _matrices(self, shape: torch.Size, keep: Tensor, generator: torch.Generator) -> Tensor:
        """Of the affine maps (B, 2, 3), as `affine_grid` takes them."""
        count, _, height, width = shape

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(count, generator=generator)

        angle = uniform(-1, 1) * math.radians(self.rotation)
        scale = torch.exp(uniform(math.log(1 / self.zoom[1]), math.log(1 / self.zoom[0])))
        flip_x = 1 - 2.0 * (torch.rand(count, generator=generator) < self.mirror)
        flip_y = 1 - 2.0 * (torch.rand(count, generator=generator) < self.upset)
        aspect = width / height
        rows = [
            torch.stack(
                [scale * angle.cos() * flip_x, -scale * angle.sin() / aspect * flip_y, uniform(-1, 1) * 2 * self.shift],
                1,
            ),
            torch.stack(
                [scale * angle.sin() * aspect * flip_x, scale * angle.cos() * flip_y, uniform(-1, 1) * 2 * self.shift],
                1,
            ),
        ]
        matrix = torch.stack(rows, 1)
        matrix[keep] = torch.eye(2, 3)
        return matrix

    def _recolour(self, pictures: Tensor, keep: Tensor, generator: torch.Generator) -> Tensor:
        count = len(pictures)

        def symmetric(size: float, channels: int = 1) -> Tensor:
            values = size * (2 * torch.rand(count, channels, 1, 1, generator=generator) - 1)
            values[keep] = 0
            return values

        x = (pictures / 255).clamp(0, 1)
        x = x ** torch.exp(symmetric(self.gamma))
        x = (
            (x - 0.5) * (1 + symmetric(self.contrast)) * (1 + symmetric(self.colour, 3))
            + 0.5
            + symmetric(self.brightness)
        )
        deviation = self.noise * torch.rand(count, 1, 1, 1, generator=generator)
        deviation[keep] = 0
        x = x + deviation * torch.randn(x.shape, generator=generator)
        return 255 * x.clamp(0, 1)


VOLUMES = Augment(rotation=15, zoom=(0.85, 1.3), shift=0.05, mirror=0.0, colour=0.02)
BENT = replace(VOLUMES, elastic=0.1)  # where nothing has to be encoded
