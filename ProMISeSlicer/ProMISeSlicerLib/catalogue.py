"""The packs in words for the panel, and whether one suits a volume. Reads packs' headers only: no torch."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

_AIR = -500  # Hounsfield; other modalities do not go as low
_RGB_COMPONENTS = (3, 4)


def title(manifest) -> str:
    """A pack in a list."""
    return f"{manifest.title or manifest.name} ({manifest.modality})"


def details(manifest) -> str:
    """Targets with their Dice on held-out data, modality, orientation, backbone, licence: a few short lines."""
    dice = {score["target"]: score["dice"] for score in manifest.scores}
    targets = [
        f"{target.name} ({dice[target.name]:.2f})" if target.name in dice else target.name
        for target in manifest.targets
    ]
    lines = [
        _("Targets (Dice on held-out data): {targets}").format(targets=", ".join(targets))
        if dice
        else _("Targets (no held-out Dice recorded): {targets}").format(targets=", ".join(targets)),
        _("Made for {modality}, {orientation} slices; backbone {backbone}").format(
            modality=manifest.modality, orientation=manifest.orientation, backbone=manifest.backbone.name
        ),
        _("Licence: {licence}").format(licence=manifest.licence or _("not stated")),
    ]
    if manifest.intended_use:
        lines.append(manifest.intended_use)
    return "\n".join(lines)


def modalityOf(volumeNode) -> str:
    """"CT", "MR", "RGB"… as far as the scene tells: colour, DICOM's word, air as only CT has it; else ""."""
    image = volumeNode.GetImageData()
    if image is None:
        return ""
    if image.GetNumberOfScalarComponents() in _RGB_COMPONENTS:
        return "RGB"
    return _dicomModality(volumeNode) or ("CT" if image.GetScalarRange()[0] <= _AIR else "")


def _dicomModality(volumeNode) -> str:
    """What the DICOM importer wrote to the subject hierarchy, on the volume or its parents."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is None:
        return ""
    item = hierarchy.GetItemByDataNode(volumeNode)
    return hierarchy.GetAttributeFromItemAncestor(item, "DICOM.Modality") if item else ""


def misfit(manifest, volumeNode) -> str:
    """Why the pack may not suit the volume, or "" when nothing speaks against it."""
    found = modalityOf(volumeNode)
    if manifest.modality == "RGB" and found != "RGB":
        return _("This pack is made for colour images, and the volume has no colour. Results may be poor.")
    if found and manifest.modality and found.casefold() != manifest.modality.casefold():
        return _("This pack is made for {expected}, and the volume looks like {found}. Results may be poor.").format(
            expected=manifest.modality, found=found
        )
    return ""
