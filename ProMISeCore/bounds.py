"""The smallest box around a mask: to index it with, and where it lies in the world."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Box(NamedTuple):
    """Oblique or not. center_ras (3,) mm, axes_ras (3, 3) with a unit vector per column, size_mm (3,) along them."""

    center_ras: np.ndarray
    axes_ras: np.ndarray
    size_mm: np.ndarray


def bounds(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around `mask` (any dimension), to index it with; an empty one where nothing is set."""
    found, rest = [], mask
    for _ in range(mask.ndim):  # what is left has one axis less each time, so only the first look costs something
        line = np.flatnonzero(rest.any(axis=tuple(range(1, rest.ndim))))
        span = slice(int(line[0]), int(line[-1]) + 1) if len(line) else slice(0, 0)
        found.append(span)
        rest = rest[span].any(axis=0)
    return tuple(found)


def of_voxels(first_ijk: np.ndarray, last_ijk: np.ndarray, affine: np.ndarray) -> Box:
    """The box of voxels first…last (3,) along the volume's own axes, their edges included; oblique where it is.

    affine: IJK → RAS, 4×4.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    center = affine[:3, :3] @ (np.add(first_ijk, last_ijk) / 2) + affine[:3, 3]
    return Box(center, affine[:3, :3] / spacing, (np.subtract(last_ijk, first_ijk) + 1) * spacing)
