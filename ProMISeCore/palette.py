"""PNG pictures with a palette as label maps: their indices, which are the labels, instead of the palette's colours."""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _INDEXED = 0, 3  # PNG's colour types (https://www.w3.org/TR/png/#11IHDR)
_COLOURS = (b"PLTE", b"tRNS")


def read_indices(path) -> np.ndarray | None:
    """The indices (1, J, I) uint8 of a PNG with a palette; None for any other file.

    ITK turns indices into colours, so it is given the same picture said to be grey. Raises RuntimeError for a damaged
    one, as ITK does.
    """
    data = Path(path).read_bytes()
    if not data.startswith(_SIGNATURE) or data[25:26] != bytes([_INDEXED]):
        return None
    with tempfile.TemporaryDirectory() as folder:
        grey = Path(folder) / "grey.png"
        grey.write_bytes(_SIGNATURE + b"".join(_as_grey(kind, content) for kind, content in _chunks(data)))
        stretched = sitk.GetArrayFromImage(sitk.ReadImage(str(grey)))
    depth = data[24]  # bits per pixel; ITK stretches fewer than 8 to 0…255
    return (stretched // (255 // (2**depth - 1)))[None]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of every chunk."""
    place = len(_SIGNATURE)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        yield kind, data[place + 8 : place + 8 + length]
        place += 12 + length


def _as_grey(kind: bytes, content: bytes) -> bytes:
    if kind in _COLOURS:
        return b""
    if kind == b"IHDR":
        content = content[:9] + bytes([_GREY]) + content[10:]
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
