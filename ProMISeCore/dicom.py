"""A folder of DICOM files: which files make one volume, and whether their positions are regular."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProMISeCore.errors import InputError

_POSITION, _ORIENTATION, _DESCRIPTION = "0020|0032", "0020|0037", "0008|103e"
_MAX_FOLDERS = 500


@dataclass(frozen=True)
class Series:
    """The files of one series in spatial order, and what the user should know about the choice."""

    files: tuple[str, ...]
    notices: tuple[str, ...]


def find_series(folder: Path) -> Series:
    """The series with the most slices in a folder (or, if it holds none itself, below it), checked for gaps.

    Raises InputError without DICOM, and for repeated or missing slices. Files need no .dcm suffix.
    """
    found = _series_below(folder)
    if not found:
        raise InputError(
            f"{folder} holds no DICOM images; give a folder with one DICOM series, or the image file itself"
        )
    largest = max(found, key=lambda files: (len(files), files))
    notices = []
    if len(found) > 1:
        sizes = ", ".join(str(len(files)) for files in sorted(found, key=len, reverse=True)[:8])
        notices.append(
            f"{folder} holds {len(found)} DICOM series ({sizes} slices); using {_describe(largest)}, the largest. "
            "Move another series to a folder of its own to use it"
        )
    notices.extend(_check_positions(folder, largest))
    return Series(tuple(largest), tuple(notices))


def _series_in(folder: Path) -> list[tuple[str, ...]]:
    names = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    return [sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), name) for name in names]


def _series_below(folder: Path) -> list[tuple[str, ...]]:
    found = _series_in(folder)
    if found:
        return found
    folders = [inner for inner, _ in zip(sorted(folder.rglob("*/")), range(_MAX_FOLDERS), strict=False)]
    return [files for inner in folders if inner.is_dir() for files in _series_in(inner)]


def _header(file: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    return reader


def _text(reader: sitk.ImageFileReader, tag: str) -> str:
    return reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""


def _describe(files: tuple[str, ...]) -> str:
    description = _text(_header(files[0]), _DESCRIPTION)
    return f"{description!r} ({len(files)} slices)" if description else f"{Path(files[0]).name} … ({len(files)} slices)"


def _numbers(text: str, count: int) -> np.ndarray | None:
    try:
        values = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None


def _check_positions(folder: Path, files: tuple[str, ...]) -> list[str]:
    """Notices about the spacing of a series; InputError where slices repeat, are missing or lie in other planes."""
    if len(files) < 2:
        return []
    try:
        headers = [_header(file) for file in files]
    except RuntimeError as error:
        raise InputError(f"{folder} has a DICOM file that cannot be read; export the series again") from error
    positions = [_numbers(_text(header, _POSITION), 3) for header in headers]
    orientations = [_numbers(_text(header, _ORIENTATION), 6) for header in headers]
    if any(value is None for value in positions + orientations):
        return [f"{folder} has slices without position or orientation; the spacing between slices is a guess"]
    if np.ptp(np.array(orientations), axis=0).max() > 1e-3:
        raise InputError(f"{folder} has slices of different orientations in one series; split them into folders")
    normal = np.cross(orientations[0][:3], orientations[0][3:])
    return _check_gaps(folder, np.array(positions), normal / np.linalg.norm(normal))


def _check_gaps(folder: Path, positions: np.ndarray, normal: np.ndarray) -> list[str]:
    depths = positions @ normal
    gaps = np.diff(np.sort(depths))
    usual = float(np.median(gaps))
    repeated = int((gaps < max(1e-3, 0.05 * usual)).sum())
    if usual < 1e-3 or repeated:
        raise InputError(
            f"{folder} has {max(repeated, 1)} slice(s) at a position that is already taken: several phases or "
            "echoes in one series; split them into a folder each"
        )
    missing = int(np.round(gaps / usual - 1).sum())
    if (gaps > 1.5 * usual).any():
        raise InputError(
            f"{folder} lacks about {missing} slice(s): the largest gap is {gaps.max():.2f} mm where {usual:.2f} mm is "
            "usual; export the whole series again"
        )
    notices = []
    if np.abs(gaps - usual).max() > 0.05 * usual:
        notices.append(f"{folder} has slices {gaps.min():.2f} to {gaps.max():.2f} mm apart; the mean is used")
    ends = positions[np.argmax(depths)] - positions[np.argmin(depths)]
    drift = float(np.linalg.norm(ends - (ends @ normal) * normal))
    if drift > 0.5:
        notices.append(f"{folder} is tilted (gantry): slices shift by {drift:.1f} mm in all; this is not corrected")
    return notices
