"""What is there to learn from: every case looked at once, what is wrong with it, and what is proposed and estimated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ProMISeCore import backbones, caveats, colours, held_out, lock, modality, packs, pairs, truth, volumes
from ProMISeCore.case import Case, State
from ProMISeCore.caveats import named
from ProMISeCore.errors import InputError
from ProMISeCore.estimate import Estimate
from ProMISeCore.manifest import LONGEST_WORD, MOST_TARGETS, is_word
from ProMISeCore.wish import Wish

_THICK = 1.5  # times the smallest spacing: slices were acquired so
_STRAY = 0.01  # of the smaller of two targets, from which they overlap
_SMALL, _SMALL_LONG = 96, 256  # pixels, of the second longest and of the longest side of a case


#: Cases, and what of them is read ("segments", "images" or "segmentations") → the same, one after another.
Counted = Callable[[Sequence[Case], str], Iterable[Case]]


class Survey:
    """The cases found, each with its use, and the proposals. Raises InputError where there is no image at all.

    counted: tells how far reading is; what it raises ends the survey.
    """

    def __init__(
        self,
        images: Sequence[str],
        labels: Sequence[str] | None,
        wish: Wish,
        counted: Counted = lambda cases, what: cases,
    ) -> None:
        self.wish = wish
        found = pairs.sort_out(images, labels)
        self.cases, self.unlabelled = [Case(pair) for pair in found.pairs], found.unlabelled
        self.problems: list[dict[str, str | None]] = []
        for what in caveats.strays(found):
            self._warn(None, what)
        self.targets = dict(wish.targets) if wish.targets else self._all_targets(counted)
        readable = [case for case in counted(self.usable, "images") if self._look(case)]
        self.picture = bool(readable) and readable[0].picture
        self._leave_out_other_kinds(readable)
        self.orientation = "image" if self.picture else wish.orientation or self._orientation()
        self.channels = wish.channels or ("repeat" if self.picture else "neighbours")
        for case in counted(self.usable, "segmentations"):
            self._inspect(case)
        self._leave_out_unlabelled_targets()
        self._complain_about_targets()
        if backbones.TABLE.get(wish.backbone) not in (None, *backbones.installed()):
            self._warn(None, f"the backbone {wish.backbone} is not installed: see promise backbones")
        for what in caveats.automatic([case.pair for case in self.usable]):
            self._warn(None, what)
        for case, what in caveats.found(self.usable, self.targets, wish.unlabelled, wish.known):
            self._warn(case, what)
        for what in caveats.too_small(self.usable, self.targets, self._frames) if self._frames else ():
            self._warn(None, what)
        self.window = dict(wish.window) if wish.window else modality.window(self.usable, self.picture)
        for what in () if wish.window else caveats.of_another_modality(self.usable, self.picture):
            self._warn(None, what)
        self.within = False
        self._hold_out()
        self.colours = colours.chosen(self.targets, wish.known, self.usable)
        self._estimate = Estimate(wish, self.small, self.side, self.learn, self.learn_at_last, self.held)
        self.slices, self.views = self._estimate.slices, self._estimate.views
        for what in caveats.slow_to_encode(self._estimate, wish.minutes):
            self._warn(None, what)

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
        return not self._errors

    @property
    def _errors(self) -> list[dict[str, str | None]]:
        """Problems of all cases together that keep anything from being taught."""
        return [problem for problem in self.problems if problem["severity"] == "error" and problem["case"] is None]

    @property
    def why_not(self) -> str:
        """Why nothing can be taught, "" where it can."""
        return "; ".join(str(problem["what"]) for problem in self._errors)

    @property
    def modality(self) -> str:
        """As far as the files tell."""
        return modality.of(self.usable, self.picture)

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
    def _frames(self) -> int | None:
        """Their side, where another could be chosen and the backbone's own is known."""
        known = backbones.TABLE.get(self.wish.backbone)
        return None if self.wish.base_orientation else self.side or (known.side if known else None)

    def are_apart(self, one: str, other: str) -> bool | None:
        """Whether two targets share no voxels anywhere; None where no case holds both."""
        both = [case for case in self.usable if {one, other} <= {*case.labelled}]
        return not any({one, other} in case.overlapping for case in both) if both else None

    def _all_targets(self, counted: Counted) -> dict[str, int | None]:
        """Where nobody says what is to be learned; cases that cannot tell are left out."""
        found: dict[str, int | None] = {}
        for case in counted(self.cases, "segments"):
            found |= {name: value for name, value in case.contents.items() if found.get(name) is None}
            if case.unreadable:
                self._leave_out(case, case.unreadable)
        values = {*found.values()} - {None}
        if truth.UNKNOWN in values and len(values) > 1:
            self._drop_unknown(found)
        return found

    def _drop_unknown(self, found: dict[str, int | None]) -> None:
        """255 is a target only where no label map holds anything else, as in masks of 0 and 255."""
        names = [name for name, value in found.items() if value == truth.UNKNOWN]
        holding = [case for case in self.cases if names[0] in case.contents]
        del found[names[0]]
        self._warn(None, f"the value {truth.UNKNOWN} counts as unknown, since the label maps hold others, too "
                   f"({named(holding)}); if it is a target, name it and the others with --targets")  # fmt: skip

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
        case.affine = tuple(map(tuple, volume.affine.tolist()))
        case.intensities = volumes.percentiles(volume.voxels, (0.5, 99.5))
        case.lowest, case.whole = float(volume.voxels.min()), _is_whole(volume.voxels)
        if not volume.picture:
            across = {volumes.Stack(volume, axis).slice_axis: axis for axis in volumes.AXES}  # of (K, J, I)
            case.orientation, thickest = across[0], int(np.argmax(case.spacing))
            if case.spacing[thickest] > max(sorted(case.spacing)[1], _THICK * min(case.spacing)):
                case.acquired = across[2 - thickest]
        return True

    def _inspect(self, case: Case) -> None:
        volume = volumes.read(case.pair.image)
        stack = volumes.Stack(volume, self.orientation)
        try:
            stack.check_shows_something()
            found = truth.read(volume, case.pair.label, self.targets, self.wish.unlabelled, stack.slice_axis)
        except InputError as error:
            self._leave_out(case, str(error))
            return
        case.overlapping = _overlapping(found, list(self.targets))
        for name, one in zip(self.targets, found, strict=True):
            case.states[name] = State.of(stack, volume, one)
        if not case.labelled and not self.picture:
            self._leave_out(case, self._why_unlabelled(case))

    def _why_unlabelled(self, case: Case) -> str:
        found = case.contents
        if not found and not case.unreadable:
            return "its segmentation is empty; segment a slice, or leave it out"
        empty = [name for name, value in found.items() if value is None and name in self.targets]
        if empty:
            return f"nothing is segmented in it yet ({', '.join(empty)}: empty); segment a slice, or leave it out"
        asked, there = (
            ", ".join(self.targets),
            ", ".join({name: None for each in self.cases for name in each.contents}) or "nothing",
        )
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

    def _is_labelled(self, target: str) -> bool:
        return any(case.states[target].state == "labelled" for case in self.usable)

    def _leave_out_unlabelled_targets(self) -> None:
        """Where nobody has asked for them, and another is labelled."""
        if self.wish.targets is not None or not any(case.labelled for case in self.usable):
            return
        for name in [name for name in self.targets if not self._is_labelled(name)]:
            self._warn(None, f"{name!r} is not labelled in any case, so that it is left out")
            del self.targets[name]
            for case in self.usable:
                del case.states[name]

    def _complain_about_targets(self) -> None:
        if not self.cases:
            self._error(f"none of {len(self.unlabelled)} images has a segmentation of its name; {pairs.NAMING}")
            return
        if not self.usable:
            first = self.cases[0]
            self._error(f"none of {len(self.cases)} labelled cases can be used, {first.pair.name}: {first.why}")
            return
        for name in self.targets:
            missing = [case.pair.name for case in self.usable if case.states[name].state == "unknown"]
            if not self._is_labelled(name):
                self._error(
                    f"the target {name!r} is not labelled in any case; check its name and value, or leave it out"
                )
            elif missing:
                self._warn(None, f"{name!r} is not known in {len(missing)} cases: {', '.join(missing[:5])}")
        self._complain_about_base()
        if self.wish.absent:
            names = ", ".join(self.wish.absent)
            self._warn(None, f"the pack to go on from has no {names} to drop; it has {', '.join(self.wish.known)}")
        for name in [name for name in self.targets if name in self.wish.dropped]:
            self._error(f"{name!r} is to be taught and to be dropped; name the others with --targets, or keep it")
        for name in [name for name in self.targets if not is_word(name)]:
            self._error(f"the target's name {ascii(name)} cannot be kept in a pack: up to {LONGEST_WORD} letters that "
                        "can be seen; rename the segment, or name others with --targets")  # fmt: skip
        if not self.targets:
            self._error("the label maps and segmentations are empty; segment something first")

    def _complain_about_base(self) -> None:
        orientation, total = self.wish.base_orientation, len({*self.wish.known, *self.targets})
        if orientation and (orientation == "image") != self.picture:
            self._error(f"the pack to go on from is one for {orientation} slices, these are not; teach anew")
        if total > MOST_TARGETS:
            self._error(f"these would be {total} targets, a pack holds {MOST_TARGETS}; teach fewer of them")

    def _error(self, what: str) -> None:
        self.problems.append({"case": None, "what": what, "severity": "error"})

    def _warn(self, case: str | None, what: str) -> None:
        self.problems.append({"case": case, "what": what, "severity": "warning"})

    # What is proposed

    def _orientation(self) -> str:
        """Slices across the thickest direction, as they were acquired; axial where there is none."""
        votes = [case.acquired for case in self.usable if case.acquired]
        return max(sorted(set(votes)), key=votes.count) if 2 * len(votes) > len(self.usable) else "axial"

    def _hold_out(self) -> None:
        """Mark the held-out cases: those asked for, or complete ones drawn by the seed."""
        cases, wish = self.usable, self.wish.held_out
        if not self.ready or (isinstance(wish, Sequence) and not wish):
            return
        if isinstance(wish, Sequence):
            chosen = held_out.named(self.cases, wish)
        else:
            known = {case.pair.name for case in cases if self._is_seen(case)}
            chosen = held_out.drawn(cases, len(self.targets), known, wish, self.wish.seed)
            if not chosen:
                self._hold_out_within(cases)
        if len(chosen) >= len(cases):
            raise InputError(f"all {len(cases)} cases are held out; leave one to learn from")
        for case in chosen:
            case.use = "held-out"
        for what in caveats.flattering(self.usable, self.wish.seen):
            self._warn(None, what)
        most = math.inf if self.wish.slices is None else self.wish.slices
        least, advice = (2, "segment more slices of it") if self.within else (1, "hold out a case that holds it")
        advice = "allow more --slices" if most < least else advice
        for name in self.targets:
            if not any(case.states[name].state == "labelled" for case in self.learn):
                self._error(f"{name!r} is labelled in held-out cases only; hold out other cases, or none")
            elif self.held and not any(min(most, case.states[name].slices) >= least for case in self.held):
                self._warn(None, f"no held-out {'slice' if self.within else 'case'} holds {name!r}: it is taught "
                           f"without a score, and its last state is kept; {advice} to judge it")  # fmt: skip

    def _is_seen(self, case: Case) -> bool:
        return bool(self.wish.seen) and case.image_content in self.wish.seen

    def _hold_out_within(self, cases: Sequence[Case]) -> None:
        """Slices of cases none of which can be spared; pictures have none."""
        split = held_out.divisible(cases)
        if len(cases) == 1 and not split:
            self._error("one labelled slice is all there is; segment at least two, or another case")
            return
        for case in split:
            case.use = "both"
        self.within = bool(split)
        part = "is held out, and scores say little of other cases"
        if len(cases) == 1:
            self._warn(cases[0].pair.name, f"it is the only case: one slice in four {part}")
            return
        same = len(held_out.groups(cases)) == 1
        why = "all show the same image or segmentation" if same else "each is needed for some target"
        of = "" if len(split) == len(cases) else f" of {named(split)}"
        what = f"one slice in four{of} {part}" if split else "nothing is scored"
        self._warn(None, f"no case can be held out, because {why}: {what}; add others")

    # What it takes

    def check_workspace(self, folder: Path) -> None:
        """Raise InputError for a folder that holds files of somebody else: what a workspace no longer needs is
        deleted."""
        for case in self.cases:
            if folder.resolve() in (case.pair.image.resolve().parent, case.pair.label.resolve().parent):
                raise InputError(
                    f"--workspace is {folder}, where {case.pair.image.name} lies; give a folder of its own"
                )
        ours = folder.resolve().parent == packs.workspaces().resolve() or lock.was_held(folder)
        if not ours and folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"--workspace is {folder}, which holds other files; give a new or an empty folder")

    def estimate(self, workspace: Path) -> dict[str, Any]:
        """Views, seconds, bytes, for JSON."""
        largest = max((math.prod(case.shape) for case in self.usable), default=0)
        return self._estimate.entries(workspace, len(self.targets), largest)


def _overlapping(found: np.ndarray, names: Sequence[str]) -> frozenset[frozenset[str]]:
    """Pairs of targets that share more voxels than stray ones. found (T, K, J, I): 1 where one is."""
    shared = np.zeros((len(names), len(names)))
    for one in np.moveaxis(found, 1, 0):
        flat = (one == 1).reshape(len(names), one[0].size if names else 0).astype(np.float32)
        shared += flat @ flat.T
    sizes = np.diagonal(shared)
    pairs = np.argwhere(shared > _STRAY * np.minimum(sizes[:, None], sizes))
    return frozenset(frozenset((names[a], names[b])) for a, b in pairs if a != b)


def _is_whole(voxels: np.ndarray) -> bool:
    """Whether all are whole numbers: readers give floats where a file scales its integers."""
    return voxels.dtype.kind in "iu" or bool((voxels == np.rint(voxels)).all())
