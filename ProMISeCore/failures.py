"""In what way a mask fails, told from three counts of voxels; for lists of cases and for model cards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

MISSED, INVENTED, ELSEWHERE, SMALL, LARGE = "missed", "found where there is none", "elsewhere", "too small", "too large"
#: In the order in which they are told; what comes out right or nearly so is in none.
KINDS = (MISSED, INVENTED, ELSEWHERE, SMALL, LARGE)
GOOD = 0.7  # Dice from which on a mask counts as usable


def counts(mask: np.ndarray, truth: np.ndarray) -> dict[str, int]:
    """Voxels of the mask ("found"), of the truth ("true") and of both; bool arrays of one shape."""
    return {
        "found": int(np.count_nonzero(mask)),
        "true": int(np.count_nonzero(truth)),
        "both": int(np.count_nonzero(mask & truth)),
    }


def kind(voxels: Mapping[str, int]) -> str | None:
    """How a mask with these counts fails; None for Dice of at least `GOOD`, and where nothing is and nothing found."""
    found, true, both = voxels["found"], voxels["true"], voxels["both"]
    if found + true == 0 or 2 * both >= GOOD * (found + true):
        return None
    if true == 0:
        return INVENTED
    if found == 0:
        return MISSED
    if both == 0:
        return ELSEWHERE
    return SMALL if found < true else LARGE


def summary(cases: Iterable[Mapping[str, Any]], target: str) -> str:
    """One sentence on a target's failures in the cases of a report of `promise evaluate`."""
    all_counts = [case["voxels"][target] for case in cases]
    kinds = Counter(kind(voxels) for voxels in all_counts)
    failed = len(all_counts) - kinds[None]
    if not failed:
        return f"{target}: none of {len(all_counts)} cases below Dice {GOOD}."
    told = ", ".join(f"{kinds[name]} {name}" for name in KINDS if kinds[name])
    return f"{target}: {failed} of {len(all_counts)} cases below Dice {GOOD} ({told})."


def worst(cases: Iterable[Mapping[str, Any]], count: int) -> list[int]:
    """Indices of the cases with the lowest mean Dice over their targets, the worst first; of equals, the earlier."""
    means = [np.mean([scores["dice"] for scores in case["targets"].values()]) for case in cases]
    return np.argsort(means, kind="stable")[:count].tolist()
