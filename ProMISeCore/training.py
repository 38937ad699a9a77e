"""Training of a pack on cached views, with the backbone frozen: APM, IPS and presence, then refiners."""

from __future__ import annotations

import json
import math
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ProMISeCore.budget import REFINED_AT_ONCE, Budget
from ProMISeCore.dataset import Views
from ProMISeCore.decoding import Decoding
from ProMISeCore.doubt import fitted, foreign, is_foreign, outliers
from ProMISeCore.errors import InputError, WeightsError
from ProMISeCore.material import Material
from ProMISeCore.progress import Look, Progress
from ProMISeCore.promise import Promise
from ProMISeCore.refining import Refining
from ProMISeCore.settings import Settings
from ProMISeCore.stopwatch import Stopwatch
from ProMISeCore.target_loss import TargetLoss
from ProMISeCore.whole_file import replacing

#: Shares of the learning that is not the refiners' at which labels are doubted; before, nothing is known of them.
_DOUBT = (0.3, 0.5, 0.7)
_MOST_FAILURES = 20  # steps in a row without finite gradients


class Training:
    """Trains `model`'s targets in turn on `material`; keeps, per target, the state that is best on `held`, and of a
    refiner the one that is best for all of its targets.

    held None: nothing is held out, and the last state is kept. spent: seconds of the budget that are used already.
    """

    def __init__(
        self,
        model: Promise,
        material: Material,
        held: Views | None,
        settings: Settings,
        checkpoint: Path,
        spent: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model, self.material, self.held = model, material, held
        self.settings, self.checkpoint, self._clock = settings, checkpoint, clock
        self.names = list(model.targets)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self._decoding = Decoding(model)
        self._loss = TargetLoss(self._decoding, material, settings, self.generator)
        #: Targets that some held-out slice holds.
        self._shown = {name for number, name in enumerate(self.names) if held and _holding(held, number)}
        self._refined = [name for name in self.names if model.refiner_of(name) is not None]
        served = [info["targets"] for info in model.manifest.refiners]
        groups = list(zip(model.refiners, served, strict=True))
        self._refining = Refining(material.views, groups, self.names, settings.seed, self._loss.draw)
        self.optimizer = torch.optim.AdamW(
            [p for part in (*model.targets.values(), *model.refiners) for p in part.parameters()],
            lr=settings.rate,
            weight_decay=settings.weight_decay,
        )
        self.progress = Progress(
            seconds=spent, best=dict.fromkeys(self.names, -1.0), best_step=dict.fromkeys(self.names, 0)
        )
        self._budget = Budget(settings, _slices(material.views), [len(names) for names in served])
        self.progress.begun = self.share if spent else 0.0
        self.restart()
        self._watch = Stopwatch()
        self._failed = 0  # steps in a row
        self.stopped = False  # by who was asked, before the end
        self._start = model.fingerprint()
        if checkpoint.exists():
            self._resume()

    def restart(self) -> None:
        """Take the weights that the model has now as the first ones. Not for a training that goes on."""
        self.states = {name: _copy(self.model.targets[name]) for name in self.names}
        self.refiner_states = [_copy(refiner) for refiner in self.model.refiners]

    def undo(self) -> None:
        """Back to the states that were best, or to the first weights where nothing is held out."""
        for name in self.names:
            self.model.targets[name].load_state_dict(self.states[name])
        for refiner, state in zip(self.model.refiners, self.refiner_states, strict=True):
            refiner.load_state_dict(state)

    @property
    def share(self) -> float:
        """How much of the budget is used, 0…1."""
        return self._budget.share(self.progress)

    @property
    def seconds(self) -> float:
        """Of learning, without what of the budget was used before."""
        return self.progress.seconds - 60 * (self.settings.minutes or 0) * self.progress.begun

    @property
    def passes(self) -> float:
        """How often every slice was learned from."""
        return self._budget.passes(self.progress)

    @property
    def learned_out(self) -> bool:
        """Whether it has ended before its time, since more passes would bring nothing."""
        return self._budget.is_learned_out(self.progress)

    def step(self, name: str) -> float:
        """One step of what is learned of a target at this point of the budget; its loss."""
        if not self._is_refining(name):
            return self._descend(name, self.model.targets[name], self._loss)
        refiner = self.model.refiners[self.model.refiner_of(name)]
        return float(np.mean([self._descend(name, refiner, self._refining_loss) for _ in range(REFINED_AT_ONCE)]))

    def run(
        self, report: Callable[[Look], None] = lambda look: None, stop: Callable[[], bool] = lambda: False
    ) -> Progress:
        """Train until the budget is used, every target has stopped improving, or `stop()`, asked before each step.

        The best states end up in the model. A stop leaves a checkpoint from which the same training goes on.
        """
        losses: dict[str, list[float]] = {name: [] for name in self.names}
        last_look, cost = replace(self.progress), math.inf
        while self.share < 1:
            if stop():
                self.stopped = True
                break
            started = self._clock()
            running = [n for n in self.names if self._running(n)]
            if self._is_time_to_refine(running):
                if not self._begin_refining(stop):
                    self.stopped = True
                    break
                continue
            if not running:
                break
            for name in running:
                losses[name].append(self.step(name))
            self.progress.step += 1
            self.progress.seconds += self._watch.lasted(self._clock() - started)
            if self._budget.is_time_to_look(self.progress, last_look, cost) or self._has_to_doubt:
                before = self.progress.seconds
                started = self._clock()
                scores, doubted = self._look(running), self.doubt()
                self.progress.seconds += self._watch.lasted(self._clock() - started, is_step=False)
                last_look = replace(self.progress)
                means = {name: round(float(np.mean(found)), 4) for name, found in losses.items() if found}
                losses = {name: [] for name in self.names}
                self._store()
                started = self._clock()
                report(self._seen(means, scores, doubted))
                self.progress.seconds += self._watch.lasted(self._clock() - started, is_step=False)
                cost = self.progress.seconds - before
        self._store()
        if (
            self.share < 1 and self.held is not None
        ):  # stopped: after the checkpoint, which an uninterrupted run has too
            self._look(self.names)
        self._take_best()
        return self.progress

    def _take_best(self) -> None:
        """The states that were kept into the model, but where nothing that is held out knows of a target."""
        judged = [name for name in self.names if self.progress.best[name] >= 0]
        for name in judged:
            self.model.targets[name].load_state_dict(self.states[name])
        for number in {self.model.refiner_of(name) for name in judged} - {None}:
            self.model.refiners[number].load_state_dict(self.refiner_states[number])

    def _seen(self, losses: dict[str, float], scores: dict[str, float | None], doubted: list[dict[str, Any]]) -> Look:
        progress = self.progress
        return Look(progress.step, progress.seconds, self.share, losses, scores, progress.scored, doubted)

    def _running(self, name: str) -> bool:
        patience = self.settings.patience
        if name not in self._refined and self._budget.is_over(self.progress):
            return False
        return (
            patience is None
            or name in self.progress.unjudged
            or self.progress.step - self.progress.best_step[name] < patience * self.settings.every
        )

    def _is_time_to_refine(self, running: list[str]) -> bool:
        """Whether the refiners' part has to be begun, or what it needs to be made again after a resume."""
        if self.progress.refining_from is None:
            return bool(self._refined) and (self._is_decoders_end or not {*running} & {*self._refined})
        return not self._refining.ready

    @property
    def _is_decoders_end(self) -> bool:
        return self.share >= self._budget.decoders_end(self.progress)

    def _begin_refining(self, stop: Callable[[], bool]) -> bool:
        """From here on only their refiners change, beginning with the best that was reached; False where stopped."""
        since = self._clock()

        def used() -> float:
            return self._watch.lasted(self._clock() - since, is_step=False)

        def stopped() -> bool:
            nonlocal since
            self.progress.seconds += used()
            answer = stop()  # which waits while paused
            since = self._clock()
            return answer

        if self.progress.refining_from is None:
            for name, dice in self._look(self._refined).items():
                if dice is not None:  # else nothing tells which state was best
                    self.model.targets[name].load_state_dict(self.states[name])
                self.progress.best_step[name] = self.progress.step
            self.progress.refining_from, self.progress.refining_step = self.share, self.progress.step
        ready = self._refining.prepare(stopped)
        self.progress.seconds += used()
        return ready

    def _is_refining(self, name: str) -> bool:
        return self.progress.refining_from is not None and name in self._refined

    def _descend(self, name: str, part: nn.Module, loss_of: Callable[[str, np.ndarray], Tensor]) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self._budget.rate(self.progress, name in self._refined)
        part.train()
        rows = self.material.rows(self.names.index(name), self.settings, self.generator)
        loss = loss_of(name, rows)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        self._failed = 0 if norm.isfinite() else self._failed + 1
        if self._failed > _MOST_FAILURES:
            raise WeightsError(
                f"training {name!r} gives numbers that are not finite, {self._failed} steps in a row; use a smaller "
                "--rate, or another start; the last checkpoint is kept"
            )
        if norm.isfinite():  # batch normalisation of nearly equal rows can let gradients overflow
            self.optimizer.step()
        return round(loss.item(), 4)

    def _refining_loss(self, name: str, rows: np.ndarray) -> Tensor:
        loss, there = self._refining.loss(name, rows, self.generator, self._decoding.device)
        return (loss * self._loss.weight(there) * self._trusted(name, rows).to(there.device)).mean()

    def _trusted(self, name: str, rows: np.ndarray) -> Tensor:
        """Whether each row's case may teach each target (B, T) of a target's refiner."""
        served = self.model.manifest.refiners[self.model.refiner_of(name)]["targets"]
        doubted = [list(self.material.distrusted.get(self.names.index(other), ())) for other in served]
        return torch.from_numpy(np.stack([~np.isin(self.material.views.case[rows], cases) for cases in doubted], 1))

    def look_before(self) -> dict[str, float | None]:
        """Held-out Dice before the first step, per target; that state is then the best so far."""
        if not self.progress.before:
            self.progress.before = self._look(self.names)
        return self.progress.before

    def _look(self, names: Sequence[str]) -> dict[str, float | None]:
        """Held-out Dice of targets, pooled per case and averaged over the cases; better states are kept."""
        found = {name: self._held_dice(name) for name in names}
        judged = {name: dice for name, dice in found.items() if dice is not None}
        for name in [name for name in judged if not self._is_refining(name)]:
            if self._is_better({name: judged[name]}):
                self.states[name] = _copy(self.model.targets[name])
        for number, refiner in enumerate(self.model.refiners):
            served = {name: dice for name, dice in judged.items() if self.model.refiner_of(name) == number}
            if served and self.progress.refining_from is not None and self._is_better(served):
                self.refiner_states[number] = _copy(refiner)
        return {name: None if dice is None else round(dice, 4) for name, dice in found.items()}

    def _is_better(self, dice: Mapping[str, float]) -> bool:
        """Whether the mean is higher than what was best; it is the best then."""
        progress = self.progress
        if np.mean(list(dice.values())) <= np.mean([progress.best[name] for name in dice]):
            return False
        progress.best |= dice
        progress.best_step |= dict.fromkeys(dice, progress.step)
        return True

    def _held_dice(self, name: str) -> float | None:
        dice = list(self.held_dice(name).values())
        return float(np.mean(dice)) if dice else None

    def held_dice(self, name: str) -> dict[int, float]:
        """Held-out case → Dice of a target now; none where no held-out slice holds it, since finding nothing would be
        perfect there, or where its labels there are doubted."""
        if name not in self._shown or name in self.progress.unjudged:
            return {}
        return self.case_dice(self.held, np.arange(len(self.held)), name)

    def case_dice(self, views: Views, rows: np.ndarray, name: str) -> dict[int, float]:
        """As `Decoding.case_dice`."""
        return self._decoding.case_dice(views, rows, name)

    def doubt(self) -> list[dict[str, Any]]:
        """At some shares of the budget: cases whose labels disagree with what the others teach, and not learned from
        any more. Entries: target, case (of the material, or of those held out), held, dice, typical.

        Where held-out cases are so all together, they no longer judge: the last state counts."""
        if not self._is_time_to_doubt:
            return []
        self.progress.doubts += 1
        views, found = self.material.views, []
        if views.plain is None:
            return []
        for number, name in enumerate(self.names):
            distrusted = self.material.distrusted.setdefault(number, set())
            dice = _only(_holding(views, number), self.case_dice(views, np.flatnonzero(views.plain), name))
            for case, value, typical in outliers(dice):
                if case not in distrusted and len(distrusted) < len(dice) // 4:
                    distrusted.add(case)
                    found.append(_suspect(name, case, False, value, typical))
            found += self._doubt_held(name, dice)
        self.progress.suspects += found
        return found

    @property
    def _is_time_to_doubt(self) -> bool:
        share, doubts = self._budget.decoders_share(self.progress), self.progress.doubts
        return doubts < len(_DOUBT) and share >= _DOUBT[doubts]

    @property
    def _has_to_doubt(self) -> bool:
        """Whether that does not wait for a look: with few slices all is over soon."""
        return self.settings.minutes is not None and self._is_time_to_doubt

    def _doubt_held(self, name: str, learned: Mapping[int, float]) -> list[dict[str, Any]]:
        typical = fitted(learned)
        if typical is None or self.held is None:
            return []
        held = _only(_holding(self.held, self.names.index(name)), self.held_dice(name))
        known = {suspect["case"] for suspect in self.progress.suspects if suspect["held"] and suspect["target"] == name}
        most = max(1, len(held) // 4) - len(known)
        if is_foreign(held, typical):
            self.progress.unjudged.append(name)
            self.progress.best[name] = -1.0
            most = len(held)
        far = [each for each in foreign(held, typical) if each[0] not in known]
        return [_suspect(name, case, True, value, typical) for case, value, typical in far[: max(0, most)]]

    def _identity(self) -> str:
        """What has to be the same for a checkpoint to be continued: start, settings, targets, backbone and rows."""
        manifest = self.model.manifest.entries()
        held = None if self.held is None else self.held.key
        parts = [manifest["targets"], manifest.get("refiners"), manifest["backbone"], self.material.views.key, held]
        return json.dumps([asdict(self.settings), self._start, *parts], sort_keys=True)

    def _store(self) -> None:
        state = {
            "targets": {name: self.model.targets[name].state_dict() for name in self.names},
            "states": self.states,
            "refiners": [refiner.state_dict() for refiner in self.model.refiners],
            "refiner_states": self.refiner_states,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "identity": self._identity(),
            "progress": asdict(self.progress),
        }
        with replacing(self.checkpoint) as part:
            torch.save(state, part)

    def _resume(self) -> None:
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            identity = state["identity"]
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, OSError) as error:
            raise InputError(f"{self.checkpoint} is damaged or of another version; remove it to start again") from error
        if identity != self._identity():
            raise InputError(
                f"{self.checkpoint} belongs to a training with another start, settings, targets or cases; remove "
                "it, or use another --workspace"
            )
        for name in self.names:
            self.model.targets[name].load_state_dict(state["targets"][name])
        for refiner, learned in zip(self.model.refiners, state["refiners"], strict=True):
            refiner.load_state_dict(learned)
        self.states, self.refiner_states = state["states"], state["refiner_states"]
        self.progress = Progress(**state["progress"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.progress.suspects = [
            {"held": False} | suspect for suspect in self.progress.suspects
        ]  # an older checkpoint does not say
        for suspect in (suspect for suspect in self.progress.suspects if not suspect["held"]):
            self.material.distrusted.setdefault(self.names.index(suspect["target"]), set()).add(suspect["case"])


def _slices(views: Views) -> int:
    """How many different ones there are; every view is one where they are made anew."""
    return len(views) if views.plain is None else int(views.plain.sum())


def _holding(views: Views, target: int) -> set[int]:
    """Cases that hold a target; of others a single wrong pixel makes the Dice 0."""
    return {int(case) for case in views.case[views.masks[:, target].any((1, 2))]}


def _only(cases: set[int], dice: Mapping[int, float]) -> dict[int, float]:
    return {case: value for case, value in dice.items() if case in cases}


def _suspect(target: str, case: int, held: bool, dice: float, typical: float) -> dict[str, Any]:
    return {"target": target, "case": case, "held": held, "dice": round(dice, 4), "typical": round(typical, 4)}


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}
