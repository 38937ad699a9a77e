"""Where packs, backbones and the cache lie: in the core's folders unless the user has chosen others. No torch."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from . import environment, packfile
from .preferences import store, stored

KINDS = ("pack", "backbone", "cache")


def _default(kind: str) -> Path:
    if kind == "cache":
        return environment.core("cache").default_folder()
    return environment.core(kind + "s").folder()


def folder(kind: str) -> Path:
    """kind: one of KINDS. The folder need not exist."""
    return Path(stored(kind + "Folder", "") or _default(kind))


def choose(kind: str, path: str) -> None:
    """path: "" for the core's own."""
    store(kind + "Folder", "" if path and Path(path) == _default(kind) else path)


def packs() -> list:
    """Packs of the folder, then the embedded ones of other names, each with `path` and `manifest`."""
    core, weightsError = environment.core("packs"), environment.core("errors").WeightsError
    found = {}
    for path in core.files(folder("pack")):
        try:
            found[path.stem] = core.read(path)
        except weightsError:
            continue  # a damaged or foreign file is no pack; the others are still there
    for pack in core.installed():
        if pack.path.parent == core.EMBEDDED:
            found.setdefault(pack.path.stem, pack)
    return list(found.values())


def ownPacks() -> list:
    """Packs that have versions: taught here or imported, in the core's own folder of packs."""
    core = environment.core("packs")
    return [pack for pack in core.installed() if pack.path.parent == core.folder()]


def publish(name: str) -> None:
    """Copy a pack of one's own, as it is now, to the folder where packs are listed from.

    Raises FileExistsError where a file of that name is none of its versions there: it is somebody's, and stays.
    """
    source = environment.core("versions").present(name)
    target = folder("pack") / source.name
    if target.parent == source.parent:
        return
    if somebodys(name) is not None:
        text = "{file} is another pack, and is not written over; move it, then export yours to its place, see My packs"
        raise FileExistsError(text.format(file=target))
    with environment.core("whole_file").replacing(target) as part:
        shutil.copyfile(source, part)


def copyOf(name: str) -> Path | None:
    """The copy of a pack of one's own, of whichever version, in the folder where packs are listed from; None where
    there is none, as in the core's own folder, or where a file of that name is another pack."""
    file = _inFolder(name)
    return file if file is not None and _isOurs(name, file) else None


def somebodys(name: str) -> Path | None:
    """Another pack, or whatever else has that file name, in the folder where packs are listed from: there a pack of
    one's own, or one that is still to be taught, gets no copy. None where nothing is in its way."""
    file = _inFolder(name)
    return file if file is not None and not _isOurs(name, file) else None


def _inFolder(name: str) -> Path | None:
    """The file of that name in a folder of packs that the user has chosen."""
    present = environment.core("versions").present(name)
    file = folder("pack") / present.name
    return file if file.parent != present.parent and file.is_file() else None


def _isOurs(name: str, file: Path) -> bool:
    return any(filecmp.cmp(version.path, file, shallow=False) for version in packfile.versionsOf(name))


def backboneFile(name: str) -> Path | None:
    """The file of a backbone of the core's table; None where it has none of that name."""
    backbones = environment.core("backbones")
    known = backbones.TABLE.get(name)
    if known is None:
        return None
    location = backbones.location(known)
    return location if location.parent == backbones.EMBEDDED else folder("backbone") / known.file


def backbonePlace(name: str) -> str:
    """What to call a backbone of the core's table for a child process: its name, or the file in the chosen folder."""
    backbones, file = environment.core("backbones"), backboneFile(name)
    known = backbones.TABLE.get(name)
    return name if known is None or backbones.location(known) == file else str(file)


def downloaded() -> list[Path]:
    """Files of backbones in the folder, also what interrupted downloads left."""
    names = [backbone.file for backbone in environment.core("backbones").TABLE.values()]
    paths = [folder("backbone") / (name + end) for name in names for end in ("", ".part")]
    return [path for path in paths if path.is_file()]


def download(name: str, progress: Callable[[int, int | None], None]) -> None:
    """Fetch a backbone of the core's table into the folder, and verify it. Raises WeightsError."""
    backbones = environment.core("backbones")
    known, target = backbones.TABLE[name], backboneFile(name)
    part = target.with_name(target.name + ".part")
    environment.core("downloading").fetch(known.url, part, known.size, progress)
    try:
        backbones.verify(part, known)
    except environment.core("errors").WeightsError:
        part.unlink()
        raise
    os.replace(part, target)
