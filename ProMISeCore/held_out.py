"""Which cases are held out: complete ones that the pack to go on from does not know, without which enough is left; what
shows the same is held out together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence, Set

import numpy as np

from ProMISeCore import volumes
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


def groups(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases that show the same, directly or by others, in the order of the first of each: with one segmentation, as
    contrasts of a patient have (or with copies of it; of pictures masks may be alike by design), or one image,
    segmented twice."""
    looks, sizes = Counter(case.look for case in cases), Counter(map(_size, cases))
    found: dict[Hashable, list[Case]] = {}  # path or content → group
    for case in cases:
        keys: list[Hashable] = [case.pair.label]
        if looks[case.look] > 1:  # else no other can be the same, and nothing has to be read for that
            keys.append(("image", case.image_content))
        if case.labelled and not case.picture and sizes[_size(case)] > 1:
            keys.append(("label", case.label_content))
        first, *others = {id(found[key]): found[key] for key in keys if key in found}.values() or [[]]
        for other in others:
            first += other
            found |= {key: first for key, group in found.items() if group is other}
        first.append(case)
        found |= dict.fromkeys(keys, first)
    return list({id(group): group for group in found.values()}.values())


def divisible(cases: Sequence[Case]) -> list[Case]:
    """Those of which slices can be held out: with a target on several, on one grid with what shows the same."""
    every = groups([case for case in cases if case.labelled])
    return [case for group in every if _has_slices(group) and _is_on_one_grid(group) for case in group]


def _has_slices(group: Sequence[Case]) -> bool:
    return max(state.slices for case in group for state in case.states.values()) > 1


def _is_on_one_grid(group: Sequence[Case]) -> bool:
    """Whether slices of the same number show the same place."""
    first, shape = np.linalg.inv(group[0].affine), group[0].shape
    return all(
        case.shape == shape and volumes.voxels_apart(first @ np.array(case.affine), shape) <= volumes.ON_GRID
        for case in group
    )


def _size(case: Case) -> tuple:
    return case.shape, tuple(state.voxels for state in case.states.values())


def _spared(cases: Sequence[Case], count: int) -> list[Case]:
    """The first labelled cases of an order without which every target still has a labelled one, with what shows the
    same: no more than `count`, but where there are only larger groups the smallest of these."""
    left, every = _labels(cases), groups([case for case in cases if case.labelled])
    chosen: list[Case] = []
    for group in every:
        if len(chosen) + len(group) <= count and _is_spare(group, left):
            chosen += group
            left -= _labels(group)
    return chosen or min((group for group in every if _is_spare(group, left)), key=len, default=[])


def _labels(cases: Sequence[Case]) -> Counter[str]:
    """Target → how many cases hold it."""
    return Counter(name for case in cases for name in case.labelled)


def _is_spare(group: Sequence[Case], left: Counter[str]) -> bool:
    return all(number < left[name] for name, number in _labels(group).items())
