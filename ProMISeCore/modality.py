"""What kind of images cases are, all together, and in which window they are seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ProMISeCore.case import Case


def of(cases: Sequence[Case], picture: bool) -> str:
    """As far as the files tell. picture: whether they are pictures."""
    return "RGB" if picture else "CT" if is_ct(cases) else "MR"


def is_ct(cases: Sequence[Case]) -> bool:
    """Whether most of them are."""
    return 2 * sum(case.is_ct for case in cases) > len(cases)


def window(cases: Sequence[Case], picture: bool) -> dict[str, Any]:
    """Of CT, the targets' values with soft tissue around them; else each volume's own range. As manifests have it."""
    if picture:
        return {"mode": "bytes"}
    states = [state for case in cases if case.is_ct for state in case.states.values() if state.state == "labelled"]
    if is_ct(cases) and states:
        low, high = min(state.low for state in states), max(state.high for state in states)
        return {"mode": "fixed", "low": 10 * round(low / 10) - 150.0, "high": 10 * round(high / 10) + 150.0}
    return {"mode": "percentile", "low": 0.5, "high": 99.5}
