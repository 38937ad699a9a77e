"""What each version of a taught pack comes from: the images it has learned from, so that the next one is not judged by
these, and, where its teaching was stopped, the pack that had been gone on from, so that the same command can go on.

Kept in the workspace, not in the pack: SHA-256 of the pack's file → those. No name of a case or a file.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ProMISeCore.errors import InputError
from ProMISeCore.pairs import content
from ProMISeCore.whole_file import replacing

_IMAGES = "learned.json"
_ORIGIN = "stopped.json"
_WITHOUT = {
    _IMAGES: "no case counts as learned from, and scores may flatter",
    _ORIGIN: "a teaching that was stopped while it went on from a pack begins again",
}


def by(pack: Path, workspace: Path) -> frozenset[str]:
    """Fingerprints of the images that a pack's file has learned from, itself or before; none where that is not known.

    Raises InputError where what was kept cannot be read.
    """
    return frozenset(_kept(workspace / _IMAGES).get(content(pack), ()))


def check(workspace: Path) -> None:
    """Raise InputError where what was kept cannot be read."""
    for name in (_IMAGES, _ORIGIN):
        _kept(workspace / name)


def remember(pack: Path, images: Iterable[str], workspace: Path) -> None:
    """Keep that a pack's file has learned from images, by their `pairs.content`. InputError as `by`, OSError."""
    _keep(workspace / _IMAGES, content(pack), sorted(set(images)))


class Origin(NamedTuple):
    """What a teaching goes on from: a pack's `pairs.content`, what it is called, what it was taught from, and its
    targets; all empty where it is nothing."""

    content: str = ""
    called: str = ""
    data: str = ""
    targets: tuple[str, ...] = ()


def origin(pack: Path, workspace: Path) -> Origin | None:
    """What a pack was being taught from where that teaching was stopped; None of one whose teaching came to its end.

    Raises InputError as `by`.
    """
    found = _kept(workspace / _ORIGIN).get(content(pack))
    return None if found is None else Origin(*found[:3], targets=tuple(found[3:]))


def remember_origin(pack: Path, base: Origin, workspace: Path) -> None:
    """Keep that a pack is of a stopped teaching that went on from a base. InputError as `by`, OSError."""
    _keep(workspace / _ORIGIN, content(pack), [*base[:3], *base.targets])


def clear(workspace: Path) -> None:
    """Delete all else that a workspace holds, and the workspace where nothing is kept. OSError where that fails."""
    for path in workspace.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _IMAGES:
            path.unlink()
    if not any(workspace.iterdir()):
        workspace.rmdir()


def _keep(path: Path, pack: str, values: list[str]) -> None:
    kept = _kept(path) | {pack: values}
    with replacing(path) as part:
        part.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _kept(path: Path) -> dict[str, list[str]]:
    if not path.exists():
        return {}
    without = f"remove it: without it {_WITHOUT[path.name]}"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}); {without}") from error
    if not isinstance(found, dict) or not all(isinstance(entry, list) and entry for entry in found.values()):
        raise InputError(f"{path} is damaged; {without}")
    return found
