"""Where a new pack's targets begin: with what an installed pack has learned for something that looks alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from ProMISeCore import packs
from ProMISeCore.manifest import TargetInfo
from ProMISeCore.training import Training

_ROWS = 24  # slices that candidates are tried on
_LEAST = 0.2  # Dice from which a candidate is better than random numbers

State = dict[str, Tensor]


def candidates(training: Training, found: Sequence[packs.Pack]) -> Iterator[tuple[str, State]]:
    """Name and weights of every target of the packs that has the parts of the model's targets, on its backbone."""
    wanted, backbone = training.model.manifest.targets[0], training.model.manifest.backbone
    for pack in found:
        if pack.manifest.backbone.fingerprint != backbone.fingerprint:
            continue
        tensors = packs.tensors(pack.path)
        for number, info in enumerate(pack.manifest.targets):
            if _parts(info) == _parts(wanted):
                yield f"{pack.path.stem}: {info.name}", packs.part_of(tensors, f"{number}.")


def begin(
    training: Training, found: Sequence[packs.Pack], names: Sequence[str], obey: Callable[[], None] = lambda: None
) -> dict[str, str]:
    """Give each target named the candidate that fits its slices best, if any does; target → which it was.

    obey: called before each is tried; what it raises ends that.
    """
    views, chosen = training.material.views, {}
    own = {name: {key: value.clone() for key, value in training.model.targets[name].state_dict().items()}
           for name in names}  # fmt: skip
    best = dict.fromkeys(names, _LEAST)
    for label, state in candidates(training, found):
        for name in names:
            obey()
            number = training.names.index(name)
            filled = np.flatnonzero(training.material.filled[:, number] & views.plain)
            rows = filled[np.linspace(0, len(filled) - 1, min(_ROWS, len(filled))).astype(int)]
            training.model.targets[name].load_state_dict(state, strict=False)
            dice = list(training.case_dice(views, rows, name).values())
            if dice and float(np.mean(dice)) > best[name]:
                best[name], chosen[name], own[name] = float(np.mean(dice)), label, state
    with torch.no_grad():
        for name in names:
            training.model.targets[name].load_state_dict(own[name], strict=False)
    training.restart()
    return chosen


def _parts(info: TargetInfo) -> tuple:
    entries = asdict(info)
    return entries["apm"], entries["ips"], entries["presence"], tuple(info.point_labels)
