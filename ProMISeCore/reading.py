"""Reading image files through SimpleITK: every format becomes voxels and an IJK → RAS affine, or a clear refusal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProMISeCore.damage import check_file, not_numbers
from ProMISeCore.dicom import find_series
from ProMISeCore.errors import InputError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MAX_SLICE_PIXELS = 8192 * 8192  # a slice is handled as float32 RGB: 0.8 GB at this size
MAX_BYTES = 8 * 2**30
_DOUBLE_SUFFIXES = (".nii.gz", ".seg.nrrd", ".seg.nhdr")
_FORMATS = "NIfTI, NRRD, MHA, DICOM (folder or file), PNG, JPEG, TIFF, BMP"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class AffineImage:
    """voxels (K, J, I[, 3]), affine 4×4 IJK → RAS mm, the file's name without its suffix, whether a 2D picture, and
    whether an alpha channel, which is left out, differed between pixels."""

    voxels: np.ndarray
    affine: np.ndarray
    name: str
    picture: bool
    translucent: bool


def read_affine_image(path) -> AffineImage:
    """Read one file or DICOM folder; raises InputError naming the file and what to do."""
    path = Path(path)
    check_name(path)
    try:
        if not path.exists():
            raise InputError(f"{path} does not exist; check the name and the folder")
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes); export or download it again")
        with _quiet_itk():
            image = _read_series(path) if path.is_dir() else _read_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror or error}") from error
    picture = path.suffix.lower() in PICTURE_SUFFIXES and image.GetDimension() == 2
    affine = _affine(image, path)
    voxels = _voxels(image, path)
    return AffineImage(voxels, affine, plain_name(path), picture, _is_translucent(image))


def check_name(path: Path) -> None:
    """Raise InputError for a path that is not UTF-8, as of old archives: ITK would end the process."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{str(path)!a} holds letters that are not UTF-8; rename the file or folder") from error


def read_layers(path) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """A 3D Slicer segmentation (.seg.nrrd): layers (L, K, J, I) of integers, affine IJK → RAS mm, header's entries.

    Raises InputError naming the file and what to do.
    """
    path = Path(path)
    check_name(path)
    check_file(path, MAX_BYTES)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with _quiet_itk():
            image = reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise _explain(path, error) from error
    if image.GetDimension() != 3 or "integer" not in image.GetPixelIDTypeAsString():
        kind = image.GetPixelIDTypeAsString()
        raise InputError(f"{path} is {image.GetDimension()}D with {kind}; expected the labels of a 3D segmentation")
    voxels = sitk.GetArrayFromImage(image)
    layers = voxels[None] if image.GetNumberOfComponentsPerPixel() == 1 else np.moveaxis(voxels, -1, 0)
    return layers, _affine(image, path), {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}


def read_entries(path) -> dict[str, str]:
    """The header's entries alone, as of `read_layers`. Raises InputError naming the file and what to do."""
    check_name(Path(path))
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with _quiet_itk():
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise _explain(Path(path), error) from error
    return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def whole_numbers(voxels: np.ndarray, path) -> np.ndarray:
    """A label map's voxels (K, J, I) as integers; grey stored as equal RGB is accepted, anything else is refused."""
    if voxels.ndim == 4:
        if not ((voxels[..., 0] == voxels[..., 1]) & (voxels[..., 0] == voxels[..., 2])).all():
            raise InputError(f"{path} is a colour picture; a label map has one whole number per voxel")
        voxels = voxels[..., 0]
    if voxels.dtype.kind in "iu":
        return voxels
    if not (voxels == np.round(voxels)).all() or np.abs(voxels).max() >= 2**31:
        raise InputError(f"{path} has values that are not whole numbers; is it the image instead of the label map?")
    return voxels.astype(np.int32)


@contextmanager
def _quiet_itk() -> Iterator[None]:
    """ITK prints warnings on stderr from C++; what matters in them is checked here and reported as errors."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def plain_name(path: Path) -> str:
    """What the volume of a file is called: the file's name without its suffix."""
    name = path.resolve().name if path.name in ("", ".", "..") else path.name
    if path.is_dir():
        return name
    suffix = next((double for double in _DOUBLE_SUFFIXES if name.lower().endswith(double)), path.suffix)
    return name[: len(name) - len(suffix)] or name


def _explain(path: Path, error: Exception) -> InputError:
    text = str(error)
    if "orthonormal" in text or "rthogonal" in text or "determinant" in text:
        return InputError(
            f"{path} has axes that are not perpendicular (sheared direction cosines); resample it to a regular grid, "
            "for example in 3D Slicer with Resample Scalar Volume, or repair the header's sform"
        )
    if "Unknown PixelType" in text:
        return InputError(f"{path} has an unknown pixel type (grey with alpha?); save it as plain grey or RGB")
    if "Unable to determine ImageIO" in text or "Could not create IO object" in text:
        return InputError(f"{path} is not in a format that can be read; supported are {_FORMATS}")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Reason:")]
    reason = lines[-1].split("): ")[-1] if lines else type(error).__name__
    return InputError(f"{path} cannot be read, it may be damaged or cut off: {reason}")


