"""Training of the default backbone: a small SAM, taught to follow prompts on every set of the corpus at once.

Three losses share each encoded picture: prompts as a user gives them (a first prompt, then a corrective click with the
mask found so far); *shifts*, one learned change of the mask tokens per named class, so that the decoder, which stays
frozen ever after, has learned to be steered the way Incremental Pattern Shifting steers it; and dense heads on the
embedding, one per set. Heads are dropped at the end; the shifts are kept aside, where the training of packs can start.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ProMISeCore import allocator, corpus, devices, simulate
from ProMISeCore.draw import ALIASES, SETS, Batch, Stage, ahead
from ProMISeCore.errors import InputError
from ProMISeCore.sam import Sam, build
from ProMISeCore.whole_file import replacing


class Aids(nn.Module):
    """What trains beside the backbone and is dropped afterwards: dense heads and token shifts."""

    def __init__(self) -> None:
        super().__init__()
        named = {n: c for n, (_, c) in SETS.items() if c and n not in ALIASES}
        self.heads = nn.ModuleDict({name: nn.Conv2d(256, classes + 1, 1) for name, classes in named.items()})
        self.shifts = nn.ParameterDict({name: torch.zeros(classes, 4, 256) for name, classes in named.items()})


def mask_loss(logits: Tensor, masks: Tensor, known: Tensor | None = None) -> Tensor:
    """Binary cross-entropy + soft Dice per mask: logits and masks (P, T, s, s) → (P, T).

    known (P, T, s, s) bool: pixels outside of it change neither the loss nor its gradient.
    """
    masks = masks.float().expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    probability = logits.sigmoid()
    if known is None:
        entropy = entropy.mean((2, 3))
    else:
        entropy = (entropy * known).sum((2, 3)) / known.sum((2, 3)).clamp(min=1)
        probability, masks = probability * known, masks * known
    overlap = 2 * (probability * masks).sum((2, 3)) + 1
    return 2 * entropy + 1 - overlap / (probability.sum((2, 3)) + masks.sum((2, 3)) + 1)


def iou(logits: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union of logits > 0 with masks, both (P, T, s, s) → (P, T)."""
    found = logits > 0
    masks = masks.expand_as(found)
    return (found & masks).sum((2, 3)) / (found | masks).sum((2, 3)).clamp(min=1)


