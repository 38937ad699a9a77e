"""Choices of this machine, kept in the application's settings, not in the scene."""

from __future__ import annotations

import qt
import slicer

PREFIX = "ProMISeSlicer/"
DEVICES = ("auto", "cuda", "mps", "cpu")
DEFAULT_LIMIT = 10.0  # GB


def stored(key: str, default, converter=str):
    """A setting of this module, or its default."""
    return slicer.util.settingsValue(PREFIX + key, default, converter=converter)


def store(key: str, value) -> None:
    """Keep a setting of this module."""
    qt.QSettings().setValue(PREFIX + key, value)


def device() -> str:
    """The chosen one of DEVICES."""
    name = stored("Device", "auto")
    return name if name in DEVICES else "auto"


def cacheLimit() -> float:
    """Bytes."""
    return stored("CacheLimit", DEFAULT_LIMIT, float) * 1e9
