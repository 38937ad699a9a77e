"""The packs in words for the panel, and whether one suits a volume. Reads packs' headers only: no torch."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import slicer
from slicer.i18n import tr as _

from . import environment, mrml

_AIR = -500  # Hounsfield; other modalities do not go as low
_RGB_COMPONENTS = (3, 4)
_ACROSS = {"sagittal": 0, "coronal": 1, "axial": 2}  # the RAS axis that such slices are stacked along
_COARSE = 1.5  # slices this much thicker than pixels were acquired in their own direction


def name(manifest) -> str:
    """A pack in a list."""
    return manifest.title or manifest.name


def inOrder(packs: Sequence) -> list:
    """Folder by folder, the user's own first as they come; by title in each."""
    folders = list(dict.fromkeys(pack.path.parent for pack in packs))
    return sorted(packs, key=lambda pack: (folders.index(pack.path.parent), name(pack.manifest).casefold()))


def dice(manifest, target: str) -> float | None:
    """Of a target on held-out data; None where the pack records none."""
    return next((score["dice"] for score in manifest.scores if score["target"] == target), None)


def meanDice(manifest) -> float | None:
    """Over the targets; None where one has none."""
    found = [dice(manifest, target.name) for target in manifest.targets]
    return None if None in found else sum(found) / len(found)


def figure(value: float | None) -> str:
    """A Dice in a list."""
    return "–" if value is None else f"{value:.2f}"


def image(manifest) -> str:
    """The kind of image a pack is made for."""
    if manifest.orientation == "image":
        return _("{modality} picture").format(modality=manifest.modality)
    return _("{modality}, {orientation}").format(modality=manifest.modality, orientation=manifest.orientation)


def licence(manifest) -> str:
    """A licence in a list, where there is no room for all of it."""
    if environment.core("licences").is_non_commercial(manifest.licence):
        return _("non-commercial")
    return manifest.licence or _("not stated")


def card(manifest) -> str:
    """The model card in rich text: what it is for, what it was made from, how good it is, and its terms."""
    training, rows = manifest.training, []
    rows.append((_("Segments"), manifest.description or ", ".join(target.name for target in manifest.targets)))
    rows.append((_("Made for"), image(manifest)))
    rows.append((_("Use"), manifest.intended_use or _("not stated")))
    if training.get("data"):
        cases = _("{data} ({cases} cases)").format(data=training["data"], cases=training["cases"])
        rows.append((_("Trained on"), cases))
    rows.append((_("Held-out Dice"), _scores(manifest)))
    rows.append((_("Backbone"), manifest.backbone.name))
    terms = environment.core("licences").terms(manifest.licence)
    rows.append((_("Licence"), f"{manifest.licence or _('not stated')}. {terms}"))
    rows.append((_("Version"), f"{manifest.name} {manifest.version}"))
    return "<br>".join(f"<b>{escape(title)}:</b> {escape(text)}" for title, text in rows)


def _scores(manifest) -> str:
    if not manifest.scores:
        return _("not recorded")
    tested = dict.fromkeys((score["data"], score["cases"]) for score in manifest.scores)
    values = ", ".join(f"{score['target']} {figure(score['dice'])}" for score in manifest.scores)
    on = "; ".join(_("{data}, {cases} cases").format(data=data, cases=cases) for data, cases in tested)
    return f"{values} ({on})"


def modalityOf(volumeNode) -> str:
    """What the scene tells: RGB for colour, DICOM's word, CT where there is air as only CT has it; else ""."""
    picture = volumeNode.GetImageData()
    if picture is None:
        return ""
    if picture.GetNumberOfScalarComponents() in _RGB_COMPONENTS:
        return "RGB"
    return _dicomModality(volumeNode) or ("CT" if picture.GetScalarRange()[0] <= _AIR else "")


def _dicomModality(volumeNode) -> str:
    """What the DICOM importer wrote to the subject hierarchy, on the volume or its parents."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is None:
        return ""
    item = hierarchy.GetItemByDataNode(volumeNode)
    return hierarchy.GetAttributeFromItemAncestor(item, "DICOM.Modality") if item else ""


def acquiredAs(volumeNode) -> str:
    """Axial, sagittal or coronal where slices are clearly thicker than pixels, image for a single one; else ""."""
    picture = volumeNode.GetImageData()
    if picture is None:
        return ""
    if picture.GetDimensions()[2] == 1:
        return "image"
    axes = mrml.affineOf(volumeNode)[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    thick = int(np.argmax(spacing))
    if spacing[thick] < _COARSE * np.median(spacing):
        return ""
    across = int(np.argmax(np.abs(axes[:, thick])))
    return next(orientation for orientation, axis in _ACROSS.items() if axis == across)


def _misorientation(orientation: str, volumeNode) -> str:
    acquired = acquiredAs(volumeNode)
    if orientation == "image" or acquired in ("", orientation) or mrml.isPicture(volumeNode):
        return ""
    if acquired == "image":
        return _("This pack is made for {orientation} slices of a volume, and this is a single picture.").format(
            orientation=orientation
        )
    return _(
        "This pack cuts {orientation} slices, and the volume was acquired in {acquired} ones, so the slices are coarse."
        " If the anatomy is cut as the pack expects it, choose {acquired} under Slices."
    ).format(orientation=orientation, acquired=acquired)


def misfit(manifest, volumeNode, orientation: str = "") -> str:
    """Why the pack may not suit the volume, or "" when nothing speaks against it.

    orientation: of the slices, where it is not the pack's own.
    """
    if volumeNode is None or volumeNode.GetImageData() is None:
        return ""
    found = modalityOf(volumeNode)
    if manifest.modality == "RGB" and found != "RGB":
        return _("This pack is made for colour images, and the volume has no colour. Results may be poor.")
    slices = volumeNode.GetImageData().GetDimensions()[2]
    if manifest.orientation == "image" and slices > 1 and found != "RGB":
        return _("This pack is made for single pictures, and the volume has {slices} slices.").format(slices=slices)
    isStoredInColour = manifest.orientation == "image" and found == "RGB"  # as X-rays and ultrasound in PNG files are
    if found and manifest.modality and found.casefold() != manifest.modality.casefold() and not isStoredInColour:
        return _("This pack is made for {expected}, and the volume looks like {found}. Results may be poor.").format(
            expected=manifest.modality, found=found
        )
    return _misorientation(orientation or manifest.orientation, volumeNode)
