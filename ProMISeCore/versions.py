"""Versions of the user's packs: NAME.safetensors is the present one, NAME.versions/1.safetensors, 2, … are all of them.

A version is written to its own file first and then becomes the present one by renaming: at no moment is there none.
"""

from __future__ import annotations

import filecmp
import re
import shutil
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ProMISeCore import packs
from ProMISeCore.errors import InputError, WeightsError
from ProMISeCore.lock import alone
from ProMISeCore.manifest import Manifest
from ProMISeCore.whole_file import check_folder, clear_stale, replacing

_NAME = re.compile(r"[^\W_][\w .,()+-]{0,62}[\w)+-]|[^\W_]")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{number}" for name in ("com", "lpt") for number in range(1, 10))}

_MARKS = ("Mn", "Mc")

_FOLDER = ".versions"


@dataclass(frozen=True)
class Version:
    """One version of a pack. present: its bytes are those of NAME.safetensors."""

    number: int
    path: Path
    manifest: Manifest
    present: bool


def checked_name(name: str) -> str:
    """The name as files take it on every system, its umlauts composed, and without a pack file's suffix. InputError
    for others."""
    composed = unicodedata.normalize("NFC", name).removesuffix(packs.SUFFIX)
    if not _NAME.fullmatch(_without_marks(composed)) or composed.split(".")[0].lower() in _RESERVED:
        raise InputError(
            f"a pack cannot be called {name!r}; give up to 64 letters, digits, spaces and . , _ - + ( ), "
            "a letter or digit first and no space or dot last"
        )
    return composed


def _without_marks(name: str) -> str:
    """With a letter in place of each mark but a first one: marks, as many scripts' vowels are, do not match `\\w`."""
    return "".join("m" if at and unicodedata.category(each) in _MARKS else each for at, each in enumerate(name))


def present(name: str) -> Path:
    """Where the present version of the user's pack is, spelled as on disk, or would be."""
    given = name.removesuffix(packs.SUFFIX)
    composed = checked_name(given)
    spelled = [packs.folder() / f"{each}{packs.SUFFIX}" for each in (given, composed)]
    return spelled[0] if spelled[0].is_file() else spelled[1]


def listing(name: str) -> list[Version]:
    """All versions, the oldest first; damaged files are left out. A pack that was installed once has none but itself.

    Raises WeightsError where there is no pack of the user's of that name.
    """
    now = present(name)
    found = [
        Version(number, path, pack.manifest, _same(path, now))
        for number, path in _numbered(now).items()
        if (pack := packs.readable(path)) is not None
    ]
    if not found:
        raise WeightsError(f"there is no pack of yours called {name!r} in {packs.folder()}; {_those()}")
    return found


def add(name: str, manifest: Manifest, tensors: Mapping[str, Any], half: bool = True) -> Version:
    """Keep a new version and make it the present one. What was present stays as a version.

    Raises WeightsError or InputError where it cannot be written; the present version is then what it was.
    """
    now = present(name)
    with alone(_folder(now), "choose another --name or PROMISE_HOME"):
        for folder in (now.parent, _folder(now)):
            clear_stale(folder)
        _keep(now)
        number = _next(now)
        path = _folder(now) / f"{number}{packs.SUFFIX}"
        packs.save(path, replace(manifest, version=str(number)), tensors, half)
        _become(now, path)
    return Version(number, path, packs.read_manifest(path), True)


def adopt(name: str, file: Path) -> Path:
    """A copy of a pack's file as the present version. What was present stays as a version."""
    packs.read_manifest(file)
    now = present(name)
    if now.is_file():
        if _same(now, file):
            return now
        with alone(_folder(now), "try again"):
            _keep(now)
    _become(now, file)
    return now


def roll_back(name: str, number: int) -> Path:
    """Make an earlier (or later) version the present one; all versions stay. WeightsError if there is none."""
    now = present(name)
    files = _numbered(now)
    if number not in files:
        there = ", ".join(map(str, files)) or "none"
        raise WeightsError(f"{name!r} has no version {number}; there are: {there}")
    packs.read_manifest(files[number])
    with alone(_folder(now), "try again"):
        _keep(now)
        _become(now, files[number])
    return now


def export(name: str, file: Path) -> Path:
    """Copy a pack, the user's or an embedded one, to a file of its own."""
    source = packs.find(name)
    if file.suffix != packs.SUFFIX:
        raise InputError(f"{file} does not end in {packs.SUFFIX}, as packs do; choose another name")
    _become(file, source)
    return file


def remove(name: str) -> int:
    """Delete the user's pack and all its versions; returns how many files. WeightsError if there is none."""
    now = present(name)
    files = [path for _, path in _files(now)] + [now] * now.is_file()
    if not files:
        raise WeightsError(f"there is no installed pack {name!r} to remove; {_those()}")
    check_writable(name)
    for path in files:
        path.unlink()
    if _folder(now).is_dir():
        shutil.rmtree(_folder(now))
    return len(files)


def check_writable(name: str) -> None:
    """See, before anything is computed or deleted, that the pack's folders can be written. InputError if not."""
    check_folder(packs.folder(), "another PROMISE_HOME")
    folder = _folder(present(name))
    if folder.exists():
        check_folder(folder, "another PROMISE_HOME")


def name_of(path: Path) -> str:
    """A pack's name, from its file or that of one of its versions."""
    return path.parent.stem if path.parent.suffix == _FOLDER else path.stem


def _folder(now: Path) -> Path:
    return now.with_name(now.name.removesuffix(packs.SUFFIX) + _FOLDER)


def _files(now: Path) -> list[tuple[int, Path]]:
    """Number and file of every version, in order."""
    found = [path for path in _folder(now).glob(f"*{packs.SUFFIX}") if path.stem.isdecimal()]
    return sorted((int(path.stem), path) for path in found)


def _numbered(now: Path) -> dict[int, Path]:
    """As `_files`, and the present pack where it is none of these."""
    files = dict(_files(now))
    if now.is_file() and not any(_same(path, now) for path in files.values()):
        files[_next(now)] = now
    return files


def _next(now: Path) -> int:
    return max((number for number, _ in _files(now)), default=0) + 1


def _keep(now: Path) -> None:
    """Make the present pack a version, unless it is one, or damaged."""
    if packs.readable(now) is not None and not any(_same(path, now) for _, path in _files(now)):
        _become(_folder(now) / f"{_next(now)}{packs.SUFFIX}", now)


def _become(target: Path, source: Path) -> None:
    with replacing(target) as part:
        shutil.copyfile(source, part)


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def _those() -> str:
    names = [path.stem for path in packs.files(packs.folder())]
    return f"installed in {packs.folder()}: {', '.join(names) or 'none'}"
