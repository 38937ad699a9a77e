"""Prompts as a person would give them for a known mask, for training and for counting clicks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

STRIDE = 4  # frame pixels per pixel of the low-resolution masks


@dataclass
class Prompts:
    """One prompt set per mask: points (P, N, 2) frame (x, y), labels (P, N) 1/0/−1, box (P, 4) xyxy, mask (P, 1, s, s).

    Label −1 marks a place without a point, as in SAM.
    """

    points: Tensor
    labels: Tensor
    box: Tensor | None = None
    mask: Tensor | None = None

    def add(self, points: Tensor, labels: Tensor, mask: Tensor | None) -> Prompts:
        """These prompts and one more round of clicks, with the mask found so far."""
        return Prompts(torch.cat([self.points, points], 1), torch.cat([self.labels, labels], 1), self.box, mask)


def _frame_xy(flat: Tensor, side: int) -> Tensor:
    """Flat indices (…) of low-resolution pixels → the frame coordinates (…, 2) of their centres."""
    rows, columns = flat // side, flat % side
    return (torch.stack([columns, rows], -1).float() + 0.5) * STRIDE - 0.5


def random_points(region: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` uniform random points (P, count, 2) within each region (P, s, s); anywhere where a region is empty."""
    weights = region.flatten(1).float()
    weights = torch.where(weights.sum(1, keepdim=True) > 0, weights, torch.ones_like(weights))
    return _frame_xy(torch.multinomial(weights, count, True, generator=generator), region.shape[-1])


def deepest_point(region: Tensor) -> Tensor:
    """A point (P, 1, 2) well inside each region (P, s, s): where its neighbourhood is fullest at growing sizes."""
    mask = region.float()[:, None]
    depth = mask.clone()
    for size in (3, 7, 15, 31):
        depth = depth + F.avg_pool2d(mask, size, 1, size // 2) ** 2 * size
    depth = depth * mask
    return _frame_xy(depth.flatten(1).argmax(1), region.shape[-1])[:, None]


def boxes(masks: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    """Bounding boxes (P, 4) xyxy of masks (P, s, s) in frame pixels, each edge moved by up to `jitter` of the size."""
    side = masks.shape[-1]
    columns, rows = masks.any(1), masks.any(2)
    position = torch.arange(side)
    low = torch.stack([torch.where(v, position, side).amin(1) for v in (columns, rows)], 1)
    high = torch.stack([torch.where(v, position, -1).amax(1) + 1 for v in (columns, rows)], 1)
    box = torch.cat([low, high], 1).float() * STRIDE - 0.5
    size = (box[:, 2:] - box[:, :2]).repeat(1, 2)
    noise = (2 * torch.rand(box.shape, generator=generator) - 1) * jitter
    return (box + noise * size).clamp(-0.5, side * STRIDE - 0.5)


def ring(masks: Tensor, width: int = 7) -> Tensor:
    """The surroundings of each mask (P, s, s): within about `width` pixels outside of it."""
    size = 2 * width + 1
    across = F.max_pool2d(masks.float()[:, None], (1, size), 1, (0, width))
    grown = F.max_pool2d(across, (size, 1), 1, (width, 0))[:, 0] > 0
    return grown & ~masks


def first_prompts(masks: Tensor, generator: torch.Generator) -> Prompts:
    """A random first prompt of the kind a user gives for each mask (P, s, s) bool.

    One kind for the whole batch: a jittered box, one click, up to 16 mixed clicks, or a rough mask with a click.
    """
    kind = torch.rand((), generator=generator).item()
    count = len(masks)
    if kind < 0.35:
        nothing = torch.zeros(count, 0, 2), torch.zeros(count, 0, dtype=torch.long)
        return Prompts(*nothing, box=boxes(masks, 0.1, generator))
    if kind < 0.65:
        inside = random_points(masks, 1, generator)
        centre = torch.rand(count, 1, 1, generator=generator) < 0.5
        return Prompts(torch.where(centre, deepest_point(masks), inside), torch.ones(count, 1, dtype=torch.long))
    if kind < 0.9:
        positive, negative = torch.randint(1, 9, (2,), generator=generator).tolist()
        near = random_points(ring(masks), negative, generator)
        far = random_points(~masks, negative, generator)
        outside = torch.where(torch.rand(count, negative, 1, generator=generator) < 0.5, near, far)
        points = torch.cat([random_points(masks, positive, generator), outside], 1)
        labels = torch.cat([torch.ones(count, positive), torch.zeros(count, negative)], 1).long()
        return Prompts(points, labels)
    rough = F.avg_pool2d(masks.float()[:, None], 9, 1, 4) + 0.4 * torch.randn(count, 1, 1, 1, generator=generator)
    return Prompts(
        deepest_point(masks), torch.ones(count, 1, dtype=torch.long), mask=20 * (rough - 0.5).clamp(-0.5, 0.5)
    )


def correction(masks: Tensor, found: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """A click (P, 1, 2) and its label (P, 1) in the larger error of `found` against `masks` (both (P, s, s) bool).

    With a generator the click falls anywhere in the error, else into its deepest place. Where both agree, label −1.
    """
    missed, extra = masks & ~found, found & ~masks
    positive = missed.flatten(1).sum(1) >= extra.flatten(1).sum(1)
    error = torch.where(positive[:, None, None], missed, extra)
    point = deepest_point(error) if generator is None else random_points(error, 1, generator)
    label = torch.where(error.flatten(1).any(1), positive.long(), torch.full_like(positive.long(), -1))
    return point, label[:, None]


def corrections(masks: Tensor, found: Tensor, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One to `most` clicks (P, n, 2) with labels (P, n), each anywhere in the larger error, as `correction`."""
    count = int(torch.randint(1, most + 1, (), generator=generator))
    clicks = [correction(masks, found, generator) for _ in range(count)]
    return torch.cat([points for points, _ in clicks], 1), torch.cat([labels for _, labels in clicks], 1)


def places(mask: Tensor, labels: Sequence[int], width: int = 8) -> Tensor:
    """Where good automatic points lie for `mask` (s, s) bool: (N, 2) as (x, y) in 0…1 of the frame; NaN if it is empty.

    The plane around the mask's centre is cut into as many sectors as there are points of a label; each point is the
    pixel of its sector, inside the mask (label 1) or in its surroundings (0), that is nearest to that part's centre.
    """
    if not mask.any():
        return torch.full((len(labels), 2), torch.nan)
    side = mask.shape[-1]
    regions = {1: mask, 0: ring(mask[None], width)[0]}
    centre = mask.nonzero().float().mean(0)
    found = []
    for label in sorted(set(labels), reverse=True):
        region = regions[label] if regions[label].any() else mask
        pixels = region.nonzero().float()
        angle = torch.atan2(pixels[:, 0] - centre[0], pixels[:, 1] - centre[1])
        count = list(labels).count(label)
        sector = ((angle / (2 * math.pi) + 0.5) * count).long().clamp(max=count - 1)
        for number in range(count):
            own = pixels[sector == number] if (sector == number).any() else pixels
            found.append((label, own[(own - own.mean(0)).square().sum(1).argmin()]))
    queues = {label: [point for of, point in found if of == label] for label in set(labels)}
    points = torch.stack([queues[label].pop(0) for label in labels])
    return (points.flip(1) + 0.5) / side
