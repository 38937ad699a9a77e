"""Sections of a Markdown page that a script writes, between `<!-- NAME -->` and `<!-- /NAME -->`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ProMISeCore.errors import InputError
from ProMISeCore.whole_file import replacing


def write(page: Path, name: str, text: str) -> None:
    """Replace the section; the rest of the page stays. Raises InputError where it is not there once."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    whole = page.read_text(encoding="utf-8")
    if whole.count(first) != 1 or whole.count(last) != 1 or whole.index(first) > whole.index(last):
        raise InputError(f"{page} has no section {name}; put the lines {first} and {last} where it belongs")
    before, rest = whole.split(first)
    after = rest.split(last)[1]
    with replacing(page) as part:
        part.write_text(f"{before}{first}\n{text.strip()}\n{last}{after}", encoding="utf-8")


def publish(page: Path | None, name: str, text: str) -> None:
    """Into the section of a page, or onto the screen where none is given."""
    if page is None:
        print(text)
    else:
        write(page, name, text)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table, the first as its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
