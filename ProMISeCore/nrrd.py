"""Writing NRRD label maps: one 3D layer, or several as a `list` axis, which SimpleITK cannot write."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_TYPES = {"u1": "unsigned char", "u2": "unsigned short"}


def write_nrrd(path: Path, layers: list[np.ndarray], affine: np.ndarray, fields: Mapping[str, str]) -> None:
    """Write label layers, each (K, J, I) of uint8 or uint16, gzip-compressed, in LPS. affine 4×4 IJK → RAS mm.

    fields: the key/value pairs of the header. One layer makes a 3D file, several a 4D one whose first axis is `list`.
    The same input gives the same bytes.
    """
    header = _header(layers, affine)
    header.extend(f"{key}:={_escape(value)}" for key, value in fields.items())
    with open(path, "wb") as file:
        file.write(("\n".join(header) + "\n\n").encode("utf-8"))
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as compressed:
            for slices in zip(*layers, strict=True):  # slice by slice: no interleaved copy of everything
                compressed.write(np.stack(slices, axis=-1).tobytes())


def _header(layers: list[np.ndarray], affine: np.ndarray) -> list[str]:
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, float)
    depth, height, width = layers[0].shape
    sizes, directions, kinds = [width, height, depth], [_vector(lps[:3, axis]) for axis in range(3)], ["domain"] * 3
    if len(layers) > 1:
        sizes, directions, kinds = [len(layers), *sizes], ["none", *directions], ["list", *kinds]
    kind = layers[0].dtype
    lines = [
        "NRRD0005",
        "# Complete NRRD file format specification at:",
        "# http://teem.sourceforge.net/nrrd/format.html",
        f"type: {_TYPES[kind.str[1:]]}",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        "sizes: " + " ".join(str(size) for size in sizes),
        "space directions: " + " ".join(directions),
        "kinds: " + " ".join(kinds),
    ]
    if kind.itemsize > 1:
        lines.append("endian: " + ("big" if kind.newbyteorder("=").str[0] == ">" else "little"))
    return [*lines, "encoding: gzip", f"space origin: {_vector(lps[:3, 3])}"]


def _vector(values: np.ndarray) -> str:
    return "(" + ",".join(repr(float(value) + 0.0) for value in values) + ")"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", " ")
