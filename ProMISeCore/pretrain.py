"""Training of the default backbone: a small SAM, taught to follow prompts on every set of the corpus at once.

Three losses share each encoded picture: prompts as a user gives them (a first prompt, then a corrective click with the
mask found so far); *shifts*, one learned change of the mask tokens per named class, so that the decoder, which stays
frozen ever after, has learned to be steered the way Incremental Pattern Shifting steers it; and dense heads on the
embedding, one per set. Heads are dropped at the end; the shifts are kept aside, where the training of packs can start.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch import multiprocessing as mp
from torch.nn import functional as F

from ProMISeCore import allocator, corpus, simulate
from ProMISeCore.augment import Augment
from ProMISeCore.sam import Sam, build
from ProMISeCore.whole_file import replacing

_MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
_DEVIATION = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)

#: How often each set is drawn, and how many named classes it has (0: regions or instances, for prompts only).
SETS: dict[str, tuple[float, int]] = {
    "kvasir": (1.2, 1), "clinicdb": (0.8, 1), "polypgen": (1.2, 1), "isic": (1.0, 1), "foot_ulcer": (1.4, 1),
    "fetal_head": (0.8, 1), "brain_tumour": (1.4, 1), "chest_xray": (1.0, 4), "blood_cells": (0.5, 2),
    "nuclei": (0.8, 0), "saliency": (0.5, 1), "regions": (0.3, 0), "clothing": (0.2, 0), "street": (0.2, 11),
    "spacecraft": (0.3, 5), "tile_defect": (0.4, 1), "hippocampus": (2.5, 2), "heart": (3.5, 3), "atrium": (1.6, 1),
}  # fmt: skip
#: Sets that share one meaning of their classes.
ALIASES = {"clinicdb": "kvasir", "polypgen": "kvasir"}


@dataclass
class Batch:
    """Pictures of a few sets. pictures (B, 3, h, h) normalised, h = half the frame side; classes (B, C, s, s) bool."""

    pictures: Tensor
    names: list[str]
    classes: list[Tensor]  # per picture (C, s, s) bool, C = named classes of its set (0 where unnamed)
    objects: Tensor  # (B, M, s, s) bool, the masks to prompt for


@dataclass(frozen=True)
class Stage:
    """Part of the training: frame side, the sets drawn from, and whether a frame is a crop at full detail or the whole
    picture, smaller."""

    side: int
    names: tuple[str, ...] = tuple(SETS)
    crops: bool = False


class Draw:
    """Draws batches from the corpus for one stage."""

    def __init__(self, workspace: Path, stage: Stage, seed: int) -> None:
        pictures, volumes = corpus.load(workspace, "train")
        self.sets = {s.name: s for s in pictures} | {s.name: s for s in volumes}
        self.stage = stage
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.plain = Augment(mirror=0.5)
        self.medical_volume = Augment(rotation=30, zoom=(0.85, 1.9), mirror=0.3, upset=0.3, colour=0.02, contrast=0.4)

    def batch(self, groups: int = 4, group_size: int = 4, objects: int = 1) -> Batch:
        """`groups` × `group_size` pictures, each group from one set."""
        often = np.array([SETS[name][0] for name in self.stage.names])
        names = self.rng.choice(self.stage.names, groups, p=often / often.sum())
        parts = [self._group(str(name), group_size, objects) for name in names]
        return Batch(
            torch.cat([p[0] for p in parts]),
            [str(name) for name in names for _ in range(group_size)],
            [c for p in parts for c in p[1]],
            torch.cat([p[2] for p in parts]),
        )

    def _group(self, name: str, count: int, objects: int) -> tuple[Tensor, list[Tensor], Tensor]:
        if isinstance(self.sets[name], corpus.PictureSet):
            samples, augment = [self._picture(name) for _ in range(count)], self.plain
        else:
            samples, augment = [self._slice(name) for _ in range(count)], self.medical_volume
        pictures, valid, labels = (torch.from_numpy(np.stack(x)).float() for x in zip(*samples, strict=True))
        pictures, valid, labels = augment(pictures, valid[:, None], labels[:, None], self.generator)
        half = self.stage.side // 2
        if self.stage.crops:
            pictures, valid, labels = crop(half, pictures, valid, labels, self.rng)
        elif half != corpus.PICTURE_SIDE:
            pictures = F.interpolate(pictures, (half, half), mode="bilinear", antialias=True)
            valid = F.interpolate(valid, (half, half), mode="nearest")
        pictures = (pictures - _MEAN) / _DEVIATION * valid
        step = labels.shape[-1] // (self.stage.side // simulate.STRIDE)
        labels = labels[:, 0, step // 2 :: step, step // 2 :: step].long()
        named = SETS[name][1]
        classes = [
            torch.stack([label == c + 1 for c in range(named)]) if named else label.new_zeros(0, *label.shape).bool()
            for label in labels
        ]
        return pictures, classes, torch.stack([self._objects(label.numpy(), objects) for label in labels])

    def _picture(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        one = self.sets[name]
        number = self.rng.integers(len(one.pictures))
        valid = np.zeros(one.labels.shape[1:], np.float32)
        rows, columns = one.extents_rc[number]
        valid[:rows, :columns] = 1
        return one.pictures[number], valid, one.labels[number].astype(np.float32)

    def _slice(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        voxels, label = self.sets[name].volumes[self.rng.integers(len(self.sets[name].volumes))]
        axis = 0 if name == "heart" else int(self.rng.integers(3))
        voxels, label = np.moveaxis(voxels, axis, 0), np.moveaxis(label, axis, 0)
        filled = np.flatnonzero(label.any((1, 2)))
        number = self.rng.choice(filled) if self.rng.random() < 0.85 else self.rng.integers(len(voxels))
        around = (-1, 0, 1) if self.rng.random() < 0.6 else (0, 0, 0)
        picture = voxels[np.clip(number + np.array(around), 0, len(voxels) - 1)]
        height, width = label.shape[1:]
        scale = corpus.PICTURE_SIDE / max(height, width)
        rows, columns = round(height * scale), round(width * scale)
        square = np.zeros((3, corpus.PICTURE_SIDE, corpus.PICTURE_SIDE), np.float32)
        square[:, :rows, :columns] = F.interpolate(
            torch.from_numpy(picture[None]).float(), (rows, columns), mode="bilinear"
        )[0]
        target = np.zeros(square.shape[1:], np.float32)
        target[:rows, :columns] = F.interpolate(torch.from_numpy(label[number][None, None]).float(), (rows, columns))[
            0, 0
        ]
        valid = np.zeros(square.shape[1:], np.float32)
        valid[:rows, :columns] = 1
        return square, valid, target

    def _objects(self, label: np.ndarray, count: int) -> Tensor:
        """`count` masks to prompt for: whole values and connected components, empty where there is nothing."""
        least = max(4, label.shape[0] ** 2 // 1500)
        pieces = corpus.components(label, least)
        pieces += [label == v for v in np.unique(label[label > 0])[:20] if (label == v).sum() >= least]
        chosen = np.zeros((count, *label.shape), bool)
        for number in range(count if pieces else 0):
            chosen[number] = pieces[self.rng.integers(len(pieces))]
        return torch.from_numpy(chosen)


def crop(
    side: int, pictures: Tensor, valid: Tensor, labels: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """A window of side × side pixels of each (B, C, H, W), near a random pixel of a target or of the whole picture."""
    windows = []
    for picture, inside, label in zip(pictures, valid, labels, strict=True):
        pixels = label[0].nonzero() if label.any() else inside[0].nonzero()
        centre = pixels[rng.integers(len(pixels))].numpy() if len(pixels) else np.zeros(2, int)
        corner = centre - side // 2 + rng.integers(-side // 3, side // 3, 2)
        row, column = corner.clip(0, np.array(label.shape[1:]) - side).tolist()
        windows.append([x[:, row : row + side, column : column + side] for x in (picture, inside, label)])
    return tuple(torch.stack(parts) for parts in zip(*windows, strict=True))


def _fill(ready: mp.Queue, workspace: Path, stage: Stage, seed: int) -> None:
    torch.set_num_threads(1)
    draw = Draw(workspace, stage, seed)
    while True:
        ready.put(draw.batch())


def ahead(workspace: Path, stage: Stage, seed: int, depth: int = 4) -> Iterator[Batch]:
    """Batches drawn by a child process while the previous ones train; it ends with the iterator."""
    context = mp.get_context("spawn")
    ready = context.Queue(depth)
    child = context.Process(target=_fill, args=(ready, workspace, stage, seed), daemon=True)
    child.start()
    try:
        while True:
            yield ready.get(timeout=300)
    finally:
        child.terminate()


class Aids(nn.Module):
    """What trains beside the backbone and is dropped afterwards: dense heads and token shifts."""

    def __init__(self) -> None:
        super().__init__()
        named = {n: c for n, (_, c) in SETS.items() if c and n not in ALIASES}
        self.heads = nn.ModuleDict({name: nn.Conv2d(256, classes + 1, 1) for name, classes in named.items()})
        self.shifts = nn.ParameterDict({name: torch.zeros(classes, 4, 256) for name, classes in named.items()})


def mask_loss(logits: Tensor, masks: Tensor, known: Tensor | None = None) -> Tensor:
    """Binary cross-entropy + soft Dice per mask: logits and masks (P, T, s, s) → (P, T).

    known (P, T, s, s) bool: pixels outside of it change neither the loss nor its gradient.
    """
    masks = masks.float().expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    probability = logits.sigmoid()
    if known is None:
        entropy = entropy.mean((2, 3))
    else:
        entropy = (entropy * known).sum((2, 3)) / known.sum((2, 3)).clamp(min=1)
        probability, masks = probability * known, masks * known
    overlap = 2 * (probability * masks).sum((2, 3)) + 1
    return 2 * entropy + 1 - overlap / (probability.sum((2, 3)) + masks.sum((2, 3)) + 1)


def iou(logits: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union of logits > 0 with masks, both (P, T, s, s) → (P, T)."""
    found = logits > 0
    masks = masks.expand_as(found)
    return (found & masks).sum((2, 3)) / (found | masks).sum((2, 3)).clamp(min=1)


