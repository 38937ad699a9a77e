"""What is known of every voxel of a case, per target: the target, not the target, or unknown.

Segmentations (.seg.nrrd) tell targets by the segment's name, label maps by value. Unknown is not background: somebody
may have segmented only some targets, or only some slices (docs/teach.md, Partial segmentations).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ProMISeCore import volumes
from ProMISeCore.errors import InputError
from ProMISeCore.reading import read_entries, read_layers
from ProMISeCore.volumes import Volume

UNKNOWN = 255  # in label maps as in the arrays of this file
NOBODY = "ProMISe unknown"  # name of a segment whose voxels are unknown for all targets; with a target's name, for that
AUTOMATIC = "ProMISe_automatic"  # in a header: of which voxels it is a pack's own result, see `is_automatic`
RULES = ("auto", "background", "unknown")
_SEGMENTATIONS = (".seg.nrrd", ".seg.nhdr")
_NIFTI = (".nii", ".nii.gz")
_PART = r"(0(\.\d+)?|1(\.0+)?)"  # of a colour
_MOST_VALUES = 64


def is_segmentation(path: Path) -> bool:
    """Whether the file tells its targets by name."""
    return path.name.lower().endswith(_SEGMENTATIONS)


def contents(path: Path) -> dict[str, int | None]:
    """What a file could teach: a segmentation's segments, name → None, or a label map's values, name → value.

    Raises InputError for files that cannot be read, and for label maps of more values than anybody teaches.
    """
    if is_segmentation(path):
        return {name: None for name in _segments(read_entries(path), path) if not name.startswith(NOBODY)}
    values = [int(value) for value in np.unique(volumes.read_label(path).voxels) if value]
    if len(values) > _MOST_VALUES:
        raise InputError(
            f"{path} holds {len(values)} values, at most {_MOST_VALUES} can be taught: is it an image, or does it "
            "number instances? Give a map with one value for each kind of thing"
        )
    return {f"label {value}": value for value in values}


def is_told(path: Path) -> bool:
    """Whether a file says itself what nobody has looked at. InputError for one that cannot be read."""
    return is_segmentation(path) and any(name.startswith(NOBODY) for name in _segments(read_entries(path), path))


def is_automatic(path: Path) -> bool:
    """Whether a file is what `promise segment` has written, so that it is nobody's work: it says so, and of these
    voxels. 3D Slicer does not write that entry again, other programs may. Of a file that cannot be read nobody can
    tell: False."""
    try:
        if path.name.lower().endswith(_NIFTI):
            said = read_entries(path).get("descrip", "").strip()
            return said.startswith(AUTOMATIC) and said == automatic([volumes.read_label(path).voxels])
        said = read_entries(path).get(AUTOMATIC, "") if is_segmentation(path) else ""
        return bool(said) and said == automatic(read_layers(path)[0])
    except InputError:
        return False


def automatic(layers: Iterable[np.ndarray]) -> str:
    """The entry for label layers (K, J, I) that a pack has found: a fingerprint of the voxels."""
    crc = 0
    for layer in layers:
        crc = zlib.crc32(np.ascontiguousarray(layer, np.uint16), crc)
    return f"{AUTOMATIC} {crc:08x}"


def colours(path: Path) -> dict[str, tuple[float, ...]]:
    """Segment's name → red, green, blue 0…1, as far as a file says. InputError for one that cannot be read."""
    if not is_segmentation(path):
        return {}
    header, found = read_entries(path), {}
    for key, value in header.items():
        place = re.fullmatch(r"Segment(\d+)_Color", key)
        if place is not None and re.fullmatch(rf"{_PART}( {_PART}){{2}}", value.strip()):
            found[header.get(f"Segment{place[1]}_Name", "").strip()] = tuple(map(float, value.split()))
    return found


def read(
    volume: Volume, path: Path, targets: Mapping[str, int | None], rule: str = "background", axis: int = 0
) -> np.ndarray:
    """The truth (T, K, J, I) uint8 on the volume's grid: 1 the target, 0 not, UNKNOWN.

    targets: name → value in label maps (None: only found by name, in segmentations); rule: one of RULES, for slices
    without the target; axis of (K, J, I) along which slices are cut. InputError for another grid.
    """
    if not targets:
        return np.zeros((0, *volume.voxels.shape[:3]), np.uint8)
    told = [False] * len(targets)  # whether the file says itself what is unknown
    if is_segmentation(path):
        truth, told = _of_segmentation(volume, path, targets)
    else:
        labels = volumes.read_label(path)
        volumes.check_grid(volume, labels, path)
        truth = _of_label_map(labels.voxels, targets)
    if not volume.picture:
        for one, explicit in zip(truth, told, strict=True):
            if not explicit:
                _leave_out(one, rule, axis)
    return truth


