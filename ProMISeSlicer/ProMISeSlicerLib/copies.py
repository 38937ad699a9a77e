"""Copies of the user's volumes in the folders of teachings: what no teaching needs is removed. No Qt, no MRML."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from . import lesson as lessons
from .exporting import Exporter, removeEmpty
from .lesson import Lesson

_DAY = 24 * 60 * 60  # seconds


def touch(lesson: Lesson) -> None:
    """They are about to be used, those that have been there for long, too, see `sweep`."""
    if lesson.casesFolder.is_dir():
        os.utime(lesson.casesFolder)


def keepOnly(lesson: Lesson, files: Sequence[str]) -> None:
    """Remove what is none of these; where that fails, it is in the log."""
    try:
        Exporter(lesson.casesFolder).keepOnly(files)
        removeEmpty(lesson.workspace)
    except OSError as error:
        logging.warning("ProMISe: copies of volumes were not removed: %s", error)


def clear(lesson: Lesson) -> None:
    """Remove what no teaching of this name needs, as copies of a check; not where another process teaches under it, or
    writes its cases."""
    if not lessons.isFree(lesson.name):  # asked first: a teaching that begins says what it needs before it is free
        return
    kept = lessons.read(lesson.workspace)
    if kept is not None or not lessons.isKept(lesson.workspace):  # one of another version may need all
        keepOnly(lesson, kept.files if kept is not None else [])


def sweep() -> None:
    """Remove what a check, or a teaching that never began, has left where Slicer ended without a word.

    Not before a day has passed: another Slicer may have just checked, and teach at once.
    """
    root = lessons.root()
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        lesson = Lesson(folder.name)
        if not lessons.isKept(folder) and _isOld(lesson.casesFolder):
            clear(lesson)


def _isOld(folder: Path) -> bool:
    """Whether nothing was written there for a day, and nobody has begun to."""
    try:
        times = [path.stat().st_mtime for path in (folder, *folder.rglob("*"))]
    except OSError:  # not there, or somebody is at work
        return False
    return max(times) < time.time() - _DAY
