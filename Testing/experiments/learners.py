"""What may be learned on a frozen backbone's embeddings: APM, IPS, presence, or the mask decoder itself.

One class for all of the paper's variants, so that they differ in nothing but what they are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from evaluation import pooled_dice
from learning import Budget, Fitted, Recipe, fit
from subjects import Material
from torch import Tensor, nn
from torch.nn import functional as F

from ProMISeCore import sam as sams
from ProMISeCore import simulate
from ProMISeCore.apm import ApmLite, ApmResnet, ResNet34
from ProMISeCore.dataset import Views
from ProMISeCore.ips import Ips, IpsStatic
from ProMISeCore.presence import Presence
from ProMISeCore.pretrain import mask_loss
from ProMISeCore.promise import Target
from ProMISeCore.sam import Sam

AUTO, TRUTH, NONE = "automatic", "ground truth", "none"  # where points come from
_LEAD_RATE = 3e-3
_EMPTY_SHARE, _EMPTY_WEIGHT, _PRESENCE_WEIGHT = 0.2, 0.3, 0.2  # as `promise train`


@dataclass(frozen=True)
class Design:
    """What a learner learns and where its points come from.

    points: AUTO | TRUTH | NONE; count: N; apm: "lite", a width as in "lite 32", or "resnet"; ips: "pae" | "static" |
    None; decoder: whether the mask decoder is trained (a copy; the backbone's own stays as it is); presence: an output
    for "not in this slice"; guide: pull of automatic points to good places, 0 as published.
    """

    points: str = AUTO
    count: int = 8
    apm: str = "lite"
    ips: str | None = "pae"
    decoder: bool = False
    presence: bool = False
    guide: float = 2.0

    @property
    def labels(self) -> list[int]:
        """Of the points: the first half positive, as published."""
        return [] if self.points == NONE else [int(n < (self.count + 1) // 2) for n in range(self.count)]


class EmbeddingResnet(nn.Module):
    """The paper's `resnet` APM for backbones without block features: it reads the embedding in their place."""

    blocks: tuple[int, ...] = ()

    def __init__(self, count: int) -> None:
        super().__init__()
        convolutions = [part for _ in range(3) for part in (nn.Conv2d(256, 256, 3, padding=1), nn.ReLU())]
        self.fusion, self.resnet = nn.Sequential(*convolutions[:-1]), ResNet34(256, 2 * count)

    def forward(self, embedding: Tensor, features: Sequence[Tensor] = ()) -> Tensor:
        """Embedding (B, 256, G, G) to points (B, N, 2) in units of the side."""
        return self.resnet(self.fusion(embedding)).float().sigmoid().unflatten(1, (-1, 2))


@dataclass
class Answer:
    """Per target: logits (B, T, s, s); points (B, T, N, 2) in frame pixels or None; presence (B, T) 0…1 or None."""

    logits: Tensor
    points: Tensor | None
    presence: Tensor | None


class Learner(nn.Module):
    """T targets of one design on a backbone whose weights stay as they are."""

    def __init__(self, sam: Sam, design: Design, targets: int = 1) -> None:
        super().__init__()
        self.design = design
        self.sam = _with_own_decoder(sam) if design.decoder else sam
        labels = torch.tensor(design.labels, dtype=torch.long)
        self.targets = nn.ModuleList(
            Target(_apm(design, sam), _ips(design), Presence() if design.presence else None, labels)
            for _ in range(targets)
        )

    @property
    def learns(self) -> bool:
        """Whether there is anything to train."""
        return any(p.requires_grad for p in self.parameters())

    def forward(
        self, embedding: Tensor, features: Sequence[Tensor], masks: Tensor, points: str, generator: torch.Generator
    ) -> Answer:
        """Solve frames. masks (B, T, s, s) bool serve for ground-truth points only; points: AUTO, TRUTH or NONE."""
        found = [self._target(t, embedding, features, masks[:, t], points, generator) for t in range(len(self.targets))]
        logits, places, presence = (
            None if part[0] is None else torch.stack(part, 1) for part in zip(*found, strict=True)
        )
        return Answer(logits, places, presence)

    def _target(self, t: int, embedding: Tensor, features, masks: Tensor, points: str, generator: torch.Generator):
        target, places = self.targets[t], None
        if points == AUTO:
            places = target.apm(embedding, features) * self.sam.side
        elif points == TRUTH:
            places = truth_points(masks, self.design.labels, generator)
        labels = None if places is None else target.point_labels.expand(len(places), -1)
        shift = None if target.ips is None else target.ips(embedding)
        with torch.autocast(embedding.device.type, torch.bfloat16):
            logits, iou = self.sam.decode(embedding, places, labels, shift=shift)
        rows = torch.arange(len(logits))
        pick = t if points == NONE else 0  # one decoder for all: a mask token for each target
        chosen = logits[rows, iou.argmax(1)] if not self.learns else logits[:, pick]
        return chosen, places, None if target.presence is None else target.presence(embedding).sigmoid()

    @torch.no_grad()
    def correct(self, embedding: Tensor, answer: Answer, masks: Tensor) -> Tensor:
        """Logits (B, s, s) of the first target after one click into the larger error, beside the points before."""
        logits, target = answer.logits[:, 0], self.targets[0]
        click, sign = simulate.correction(masks[:, 0], logits > 0)
        labels = torch.cat([target.point_labels.expand(len(logits), -1), sign], 1)
        places = torch.cat([answer.points[:, 0], click], 1)
        shift = None if target.ips is None else target.ips(embedding)
        mask = logits[:, None].clamp(-32, 32)
        return self.sam.decode(embedding, places, labels, mask=mask, shift=shift)[0][:, 0]


def _with_own_decoder(sam: Sam) -> Sam:
    """The same backbone, with a decoder that can be trained."""
    own = sams.build(sam.architecture, sam.side)
    own.load_state_dict(sam.state_dict())
    own.requires_grad_(False)
    own.mask_decoder.requires_grad_(True)
    return own.eval()


def _apm(design: Design, sam: Sam) -> nn.Module | None:
    if design.points != AUTO:
        return None
    kind, _, width = design.apm.partition(" ")
    if kind == "lite":
        return ApmLite(design.count, int(width or 64))
    return ApmResnet(sam.embed_width, design.count, sam.depth) if sam.depth else EmbeddingResnet(design.count)


def _ips(design: Design) -> nn.Module | None:
    return {None: lambda: None, "pae": lambda: Ips(256), "static": IpsStatic}[design.ips]()


def truth_points(masks: Tensor, labels: Sequence[int], generator: torch.Generator) -> Tensor:
    """Random points (B, N, 2) as the paper draws them: uniform inside each mask (B, s, s) for 1, outside for 0."""
    positive, negative = sum(labels), len(labels) - sum(labels)
    inside = simulate.random_points(masks, positive, generator)
    return torch.cat([inside, simulate.random_points(~masks, negative, generator)], 1) if negative else inside


class Lesson:
    """Batches of views for a learner, and its loss on them."""

    def __init__(self, learner: Learner, views: Views, batch: int = 16) -> None:
        self.learner, self.views, self.batch = learner, views, batch
        filled = views.masks.any((1, 2, 3))
        self.filled, self.empty = np.flatnonzero(filled), np.flatnonzero(~filled)
        self.places: Tensor | None = None  # (M, T, N, 2) good places in units of the side
        if learner.design.points == AUTO and learner.design.guide > 0:
            self.places = torch.stack([_places(row, learner.design.labels) for row in views.masks])

    def loss(self, generator: torch.Generator) -> Tensor:
        """The loss of a random batch, a fifth of it without any target where there are such slices."""
        rows = self._rows(generator)
        embedding, features, masks = self.views.take(rows)
        answer = self.learner(embedding, features, masks, self.learner.design.points, generator)
        guides = [0.0] * masks.shape[1] if self.places is None else self._guides(rows, masks, answer.points)
        return torch.stack([self._target(t, answer, masks[:, t]) + guide for t, guide in enumerate(guides)]).mean()

    def guide(self, generator: torch.Generator) -> Tensor:
        """The pull of the points alone: nothing is decoded, so a step takes a tenth of the time."""
        rows = self._rows(generator)
        embedding, features, masks = self.views.take(rows)
        side = self.learner.sam.side
        points = torch.stack([target.apm(embedding, features) * side for target in self.learner.targets], 1)
        return torch.stack(self._guides(rows, masks, points)).mean()

    def _rows(self, generator: torch.Generator) -> np.ndarray:
        count = round(_EMPTY_SHARE * self.batch) if len(self.empty) else 0
        draws = ((self.filled, self.batch - count), (self.empty, count))
        return np.concatenate([p[torch.randint(len(p), (n,), generator=generator).numpy()] for p, n in draws if n])

    def _guides(self, rows: np.ndarray, masks: Tensor, points: Tensor) -> list[Tensor]:
        """Per target, of the slices that hold it."""
        there, good, given = masks.flatten(2).any(2), self.places[rows], points / self.learner.sam.side
        pulls = F.smooth_l1_loss(given, torch.where(there[..., None, None], good, given), beta=0.02, reduction="none")
        counts = there.sum(0).clamp(min=1) * good.shape[2] * 2
        return [self.learner.design.guide * pulls[:, t].sum() / counts[t] for t in range(masks.shape[1])]

    def _target(self, t: int, answer: Answer, masks: Tensor) -> Tensor:
        there = masks.flatten(1).any(1)
        weight = torch.where(there, 1.0, _EMPTY_WEIGHT)
        loss = (mask_loss(answer.logits[:, t, None], masks[:, None])[:, 0] * weight).mean()
        if answer.presence is not None:
            presence = answer.presence[:, t].float().clamp(1e-6, 1 - 1e-6)
            loss = loss + _PRESENCE_WEIGHT * F.binary_cross_entropy(presence, there.float())
        return loss


def _places(masks: np.ndarray, labels: Sequence[int]) -> Tensor:
    """Good places (T, N, 2) for the points of masks (T, s, s); NaN where a mask is empty."""
    return torch.stack([simulate.places(torch.from_numpy(mask), labels) for mask in masks])


@dataclass(frozen=True)
class Solved:
    """All views of a set, solved: logits (M, T, s, s), after one corrective click (M, s, s) or None; points
    (M, T, N, 2) in frame pixels or None."""

    logits: np.ndarray
    corrected: np.ndarray | None
    points: np.ndarray | None


@torch.no_grad()
def solve(learner: Learner, views: Views, points: str, seed: int = 0, correct: bool = False, batch: int = 32) -> Solved:
    """Every view in turn. Where presence says that a target is absent, its logits are −1."""
    learner.eval()
    generator, parts = torch.Generator().manual_seed(seed), []
    for first in range(0, len(views), batch):
        embedding, features, masks = views.take(np.arange(first, min(first + batch, len(views))))
        answer = learner(embedding, features, masks, points, generator)
        logits = answer.logits
        if answer.presence is not None:
            logits = torch.where((answer.presence >= 0.5)[:, :, None, None], logits, -1.0)
        corrected = learner.correct(embedding, answer, masks) if correct else None
        parts.append((logits, corrected, answer.points))
    return Solved(*(None if part[0] is None else torch.cat(part).numpy() for part in zip(*parts, strict=True)))


def right_points(points: np.ndarray, labels: Sequence[int], masks: np.ndarray) -> tuple[float, float]:
    """Shares of positive points inside the mask and of negative ones outside; NaN where there are none.

    points (M, N, 2) x, y in frame pixels; masks (M, s, s) bool of frames of side 4 s. Empty masks do not count.
    """
    there, signs = masks.any((1, 2)), np.array(labels, bool)
    cells = np.clip(((points[there] + 0.5) / simulate.STRIDE).astype(int), 0, masks.shape[-1] - 1)
    inside = masks[there][np.arange(there.sum())[:, None], cells[..., 1], cells[..., 0]]
    shares = inside[:, signs], ~inside[:, ~signs]
    return tuple(float(share.mean()) if share.size else float("nan") for share in shares)


def teach(learner: Learner, material: Material, recipe: Recipe, lead: int = 0, spent_seconds: float = 0.0) -> Fitted:
    """Train a learner on a subject's views; it stays as it was best by pooled Dice on the cases held out.

    lead: steps in which automatic points learn good places alone, before the decoder joins. The published method has
    none; without it points need many times the steps until they lie on the right side of the border.
    """
    lesson, held, began = Lesson(learner, material.learn), material.held, time.process_time()
    if lead and lesson.places is not None:
        alone = replace(recipe, budget=Budget(steps=lead), rate=_LEAD_RATE, looks=1)
        fit(nn.ModuleList(target.apm for target in learner.targets), lesson.guide, lambda: 0.0, alone)

    def look() -> float:
        return pooled_dice(solve(learner, held, learner.design.points).logits > 0, held.masks, held.case)

    return fit(learner, lesson.loss, look, recipe, spent_seconds + time.process_time() - began)