class Step:
    """One training step's losses on a batch.

    Networks run where the backbone is; prompts are drawn, and masks compared, on the CPU, where the generator is.
    """

    def __init__(self, sam: Sam, aids: Aids, generator: torch.Generator) -> None:
        self.sam, self.aids, self.generator = sam, aids, generator
        self.device = next(sam.parameters()).device

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        pictures = batch.pictures.contiguous(memory_format=torch.channels_last).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            embedding = self.sam.image_encoder.from_half(pictures)
        embedding = embedding.float()
        dense, dense_dice = self._dense(embedding, batch)
        shift, shifted = self._shifted(embedding, batch)
        prompt, seen = self._prompted(embedding, batch)
        seen |= shifted | {"dense": dense_dice}
        return 0.7 * dense.cpu() + shift + prompt, seen

    def _dense(self, embedding: Tensor, batch: Batch) -> tuple[Tensor, float]:
        losses, dices = [], []
        for number, name in enumerate(batch.names):
            key = ALIASES.get(name, name)
            if key not in self.aids.heads:
                continue
            target = F.adaptive_avg_pool2d(batch.classes[number].float(), embedding.shape[-1])
            target = torch.cat([(1 - target.sum(0, keepdim=True)).clamp(0, 1), target]).to(self.device)
            logits = self.aids.heads[key](embedding[number : number + 1])[0]
            guess = logits.softmax(0)
            entropy = -(target * logits.log_softmax(0)).sum(0).mean()
            dice = (2 * (guess * target).sum((1, 2)) + 0.5) / (guess.sum((1, 2)) + target.sum((1, 2)) + 0.5)
            losses.append(entropy + (1 - dice[1:]).mean())
            if batch.classes[number].any():
                dices.append(dice[1:][target[1:].amax((1, 2)) > 0].mean().item())
        return (torch.stack(losses).mean() if losses else embedding.sum() * 0), float(
            np.mean(dices)
        ) if dices else math.nan

    def _shifted(self, embedding: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Token 1 under the shift of a named class: with no points or scattered ones as APM places them, then with
        corrective clicks beside these, so that a shifted decoder still does what a user asks."""
        rows, shifts, masks = [], [], []
        for number, name in enumerate(batch.names):
            classes = batch.classes[number]
            if not len(classes):
                continue
            present = classes.flatten(1).any(1).nonzero()[:, 0]
            pool = (
                present
                if len(present) and torch.rand((), generator=self.generator) < 0.85
                else torch.arange(len(classes))
            )
            chosen = pool[torch.randint(len(pool), (), generator=self.generator)]
            rows.append(number)
            shifts.append(self.aids.shifts[ALIASES.get(name, name)][chosen])
            masks.append(classes[chosen])
        if not rows:
            return embedding.sum().cpu() * 0, {}
        masks = torch.stack(masks)
        points = labels = None
        if torch.rand((), generator=self.generator) < 0.7:
            count = int(torch.randint(1, 5, (), generator=self.generator))
            inside, outside = (
                simulate.random_points(masks, count, self.generator),
                simulate.random_points(simulate.ring(masks, 12), count, self.generator),
            )
            points = torch.cat([inside, outside], 1)
            points = points + 0.02 * self.sam.side * torch.randn(points.shape, generator=self.generator)
            labels = torch.cat([torch.ones(len(rows), count), torch.zeros(len(rows), count)], 1).long()
        filled = masks.flatten(1).any(1)
        logits = self._decoded(embedding[rows], points, labels, torch.stack(shifts))
        loss, seen = mask_loss(logits, masks[:, None]).mean(), {"shift": self._reached(logits, masks, filled)}
        clicks, signs = simulate.corrections(masks, logits.detach()[:, 0] > 0, 3, self.generator)
        if points is not None:
            clicks, signs = torch.cat([points, clicks], 1), torch.cat([labels, signs], 1)
        logits = self._decoded(embedding[rows], clicks, signs, torch.stack(shifts))
        seen["shift_corrected"] = self._reached(logits, masks, filled)
        return loss + mask_loss(logits, masks[:, None]).mean(), seen

    def _decoded(self, embedding: Tensor, points: Tensor | None, labels: Tensor | None, shift: Tensor) -> Tensor:
        """Token 1's logits (B, 1, s, s)."""
        logits, _ = self._answered(embedding, points, labels, shift=shift)
        return logits[:, 1:2]

    def _answered(
        self, embedding: Tensor, *prompts: Tensor | None, shift: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """All tokens' logits (B, 4, s, s) and predicted IoU (B, 4) on the CPU, for points, labels, boxes and masks."""
        there = [None if prompt is None else prompt.to(self.device) for prompt in prompts]
        with torch.autocast(self.device.type, torch.bfloat16):
            logits, quality = self.sam.decode_tokens(embedding, *there, shift=shift)
        return logits.float().cpu(), quality.float().cpu()

    def _reached(self, logits: Tensor, masks: Tensor, filled: Tensor) -> float:
        return iou(logits, masks[:, None])[filled].mean().item()

    def _prompted(self, embedding: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """A first prompt and a corrective click for every non-empty object; the best of three masks after one click."""
        rows, numbers = batch.objects.flatten(2).any(2).nonzero(as_tuple=True)
        if not len(rows):
            return embedding.sum().cpu() * 0, {}
        masks = batch.objects[rows, numbers]
        prompts = simulate.first_prompts(masks, self.generator)
        ambiguous = prompts.box is None and prompts.points.shape[1] == 1 and prompts.mask is None
        total, seen = 0.0, {}
        for turn in ("first", "second"):
            logits, quality = self._answered(embedding[rows], prompts.points, prompts.labels, prompts.box, prompts.mask)
            losses, reached = mask_loss(logits, masks[:, None]), iou(logits, masks[:, None])
            best = losses[:, 1:].amin(1) + 0.2 * losses.mean(1) if ambiguous and turn == "first" else losses.mean(1)
            total = total + best.mean() + F.mse_loss(quality, reached.detach())
            pick = quality[:, 1:].argmax(1) + 1
            found = logits.detach()[torch.arange(len(rows)), pick]
            kind = (
                "click"
                if ambiguous
                else "box"
                if prompts.box is not None
                else "points"
                if prompts.mask is None
                else "rough"
            )
            seen[f"{turn}_{kind}"] = reached[torch.arange(len(rows)), pick].mean().item()
            points, labels = simulate.correction(masks, found > 0, self.generator)
            prompts = prompts.add(points, labels, found[:, None].clamp(-32, 32))
        return total, seen


class Average:
    """An exponential moving average of the backbone's weights, which is what gets saved."""

    def __init__(self, sam: Sam, decay: float = 0.998) -> None:
        self.decay, self.steps = decay, 0
        self.state = {key: value.detach().clone() for key, value in sam.state_dict().items()}

    def update(self, sam: Sam) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        with torch.no_grad():
            for key, value in sam.state_dict().items():
                self.state[key].lerp_(value, 1 - decay)


def save(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write fp16 weights, whole or not at all."""
    with replacing(path) as part:
        save_file({key: value.half().cpu().contiguous() for key, value in state.items()}, str(part), metadata)


def set_side(sam: Sam, side: int) -> None:
    """Let a fully convolutional backbone work on frames of another side."""
    sam.side, sam.grid = side, side // 16
    sam.prompt_encoder.image_embedding_size = (sam.grid, sam.grid)
    sam.prompt_encoder.input_image_size = (side, side)
    sam.prompt_encoder.mask_input_size = (4 * sam.grid, 4 * sam.grid)


class Pretraining:
    """The loop: stages by share of the time, learning rate by the clock, checkpoints, a log."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        torch.manual_seed(arguments.seed)
        self.device = devices.choose(arguments.device)
        self.sam, self.aids = build("tiny").to(self.device), Aids().to(self.device)
        self.sam.requires_grad_(True).train()
        if arguments.init:
            with np.load(arguments.init) as arrays:
                self.sam.image_encoder.start_from_imagenet(arrays)
        if arguments.start:
            self.sam.load_state_dict({key: value.float() for key, value in load_file(arguments.start).items()})
        self.sam.image_encoder.requires_grad_(not arguments.decoder_only)  # its normalisation still follows the data
        self.generator = torch.Generator().manual_seed(arguments.seed)
        pretrained = [p for n, p in self.sam.image_encoder.named_parameters() if n.startswith(("stem", "blocks"))]
        known = {id(p) for p in pretrained}
        fresh = [p for p in [*self.sam.parameters(), *self.aids.parameters()] if id(p) not in known and p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [{"params": pretrained, "scale": 0.5}, {"params": fresh, "scale": 1.0}],
            lr=arguments.rate,
            weight_decay=0.02,
        )
        self.average = Average(self.sam)
        self.seconds, self.steps = 0.0, 0
        self.checkpoint = arguments.workspace / "pretrain.pt"
        if self.checkpoint.exists():
            self._resume()

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, "cpu", weights_only=True)
        self.sam.load_state_dict(state["sam"])
        self.aids.load_state_dict(state["aids"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.state = {key: value.to(self.device) for key, value in state["average"].items()}
        self.average.steps = state["steps"]
        self.seconds, self.steps = state["seconds"], state["steps"]

    def _store(self) -> None:
        state = {
            "sam": self.sam.state_dict(), "aids": self.aids.state_dict(), "optimizer": self.optimizer.state_dict(),
            "average": self.average.state, "seconds": self.seconds, "steps": self.steps,
        }  # fmt: skip
        with replacing(self.checkpoint) as part:
            torch.save(state, part)
        save(self.arguments.out, self.average.state, {"steps": str(self.steps), "seconds": f"{self.seconds:.0f}"})

    def _rate(self) -> float:
        warmup = min(1.0, (self.steps + 1) / 200)
        return (
            self.arguments.rate * warmup * (0.02 + 0.49 * (1 + math.cos(math.pi * min(1, self.seconds / self.budget))))
        )

    @property
    def budget(self) -> float:
        return 60 * self.arguments.minutes

    def run(self) -> None:
        coarse, names = self.arguments.coarse * self.budget, tuple(self.arguments.sets)
        crops = coarse + self.arguments.crops * self.budget
        stages = (Stage(256, names), coarse), (Stage(256, names, crops=True), crops), (Stage(512, names), self.budget)
        for stage, end in stages:
            if self.seconds < end:
                set_side(self.sam, stage.side)
                seed, workers = self.arguments.seed + self.steps, self.arguments.workers
                self._train(ahead(self.arguments.workspace, stage, seed, workers), end)
        set_side(self.sam, 512)
        self._store()
        shifts = {name: shift.detach() for name, shift in self.aids.shifts.items()}
        save(self.arguments.workspace / "shifts.safetensors", shifts, {"of": "named classes, (classes, 4, 256)"})

    def _train(self, batches: Iterator[Batch], end: float) -> None:
        step, history, stored = Step(self.sam, self.aids, self.generator), [], time.monotonic()
        while self.seconds < end:
            started = time.monotonic()
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate() * group["scale"]
            loss, seen = step(next(batches))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.sam.parameters(), 1.0)
            self.optimizer.step()
            self.average.update(self.sam)
            self.steps += 1
            history.append(seen | {"loss": loss.item()})
            self.seconds += time.monotonic() - started
            if self.steps % 50 == 0:
                self._log(history)
                history = []
            if time.monotonic() - stored > 180:
                self._store()
                stored = time.monotonic()

    def _log(self, history: list[dict[str, float]]) -> None:
        keys = sorted({key for entry in history for key in entry})
        means = {key: round(float(np.nanmean([e.get(key, math.nan) for e in history])), 3) for key in keys}
        line = {"steps": self.steps, "seconds": round(self.seconds), "side": self.sam.side, **means}
        print(json.dumps(line), flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `promise pretrain`."""
    parser.add_argument("--data", type=Path, required=True, help="folder with images/ and volumes/")
    parser.add_argument(
        "--workspace", type=Path, required=True, help="where packed arrays and checkpoints go; rerun to resume"
    )
    parser.add_argument("--init", type=Path, help="MobileNetV2's ImageNet convolutions (.npz)")
    parser.add_argument("--out", type=Path, required=True, help="the weights to write (.safetensors)")
    parser.add_argument("--minutes", type=float, default=90, help="training time, packing excluded")
    parser.add_argument(
        "--coarse", type=float, default=0.5, help="share of the time spent at frame side 256 before 512"
    )
    parser.add_argument(
        "--crops",
        type=float,
        default=0.0,
        help="share of the time spent, after that, on crops of side 256 at full detail",
    )
    parser.add_argument(
        "--sets", nargs="+", choices=SETS, default=list(SETS), metavar="NAME", help="learn from these only"
    )
    parser.add_argument("--start", type=Path, help="weights of a backbone to go on from (.safetensors), not --init")
    parser.add_argument(
        "--decoder-only",
        action="store_true",
        help="leave the encoder as it begins: random without --init or --start",
    )
    parser.add_argument("--rate", type=float, default=6e-4, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw batches; more for an accelerator")


def run(arguments: argparse.Namespace) -> None:
    """Pack the corpus where needed, then train until the time is up."""
    if arguments.workers < 1:
        raise InputError(f"--workers is {arguments.workers}; expected 1 or more")
    devices.choose(arguments.device)  # refused before an hour of packing
    allocator.keep_freed_memory()
    corpus.pack(arguments.data, arguments.workspace, "train")
    Pretraining(arguments).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    run(parser.parse_args())
