"""From surveyed cases to a new version of a pack: encode, train, tell, and lose nothing whatever happens meanwhile."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ProMISeCore import backbones, dataset, devices, learned, packs, sam, start, versions
from ProMISeCore.allocator import keep_freed_memory
from ProMISeCore.augment import VOLUMES, Augment
from ProMISeCore.commands import Commands
from ProMISeCore.dataset import Encoder, LabelledStack, Plan, Task, Views
from ProMISeCore.errors import Cancelled, InputError, PromiseError, WeightsError
from ProMISeCore.lock import alone
from ProMISeCore.manifest import BackboneInfo, Manifest, TargetInfo
from ProMISeCore.pairs import content
from ProMISeCore.promise import Promise, check_backbone
from ProMISeCore.smoothing import best_sigma, usual_sigma
from ProMISeCore.snapshot import Snapshot, best_row
from ProMISeCore.survey import Case, Survey
from ProMISeCore.training import Look, Material, Progress, Settings, Training
from ProMISeCore.whole_file import check_folder

Tell = Callable[..., None]  # tell(event, **values)

_COLOURS = ((0.85, 0.2, 0.2), (0.2, 0.7, 0.3), (0.25, 0.45, 0.9), (0.9, 0.75, 0.15), (0.7, 0.3, 0.8), (0.2, 0.75, 0.75))
_INTENDED = "Research use only, not for clinical use. A first automatic result to be corrected by a person."
_HELD_EVERY = 4  # of the slices of an only case, one in so many is held out
_WIDTH = 16  # of a refiner
_AT_LAST = 0.25  # share of the budget in which held-out cases are learned from, too
_RATE_AT_LAST = 0.3  # of the rate
PICTURE = Augment(upset=0.5)  # with one target
PICTURES = Augment(mirror=0.0)  # with several, which may be left and right


@dataclass(frozen=True)
class Order:
    """What a teaching needs beside the survey. base: pack to go on from; starts: packs to begin from."""

    workspace: Path
    settings: Settings
    device: str = "auto"
    base: Path | None = None
    starts: Sequence[packs.Pack] = ()
    command: str = "promise teach"
    clock: Callable[[], float] = time.monotonic


@dataclass
class _Result:
    """What the held-out cases said (table, manifest's scores, smoothing), and the trainings: the judged one, and that
    from all cases if it came to its end."""

    table: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    smoothing: float
    stages: list[Training]


class Teaching:
    """One teaching. tell(event, …) is called with all of docs/teach.md; `commands` is asked before each step."""

    def __init__(self, survey: Survey, order: Order, tell: Tell, commands: Commands) -> None:
        self.survey, self.order, self._tell, self._commands = survey, order, tell, commands
        self.name = versions.checked_name(survey.wish.name)
        self._all_views: list[Views] = []  # of all cases, where held-out ones are learned from at last
        self._rest_cases: list[Case] = []  # those

    def run(self) -> None:
        """Teach, and make the result the pack's present version. InputError, WeightsError, Cancelled; nothing is lost.

        KeyboardInterrupt, with a checkpoint, where the asking program has gone.
        """
        if not self.survey.ready:
            raise InputError("; ".join(p["what"] for p in self.survey.problems if p["case"] is None))
        with alone(self.order.workspace, "give another --workspace"):
            check_folder(packs.folder(), "another PROMISE_HOME")
            self._say_left_out()
            keep_freed_memory()
            model = self._model()
            before, self._images = self._contents(), self._image_contents()
            learned.check(self.order.workspace)
            with _memory("encode"):
                learn, held, spent = self._encode(model)
            judged, last = _divided(self.order.settings) if self._rest_cases else (self.order.settings, None)
            training = self._training(model, learn, held, spent, judged)
            self._train(training, held or learn)
            result = _Result(*self._scores(training), self._smoothing(model), [training])
            if last is not None and training.share >= 1:
                self._learn_from_all(result, last)
            self._finish(result, before)

    # Before

    def _say_left_out(self) -> None:
        for case in self.survey.cases:
            if case.use == "left out":
                self._tell("notice", message=f"{case.pair.name} is left out: {case.why}")
        for problem in self.survey.problems:
            if problem["severity"] == "warning":
                self._tell("notice", message=problem["what"])

    def _model(self) -> Promise:
        wish, base = self.survey.wish, self._base()
        backbone = sam.load(wish.backbone, devices.choose(self.order.device), self.survey.side)
        if base is not None:
            check_backbone(backbone, base)
        torch.manual_seed(wish.seed)
        return Promise(backbone, self._manifest(backbone, base))

    def _base(self) -> Manifest | None:
        return None if self.order.base is None else packs.read_manifest(self.order.base)

    def _manifest(self, backbone: sam.Sam, base: Manifest | None) -> Manifest:
        survey = self.survey
        known = {} if base is None else {info.name: info for info in base.targets}
        targets = [
            known.get(name) or _target(name, _COLOURS[number % len(_COLOURS)])
            for number, name in enumerate(survey.targets)
        ]
        made = Manifest(
            name=packs.name_of(Path(f"{self.name}{packs.SUFFIX}")),
            title=self.name,
            backbone=BackboneInfo(backbone.name, backbone.fingerprint(), backbone.side),
            targets=tuple(targets),
            refiners=self._refiners(base),
            modality=survey.modality,
            orientation=survey.orientation,
            window=survey.window,
            channels=survey.channels,
            licence=self._licence(backbone, base),
            largest_component=survey.single_pieces,
            exclusive=not survey.overlapping,
            intended_use=_INTENDED,
        )
        if base is not None:
            if base.orientation != made.orientation and (base.orientation == "image" or made.orientation == "image"):
                raise InputError(
                    f"{self.order.base} is a pack for {base.orientation} slices, these are not; teach anew"
                )
            made = replace(
                made,
                orientation=base.orientation,
                window=base.window,
                channels=base.channels,
                padding=base.padding,
                smoothing_mm=base.smoothing_mm,
            )
        return made.check()

    def _refiners(self, base: Manifest | None) -> tuple[Mapping[str, Any], ...]:
        """The base's whose targets are all still there; on small slices a new one for the others."""
        names = list(self.survey.targets)
        kept = [] if base is None else [info for info in base.refiners if {*info["targets"]} <= {*names}]
        rest = [name for name in names if not any(name in info["targets"] for info in kept)]
        if base is not None and len(kept) < len(base.refiners):
            self._tell("notice", message="the base's refiner of targets that are not all taught now is left out")
        new = [{"width": _WIDTH, "patch": 1, "targets": rest}] if self.survey.small and rest else []
        return (*kept, *new)

    def _licence(self, backbone: sam.Sam, base: Manifest | None) -> str:
        entry = backbones.TABLE.get(backbone.name)
        parts = ["the user's own data", f"unstated ({backbone.name})" if entry is None else entry.licence]
        return "; ".join(dict.fromkeys([*parts, *([base.licence] if base is not None and base.licence else [])]))

    def _task(self, manifest: Manifest) -> Task:
        window = dict(manifest.window)
        unlabelled = self.survey.wish.unlabelled
        return Task(self.survey.targets, manifest.orientation, window, manifest.channels, manifest.padding, unlabelled)

    def _image_contents(self) -> dict[str, str]:
        """Case → fingerprint of its image."""
        return {case.pair.name: content(case.pair.image) for case in self.survey.usable}

    def _contents(self) -> dict[str, str]:
        """Case → fingerprint of its labels now."""
        return {case.pair.name: content(case.pair.label) for case in self.survey.usable}

    # Encoding

    def _encode(self, model: Promise) -> tuple[Views, Views | None, float]:
        """Views to learn from, those held out, and the seconds it took."""
        survey, augment = self.survey, VOLUMES
        if survey.picture:
            augment = PICTURE if len(survey.targets) == 1 else PICTURES
        encoder = Encoder(model.sam, model.blocks, augment, self.order.workspace, pictures=model.refines)
        rest = survey.learn_at_last if _divisible(self.order.settings) else []
        uses = [(case, use) for use, cases in (("learn", survey.learn), ("held", survey.held), ("rest", rest))
                for case in cases]  # fmt: skip
        plans = [(case, use, plan) for case, use in uses if (plan := self._plan(model, case, use)).rows]
        total, done, started = sum(len(plan.rows) for _, _, plan in plans), 0, self.order.clock()

        def watched(steps: Iterator[None], batches: int) -> Iterator[None]:
            for _ in steps:
                yield
                left = (self.order.clock() - started) * (total - done) / max(1, done)
                self._tell("encoding", done=min(total, done), total=total, seconds_left=round(left, 1))
                if self._commands.stop():
                    self._ended_while_encoding()

        views: dict[str, list[Views]] = {"learn": [], "held": [], "rest": []}
        for _, use, plan in plans:
            views[use].append(encoder.views(plan, watched))
            done += len(plan.rows)
        self._tell("encoding", done=total, total=total, seconds_left=0.0)
        self._cases, self._held_cases = ([case for case, of, _ in plans if of == use] for use in ("learn", "held"))
        self._rest_cases = [case for case, use, _ in plans if use == "rest"]
        self._used = {view.key for some in views.values() for view in some}
        learn, held = dataset.joined(views["learn"]), dataset.joined(views["held"]) if views["held"] else None
        self._all_views = [*views["learn"], *views["rest"]]
        return learn, held, self.order.clock() - started

    def _plan(self, model: Promise, case: Case, use: str) -> Plan:
        """Rows of a case. Their random changes follow from the case itself, so a new case leaves the others alone."""
        survey, task = self.survey, self._task(model.manifest)
        seed = survey.wish.seed + int(content(case.pair.label)[:6], 16)
        views, most = (1, 2 * survey.slices) if use == "held" else (survey.views, survey.slices)
        if case.use != "both":
            return dataset.plan([case.pair], task, model.sam.side, views, most, seed)
        every = dataset.plan([case.pair], task, model.sam.side, 1, 2 * survey.slices, seed)
        filled = [n for _, n, _ in every.rows]
        held = filled[1::_HELD_EVERY] or filled[-1:]
        chosen = [n for n in filled if n not in held] if use == "learn" else held
        return replace(every, rows=[(0, n, view) for n in chosen for view in range(views)])

    def _ended_while_encoding(self) -> None:
        if self._commands.gone:
            raise KeyboardInterrupt
        raise Cancelled(
            "stopped while encoding: nothing was learned yet; the same command goes on from what is encoded"
        )

    # Training

    def _training(self, model: Promise, learn: Views, held: Views | None, spent: float, settings: Settings) -> Training:
        """The training that scores are of."""
        checkpoint = self._checkpoint(model, settings, learn, held)
        resumed = checkpoint.exists()
        if settings.minutes is not None:  # however slow the encoder was, half of the time is for learning
            spent = min(spent, 30 * self.order.settings.minutes)
        training = Training(
            model, Material(learn, _point_labels(model)), held, settings, checkpoint, spent, self.order.clock
        )
        if resumed:
            step = training.progress.step
            self._tell("notice", message=f"going on from step {step} of a training that was interrupted")
        else:
            self._begin(training)
        training.look_before()
        return training

    def _checkpoint(self, model: Promise, settings: Settings, learn: Views, held: Views | None) -> Path:
        origin = [str(self.order.base and content(self.order.base)), *[p.path.name for p in self.order.starts]]
        said = model.manifest.entries()
        parts = [asdict(settings), learn.key, held and held.key, origin, said["targets"], said.get("refiners")]
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
        return self.order.workspace / f"training-{key}.pt"

    def _learn_from_all(self, result: _Result, settings: Settings) -> None:
        """Go on from the judged state with all cases; where that is stopped or fails, the judged state counts."""
        (judged,) = result.stages
        self._tell("notice", message="the held-out cases have judged, and are learned from now, too")
        training = None
        try:
            with _memory("learn from all cases"):
                training = self._last_training(judged, settings)
                training.run(lambda look: self._report(look, judged.progress), self._commands.stop)
        except (InputError, WeightsError) as error:
            self._tell("notice", message=f"{error}; what the held-out cases have judged is kept")
        if self._commands.gone:
            raise KeyboardInterrupt
        if training is not None and training.share >= 1:
            result.stages.append(training)
            for score in result.scores:
                score["data"] += ", before they were learned from, too"
        else:
            judged.undo()

    def _last_training(self, judged: Training, settings: Settings) -> Training:
        """Of refiners where the judged model has some that help, else of all."""
        judged.model.without_idle_refiners()
        judged.restart()
        every = dataset.joined(self._all_views)
        material = Material(every, _point_labels(judged.model))
        material.distrusted = {target: set(cases) for target, cases in judged.material.distrusted.items()}
        self._cases = [*self._cases, *self._rest_cases]
        checkpoint = self._checkpoint(judged.model, settings, every, None)
        return Training(judged.model, material, None, settings, checkpoint, clock=self.order.clock)

    def _begin(self, training: Training) -> None:
        """First weights: of the base, and for targets that are new to it of what looks alike."""
        base, names = self._base(), list(training.names)
        if base is not None:
            theirs = [info.name for info in base.targets]
            tensors = packs.tensors(self.order.base)
            for name in [name for name in names if name in theirs]:
                prefix = f"{theirs.index(name)}."
                state = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
                training.model.targets[name].load_state_dict(state, strict=False)
                names.remove(name)
            _take_refiners(training.model, base, tensors)
            training.restart()
        if names and self.order.starts:
            for name, which in start.begin(training, self.order.starts, names).items():
                self._tell("notice", message=f"{name!r} begins from what is installed as {which}")

    def _train(self, training: Training, shown: Views) -> None:
        row = best_row(shown)
        cases = self._held_cases if shown is training.held else self._cases
        case = cases[int(shown.case[row])]
        stack = LabelledStack(case.pair, self._task(training.model.manifest), training.model.sam.side)
        snapshot = Snapshot(shown, row, stack)

        def report(look: Look) -> None:
            self._report(look)
            path = self.order.workspace / f"slice-{look.step:06d}.png"
            snapshot.write(path, training.model)
            self._tell("picture", path=str(path.resolve()), step=look.step, case=case.pair.name, slice=snapshot.slice)

        if training.share < 1:
            for old in self.order.workspace.glob("slice-*.png"):
                old.unlink()
        with _memory("train"):
            training.run(report, self._commands.stop)
        if self._commands.gone:
            raise KeyboardInterrupt

    def _report(self, look: Look, before: Progress | None = None) -> None:
        """Tell a look. before: progress of the training that this one goes on from."""
        settings, before = self.order.settings, before or Progress()
        step, seconds = before.step + look.step, before.seconds + look.seconds
        if settings.minutes is None:
            share, left = step / settings.steps, (settings.steps - step) * seconds / step
        else:
            share, left = seconds / (60 * settings.minutes), 60 * settings.minutes - seconds
        self._tell(
            "look",
            step=step,
            elapsed=round(seconds, 1),
            share=round(min(1.0, share), 4),
            loss=look.loss,
            dice=look.dice,
            best=look.best if before.best == {} else before.best,
            seconds_left=round(max(0.0, left), 1),
        )
        for suspect in look.suspects:
            case = self._cases[suspect["case"]].pair.name
            why = (
                f"{suspect['target']!r} as segmented in {case} agrees with what is taught by a Dice of only "
                f"{suspect['dice']:.2f}, the others by {suspect['typical']:.2f}; it no longer counts: look at it"
            )
            self._tell("suspicious", **{**suspect, "case": case, "why": why})

    # After

    def _finish(self, result: _Result, before: Mapping[str, str]) -> None:
        self._say_changed(before)
        stages = result.stages
        model = stages[-1].model.without_idle_refiners()
        seconds = sum(stage.progress.seconds for stage in stages)
        count, base = len(self.survey.usable), self._base()
        data = f"{count} {'case' if count == 1 else 'cases'} of the user's own"
        if base is not None:
            data += f", continued from {base.title or base.name} version {base.version}"
        manifest = replace(
            model.manifest,
            scores=tuple(result.scores),
            smoothing_mm=result.smoothing,
            description=f"Taught from {data}.",
            training={
                "data": data,
                "cases": count,
                "licence": model.manifest.licence,
                "command": self.order.command,
                "seconds": round(seconds, 1),
            },
        )
        version = self._keep(manifest, model)
        whole = len(stages) > 1
        stopped = stages[-1].share < 1 or bool(self._rest_cases) and not whole
        self._remember(version.path, whole)
        if not stopped:
            for stage in stages:
                stage.checkpoint.unlink(missing_ok=True)
            self._tidy()
        suspects = [suspect for stage in stages for suspect in stage.progress.suspects]
        self._tell(
            "done",
            pack=str(versions.present(self.name).resolve()),
            name=self.name,
            version=version.number,
            stopped=stopped,
            table=result.table,
            suspicious=sorted({self._cases[suspect["case"]].pair.name for suspect in suspects}),
            step=sum(stage.progress.step for stage in stages),
            elapsed=round(seconds, 1),
            held_out=[case.pair.name for case in self._held_cases],
            within=self.survey.within,
            manifest=version.manifest.entries(),
        )

    def _say_changed(self, before: Mapping[str, str]) -> None:
        for case in self.survey.usable:
            path = case.pair.label
            if not path.exists() or content(path) != before[case.pair.name]:
                self._tell("notice", message=f"the labels of {case.pair.name} were changed meanwhile; the pack learned "
                           "from what they were at the start: teach again to use them")  # fmt: skip

    def _scores(self, training: Training) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The table of before and after, and the manifest's scores."""
        table, scores, held = [], [], training.held
        for number, name in enumerate(training.names):
            dice = [] if held is None else list(training.case_dice(held, np.arange(len(held)), name).values())
            after = round(float(np.mean(dice)), 4) if dice else None
            slices = 0 if held is None or not dice else int(held.known[:, number].any((1, 2)).sum())
            before = training.progress.before.get(name)
            table.append({"target": name, "before": before, "after": after, "cases": len(dice), "slices": slices})
            if dice:
                iou = float(np.mean([one / (2 - one) for one in dice]))
                data = "slices of the only case" if self.survey.within else "held-out cases of the user's own"
                scores.append({"data": data, "cases": len(dice), "target": name, "dice": after, "iou": round(iou, 4)})
        return table, scores

    def _smoothing(self, model: Promise) -> float:
        """The base's, or what held-out volumes say, or what is usual without such."""
        if self._base() is not None or self.survey.picture:
            return model.manifest.smoothing_mm
        task = self._task(model.manifest)
        if self.survey.within or not self._held_cases:
            return usual_sigma([case.pair for case in self._cases], task)
        with _memory("try the result on the held-out volumes"):
            return best_sigma(model, [case.pair for case in self._held_cases], task, self.order.device)

    def _remember(self, pack: Path, whole: bool) -> None:
        cases = [*self.survey.learn, *(self._rest_cases if whole else [])]
        images = {self._images[case.pair.name] for case in cases} | self.survey.wish.seen
        try:
            learned.remember(pack, images, self.order.workspace)
        except (InputError, OSError) as error:
            self._tell("notice", message=f"which cases the pack has learned from could not be kept: {error}")

    def _keep(self, manifest: Manifest, model: Promise) -> versions.Version:
        try:
            return versions.add(self.name, manifest, model.tensors())
        except PromiseError as error:
            rescued = self.order.workspace / f"{self.name}{packs.SUFFIX}"
            packs.save(rescued, manifest, model.tensors(), half=True)
            raise WeightsError(
                f"{error}; the pack was taught and lies in {rescued}: promise packs --install it once that is mended"
            ) from error

    def _tidy(self) -> None:
        """Views that no case needs any more: of labels that were corrected since, or other settings."""
        for folder in self.order.workspace.glob("views-*"):
            if folder.name.removeprefix("views-") not in self._used:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _memory(what: str) -> Iterator[None]:
    """InputError where memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not devices.is_out_of_memory(error):
            raise
        raise InputError(
            f"there is not enough memory to {what}; close other programs, or use a smaller --backbone or fewer "
            "--targets; what was done is kept, the same command goes on from it"
        ) from error


def _target(name: str, colour: tuple[float, float, float]) -> TargetInfo:
    return TargetInfo(
        name,
        colour,
        apm={"kind": "lite", "count": 8, "width": 64},
        ips={"kind": "pae", "hidden": 256},
        presence={"width": 64},
        point_labels=(1, 1, 1, 1, 0, 0, 0, 0),
    )


def _take_refiners(model: Promise, base: Manifest, tensors: Mapping[str, torch.Tensor]) -> None:
    """The weights of those that the model has from the base."""
    for info, refiner in zip(model.manifest.refiners, model.refiners, strict=True):
        if info in base.refiners:
            prefix = f"refiners.{base.refiners.index(info)}."
            refiner.load_state_dict(
                {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            )


def _point_labels(model: Promise) -> dict[str, Sequence[int]]:
    return {info.name: info.point_labels for info in model.manifest.targets}


def _divisible(settings: Settings) -> bool:
    """Whether the budget is enough for two trainings."""
    return settings.minutes is not None or settings.steps > 1


def _divided(settings: Settings) -> tuple[Settings, Settings]:
    """Of the training that is judged, and of the one that goes on from it: of refiners where there are some."""
    first = max(1, int((1 - _AT_LAST) * settings.steps))
    minutes = (None, None)
    if settings.minutes is not None:
        minutes = ((1 - _AT_LAST) * settings.minutes, _AT_LAST * settings.minutes)
    return (
        replace(settings, steps=first, minutes=minutes[0]),
        replace(
            settings,
            steps=settings.steps - first,
            minutes=minutes[1],
            rate=_RATE_AT_LAST * settings.rate,
            refine=1.0,
        ),
    )
