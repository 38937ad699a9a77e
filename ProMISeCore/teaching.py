"""From surveyed cases to a new version of a pack: encode, train, tell, and lose nothing whatever happens meanwhile."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ProMISeCore import dataset, devices, learned, packs, sam, start, versions
from ProMISeCore.allocator import keep_freed_memory
from ProMISeCore.at_last import SHARE, divided, is_divisible
from ProMISeCore.base_pack import BasePack
from ProMISeCore.case import Case
from ProMISeCore.case_encoder import NOTHING_LEARNED, CaseEncoder, EncodedCases, Tell
from ProMISeCore.commands import Commands
from ProMISeCore.dataset import LabelledStack, Task, Views
from ProMISeCore.draft import drafted
from ProMISeCore.errors import Cancelled, InputError, WeightsError
from ProMISeCore.estimate import check_room
from ProMISeCore.kept import Kept
from ProMISeCore.lock import alone
from ProMISeCore.manifest import Manifest
from ProMISeCore.material import Material
from ProMISeCore.new_version import NewVersion
from ProMISeCore.outcome import Outcome
from ProMISeCore.pairs import content
from ProMISeCore.progress import Look, Progress
from ProMISeCore.promise import Promise, check_backbone
from ProMISeCore.settings import Settings
from ProMISeCore.smoothing import best_sigma, usual_sigma
from ProMISeCore.snapshot import Snapshot, best_row
from ProMISeCore.survey import Survey
from ProMISeCore.training import Training


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


class Teaching:
    """One teaching. tell(event, …) is called with all of docs/teach.md; `commands` is asked before each step."""

    def __init__(self, survey: Survey, order: Order, tell: Tell, commands: Commands) -> None:
        self.survey, self.order, self._tell, self._commands = survey, order, tell, commands
        self.name = versions.checked_name(survey.wish.name)
        self._base: BasePack | None = None
        self._kept: Kept | None = None  # of the base

    def run(self) -> None:
        """Teach, and make the result the pack's present version. InputError, WeightsError, Cancelled; nothing is lost.

        KeyboardInterrupt, with a checkpoint, where the asking program has gone.
        """
        if not self.survey.ready:
            raise InputError(self.survey.why_not)
        with alone(self.order.workspace, "give another --workspace"):
            versions.check_writable(self.name)
            check_room(self.survey.estimate(self.order.workspace), self.order.workspace)
            self._say_left_out()
            keep_freed_memory()
            model = self._model()
            before, self._images = self._contents(), self._image_contents()
            learned.check(self.order.workspace)
            with _memory("encode"):
                self._encoded = self._encode(model)
            self._cases = list(self._encoded.cases)  # of the training's material
            judged, last = divided(self.order.settings) if self._encoded.rest_cases else (self.order.settings, None)
            self._judged_share = 1.0 if last is None else 1 - SHARE
            training = self._training(model, judged)
            self._train(training)
            self._say_unjudged(training)
            outcome = Outcome.of(training, self._smoothing(training), self.survey.within)
            if last is not None and not outcome.stopped:
                self._learn_from_all(outcome, last)
            self._say_learned_out(outcome)
            self._finish(outcome, before)

    # Before

    def _say_left_out(self) -> None:
        for case in self.survey.cases:
            if case.use == "left out":
                self._tell("notice", message=f"{case.pair.name} is left out: {case.why}")
        for problem in self.survey.problems:
            if problem["severity"] == "warning":
                case = f"{problem['case']}: " if problem["case"] else ""
                self._tell("notice", message=case + problem["what"])

    def _model(self) -> Promise:
        wish, order = self.survey.wish, self.order
        backbone = sam.load(wish.backbone, devices.choose(order.device), self.survey.side)
        if order.base is not None:
            self._base = BasePack.read(order.base, order.workspace)
            check_backbone(backbone, self._base.manifest)
            self._kept = Kept.of(self._base, {*self.survey.targets, *wish.dropped})
        torch.manual_seed(wish.seed)
        return Promise(backbone, self._manifest(backbone))

    def _manifest(self, backbone: sam.Sam) -> Manifest:
        return drafted(self.survey, backbone, None if self._base is None else self._base.manifest)

    def _task(self, manifest: Manifest) -> Task:
        window = dict(manifest.window)
        unlabelled = self.survey.wish.unlabelled
        return Task(self.survey.targets, manifest.orientation, window, manifest.channels, manifest.padding, unlabelled)

    def _image_contents(self) -> dict[str, str]:
        """Case → fingerprint of its image."""
        return {case.pair.name: case.image_content for case in self.survey.usable}

    def _contents(self) -> dict[str, str]:
        """Case → fingerprint of its labels now."""
        return {case.pair.name: content(case.pair.label) for case in self.survey.usable}

    def _encode(self, model: Promise) -> EncodedCases:
        task, clock = self._task(model.manifest), self.order.clock
        encoder = CaseEncoder(model, self.survey, task, self._tell, self._commands, clock)
        return encoder.encode(self.order.workspace, is_divisible(self.order.settings))

    # Training

    def _training(self, model: Promise, settings: Settings) -> Training:
        """The training that scores are of."""
        learn, held = self._encoded.learn, self._encoded.held
        self._spent = spent = 0.0
        origins = [learned.Origin()] if self._base is None else self._base.origins
        found = [(one, self._checkpoint(model, settings, learn, held, one)) for one in origins]
        self._origin, checkpoint = next(((one, path) for one, path in found if path.exists()), found[0])
        resumed = checkpoint.exists()
        if settings.minutes is not None:  # however slow the encoder was, half of the time is for learning
            spent = min(self._encoded.seconds, 30 * self.order.settings.minutes)
        training = Training(
            model, Material(learn, _point_labels(model)), held, settings, checkpoint, spent, self.order.clock
        )
        if settings.minutes is not None:
            self._spent = 60 * settings.minutes * training.progress.begun
        if resumed:
            self._say_going_on(training.progress.step)
        else:
            self._say_interrupted()
            self._begin(training)
        training.look_before()
        return training

    def _obey(self) -> None:
        self._commands.end_if_asked(NOTHING_LEARNED)

    def _say_going_on(self, step: int) -> None:
        self._tell("notice", message=f"going on from step {step} of a training that was interrupted")

    def _say_interrupted(self) -> None:
        """Tell where what was last done in this workspace, since the pack was made or for it, is not gone on with."""
        made, pack = [path.stat().st_mtime for path in self._checkpoints()], versions.present(self.name)
        if not made:
            return
        if not pack.exists() or max(made) > pack.stat().st_mtime or learned.origin(pack, self.order.workspace):
            message = (
                "the training that was interrupted here was of other cases, labels, options or another base: this one "
                "begins at its first step, and that one's checkpoint is kept"
            )
            self._tell("notice", message=message)

    def _checkpoints(self) -> list[Path]:
        return list(self.order.workspace.glob(f"training-{'[0-9a-f]' * 12}.pt"))

    def _checkpoint(
        self, model: Promise, settings: Settings, learn: Views, held: Views | None, origin: learned.Origin
    ) -> Path:
        said, starts = model.manifest.entries(), [pack.path.name for pack in self.order.starts]
        targets = said["targets"], said.get("refiners")
        parts = [asdict(settings), learn.key, held and held.key, origin.content, starts, *targets]
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
        return self.order.workspace / f"training-{key}.pt"

    def _learn_from_all(self, outcome: Outcome, settings: Settings) -> None:
        """Go on from the judged state with all cases; where that is stopped or fails, the judged state counts."""
        (judged,) = outcome.stages
        self._tell("notice", message="what was held out is learned from now, too")
        training = None
        try:
            with _memory("learn from all cases"):
                training = self._last_training(judged, settings)
                if training.progress.step:
                    self._say_going_on(judged.progress.step + training.progress.step)
                with self._commands.between_steps():
                    training.run(lambda look: self._report(look, judged.progress), self._commands.stop)
        except (InputError, WeightsError) as error:
            self._tell("notice", message=f"{error}; what the held-out cases have judged is kept")
            outcome.problem = str(error)
        if self._commands.gone:
            raise KeyboardInterrupt
        if outcome.problem is None and not training.stopped:
            outcome.add(training)
        else:
            outcome.stopped = outcome.problem is None
            judged.undo()

    def _last_training(self, judged: Training, settings: Settings) -> Training:
        """Of refiners where the judged model has some that help, else of all."""
        judged.model.without_idle_refiners()
        judged.restart()
        every = dataset.joined(self._encoded.all_views)
        material = Material(every, _point_labels(judged.model))
        first = len(self._cases)  # of what was held out
        doubted = [(each, self._suspected(each)) for each in judged.progress.suspects]
        self._cases += self._encoded.rest_cases
        for suspect, case in doubted:
            numbers = {number for number, each in enumerate(self._cases) if each is case}  # two if slices of it judge
            apart = {number for number in numbers if number >= first} if suspect["held"] else numbers
            material.distrusted.setdefault(judged.names.index(suspect["target"]), set()).update(apart)
        checkpoint = self._checkpoint(judged.model, settings, every, None, self._origin)
        return Training(judged.model, material, None, settings, checkpoint, clock=self.order.clock)

    def _begin(self, training: Training) -> None:
        """First weights: of the base, and for targets that are new to it of what looks alike."""
        names = list(training.names)
        if self._base is not None:
            names = self._base.begin(training.model)
            training.restart()
        if names and self.order.starts:
            found = start.begin(training, self.order.starts, names, self._obey)
            for name in names:
                which = (
                    f"what is installed as {found[name]}" if name in found else "random numbers: nothing fits it yet"
                )
                self._tell("notice", message=f"{name!r} begins from {which}")

    def _train(self, training: Training) -> None:
        shown, cases = self._encoded.held, self._encoded.held_cases
        if shown is None:
            shown, cases = self._encoded.learn, self._encoded.cases
        row = best_row(shown)
        case = cases[int(shown.case[row])]
        stack = LabelledStack(case.pair, self._task(training.model.manifest), training.model.sam.side)
        snapshot = Snapshot(shown, row, stack)

        def report(look: Look) -> None:
            self._report(look)
            path = self.order.workspace / f"slice-{look.step:06d}.png"
            snapshot.write(path, training.model)
            self._tell("picture", path=str(path.resolve()), step=look.step, case=case.pair.name, slice=snapshot.slice)

        if training.share < 1:
            for old in self.order.workspace.glob(f"slice-{'[0-9]' * 6}.png"):
                old.unlink()
        with _memory("train"), self._commands.between_steps():
            if not training.progress.step:
                self._obey()
            training.run(report, self._commands.stop)
        if self._commands.gone:
            raise KeyboardInterrupt
        if training.stopped and not training.progress.step:
            raise Cancelled(NOTHING_LEARNED)

    def _report(self, look: Look, before: Progress | None = None) -> None:
        """Tell a look. before: progress of the training that this one goes on from."""
        settings, is_last, before = self.order.settings, before is not None, before or Progress()
        step, seconds = before.step + look.step, before.seconds + look.seconds
        if settings.minutes is None:
            share, left = step / settings.steps, (settings.steps - step) * seconds / step
        else:
            share = 1 - SHARE * (1 - look.share) if is_last else self._judged_share * look.share
            left = self._seconds_left(share, seconds)
        self._tell(
            "look",
            step=step,
            elapsed=round(seconds - self._spent, 1),
            share=round(min(1.0, share), 4),
            loss=look.loss,
            dice=look.dice,
            best=before.scored or look.best,
            seconds_left=round(max(0.0, left), 1),
        )
        for suspect in look.suspects:
            case = self._suspected(suspect).pair.name
            why = (
                f"{suspect['target']!r} as segmented in {case} agrees with what is taught by a Dice of only "
                f"{suspect['dice']:.2f}, the others by {suspect['typical']:.2f}; it is not learned from: look at it"
            )
            self._tell("suspicious", **{**suspect, "case": case, "why": why})

    def _seconds_left(self, share: float, seconds: float) -> float:
        """Of a time budget of which a share is used after so many seconds: as much again as this has taken."""
        learned = share - self._spent / (60 * self.order.settings.minutes)
        return (1 - share) * (seconds - self._spent) / learned if learned > 0 else 0.0

    def _suspected(self, suspect: Mapping[str, Any]) -> Case:
        return (self._encoded.held_cases if suspect["held"] else self._cases)[suspect["case"]]

    # After

    def _finish(self, outcome: Outcome, before: Mapping[str, str]) -> None:
        order = self.order
        new = NewVersion(self.name, self.survey, order.command, order.workspace, self._origin, self._kept)
        cases = [*self.survey.learn, *(self._encoded.rest_cases if outcome.whole else [])]
        images = [self._images[case.pair.name] for case in cases]
        version = new.keep(outcome, images)
        try:
            new.remember(version.path, images, outcome)
        except (InputError, OSError) as error:
            self._tell("notice", message=f"what the pack comes from could not be kept: {error}")
        self._say_changed(before)
        if outcome.ended:
            for stage in outcome.stages:
                stage.checkpoint.unlink(missing_ok=True)
            self._tidy()
        self._tell(
            "done",
            pack=str(versions.present(self.name).resolve()),
            name=self.name,
            version=version.number,
            stopped=outcome.stopped,
            table=outcome.table,
            learned_held_out=outcome.whole,
            problem=outcome.problem,
            suspicious=sorted({self._suspected(suspect).pair.name for suspect in outcome.suspects}),
            step=outcome.steps,
            elapsed=round(outcome.seconds, 1),
            held_out=[case.pair.name for case in self._encoded.held_cases],
            within=self.survey.within,
            manifest=version.manifest.entries(),
        )

    def _say_changed(self, before: Mapping[str, str]) -> None:
        for case in self.survey.usable:
            path, what, then = case.pair.label, "were changed meanwhile", ": teach again to use them"
            try:
                if content(path) == before[case.pair.name]:
                    continue
            except OSError as error:
                what, then = f"cannot be read any more ({error.strerror})", ""
            self._tell("notice", message=f"the labels of {case.pair.name} {what}; the pack learned from what they were "
                       f"at the start{then}")  # fmt: skip

    def _say_learned_out(self, outcome: Outcome) -> None:
        early = [stage for stage in outcome.stages if stage.learned_out]
        if early and not outcome.stopped:
            count = len({id(case) for case in self._cases})
            cases = "the only case" if count == 1 else f"{count} cases"
            message = (
                f"learning ended before its time: the slices of {cases} were learned from {early[0].passes:.0f} times "
                "each, and more would only learn them by heart; another case brings more than more minutes do"
            )
            self._tell("notice", message=message)

    def _say_unjudged(self, training: Training) -> None:
        for name in training.progress.unjudged:
            message = (
                f"the held-out labels of {name!r} are doubted themselves: they do not judge; the last state is kept"
            )
            self._tell("notice", message=message)

    def _smoothing(self, judged: Training) -> float:
        """The base's, or what held-out volumes say, or what is usual where they are not asked."""
        model = judged.model
        if self._base is not None or self.survey.picture:
            return model.manifest.smoothing_mm
        doubted = [self._suspected(suspect) for suspect in judged.progress.suspects if suspect["held"]]
        held = [case for case in self._encoded.held_cases if case not in doubted and not self.survey.within]
        sigma = self._tried_smoothing(judged, held) if held and not judged.stopped else None
        return usual_sigma(held or self._cases, self._task(model.manifest)) if sigma is None else sigma

    def _tried_smoothing(self, judged: Training, held: Sequence[Case]) -> float | None:
        """What held-out volumes say, None where they do not; 0 where that cannot be found out, which is told: what was
        taught does not depend on it."""
        model, pairs = judged.model, [case.pair for case in held]
        self._tell("notice", message="whether neighbouring slices should have a say is tried on the held-out volumes")
        try:
            with _memory("try the result on the held-out volumes"):
                return best_sigma(model, pairs, self._task(model.manifest), self.order.device, self._commands.stop)
        except InputError as error:
            self._tell("notice", message=f"{error}; whether smoothing between slices helps was not tried")
            return 0.0
        except Cancelled as stopped:
            if self._commands.gone:
                raise KeyboardInterrupt from stopped
            judged.stopped = True
            return None

    def _tidy(self) -> None:
        """Views that no case needs any more: of labels that were corrected since, or other settings."""
        for folder in self.order.workspace.glob(f"views-{'[0-9a-f]' * 16}"):
            if folder.name.removeprefix("views-") not in self._encoded.keys:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _memory(what: str) -> Iterator[None]:
    """InputError where memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not devices.is_out_of_memory(error):
            raise
        raise InputError(
            f"there is not enough memory to {what}; close other programs, or use a smaller --backbone or fewer "
            "--targets; what was done is kept, the same command goes on from it"
        ) from error


def _point_labels(model: Promise) -> dict[str, Sequence[int]]:
    return {info.name: info.point_labels for info in model.manifest.targets}
