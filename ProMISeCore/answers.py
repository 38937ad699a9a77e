"""What a model says of slices that nobody has prompted, one by one, kept on disk: a volume seen before is read.

An answer depends on the slice's voxels, its frame, the weights of backbone and pack and the way they are computed in;
all of these are in its key. Threshold, opening, what neighbouring slices say and what is decided between targets come
after it. Logits pass through float16, fresh or read, so both give the same masks.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ProMISeCore.cache import Cache
from ProMISeCore.embedder import Arrays, Embedder
from ProMISeCore.errors import WeightsError
from ProMISeCore.frame import Frame
from ProMISeCore.promise import Encoded, Output, Promise
from ProMISeCore.refiner import seen
from ProMISeCore.volumes import Pictures

#: To be raised when slices become frames, or answers are stored, in another way: older answers are then not found.
_VERSION = 1
_HALF_MAX = 65504.0
_SEEN = 16  # pictures for refiners that are kept


@dataclass(frozen=True)
class Answer:
    """Of one target on one slice: logits (S/4, S/4) of the method's mask, float16 (float32 where `between` has averaged
    them), SAM's guess of its IoU, the points (N, 2) float32 x, y in frame pixels and the presence probability, the last
    two None where the pack has none."""

    logits: np.ndarray
    iou: float
    points_xy: np.ndarray | None = None
    presence: float | None = None

    @classmethod
    def of(cls, output: Output, i: int, what: str) -> Answer:
        """Batch entry i of an output. Raises WeightsError, naming `what`, for logits that are no numbers."""
        logits = output.logits[i, 0]
        if not torch.isfinite(logits).all():
            raise WeightsError(f"{what} gave values that are not numbers; the pack may be damaged")
        half = logits.float().clamp(-_HALF_MAX, _HALF_MAX).half().cpu().numpy()
        points = None if output.points is None else output.points[i].float().cpu().numpy()
        presence = None if output.presence is None else float(output.presence[i])
        return cls(half, float(output.iou[i, 0]), points, presence)


class Answers:
    """Answers of a model on the slices of a stack, in the cache where there is one. embedder: of the same model."""

    def __init__(self, model: Promise, pictures: Pictures, frame: Frame, embedder: Embedder) -> None:
        self._model, self._names = model, tuple(model.targets)
        self._pictures, self._frame, self._embedder = pictures, frame, embedder
        shape = (frame.height, frame.width, frame.rows, frame.columns, frame.side)
        self._seen = functools.lru_cache(_SEEN)(lambda n: seen(self.image(n)[None])[0])
        self._made_by = f"{_VERSION}|{shape}|{model.fingerprint()}|{model.sam.exact}"

    def image(self, n: int) -> Tensor:
        """What the encoder sees of slice n, (3, S, S) normalised."""
        return self._frame.image(self._pictures[n])

    def solve(self, ns: Sequence[int]) -> list[dict[str, Answer]]:
        """All targets' answers on slices `ns`, computed now and kept."""
        arrays = self._embedder.embed(ns, self.image)
        solved = self._embedder.in_batches(self._decode, list(zip(ns, arrays, strict=True)))
        for n, answers in zip(ns, solved, strict=True):
            self._put(n, answers)
        return solved

    def encoded(self, items: Sequence[tuple[int, Arrays]]) -> Encoded:
        """Slices and their embeddings as the model takes them."""
        pictures = [self._seen(n) for n, _ in items] if self._model.refines else []
        return self._embedder.encoded([arrays for _, arrays in items], pictures)

    def get(self, n: int) -> dict[str, Answer] | None:
        """All targets' answers on slice n, None where they are not known."""
        cache = self._cache
        arrays = None if cache is None else cache.get(self._key(n))
        if arrays is None:
            return None
        return {name: _read(arrays, number) for number, name in enumerate(self._names)}

    @torch.inference_mode()
    def _decode(self, items: list[tuple[int, Arrays]]) -> list[dict[str, Answer]]:
        encoded = self.encoded(items)
        outputs = {name: self._model.solve(encoded, name) for name in self._names}
        return [
            {name: Answer.of(output, i, f"{name!r} on slice {n}") for name, output in outputs.items()}
            for i, (n, _) in enumerate(items)
        ]

    def _put(self, n: int, answers: Mapping[str, Answer]) -> None:
        if self._cache is not None:
            arrays: dict[str, np.ndarray] = {}
            for number, name in enumerate(self._names):
                arrays |= _written(answers[name], number)
            self._cache.put(self._key(n), arrays)

    @property
    def _cache(self) -> Cache | None:
        return self._embedder.cache

    def _key(self, n: int) -> str:
        digest = hashlib.sha256(f"answer|{self._made_by}|{self._embedder.way}|".encode())
        digest.update(self._pictures.identity(n))
        return digest.hexdigest()


def _written(answer: Answer, number: int) -> dict[str, np.ndarray]:
    """As arrays of 16 bits, which is what a cache holds: other numbers are two halves of a float32 each."""
    points = np.zeros((0, 2)) if answer.points_xy is None else answer.points_xy
    presence = np.nan if answer.presence is None else answer.presence
    numbers = np.concatenate([[answer.iou, presence], np.ravel(points)]).astype("<f4")
    return {f"{number}.logits": answer.logits, f"{number}.numbers": numbers.view("<f2")}


def _read(arrays: Mapping[str, np.ndarray], number: int) -> Answer:
    iou, presence, *points = arrays[f"{number}.numbers"].view("<f4")
    points_xy = np.array(points, np.float32).reshape(-1, 2) if points else None
    return Answer(arrays[f"{number}.logits"], float(iou), points_xy, None if np.isnan(presence) else float(presence))
