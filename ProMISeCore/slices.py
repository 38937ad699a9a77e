"""Which slices of some cases are taken: drawn at random, but so that every target is on some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_FEW = 3  # of a target, of all cases together: as many are taken where there are so many


@dataclass(frozen=True)
class Slices:
    """What a case's n slices hold. there (T, n) bool: each target; known (n,) bool: something is known of some."""

    there: np.ndarray
    known: np.ndarray

    def drawn(self, most: int, rng: np.random.Generator, empty_share: float = 0.25) -> list[int]:
        """At most `most`, spread at random; a quarter (at least one) without any target where there are such.

        Slices of which nothing is known are left out.
        """
        filled = self.there.any(0)
        with_target, without = np.flatnonzero(filled), np.flatnonzero(self.known & ~filled)
        wanted = max(1, round(empty_share * min(most, len(filled))))
        count_empty = min(len(without), wanted, most - min(1, len(with_target)))
        count_filled = min(len(with_target), most - count_empty)
        chosen = [
            rng.choice(pool, count, replace=False)
            for pool, count in ((with_target, count_filled), (without, count_empty))
        ]
        return sorted(int(n) for n in np.concatenate(chosen))


def shown(cases: Sequence[Slices], chosen: Sequence[Sequence[int]]) -> np.ndarray:
    """On how many of the chosen slices each target is, (T,)."""
    return sum((case.there[:, list(some)].sum(1) for case, some in zip(cases, chosen, strict=True)), np.array(0))


def with_every_target(
    cases: Sequence[Slices], drawn: Sequence[Sequence[int]], already: np.ndarray | int = 0
) -> list[list[int]]:
    """As drawn, but that of a target on fewer than `_FEW` of them some are exchanged, as far as there are others.

    already: on how many slices beside these each target is, (T,).
    """
    if not cases:
        return []
    chosen = [list(some) for some in drawn]
    there = sum(case.there.sum(1) for case in cases)
    for least in range(1, _FEW + 1):  # first one of each target
        for target in np.argsort(there, kind="stable"):
            needed = np.minimum(there, least)
            found = shown(cases, chosen)
            if found[target] + np.broadcast_to(already, found.shape)[target] < needed[target]:
                _exchange(cases, chosen, int(target), needed)
    return [sorted(some) for some in chosen]


def _exchange(cases: Sequence[Slices], chosen: list[list[int]], target: int, needed: np.ndarray) -> None:
    """One slice with the target for one that no target needs, in the case where that leaves most of the others."""
    found, best = shown(cases, chosen), None
    for number, (case, some) in enumerate(zip(cases, chosen, strict=True)):
        spare = [n for n in np.flatnonzero(case.there[target]) if n not in some]
        for out in some if spare else ():
            held = case.there[:, out]
            left = min((found - needed)[held], default=0)  # of a slice without any: the last to go
            rank = (bool(held.any()), left, -int(case.there[target, some].sum()))
            if not held[target] and (left > 0 or not held.any()) and (best is None or rank > best[0]):
                best = rank, number, out, spare
    if best is not None:
        _, number, out, spare = best
        chosen[number][chosen[number].index(out)] = int(_farthest(spare, chosen[number]))


def _farthest(spare: Sequence[int], taken: Sequence[int]) -> int:
    """Neighbouring slices show nearly the same."""
    return max(spare, key=lambda n: min(abs(n - other) for other in taken))
