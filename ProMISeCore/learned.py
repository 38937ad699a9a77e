"""Which images each version of a taught pack has learned from, so that the next one is not judged by these.

Kept in the workspace, not in the pack: SHA-256 of the pack's file → SHA-256 of the images. No name of a case or a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ProMISeCore.errors import InputError
from ProMISeCore.pairs import content
from ProMISeCore.whole_file import replacing

_FILE = "learned.json"


def by(pack: Path, workspace: Path) -> frozenset[str]:
    """Fingerprints of the images that a pack's file has learned from, itself or before; none where that is not known.

    Raises InputError where what was kept cannot be read.
    """
    return frozenset(_kept(workspace).get(content(pack), ()))


def check(workspace: Path) -> None:
    """Raise InputError where what was kept cannot be read."""
    _kept(workspace)


def remember(pack: Path, images: Iterable[str], workspace: Path) -> None:
    """Keep that a pack's file has learned from images, by their `pairs.content`. InputError as `by`, OSError."""
    kept = _kept(workspace) | {content(pack): sorted(set(images))}
    with replacing(workspace / _FILE) as part:
        part.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _kept(workspace: Path) -> dict[str, list[str]]:
    path = workspace / _FILE
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove it, then no case counts as learned from") from error
    if not isinstance(found, dict) or not all(isinstance(images, list) for images in found.values()):
        raise InputError(f"{path} is damaged; remove it, then no case counts as learned from")
    return found
