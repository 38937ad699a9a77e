"""Which targets of a pack exclude each other: only those of which it is known that they do not overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any


def entries(names: Sequence[str], apart: Callable[[str, str], bool]) -> dict[str, Any]:
    """`exclusive` and `overlaps` of a manifest with these targets. apart: whether two are known not to overlap."""
    pairs = list(combinations(names, 2))
    overlaps = [pair for pair in pairs if not apart(*pair)]
    if pairs and len(overlaps) == len(pairs):
        return {"exclusive": False, "overlaps": ()}
    return {"exclusive": True, "overlaps": tuple(overlaps)}
