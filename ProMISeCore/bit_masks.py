"""Masks of many slices, a bit for a pixel: a session holds one of every target as long as it lives."""

from __future__ import annotations

import numpy as np


class BitMasks:
    """Masks of a stack of shape (n, H, W), all empty at first; `stack[n]` is one of them, (H, W) bool, a copy."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._pixels = shape[1] * shape[2]
        self._packed = np.zeros((shape[0], -(-self._pixels // 8)), np.uint8)

    def __getitem__(self, n: int) -> np.ndarray:
        return np.unpackbits(self._packed[n], count=self._pixels).view(bool).reshape(self.shape[1:])

    def __setitem__(self, n: int, mask: np.ndarray) -> None:
        self._packed[n] = np.packbits(mask)

    def is_empty(self, n: int) -> bool:
        return not self._packed[n].any()

    def whole(self) -> np.ndarray:
        """All of them, (n, H, W) bool, a copy."""
        return np.unpackbits(self._packed, axis=1, count=self._pixels).view(bool).reshape(self.shape)
