"""Targets of the pack to go on from that are not taught now: the new version knows them as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ProMISeCore import exclusion, packs
from ProMISeCore.base_pack import BasePack
from ProMISeCore.manifest import Manifest


@dataclass(frozen=True)
class Kept:
    """names: of the base's targets that stay."""

    base: BasePack
    names: Sequence[str]

    @classmethod
    def of(cls, base: BasePack, others: Collection[str]) -> Kept:
        """All of a pack's targets but the others, which are taught or dropped."""
        return cls(base, [info.name for info in base.manifest.targets if info.name not in others])

    def beside(self, taught: Manifest) -> Manifest:
        """The manifest of a taught pack and these targets: those of the base in its order, which label maps rely on,
        and then the new ones."""
        base, order = self.base.manifest, self._order(taught)
        infos = {info.name: info for info in (*base.targets, *taught.targets)}
        return replace(
            taught,
            targets=tuple(infos[name] for name in order),
            refiners=(*taught.refiners, *narrowed(base, self.names)),
            scores=(*taught.scores, *(score for score in base.scores if score["target"] in self.names)),
            largest_component=taught.largest_component and (base.largest_component or not self.names),
            **exclusion.entries(order, lambda one, other: self._are_apart(taught, one, other)),
        ).check()

    def _order(self, taught: Manifest) -> list[str]:
        own = [info.name for info in taught.targets]
        theirs = [info.name for info in self.base.manifest.targets if info.name in {*own, *self.names}]
        return [*theirs, *(name for name in own if name not in theirs)]

    def _are_apart(self, taught: Manifest, one: str, other: str) -> bool:
        """As the one that knows both says; nobody has seen a new target together with one that stays."""
        manifest = self.base.manifest if {one, other} & {*self.names} else taught
        return other in manifest.rivals(one)

    def tensors_beside(self, taught: Manifest, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of what `beside` describes, from those of the taught pack."""
        found = {key: tensor for key, tensor in tensors.items() if key.startswith("refiners.")}
        for number, name in enumerate(self._order(taught)):
            stays = name in self.names
            manifest, theirs = (self.base.manifest, self.base.tensors) if stays else (taught, tensors)
            at = [info.name for info in manifest.targets].index(name)
            found |= {f"{number}.{key}": tensor for key, tensor in packs.part_of(theirs, f"{at}.").items()}
        for number, info in enumerate(narrowed(self.base.manifest, self.names), len(taught.refiners)):
            found |= self.base.refiner(info["targets"]).state_dict(prefix=f"refiners.{number}.")
        return found


def narrowed(base: Manifest, names: Collection[str]) -> list[Mapping[str, Any]]:
    """A manifest's refiners for these targets alone; those without any of them are left out."""
    found = [{**info, "targets": [name for name in info["targets"] if name in names]} for info in base.refiners]
    return [info for info in found if info["targets"]]
