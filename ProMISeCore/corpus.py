"""The training corpus of the default backbone: pictures and volumes packed once into arrays that fit in memory."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

PICTURE_SIDE = 256

#: Picture sets whose label values are regions or instances without a fixed meaning: usable for prompts only.
UNNAMED_SETS = ("nuclei", "regions", "spacecraft", "clothing", "street")


@dataclass(frozen=True)
class PictureSet:
    """One 2D set. `pictures` (n, 3, 256, 256) uint8, `labels` (n, 256, 256) uint16; content top left, rest zero."""

    name: str
    pictures: np.ndarray
    labels: np.ndarray
    extents_rc: np.ndarray  # (n, 2) rows and columns that hold content


@dataclass(frozen=True)
class VolumeSet:
    """One 3D set. Each volume is `(voxels (K, J, I) uint8, label (K, J, I) uint8)` in storage order."""

    name: str
    volumes: list[tuple[np.ndarray, np.ndarray]]


def _fit(array: np.ndarray, order: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Resize (H, W[, C]) so that the long side is PICTURE_SIDE; pad with zeros at the bottom and right."""
    height, width = array.shape[:2]
    scale = PICTURE_SIDE / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 3)
    reference = sitk.Image([columns, rows], image.GetPixelID(), image.GetNumberOfComponentsPerPixel())
    reference.SetSpacing([width / columns, height / rows])
    reference.SetOrigin([0.5 * width / columns - 0.5, 0.5 * height / rows - 0.5])
    if order and scale < 1:
        image = sitk.SmoothingRecursiveGaussian(image, 0.4 / scale)
        image = sitk.Cast(image, reference.GetPixelID())
    interpolator = sitk.sitkLinear if order else sitk.sitkNearestNeighbor
    resized = sitk.GetArrayFromImage(sitk.Resample(image, reference, sitk.Transform(), interpolator, 0.0))
    if order:  # the half-pixel rim that lies outside the source grid takes the nearest inner value
        inner = sitk.GetArrayFromImage(sitk.Resample(image, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0))
        rim = resized.max(axis=-1, keepdims=True) == 0 if resized.ndim == 3 else resized == 0
        resized = np.where(rim, inner, resized)
    square = np.zeros((PICTURE_SIDE, PICTURE_SIDE, *array.shape[2:]), array.dtype)
    square[:rows, :columns] = resized
    return square, (rows, columns)


def _read_picture(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(path.with_suffix(".png"))))
    if label.ndim == 3:
        label = label[..., 0]
    picture, extent = _fit(np.ascontiguousarray(picture[..., :3]), order=1)
    label, _ = _fit(label.astype(np.uint16), order=0)
    return picture.transpose(2, 0, 1), label, extent


def _read_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float32)
    low, high = np.percentile(voxels, (0.5, 99.5))
    voxels = np.clip((voxels - low) / max(high - low, 1e-6), 0, 1)
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(path).replace("_image.", "_label.")))
    return (255 * voxels).astype(np.uint8), label.astype(np.uint8)


def pack(data: Path, workspace: Path, split: str) -> None:
    """Pack every set under `data/images` and `data/volumes` into `.npy`/`.npz` files in `workspace/split`."""
    target = workspace / split
    target.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        for folder in sorted((data / "images").iterdir()):
            paths = sorted((folder / split).glob("*.jpg"))
            if not paths or (target / f"{folder.name}.extents.npy").exists():
                continue
            read = list(pool.map(_read_picture, paths, chunksize=32))
            np.save(target / f"{folder.name}.pictures.npy", np.stack([r[0] for r in read]))
            np.save(target / f"{folder.name}.labels.npy", np.stack([r[1] for r in read]))
            np.save(target / f"{folder.name}.extents.npy", np.array([r[2] for r in read]))
        for folder in sorted((data / "volumes").iterdir()):
            paths = sorted((folder / split).glob("*_image.nii.gz"))
            if not paths or (target / f"{folder.name}.volumes.npz").exists():
                continue
            read = list(pool.map(_read_volume, paths))
            arrays = {f"voxels{n:04}": r[0] for n, r in enumerate(read)} | {
                f"label{n:04}": r[1] for n, r in enumerate(read)
            }
            np.savez(target / f"{folder.name}.volumes.npz", **arrays)


def load(workspace: Path, split: str) -> tuple[list[PictureSet], list[VolumeSet]]:
    """The packed sets of `split`, pictures memory-mapped."""
    folder = workspace / split
    pictures = [
        PictureSet(
            path.name.split(".")[0],
            np.load(str(path).replace(".extents.", ".pictures."), mmap_mode="r"),
            np.load(str(path).replace(".extents.", ".labels."), mmap_mode="r"),
            np.load(path),
        )
        for path in sorted(folder.glob("*.extents.npy"))
    ]
    volumes = []
    for path in sorted(folder.glob("*.volumes.npz")):
        with np.load(path) as arrays:
            count = len(arrays.files) // 2
            pairs = [(arrays[f"voxels{n:04}"], arrays[f"label{n:04}"]) for n in range(count)]
        volumes.append(VolumeSet(path.name.split(".")[0], pairs))
    return pictures, volumes


def components(label: np.ndarray, least_pixels: int = 20) -> list[np.ndarray]:
    """Masks of the connected components of every non-zero value of `label` (H, W), each of at least `least_pixels`."""
    masks = []
    for value in np.unique(label):
        if value == 0:
            continue
        numbered, count = ndimage.label(label == value)
        sizes = np.bincount(numbered.ravel(), minlength=count + 1)
        masks += [numbered == n for n in range(1, count + 1) if sizes[n] >= least_pixels]
    return masks
