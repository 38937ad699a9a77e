"""Training material of a pack: labelled slices, encoded once in several augmented views and kept on disk."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ProMISeCore import encoder, refiner, truth, volumes
from ProMISeCore.augment import Augment
from ProMISeCore.errors import InputError
from ProMISeCore.frame import Frame, as_pixels, normalised
from ProMISeCore.pairs import Pair, content
from ProMISeCore.rows import Filed, Rows
from ProMISeCore.sam import Sam
from ProMISeCore.slices import Slices, with_every_target
from ProMISeCore.terminal import amount
from ProMISeCore.whole_file import clear_stale, replacing

_COUNT = "encoded.txt"  # how many rows of the views beside it are there
_CAN_RESERVE = hasattr(os, "posix_fallocate")
_FINE = 4 * 16  # pixels of a frame: four of a mask's, which is S/4; smaller targets could vanish from it
_STORED = 3  # how views are stored; what was stored in another way is not read


@dataclass(frozen=True)
class Task:
    """What a pack learns: label value of each target, and how its volumes become frames (as in a manifest).

    A target without a value is found by name, in segmentations. unlabelled: one of `truth.RULES`.
    """

    values: Mapping[str, int | None]
    orientation: str
    window: Mapping[str, float | str]
    channels: str
    padding: str
    unlabelled: str = "background"


class LabelledStack:
    """The slices of one case, and per target what is known of them (n, H, W) as in `truth`, as frames of side S."""

    def __init__(self, pair: Pair, task: Task, side: int) -> None:
        volume = volumes.read(pair.image)
        #: Channels that people should see: of grey neighbours the middle one is the slice itself.
        self.shown = [1, 1, 1] if task.channels == "neighbours" and volume.voxels.ndim == 3 else [0, 1, 2]
        stack = volumes.Stack(volume, "image" if volume.picture else task.orientation)
        self._pictures = volumes.pictures(stack, volumes.Window.of(task.window, volume.voxels), task.channels)
        found = truth.read(volume, pair.label, task.values, task.unlabelled, stack.slice_axis)
        self.labels = [stack.canonical(one) for one in found]
        self._areas = np.stack([(label == 1).sum((1, 2)) for label in self.labels])  # (T, n) pixels
        self.frame = Frame(*stack.shape[1:], side, task.padding, stack.spacing_rc)

    def sample(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Slice n: picture (3, S, S) float 0…255, valid (1, S, S) 1 where there is content, labels (T, S, S) float.

        Beside the content there is background, but for targets of which nothing is known on the slice.
        """
        frame = self.frame
        picture = as_pixels(frame.image(self._pictures[n]))
        valid = torch.zeros(1, frame.side, frame.side)
        valid[:, : frame.rows, : frame.columns] = 1
        rows = ((np.arange(frame.rows) + 0.5) / frame.scale_xy[1]).astype(int).clip(0, frame.height - 1)
        columns = ((np.arange(frame.columns) + 0.5) / frame.scale_xy[0]).astype(int).clip(0, frame.width - 1)
        labels = torch.zeros(len(self.labels), frame.side, frame.side)
        for label, known in zip(labels, self.labels, strict=True):
            label[:] = truth.UNKNOWN * bool((known[n] == truth.UNKNOWN).all())
            label[: frame.rows, : frame.columns] = torch.from_numpy(known[n][np.ix_(rows, columns)].astype(np.float32))
            if not (label == 1).any():  # what lies between the pixels of a smaller frame
                found = np.argwhere(known[n] == 1) + 0.5
                row, column = (found * frame.scale_xy[::-1]).astype(int).T
                label[row.clip(max=frame.rows - 1), column.clip(max=frame.columns - 1)] = 1
        return picture, valid, labels

    @property
    def slices(self) -> Slices:
        """What each slice holds."""
        return Slices(self._areas > 0, np.any([(label != truth.UNKNOWN).any((1, 2)) for label in self.labels], axis=0))

    def fine(self, labels: Tensor) -> Tensor:
        """Targets (T,) bool that a mask at S/4 could lose, though a slice's labels (T, S, S) hold them."""
        largest = torch.from_numpy(self._areas.max(1) * np.prod(self.frame.scale_xy))
        return (largest < _FINE) | ~masks_of(labels).flatten(1).any(1)


