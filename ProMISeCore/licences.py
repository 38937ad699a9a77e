"""What a licence of weights means for their use."""

from __future__ import annotations


def terms(licence: str) -> str:
    """What a licence means for use, in plain words; of weights, the strictest of their data and backbone."""
    if is_non_commercial(licence):
        return "Non-commercial use only: some of the data behind these weights may not be used commercially."
    if not licence or licence == "unstated":
        return "Whoever trained it has not said what may be done with it; ask before passing it on."
    return "The strictest licence among the data and the backbone."


def is_non_commercial(licence: str) -> bool:
    """Whether a licence forbids commercial use, by SPDX name or in words."""
    return "NC" in licence.upper().replace("-", " ").split() or "non-commercial" in licence.lower()
