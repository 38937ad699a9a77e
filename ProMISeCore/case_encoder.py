"""The cases of a survey, encoded: slices drawn and changed at random, every case by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ProMISeCore import dataset, held_out
from ProMISeCore.augment import VOLUMES, Augment
from ProMISeCore.case import Case
from ProMISeCore.commands import Commands
from ProMISeCore.dataset import Encoder, LabelledStack, Plan, Task, Views
from ProMISeCore.errors import InputError
from ProMISeCore.pairs import content
from ProMISeCore.promise import Promise
from ProMISeCore.slices import Slices, shown, with_every_target
from ProMISeCore.stopwatch import Stopwatch
from ProMISeCore.survey import Survey

_HELD_EVERY = 4  # of the slices of a case that cannot be spared, one in so many is held out
_PICTURE = Augment(upset=0.5)  # with one target
_PICTURES = Augment(mirror=0.0)  # with several, which may be left and right

NOTHING_LEARNED = "stopped before a step was taken; the same command goes on from what is there"

Tell = Callable[..., None]  # tell(event, **values)


@dataclass(frozen=True)
class EncodedCases:
    """Views to learn from and those held out, of which cases they are, and the seconds that encoding took.

    all_views: of all cases, those in rest_cases too, which are learned from once they have judged; keys: of their
    folders.
    """

    learn: Views
    held: Views | None
    seconds: float
    cases: Sequence[Case]
    held_cases: Sequence[Case]
    rest_cases: Sequence[Case] = ()
    all_views: Sequence[Views] = ()
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Drawn:
    """Slices of a case that are to be encoded, and the seed of their random changes."""

    case: Case
    slices: Slices
    chosen: list[int]
    seed: int


class _Encoding:
    """How far encoding is. total: views of all cases; batch: of them in a step; seconds: that it took, without pauses
    and sleep."""

    def __init__(self, total: int, batch: int, clock: Callable[[], float]) -> None:
        self._total, self._batch, self._clock, self._watch = total, batch, clock, Stopwatch()
        self._planned = self._left = self._made = 0  # views of the cases until now, of them not there yet, made now
        self._since, self.seconds = clock(), 0.0

    def begin(self, rows: int) -> None:
        """A case of so many views follows; all of those before are there."""
        self._planned, self._left, self._since = self._planned + rows, rows, self._clock()

    def counted(self, steps: Iterator[None], batches: int) -> Iterator[None]:
        """The steps of a case; views that have no step were on disk."""
        missing = min(self._left, batches * self._batch)
        for number, step in enumerate(steps, 1):
            self.seconds += self._watch.lasted(self._clock() - self._since)
            left = max(0, missing - number * self._batch)
            self._made += (missing if number == 1 else self._left) - left
            self._left = left
            yield step
            self._since = self._clock()  # who is told may pause

    def entries(self) -> dict[str, float]:
        """As docs/teach.md describes it."""
        done = self._planned - self._left
        left = self.seconds * (self._total - done) / max(1, self._made)
        return {"done": done, "total": self._total, "seconds_left": round(left, 1)}


class CaseEncoder:
    """Encodes what a survey has found for a model. tell("encoding", …) is called with what docs/teach.md says."""

    def __init__(
        self,
        model: Promise,
        survey: Survey,
        task: Task,
        tell: Tell,
        commands: Commands,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model, self._survey, self._task = model, survey, task
        self._tell, self._commands = tell, commands
        self._clock, self._watch, self._drawing = clock, Stopwatch(), 0.0  # seconds

    def encode(self, workspace: Path, with_rest: bool) -> EncodedCases:
        """with_rest: also the cases that are learned from in the end. Cancelled where that is asked for meanwhile,
        KeyboardInterrupt where the asking program has gone; what is encoded stays in the workspace."""
        survey = self._survey
        rest = survey.learn_at_last if with_rest else []
        plans = [each for each in self._plans(survey.learn, survey.held, rest) if each[2].rows]
        views, cases = ({use: [] for use in ("learn", "held", "rest")} for _ in range(2))
        encoder = self._encoder(workspace)
        encoding = _Encoding(sum(len(plan.rows) for _, _, plan in plans), encoder.batch, self._clock)

        def watched(steps: Iterator[None], batches: int) -> Iterator[None]:
            for _ in encoding.counted(steps, batches):
                yield
                self._tell("encoding", **encoding.entries())
                self._obey()

        for case, use, plan in plans:
            encoding.begin(len(plan.rows))
            views[use].append(encoder.views(plan, watched).filed())
            cases[use].append(case)
        encoding.begin(0)
        self._tell("encoding", **encoding.entries())
        return EncodedCases(
            dataset.joined(views["learn"]),
            dataset.joined(views["held"]) if views["held"] else None,
            self._drawing + encoding.seconds,
            cases["learn"],
            cases["held"],
            cases["rest"],
            [*views["learn"], *views["rest"]],
            frozenset(view.key.partition(".")[0] for some in views.values() for view in some),
        )

    def _encoder(self, workspace: Path) -> Encoder:
        augment, model = VOLUMES, self._model
        if self._survey.picture:
            augment = _PICTURE if len(self._survey.targets) == 1 else _PICTURES
        return Encoder(model.sam, model.blocks, augment, workspace, pictures=model.refines)

    def _plans(self, learn: Sequence[Case], held: Sequence[Case], rest: Sequence[Case]) -> list[tuple[Case, str, Plan]]:
        """Case, use and plan. Random changes of a case follow from itself, so a new case leaves the others alone."""
        if self._survey.within:
            learned, judging = _divided([self._drawn(case, "learn") for case in learn])
            drawn = {"learn": learned, "held": judging, "rest": judging if rest else []}
            self._say_unjudged(learned, judging)
        else:
            drawn = self._whole(learn, held, rest)
        self._check_every_target(drawn["learn"])
        return [(each.case, use, self._plan(each, use)) for use, some in drawn.items() for each in some]

    def _whole(self, learn: Sequence[Case], held: Sequence[Case], rest: Sequence[Case]) -> dict[str, list[_Drawn]]:
        """Use → what is drawn of cases that have one."""
        learned = _with_every_target([self._drawn(case, "learn") for case in learn])
        return {
            "learn": learned,
            "held": _with_every_target([self._drawn(case, "held") for case in held]),
            "rest": _with_every_target([self._drawn(case, "rest") for case in rest], _shown(learned)),
        }

    def _say_unjudged(self, learn: Sequence[_Drawn], held: Sequence[_Drawn]) -> None:
        """Of targets on several slices; the survey warns of those on one."""
        for name, learned, judging in zip(self._task.values, _shown(learn), _shown(held), strict=True):
            if learned > 1 and not judging:
                message = (
                    f"each slice with {name!r} holds another target that has no other slice to learn from: {name!r} "
                    "is taught without a score, and its last state is kept; segment more slices to judge it"
                )
                self._tell("notice", message=message)

    def _check_every_target(self, learn: Sequence[_Drawn]) -> None:
        missing = [name for name, count in zip(self._task.values, _shown(learn), strict=True) if not count]
        if missing:
            raise InputError(
                f"none of the slices that were chosen to learn from holds {', '.join(map(repr, missing))}; let more of "
                "each case be chosen with --slices, or teach fewer --targets"
            )

    def _drawn(self, case: Case, use: str) -> _Drawn:
        self._obey()
        survey, since = self._survey, self._clock()
        slices = LabelledStack(case.pair, self._task, self._model.sam.side).slices
        seed = survey.wish.seed + int(content(case.pair.label)[:6], 16)
        most = 2 * survey.slices if use == "held" else survey.slices
        chosen = slices.drawn(most, np.random.default_rng([seed, 0]))
        self._drawing += self._watch.lasted(self._clock() - since)
        return _Drawn(case, slices, chosen, seed)

    def _plan(self, drawn: _Drawn, use: str) -> Plan:
        """View after view, so that what is encoded serves a teaching of more or fewer views, too."""
        views = 1 if use == "held" else self._survey.views
        rows = [(0, n, view) for view in range(views) for n in drawn.chosen]
        return Plan([drawn.case.pair], self._task, rows, drawn.seed, len(drawn.chosen))

    def _obey(self) -> None:
        self._commands.end_if_asked(NOTHING_LEARNED)


def _shown(drawn: Sequence[_Drawn]) -> np.ndarray:
    return shown([each.slices for each in drawn], [each.chosen for each in drawn])


def _with_every_target(drawn: Sequence[_Drawn], already: np.ndarray | int = 0) -> list[_Drawn]:
    """As `slices.with_every_target`."""
    chosen = with_every_target([each.slices for each in drawn], [each.chosen for each in drawn], already)
    return [replace(each, chosen=some) for each, some in zip(drawn, chosen, strict=True)]


def _divided(drawn: Sequence[_Drawn]) -> tuple[list[_Drawn], list[_Drawn]]:
    """What is learned from, and what is held out: the same slices of all cases that show the same."""
    learned, judging = [], []
    for group in held_out.groups([each.case for each in drawn]):
        some = _with_every_target([each for each in drawn if any(each.case is case for case in group)])
        held = {*held_slices(_holds(some))} if group[0].use == "both" else set()
        for each in some:
            learned.append(replace(each, chosen=[n for n in each.chosen if n not in held]))
            judging.append(replace(each, chosen=[n for n in each.chosen if n in held]))
    return learned, judging


def _holds(drawn: Sequence[_Drawn]) -> dict[int, list[bool]]:
    """Slice → whether it holds each target in a case of which it was chosen."""
    taken = sorted({n for each in drawn for n in each.chosen})
    return {n: np.any([each.slices.there[:, n] for each in drawn if n in each.chosen], 0).tolist() for n in taken}


def held_slices(holds: Mapping[int, Sequence[bool]]) -> list[int]:
    """Slices that are held out of a case that cannot be spared, one in four.

    holds: slice → whether it holds each target.

    Every target on several slices has one that is held out and one that is not, as far as targets share slices so.
    """
    empty = [n for n, there in holds.items() if not any(there)]
    filled = [n for n, there in holds.items() if any(there)]
    held = {*empty[1::_HELD_EVERY], *filled[1::_HELD_EVERY]}
    targets = range(len(next(iter(holds.values()))))
    of_target = [[n for n in filled if holds[n][target]] for target in targets]
    for slices in of_target:
        if slices and held.issuperset(slices):
            held.discard(slices[0])
    for slices in of_target:
        if len(slices) > 1 and held.isdisjoint(slices):
            spare = [
                n for n in slices if not any(n in other and held.issuperset({*other} - {n}) for other in of_target)
            ]
            held.update(spare[len(spare) // 2 :][:1])
    return sorted(held)
