"""Which image belongs to which label map, by name."""

from __future__ import annotations

import glob
import hashlib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ProMISeCore import truth
from ProMISeCore.detached import voxel_files
from ProMISeCore.errors import InputError
from ProMISeCore.reading import PICTURE_SUFFIXES, check_name

_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".mhd", *PICTURE_SUFFIXES)
_LABEL_WORDS = ("label", "labels", "mask", "seg", "segmentation", "Segmentation")
_LABEL_ENDINGS = tuple(between + word for between in "_- " for word in _LABEL_WORDS)
_IMAGE_ENDINGS = ("_image",)
_SEGMENTATION = ".seg.nrrd"  # of 3D Slicer
SHEET = ".sheet.png"  # of contact sheets, which are neither images nor label maps
#: How to name files so that they are found.
NAMING = (
    "name them X.jpg and X.png, X.nrrd and X.seg.nrrd, or X_image.nii.gz and X_label.nii.gz, or put every pair into a "
    "folder of its own"
)
_LOOKED_AT = 200  # files of a folder without images
_DICOM, _DICOM_AT = b"DICM", 128  # how such a file begins, and where
_LABEL_SUFFIX = ".png"  # of two files called the same, the PNG is the label map: it has no loss


class Pair(NamedTuple):
    """One case: its name, image and label map."""

    name: str
    image: Path
    label: Path


class Sorted(NamedTuple):
    """What some files are: pairs, images that have no label map, and label maps whose names are no image's."""

    pairs: list[Pair]
    unlabelled: list[Path]
    strays: list[Path]


def content(path: Path) -> str:
    """SHA-256 of a file, with what it names as the files of its voxels, or of the names and contents of a folder's
    files: copies elsewhere and later are the same."""
    digest = hashlib.sha256()
    if path.is_file():
        files = [path, *voxel_files(path)]
    else:
        files = sorted(inner for inner in path.iterdir() if inner.is_file())
    for file in files:
        digest.update(b"" if file is path else file.name.encode())
        with file.open("rb") as opened:
            while piece := opened.read(2**20):
                digest.update(piece)
    return digest.hexdigest()


def find(images: Sequence[str], labels: Sequence[str] | None = None) -> list[Pair]:
    """Pair files of folders, globs or plain names: `X.jpg` + `X.png`, `X_image.nii.gz` + `X_label.nii.gz`, `X.nrrd` +
    `X.seg.nrrd`, and an image and a label map that are alone in their folder, or given alone, whatever their names.

    labels: None where they lie among the images: beside them, or in another of the places if they belong to no image
    there. Raises InputError naming images that have no label map, several, or one beside them that another has.
    """
    found, missing, _ = sort_out(images, labels)
    if missing:
        names = ", ".join(path.name for path in missing[:3])
        raise InputError(
            f"{len(missing)} of {len(found) + len(missing)} images have no label map of the same name ({names}"
            f"{', …' * (len(missing) > 3)}); {NAMING}"
        )
    return found


def sort_out(images: Sequence[str], labels: Sequence[str] | None = None) -> Sorted:
    """As `find`, and what belongs to nothing."""
    files = _files(images)
    if labels is None:
        stems = Counter((path.parent, _stem(path)) for path in files if not _names_label(path))
        label_files = [path for path in files if _is_label(path, stems)]
    else:
        label_files = _without_images(_files(labels))
        files = [path for path in files if not _names_label(path)]
    taken = set(label_files)
    files = [path for path in files if path not in taken]
    if not files:
        raise InputError(f"no images in {' '.join(map(str, images))}; {_instead(images)}")
    alone = _alone(files, label_files) if labels is None else {}
    places = _by_place([path for path in label_files if path not in alone.values()])
    everywhere, beside = defaultdict(list), {(path.parent, _case(path)) for path in files}
    for (folder, case), path in places.items():
        if (folder, case) not in beside:  # else it is that image's
            everywhere[case].append(path)
    found = {
        path: alone.get(path) or places.get((path.parent, _case(path))) or _only(everywhere[_case(path)], path)
        for path in files
    }
    if labels is not None and len(files) == len(label_files) == 1 and _are_files([*images, *labels]):
        found[files[0]] = label_files[0]
    _divide(found, shared=labels is not None)
    named = zip(distinct(files, [_case(path) for path in files]), found.items(), strict=True)
    paired = [Pair(name, path, label) for name, (path, label) in named if label is not None]
    used = {*found.values()}
    strays = [path for path in places.values() if path not in used]
    return Sorted(paired, [path for path, label in found.items() if label is None], strays)


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
    readable = {path for path in found if _is_readable(path.name.lower())}
    for path in readable:
        check_name(path)
    return sorted(readable)


def _is_readable(name: str) -> bool:
    return name.endswith(_SUFFIXES) and not name.endswith(SHEET) and not name.startswith(".")


def _are_files(places: Sequence[str]) -> bool:
    return all(Path(place).is_file() for place in places)


