"""One image with its segmentation, looked at: what it is like, and what of each target it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy import ndimage

from ProMISeCore import truth, volumes
from ProMISeCore.errors import InputError
from ProMISeCore.pairs import Pair, content

_CT = -200  # a volume with whole numbers below this is CT
_AIR = (-1025.0, -990.0)  # lowest value of a CT, with what interpolation makes of it
_WIDE = 2  # times, width to thickness
_LARGE = 0.5  # of a target's largest area, from which it does not end but is cut off
_SINGLE = 0.9  # share of a target's voxels in its largest piece, from which it counts as one piece


@dataclass
class State:
    """A target in a case: labelled, empty (known to be absent) or unknown. low, high: its 5th and 95th percentile;
    abrupt: whether it is large on the first and the last slice that have it, and the next ones are known not to, or so
    on both sides of a gap; share: of a square around a slice, what its largest area takes."""

    state: str
    voxels: int = 0
    slices: int = 0
    unknown_slices: int = 0
    unknown_share: float = 0.0
    low: float = 0.0
    high: float = 0.0
    single: bool = True
    abrupt: bool = False
    share: float = 0.0

    @classmethod
    def of(cls, stack: volumes.Stack, volume: volumes.Volume, one: np.ndarray) -> State:
        """What a target's labels (K, J, I), as `truth.read` gives them, say. stack: the volume as it is cut."""
        there, slices = one == 1, stack.canonical(one)
        unknown = int((slices == truth.UNKNOWN).all((1, 2)).sum())
        unknown_share = round(float((one == truth.UNKNOWN).mean()), 4)
        if not there.any():
            return cls("unknown" if unknown == len(slices) else "empty", 0, 0, unknown, unknown_share)
        grey = volume.voxels if volume.voxels.ndim == 3 else volume.voxels.mean(-1)
        low, high = np.percentile(grey[there], (5, 95))
        pieces, _ = ndimage.label(there)
        sizes = np.bincount(pieces.ravel())[1:]
        return cls(
            "labelled",
            int(there.sum()),
            int((slices == 1).any((1, 2)).sum()),
            unknown,
            unknown_share,
            float(low),
            float(high),
            bool(sizes.max() >= _SINGLE * sizes.sum()),
            not volume.picture and _is_abrupt(slices, stack),
            _share(slices, stack),
        )

    def entry(self) -> dict[str, Any]:
        """For JSON."""
        return {key: getattr(self, key) for key in ("state", "voxels", "slices", "unknown_slices", "unknown_share")}

    def words(self) -> str:
        """For people."""
        if self.state != "labelled":
            return self.state
        left_out = f", {self.unknown_slices} unknown" if self.unknown_slices else ""
        return f"{self.slices} slices{left_out}"


def _share(slices: np.ndarray, stack: volumes.Stack) -> float:
    """As `State.share`, of a target's labels (n, H, W)."""
    longest = max(length * mm for length, mm in zip(slices.shape[1:], stack.spacing_rc, strict=True))
    return float((slices == 1).sum((1, 2)).max() * np.prod(stack.spacing_rc) / longest**2)


def _is_abrupt(slices: np.ndarray, stack: volumes.Stack) -> bool:
    """As `State.abrupt`, of a target's labels (n, H, W) of which some are.

    On two slices small things are large on both: only what is far wider than these are thick is cut off there.
    """
    areas, known = (slices == 1).sum((1, 2)), (slices != truth.UNKNOWN).any((1, 2))
    count, width = np.count_nonzero(areas), 2 * np.sqrt(areas.max() * np.prod(stack.spacing_rc) / np.pi)
    if count < 2 or (count == 2 and width < _WIDE * count * stack.spacing_slice):
        return False  # of a single slice `truth.read` takes the others for unknown
    large, without = areas >= _LARGE * areas.max(), known & (areas == 0)
    ends = np.flatnonzero(large[:-1] & without[1:])  # from a large slice to one without
    begins = np.flatnonzero(without[:-1] & large[1:]) + 1
    there = np.flatnonzero(areas)
    is_cut_off = there[0] in begins and there[-1] in ends
    return bool(is_cut_off or any(a in ends and b in begins for a, b in zip(there[:-1], there[1:], strict=True)))


@dataclass
class Case:
    """One pair, looked at. use: learn, held-out, both or left out; why: the reason of the last."""

    pair: Pair
    use: str = "learn"
    why: str = ""
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    affine: tuple[tuple[float, ...], ...] = ()  # IJK → RAS
    orientation: str = "image"
    unreadable: str = ""
    acquired: str = ""  # the orientation across its thickest direction, where there is one
    intensities: tuple[float, float] = (0.0, 0.0)
    lowest: float = 0.0
    whole: bool = False
    picture: bool = False
    overlapping: frozenset[frozenset[str]] = frozenset()  # pairs of targets that share voxels
    states: dict[str, State] = field(default_factory=dict)

    @cached_property
    def contents(self) -> dict[str, int | None]:
        """As `truth.contents`; where the file cannot tell, nothing, and `unreadable` says why."""
        try:
            return truth.contents(self.pair.label)
        except InputError as error:
            self.unreadable = str(error)
            return {}

    @property
    def look(self) -> tuple:
        """What is the same of equal images, without reading them."""
        return self.shape, self.intensities

    @cached_property
    def image_content(self) -> str:
        """As `pairs.content`."""
        return content(self.pair.image)

    @property
    def is_ct(self) -> bool:
        """As its values tell: whole numbers far below zero, or, resampled, fractions from that of air on."""
        return not self.picture and self.lowest < _CT and (self.whole or _AIR[0] <= self.lowest <= _AIR[1])

    @cached_property
    def label_content(self) -> str:
        """As `pairs.content`."""
        return content(self.pair.label)

    @property
    def labelled(self) -> list[str]:
        """Targets that it holds."""
        return [name for name, state in self.states.items() if state.state == "labelled"]

    @property
    def known_slices(self) -> int:
        """How many there are to learn from, about: those with a target, and two without."""
        return 1 if self.picture else max(state.slices for state in self.states.values()) + 2

    def entry(self) -> dict[str, Any]:
        """For JSON, as docs/teach.md describes it."""
        return {
            "case": self.pair.name,
            "image": str(self.pair.image.resolve()),
            "label": str(self.pair.label.resolve()),
            "use": self.use,
            "shape": list(self.shape),
            "spacing_mm": list(self.spacing),
            "orientation": self.orientation,
            "intensities": [float(value) for value in self.intensities],
            "targets": {name: state.entry() for name, state in self.states.items()},
        }
