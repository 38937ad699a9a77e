"""Rows of arrays: in files that are open only while they are read, and of several arrays as if they were one."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import numpy as np


class Filed:
    """A mapped array (m, …) whose file is open only while rows of it are read.

    A map keeps its file open, and a process may have few: 256 on macOS, which 60 cases of several arrays would take.
    Raises ValueError for what is no whole array of a file.
    """

    def __init__(self, array: np.memmap) -> None:
        if not (array.flags.c_contiguous and isinstance(array.base, mmap.mmap)):
            raise ValueError(
                "only a whole file's rows, one after the other, can be read again; a part of them was given"
            )
        self._place = array.filename, array.dtype, "r", array.offset, array.shape
        self.shape, self.dtype = array.shape, array.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        return np.array(np.memmap(*self._place)[rows])


class Rows:
    """Arrays (m, …) one after the other as if they were one (M, …), read row by row: nothing is copied before."""

    def __init__(self, parts: Sequence[np.ndarray | Filed]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *[len(part) for part in parts]])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        places = np.searchsorted(self._starts, rows, side="right") - 1
        return np.stack([self._parts[p][row - self._starts[p]] for p, row in zip(places, rows, strict=True)])

    def whole(self) -> np.ndarray:
        """All rows (M, …), read part by part."""
        first = self._parts[0]
        found = np.empty((self._starts[-1], *first.shape[1:]), first.dtype)
        for start, part in zip(self._starts, self._parts, strict=False):
            found[start : start + len(part)] = part[:]
        return found
