"""A pack's model card in Markdown, from its manifest: what it is for, what it learned from, how good it is, where it
fails."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ProMISeCore import failures
from ProMISeCore.errors import InputError
from ProMISeCore.licences import terms
from ProMISeCore.manifest import Manifest, TargetInfo
from ProMISeCore.packs import Pack
from ProMISeCore.terminal import amount, duration

_WINDOWS = {"percentile": "percentiles {low:g} and {high:g} of each volume", "fixed": "{low:g} to {high:g}"}


def card(pack: Pack, report: Mapping[str, Any] | None = None) -> str:
    """The card. report: what `promise evaluate --json` wrote about this pack; without it, failures are not described.

    Case names are not in it. Raises InputError for a report of another pack, or without counts of voxels.
    """
    manifest = pack.manifest
    parts = [
        f"# {manifest.name}: {manifest.title or 'untitled'}",
        " ".join(part for part in (manifest.description, manifest.intended_use) if part),
        f"**Licence: {manifest.licence or 'not stated'}.** {terms(manifest.licence)}",
        "## What it is",
        _table(_facts(pack)),
        "## What it learned from",
        _table(_training(manifest)),
        "## How good it is",
        _scores(manifest),
        "## Where it fails",
        _failures(pack, report),
    ]
    return "\n\n".join(parts) + "\n"


def _facts(pack: Pack) -> list[tuple[str, str]]:
    manifest, mode = pack.manifest, pack.manifest.window["mode"]
    window = _WINDOWS[mode].format(**manifest.window) if mode in _WINDOWS else "as stored, 0 to 255"
    slices = "pictures" if manifest.orientation == "image" else f"{manifest.orientation} slices"
    frozen = manifest.backbone
    return [
        ("targets", ", ".join(target.name for target in manifest.targets)),
        ("input", f"{manifest.modality}, {slices}; intensities: {window}"),
        ("backbone, frozen", f"{frozen.name}, fingerprint {frozen.fingerprint[:12]}…, frame {frozen.side}"),
        ("learned per target", _learned(manifest)),
        ("version, size", f"{manifest.version}, {amount(pack.path.stat().st_size)}"),
    ]


def _learned(manifest: Manifest) -> str:
    """What is learned per target, with the targets' names where it differs."""
    groups: dict[str, list[str]] = {}
    for target in manifest.targets:
        groups.setdefault(_parts(manifest, target), []).append(target.name)
    if len(groups) == 1:
        return next(iter(groups))
    return "; ".join(f"{', '.join(names)}: {parts}" for parts, names in groups.items())


def _parts(manifest: Manifest, target: TargetInfo) -> str:
    apm = f"APM {target.apm['kind']} with {target.apm['count']} points" if target.apm else "no APM"
    ips = {None: "no IPS", "pae": "IPS with PaE", "static": "IPS without PaE"}[target.ips and target.ips["kind"]]
    presence = "presence" if target.presence else "no presence"
    is_refined = any(target.name in refiner["targets"] for refiner in manifest.refiners)
    return ", ".join([apm, ips, presence, "refiner"] if is_refined else [apm, ips, presence])


def _training(manifest: Manifest) -> list[tuple[str, str]]:
    training = manifest.training
    cost = duration(training["seconds"]) if training["seconds"] else "not recorded"
    return [
        ("data", training["data"] or "not stated"),
        ("labelled cases", f"{training['cases']:,}" if training["cases"] else "not stated"),
        ("their licence, with the backbone's", training["licence"] or "not stated"),
        ("command", f"`{training['command']}`" if training["command"] else "not recorded"),
        ("time of training, without encoding", cost),
    ]


def _scores(manifest: Manifest) -> str:
    if not manifest.scores:
        return "Not measured. `promise evaluate --pack … --record DATA` keeps scores in the pack."
    rows = [("held-out data", "cases", "target", "Dice", "IoU"), ("---",) * 5]
    rows += [
        (score["data"], str(score["cases"]), score["target"], f"{score['dice']:.3f}", f"{score['iou']:.3f}")
        for score in manifest.scores
    ]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{lines}\n\nMeans over cases; of volumes over all slices. Other scanners, sites and patients: expect less."


def _failures(pack: Pack, report: Mapping[str, Any] | None) -> str:
    manifest = pack.manifest
    draw = f"`promise evaluate --pack {shlex.quote(pack.path.stem)} --images … --worst DIR` draws the five worst cases."
    if report is None:
        return f"Not described. {draw}"
    try:
        if report["pack"] != manifest.name:
            raise InputError(f"the report is of the pack {report['pack']!r}, not of {manifest.name!r}; give its own")
        told = [f"- {failures.summary(report['cases'], target.name)}" for target in manifest.targets]
        listed = [_case(report["cases"][number]) for number in failures.worst(report["cases"], 5)]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"this is no report of promise evaluate --json of this version ({error}); write it again"
        ) from error
    return "\n".join([*told, f"- Worst five, Dice: {'; '.join(listed)}.", "", draw])


def _case(case: Mapping[str, Any]) -> str:
    """Dice of every target of a case, and how it fails."""
    found = []
    for target, voxels in case["voxels"].items():
        how = failures.kind(voxels)
        name = f"{target} " if len(case["voxels"]) > 1 else ""
        found.append(f"{name}{case['targets'][target]['dice']:.2f}{f' ({how})' if how else ''}")
    return ", ".join(found)


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)])
