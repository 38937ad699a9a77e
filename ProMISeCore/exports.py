"""Results as files: segmentations and label maps on the volume's grid, prompts as markups, a contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ProMISeCore import truth
from ProMISeCore.bounds import bounds
from ProMISeCore.contact_sheet import write_contact_sheet
from ProMISeCore.errors import InputError
from ProMISeCore.markups import Prompts, write_prompts
from ProMISeCore.nrrd import write_nrrd
from ProMISeCore.reading import PICTURE_SUFFIXES
from ProMISeCore.terminology import GENERIC, terminology_entry
from ProMISeCore.volumes import Volume
from ProMISeCore.whole_file import replacing

__all__ = [
    "Prompts",
    "label_map",
    "terminology_entry",
    "write_contact_sheet",
    "write_labelmap",
    "write_prompts",
    "write_segmentation",
]

_TARGET_TAG = "ProMISe.target"  # by which the Slicer module knows what a pack has found, as ProMISeSlicerLib/mrml.py


def write_segmentation(
    path,
    masks: Mapping[str, np.ndarray],
    volume: Volume,
    targets: Sequence[Mapping[str, Any]],
    automatic: bool = False,
) -> None:
    """Write a `.seg.nrrd` that 3D Slicer opens as a segmentation in the volume's geometry.

    masks: target → (K, J, I) bool on the volume's grid; targets: the manifest's entries (name, color 0–1,
    terminology), in segment order; label values are 1…n. Targets that overlap go to separate layers. A target without
    a mask becomes an empty segment. automatic: as of `truth.is_automatic`. Raises InputError for other shapes, unknown
    names and unwritable files.
    """
    found = _masks_in_order(masks, volume, targets)
    placed = _layers(found)
    layers = [np.zeros(volume.voxels.shape[:3], np.uint8 if len(found) < 256 else np.uint16)]
    layers += [np.zeros_like(layers[0]) for _ in range(max(placed, default=0))]
    fields = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ConversionParameters": _conversion_parameters(volume),
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        "Segmentation_SourceRepresentation": "Binary labelmap",
    }
    for index, (target, mask, layer) in enumerate(zip(targets, found, placed, strict=True)):
        layers[layer][mask] = index + 1
        fields |= _segment_fields(index, target, mask, layer, automatic)
    if automatic:
        fields[truth.AUTOMATIC] = truth.automatic(layers)
    with replacing(path) as temporary:
        write_nrrd(temporary, layers, volume.affine, fields)


def label_map(masks: Mapping[str, np.ndarray], volume: Volume, targets: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """One (K, J, I) uint8 or uint16 array: 0 background, 1…n the targets in order; where two overlap, the later."""
    found = _masks_in_order(masks, volume, targets)
    labels = np.zeros(volume.voxels.shape[:3], np.uint8 if len(found) < 256 else np.uint16)
    for value, mask in enumerate(found, 1):
        labels[mask] = value
    return labels


def write_labelmap(
    path,
    masks: Mapping[str, np.ndarray],
    volume: Volume,
    targets: Sequence[Mapping[str, Any]],
    automatic: bool = False,
) -> None:
    """Write `label_map` in the volume's geometry, in the format of the suffix (NIfTI, NRRD, MHA; PNG for pictures).

    automatic: as of `truth.is_automatic`, which NIfTI alone can say.
    """
    labels = label_map(masks, volume, targets)
    image = on_grid(labels, volume, flat=Path(path).suffix.lower() in PICTURE_SUFFIXES)
    if automatic:
        image.SetMetaData("ITK_FileNotes", truth.automatic([labels]))  # NIfTI's "descrip"
    with replacing(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)


def on_grid(array: np.ndarray, volume: Volume, flat: bool = False) -> sitk.Image:
    """An array (K, J, I) as an image in the volume's geometry, or, flat, its only slice as a picture without one."""
    if flat:
        if len(array) != 1:
            raise InputError(f"a label map of {len(array)} slices does not fit in a 2D picture; use .nii.gz or .nrrd")
        return sitk.GetImageFromArray(array[0])
    image = sitk.GetImageFromArray(array)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(volume.affine, float)
    image.SetSpacing(volume.spacing.tolist())
    image.SetDirection((lps[:3, :3] / volume.spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def _masks_in_order(
    masks: Mapping[str, np.ndarray], volume: Volume, targets: Sequence[Mapping[str, Any]]
) -> list[np.ndarray]:
    names = [str(target["name"]) for target in targets]
    unknown = sorted(set(masks) - set(names))
    if unknown:
        raise InputError(f"there are masks for {', '.join(unknown)}, the targets are {', '.join(names)}")
    shape = volume.voxels.shape[:3]
    found = []
    for name in names:
        mask = np.asarray(masks.get(name, np.broadcast_to(np.False_, shape)))
        if mask.shape != shape:
            raise InputError(f"the mask of {name!r} has shape {mask.shape}, the volume {shape} (K, J, I)")
        found.append(mask != 0)
    return found


def _layers(masks: list[np.ndarray]) -> list[int]:
    """The layer of each mask: the first one in which it overlaps nothing."""
    unions: list[np.ndarray] = []
    placed = []
    for mask in masks:
        layer = next((index for index, union in enumerate(unions) if not (union & mask).any()), len(unions))
        if layer == len(unions):
            unions.append(mask.copy())
        else:
            unions[layer] |= mask
        placed.append(layer)
    return placed


def _segment_fields(
    index: int, target: Mapping[str, Any], mask: np.ndarray, layer: int, automatic: bool
) -> dict[str, str]:
    tags = {"Segmentation.Status": "inprogress", "TerminologyEntry": str(target.get("terminology") or GENERIC)}
    if automatic:
        tags[_TARGET_TAG] = str(target["name"])
    fields = {
        "ID": f"Segment_{index + 1}",
        "Name": _one_line(str(target["name"])),
        "NameAutoGenerated": "0",
        "Color": " ".join(f"{float(value):.6g}" for value in target.get("color") or (1.0, 0.6, 0.2)),
        "ColorAutoGenerated": "0",
        "Extent": " ".join(str(value) for value in _extent(mask)),
        "LabelValue": str(index + 1),
        "Layer": str(layer),
        "Tags": "".join(f"{key}:{_one_line(value).replace('|', '/')}|" for key, value in tags.items()),
    }
    return {f"Segment{index}_{key}": value for key, value in fields.items()}


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _extent(mask: np.ndarray) -> list[int]:
    """First and last I, J and K with content; 0 and −1 for an empty mask, as Slicer writes it."""
    return [index for span in bounds(mask)[::-1] for index in (span.start, span.stop - 1)]


def _conversion_parameters(volume: Volume) -> str:
    """The reference geometry as Slicer serialises it: IJK → RAS row by row, then the extent."""
    depth, height, width = volume.voxels.shape[:3]
    numbers = [repr(float(value) + 0.0) for value in np.asarray(volume.affine, float).ravel()]
    numbers += [str(value) for value in (0, width - 1, 0, height - 1, 0, depth - 1)]
    return f"Reference image geometry|{';'.join(numbers)};|Image geometry of the segmented volume&"
