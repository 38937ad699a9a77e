"""Training of a pack: APM, IPS and presence of every target on cached views, with the backbone frozen."""

from __future__ import annotations

import json
import math
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ProMISeCore import simulate
from ProMISeCore.dataset import Views
from ProMISeCore.errors import InputError
from ProMISeCore.pretrain import mask_loss
from ProMISeCore.promise import Encoded, Promise
from ProMISeCore.whole_file import replacing


@dataclass(frozen=True)
class Settings:
    """How a pack is trained. Steps count batches of one target; weights of the losses beside the mask's."""

    steps: int = 1500
    batch: int = 16
    rate: float = 1e-3
    weight_decay: float = 0.05
    every: int = 50  # steps between looks at the held-out cases
    patience: int = 8  # looks without improvement before a target stops
    empty_share: float = 0.2  # of a batch: slices without the target
    empty_weight: float = 0.3  # of the mask loss on them
    guide: float = 2.0  # pull of the points to good places; 0 as published
    presence: float = 0.2
    seed: int = 0


class Material:
    """Views of the training cases for one model: batches of rows, and the good places for every target's points."""

    def __init__(self, views: Views, point_labels: Mapping[str, Sequence[int]]) -> None:
        self.views = views
        self.filled = views.masks.any((2, 3))
        self.places = {
            name: torch.stack([simulate.places(torch.from_numpy(mask), labels) for mask in views.masks[:, number]])
            for number, (name, labels) in enumerate(point_labels.items())
            if len(labels)
        }

    def rows(self, target: int, settings: Settings, generator: torch.Generator) -> np.ndarray:
        """A random batch of rows, `empty_share` of them without the target where there are such."""
        filled, empty = np.flatnonzero(self.filled[:, target]), np.flatnonzero(~self.filled[:, target])
        if not len(filled):
            raise InputError("no training slice holds this target; check the label values of --targets")
        count = round(settings.batch * settings.empty_share) if len(empty) else 0
        draws = [
            torch.randint(len(pool), (size,), generator=generator).numpy()
            for pool, size in ((filled, settings.batch - count), (empty, count))
            if size
        ]
        return np.concatenate([pool[draw] for pool, draw in zip((filled, empty), draws, strict=False)])


@dataclass
class Progress:
    """What a training has reached; per target the best held-out Dice, when it was, and whether it has stopped."""

    step: int = 0
    seconds: float = 0.0
    best: dict[str, float] | None = None
    best_step: dict[str, int] | None = None


