"""Nodes that stay with a volume, whatever is done with its parent transform."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from . import mrml

_SAME = 1e-6  # voxels by which a volume may seem to move while its transform is hardened


class Anchor:
    """volumeNode: whose place in its own space and in the world is remembered, to tell what was done with it."""

    def __init__(self, volumeNode) -> None:
        self._volumeNode = volumeNode
        self._local, self._world = mrml.ijkToRas(volumeNode), mrml.affineOf(volumeNode)

    def follow(self, nodes: Iterable) -> np.ndarray | None:
        """Put nodes under the volume's parent transform, which has changed. Hardening takes it into the volume itself,
        which stays where it is: it is then taken into the nodes, too. Returns it (4, 4), None where nothing was.
        """
        local, world = self._local, self._world
        self._local, self._world = mrml.ijkToRas(self._volumeNode), mrml.affineOf(self._volumeNode)
        hardened = None
        if _isSame(world, self._world) and not _isSame(local, self._local):
            hardened = self._local @ np.linalg.inv(local)
        for node in nodes:
            if node.GetTransformNodeID() != self._volumeNode.GetTransformNodeID():  # not hardened with it by the user
                if hardened is not None:
                    node.ApplyTransformMatrix(mrml.matrixFromArray(hardened))
                mrml.follow(node, self._volumeNode)
        return hardened


def _isSame(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether two ways (4, 4) from (I, J, K) are the same."""
    return bool(np.abs(np.linalg.solve(before, after) - np.eye(4)).max() < _SAME)
