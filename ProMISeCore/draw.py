"""What the default backbone learns from: batches of pictures, each of a few sets of the corpus, drawn ahead of time."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch import multiprocessing as mp
from torch.nn import functional as F

from ProMISeCore import corpus, simulate
from ProMISeCore.augment import Augment
from ProMISeCore.errors import InputError
from ProMISeCore.frame import normalised

_APART = 1_000_003  # seeds of children that draw side by side, further apart than a training has steps

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
        pictures = normalised(pictures) * valid
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


def _next(ready: mp.Queue, child: mp.Process) -> Batch:
    """The next batch of a child, however long it draws; InputError where it has ended."""
    while True:
        try:
            return ready.get(timeout=2)
        except queue.Empty:
            if not child.is_alive():
                raise InputError(
                    f"a process that draws pictures has ended (exit code {child.exitcode}); the reason is above, or "
                    "memory ran out: use fewer --workers, or close other programs"
                ) from None


def ahead(workspace: Path, stage: Stage, seed: int, workers: int = 1, depth: int = 4) -> Iterator[Batch]:
    """Batches drawn by child processes while the previous ones train, from each in turn; they end with the iterator.

    depth: batches that each child keeps ready. The batches follow from seed and number of workers alone. Raises
    InputError where a child has ended, which it does only if it failed.
    """
    context = mp.get_context("spawn")
    queues = [context.Queue(depth) for _ in range(workers)]
    children = [
        context.Process(target=_fill, args=(ready, workspace, stage, seed + _APART * number), daemon=True)
        for number, ready in enumerate(queues)
    ]
    try:
        for child in children:
            child.start()
        for ready, child in itertools.cycle(zip(queues, children, strict=True)):
            yield _next(ready, child)
    finally:
        for child in children:
            if child.pid is not None:
                child.terminate()