class Training:
    """Trains `model`'s targets in turn on `material`; keeps, per target, the state that is best on `held`."""

    def __init__(self, model: Promise, material: Material, held: Views, settings: Settings, checkpoint: Path) -> None:
        self.model, self.material, self.held, self.settings, self.checkpoint = (
            model,
            material,
            held,
            settings,
            checkpoint,
        )
        self.names = list(model.targets)
        self.device = next(model.sam.parameters()).device
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.optimizer = torch.optim.AdamW(
            [p for t in model.targets.values() for p in t.parameters()],
            lr=settings.rate,
            weight_decay=settings.weight_decay,
        )
        self.progress = Progress(best={n: -1.0 for n in self.names}, best_step={n: 0 for n in self.names})
        self.states = {name: _copy(model.targets[name]) for name in self.names}
        if checkpoint.exists():
            self._resume()

    def run(self, report: Callable[[str], None] = print) -> Progress:
        """Train until every target has had its steps or has stopped improving; the best states end up in the model."""
        settings = self.settings
        while self.progress.step < settings.steps:
            started = time.monotonic()
            running = [n for n in self.names if self._running(n)]
            if not running:
                break
            losses = {name: self._step(name) for name in running}
            self.progress.step += 1
            due = self.progress.step % settings.every == 0 or self.progress.step == settings.steps
            scores = {name: self._look(name) for name in running} if due else {}
            self.progress.seconds += time.monotonic() - started
            if due:
                report(
                    json.dumps(
                        {
                            "step": self.progress.step,
                            "seconds": round(self.progress.seconds),
                            "loss": losses,
                            "dice": scores,
                        }
                    )
                )
                self._store()
        for name in self.names:
            self.model.targets[name].load_state_dict(self.states[name])
        return self.progress

    def _running(self, name: str) -> bool:
        return self.progress.step - self.progress.best_step[name] < self.settings.patience * self.settings.every

    def _step(self, name: str) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.model.targets[name].train()
        rows = self.material.rows(self.names.index(name), self.settings, self.generator)
        loss = self._loss(name, rows)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.targets[name].parameters(), 1.0)
        if norm.isfinite():  # batch normalisation of nearly equal rows can let gradients overflow
            self.optimizer.step()
        return round(loss.item(), 4)

    def _rate(self) -> float:
        part = self.progress.step / self.settings.steps
        warm = min(1.0, (self.progress.step + 1) / 50)
        return self.settings.rate * warm * (0.01 + 0.495 * (1 + math.cos(math.pi * part)))

    def _loss(self, name: str, rows: np.ndarray) -> Tensor:
        encoded, masks = self._encoded(self.material.views, rows, name)
        output = self._solve(encoded, name)
        there = masks.flatten(1).any(1)
        weight = torch.where(there, 1.0, self.settings.empty_weight)
        loss = (mask_loss(output.logits[:, :1].float(), masks[:, None])[:, 0] * weight).mean()
        if output.points is not None and self.settings.guide and there.any():
            places = self.material.places[name][rows].to(self.device)[there]
            points = output.points[there] / self.model.sam.side
            loss = loss + self.settings.guide * F.smooth_l1_loss(points, places, beta=0.02)
        if output.presence is not None:
            loss = loss + self.settings.presence * F.binary_cross_entropy(
                output.presence.float().clamp(1e-6, 1 - 1e-6), there.float()
            )
        return loss

    def _encoded(self, views: Views, rows: np.ndarray, name: str) -> tuple[Encoded, Tensor]:
        embedding, features, masks = views.take(rows)
        encoded = Encoded(embedding.to(self.device), [f.to(self.device) for f in features])
        return encoded, masks[:, self.names.index(name)].to(self.device)

    def _solve(self, encoded: Encoded, name: str):
        kind = self.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind in ("cpu", "cuda")):
            return self.model.solve(encoded, name)

    @torch.no_grad()
    def _look(self, name: str, batch: int = 32) -> float:
        """Held-out Dice of a target, pooled per case and averaged over the cases; a better state is kept."""
        target = self.model.targets[name].eval()
        overlap, total = np.zeros(self.held.case.max() + 1), np.zeros(self.held.case.max() + 1)
        least = self.model.manifest.presence_threshold
        for first in range(0, len(self.held), batch):
            rows = np.arange(first, min(first + batch, len(self.held)))
            encoded, masks = self._encoded(self.held, rows, name)
            output = self._solve(encoded, name)
            found = output.logits[:, 0] > 0
            if output.presence is not None:
                found &= (output.presence >= least)[:, None, None]
            np.add.at(overlap, self.held.case[rows], 2 * (found & masks).flatten(1).sum(1).cpu().numpy())
            np.add.at(total, self.held.case[rows], (found.flatten(1).sum(1) + masks.flatten(1).sum(1)).cpu().numpy())
        cases = np.unique(self.held.case)
        dice = float(np.where(total[cases] > 0, overlap[cases] / np.maximum(total[cases], 1), 1.0).mean())
        if dice > self.progress.best[name]:
            self.progress.best[name], self.progress.best_step[name] = dice, self.progress.step
            self.states[name] = _copy(target)
        return round(dice, 4)

    def _identity(self) -> str:
        """What has to be the same for a checkpoint to be continued: settings, targets, backbone and rows."""
        manifest = self.model.manifest.entries()
        parts = [manifest["targets"], manifest["backbone"], self.material.views.key, self.held.key]
        return json.dumps([asdict(self.settings), *parts], sort_keys=True)

    def _store(self) -> None:
        state = {
            "targets": {name: self.model.targets[name].state_dict() for name in self.names},
            "states": self.states,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "identity": self._identity(),
            "progress": asdict(self.progress),
        }
        with replacing(self.checkpoint) as part:
            torch.save(state, part)

    def _resume(self) -> None:
        try:
            state = torch.load(self.checkpoint, weights_only=True)
            identity = state["identity"]
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
            raise InputError(f"{self.checkpoint} is damaged or of another version; remove it to start again") from error
        if identity != self._identity():
            raise InputError(
                f"{self.checkpoint} belongs to a training with other settings, targets or cases; remove it, or use "
                "another --workspace"
            )
        for name in self.names:
            self.model.targets[name].load_state_dict(state["targets"][name])
        self.states, self.progress = state["states"], Progress(**state["progress"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


def time_epoch(model: Promise, views: Views, settings: Settings, folder: Path) -> float:
    """Seconds of one epoch of every target over cached views, for `promise bench`."""
    labels = {name: target.point_labels.tolist() for name, target in model.targets.items()}
    steps = max(1, len(views) // settings.batch)
    training = Training(
        model, Material(views, labels), views, replace(settings, steps=steps, every=10**9), folder / "epoch.pt"
    )
    started = time.monotonic()
    for _ in range(steps):
        for name in training.names:
            training._step(name)
    return time.monotonic() - started
