"""Volumes stored in every order and direction, and turned in space."""

from __future__ import annotations

import itertools

import numpy as np

from ProMISeCore.volumes import Volume

LETTERS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)  # (K, J, I)


def storages(volume: Volume):
    """The 48 ways to store one volume: every order and direction of its axes, with the affine that keeps its place."""
    for order in itertools.permutations(range(3)):  # new axis (I, J, K) n is old axis order[n]
        for signs in itertools.product((1, -1), repeat=3):
            numpy_order = [2 - order[2 - axis] for axis in range(3)]
            flips = tuple(slice(None, None, signs[2 - axis]) for axis in range(3))
            voxels = volume.voxels.transpose(*numpy_order, *range(3, volume.voxels.ndim))[flips]
            step = np.zeros((4, 4))
            step[3, 3] = 1
            for new, old in enumerate(order):
                step[old, new] = signs[new]
                step[old, 3] = 0 if signs[new] > 0 else volume.voxels.shape[2 - old] - 1
            yield Volume(np.ascontiguousarray(voxels), volume.affine @ step, volume.name)


def rotation(generator: np.random.Generator) -> np.ndarray:
    matrix, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    return matrix


def turned(axis: int, degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = np.eye(3)
    first, second = (other for other in range(3) if other != axis)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def placed(linear: np.ndarray, spacing=(0.7, 1.1, 5.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = linear * spacing
    affine[:3, 3] = (3.0, -40.0, 12.5)
    return affine


ISOMETRIC = np.array([[2, -1, 2], [2, 2, -1], [-1, 2, 2]]) / 3  # every axis equally near to two anatomical ones
PLACES = {
    "straight": np.eye(3),
    "45 about S": turned(2, 45),
    "45 about R": turned(0, 45),
    "45 about A, mirrored": turned(1, 45) @ np.diag([1, 1, -1]),
    "45 twice": turned(0, 45) @ turned(2, 45),
    "isometric": ISOMETRIC,
    **{f"oblique {seed}": rotation(np.random.default_rng(seed)) for seed in range(12)},
}
