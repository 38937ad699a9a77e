"""Zips from the page, unpacked safely: limited in size and number, no paths out of the folder, no links, no scripts."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote
from xml.etree import ElementTree

from ProMISeCore.errors import InputError

_MAX_FILES = 20_000
_MAX_BYTES = 8 << 30
_MAX_SCENE = 64 << 20
_ADDRESSES = ("fileName", "fileListMember", "uri")  # attributes of storage nodes that lead to files


@contextlib.contextmanager
def unpacked(path: Path, keepNames: bool) -> Iterator[Path]:
    """A folder beside the zip with its files, gone afterwards. Without keepNames they are numbered, all in one place.

    Raises InputError for what is no zip, too large, or leads elsewhere.
    """
    folder = Path(tempfile.mkdtemp(prefix="unpacked-", dir=path.parent))
    try:
        try:
            with zipfile.ZipFile(path) as file:
                _unpack(file, folder, keepNames)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise InputError("that zip is damaged, or locked with a password; pack it again") from error
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(file: zipfile.ZipFile, folder: Path, keepNames: bool) -> None:
    entries = [entry for entry in file.infolist() if not entry.is_dir()]
    if len(entries) > _MAX_FILES or sum(entry.file_size for entry in entries) > _MAX_BYTES:
        raise InputError(f"that zip holds more than {_MAX_FILES} files or {_MAX_BYTES >> 30} GB; send what is needed")
    room = _MAX_BYTES
    for number, entry in enumerate(entries):
        target = folder / (_inside(entry) if keepNames else f"{number:05}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with file.open(entry) as source, target.open("wb") as copy:
            while block := source.read(1 << 20):  # what a zip says of its sizes may be wrong
                room -= len(block)
                if room < 0:
                    raise InputError(f"that zip holds more than {_MAX_BYTES >> 30} GB; send what is needed")
                copy.write(block)


def _inside(entry: zipfile.ZipInfo) -> PurePosixPath:
    name = PurePosixPath(entry.filename)
    isLink = (entry.external_attr >> 16) & 0o170000 == 0o120000
    if name.is_absolute() or ".." in name.parts or "\\" in entry.filename or ":" in entry.filename or isLink:
        raise InputError("that zip has files that lead out of it; it was not opened")
    return name


def sceneFile(folder: Path) -> Path:
    """The scene's description (.mrml) in an unpacked bundle, once all files that it names lie beside it.

    Raises InputError for a bundle without one, and for files or addresses elsewhere.
    """
    found = sorted(folder.glob("*.mrml")) or sorted(folder.glob("*/*.mrml"))
    if len(found) != 1:
        raise InputError("that bundle holds no scene (.mrml), or several; save it again from Slicer or this page")
    (description,) = found
    if description.stat().st_size > _MAX_SCENE:
        raise InputError("that scene's description is too large; save it without other data")
    text = description.read_bytes()
    if re.search(rb"<!(DOCTYPE|ENTITY)", text):
        raise InputError("that scene declares entities, which scenes of Slicer do not; it was not opened")
    try:
        nodes = ElementTree.fromstring(text).iter()
    except ElementTree.ParseError as error:
        raise InputError("that scene's description is damaged; save it again") from error
    for node in nodes:
        for name, value in node.attrib.items():
            if name.startswith(_ADDRESSES) and value and not _isInside(description.parent, unquote(value)):
                raise InputError("that scene leads to files outside it; save it as a bundle (.mrb) that holds all")
    return description


def _isInside(folder: Path, name: str) -> bool:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", name) or name.startswith(("/", "\\")):
        return False
    return (folder / name).resolve().is_relative_to(folder.resolve())
