"""Auto-prompting: from the encoder's output to N point prompts per target.

Wang et al. 2024 (arXiv 2403.04164). `ApmResnet` and `ApmCross` are the published networks, weight for weight; `ApmLite`
is ours and reads SAM's embedding alone. All give points (B, N, 2) as x, y in units of the frame's side, 0…1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EMBEDDING = 256  # channels of SAM's embedding
_HEAD = 64  # channels per attention head of `cross`: 12 heads at ViT-B's width


def feature_blocks(depth: int) -> tuple[int, int, int]:
    """The encoder blocks, from 1, whose features the published networks read: the last three global-attention blocks.

    Of ViT-B's 12: 12, 9 and 6, as published; of ViT-L's 24 and ViT-H's 32 those at the same heights.
    """
    return depth, depth * 3 // 4, depth // 2


class ApmLite(nn.Module):
    """One heatmap per point, from the embedding; a point is its heatmap's expected position. About 31 k weights."""

    blocks: tuple[int, ...] = ()

    def __init__(self, count: int = 8, width: int = 64) -> None:
        super().__init__()
        self.project = nn.Conv2d(_EMBEDDING + 2, width, 1)  # and two channels that say where
        self.norm = nn.GroupNorm(8, width)
        self.context = nn.Linear(width, width)  # of the whole slice
        self.mix = nn.ModuleList([_Separable(width), _Separable(width)])
        self.read = nn.Conv2d(width, count, 1)

    def forward(self, embedding: Tensor, features: Sequence[Tensor] = ()) -> Tensor:
        """Embedding (B, 256, G, G) to points (B, N, 2); `features` are not used."""
        maps = self.heatmaps(embedding)
        weights = maps.float().flatten(2).softmax(2).view(maps.shape)
        rows, columns = (_centres(size, maps.device) for size in maps.shape[2:])
        x = (weights.sum(2) * columns).sum(2)
        y = (weights.sum(3) * rows).sum(2)
        return torch.stack([x, y], dim=2)

    def heatmaps(self, embedding: Tensor) -> Tensor:
        """Logits (B, N, G, G) of where each point belongs; their softmax over the grid is a distribution."""
        batch, _, height, width = embedding.shape
        rows, columns = _centres(height, embedding.device) - 0.5, _centres(width, embedding.device) - 0.5
        where = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])
        x = self.project(torch.cat([embedding, where.to(embedding.dtype).expand(batch, -1, -1, -1)], dim=1))
        x = F.gelu(self.norm(x))
        x = x + self.context(x.mean((2, 3)))[:, :, None, None]
        for mix in self.mix:
            x = mix(x)
        return self.read(x)


class _Separable(nn.Module):
    """Depthwise 3×3, norm, GELU, pointwise, and the input added. (B, C, G, G) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.GroupNorm(8, width)
        self.pointwise = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pointwise(F.gelu(self.norm(self.depthwise(x))))


def _centres(size: int, device: torch.device) -> Tensor:
    """Centres (size,) of grid cells in units of the side: (j + 0.5) / size."""
    return (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size


class ApmResnet(nn.Module):
    """Published `resnet`: fuse the features of three blocks, read coordinates with a ResNet-34. 28.2 M weights.

    The published module has a second linear layer of 0.5 M, `fc2`, whose output nothing reads; it is left out.
    """

    def __init__(self, embed_width: int = 768, count: int = 16, depth: int = 12) -> None:
        super().__init__()
        self.blocks = feature_blocks(depth)
        self.fusion = nn.Sequential(
            nn.Conv2d(len(self.blocks) * embed_width, _EMBEDDING, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_EMBEDDING, _EMBEDDING, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_EMBEDDING, _EMBEDDING, 3, padding=1),
        )
        self.resnet = ResNet34(_EMBEDDING, 2 * count)

    def forward(self, embedding: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Features (B, E, G, G) after blocks 12, 9, 6 to points (B, N, 2); `embedding` is not used."""
        coordinates = self.resnet(self.fusion(torch.cat(list(features), dim=1)))
        return coordinates.float().sigmoid().unflatten(1, (-1, 2))


