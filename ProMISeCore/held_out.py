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
    """The first labelled cases of an order without which every target still has a labelled one, with what shows the
    same: no more than `count`, but where there are only larger groups the smallest of these."""
    groups = _groups([case for case in cases if case.labelled])
    chosen: list[Case] = []
    for group in groups:
        if len(chosen) + len(group) <= count and _is_spare(group, chosen, cases):
            chosen += group
    spare = [group for group in groups if _is_spare(group, [], cases)]
    return chosen or min(spare, key=len, default=[])


def _is_spare(group: Sequence[Case], chosen: Sequence[Case], cases: Sequence[Case]) -> bool:
    rest = [case for case in cases if case not in chosen and case not in group]
    names = {name for case in group for name in case.labelled}
    return all(any(name in case.labelled for case in rest) for name in names)


def _groups(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases that show the same, directly or by others, in the order of the first of each."""
    groups: list[list[Case]] = []
    for case in cases:
        same = [group for group in groups if any(map(case.shows_the_same_as, group))]
        merged = [*(each for group in same for each in group), case]
        at = groups.index(same[0]) if same else len(groups)
        groups = [group for group in groups if group not in same]
        groups.insert(at, merged)
    return groups
