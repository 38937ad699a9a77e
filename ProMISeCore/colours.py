"""The colours of targets that are taught."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ProMISeCore import truth
from ProMISeCore.case import Case

#: Of targets that have none, told apart without colour vision, too (Okabe and Ito).
_FREE = (
    (0.0, 0.62, 0.45), (0.34, 0.71, 0.91), (0.9, 0.62, 0.0), (0.8, 0.47, 0.65), (0.84, 0.37, 0.0), (0.0, 0.45, 0.7),
)  # fmt: skip


def chosen(
    targets: Collection[str], known: Mapping[str, Sequence[float]], cases: Sequence[Case]
) -> dict[str, Sequence[float]]:
    """Target → red, green, blue 0…1: as in `known`, or as its segment has it, each only once while there are others."""
    found = {name: tuple(colour) for name, colour in known.items()}
    missing = [name for name in targets if name not in found]
    segments = _of_segments(missing, cases)
    for number, name in enumerate(missing):
        free = [colour for colour in (segments.get(name), *_FREE) if colour not in (None, *found.values())]
        found[name] = free[0] if free else _FREE[number % len(_FREE)]
    return {name: found[name] for name in targets}


def _of_segments(names: Collection[str], cases: Sequence[Case]) -> dict[str, Sequence[float]]:
    """Of the first case that has each."""
    found: dict[str, Sequence[float]] = {}
    for case in cases:
        if all(name in found for name in names):
            break
        found = truth.colours(case.pair.label) | found
    return found
