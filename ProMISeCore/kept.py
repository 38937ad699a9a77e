"""Targets of the pack to go on from that are not taught now: the new version knows them as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ProMISeCore import exclusion, packs
from ProMISeCore.manifest import Manifest
from ProMISeCore.refiner import Refiner


@dataclass(frozen=True)
class Kept:
    """base: the manifest of the pack to go on from, with its tensors; names: of the targets that stay."""

    base: Manifest
    tensors: Mapping[str, Tensor]
    names: Sequence[str]

    @classmethod
    def of(cls, base: Manifest, tensors: Mapping[str, Tensor], others: Collection[str]) -> Kept:
        """All of a pack's targets but the others, which are taught or dropped."""
        return cls(base, tensors, [info.name for info in base.targets if info.name not in others])

    def beside(self, taught: Manifest) -> Manifest:
        """The manifest of a taught pack and these targets: those of the base in its order, which label maps rely on,
        and then the new ones."""
        infos = {info.name: info for info in (*self.base.targets, *taught.targets)}
        order = self._order(taught)
        return replace(
            taught,
            targets=tuple(infos[name] for name in order),
            refiners=(*taught.refiners, *(info for info, _ in self._refiners())),
            scores=(*taught.scores, *(score for score in self.base.scores if score["target"] in self.names)),
            largest_component=taught.largest_component and (self.base.largest_component or not self.names),
            **exclusion.entries(order, lambda one, other: self._are_apart(taught, one, other)),
        ).check()

    def _order(self, taught: Manifest) -> list[str]:
        own = [info.name for info in taught.targets]
        theirs = [info.name for info in self.base.targets if info.name in {*own, *self.names}]
        return [*theirs, *(name for name in own if name not in theirs)]

    def _are_apart(self, taught: Manifest, one: str, other: str) -> bool:
        """As the one that knows both says; nobody has seen a new target together with one that stays."""
        manifest = self.base if {one, other} & {*self.names} else taught
        return other in manifest.rivals(one)

    def tensors_beside(self, taught: Manifest, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of what `beside` describes, from those of the taught pack."""
        found = {key: tensor for key, tensor in tensors.items() if key.startswith("refiners.")}
        for number, name in enumerate(self._order(taught)):
            manifest, theirs = (self.base, self.tensors) if name in self.names else (taught, tensors)
            at = [info.name for info in manifest.targets].index(name)
            found |= {f"{number}.{key}": tensor for key, tensor in packs.part_of(theirs, f"{at}.").items()}
        for number, (_, refiner) in enumerate(self._refiners(), len(taught.refiners)):
            found |= refiner.state_dict(prefix=f"refiners.{number}.")
        return found

    def _refiners(self) -> list[tuple[Mapping[str, Any], Refiner]]:
        """What redraws them, with its entry of a manifest."""
        narrow = narrowed(self.base, self.names)
        return [(info, refiner_of(self.base, self.tensors, info)) for info in narrow]


def narrowed(base: Manifest, names: Collection[str]) -> list[Mapping[str, Any]]:
    """A manifest's refiners for these targets alone; those without any of them are left out."""
    found = [{**info, "targets": [name for name in info["targets"] if name in names]} for info in base.refiners]
    return [info for info in found if info["targets"]]


def refiner_of(base: Manifest, tensors: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> Refiner | None:
    """The pack's refiner that `narrowed` has given this entry, or None."""
    for number, info in enumerate(base.refiners):
        if {*wanted["targets"]} <= {*info["targets"]}:
            refiner = Refiner(len(info["targets"]), info["width"], info["patch"])
            refiner.load_state_dict(packs.part_of(tensors, f"refiners.{number}."))
            return refiner.narrowed([info["targets"].index(name) for name in wanted["targets"]])
    return None
