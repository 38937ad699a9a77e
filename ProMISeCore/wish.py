"""What a teaching was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from ProMISeCore import backbones
from ProMISeCore.base import framing
from ProMISeCore.errors import InputError
from ProMISeCore.manifest import Manifest


@dataclass(frozen=True)
class Wish:
    """What was asked for; None where the survey shall propose. held_out: names, a share, or () for none; judge_only:
    such cases are not learned from in the end either; seen: `pairs.content` of images that the pack to go on from has
    learned from; base_orientation: its manifest's; dropped: its targets that the new version shall not know; absent: of
    these, those that it does not have; known: the others, in its order, with their colours 0…1."""

    name: str
    targets: Mapping[str, int | None] | None = None
    backbone: str = "tiny"
    side: int | None = None
    minutes: float | None = 10.0
    held_out: Sequence[str] | float | None = None
    orientation: str | None = None
    window: Mapping[str, Any] | None = None
    channels: str | None = None
    unlabelled: str = "auto"
    slices: int | None = None
    views: int | None = None
    seed: int = 0
    judge_only: bool = False
    seen: Set[str] = frozenset()
    base_orientation: str = ""
    dropped: Sequence[str] = ()
    absent: Sequence[str] = ()
    known: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def as_seen_by(self, base: Manifest) -> Wish:
        """With slices as the pack to go on from sees them, whose weights rely on it.

        Raises InputError where another way was asked for.
        """
        names = ["window", "channels"]
        if base.orientation != "image":  # what pictures are, whatever is asked for
            names.append("orientation")
        theirs = framing(base, {name: getattr(self, name) for name in names})
        self._check_backbone(base)
        known = {info.name: info.color for info in base.targets if info.name not in self.dropped}
        chosen = {name: theirs[name] for name in names}
        side, orientation = base.backbone.side, base.orientation
        absent = [name for name in self.dropped if name not in {info.name for info in base.targets}]
        return replace(self, side=side, known=known, absent=absent, base_orientation=orientation, **chosen)

    def _check_backbone(self, base: Manifest) -> None:
        """As far as names tell; weights are compared once they are loaded."""
        side, name = base.backbone.side, base.backbone.name
        if self.side not in (None, side):
            raise InputError(
                f"--side is {self.side}; the pack of --base was taught with frames of {side}: leave it out"
            )
        if self.backbone != name and {self.backbone, name} <= {*backbones.TABLE}:
            raise InputError(f"the backbone is {self.backbone}, the pack of --base was taught on {name}: choose that")
