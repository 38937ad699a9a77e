"""Whether a claim of the paper holds, from the cells of `claims.py`; the rule is the same for all.

A difference is taken seed by seed, in points of mean Dice (0…100). A claim "A above B" holds where A is better in every
seed and by at least `LEAST` points on average, is reversed where the same is true of B, and is open otherwise. "Far
above" asks for `FAR` points. With fewer than `SEEDS` seeds everything is open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST, FAR, SEEDS = 0.5, 5.0, 3
HOLDS, REVERSED, OPEN = "holds", "the reverse", "open"

#: Results of one subject: variant → number of points → seed → cell.
Results = Mapping[str, Mapping[int, Mapping[str, Mapping[str, Any]]]]
#: Seed → points of Dice.
Points = dict[str, float]


@dataclass(frozen=True)
class Claim:
    """What is claimed, and the difference (in points, per seed) that has to be at least `least`."""

    text: str
    difference: Callable[[Results], Points]
    least: float = LEAST


@dataclass(frozen=True)
class Verdict:
    """A difference's mean and standard deviation over seeds (n − 1), in points of Dice, and what follows from it."""

    answer: str
    mean: float
    deviation: float
    seeds: int

    def __str__(self) -> str:
        return f"{self.answer}: {self.mean:+.1f} ± {self.deviation:.1f}"


def judge(claim: Claim, results: Results) -> Verdict:
    """The verdict for one subject. Raises KeyError where there is nothing to judge by yet."""
    points = np.array(list(claim.difference(results).values()))
    if not len(points):
        raise KeyError(claim.text)
    mean, deviation = float(points.mean()), float(points.std(ddof=1)) if len(points) > 1 else float("nan")
    if len(points) < SEEDS:
        answer = f"{OPEN} (fewer than {SEEDS} seeds)"
    elif (points > 0).all() and mean >= claim.least:
        answer = HOLDS
    elif (points < 0).all() and mean <= -LEAST:
        answer = REVERSED
    else:
        answer = OPEN
    return Verdict(answer, mean, deviation, len(points))


def points_of(results: Results, variant: str, count: int, part: str | None = None, score: str = "dice") -> Points:
    """Mean of a score over the cases, × 100. part: "with_truth", or None for the design's own points."""
    cells = results[variant][count].items()
    return {seed: 100 * float(np.mean((cell if part is None else cell[part])[score])) for seed, cell in cells}


def claims(count: int, counts: Sequence[int]) -> list[Claim]:
    """What reference 2403.04164 claims, as far as it can be asked here."""
    few, many = min(counts), max(counts)

    def of(variant: str, n: int = count, **which) -> Callable[[Results], Points]:
        return lambda results: points_of(results, variant, n, **which)

    def above(one: Callable[[Results], Points], other: Callable[[Results], Points]) -> Callable[[Results], Points]:
        def difference(results: Results) -> Points:  # of the seeds that both have
            first, second = one(results), other(results)
            return {seed: first[seed] - second[seed] for seed in first if seed in second}

        return difference

    def gain(variant: str) -> Callable[[Results], Points]:
        return above(of(variant, many), of(variant, few))

    both = of("apm-ips")
    return [
        Claim("APM + IPS far above APM alone", above(both, of("apm")), FAR),
        Claim("IPS with ground-truth points far above SAM with them", above(of("ips-truth"), of("sam-truth")), FAR),
        Claim("APM alone far above SAM with ground-truth points", above(of("apm"), of("sam-truth")), FAR),
        Claim(f"{many} points above {few} with IPS", gain("apm-ips")),
        Claim("more points gain more with IPS than with APM alone", above(gain("apm-ips"), gain("apm"))),
        Claim("PaE above static shifts", above(both, of("apm-static"))),
        Claim("automatic points above ground-truth points when IPS is trained with them", above(both, of("ips-truth"))),
        Claim(
            "APM + IPS better with its own points than evaluated with ground-truth points",
            above(both, of("apm-ips", part="with_truth")),
        ),
        Claim("still promptable: one corrective click helps APM + IPS", above(of("apm-ips", score="corrected"), both)),
        Claim("IPS above a decoder that is fine-tuned in its place", above(both, of("apm-decoder"))),
    ]
