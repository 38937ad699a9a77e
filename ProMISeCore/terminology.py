"""What a segment contains, as a 3D Slicer terminology entry (SNOMED CT codes from Slicer's own lists)."""

from __future__ import annotations

Code = tuple[str, str, str]  # scheme, value, meaning

_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_REGIONS = "Anatomic codes - DICOM master list"
_NONE: Code = ("", "", "")

ANATOMY: Code = ("SCT", "123037004", "Anatomical Structure")
ALTERED: Code = ("SCT", "49755003", "Morphologically Altered Structure")
TISSUE: Code = ("SCT", "85756007", "Tissue")
ANTERIOR: Code = ("SCT", "255549009", "Anterior")
POSTERIOR: Code = ("SCT", "255551008", "Posterior")
RIGHT: Code = ("SCT", "24028007", "Right")
LEFT: Code = ("SCT", "7771000", "Left")
MASS: Code = ("SCT", "4147007", "Mass")


def terminology_entry(category: Code, type_: Code, modifier: Code = _NONE, region: Code = _NONE) -> str:
    """The text of Slicer's TerminologyEntry tag: context ~ category ~ type ~ modifier ~ region context ~ region ~."""
    codes = ("^".join(code) for code in (category, type_, modifier))
    return "~".join((_CONTEXT, *codes, _REGIONS, "^".join(region), "^".join(_NONE)))


GENERIC = terminology_entry(TISSUE, TISSUE)

# By target name, for manifests; "myocardium" is SNOMED CT's own code, Slicer's list does not have it.
KNOWN = {
    "left ventricle": terminology_entry(ANATOMY, ("SCT", "87878005", "Left Ventricle")),
    "right ventricle": terminology_entry(ANATOMY, ("SCT", "53085002", "Right Ventricle")),
    "myocardium": terminology_entry(ANATOMY, ("SCT", "74281007", "Myocardium")),
    "anterior hippocampus": terminology_entry(ANATOMY, ("SCT", "5366008", "Hippocampus"), ANTERIOR),
    "posterior hippocampus": terminology_entry(ANATOMY, ("SCT", "5366008", "Hippocampus"), POSTERIOR),
    "left atrium": terminology_entry(ANATOMY, ("SCT", "82471001", "Left atrium")),
    "polyp": terminology_entry(ALTERED, MASS, region=("SCT", "71854001", "Colon")),
    "skin lesion": terminology_entry(ALTERED, MASS, region=("SCT", "39937001", "Skin")),
    "fetal head": terminology_entry(ANATOMY, ("SCT", "69536005", "Head")),
    "left lung": terminology_entry(ANATOMY, ("SCT", "39607008", "Lung"), LEFT),
    "right lung": terminology_entry(ANATOMY, ("SCT", "39607008", "Lung"), RIGHT),
    "heart and mediastinum": terminology_entry(ANATOMY, ("SCT", "80891009", "Heart")),
    "brain tumour": terminology_entry(ALTERED, MASS, region=("SCT", "12738006", "Brain")),
    "wound": terminology_entry(TISSUE, TISSUE, region=("SCT", "56459004", "Foot")),
}
