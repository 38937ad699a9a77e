"""The pack that a training goes on from: its weights rely on how it sees slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ProMISeCore.errors import InputError
from ProMISeCore.manifest import Manifest


def framing(base: Manifest, asked: Mapping[str, Any]) -> dict[str, Any]:
    """How a base makes frames of slices: orientation, window, channels and padding, as a manifest has them.

    asked: what was asked for of these, None where nothing was. Raises InputError where that is not the base's.
    """
    theirs = {
        "orientation": base.orientation,
        "window": dict(base.window),
        "channels": base.channels,
        "padding": base.padding,
    }
    for name, value in asked.items():
        if value is not None and value != theirs[name]:
            raise InputError(f"--{name} is {value}; the pack of --base was taught with {theirs[name]}: leave it out")
    return theirs
