"""What a teaching was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from ProMISeCore.base import framing
from ProMISeCore.errors import InputError
from ProMISeCore.manifest import Manifest


@dataclass(frozen=True)
class Wish:
    """What was asked for; None where the survey shall propose. held_out: names, a share, or () for none; judge_only:
    such cases are not learned from in the end either; seen: `pairs.content` of images that the pack to go on from has
    learned from; dropped: its targets that the new version shall not know; known: the others, with their colours 0…1.
    """

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
    dropped: Sequence[str] = ()
    known: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def as_seen_by(self, base: Manifest) -> Wish:
        """With slices as the pack to go on from sees them, whose weights rely on it; its frame side unless one was
        asked for. Raises InputError where another way was asked for, or what it does not have shall be dropped."""
        names = ["window", "channels"]
        if base.orientation != "image":  # what pictures are, whatever is asked for
            names.append("orientation")
        theirs = framing(base, {name: getattr(self, name) for name in names})
        known = {info.name: info.color for info in base.targets}
        for name in self.dropped:
            if known.pop(name, None) is None:
                raise InputError(f"--drop is {name!r}; the pack of --base has {', '.join(known)}")
        chosen = {name: theirs[name] for name in names}
        return replace(self, side=self.side or base.backbone.side, known=known, **chosen)
