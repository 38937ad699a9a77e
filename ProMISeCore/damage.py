"""Damage that the readers pass over in silence: cut-off NIfTI and JPEG files, and NaN, which NIfTI readers make 0."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ProMISeCore.errors import InputError

_FLOATS = {16: "f4", 64: "f8"}  # NIfTI's code → numpy's
_CHUNK = 2**24


@dataclass(frozen=True)
class NiftiHeader:
    """What the check needs: byte order, sizes per dimension, data type code, bytes per voxel, offset of the data."""

    order: str
    sizes: tuple[int, ...]
    datatype: int
    itemsize: int
    offset: int


def check_file(path: Path, limit: int) -> None:
    """Raise InputError for a NIfTI file that is cut off or holds NaN or infinity, and for a JPEG that is cut off.

    Voxels of more than `limit` bytes are not looked at: such a file is refused for its size.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        _check_nifti(path, limit)
    elif name.endswith((".jpg", ".jpeg")):
        data = path.read_bytes()
        if data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            raise InputError(f"{path} is cut off, the end of the picture is missing; copy or export it again")


def _check_nifti(path: Path, limit: int) -> None:
    with open(path, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = gzip.GzipFile(fileobj=raw) if packed else raw
        try:
            header = read_nifti_header(file)
            if header is None:
                return  # not NIfTI whatever its name: the reader says so
            if min(header.sizes, default=0) < 1:
                raise InputError(f"{path} has no voxels (size {' × '.join(map(str, header.sizes))}); export it again")
            expected = header.itemsize * int(np.prod([float(size) for size in header.sizes]))
            if expected <= limit:
                _check_voxels(path, file, header, expected)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{path} is cut off or damaged ({error}); copy or export it again") from error


def read_nifti_header(file: BinaryIO) -> NiftiHeader | None:
    """The header at the start of an open NIfTI-1 or -2 file; None where it is neither."""
    start = file.read(540)
    for order in "<>":
        size = struct.unpack_from(f"{order}i", start)[0] if len(start) >= 348 else 0
        if size == 348:
            count, *sizes = struct.unpack_from(f"{order}8h", start, 40)
            datatype, bits = struct.unpack_from(f"{order}2h", start, 70)
            offset = struct.unpack_from(f"{order}f", start, 108)[0]
        elif size == 540 and len(start) == 540:
            count, *sizes = struct.unpack_from(f"{order}8q", start, 16)
            datatype, bits = struct.unpack_from(f"{order}2h", start, 12)
            offset = struct.unpack_from(f"{order}q", start, 168)[0]
        else:
            continue
        if not 0 <= offset < 2**40:  # also where it is not a number
            return None
        return NiftiHeader(order, tuple(sizes[: max(0, min(count, 7))]), datatype, bits // 8, int(offset))
    return None


def _check_voxels(path: Path, file: BinaryIO, header: NiftiHeader, expected: int) -> None:
    """Read the data once in pieces: is it all there, and is every number finite."""
    file.seek(header.offset)
    kind = np.dtype(header.order + _FLOATS[header.datatype]) if header.datatype in _FLOATS else None
    found = bad = 0
    while found < expected:
        piece = file.read(min(_CHUNK, expected - found))
        if not piece:
            raise InputError(
                f"{path} is cut off: {found} of {expected} bytes of voxels are there; copy or export it again"
            )
        if kind is not None:
            values = np.frombuffer(piece[: len(piece) // kind.itemsize * kind.itemsize], kind)
            bad += int(values.size - np.isfinite(values).sum())
        found += len(piece)
    if bad:
        raise not_numbers(path, bad, expected // header.itemsize)


def not_numbers(path: Path, bad: int, total: int) -> InputError:
    """The error for voxels that are NaN or infinite."""
    return InputError(
        f"{path} has {bad} of {total} voxels that are not numbers (NaN or infinite); "
        "replace them, for example by the background value"
    )
