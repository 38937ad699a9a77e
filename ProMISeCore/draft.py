"""The manifest of a pack that is to be taught: of what was surveyed, and of the pack to go on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ProMISeCore import backbones, exclusion, packs
from ProMISeCore.kept import narrowed
from ProMISeCore.manifest import BackboneInfo, Manifest, TargetInfo
from ProMISeCore.sam import Sam
from ProMISeCore.survey import Survey

_INTENDED = "Research use only, not for clinical use. A first automatic result to be corrected by a person."
_WIDTH = 16  # of a refiner


def drafted(survey: Survey, backbone: Sam, base: Manifest | None) -> Manifest:
    """The manifest, without scores."""
    known = {} if base is None else {info.name: info for info in base.targets}
    targets = [known.get(name) or _target(name, colour) for name, colour in survey.colours.items()]
    made = Manifest(
        name=packs.name_of(Path(f"{survey.wish.name}{packs.SUFFIX}")),
        title=survey.wish.name,
        backbone=BackboneInfo(backbone.name, backbone.fingerprint(), backbone.side),
        targets=tuple(targets),
        refiners=_refiners(survey, base),
        modality=survey.modality,
        orientation=survey.orientation,
        window=survey.window,
        channels=survey.channels,
        licence=_licence(backbone, base),
        largest_component=survey.single_pieces,
        intended_use=_INTENDED,
        **exclusion.entries(list(survey.colours), lambda one, other: _are_apart(survey, base, one, other)),
    )
    return (made if base is None else _continued(made, base)).check()


def _continued(made: Manifest, base: Manifest) -> Manifest:
    """With all that the weights of the base rely on."""
    return replace(
        made,
        orientation=base.orientation,
        window=base.window,
        channels=base.channels,
        padding=base.padding,
        threshold=base.threshold,
        presence_threshold=base.presence_threshold,
        opening=base.opening,
        smoothing_mm=base.smoothing_mm,
    )


def _are_apart(survey: Survey, base: Manifest | None, one: str, other: str) -> bool:
    """As the cases say; what the base lets overlap may go on to, and apart stays what no case contradicts."""
    seen = survey.are_apart(one, other)
    if base is not None and {one, other} <= {info.name for info in base.targets}:
        return other in base.rivals(one) and seen is not False
    return bool(seen)


def _refiners(survey: Survey, base: Manifest | None) -> tuple[Mapping[str, Any], ...]:
    """The base's, for the targets that are taught; on small slices a new one for the others."""
    names = list(survey.targets)
    kept = [] if base is None else narrowed(base, names)
    rest = [name for name in names if not any(name in info["targets"] for info in kept)]
    new = [{"width": _WIDTH, "patch": 1, "targets": rest}] if survey.small and rest else []
    return (*kept, *new)


def _licence(backbone: Sam, base: Manifest | None) -> str:
    entry = backbones.TABLE.get(backbone.name)
    parts = ["the user's own data", f"unstated ({backbone.name})" if entry is None else entry.licence]
    return "; ".join(dict.fromkeys([*parts, *(base.licence.split("; ") if base is not None and base.licence else [])]))


def _target(name: str, colour: Sequence[float]) -> TargetInfo:
    return TargetInfo(
        name,
        tuple(colour),
        apm={"kind": "lite", "count": 8, "width": 64},
        ips={"kind": "pae", "hidden": 256},
        presence={"width": 64},
        point_labels=(1, 1, 1, 1, 0, 0, 0, 0),
    )
