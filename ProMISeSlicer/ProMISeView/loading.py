"""Files that the page sends: which kinds there are, and how each is read. Nothing in them is believed unchecked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import slicer

from ProMISeCore import markups, volumes
from ProMISeCore.errors import InputError

from . import archive


class Kind(NamedTuple):
    """ending: of a file's name; load(study, path, title); isVolume: whether it takes the place of what is open."""

    ending: str
    load: Callable
    isVolume: bool


def volume(study, path: Path, name: str) -> None:
    """An image file becomes the volume."""
    read = volumes.read(path)
    study.open(volumes.Volume(read.voxels, read.affine, name, read.picture))


def dicom(study, path: Path, name: str) -> None:
    """A zip of DICOM files: the series with the most slices becomes the volume."""
    with archive.unpacked(path, keepNames=False) as folder:
        read = volumes.read(folder)
        study.open(volumes.Volume(read.voxels, read.affine, name, read.picture))


def scene(study, path: Path, name: str) -> None:
    """A bundle that was saved here or by Slicer; its session goes on."""
    with archive.unpacked(path, keepNames=True) as folder:
        description = archive.sceneFile(folder)
        study.clear()
        slicer.mrmlScene.SetURL(str(description))
        slicer.mrmlScene.SetRootDirectory(str(description.parent))
        if not slicer.mrmlScene.Import():
            study.clear()
            raise InputError("that scene could not be read; save it again")
        study.adopt()


def segmentation(study, path: Path, name: str) -> None:
    """A segmentation: segments named as the targets take their places, as edited by hand."""
    session = study.needed()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    try:
        node.AddDefaultStorageNode(str(path))
        if not node.GetStorageNode().ReadData(node):
            raise InputError("that segmentation cannot be read; save it again")
        ids = {node.GetSegmentation().GetSegment(i).GetName(): i for i in node.GetSegmentation().GetSegmentIDs()}
        known = [target for target in session.targets if target in ids]
        if not known:
            raise InputError(f"that segmentation has no segment called {' or '.join(session.targets)}")
        read = slicer.util.arrayFromSegmentBinaryLabelmap
        masks = {target: read(node, ids[target], session.volumeNode) for target in known}
    finally:
        slicer.mrmlScene.RemoveNode(node.GetStorageNode())
        slicer.mrmlScene.RemoveNode(node)
    for target, mask in masks.items():
        _take(session, target, mask > 0)


def labelmap(study, path: Path, name: str) -> None:
    """A label map on the volume's grid: 1 is the pack's first target, and so on; as edited by hand."""
    session = study.needed()
    label, volume = volumes.read_label(path), session.source.volume
    if label.voxels.shape != volume.voxels.shape[:3] or not np.allclose(label.affine, volume.affine, atol=1e-2):
        raise InputError("that label map lies on another grid than the volume; load the one that was made from it")
    for number, target in enumerate(session.targets, 1):
        _take(session, target, label.voxels == number)


def _take(session, target: str, mask: np.ndarray) -> None:
    """mask: (K, J, I) bool."""
    masks, known = session.grid.fromBlock(mask), session.target(target)
    for n in np.flatnonzero((masks != known.masks()).any(axis=(1, 2))).tolist():
        known.restore(n, masks[n])


def prompts(study, path: Path, name: str) -> None:
    """Control points and boxes of this pack's targets are added; the slices that they lie on are solved again."""
    session = study.needed()
    for target, found in markups.read_prompts(path, session.targets).items():
        for ras, label in zip(found.points_ras, found.labels, strict=True):
            session.addPoint(target, ras, bool(label))
        if found.box is not None:
            session.target(target).prompts.drawRoi(*found.box)


KINDS = (
    Kind(".seg.nrrd", segmentation, False),
    Kind(".label.nii.gz", labelmap, False),
    Kind(".mrk.json", prompts, False),
    Kind(".mrb", scene, True),
    Kind(".zip", dicom, True),
    *(Kind(ending, volume, True) for ending in (".nii.gz", ".nii", ".nrrd", ".mha", ".dcm", ".png", ".jpg", ".jpeg")),
)


def kindOf(name: str) -> Kind:
    """Told by the name's ending. Raises InputError for others."""
    for kind in KINDS:
        if name.lower().endswith(kind.ending):
            return kind
    endings = ", ".join(kind.ending.lstrip(".") for kind in KINDS)
    raise InputError(f"files of that kind cannot be opened here; these can: {endings}")


def title(name: str) -> str:
    """A node's name from a file's: without its ending, without what is no plain text."""
    stem = name.rpartition("/")[2].rpartition("\\")[2]
    ending = kindOf(name).ending
    stem = "".join(letter for letter in stem[: -len(ending)] if letter.isprintable())
    return stem[:80] or "volume"
