"""What the command line says and how: notices and progress on stderr, tables and results on stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def say(message: str) -> None:
    """One line on stderr, marked as ours."""
    print(f"promise: {' '.join(message.split())}", file=sys.stderr, flush=True)


def once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """`tell`, for messages that it has not told yet."""
    told: set[str] = set()

    def tell_new(message: str) -> None:
        if message not in told:
            told.add(message)
            tell(message)

    return tell_new


def progress(items: Iterable[Item], total: int, label: str, unit: str = "slice") -> Iterable[Item]:
    """The items, with a progress bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, total=total, desc=label, unit=unit, file=sys.stderr, leave=False)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as columns of equal width, the first row ruled off as the head."""
    rows = [[" ".join(cell.split()) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("─" * width for width in widths), *lines[1:]])


def amount(count: float) -> str:
    """Bytes for people: 24.1 MB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def duration(seconds: float) -> str:
    """Seconds for people: 0.4 s, 12 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
