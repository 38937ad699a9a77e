"""What computes: the interface that a session needs, and ProMISeCore behind it. Arrays only; runs in the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from . import environment, packfile


@dataclass
class SliceResult:
    """One slice, per target: mask (H, W) bool, points (N, 2) as (row, column) with labels (N,) 1/0, predicted IoU."""

    index: int
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    points_rc: dict[str, np.ndarray] = field(default_factory=dict)
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    iou: dict[str, float] = field(default_factory=dict)


class Engine(Protocol):
    """A session calls `open` first, and all but `check` from one thread. Results may be the core's SliceResult too.

    notices: what the user should know, as that the cache cannot be written; the session takes them out.
    """

    notices: list[str]

    def check(self) -> None:
        """Raise an error that teaches if something is missing; quick, loads nothing."""

    def settings(self) -> dict[str, Any]:
        """What a scene records of how it was computed; plain JSON."""

    def open(self, volume: Any, manifest: Any, axis: str | None) -> None:
        """Get ready for a `ProMISeCore.volumes.Volume` and a manifest; may take long."""

    def segmentVolume(self, first: int | None, cancelled: Callable[[], bool]) -> Iterator[SliceResult]:
        """Every slice, `first` first, automatically."""

    def segmentSlice(self, n: int, target: str, points, labels, box, mask, own) -> SliceResult:
        """One target on slice n: points (N, 2) row, column; labels (N,); box (4,) row, column twice; mask (H, W).

        own (N,) bool: the user's points, which correct what the other prompts lead to; all unless given.
        """

    def tidy(self, mask: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """The largest piece of (n, H, W) bool, and pieces that reach slices to keep (n,) bool."""

    def close(self) -> None:
        """Let go of what takes memory."""


class CoreEngine:
    """ProMISeCore at work. packPath: the pack's file; device: "auto", "cpu", "cuda", "mps"; cacheFolder: None = own.

    sha256: of the pack's file as the session knows it, None for whatever is there.
    """

    def __init__(
        self, packPath, device: str = "auto", cacheFolder=None, cacheBytes: float = 10e9, backbone=None, sha256=None
    ):
        self.packPath, self.device, self.backbone, self.sha256 = packPath, device, backbone, sha256
        self.cacheFolder, self.cacheBytes = cacheFolder, cacheBytes
        self.notices: list[str] = []
        self._segmenter = None

    def check(self) -> None:
        environment.requireAll()

    def settings(self) -> dict[str, Any]:
        backbone = None if self.backbone is None else str(Path(self.backbone).name)
        return {"device": self.device, "backbone": backbone, "promise": environment.core().__version__}

    def open(self, volume, manifest, axis: str | None = None) -> None:
        self.check()
        if self.sha256 is not None:
            packfile.checkSame(self.packPath, self.sha256)
        core = environment.core()
        Cache, Segmenter = environment.core("cache").Cache, environment.core("segmenter").Segmenter
        model = core.load(self.packPath, self.backbone, self.device)
        cache = Cache(self.cacheFolder, self.cacheBytes, notice=self.notices.append)
        self._segmenter = Segmenter(model, volume, self.device, axis, cache, notice=self.notices.append)

    def segmentVolume(self, first: int | None, cancelled: Callable[[], bool]) -> Iterator:
        """All targets of all slices: also those prompted before, which the core leaves out. Who asks decides."""
        for result in self._segmenter.segment_volume(first, cancelled):
            for target in [name for name in self._segmenter.targets if name not in result.masks]:
                again = self._segmenter.segment_slice(result.index, target)
                for part, values in vars(result).items():
                    if isinstance(values, dict):
                        values.update(getattr(again, part))
            yield result

    def segmentSlice(self, n: int, target: str, points=None, labels=None, box=None, mask=None, own=None):
        return self._segmenter.segment_slice(n, target, points, labels, box, mask, own)

    def tidy(self, mask: np.ndarray, keep: np.ndarray) -> np.ndarray:
        return environment.core("masks").largest_piece(mask, keep[:, None, None])

    def close(self) -> None:
        self._segmenter = None