def _instead(places: Sequence[str]) -> str:
    """What to give where there is no image."""
    for place in map(str, places):
        for folder in [Path(match) for match in glob.glob(place) if Path(match).is_dir()]:
            inner = [path for path in islice(folder.rglob("*"), _LOOKED_AT) if path.is_file()]
            if any(map(_is_dicom, inner)):
                return "for DICOM, save image and segmentation as NRRD in 3D Slicer, or teach there with what is loaded"
            image = next((path for path in inner if path.name.lower().endswith(_SUFFIXES)), None)
            if image is not None:
                deeper = Path(place, *["*"] * len(image.relative_to(folder).parts))
                return f"the folders in it are not looked into: give '{deeper}', in quotes, for the files in them"
    return "NIfTI, NRRD, MHA, PNG and JPEG are looked for"


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_DICOM_AT + len(_DICOM))[_DICOM_AT:] == _DICOM


def _stem(path: Path) -> str:
    """The name without suffix; systems write umlauts in two ways."""
    suffix = next(suffix for suffix in _SUFFIXES if path.name.lower().endswith(suffix))
    return unicodedata.normalize("NFC", path.name[: -len(suffix)])


def _case(path: Path) -> str:
    """The name without suffix and without `_image`, `_label` and the like."""
    stem = _stem(path)
    for endings in (_LABEL_ENDINGS, _IMAGE_ENDINGS):  # both, as in `X_image_seg`
        ending = next((ending for ending in endings if stem.endswith(ending)), "")
        stem = stem[: len(stem) - len(ending)]
    return stem


def _is_label(path: Path, stems: Counter[tuple[Path, str]]) -> bool:
    twin = stems[path.parent, _stem(path)] > 1
    return _names_label(path) or (path.suffix.lower() == _LABEL_SUFFIX and twin)


def _names_label(path: Path) -> bool:
    """Whether the file's own name says that it is a label map."""
    stem = _stem(path)
    return stem.endswith(_LABEL_ENDINGS) or stem.lower() in _LABEL_WORDS or path.name.lower().endswith(_SEGMENTATION)


def _without_images(files: Sequence[Path]) -> list[Path]:
    """What may be label maps among files of which some are images."""
    stems = Counter((path.parent, _stem(path)) for path in files)
    return [
        path
        for path in files
        if not _stem(path).endswith(_IMAGE_ENDINGS)
        and (stems[path.parent, _stem(path)] == 1 or path.suffix.lower() == _LABEL_SUFFIX or _names_label(path))
    ]


def _alone(files: Sequence[Path], labels: Sequence[Path]) -> dict[Path, Path]:
    """Image → label map where nothing else lies in their folder: whose it is, is clear, whatever they are called."""
    images, maps = Counter(path.parent for path in files), Counter(path.parent for path in labels)
    beside = {path.parent: path for path in labels}
    return {
        path: beside[path.parent]
        for path in files
        if images[path.parent] == maps[path.parent] == 1 and len(_files([str(path.parent)])) == 2
    }


def _by_place(labels: Sequence[Path]) -> dict[tuple[Path, str], Path]:
    """Label maps by folder and case; what somebody has made before what a pack has found."""
    by_place: dict[tuple[Path, str], Path] = {}
    for path in labels:
        place = path.parent, _case(path)
        other = by_place.setdefault(place, path)
        if other == path or truth.is_automatic(path):
            continue
        if not truth.is_automatic(other):
            raise InputError(f"{other} and {path} are both label maps of {_case(path)!r}; keep one")
        by_place[place] = path
    return by_place


def _only(labels: Sequence[Path], image: Path) -> Path | None:
    if len(labels) > 1:
        raise InputError(f"{labels[0]} and {labels[1]} could both be for {image}; give one folder at a time")
    return labels[0] if labels else None


def _divide(found: dict[Path, Path | None], shared: bool) -> None:
    """Of several images of one label map's name, a volume has it before pictures of it. InputError for others: one
    case as two would be held out and learned from. shared: images of several folders, as contrasts, may have one."""
    images = defaultdict(list)
    for image, label in found.items():
        if label is not None:
            images[label, image.parent if shared else None].append(image)
    for (label, _), several in images.items():
        scans = [image for image in several if not image.name.lower().endswith(PICTURE_SUFFIXES)]
        if len(several) > 1 and len(scans) != 1:
            raise InputError(f"{several[0]} and {several[1]} are both images of {label}; keep one")
        for image in several if len(several) > 1 else ():
            found[image] = label if image in scans else None


def distinct(files: Sequence[Path], names: Sequence[str]) -> list[str]:
    """A name for each file: its own of `names`, with folders where several are called so (two files of one folder keep
    one name)."""
    called, folders = Counter(names), defaultdict(dict)
    for path, name in zip(files, names, strict=True):
        if called[name] > 1:
            folders[name][path] = path.resolve().parent.parts
    # os.path.commonpath refuses files on several Windows drives
    shared = {name: len(os.path.commonprefix([*those.values()])) for name, those in folders.items()}
    return [
        "/".join((*folders[name][path][shared[name] :], name)) if name in shared else name
        for path, name in zip(files, names, strict=True)
    ]
