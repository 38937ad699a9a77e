"""One volume, one model: slices are segmented from a wished-for one outwards, and prompted again at will."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ProMISeCore import corrections, devices, masks
from ProMISeCore.answers import Answer, Answers
from ProMISeCore.between import Between
from ProMISeCore.bit_masks import BitMasks
from ProMISeCore.cache import Cache
from ProMISeCore.embedder import Arrays, Embedder, size
from ProMISeCore.errors import InputError
from ProMISeCore.frame import Frame
from ProMISeCore.given import Given
from ProMISeCore.markups import Prompts
from ProMISeCore.promise import Promise
from ProMISeCore.slice_result import SliceResult
from ProMISeCore.volumes import AXES, Stack, Volume, Window, pictures

#: What Python, torch and the reading of files take before anything is segmented.
_PROCESS_BYTES = 400_000_000


@dataclass(frozen=True)
class Estimate:
    """What a pass over the volume will take: slices, how many of them to encode, seconds, bytes."""

    slices: int
    encode: int
    seconds: float
    memory_bytes: int
    disk_bytes: int


class Segmenter:
    """A model at work on one volume. The model is moved to the device and put into evaluation mode.

    device: "auto", "cpu", "cuda", "mps"; axis: the slices' orientation, the manifest's unless given; cache: embeddings
    on disk (None keeps the recent ones in memory only); batch: slices encoded at once, sized to the memory unless
    given; notice: called with each thing the user should know, once (also in `notices`); exact: float32 and
    segment_anything's own order of operations throughout, slower.
    Raises InputError for a volume without slices that can be segmented.
    """

    def __init__(
        self,
        model: Promise,
        volume: Volume,
        device: str = "auto",
        axis: str | None = None,
        cache: Cache | None = None,
        batch: int | None = None,
        notice: Callable[[str], None] | None = None,
        exact: bool = False,
    ) -> None:
        self.model, self.volume = model.eval(), volume
        self.notices: list[str] = []
        self._notice = notice or logging.getLogger(__name__).warning
        manifest = model.manifest
        self.targets = tuple(model.targets)
        self.stack = Stack(volume, self._choose_axis(axis, manifest.orientation))
        self.stack.check_shows_something()
        _, height, width = self.stack.shape
        self.frame = Frame(height, width, model.sam.side, manifest.padding, self.stack.spacing_rc)
        self.window = Window.of(manifest.window, volume.voxels)
        self._pictures = pictures(self.stack, self.window, manifest.channels)
        self._cut = masks.cut(manifest.threshold)
        self._rivals = {info.name: manifest.rivals(info.name) for info in manifest.targets}
        self._masks = {name: BitMasks(self.stack.shape) for name in self.targets}
        self._points: dict[tuple[str, int], tuple[np.ndarray, np.ndarray, str]] = {}
        self._touched: dict[tuple[str, int], None] = {}  # (target, slice) prompted by the user, in that order
        self._embedder = Embedder(model, device, cache, batch, exact, self._say)
        self._answers = Answers(model, self._pictures, self.frame, self._embedder)
        smoothing = (self.stack.spacing_slice, manifest.smoothing_mm, self._cut)
        self._between = Between(self._answers, self._embedder, len(self), *smoothing)
        self._chain = corrections.Chain()
        self._known: SliceResult | None = None
        self._answered: tuple[tuple, np.ndarray] | None = None

    def __len__(self) -> int:
        return self.stack.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the model is now; the CPU after an accelerator's memory ran out."""
        return self._embedder.device

    @property
    def precision(self) -> str:
        """Of the encoder: "float32" or "bfloat16"."""
        return self._embedder.precision

    @property
    def encoded(self) -> int:
        """How many slices were encoded so far; the others came from the cache."""
        return self._embedder.count

    # Passes over the volume

    def order(self, first: int | None = None) -> list[int]:
        """All slices, nearest to `first` (the middle one unless given) outwards."""
        first = len(self) // 2 if first is None else self._checked(first)
        return sorted(range(len(self)), key=lambda n: (abs(n - first), -n))

    def segment_volume(
        self, first: int | None = None, cancel: Callable[[], bool] | None = None
    ) -> Iterator[SliceResult]:
        """Segment every slice automatically, `first` first, and yield each as it is done.

        `cancel` is asked before every batch; True ends the pass, what is done stays in `masks()`. Targets that the
        user has prompted on a slice keep the user's result and are left out of that slice's result. Where neighbouring
        slices have a say (the manifest's smoothing_mm), the first slice comes when its neighbours are solved, too.
        """
        waiting = self.order(first)
        count = 1  # the first slice alone: it is there soonest, and tells what a slice needs
        while waiting:
            batch, waiting = waiting[:count], waiting[count:]
            answers = self._between.get(batch, cancel or (lambda: False))
            if answers is None:
                return
            results = [self._decided(n, of_slice) for n, of_slice in zip(batch, answers, strict=True)]
            for result in results:
                self._record(result, "auto")
            yield from results
            count = self._embedder.batch

    def segment_slice(
        self,
        n: int,
        target: str | None = None,
        points_rc: Sequence | np.ndarray | None = None,
        labels: Sequence[int] | np.ndarray | None = None,
        box_rc: Sequence[float] | np.ndarray | None = None,
        mask: np.ndarray | None = None,
        own: Sequence[bool] | np.ndarray | None = None,
    ) -> SliceResult:
        """Segment slice n again, from its cached embedding.

        points_rc (N, 2) as (row, column) with labels (N,) 1 foreground, 0 background; box_rc (4,) as (row, column, row,
        column); mask (H, W). With any of them: that target (the first unless given), and presence does not count.
        Without: the automatic result of that target, or of all. Raises InputError for prompts that do not fit.

        own (N,): which points are a person's. They correct what the other prompts lead to, one after another as
        `corrections` says; without other prompts that is the automatic mask, of whose points none are left (of single
        organs, its pieces that the person's points are in). Where own is not given, all are, and without other prompts
        all points together are what the mask starts from.
        """
        n, given = self._checked(n), Given.of(points_rc, labels, box_rc, mask, own)
        if target is not None and target not in self.targets:
            raise InputError(f"the pack has no target {target!r}; it has {', '.join(self.targets)}")
        if given:
            target = target or self.targets[0]
            solve = self._corrected if self._corrects(n, target, given) else self._prompted
            result = solve(n, target, given)
            self._record(result, "user")
            return result
        released = self.targets if target is None else (target,)
        for name in released:
            self._touched.pop((name, n), None)
        result = self._automatic(n)
        self._record(result, "auto")
        return result if target is None else result.only(target)

    def estimate(self, first: int | None = None) -> Estimate:
        """Time one slice (it is kept for the pass that follows) and project: an upper bound within a factor of two."""
        order, embedder = self.order(first), self._embedder
        sample = order[:: max(1, len(order) // 8)][:8]
        fresh = [n for n in sample if not embedder.knows(n, self._answers.image(n))]
        encode_seconds = 0.0
        for n in fresh[:2]:  # the second time without what a first time sets up, unless that takes long
            encode_seconds = _seconds(lambda n=n: embedder.embed([n], self._answers.image))
            if encode_seconds > 1:
                break
        self._solve_as_in_a_pass(order[0])
        decode_seconds = _seconds(lambda: self._solve_as_in_a_pass(order[0]))
        count = round(len(order) * len(fresh) / len(sample))
        bytes_per_slice = size(embedder.embed(order[:1], self._answers.image)[0])
        return Estimate(
            slices=len(order),
            encode=count,
            seconds=count * encode_seconds + len(order) * decode_seconds,
            memory_bytes=self._memory_bytes(bytes_per_slice),
            disk_bytes=count * bytes_per_slice if embedder.cache is not None else 0,
        )

    # Results

    def masks(self) -> dict[str, np.ndarray]:
        """What is done so far: target → (K, J, I) bool on the volume's own grid, slices not done empty."""
        manifest = self.model.manifest
        found = {name: done.whole() for name, done in self._masks.items()}
        if manifest.largest_component:
            found = {name: masks.largest_piece(mask, self._by_user(name)) for name, mask in found.items()}
        for name, n in self._touched:
            for other in self._rivals[name]:
                found[other][n] &= ~found[name][n]
        return {name: np.ascontiguousarray(self.stack.join(mask)) for name, mask in found.items()}

    def prompts(self) -> dict[str, Prompts]:
        """The points behind the masks, per target. Slices that came out empty are left out, unless the user's."""
        return {name: self._prompts_of(name) for name in self.targets}

    def view(self, n: int) -> np.ndarray:
        """Slice n (H, W, C) 0…255 in the pack's window; one channel where the encoder sees neighbours in the others."""
        picture = np.asarray(self._pictures[n])
        is_colour = self.volume.voxels.ndim == 4
        return picture[..., 1:2] if self._pictures.channels == "neighbours" and not is_colour else picture

    def _prompts_of(self, target: str) -> Prompts:
        kept = [
            (n, points, labels, source)
            for (name, n), (points, labels, source) in sorted(self._points.items())
            if name == target and (source == "user" or not self._masks[target].is_empty(n))
        ]
        return Prompts(
            np.concatenate([np.zeros((0, 3)), *[self.stack.rc_to_ras(n, points) for n, points, _, _ in kept]]),
            np.concatenate([np.zeros(0, int), *[labels for _, _, labels, _ in kept]]),
            np.array([source == "user" for _, points, _, source in kept for _ in points], bool),
        )

    def _by_user(self, target: str) -> np.ndarray:
        """(n, 1, 1) bool: slices on which the user has prompted this target."""
        slices = [n for name, n in self._touched if name == target]
        return np.isin(np.arange(len(self)), slices)[:, None, None]

    def _record(self, result: SliceResult, source: str) -> None:
        for name in [name for name in result.masks if source == "auto" and (name, result.index) in self._touched]:
            for values in vars(result).values():
                if isinstance(values, dict):
                    values.pop(name, None)
        for name, mask in result.masks.items():
            place = (name, result.index)
            self._masks[name][result.index] = mask
            self._points.pop(place, None)
            if name in result.points_rc:
                self._points[place] = (result.points_rc[name], result.labels[name], source)
            if source == "user":
                self._touched.pop(place, None)  # the latest is last
                self._touched[place] = None

    # One slice

    def _solve_as_in_a_pass(self, n: int) -> None:
        """The slice itself is computed although it may be known; its neighbours, whose turn it is not, are not."""
        (answers,) = self._answers.solve([n])
        self._between.averaged(n, dict.fromkeys(self._between.around(n), answers))

    def _automatic(self, n: int) -> SliceResult:
        (answers,) = self._between.get([n])
        return self._decided(n, answers)

    def _decided(self, n: int, answers: dict[str, Answer]) -> SliceResult:
        """Slice n with a mask of every target: absent ones empty, exclusive ones apart."""
        result, manifest = self._result(n, answers), self.model.manifest
        for name in answers:
            if name in result.points_rc:
                result.labels[name] = self.model.targets[name].point_labels.cpu().numpy().astype(int)
        least = manifest.presence_threshold
        there = {name: logits for name, logits in result.logits.items() if result.presence.get(name, 1.0) >= least}
        result.masks.update({name: np.zeros(self.stack.shape[1:], bool) for name in result.logits})
        result.masks.update(masks.apart(there, self._cut, self._rivals))
        return result

    def _prompted(self, n: int, target: str, given: Given) -> SliceResult:
        prompts = given.tensors(self.frame)

        @torch.inference_mode()
        def solve(items: list[tuple[int, Arrays]]) -> list[Answer]:
            on_device = {name: tensor.to(self.device) for name, tensor in prompts.items()}
            output = self.model.solve(self._answers.encoded(items), target, **on_device)
            return [Answer.of(output, 0, f"{target!r} on slice {n}")]

        (arrays,) = self._embedder.embed([n], self._answers.image)
        (answer,) = self._embedder.in_batches(solve, [(n, arrays)])
        result = self._result(n, {target: answer})
        if "labels" in prompts:
            result.labels[target] = given.labels.astype(int)
        result.masks[target] = self._asked(result.logits[target] > self._cut, given)
        return result

    def _asked(self, mask: np.ndarray, given: Given) -> np.ndarray:
        """Of single organs, the pieces that the prompts are in."""
        if not self.model.manifest.largest_component:
            return mask
        return masks.prompted_pieces(mask, given.points_rc, given.labels, given.mask)

    def _corrects(self, n: int, target: str, given: Given) -> bool:
        """Whether the prompts change a mask that is there, rather than ask for one."""
        if given.own.any():
            return True
        gone = self._gone(n, target, given)
        # None gone, as when one's own points are deleted: neighbours and other targets have their say again.
        return bool(gone or (gone == [] and self._before(n).masks[target].any()))

    def _corrected(self, n: int, target: str, given: Given) -> SliceResult:
        """Slice n after a person's points, one after another, on the mask that the other prompts lead to."""
        result, automatic = self._prompted(n, target, given), given.before(0)
        rival = functools.cache(lambda: self._rival(n, target))

        def answer(count: int) -> np.ndarray:
            whole = count == given.own.sum()
            logits = (result if whole else self._prompted(n, target, given.before(count))).logits[target]
            return logits > np.maximum(self._cut, rival())

        own = corrections.clicks(given.points_rc[given.own], given.labels[given.own])
        joint = not (given.told or automatic)  # nothing but points that all are the first question
        start = result.masks[target] if joint else self._start(n, target, automatic, own, lambda: answer(0))
        place = (n, target, (given if joint else automatic).key, start.tobytes())
        mask = self._chain.follow(place, own, lambda: start, answer, self.view(n))
        result.masks[target] = mask.copy()
        result.logits[target] = corrections.agreeing(result.logits[target], mask, self._cut)
        return result

    def _start(
        self, n: int, target: str, automatic: Given, own: list[corrections.Click], answer: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """The mask that there was before a person's points: the one given, the automatic one without what hung on
        points that were taken away, or what a box (also with a mask) or other points led to."""
        if automatic.mask is not None and automatic.box_rc is None:
            mask = automatic.mask
            return mask > 0 if mask.dtype.kind == "f" else mask != 0
        gone = self._gone(n, target, automatic)
        if gone is None:
            return self._prompted(n, target, automatic).masks[target]
        mask, single = self._before(n).masks[target], self.model.manifest.largest_component
        pixels, signs = np.array([click.pixel for click in own]), np.array([click.positive for click in own])
        if automatic and single:
            shown = masks.organ_pieces(mask, automatic.points_rc, automatic.labels)
            mask = shown | masks.asked_pieces(mask, pixels, signs)
        if not gone:
            return mask
        left = corrections.without(mask, gone, self._left(n, target, automatic, answer), own)
        if automatic.labels.any() or not single:
            return left
        # Nobody asks for the other pieces any more; what is shown may well be without them, as of the whole volume.
        return masks.asked_pieces(left, pixels, signs)

    def _left(self, n: int, target: str, automatic: Given, answer: Callable[[], np.ndarray]) -> np.ndarray:
        """The decoder's mask with the automatic points that are left: nothing without one that marks the target."""
        key = (n, target, automatic.key)
        if self._answered is None or self._answered[0] != key:
            some = automatic.labels.any()
            self._answered = (key, answer() if some else np.zeros(self.stack.shape[1:], bool))
        return self._answered[1]

    def _gone(self, n: int, target: str, given: Given) -> list[corrections.Click] | None:
        """Automatic points of slice n that a person took away; None where the prompts are not what is left of them."""
        automatic = given.before(0)
        if automatic.box_rc is not None or automatic.mask is not None or not (automatic or given.told):
            return None
        result = self._before(n)
        if target not in result.points_rc:
            return None if automatic else []
        placed, signs = result.points_rc[target], result.labels[target]
        gone = automatic.gone(placed, signs)
        return None if gone is None else corrections.clicks(placed[gone], signs[gone])

    def _before(self, n: int) -> SliceResult:
        """The automatic result of slice n; that of the slice asked for last is kept, as clicks come one by one."""
        if self._known is None or self._known.index != n:
            self._known = self._automatic(n)
        return self._known

    def _rival(self, n: int, target: str) -> np.ndarray | float:
        """The highest logits (H, W) of other targets that are there, where targets exclude each other."""
        if not self._rivals[target]:
            return -np.inf
        result, least = self._before(n), self.model.manifest.presence_threshold
        others = [name for name in self._rivals[target] if result.presence.get(name, 1.0) >= least]
        return np.max([result.logits[name] for name in others], axis=0, initial=-np.inf)

    def _result(self, n: int, answers: dict[str, Answer]) -> SliceResult:
        """Slice n on its own pixels; masks and the points' labels still to be set."""
        result = SliceResult(n)
        for name, answer in answers.items():
            low = answer.logits.astype(np.float32)
            if self.model.manifest.opening:
                low = masks.without_specks(low, self.model.manifest.opening, self._cut)
            result.logits[name] = self.frame.logits(torch.from_numpy(low)).numpy()
            result.iou[name] = answer.iou
            if answer.points_xy is not None:
                result.points_rc[name] = self.frame.xy_to_rc(answer.points_xy.astype(float))
            if answer.presence is not None:
                result.presence[name] = answer.presence
        return result

    # Limits

    def _checked(self, n: int) -> int:
        if not 0 <= n < len(self):
            raise InputError(f"there is no slice {n}; {self.volume.name!r} has slices 0 to {len(self) - 1}")
        return int(n)

    def _choose_axis(self, axis: str | None, trained: str) -> str:
        kind = "a picture" if self.volume.picture else "a volume"
        single = self.volume.picture or len(self.volume.voxels) == 1  # a DICOM file's X-ray is one
        fits = single if trained == "image" else not self.volume.picture
        if not fits:
            pack = "pictures" if trained == "image" else f"{trained} slices of volumes"
            self._say(f"{self.volume.name!r} is {kind}, the pack was trained on {pack}: expect poor results")
        if self.volume.picture:
            return "image"
        if axis is not None and axis not in (*AXES, "image"):
            raise InputError(f"unknown axis {axis!r}; choose one of {', '.join(AXES)}")
        if axis is not None and trained in AXES and axis != trained:
            self._say(f"the pack was trained on {trained} slices, these are {axis}: expect poor results")
        return axis or trained

    def _say(self, message: str) -> None:
        if message not in self.notices:
            self.notices.append(message)
            self._notice(message)

    def _memory_bytes(self, bytes_per_slice: int) -> int:
        sam = self.model.sam
        weights = sum(tensor.numel() * tensor.element_size() for tensor in self.model.state_dict().values())
        kept = self._embedder.held(len(self), bytes_per_slice)
        results = (1 + len(self.targets)) * int(np.prod(self.stack.shape))  # masks when handed out
        results += self._between.held * len(self.targets) * (sam.side // 4) ** 2 * 2  # logits of 16 bits
        working = devices.working_bytes(sam.architecture, sam.side)
        return _PROCESS_BYTES + weights + kept + results + self.volume.voxels.nbytes + working


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