class Step:
    """One training step's losses on a batch."""

    def __init__(self, sam: Sam, aids: Aids, generator: torch.Generator) -> None:
        self.sam, self.aids, self.generator = sam, aids, generator

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        with torch.autocast("cpu", torch.bfloat16):
            embedding = self.sam.image_encoder.from_half(batch.pictures.contiguous(memory_format=torch.channels_last))
        embedding = embedding.float()
        dense, dense_dice = self._dense(embedding, batch)
        shift, shifted = self._shifted(embedding, batch)
        prompt, seen = self._prompted(embedding, batch)
        seen |= shifted | {"dense": dense_dice}
        return 0.7 * dense + shift + prompt, seen

    def _dense(self, embedding: Tensor, batch: Batch) -> tuple[Tensor, float]:
        losses, dices = [], []
        for number, name in enumerate(batch.names):
            key = ALIASES.get(name, name)
            if key not in self.aids.heads:
                continue
            target = F.adaptive_avg_pool2d(batch.classes[number].float(), embedding.shape[-1])
            target = torch.cat([(1 - target.sum(0, keepdim=True)).clamp(0, 1), target])
            logits = self.aids.heads[key](embedding[number : number + 1])[0]
            guess = logits.softmax(0)
            entropy = -(target * logits.log_softmax(0)).sum(0).mean()
            dice = (2 * (guess * target).sum((1, 2)) + 0.5) / (guess.sum((1, 2)) + target.sum((1, 2)) + 0.5)
            losses.append(entropy + (1 - dice[1:]).mean())
            if batch.classes[number].any():
                dices.append(dice[1:][target[1:].amax((1, 2)) > 0].mean().item())
        return (torch.stack(losses).mean() if losses else embedding.sum() * 0), float(
            np.mean(dices)
        ) if dices else math.nan

    def _shifted(self, embedding: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Token 1 under the shift of a named class: with no points or scattered ones as APM places them, then with
        corrective clicks beside these, so that a shifted decoder still does what a user asks."""
        rows, shifts, masks = [], [], []
        for number, name in enumerate(batch.names):
            classes = batch.classes[number]
            if not len(classes):
                continue
            present = classes.flatten(1).any(1).nonzero()[:, 0]
            pool = (
                present
                if len(present) and torch.rand((), generator=self.generator) < 0.85
                else torch.arange(len(classes))
            )
            chosen = pool[torch.randint(len(pool), (), generator=self.generator)]
            rows.append(number)
            shifts.append(self.aids.shifts[ALIASES.get(name, name)][chosen])
            masks.append(classes[chosen])
        if not rows:
            return embedding.sum() * 0, {}
        masks = torch.stack(masks)
        points = labels = None
        if torch.rand((), generator=self.generator) < 0.7:
            count = int(torch.randint(1, 5, (), generator=self.generator))
            inside, outside = (
                simulate.random_points(masks, count, self.generator),
                simulate.random_points(simulate.ring(masks, 12), count, self.generator),
            )
            points = torch.cat([inside, outside], 1)
            points = points + 0.02 * self.sam.side * torch.randn(points.shape, generator=self.generator)
            labels = torch.cat([torch.ones(len(rows), count), torch.zeros(len(rows), count)], 1).long()
        filled = masks.flatten(1).any(1)
        logits = self._decoded(embedding[rows], points, labels, torch.stack(shifts))
        loss, seen = mask_loss(logits, masks[:, None]).mean(), {"shift": self._reached(logits, masks, filled)}
        clicks, signs = simulate.corrections(masks, logits.detach()[:, 0] > 0, 3, self.generator)
        if points is not None:
            clicks, signs = torch.cat([points, clicks], 1), torch.cat([labels, signs], 1)
        logits = self._decoded(embedding[rows], clicks, signs, torch.stack(shifts))
        seen["shift_corrected"] = self._reached(logits, masks, filled)
        return loss + mask_loss(logits, masks[:, None]).mean(), seen

    def _decoded(self, embedding: Tensor, points: Tensor | None, labels: Tensor | None, shift: Tensor) -> Tensor:
        """Token 1's logits (B, 1, s, s)."""
        with torch.autocast("cpu", torch.bfloat16):
            logits, _ = self.sam.decode_tokens(embedding, points, labels, shift=shift)
        return logits[:, 1:2].float()

    def _reached(self, logits: Tensor, masks: Tensor, filled: Tensor) -> float:
        return iou(logits, masks[:, None])[filled].mean().item()

    def _prompted(self, embedding: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """A first prompt and a corrective click for every non-empty object; the best of three masks after one click."""
        rows, numbers = batch.objects.flatten(2).any(2).nonzero(as_tuple=True)
        if not len(rows):
            return embedding.sum() * 0, {}
        masks = batch.objects[rows, numbers]
        prompts = simulate.first_prompts(masks, self.generator)
        ambiguous = prompts.box is None and prompts.points.shape[1] == 1 and prompts.mask is None
        total, seen = 0.0, {}
        for turn in ("first", "second"):
            with torch.autocast("cpu", torch.bfloat16):
                logits, quality = self.sam.decode_tokens(
                    embedding[rows], prompts.points, prompts.labels, prompts.box, prompts.mask
                )
            logits, quality = logits.float(), quality.float()
            losses, reached = mask_loss(logits, masks[:, None]), iou(logits, masks[:, None])
            best = losses[:, 1:].amin(1) + 0.2 * losses.mean(1) if ambiguous and turn == "first" else losses.mean(1)
            total = total + best.mean() + F.mse_loss(quality, reached.detach())
            pick = quality[:, 1:].argmax(1) + 1
            found = logits.detach()[torch.arange(len(rows)), pick]
            kind = (
                "click"
                if ambiguous
                else "box"
                if prompts.box is not None
                else "points"
                if prompts.mask is None
                else "rough"
            )
            seen[f"{turn}_{kind}"] = reached[torch.arange(len(rows)), pick].mean().item()
            points, labels = simulate.correction(masks, found > 0, self.generator)
            prompts = prompts.add(points, labels, found[:, None].clamp(-32, 32))
        return total, seen


class Average:
    """An exponential moving average of the backbone's weights, which is what gets saved."""

    def __init__(self, sam: Sam, decay: float = 0.998) -> None:
        self.decay, self.steps = decay, 0
        self.state = {key: value.detach().clone() for key, value in sam.state_dict().items()}

    def update(self, sam: Sam) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        with torch.no_grad():
            for key, value in sam.state_dict().items():
                self.state[key].lerp_(value, 1 - decay)


def save(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write fp16 weights, whole or not at all."""
    with replacing(path) as part:
        save_file({key: value.half().contiguous() for key, value in state.items()}, str(part), metadata)


def set_side(sam: Sam, side: int) -> None:
    """Let a fully convolutional backbone work on frames of another side."""
    sam.side, sam.grid = side, side // 16
    sam.prompt_encoder.image_embedding_size = (sam.grid, sam.grid)
    sam.prompt_encoder.input_image_size = (side, side)
    sam.prompt_encoder.mask_input_size = (4 * sam.grid, 4 * sam.grid)


class Pretraining:
    """The loop: stages by share of the time, learning rate by the clock, checkpoints, a log."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        torch.manual_seed(arguments.seed)
        self.sam, self.aids = build("tiny"), Aids()
        self.sam.requires_grad_(True).train()
        if arguments.init:
            with np.load(arguments.init) as arrays:
                self.sam.image_encoder.start_from_imagenet(arrays)
        if arguments.start:
            self.sam.load_state_dict({key: value.float() for key, value in load_file(arguments.start).items()})
        self.generator = torch.Generator().manual_seed(arguments.seed)
        pretrained = [p for n, p in self.sam.image_encoder.named_parameters() if n.startswith(("stem", "blocks"))]
        known = {id(p) for p in pretrained}
        fresh = [p for p in [*self.sam.parameters(), *self.aids.parameters()] if id(p) not in known and p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [{"params": pretrained, "scale": 0.5}, {"params": fresh, "scale": 1.0}],
            lr=arguments.rate,
            weight_decay=0.02,
        )
        self.average = Average(self.sam)
        self.seconds, self.steps = 0.0, 0
        self.checkpoint = arguments.workspace / "pretrain.pt"
        if self.checkpoint.exists():
            self._resume()

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        self.sam.load_state_dict(state["sam"])
        self.aids.load_state_dict(state["aids"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.state, self.average.steps = state["average"], state["steps"]
        self.seconds, self.steps = state["seconds"], state["steps"]

    def _store(self) -> None:
        state = {
            "sam": self.sam.state_dict(), "aids": self.aids.state_dict(), "optimizer": self.optimizer.state_dict(),
            "average": self.average.state, "seconds": self.seconds, "steps": self.steps,
        }  # fmt: skip
        with replacing(self.checkpoint) as part:
            torch.save(state, part)
        save(self.arguments.out, self.average.state, {"steps": str(self.steps), "seconds": f"{self.seconds:.0f}"})

    def _rate(self) -> float:
        warmup = min(1.0, (self.steps + 1) / 200)
        return (
            self.arguments.rate * warmup * (0.02 + 0.49 * (1 + math.cos(math.pi * min(1, self.seconds / self.budget))))
        )

    @property
    def budget(self) -> float:
        return 60 * self.arguments.minutes

    def run(self) -> None:
        coarse, names = self.arguments.coarse * self.budget, tuple(self.arguments.sets)
        crops = coarse + self.arguments.crops * self.budget
        stages = (Stage(256, names), coarse), (Stage(256, names, crops=True), crops), (Stage(512, names), self.budget)
        for stage, end in stages:
            if self.seconds < end:
                set_side(self.sam, stage.side)
                self._train(ahead(self.arguments.workspace, stage, self.arguments.seed + self.steps), end)
        set_side(self.sam, 512)
        self._store()
        shifts = {name: shift.detach() for name, shift in self.aids.shifts.items()}
        save(self.arguments.workspace / "shifts.safetensors", shifts, {"of": "named classes, (classes, 4, 256)"})

    def _train(self, batches: Iterator[Batch], end: float) -> None:
        step, history, stored = Step(self.sam, self.aids, self.generator), [], time.monotonic()
        while self.seconds < end:
            started = time.monotonic()
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate() * group["scale"]
            loss, seen = step(next(batches))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.sam.parameters(), 1.0)
            self.optimizer.step()
            self.average.update(self.sam)
            self.steps += 1
            history.append(seen | {"loss": loss.item()})
            self.seconds += time.monotonic() - started
            if self.steps % 50 == 0:
                self._log(history)
                history = []
            if time.monotonic() - stored > 180:
                self._store()
                stored = time.monotonic()

    def _log(self, history: list[dict[str, float]]) -> None:
        keys = sorted({key for entry in history for key in entry})
        means = {key: round(float(np.nanmean([e.get(key, math.nan) for e in history])), 3) for key in keys}
        line = {"steps": self.steps, "seconds": round(self.seconds), "side": self.sam.side, **means}
        print(json.dumps(line), flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `promise pretrain`."""
    parser.add_argument("--data", type=Path, required=True, help="folder with images/ and volumes/")
    parser.add_argument(
        "--workspace", type=Path, required=True, help="where packed arrays and checkpoints go; rerun to resume"
    )
    parser.add_argument("--init", type=Path, help="MobileNetV2's ImageNet convolutions (.npz)")
    parser.add_argument("--out", type=Path, required=True, help="the weights to write (.safetensors)")
    parser.add_argument("--minutes", type=float, default=90, help="training time, packing excluded")
    parser.add_argument(
        "--coarse", type=float, default=0.5, help="share of the time spent at frame side 256 before 512"
    )
    parser.add_argument(
        "--crops",
        type=float,
        default=0.0,
        help="share of the time spent, after that, on crops of side 256 at full detail",
    )
    parser.add_argument(
        "--sets", nargs="+", choices=SETS, default=list(SETS), metavar="NAME", help="learn from these only"
    )
    parser.add_argument("--start", type=Path, help="weights of a backbone to go on from (.safetensors), not --init")
    parser.add_argument("--rate", type=float, default=6e-4, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> None:
    """Pack the corpus where needed, then train until the time is up."""
    allocator.keep_freed_memory()
    corpus.pack(arguments.data, arguments.workspace, "train")
    Pretraining(arguments).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    run(parser.parse_args())
