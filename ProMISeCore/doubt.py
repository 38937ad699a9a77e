"""Which cases' labels disagree with what the others teach: of those learned from, and of those held out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_FAR_BELOW = 0.5  # of the median Dice
_FOREIGN = 0.25  # of the median Dice of what is learned from
_FITTED = 0.5  # Dice from which that is learned well enough to tell


def outliers(dice: Mapping[int, float]) -> list[tuple[int, float, float]]:
    """Cases far below the others, the worst first: case, its Dice, the median. Four cases are needed to tell, and that
    what they teach is found at all.

    Far: below the median by 3 robust standard deviations, and by half of it at least, since hard cases with right
    labels lie below the others too.
    """
    values = np.array(list(dice.values()))
    typical = float(np.median(values)) if len(dice) >= 4 else 0.0
    if typical < _FITTED:
        return []
    spread = 1.4826 * float(np.median(np.abs(values - typical)))
    least = typical - max(3 * spread, _FAR_BELOW * typical)
    return sorted(((case, value, typical) for case, value in dice.items() if value < least), key=lambda found: found[1])


def fitted(learned: Mapping[int, float]) -> float | None:
    """The median Dice of the cases that are learned from; None where fewer than three are, or badly: nothing can be
    told of others then."""
    typical = float(np.median(list(learned.values()))) if len(learned) >= 3 else 0.0
    return typical if typical >= _FITTED else None


def foreign(held: Mapping[int, float], typical: float) -> list[tuple[int, float, float]]:
    """Held-out cases where what is taught finds next to nothing, the worst first: case, its Dice, `typical`."""
    far = [(case, value, typical) for case, value in held.items() if value < _FOREIGN * typical]
    return sorted(far, key=lambda found: found[1])


def is_foreign(held: Mapping[int, float], typical: float) -> bool:
    """Whether the held-out cases are so all together, and cannot judge."""
    return bool(held) and float(np.mean(list(held.values()))) < _FOREIGN * typical