def _read_file(path: Path) -> sitk.Image:
    check_file(path, MAX_BYTES)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_header(path, tuple(reader.GetSize()), reader.GetNumberOfComponents(), reader.GetPixelID())
        return reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise _explain(path, error) from error


def _read_series(folder: Path) -> sitk.Image:
    series = find_series(folder)
    for notice in series.notices:
        _log.warning("%s", notice)
    first = sitk.ImageFileReader()
    first.SetFileName(series.files[0])
    try:
        first.ReadImageInformation()
        size = (*first.GetSize()[:2], len(series.files)) if len(series.files) > 1 else tuple(first.GetSize())
        _check_header(folder, size, first.GetNumberOfComponents(), first.GetPixelID())
        return first.Execute() if len(series.files) == 1 else _series_reader(series.files).Execute()
    except (RuntimeError, MemoryError) as error:
        raise _explain(folder, error) from error


def _series_reader(files: tuple[str, ...]) -> sitk.ImageSeriesReader:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    return reader


def _check_header(path: Path, size: tuple[int, ...], components: int, pixel: int) -> None:
    """Refuse, from the header alone, what cannot be one volume or picture or would not fit in memory."""
    sides = " × ".join(str(side) for side in size)
    if min(size) < 1:
        raise InputError(f"{path} has no voxels (size {sides}); export it again")
    if len(size) > 3 and max(size[3:]) > 1:
        raise InputError(
            f"{path} has {len(size)} dimensions (size {sides}), a single 3D volume is needed; pick one frame of the "
            "sequence and save it as a file of its own"
        )
    if components == 1 and "complex" in sitk.GetPixelIDValueAsString(pixel).lower():
        raise InputError(f"{path} has complex values; save the magnitude image")
    deep = len(size) > 2 and size[2] > 1
    _check_components(path, components, pixel, picture=not deep and path.suffix.lower() in PICTURE_SUFFIXES)
    if sorted(size[:3])[-1] * sorted(size[:3])[-2] > MAX_SLICE_PIXELS:
        raise InputError(
            f"{path} has slices of up to {sides} pixels; at most {MAX_SLICE_PIXELS // 10**6} million pixels in a slice "
            "can be handled: crop it or reduce its resolution"
        )
    gigabytes = float(np.prod([float(side) for side in size])) * components * _pixel_bytes(pixel) / 2**30
    if gigabytes > MAX_BYTES / 2**30:
        raise InputError(
            f"{path} would need {gigabytes:.1f} GB ({sides}), at most {MAX_BYTES // 2**30} GB can be handled; crop it"
        )


def _pixel_bytes(pixel: int) -> int:
    kind = sitk.GetPixelIDValueAsString(pixel)
    return next((int(bits) // 8 for bits in ("64", "32", "16", "8") if bits in kind), 8)


def _check_components(path: Path, components: int, pixel: int, picture: bool) -> None:
    kind = sitk.GetPixelIDValueAsString(pixel)
    colour = components in (3, 4) and "unsigned" in kind and ("8-bit" in kind or "16-bit" in kind)
    if components == 1 or colour or (picture and components == 2):
        return
    raise InputError(
        f"{path} has {components} values per voxel ({kind}); a grey volume or RGB colours are needed: "
        "save one component as a volume of its own"
    )


def _affine(image: sitk.Image, path: Path) -> np.ndarray:
    """IJK → RAS from ITK's LPS geometry; a 2D image lies in the plane k = 0."""
    dimension = image.GetDimension()
    direction = np.eye(3)
    spacing, origin = np.ones(3), np.zeros(3)
    plane = min(dimension, 3)
    direction[:plane, :plane] = np.reshape(image.GetDirection(), (dimension, dimension))[:plane, :plane]
    spacing[:plane], origin[:plane] = image.GetSpacing()[:plane], image.GetOrigin()[:plane]
    if not (np.isfinite(direction).all() and np.isfinite(origin).all() and (spacing > 0).all()):
        raise InputError(f"{path} has an invalid geometry: spacing {spacing}, origin {origin}; repair its header")
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3:
        raise _explain(path, ValueError("not orthonormal"))
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _is_translucent(image: sitk.Image) -> bool:
    if image.GetNumberOfComponentsPerPixel() not in (2, 4):
        return False
    alpha = sitk.GetArrayViewFromImage(image)[..., -1]
    return bool((alpha != alpha.flat[0]).any())


def _voxels(image: sitk.Image, path: Path) -> np.ndarray:
    components = image.GetNumberOfComponentsPerPixel()
    voxels = sitk.GetArrayFromImage(image)
    spatial = voxels.shape[: voxels.ndim - (components > 1)]
    spatial = (1, *spatial) if len(spatial) == 2 else spatial[-3:]
    if components == 1:
        voxels = voxels.reshape(spatial)
    elif components == 2:  # grey and alpha
        voxels = voxels[..., 0].reshape(spatial)
    else:
        voxels = voxels[..., :3].reshape(*spatial, 3)
    if voxels.dtype.kind == "f":
        bad = sum(int(part.size - np.isfinite(part).sum()) for part in voxels)
        if bad:
            raise not_numbers(path, bad, voxels.size)
    return voxels
