"""`promise train`: a pack from images and label maps, with the backbone frozen."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ProMISeCore import allocator, caveats, packs, pairs, volumes
from ProMISeCore.augment import VOLUMES, Augment
from ProMISeCore.base import framing
from ProMISeCore.dataset import Encoder, Task, Views, plan
from ProMISeCore.errors import InputError
from ProMISeCore.manifest import Manifest
from ProMISeCore.material import Material
from ProMISeCore.progress import Look
from ProMISeCore.settings import Settings
from ProMISeCore.terminal import duration, progress, say
from ProMISeCore.training import Training
from ProMISeCore.whole_file import check_folder
from ProMISeCore.windows import parsed

_PICTURE = {"orientation": "image", "window": {"mode": "bytes"}, "channels": "repeat", "padding": "corner"}
_VOLUME = {
    "orientation": "axial",
    "window": {"mode": "percentile", "low": 0.5, "high": 99.5},
    "channels": "neighbours",
    "padding": "corner",
}

#: Options of which a pack tells where they are not this.
_USUAL = {
    "slices": 16,
    "rate": Settings.rate,
    "guide": Settings.guide,
    "corrections": Settings.corrections,
    "refine": 0.0,
    "refiner": None,
    "upright": False,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `promise train`."""
    parser.add_argument("--images", nargs="+", required=True, help="folders, patterns or files")
    parser.add_argument("--labels", nargs="+", help="the same for label maps; default: beside the images")
    parser.add_argument("--backbone", default="tiny", help="name or file (default: %(default)s)")
    parser.add_argument("--side", type=int, help="frame side, a multiple of 16 (default: the backbone's own)")
    parser.add_argument("--out", type=Path, required=True, help="the pack to write (.safetensors)")
    parser.add_argument(
        "--targets",
        nargs="+",
        default=["target=1"],
        metavar="NAME=VALUE",
        help="what to learn and its label value: LV=3",
    )
    parser.add_argument(
        "--orientation",
        choices=("axial", "sagittal", "coronal", "image"),
        help="default: the base's, or axial, image for pictures",
    )
    parser.add_argument(
        "--window",
        metavar="MODE[:LOW:HIGH]",
        help="percentile:0.5:99.5, fixed:-160:240 or bytes (default: the base's, or the first, bytes for pictures)",
    )
    parser.add_argument(
        "--channels", choices=("repeat", "neighbours"), help="default: the base's, or neighbours, repeat for pictures"
    )
    parser.add_argument("--padding", choices=("corner", "squeeze"), help="default: the base's, or corner")
    parser.add_argument("--modality", default=None, help="MR, CT, RGB, …")
    _add_learning_arguments(parser)


def _add_learning_arguments(parser: argparse.ArgumentParser) -> None:
    """What is trained, and how."""
    parser.add_argument("--apm", choices=("lite", "resnet", "cross", "none"), default="lite")
    parser.add_argument("--points", type=int, default=8, help="points per target, the first half positive")
    parser.add_argument("--hidden", type=int, default=256, help="width of PaE's hidden layer (published: 1024)")
    parser.add_argument("--static", action="store_true", help="IPS without PaE: learned constant shifts")
    parser.add_argument("--views", type=int, default=4, help="cached views of every slice, the first as it is")
    parser.add_argument("--upright", action="store_true", help="no mirrored views: left and right are told apart")
    parser.add_argument("--slices", type=int, default=_USUAL["slices"], help="slices of every volume at most")
    parser.add_argument("--held-out", type=float, default=0.1, help="share of the cases kept for early stopping")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--batch", type=int, default=Settings.batch)
    parser.add_argument("--rate", type=float, default=Settings.rate)
    parser.add_argument(
        "--guide", type=float, default=Settings.guide, help="pull of points to good places; 0 as published"
    )
    parser.add_argument(
        "--corrections",
        type=float,
        default=Settings.corrections,
        help="weight of the loss after simulated clicks; 0 as published",
    )
    parser.add_argument(
        "--refine",
        type=float,
        default=0.0,
        help="share of the steps for a refiner of the targets; 0: as published; 1 with --base: only that",
    )
    parser.add_argument("--refiner", type=int, metavar="WIDTH", help="channels of it (default: the base's, or 16)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workspace", type=Path, help="where views and checkpoints stay; default: beside --out")
    parser.add_argument(
        "--shifts", metavar="FILE:KEY", help="start from what `promise pretrain` learned for the same label values"
    )
    parser.add_argument(
        "--base", metavar="PACK", help="go on from this pack of the same targets and backbone (name or file)"
    )
    parser.add_argument(
        "--card",
        type=Path,
        help="JSON with title, description, licence, intended_use, data, colours, largest_component, smoothing_mm …",
    )


