"""Which image belongs to which label map, by name."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ProMISeCore.errors import InputError

_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".mhd", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_LABEL_ENDINGS = ("_label", "_labels", "_mask", "_seg", "_segmentation")
_IMAGE_ENDINGS = ("_image",)
_LABEL_SUFFIX = ".png"  # of two files called the same, the PNG is the label map: it has no loss


class Pair(NamedTuple):
    """One case: its name, image and label map."""

    name: str
    image: Path
    label: Path


def find(images: Sequence[str], labels: Sequence[str] | None = None) -> list[Pair]:
    """Pair files of folders, globs or plain names: `X.jpg` + `X.png`, `X_image.nii.gz` + `X_label.nii.gz`.

    labels: None where they lie among the images. Raises InputError naming images that have no label map, or several.
    """
    files = _files(images)
    if labels is None:
        stems = Counter(_stem(path) for path in files)
        label_files = [path for path in files if _is_label(path, stems)]
    else:
        label_files = [path for path in _files(labels) if not _stem(path).endswith(_IMAGE_ENDINGS)]
        files = [path for path in files if not _stem(path).endswith(_LABEL_ENDINGS)]
    taken = set(label_files)
    files = [path for path in files if path not in taken]
    by_case = _by_case(label_files)
    if not files:
        raise InputError(f"no images in {' '.join(map(str, images))}; NIfTI, NRRD, MHA, PNG and JPEG are looked for")
    missing = [path.name for path in files if _case(path) not in by_case]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(files)} images have no label map of the same name ({', '.join(missing[:3])}"
            f"{', …' * (len(missing) > 3)}); name them X.jpg and X.png, or X_image.nii.gz and X_label.nii.gz"
        )
    return [Pair(_case(path), path, by_case[_case(path)]) for path in files]


def _files(places: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for place in map(str, places):
        path = Path(place)
        if path.is_dir():
            found += [inner for inner in path.iterdir() if inner.is_file()]
        elif path.exists():
            found.append(path)
        else:
            matched = [Path(match) for match in glob.glob(place, recursive=True)]
            if not matched:
                raise InputError(f"{place} does not exist, and as a pattern it matches nothing")
            found += matched
    readable = {path for path in found if path.name.lower().endswith(_SUFFIXES) and not path.name.startswith(".")}
    return sorted(readable)


def _stem(path: Path) -> str:
    suffix = next(suffix for suffix in _SUFFIXES if path.name.lower().endswith(suffix))
    return path.name[: -len(suffix)]


def _case(path: Path) -> str:
    """The name without suffix and without `_image`, `_label` and the like."""
    stem = _stem(path)
    ending = next((ending for ending in (*_LABEL_ENDINGS, *_IMAGE_ENDINGS) if stem.endswith(ending)), "")
    return stem[: len(stem) - len(ending)]


def _is_label(path: Path, stems: Counter[str]) -> bool:
    stem = _stem(path)
    return stem.endswith(_LABEL_ENDINGS) or (path.suffix.lower() == _LABEL_SUFFIX and stems[stem] > 1)


def _by_case(labels: Sequence[Path]) -> dict[str, Path]:
    by_case: dict[str, Path] = {}
    for path in labels:
        other = by_case.setdefault(_case(path), path)
        if other != path:
            raise InputError(f"{other} and {path} are both label maps of {_case(path)!r}; keep one")
    return by_case