@dataclass(frozen=True)
class Views:
    """Encoded views. M rows, T targets, s = S/4.

    embedding (M, 256, G, G) and features {block: (M, E, G, G)} float16, memory-mapped; masks (M, T, s, s) bool;
    case (M,) index of the case each row comes from; key names what they were made from and how (of a plan that shares
    its folder: the folder's, a dot, how many); known (M, T, s, s) bool, everything unless given; plain (M,) bool,
    slices as they are, slice (M,) their numbers, both where known; pictures (M, 3, S/2, S/2) uint8, what refiners see,
    where there are some.
    """

    embedding: np.ndarray
    features: dict[int, np.ndarray]
    masks: np.ndarray
    case: np.ndarray
    key: str = ""
    known: np.ndarray | None = None
    plain: np.ndarray | None = None
    slice: np.ndarray | None = None
    pictures: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.case)

    def take(self, rows: Sequence[int] | np.ndarray) -> tuple[Tensor, list[Tensor], Tensor]:
        """Embedding, features in the order of their blocks as asked for, and masks of some rows, float32 / bool."""
        rows = np.asarray(rows)
        features = [torch.from_numpy(array[rows].astype(np.float32)) for array in self.features.values()]
        return torch.from_numpy(self.embedding[rows].astype(np.float32)), features, torch.from_numpy(self.masks[rows])

    def take_known(self, rows: Sequence[int] | np.ndarray, target: int) -> Tensor | None:
        """Where something is known of a target on some rows, (B, s, s) bool; None where everything is."""
        return None if self.known is None else torch.from_numpy(np.ascontiguousarray(self.known[rows, target]))

    def take_pictures(self, rows: Sequence[int] | np.ndarray) -> Tensor | None:
        """What refiners see of some rows, (B, 3, S/2, S/2) as `refiner.seen` gives it; None where it was not kept."""
        if self.pictures is None:
            return None
        return normalised(torch.from_numpy(self.pictures[np.asarray(rows)]).float())

    def filed(self) -> Views:
        """The same, of mapped arrays, without keeping their files open: for many at a time, to be `joined`."""
        return replace(
            self,
            embedding=Filed(self.embedding),
            features={block: Filed(array) for block, array in self.features.items()},
            masks=Filed(self.masks),
            known=Filed(self.known),
            pictures=None if self.pictures is None else Filed(self.pictures),
        )


def joined(parts: Sequence[Views]) -> Views:
    """The views of several cases as one; `case` counts the parts."""
    return Views(
        embedding=Rows([part.embedding for part in parts]),
        features={block: Rows([part.features[block] for part in parts]) for block in parts[0].features},
        masks=Rows([part.masks for part in parts]).whole(),
        case=np.concatenate([np.full(len(part), number) for number, part in enumerate(parts)]),
        key="+".join(part.key for part in parts),
        known=Rows([part.known for part in parts]).whole(),
        plain=np.concatenate([part.plain for part in parts]),
        slice=np.concatenate([part.slice for part in parts]),
        pictures=None if parts[0].pictures is None else Rows([part.pictures for part in parts]),
    )


@dataclass(frozen=True)
class Plan:
    """What is to be encoded: for every row its case, slice and view; view 0 is the slice as it is.

    named: how many of the first rows say which plan it is, None for all: what begins alike and goes on in the same way
    with more views or fewer shares its folder.
    """

    pairs: Sequence[Pair]
    task: Task
    rows: list[tuple[int, int, int]]
    seed: int
    named: int | None = None

    def key(self, sam: Sam, blocks: Sequence[int], augment: Augment, pictures: bool = False) -> str:
        """A name for these views that changes with anything they depend on, and with whether pictures are kept."""
        files = [(content(pair.image), content(pair.label)) for pair in self.pairs]
        backbone = [sam.fingerprint(), sam.side, list(blocks)]
        order = list(self.task.values)  # sorted below, and masks are stored in it
        parts = [_STORED, *backbone, asdict(augment), asdict(self.task), order, files]
        parts += [self.rows[: self.named], self.seed]
        parts += ["pictures"] if pictures else []
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def plan(pairs: Sequence[Pair], task: Task, side: int, views: int, most: int, seed: int) -> Plan:
    """Choose at most `most` slices of every case, each in `views` views."""
    slices = [LabelledStack(pair, task, side).slices for pair in pairs]
    drawn = [each.drawn(most, np.random.default_rng([seed, number])) for number, each in enumerate(slices)]
    chosen = with_every_target(slices, drawn)
    rows = [(number, n, view) for number, some in enumerate(chosen) for n in some for view in range(views)]
    return Plan(pairs, task, rows, seed)