def run(arguments: argparse.Namespace) -> None:
    """Encode the views, train, write the pack, and say what it reached on the held-out cases."""
    from ProMISeCore import devices, sam
    from ProMISeCore.promise import Promise

    allocator.keep_freed_memory()
    _check(arguments)
    found = pairs.find(arguments.images, arguments.labels)
    for what in caveats.automatic(found):
        say(what)
    card, values = _card(arguments), _values(arguments.targets)
    backbone = sam.load(arguments.backbone, devices.choose(arguments.device), arguments.side)
    base = _base(arguments.base, backbone, list(values)) if arguments.base else None
    task = _task(arguments, values, found, base)
    manifest = Manifest.of(_manifest(arguments, task, card, backbone, len(found), base))
    torch.manual_seed(arguments.seed)
    model = Promise(backbone, manifest)
    workspace = arguments.workspace or arguments.out.with_suffix(".training")
    workspace.mkdir(parents=True, exist_ok=True)
    if arguments.shifts:
        _start(model, arguments.shifts, list(task.values.values()))
    if base is not None:
        _go_on(model, arguments.base, base)
    learn, held = _views(arguments, task, found, backbone, model, workspace)
    settings = Settings(
        steps=arguments.steps,
        batch=arguments.batch,
        rate=arguments.rate,
        guide=arguments.guide,
        corrections=arguments.corrections,
        refine=arguments.refine,
        seed=arguments.seed,
    )
    material = Material(learn, {t.name: t.point_labels for t in manifest.targets})
    reached = Training(model, material, held, settings, workspace / "training.pt").run(_tell)
    manifest = model.without_idle_refiners().manifest
    seconds = round(manifest.training["seconds"] + reached.seconds, 1)
    manifest = replace(manifest, training=dict(manifest.training) | {"seconds": seconds})
    packs.save(arguments.out, manifest, model.tensors(), half=True)
    dice = ", ".join(f"{name} {value:.3f}" for name, value in reached.best.items())
    print(f"{arguments.out}: held-out Dice {dice}; {reached.step} steps in {duration(reached.seconds)}")


def _tell(look: Look) -> None:
    say(json.dumps({"step": look.step, "seconds": round(look.seconds), "loss": look.loss, "dice": look.dice}))


def _check(arguments: argparse.Namespace) -> None:
    """Refuse now what would fail after hours: numbers out of range, and a place that no pack can be written to."""
    for name in ("views", "slices", "steps", "batch"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name} is {getattr(arguments, name)}; expected 1 or more")
    if not 0 < arguments.held_out < 1:
        raise InputError(f"--held-out is {arguments.held_out}; expected a share of the cases, between 0 and 1")
    if not 0 < arguments.rate < 1:
        raise InputError(f"--rate is {arguments.rate}; expected a number between 0 and 1")
    if not 0 <= arguments.refine <= 1 or arguments.refine == 1 and not arguments.base:
        raise InputError(
            f"--refine is {arguments.refine:g}; expected a share of the steps, 0 or more and below 1 (1 with --base)"
        )
    for name in ("guide", "corrections"):
        if not 0 <= getattr(arguments, name) < 1e6:
            raise InputError(f"--{name} is {getattr(arguments, name)}; expected a weight, 0 or more")
    if arguments.out.suffix != packs.SUFFIX:
        raise InputError(f"--out is {arguments.out}; packs end in {packs.SUFFIX}")
    if arguments.base and arguments.shifts:
        raise InputError("--base and --shifts are two starts; give one of them")
    check_folder(arguments.out.resolve().parent)


def _base(name: str, backbone, names: list[str]) -> Manifest:
    """Of the pack to go on from. Raises InputError for one of another backbone or other targets."""
    path = packs.find(name)
    base, fingerprint = packs.read_manifest(path), backbone.fingerprint()
    if base.backbone.fingerprint != fingerprint:
        raise InputError(
            f"--base got {path.name}, made for the backbone {base.backbone.name} with fingerprint "
            f"{base.backbone.fingerprint[:12]}…; this is {backbone.name} with {fingerprint[:12]}…"
        )
    learned = [target.name for target in base.targets]
    if learned != names:
        raise InputError(f"--base got a pack of {', '.join(learned)}; --targets are {', '.join(names)}")
    return base