class ResNet34(nn.Module):
    """Maps (B, inputs, G, G) to (B, outputs). He et al. 2016 with a 3×3 stem of stride 1.

    As published with ProMISe, the last block of the last layer has a 1×1 shortcut though its shapes agree.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _layer(64, 64, blocks=3, stride=1)
        self.layer2 = _layer(64, 128, blocks=4, stride=2)
        self.layer3 = _layer(128, 256, blocks=6, stride=2)
        self.layer4 = _layer(256, 512, blocks=2, stride=2)
        self.layer4.append(_BasicBlock(512, 512, 1, projects=True))
        self.fc = nn.Linear(512, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def _layer(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = _BasicBlock(inputs, outputs, stride, projects=stride != 1 or inputs != outputs)
    return nn.Sequential(first, *(_BasicBlock(outputs, outputs, 1, projects=False) for _ in range(blocks - 1)))


class _BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut: the input itself, or projected by a 1×1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int, projects: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if projects:
            self.shortcut.extend([nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)])

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ApmCross(nn.Module):
    """Published `cross`: N learned queries look at the features of blocks 12, 9 and 6 in turn. 44.3 M weights.

    Blocks 9 and 6 are enlarged once and twice: G = 64 gives keys on grids of 64, 126 and 250 cells a side.
    """

    def __init__(self, embed_width: int = 768, count: int = 16, depth: int = 12) -> None:
        super().__init__()
        self.blocks = feature_blocks(depth)
        levels, heads = len(self.blocks), max(1, embed_width // _HEAD)
        self.query_feat = nn.Embedding(count, embed_width)
        self.query_embedding = nn.Embedding(count, embed_width)
        self.level_embedding = nn.Embedding(levels, embed_width)
        self.layers = nn.ModuleList([_CrossLayer(embed_width, heads) for _ in range(levels)])
        self.enlarge9 = _Enlarge(embed_width)
        self.enlarge6 = nn.Sequential(_Enlarge(embed_width), _Enlarge(embed_width))
        self.read = nn.Linear(embed_width, 2)

    def forward(self, embedding: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Features (B, E, G, G) after blocks 12, 9, 6 to points (B, N, 2); `embedding` is not used."""
        block12, block9, block6 = features
        sources = (lambda: block12, lambda: self.enlarge9(block9), lambda: self.enlarge6(block6))
        x = self.query_feat.weight.expand(block12.shape[0], -1, -1)
        for layer, level, source in zip(self.layers, self.level_embedding.weight, sources, strict=True):
            grid = source()  # one at a time: the largest takes 190 MB per image
            values = grid.flatten(2).transpose(1, 2) + level  # (B, h·w, E)
            keys = values + sine_position(*grid.shape[1:], grid.device)
            x = layer(x, self.query_embedding.weight, keys, values)
        return self.read(x).float().sigmoid()


class _CrossLayer(nn.Module):
    """Queries (B, N, E) attend to keys and values (B, h·w, E), then an MLP; each is normalised after its residual.

    Queries' positions are added before attention only. The published layer's second norm is never used, nor is it here.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x: Tensor, position: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        attended, _ = self.attention(x + position, keys, values)  # summed as published; fused sums move points 0.003 px
        x = self.norm1(x + attended)
        return self.norm3(x + self.mlp(x))


class _Enlarge(nn.Sequential):
    """(B, E, h, w) to (B, E, 2h − 2, 2w − 2): a transposed convolution doubles, then 3×3 without padding, BN, ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(width, width, 2, stride=2), nn.Conv2d(width, width, 3), nn.BatchNorm2d(width), nn.ReLU()
        )


def sine_position(channels: int, height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sine embedding (height · width, channels) of a grid's cells: first half the rows', second half the columns'.

    Coordinates run from 2π/size to 2π. Of half h, channel i (from 0) is the sine, for even i, or the cosine, for odd i,
    of the coordinate divided by i + 1: the published code divides so, where DETR takes powers of a temperature.
    """
    half = channels // 2
    divisor = torch.arange(1, half + 1, dtype=torch.float32, device=device)
    rows, columns = (_waves(size, divisor) for size in (height, width))
    grid = torch.cat([rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], dim=2)
    return grid.flatten(0, 1)


def _waves(size: int, divisor: Tensor) -> Tensor:
    """(size, len(divisor)): sines at even, cosines at odd places."""
    steps = torch.arange(1, size + 1, dtype=torch.float32, device=divisor.device)
    angles = (steps / (size + 1e-6) * (2 * math.pi))[:, None] / divisor
    return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=2).flatten(1)
