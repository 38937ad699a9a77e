"""Which cases' labels disagree with what the others teach."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_FAR_BELOW = 0.5  # of the median Dice


def outliers(dice: Mapping[int, float]) -> list[tuple[int, float, float]]:
    """Cases far below the others, the worst first: case, its Dice, the median. Four cases are needed to tell.

    Far: below the median by 3 robust standard deviations, and by half of it at least, since hard cases with right
    labels lie below the others too.
    """
    if len(dice) < 4:
        return []
    values = np.array(list(dice.values()))
    typical = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - typical)))
    least = typical - max(3 * spread, _FAR_BELOW * typical)
    return sorted(((case, value, typical) for case, value in dice.items() if value < least), key=lambda found: found[1])
