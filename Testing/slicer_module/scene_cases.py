"""Packs, segmented volumes in the scene to teach with, and what the user has there."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ProMISeCore import packs

TEACHER = Path(__file__).with_name("stand_in_teacher.py")


def save_pack(folder: Path, name: str, modality: str, targets: tuple[str, ...]) -> Path:
    """A pack without weights, enough for a fake engine."""
    manifest = packs.Manifest(
        name=name,
        title=f"Title of {name}",
        backbone=packs.BackboneInfo("tiny", "0" * 64, 64),
        targets=tuple(packs.TargetInfo(target, (1.0, 0.5, 0.0)) for target in targets),
        modality=modality,
        orientation="axial",
        window={"mode": "percentile", "low": 0.5, "high": 99.5},
        licence="CC-BY-4.0",
        scores=({"data": "test", "cases": 3, "target": targets[0], "dice": 0.91, "iou": 0.85},),
    )
    packs.save(folder / f"{name}.safetensors", manifest, {})
    return folder / f"{name}.safetensors"


def add_segmentation(volume, name: str, **segments: int):
    """A segmentation of a volume: segment name → the voxel value that it is."""
    import slicer
    from ProMISeSlicerLib import mrml

    node, voxels = mrml.createSegmentation(volume, name), slicer.util.arrayFromVolume(volume)
    for segment, value in segments.items():
        id_ = node.GetSegmentation().AddEmptySegment("", segment, [1, 0, 0])
        slicer.util.updateSegmentBinaryLabelmapFromArray((voxels == value).astype(np.uint8), node, id_, volume)
    return node


def add_volume(name: str, shift: int):
    import slicer

    rows, columns = np.mgrid[:32, :40]
    radius = np.hypot(rows - 16, columns - 20 - shift)
    picture = np.where(radius < 5, 100, np.where(radius < 10, 200, 0)).astype(np.int16)
    return slicer.util.addVolumeFromArray(np.repeat(picture[None], 6, 0), name=name)


def everything(scene) -> dict[str, bytes]:
    """What the user's volumes and segmentations are, to see that nothing of it changes."""
    import slicer

    found = {}
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        found[node.GetID()] = slicer.util.arrayFromVolume(node).tobytes()
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        for id_ in node.GetSegmentation().GetSegmentIDs():
            segment = node.GetSegmentation().GetSegment(id_)
            array = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, id_)
            found[f"{node.GetID()} {id_}"] = array.tobytes() + segment.GetName().encode()
    return found


def settle(panel, seconds: float = 30.0) -> None:
    panel.settle(lambda: not panel.widget.teach.isRunning, seconds)


def names(table) -> list[str]:
    return [table.item(row, 0).text() for row in range(table.rowCount)]
