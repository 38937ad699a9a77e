"""Which cases are held out: complete ones that the pack to go on from does not know, without which enough is left; what
shows the same is held out together."""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np

from ProMISeCore.case import Case
from ProMISeCore.errors import InputError

_SHARE = 0.1  # of the cases; at least one


def drawn(cases: Sequence[Case], targets: int, known: Set[str], share: float | None, seed: int) -> list[Case]:
    """A share of some cases, complete ones first; none where each, with what shows the same, is alone with some target.

    known: names of those that the pack to go on from has learned from, which come last.
    """
    count = min(len(cases) - 1, max(1, round((_SHARE if share is None else share) * len(cases))))
    order = [cases[n] for n in np.random.default_rng(seed).permutation(len(cases))]
    order.sort(key=lambda case: (len(case.labelled) < targets, case.pair.name in known, -len(case.labelled)))
    return _spared(order, count)


def named(cases: Sequence[Case], names: Sequence[str]) -> list[Case]:
    """Those asked for. Raises InputError for names that no case has, or one that is left out."""
    for case in cases:
        if case.use == "left out" and case.pair.name in names:
            raise InputError(f"--held-out names {case.pair.name}, which is left out: {case.why}")
    by_name = {case.pair.name: case for case in cases if case.use != "left out"}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise InputError(
            f"--held-out names {', '.join(unknown)}; the cases are {', '.join(by_name)} (or give none, or a share "
            "between 0 and 1)"
        )
    return [by_name[name] for name in names]


def _spared(cases: Sequence[Case], count: int) -> list[Case]:
    """The first labelled cases of an order without which every target still has a labelled one."""
    chosen: list[Case] = []
    for case in cases:
        if len(chosen) >= count:
            break
        left = [other for other in cases if other not in chosen]
        if case not in left or not case.labelled:
            continue
        same = [other for other in left if case.shows_the_same_as(other)]
        names = {name for other in same for name in other.labelled}
        rest = [other for other in left if other not in same]
        if all(any(name in other.labelled for other in rest) for name in names):
            chosen += same
    return chosen
