"""Windows as they are written on the command line."""

from __future__ import annotations

import math
from typing import Any

from ProMISeCore.errors import InputError


def parsed(text: str) -> dict[str, Any]:
    """`percentile:0.5:99.5`, `fixed:-160:240` or `bytes` as a manifest's entry. Raises InputError for anything else."""
    mode, *limits = text.split(":")
    if mode == "bytes" and not limits:
        return {"mode": mode}
    try:
        low, high = map(float, limits)
    except ValueError as error:
        raise InputError(f"--window got {text!r}; give percentile:0.5:99.5, fixed:-160:240 or bytes") from error
    least, most = (0, 100) if mode == "percentile" else (-math.inf, math.inf)
    if mode not in ("percentile", "fixed") or not (least <= low < high <= most and math.isfinite(high - low)):
        raise InputError(f"--window got {text!r}; give percentile:0.5:99.5, fixed:-160:240 or bytes, lower limit first")
    return {"mode": mode, "low": low, "high": high}
