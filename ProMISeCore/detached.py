"""Headers whose voxels lie in files of their own: MetaImage (.mhd) and NRRD name them."""

from __future__ import annotations

import re
from pathlib import Path

_HEADERS = (".mhd", ".mha", ".nrrd", ".nhdr")
_MOST = 2**20  # bytes of a header that are looked at
_NAMED = re.compile(rb"^(?:ElementDataFile *=|data ?file:) *(.*?)\r?$", re.MULTILINE | re.IGNORECASE)
_NUMBER = re.compile(r"%\d*d")  # of a series of files, as in slice%03d.raw


def voxel_files(path: Path) -> list[Path]:
    """The files beside a header that hold its voxels, in order; none where they are in `path` itself.

    What a header names and nobody finds is left out: reading the image says so.
    """
    if not path.name.lower().endswith(_HEADERS):
        return []
    with path.open("rb") as file:
        header = file.read(_MOST)
    if path.suffix.lower() == ".nrrd":
        header = re.split(rb"\r?\n\r?\n", header, maxsplit=1)[0]  # an empty line ends it
    named = _NAMED.search(header)
    if named is None or named[1] == b"LOCAL":
        return []
    said = named[1].decode("utf-8", "replace").strip()
    first, *rest = said.split(maxsplit=1) or [""]
    if first == "LIST":
        listed = header[named.end() :].decode("utf-8", "replace").splitlines()
        names = [path.parent / line.strip() for line in listed if line.strip()]
    elif rest and _NUMBER.search(first):
        pattern = Path(_NUMBER.sub("*", first))
        names = sorted((path.parent / pattern.parent).glob(pattern.name))
    else:
        names = [path.parent / said]
    return [name for name in names if name.is_file()]