def _of_label_map(labels: np.ndarray, targets: Mapping[str, int | None]) -> np.ndarray:
    truth = np.stack([labels == (-1 if value is None else value) for value in targets.values()]).astype(np.uint8)
    if UNKNOWN not in targets.values():
        truth[:, labels == UNKNOWN] = UNKNOWN
    truth[[value is None for value in targets.values()]] = UNKNOWN
    return truth


def _of_segmentation(volume: Volume, path: Path, targets: Mapping[str, int | None]) -> tuple[np.ndarray, list[bool]]:
    """The truth, and for which targets it has segments that tell what is unknown."""
    layers, affine, header = read_layers(path)
    segments = _segments(header, path)
    truth = np.full((len(targets), *volume.voxels.shape[:3]), UNKNOWN, np.uint8)
    into, out_of = _overlap(volume, affine, layers.shape[1:], path)

    def voxels(name: str) -> np.ndarray:
        layer, value = segments[name]
        if layer >= len(layers):
            raise InputError(f"{path} has no layer {layer} for the segment {name!r}; save it again from 3D Slicer")
        return layers[layer][out_of] == value

    telling = [{NOBODY, f"{NOBODY} {name}"} & segments.keys() for name in targets]
    for number, name in enumerate(targets):
        if name in segments:
            truth[number] = 0
            truth[number][into] = voxels(name)
            for nobody in telling[number]:
                truth[number][into][voxels(nobody)] = UNKNOWN
    return truth, [bool(those) for those in telling]


def _segments(header: Mapping[str, str], path: Path) -> dict[str, tuple[int, int]]:
    """Segment's name → layer and label value."""
    found: dict[str, tuple[int, int]] = {}
    for key in header:
        place = re.fullmatch(r"Segment(\d+)_Name", key)
        if place is None:
            continue
        name, prefix = header[key].strip(), f"Segment{place[1]}_"
        if name in found:
            raise InputError(f"{path} has two segments called {name!r}; rename one")
        try:
            found[name] = int(header.get(f"{prefix}Layer", 0)), int(header[f"{prefix}LabelValue"])
        except (KeyError, ValueError) as error:
            raise InputError(f"{path} does not say the label of segment {name!r}; save it again from Slicer") from error
    if not found:
        raise InputError(f"{path} names no segments; save it as a segmentation from 3D Slicer, or rename it to .nrrd")
    return found


def _overlap(volume: Volume, affine: np.ndarray, shape: tuple[int, ...], path: Path):
    """Where a segmentation's grid, which Slicer may have cropped, lies in the volume's: index of the one and other."""
    step = np.linalg.inv(volume.affine) @ affine
    offset = np.rint(step[:3, 3]).astype(int)[::-1]
    step[:3, 3] -= offset[::-1]
    if volumes.voxels_apart(step, shape) > volumes.ON_GRID:
        raise InputError(
            f"{path} lies on another grid than its image {volume.name!r}; in 3D Slicer choose the image as the "
            "segmentation's source geometry and save it again"
        )
    size = np.array(volume.voxels.shape[:3])
    low, high = np.clip(offset, 0, size), np.clip(offset + shape, 0, size)
    into = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return into, tuple(slice(a, b) for a, b in zip(low - offset, high - offset, strict=True))


def _leave_out(truth: np.ndarray, rule: str, axis: int) -> None:
    """Make slices of (K, J, I) without the target unknown where the rule says so."""
    there = truth == 1
    if rule == "background":
        return
    if not there.any():
        truth[...] = UNKNOWN
        return
    for along in [axis] if rule == "unknown" else range(3):
        filled = there.any(axis=tuple(other for other in range(3) if other != along))
        if rule == "unknown" or _is_sparse(filled, along == axis):
            np.moveaxis(truth, along, 0)[~filled] = UNKNOWN


def _is_sparse(filled: np.ndarray, is_cut: bool) -> bool:
    """Whether slices (n,) were segmented here and there: one of more than three, never two neighbours (every second
    one), or, as they are cut, under half of those between; across these a pair of organs leaves as much free."""
    places = np.flatnonzero(filled)
    if len(places) == 1:
        return len(filled) > 3
    return bool(np.diff(places).min() > 1) or (is_cut and 2 * len(places) < places[-1] - places[0] + 1)