class Encoder:
    """Fills the arrays of a plan, a batch of rows at a time; a rerun continues where it was killed.

    pictures: whether what refiners see is kept too.
    """

    def __init__(
        self,
        sam: Sam,
        blocks: Sequence[int],
        augment: Augment,
        folder: Path,
        batch: int = 8,
        pictures: bool = False,
    ) -> None:
        self.sam, self.blocks, self.augment, self.batch = sam, tuple(blocks), augment, batch
        self.pictures = pictures
        self.root = folder
        self._encode = encoder.Encoder(sam)

    def views(self, chosen: Plan, progress: Callable[[Iterator[None], int], Iterator[None]]) -> Views:
        """The plan's views, encoded now where they are not on disk yet."""
        key = chosen.key(self.sam, self.blocks, self.augment, self.pictures)
        folder = self.root / f"views-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        count = folder / _COUNT
        arrays, start = self._open(folder, len(chosen.rows), len(chosen.task.values), _counted(count))
        for _ in progress(self._fill(chosen, arrays, start, count), -(-(len(chosen.rows) - start) // self.batch)):
            pass
        features = {block: arrays[f"block{block}"] for block in self.blocks}
        case, number, view = np.array(chosen.rows).T
        return Views(
            embedding=arrays["embedding"],
            features=features,
            masks=arrays["masks"],
            case=case,
            key=key if chosen.named is None else f"{key}.{len(chosen.rows)}",
            known=arrays["known"],
            plain=view == 0,
            slice=number,
            pictures=arrays.get("pictures"),
        )

    def _open(self, folder: Path, rows: int, targets: int, start: int) -> tuple[dict[str, np.ndarray], int]:
        """So many rows of the arrays on disk, and how many of them are there: `start` at most, or none, in new arrays,
        where what is there is damaged. Raises InputError where they would not fit."""
        grid, side = self.sam.grid, self.sam.side // 4
        shapes = {"embedding": ((rows, 256, grid, grid), np.float16), "masks": ((rows, targets, side, side), bool)}
        shapes["known"] = shapes["masks"]
        if self.pictures:
            shapes["pictures"] = ((rows, 3, 2 * side, 2 * side), np.uint8)
        shapes |= {f"block{b}": ((rows, self.sam.embed_width, grid, grid), np.float16) for b in self.blocks}
        paths = {name: folder / f"{name}.npy" for name in shapes}
        clear_stale(folder, 0)  # of a kill; nobody else works here
        held = {name: _rows_in(paths[name], *shapes[name]) for name in shapes}
        if not 0 < start <= min(held.values()):
            (folder / _COUNT).unlink(missing_ok=True)  # first: nothing is encoded of what is made now
            for path in paths.values():
                path.unlink(missing_ok=True)
            held, start = dict.fromkeys(shapes, 0), 0
        start = min(start, rows)
        row = {name: math.prod(shape[1:]) * np.dtype(kind).itemsize for name, (shape, kind) in shapes.items()}
        short = [name for name in shapes if held[name] < rows]
        copied = max((row[name] * start for name in short), default=0)
        needed = sum(row.values()) * (rows - start) + copied
        if (short or not _CAN_RESERVE) and shutil.disk_usage(folder).free < needed:
            raise _too_large(needed, folder)
        for name in short:
            _make(paths[name], *shapes[name], start, needed)
        for path in paths.values():
            _reserve(path, needed)
        return {name: _mapped(paths[name], rows) for name in shapes}, start

    def _fill(self, chosen: Plan, arrays: dict[str, np.ndarray], start: int, count: Path) -> Iterator[None]:
        case, stack = -1, None
        for first in range(start, len(chosen.rows), self.batch):
            rows = chosen.rows[first : first + self.batch]
            samples = []
            for row, (number, n, view) in enumerate(rows, first):
                if number != case:
                    case, stack = number, LabelledStack(chosen.pairs[number], chosen.task, self.sam.side)
                generator = torch.Generator().manual_seed(chosen.seed * 1_000_003 + row)
                sample = stack.sample(n)
                image, labels = changed(sample, self.augment if view else None, generator)
                samples.append((image, labels, masks_of(labels, stack.fine(sample[2]))))
            self._store(
                arrays, slice(first, first + len(rows)), *(torch.stack(parts) for parts in zip(*samples, strict=True))
            )
            with replacing(count) as part:
                part.write_text(str(first + len(rows)), encoding="utf-8")
            yield

    @torch.inference_mode()
    def _store(self, arrays: dict[str, np.ndarray], rows: slice, images: Tensor, labels: Tensor, masks: Tensor) -> None:
        device = next(self.sam.parameters()).device
        embedding, features = self._encode(images.to(device), self.blocks)
        arrays["embedding"][rows] = embedding.cpu().half().numpy()
        for block, feature in zip(self.blocks, features, strict=True):
            arrays[f"block{block}"][rows] = feature.cpu().half().numpy()
        if self.pictures:
            shown = as_pixels(refiner.seen(images))
            arrays["pictures"][rows] = shown.round().clamp(0, 255).byte().numpy()
        arrays["masks"][rows] = masks.numpy()
        arrays["known"][rows] = (F.max_pool2d((labels == truth.UNKNOWN).float(), 4) == 0).numpy()


def _counted(path: Path) -> int:
    """How many rows the file says are encoded; none where it does not."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return int(text) if text.isdecimal() else 0


def _rows_in(path: Path, shape: tuple[int, ...], kind: type) -> int:
    """How many such rows the file holds, all of them whole; none where it holds something else."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)  # to write, a file that was cut off would be filled up
    except (OSError, ValueError, EOFError):
        return 0
    return len(found) if (found.shape[1:], found.dtype) == (shape[1:], np.dtype(kind)) else 0


def _make(path: Path, shape: tuple[int, ...], kind: type, start: int, needed: int) -> None:
    """A file for an array, with its first rows as they are now. Raises InputError where it cannot be written."""
    with replacing(path) as part:
        made = np.lib.format.open_memmap(part, "w+", kind, shape)
        _reserve(part, needed)
        if start:
            made[:start] = np.load(path, mmap_mode="r", allow_pickle=False)[:start]
        del made  # Windows renames no file that is mapped


def _mapped(path: Path, rows: int) -> np.memmap:
    """The first rows of the file's array, to be written to."""
    whole = np.lib.format.open_memmap(path, "r+")
    return np.memmap(path, whole.dtype, "r+", whole.offset, (rows, *whole.shape[1:]))


def _reserve(path: Path, needed: int) -> None:
    """Take the file's space now: where a disk fills up meanwhile, writing to mapped memory kills the process. Raises
    InputError where it is full."""
    if not _CAN_RESERVE:
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise _too_large(needed, path.parent) from error
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # of file systems that cannot promise space
                raise


def _too_large(needed: int, folder: Path) -> InputError:
    return InputError(
        f"the views of the cases take {amount(needed)}, {amount(shutil.disk_usage(folder).free)} are free in {folder}; "
        "use another --workspace, or fewer --views or --slices"
    )


def changed(
    sample: tuple[Tensor, Tensor, Tensor], augment: Augment | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A view of a `LabelledStack.sample`: image (3, S, S), normalised as SAM's, and labels (T, S, S)."""
    picture, valid, label = (part[None] for part in sample)
    unknown = (label == truth.UNKNOWN).flatten(2).all(2)
    if augment is not None:
        picture, valid, label = augment(picture, valid, label, generator)
    label[unknown] = truth.UNKNOWN  # also where a moved view shows what is beside the frame
    return (normalised(picture) * valid)[0], label[0]


def masks_of(labels: Tensor, fine: Tensor | None = None) -> Tensor:
    """Labels (…, T, S, S) as decoders are to find them: (…, T, S/4, S/4) bool, which are the target by half.

    fine (…, T) bool: of these targets the pixel that is most the target's stays where none is by half.
    """
    shares = F.avg_pool2d((labels == 1).float(), 4)
    masks = shares >= 0.5
    if fine is not None:
        lost = fine & ~masks.flatten(-2).any(-1) & (shares.flatten(-2) > 0).any(-1)
        most = F.one_hot(shares.flatten(-2).argmax(-1), shares.shape[-1] * shares.shape[-2])
        masks |= lost[..., None, None] & most.bool().view(masks.shape)
    return masks
