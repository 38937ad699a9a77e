"""What is there to learn from: every case looked at once, what is wrong with it, and what is proposed and estimated."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ProMISeCore import backbones, pairs, truth, volumes
from ProMISeCore.errors import InputError
from ProMISeCore.pairs import Pair
from ProMISeCore.terminal import amount, duration, table

#: Seconds to encode a view at the backbone's own frame side on two CPU cores, measured by `promise bench`, for
#: estimates and for how many views fit.
_ENCODE_SECONDS = {"tiny": 0.06, "mobile_sam": 0.9, "vit_b": 6.6, "vit_l": 18.0, "vit_h": 35.0}
_ENCODED, _ENCODED_SMALL = 0.25, 0.12  # of the time; on small slices most is learned from pictures
_CT = -200  # a volume with whole numbers below this is CT
_PROCESS_BYTES = 600_000_000
_SMALL, _SMALL_LONG = 96, 256  # pixels, of the second longest and of the longest side of a case
_LEAST_ENCODING = 0.3  # of the time at the backbone's own frame side: smaller frames gain less than their area
_SINGLE = 0.9  # share of a target's voxels in its largest piece, from which it counts as one piece


@dataclass(frozen=True)
class Wish:
    """What was asked for; None where the survey shall propose. held_out: names, a share, or () for none; judge_only:
    such cases are not learned from in the end either; seen: `pairs.content` of images that the pack to go on from has
    learned from."""

    name: str
    targets: Mapping[str, int | None] | None = None
    backbone: str = "tiny"
    side: int | None = None
    minutes: float | None = 10.0
    held_out: Sequence[str] | float | None = None
    orientation: str | None = None
    window: Mapping[str, Any] | None = None
    channels: str | None = None
    unlabelled: str = "auto"
    slices: int | None = None
    views: int | None = None
    seed: int = 0
    judge_only: bool = False
    seen: Set[str] = frozenset()


@dataclass
class State:
    """A target in a case: labelled, empty (known to be absent) or unknown. low, high: its 5th and 95th percentile."""

    state: str
    voxels: int = 0
    slices: int = 0
    unknown_slices: int = 0
    low: float = 0.0
    high: float = 0.0
    single: bool = True


@dataclass
class Case:
    """One pair, looked at. use: learn, held-out, both or left out; why: the reason of the last."""

    pair: Pair
    use: str = "learn"
    why: str = ""
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    orientation: str = "image"
    intensities: tuple[float, float] = (0.0, 0.0)
    lowest: float = 0.0
    whole: bool = False
    picture: bool = False
    overlapping: bool = False
    states: dict[str, State] = field(default_factory=dict)


class Survey:
    """The cases found, each with its use, and the proposals. Raises InputError where there is no image at all."""

    def __init__(self, images: Sequence[str], labels: Sequence[str] | None, wish: Wish) -> None:
        self.wish = wish
        found, self.unlabelled = pairs.sort_out(images, labels)
        self.cases = [Case(pair) for pair in found]
        self.problems: list[dict[str, str | None]] = []
        self.targets = dict(wish.targets) if wish.targets else self._all_targets()
        readable = [case for case in self.cases if self._look(case)]
        self.picture = bool(readable) and readable[0].picture
        self._leave_out_other_kinds(readable)
        self.orientation = wish.orientation or self._orientation()
        self.channels = wish.channels or ("repeat" if self.picture else "neighbours")
        for case in self.usable:
            self._inspect(case)
        self._complain_about_targets()
        self.window = dict(wish.window) if wish.window else self._window()
        self.within = False
        self._hold_out()
        self.slices, self.views = self._size()

    # What was found

    @property
    def usable(self) -> list[Case]:
        """Cases that are not left out."""
        return [case for case in self.cases if case.use != "left out"]

    @property
    def learn(self) -> list[Case]:
        """Cases that are learned from."""
        return [case for case in self.cases if case.use in ("learn", "both")]

    @property
    def held(self) -> list[Case]:
        """Cases that scores are of."""
        return [case for case in self.cases if case.use in ("held-out", "both")]

    @property
    def learn_at_last(self) -> list[Case]:
        """Cases that are learned from once the scores that they are held out for are known."""
        return [] if self.wish.judge_only else self.held

    @property
    def ready(self) -> bool:
        """Whether anything can be taught."""
        return not any(problem["severity"] == "error" and problem["case"] is None for problem in self.problems)

    @property
    def modality(self) -> str:
        """As far as the files tell."""
        return "RGB" if self.picture else "CT" if self._is_ct() else "MR"

    @property
    def single_pieces(self) -> bool:
        """Whether every target is one piece in every case."""
        states = [state for case in self.usable for state in case.states.values() if state.state == "labelled"]
        return not self.picture and bool(states) and all(state.single for state in states)

    @property
    def small(self) -> bool:
        """Whether slices have so few pixels, whichever way they are cut, that a small network sees all there is: such
        targets get refiners, which on larger slices learn a few cases by heart."""
        sides = [sorted(case.shape)[-2:] for case in self.usable]
        return bool(sides) and all(second <= _SMALL and longest <= _SMALL_LONG for second, longest in sides)

    @property
    def side(self) -> int | None:
        """Of the frames: what was asked for, half of the backbone's own for small slices, or None for its own."""
        known = backbones.TABLE.get(self.wish.backbone)
        return self.wish.side or (known.side // 2 if self.small and known else None)

    @property
    def overlapping(self) -> bool:
        """Whether targets share voxels anywhere."""
        return any(case.overlapping for case in self.usable)

    def _all_targets(self) -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        for case in self.cases:
            try:
                found |= truth.contents(case.pair.label)
            except InputError:
                continue  # told when the case is looked at
        return found

    def _look(self, case: Case) -> bool:
        """Read the image; False, and left out, where that cannot be used."""
        try:
            volume = volumes.read(case.pair.image)
        except InputError as error:
            return self._leave_out(case, str(error))
        if volume.voxels.min() == volume.voxels.max():
            return self._leave_out(case, f"{case.pair.image} is constant: it shows nothing")
        case.picture, case.shape = volume.picture, volume.voxels.shape[:3]
        case.spacing = tuple(round(float(one), 4) for one in volume.spacing)
        case.intensities = volumes.percentiles(volume.voxels, (0.5, 99.5))
        case.lowest, case.whole = float(volume.voxels.min()), volume.voxels.dtype.kind in "iu"
        if not volume.picture:
            case.orientation = next(axis for axis in volumes.AXES if volumes.Stack(volume, axis).slice_axis == 0)
        return True

    def _inspect(self, case: Case) -> None:
        volume = volumes.read(case.pair.image)
        stack = volumes.Stack(volume, self.orientation)
        try:
            found = truth.read(volume, case.pair.label, self.targets, self.wish.unlabelled, stack.slice_axis)
        except InputError as error:
            self._leave_out(case, str(error))
            return
        case.overlapping = bool(((found == 1).sum(0) > 1).any())
        for name, one in zip(self.targets, found, strict=True):
            case.states[name] = _state(stack, volume, one)
        if not any(state.state == "labelled" for state in case.states.values()) and not self.picture:
            self._leave_out(case, self._why_unlabelled(case))

    def _why_unlabelled(self, case: Case) -> str:
        empty = [name for name in truth.contents(case.pair.label) if name in self.targets]
        if empty:
            return f"nothing is segmented in it yet ({', '.join(empty)}: empty); segment a slice, or leave it out"
        asked, there = ", ".join(self.targets), ", ".join(self._all_targets()) or "nothing"
        return f"it holds none of the targets ({asked}); the cases hold: {there}"

    def _leave_out(self, case: Case, why: str) -> bool:
        case.use, case.why = "left out", why
        self.problems.append({"case": case.pair.name, "what": why, "severity": "error"})
        return False

    def _leave_out_other_kinds(self, readable: Sequence[Case]) -> None:
        for case in readable:
            if case.picture != self.picture:
                kinds = ("a picture", "volumes") if case.picture else ("a volume", "pictures")
                self._leave_out(case, f"it is {kinds[0]} among {kinds[1]}; teach them separately")

    def _complain_about_targets(self) -> None:
        if not self.usable:
            first = f", {self.cases[0].pair.name}: {self.cases[0].why}" if self.cases else ""
            self._error(f"none of {len(self.cases)} labelled cases can be used{first}")
            return
        for name in self.targets:
            labelled = [case for case in self.usable if case.states[name].state == "labelled"]
            missing = [case.pair.name for case in self.usable if case.states[name].state == "unknown"]
            if not labelled:
                self._error(
                    f"the target {name!r} is not labelled in any case; check its name and value, or leave it out"
                )
            elif missing:
                self._warn(None, f"{name!r} is not known in {len(missing)} cases: {', '.join(missing[:5])}")
        if not self.targets:
            self._error("the label maps and segmentations are empty; segment something first")

    def _error(self, what: str) -> None:
        self.problems.append({"case": None, "what": what, "severity": "error"})

    def _warn(self, case: str | None, what: str) -> None:
        self.problems.append({"case": case, "what": what, "severity": "warning"})

    # What is proposed

    def _orientation(self) -> str:
        """Slices across the thickest direction, as they were acquired; axial where there is none."""
        if self.picture:
            return "image"
        votes = []
        for case in self.usable:
            thickest = max(range(3), key=lambda axis, case=case: case.spacing[axis])
            if case.spacing[thickest] > 1.5 * min(case.spacing) and thickest == 2:
                votes.append(case.orientation)
        return max(set(votes), key=votes.count) if 2 * len(votes) > len(self.usable) else "axial"

    def _is_ct(self) -> bool:
        cases = self.usable
        return not self.picture and bool(cases) and all(case.whole and case.lowest < _CT for case in cases)

    def _window(self) -> dict[str, Any]:
        """Of CT, the targets' values with soft tissue around them; else each volume's own range."""
        if self.picture:
            return {"mode": "bytes"}
        states = [state for case in self.usable for state in case.states.values() if state.state == "labelled"]
        if self._is_ct() and states:
            low, high = min(state.low for state in states), max(state.high for state in states)
            return {"mode": "fixed", "low": 10 * round(low / 10) - 150.0, "high": 10 * round(high / 10) + 150.0}
        return {"mode": "percentile", "low": 0.5, "high": 99.5}

    def _hold_out(self) -> None:
        """Mark the held-out cases: those asked for, or complete ones drawn by the seed."""
        cases, wish = self.usable, self.wish.held_out
        if not self.ready or (isinstance(wish, Sequence) and not wish):
            return
        if isinstance(wish, Sequence):
            chosen = self._named(wish)
        elif len(cases) == 1:
            self._hold_out_within(cases[0])
            return
        else:
            share = 0.1 if wish is None else float(wish)
            count = min(len(cases) - 1, max(1, round(share * len(cases))))
            order = np.random.default_rng(self.wish.seed).permutation(len(cases))
            full = [[state.state for state in case.states.values()].count("labelled") for case in cases]
            seen, all_ = list(map(self._is_seen, cases)), len(self.targets)
            order = sorted(order, key=lambda n: (full[n] < all_, seen[n], -full[n]))
            chosen = self._spared([cases[n] for n in order], count)
        if len(chosen) >= len(cases):
            raise InputError(f"all {len(cases)} cases are held out; leave one to learn from")
        for case in chosen:
            case.use = "held-out"
            self._warn_of_flattery(case)
        for name in self.targets:
            if not any(case.states[name].state == "labelled" for case in self.learn):
                self._error(f"{name!r} is labelled in held-out cases only; hold out other cases, or none")

    def _spared(self, cases: Sequence[Case], count: int) -> list[Case]:
        """The first cases of an order without which every target still has a labelled one; at least the very first."""
        chosen: list[Case] = []
        for case in cases:
            rest = [other for other in cases if other is not case and other not in chosen]
            own = [name for name, state in case.states.items() if state.state == "labelled"]
            if all(any(other.states[name].state == "labelled" for other in rest) for name in own):
                chosen.append(case)
            if len(chosen) == count:
                break
        return chosen or list(cases[:1])

    def _is_seen(self, case: Case) -> bool:
        return bool(self.wish.seen) and pairs.content(case.pair.image) in self.wish.seen

    def _warn_of_flattery(self, case: Case) -> None:
        if self._is_seen(case):
            self._warn(case.pair.name, "the pack to go on from has learned from it: its scores flatter")

    def _named(self, names: Sequence[str]) -> list[Case]:
        by_name = {case.pair.name: case for case in self.usable}
        unknown = [name for name in names if name not in by_name]
        if unknown:
            raise InputError(f"--held-out names {', '.join(unknown)}; the cases are {', '.join(by_name)}")
        return [by_name[name] for name in names]

    def _hold_out_within(self, case: Case) -> None:
        if max(state.slices for state in case.states.values()) < 2:
            self._error("one labelled slice is all there is; segment at least two, or another case")
            return
        case.use, self.within = "both", True
        self._warn(
            case.pair.name, "it is the only case: slices of it are held out, and scores say little of other cases"
        )
        self._warn_of_flattery(case)

    # What it will take

    def _size(self) -> tuple[int, int]:
        """Slices of a case at most, and views of each: as many as a share of the time can encode."""
        wish, cases = self.wish, max(1, len(self._learned()))
        seconds = 60 * (wish.minutes or 5)
        share = _ENCODED_SMALL if self.small else _ENCODED
        rows = int(np.clip(share * seconds / self._encode_seconds(), 64, 1200))
        slices = wish.slices or int(np.clip(rows // (2 * cases), 4, 24))
        there = sum(min(slices, self._known_slices(case)) for case in self._learned()) or 1
        return slices, wish.views or int(np.clip(rows // there, 1, 12))

    def _learned(self) -> list[Case]:
        """Cases that are encoded to be learned from, sooner or later."""
        return [*self.learn, *(case for case in self.learn_at_last if case.use != "both")]

    def _encode_seconds(self) -> float:
        entry = backbones.TABLE.get(self.wish.backbone, backbones.TABLE["tiny"])
        larger = max(_LEAST_ENCODING, (self._side() / entry.side) ** 2)
        return larger * _ENCODE_SECONDS[entry.architecture]

    def _side(self) -> int:
        """Of the frames, for estimates."""
        return self.side or backbones.TABLE.get(self.wish.backbone, backbones.TABLE["tiny"]).side

    def _known_slices(self, case: Case) -> int:
        if self.picture:
            return 1
        return max(state.slices for state in case.states.values()) + 2

    def _rows(self) -> int:
        learn = sum(min(self.slices, self._known_slices(case)) for case in self._learned()) * self.views
        return learn + sum(min(2 * self.slices, self._known_slices(case)) for case in self.held)

    def estimate(self, workspace: Path) -> dict[str, Any]:
        """Views, seconds, bytes; from the table of encoding times, so a guess on other machines."""
        side = self._side()
        per_view = 2 * 256 * (side // 16) ** 2 + 2 * len(self.targets) * (side // 4) ** 2
        per_view += 3 * (side // 2) ** 2 if self.small else 0
        rows = self._rows()
        encode = rows * self._encode_seconds()
        there = next(folder for folder in (workspace, *workspace.parents) if folder.exists())
        largest = max((int(np.prod(case.shape)) for case in self.usable), default=0)
        return {
            "views": rows,
            "encode_seconds": round(encode, 1),
            "train_seconds": None if self.wish.minutes is None else round(max(0, 60 * self.wish.minutes - encode), 1),
            "disk_bytes": rows * per_view,
            "free_bytes": shutil.disk_usage(there).free,
            "memory_bytes": _PROCESS_BYTES
            + 12 * largest
            + (5 if self.small else 3) * rows * len(self.targets) * (side // 4) ** 2,
        }

    # Reports

    def report(self, workspace: Path) -> dict[str, Any]:
        """As docs/teach.md describes it, for JSON."""
        return {
            "name": self.wish.name,
            "backbone": self.wish.backbone,
            "ready": self.ready,
            "cases": [_case_entry(case) for case in self.cases],
            "targets": [self._target_entry(name) for name in self.targets],
            "unlabelled": [str(path.resolve()) for path in self.unlabelled],
            "problems": self.problems,
            "proposal": {
                "orientation": self.orientation,
                "window": self.window,
                "channels": self.channels,
                "side": self.side,
                "held_out": [case.pair.name for case in self.held],
                "within": self.within,
            },
            "estimate": self.estimate(workspace),
        }

    def _target_entry(self, name: str) -> dict[str, Any]:
        states = {case.pair.name: case.states[name] for case in self.usable}
        labelled = [state for state in states.values() if state.state == "labelled"]
        return {
            "name": name,
            "value": self.targets[name],
            "cases": len(labelled),
            "slices": sum(state.slices for state in labelled),
            "voxels": sum(state.voxels for state in labelled),
            "missing": [case for case, state in states.items() if state.state == "unknown"],
            "empty": [case for case, state in states.items() if state.state == "empty"],
        }

    def text(self, workspace: Path) -> str:
        """For people."""
        rows = [["case", "use", "size", "spacing mm", "stored", "intensities", *self.targets]]
        for case in self.cases:
            low, high = case.intensities
            size = " × ".join(map(str, case.shape[::-1]))
            spacing = " × ".join(f"{one:g}" for one in case.spacing)
            states = [_words(case.states[name]) if name in case.states else "–" for name in self.targets]
            rows.append([case.pair.name, case.use, size, spacing, case.orientation, f"{low:g} … {high:g}", *states])
        told = [f"{problem['case'] or 'all'}: {problem['what']}" for problem in self.problems]
        found = self.estimate(workspace)
        held = ", ".join(case.pair.name for case in self.held) or "none"
        window = " ".join(map(str, self.window.values()))
        train = "" if found["train_seconds"] is None else f", training {duration(found['train_seconds'])}"
        told += [f"{len(self.unlabelled)} images without labels"] * bool(self.unlabelled)
        frames = f", frame side {self.side}" if self.side else ""
        told.append(
            f"proposed: {self.orientation} slices{frames}, window {window}, held out {held}{' (slices)' * self.within}"
        )
        disk, free, memory = (amount(found[f"{name}_bytes"]) for name in ("disk", "free", "memory"))
        encode = f"encoding {found['views']} views {duration(found['encode_seconds'])}"
        told.append(f"estimated: {encode}{train}, disk {disk} of {free} free, memory {memory}")
        return "\n".join([table(rows), *told])


def _state(stack: volumes.Stack, volume: volumes.Volume, one: np.ndarray) -> State:
    there, slices = one == 1, stack.canonical(one)
    unknown = int((slices == truth.UNKNOWN).all((1, 2)).sum())
    if not there.any():
        return State("unknown" if unknown == len(slices) else "empty", unknown_slices=unknown)
    grey = volume.voxels if volume.voxels.ndim == 3 else volume.voxels.mean(-1)
    low, high = np.percentile(grey[there], (5, 95))
    pieces, _ = ndimage.label(there)
    sizes = np.bincount(pieces.ravel())[1:]
    return State(
        "labelled",
        int(there.sum()),
        int((slices == 1).any((1, 2)).sum()),
        unknown,
        float(low),
        float(high),
        bool(sizes.max() >= _SINGLE * sizes.sum()),
    )


def _words(state: State) -> str:
    if state.state != "labelled":
        return state.state
    left_out = f", {state.unknown_slices} unknown" if state.unknown_slices else ""
    return f"{state.slices} slices{left_out}"


def _case_entry(case: Case) -> dict[str, Any]:
    return {
        "case": case.pair.name,
        "image": str(case.pair.image.resolve()),
        "label": str(case.pair.label.resolve()),
        "use": case.use,
        "shape": list(case.shape),
        "spacing_mm": list(case.spacing),
        "orientation": case.orientation,
        "intensities": [float(value) for value in case.intensities],
        "targets": {
            name: {
                "state": state.state,
                "voxels": state.voxels,
                "slices": state.slices,
                "unknown_slices": state.unknown_slices,
            }
            for name, state in case.states.items()
        },
    }
