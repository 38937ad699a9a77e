"""The pack that a teaching goes on from: the first weights of what it knows, and where it comes from itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ProMISeCore import learned, packs
from ProMISeCore.learned import Origin
from ProMISeCore.manifest import Manifest
from ProMISeCore.pairs import content
from ProMISeCore.promise import Promise
from ProMISeCore.refiner import Refiner


@dataclass(frozen=True)
class BasePack:
    """origins: it, and where it is of a stopped teaching, what that had gone on from."""

    manifest: Manifest
    tensors: Mapping[str, Tensor]
    origins: Sequence[Origin]

    @classmethod
    def read(cls, path: Path, workspace: Path) -> BasePack:
        """As it is now, whatever becomes of the file. WeightsError as `packs.read`, InputError as `learned.origin`."""
        manifest, before = packs.read_manifest(path), learned.origin(path, workspace)
        called = f"{manifest.title or manifest.name} version {manifest.version}"
        names = (info.name for info in manifest.targets)
        own = Origin(content(path), called, manifest.training["data"], tuple(names))
        return cls(manifest, packs.tensors(path), [own] if before in (None, Origin()) else [own, before])

    def begin(self, model: Promise) -> list[str]:
        """Its weights into a model, targets and refiners; the names of the targets that it does not know."""
        theirs = [info.name for info in self.manifest.targets]
        for name in model.targets.keys() & {*theirs}:
            state = packs.part_of(self.tensors, f"{theirs.index(name)}.")
            model.targets[name].load_state_dict(state, strict=False)
        for info, refiner in zip(model.manifest.refiners, model.refiners, strict=True):
            before = self.refiner(info["targets"])
            if before is not None:
                refiner.load_state_dict(before.state_dict())
        return [name for name in model.targets if name not in theirs]

    def refiner(self, targets: Sequence[str]) -> Refiner | None:
        """For these targets alone, the one that redraws all of them, or None."""
        for number, info in enumerate(self.manifest.refiners):
            if {*targets} <= {*info["targets"]}:
                whole = Refiner(len(info["targets"]), info["width"], info["patch"])
                whole.load_state_dict(packs.part_of(self.tensors, f"refiners.{number}."))
                return whole.narrowed([info["targets"].index(name) for name in targets])
        return None
