"""Volumes and pictures: read them, cut them into canonical anatomical slices, put slices back, window intensities."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ProMISeCore.errors import InputError
from ProMISeCore.palette import read_indices
from ProMISeCore.reading import read_affine_image, whole_numbers

#: A slice must have at least this many pixels along both sides to show anything.
LEAST_PIXELS = 4
AXES = ("axial", "sagittal", "coronal")

# Per axis: the anatomical direction in which slices, rows and columns advance, as (RAS axis, sign).
_DIRECTIONS = {
    "axial": ((2, 1), (1, -1), (0, -1)),  # slices inferior→superior, rows anterior→posterior, columns right→left
    "coronal": ((1, 1), (2, -1), (0, -1)),  # slices posterior→anterior, rows superior→inferior, columns right→left
    "sagittal": ((0, -1), (2, -1), (1, -1)),  # slices right→left, rows superior→inferior, columns anterior→posterior
}
#: Voxels by which a label map's or a segmentation's corners may lie beside the image's: headers round.
ON_GRID = 0.25
_TIE = 1e-4  # direction cosines closer than this count as equal; headers store them in float32


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan, or a picture as a one-slice scan.

    voxels (K, J, I), or (K, J, I, 3) for colour; any real dtype, never written to. affine 4×4 float64, IJK → RAS in mm.
    `picture` is True for a 2D picture file, which has no anatomical orientation.
    """

    voxels: np.ndarray
    affine: np.ndarray
    name: str
    picture: bool = False

    @property
    def spacing(self) -> np.ndarray:
        """(3,) mm between voxel centres along I, J, K."""
        return np.linalg.norm(np.asarray(self.affine, float)[:3, :3], axis=0)


def read(path) -> Volume:
    """Read NIfTI, NRRD, MHA/MHD, a DICOM folder or file, or a picture (PNG, JPEG, TIFF, BMP).

    Raises InputError for anything that is not one finite 3D volume or 2D picture. The voxels are read-only.
    """
    image = read_affine_image(path)
    image.voxels.flags.writeable = False
    return Volume(image.voxels, image.affine, image.name, image.picture)


def read_label(path) -> Volume:
    """Read a label map: voxels (K, J, I) of an integer dtype; whole numbers stored as floats are converted.

    Of a picture with a palette, the indices are the labels.
    """
    image = read_affine_image(path)
    indices = read_indices(path) if image.picture else None
    if indices is None and image.translucent:
        raise InputError(
            f"{path} is transparent in places; a label map has one whole number per voxel, save it as that"
        )
    voxels = whole_numbers(image.voxels, path) if indices is None else indices
    return Volume(voxels, image.affine, image.name, image.picture)


def read_pair(image, label) -> tuple[Volume, Volume]:
    """Read an image and its label map. Raises InputError where they do not lie on the same grid in space."""
    volume, labels = read(image), read_label(label)
    check_grid(volume, labels, label)
    return volume, labels


def check_grid(volume: Volume, labels: Volume, path) -> None:
    """Raise InputError where a label map, read from `path`, does not lie on its image's grid in space."""
    if labels.voxels.shape != volume.voxels.shape[:3]:
        shapes = (
            f"{path} has shape {labels.voxels.shape}, its image {volume.name!r} {volume.voxels.shape[:3]} (K, J, I)"
        )
        raise InputError(f"{shapes}; a label map must lie on its image's grid")
    beside = voxels_apart(np.linalg.inv(volume.affine) @ labels.affine, labels.voxels.shape)
    if not volume.picture and beside > ON_GRID:
        raise InputError(
            f"{path} lies elsewhere than its image {volume.name!r}, by up to {beside:.3g} voxels; resample it to the "
            "image's grid"
        )


def voxels_apart(step: np.ndarray, shape: tuple[int, int, int]) -> float:
    """How far corners of a grid of `shape` (K, J, I) lie from themselves under `step` (4×4, IJK → IJK), in voxels."""
    corners_ijk = np.array([(*corner, 1) for corner in itertools.product(*((0, size - 1) for size in shape[::-1]))])
    return float(np.abs((corners_ijk @ step.T - corners_ijk)[:, :3]).max())