def _task(
    arguments: argparse.Namespace, values: dict[str, int], found: list[pairs.Pair], base: Manifest | None
) -> Task:
    """How slices are seen. Raises InputError where that is not how the base, whose weights rely on it, sees them."""
    picture = volumes.read(found[0].image).picture
    asked = {name: getattr(arguments, name) for name in ("orientation", "window", "channels", "padding")}
    asked["window"] = asked["window"] and parsed(asked["window"])
    if base is None:
        usual = _PICTURE if picture else _VOLUME
        return Task(values, **usual | {name: value for name, value in asked.items() if value is not None})
    if picture != (base.orientation == "image"):
        kinds = ("pictures", "a volume") if base.orientation == "image" else (f"{base.orientation} slices", "a picture")
        raise InputError(f"--base is a pack for {kinds[0]}; {found[0].image.name} is {kinds[1]}")
    return Task(values, **framing(base, asked))


def _values(targets: list[str]) -> dict[str, int]:
    values = {}
    for entry in targets:
        name, _, value = entry.rpartition("=")
        if not name or not value.isdigit() or int(value) == 0 or name in values:
            raise InputError(f"--targets got {entry!r}; give each a name of its own and a label value: LV=3")
        values[name] = int(value)
    return values


def _card(arguments: argparse.Namespace) -> dict[str, Any]:
    """What people say of the pack: title, description, licence, intended_use, data, colours and terminology."""
    if arguments.card is None:
        return {}
    try:
        card = json.loads(arguments.card.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{arguments.card} cannot be read as JSON: {error}") from error
    if not isinstance(card, dict) or not all(isinstance(card.get(key, {}), dict) for key in ("colors", "terminology")):
        raise InputError(f"{arguments.card} is no card: expected an object, in it colors and terminology by target")
    return card


_COLOURS = ((0.85, 0.2, 0.2), (0.2, 0.7, 0.3), (0.25, 0.45, 0.9), (0.9, 0.75, 0.15), (0.7, 0.3, 0.8), (0.2, 0.75, 0.75))


def _targets(arguments: argparse.Namespace, task: Task, card: dict[str, Any]) -> list[dict[str, Any]]:
    apm = None if arguments.apm == "none" else {"kind": arguments.apm, "count": arguments.points}
    if arguments.apm == "lite":
        apm |= {"width": 64}
    positive = (arguments.points + 1) // 2
    labels = [] if apm is None else [1] * positive + [0] * (arguments.points - positive)
    return [
        {
            "name": name,
            "color": list(card.get("colors", {}).get(name, _COLOURS[number % len(_COLOURS)])),
            "terminology": card.get("terminology", {}).get(name, ""),
            "apm": apm,
            "ips": {"kind": "static"} if arguments.static else {"kind": "pae", "hidden": arguments.hidden},
            "presence": {"width": 64},
            "point_labels": labels,
        }
        for number, name in enumerate(task.values)
    ]


def _manifest(
    arguments: argparse.Namespace, task: Task, card: dict[str, Any], backbone, cases: int, base: Manifest | None
) -> dict[str, Any]:
    return {
        "format": 1,
        "name": packs.name_of(arguments.out),
        "title": card.get("title", arguments.out.stem),
        "description": card.get("description", ""),
        "version": card.get("version", "1"),
        "licence": card.get("licence", "unstated"),
        "modality": arguments.modality or ("RGB" if task.orientation == "image" else "MR"),
        "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint(), "side": backbone.side},
        "targets": _targets(arguments, task, card),
        "refiners": _refiners(arguments, list(task.values), base),
        "orientation": task.orientation,
        "window": dict(task.window),
        "channels": task.channels,
        "padding": task.padding,
        "threshold": 0.5,
        "presence_threshold": 0.5,
        "opening": 0,
        "largest_component": bool(card.get("largest_component", base is not None and base.largest_component)),
        "smoothing_mm": card.get("smoothing_mm", 0.0 if base is None else base.smoothing_mm),
        "exclusive": base is None or base.exclusive,
        "overlaps": [] if base is None else [list(pair) for pair in base.overlaps],
        "intended_use": card.get("intended_use", "Research use only, not for clinical use."),
        "training": {
            "data": card.get("data", "the user's own"),
            "cases": cases,
            "licence": card.get("licence", "unstated"),
            "command": _command(arguments, backbone.side, base),
            "seconds": 0 if base is None else base.training["seconds"],
        },
        "scores": [],
    }


def _refiners(arguments: argparse.Namespace, names: list[str], base: Manifest | None) -> list[dict[str, Any]]:
    """The base's, or a new one for all targets."""
    theirs = () if base is None else base.refiners
    if not theirs:
        return [{"width": arguments.refiner or 16, "patch": 1, "targets": names}] if arguments.refine else []
    if arguments.refiner is not None:
        widths = ", ".join(str(info["width"]) for info in theirs)
        raise InputError(f"--base has refiners of width {widths}, which are gone on with; leave --refiner out")
    return [dict(info) for info in theirs]


def _command(arguments: argparse.Namespace, side: int, base: Manifest | None) -> str:
    """What a reader has to know of the commands, the base's first; no names of files, which may tell of patients."""
    told = f"--seed {arguments.seed} --steps {arguments.steps} --views {arguments.views}"
    for name, usual in _USUAL.items():
        value = getattr(arguments, name)
        if value != usual:
            told += f" --{name}" if value is True else f" --{name} {value:g}"
    if base is None:
        return f"promise train {told}"
    before = base.training["command"] or "(not recorded)"
    return f"{before}, then promise train {told} --side {side} --base …"


def _views(
    arguments: argparse.Namespace, task: Task, found: list[pairs.Pair], backbone, model, workspace: Path
) -> tuple[Views, Views]:
    """Views of the cases to learn from, and plain ones of those held out."""
    if len(found) < 2:
        raise InputError(f"{len(found)} labelled case was found; at least 2 are needed, one of them to be held out")
    count = min(len(found) - 1, max(1, round(arguments.held_out * len(found))))
    chosen = set(np.random.default_rng(arguments.seed).permutation(len(found))[:count].tolist())
    learn = [pair for number, pair in enumerate(found) if number not in chosen]
    held = [pair for number, pair in enumerate(found) if number in chosen]
    augment = VOLUMES
    if task.orientation == "image":
        augment = Augment(mirror=0.0) if arguments.upright else Augment(upset=0.5)
    encoder = Encoder(backbone, model.blocks, augment, workspace, pictures=model.refines)
    say(f"{len(learn)} cases to learn from, {len(held)} held out; encoding their slices once")

    def with_progress(steps, total):
        return progress(steps, total, "encode")

    return (
        encoder.views(
            plan(learn, task, backbone.side, arguments.views, arguments.slices, arguments.seed), with_progress
        ),
        encoder.views(plan(held, task, backbone.side, 1, arguments.slices, arguments.seed), with_progress),
    )


def _start(model, place: str, values: Sequence[int]) -> None:
    """Let every target's IPS begin with the constant shift that pretraining learned for its label value: FILE:KEY."""
    from ProMISeCore import checkpoint

    path, colon, key = place.rpartition(":")
    if not colon:
        raise InputError(f"--shifts got {place!r}; expected FILE:KEY")
    found = checkpoint.read(path)
    if key not in found or found[key].shape[1:] != (4, 256) or len(found[key]) < max(values):
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in list(found.items())[:8])
        raise InputError(
            f"--shifts got {key!r} of {path}, which has {shapes}; expected at least {(max(values), 4, 256)}"
        )
    if any(info.ips["kind"] != "pae" for info in model.manifest.targets):
        raise InputError("--shifts and --static do not go together")
    with torch.no_grad():
        for target, value in zip(model.targets.values(), values, strict=True):
            target.ips.lin2.weight.mul_(0.1)
            target.ips.lin2.bias.copy_(found[key][value - 1].float().reshape(-1))


def _go_on(model, name: str, base: Manifest) -> None:
    """Let every target begin with the weights of a pack, which may have been trained at another frame side."""
    path = packs.find(name)
    new_refiners = {} if base.refiners else {k: v for k, v in model.tensors().items() if k.startswith("refiners.")}
    model.load_tensors(new_refiners | packs.tensors(path), path.name)