def _keep_best(candidates: list, values: list[float]) -> list:
    best = max(values)
    return [candidate for candidate, value in zip(candidates, values, strict=True) if value >= best - _TIE]


def _nearest_axes(affine: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which storage axis (0 I, 1 J, 2 K) runs along R, A and S, and its sign.

    The best of the six assignments by the sum of absolute direction cosines. Ties (an axis at 45°) are broken by the
    assigned directions themselves, largest R component of the first axis first, and so on: by anatomy, not by storage.
    """
    linear = np.asarray(affine, float)[:3, :3]
    norms = np.linalg.norm(linear, axis=0)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise InputError("the volume's geometry has an axis of length 0; give the image valid spacing and directions")
    cosines = linear / norms
    candidates = []
    for order in itertools.permutations(range(3)):
        assigned = cosines[:, list(order)]
        signs = np.where(np.diag(assigned) < 0, -1, 1)
        candidates.append((order, tuple(int(sign) for sign in signs), assigned * signs))
    candidates = _keep_best(candidates, [float(np.trace(directions)) for _, _, directions in candidates])
    for column, row in itertools.product(range(3), range(3)):
        candidates = _keep_best(candidates, [float(directions[row, column]) for _, _, directions in candidates])
    order, signs, _ = candidates[0]
    return order, signs


class Stack:
    """The slices of one volume along one axis, with fixed up and right: a view, split and joined exactly.

    axis is one of AXES, or "image" (storage order: slices K, rows J downwards, columns I to the right); a picture is
    always "image". shape (n, H, W). The same anatomy stored in any of the 48 axis orders gives the same slices.
    """

    def __init__(self, volume: Volume, axis: str) -> None:
        if axis not in (*AXES, "image"):
            raise InputError(f"unknown slice axis {axis!r}; choose one of {', '.join(AXES)}, image")
        self.volume = volume
        self.axis = "image" if volume.picture else axis
        if self.axis == "image":
            storage, signs = (2, 1, 0), (1, 1, 1)
        else:
            order, along = _nearest_axes(volume.affine)
            storage = tuple(order[anatomical] for anatomical, _ in _DIRECTIONS[self.axis])
            signs = tuple(sign * along[anatomical] for anatomical, sign in _DIRECTIONS[self.axis])
        self._storage_axes = storage  # storage axis (0 I, 1 J, 2 K) of slices, rows and columns
        self._numpy_axes = tuple(2 - axis for axis in storage)
        self._flips = tuple(slice(None, None, sign) for sign in signs)
        self._reversed = np.array([sign < 0 for sign in signs])
        self.shape = tuple(int(volume.voxels.shape[axis]) for axis in self._numpy_axes)
        spacing = [round(float(volume.spacing[axis]), 5) for axis in storage]
        self.spacing_slice = spacing[0]
        self.spacing_rc = (spacing[1], spacing[2])

    def __len__(self) -> int:
        return self.shape[0]

    def check_shows_something(self) -> None:
        """Raise InputError for slices of fewer than `LEAST_PIXELS` along a side, and for a constant volume."""
        volume, (_, height, width) = self.volume, self.shape
        if min(height, width) < LEAST_PIXELS:
            other = not volume.picture and sorted(self.shape)[1] >= LEAST_PIXELS
            thin = (
                "; slice it along another axis (--axis, or --orientation to teach), where it is not thin"
                if other
                else ""
            )
            what = "is" if volume.picture else f"has {self.axis} slices of"
            raise InputError(
                f"{volume.name!r} {what} only {height} × {width} pixels, at least {LEAST_PIXELS} × {LEAST_PIXELS} "
                f"are needed{thin}"
            )
        if volume.voxels.min() == volume.voxels.max():
            raise InputError(f"{volume.name!r} is constant ({volume.voxels.flat[0]}): it shows nothing")

    @property
    def slice_axis(self) -> int:
        """The axis of (K, J, I) along which the slices follow each other."""
        return self._numpy_axes[0]

    def canonical(self, array: np.ndarray) -> np.ndarray:
        """View an array (K, J, I[, C]) on the volume's grid as canonical slices (n, H, W[, C])."""
        if array.shape[:3] != self.volume.voxels.shape[:3]:
            raise InputError(
                f"an array of shape {array.shape[:3]} was given for the volume {self.volume.name!r} of shape "
                f"{self.volume.voxels.shape[:3]} (K, J, I); resample it to the volume's grid first"
            )
        return array.transpose(*self._numpy_axes, *range(3, array.ndim))[self._flips]

    def join(self, slices: np.ndarray) -> np.ndarray:
        """View canonical slices (n, H, W[, C]) as an array (K, J, I[, C]): the exact inverse of `canonical`."""
        if slices.shape[:3] != self.shape:
            raise InputError(f"slices of shape {slices.shape[:3]} were given, this stack has {self.shape} (n, H, W)")
        return slices[self._flips].transpose(*np.argsort(self._numpy_axes), *range(3, slices.ndim))

    def rc_to_ras(self, n: int, points_rc) -> np.ndarray:
        """Points (N, 2) as (row, column) of slice n → (N, 3) RAS mm; pixel centres are whole numbers."""
        points_rc = np.asarray(points_rc, float).reshape(-1, 2)
        points = np.column_stack([np.full(len(points_rc), float(n)), points_rc])
        points = np.where(self._reversed, np.array(self.shape) - 1 - points, points)
        affine = np.asarray(self.volume.affine, float)
        return points @ affine[:3, list(self._storage_axes)].T + affine[:3, 3]

    def ras_to_nrc(self, points_ras) -> np.ndarray:
        """Points (N, 3) RAS mm → (N, 3) fractional (slice, row, column), also outside the volume."""
        affine = np.asarray(self.volume.affine, float)
        offsets = np.asarray(points_ras, float).reshape(-1, 3) - affine[:3, 3]
        points = np.linalg.solve(affine[:3, list(self._storage_axes)], offsets.T).T
        return np.where(self._reversed, np.array(self.shape) - 1 - points, points)


def _order_statistics(voxels: np.ndarray, ranks: list[int]) -> dict[int, float]:
    """The values at these ranks of all voxels sorted; independent of storage order. Small integers by histogram."""
    if voxels.dtype.kind in "iu" and voxels.dtype.itemsize <= 2:
        lowest = int(np.iinfo(voxels.dtype).min)
        counts = np.zeros(2 ** (8 * voxels.dtype.itemsize), np.int64)
        for part in voxels:  # per slice: an index copy of the whole volume would be 8 bytes a voxel
            counts += np.bincount((part.astype(np.int32) - lowest).ravel(), minlength=len(counts))
        return dict(
            zip(ranks, (np.searchsorted(counts.cumsum(), np.array(ranks), side="right") + lowest).tolist(), strict=True)
        )
    ordered = np.partition(voxels, sorted(set(ranks)), axis=None)
    return {rank: float(ordered[rank]) for rank in ranks}


def percentiles(voxels: np.ndarray, wanted: tuple[float, ...]) -> tuple[float, ...]:
    """Percentiles (0–100, linear between ranks) over all voxels, exactly equal for every storage order."""
    positions = [(voxels.size - 1) * percent / 100 for percent in wanted]
    lower = [int(np.floor(position)) for position in positions]
    upper = [int(np.ceil(position)) for position in positions]
    values = _order_statistics(voxels, lower + upper)
    return tuple(
        values[low] + (values[high] - values[low]) * (position - low)
        for low, high, position in zip(lower, upper, positions, strict=True)
    )


@dataclass(frozen=True)
class Window:
    """The intensities shown as black (0) and white (255), one pair per volume."""

    low: float
    high: float

    @classmethod
    def of(cls, spec: Mapping, voxels: np.ndarray) -> Window:
        """From a manifest's entry: {"mode": "percentile" | "fixed", "low": …, "high": …} or {"mode": "bytes"}.

        "bytes" keeps 0–255 as it is; deeper integers run from their minimum to the end of the smallest full bit range
        that holds them, floats up to 1 are taken as 0–1, anything else runs from its minimum to its maximum. A window
        without width becomes the whole range, and a constant image is black.
        """
        mode = spec.get("mode")
        if mode == "fixed":
            low, high = float(spec["low"]), float(spec["high"])
        elif mode == "percentile":
            low, high = percentiles(voxels, (float(spec["low"]), float(spec["high"])))
        elif mode == "bytes":
            low, high = _byte_range(voxels)
        else:
            raise InputError(f"unknown window {dict(spec)!r}; its mode must be percentile, fixed or bytes")
        if not high > low:
            low, high = float(voxels.min()), float(voxels.max())
        return cls(low, high)

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Any array → float32 of the same shape, 0…255; give it one slice at a time, it works in float64."""
        if not self.high > self.low:
            return np.zeros(array.shape, np.float32)
        scaled = (array.astype(np.float64) - self.low) * (255 / (self.high - self.low))
        return np.clip(scaled, 0, 255).astype(np.float32)


def _byte_range(voxels: np.ndarray) -> tuple[float, float]:
    lowest, highest = float(voxels.min()), float(voxels.max())
    if voxels.dtype.kind == "f" and lowest >= 0 and highest <= 1:
        return 0.0, 1.0
    if lowest >= 0 and highest <= 255:
        return 0.0, 255.0
    if lowest >= 0 and voxels.dtype.kind in "iu":  # deep pictures may have an offset, which would leave no contrast
        return lowest, float(2 ** int(highest).bit_length() - 1)
    return lowest, highest


class Pictures:
    """The slices of a stack as an encoder sees them, made one at a time: [n] → (H, W, 3) float32 0…255."""

    def __init__(self, stack: Stack, window: Window, channels: str) -> None:
        if channels not in ("repeat", "neighbours"):
            raise InputError(f"unknown channels {channels!r}; choose repeat or neighbours")
        self.stack, self.window, self.channels = stack, window, channels
        self._slices = stack.canonical(stack.volume.voxels)
        self._digests: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._slices)

    def __getitem__(self, n: int) -> np.ndarray:
        if not 0 <= n < len(self):
            raise IndexError(f"slice {n} of a stack of {len(self)}")
        if self._slices.ndim == 4:
            return np.ascontiguousarray(self.window.apply(self._slices[n]))
        if self.channels == "repeat":
            return np.repeat(self.window.apply(self._slices[n])[..., None], 3, axis=-1)
        return np.stack([self.window.apply(self._slices[m]) for m in self._neighbours(n)], axis=-1)

    def identity(self, n: int) -> bytes:
        """What [n] is made from, in short: digests of its voxels, the window, the channels; equal in any storage."""
        settings = f"{self._slices.dtype.str}|{self._slices.shape[1:]}|{self.window}|{self.channels}|".encode()
        return settings + b"".join(map(self._digest, self._neighbours(n) if self.channels == "neighbours" else (n,)))

    def _neighbours(self, n: int) -> tuple[int, int, int]:
        return max(n - 1, 0), n, min(n + 1, len(self) - 1)

    def _digest(self, n: int) -> bytes:
        if n not in self._digests:
            voxels = np.ascontiguousarray(self._slices[n])
            self._digests[n] = hashlib.sha256(memoryview(voxels).cast("B")).digest()
        return self._digests[n]


def pictures(stack: Stack, window: Window, channels: str) -> Pictures:
    """Slices as pictures. channels: "repeat" (grey three times) or "neighbours" (slices n−1, n, n+1); colour stays."""
    return Pictures(stack, window, channels)
