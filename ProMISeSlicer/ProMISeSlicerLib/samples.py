"""What the module adds to Slicer's Sample Data: a generated phantom, and a volume from Slicer's own testing data."""

from __future__ import annotations

import os
from collections.abc import Callable

from slicer.i18n import tr as _

CATEGORY = "ProMISe"
_ICONS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "Resources", "Icons")
#: As in Slicer's module Sample Data (5.10 to 5.13), which shares the file, its place in the cache and its picture.
HEAD_SHA256 = "cc211f0dfd9a05ca3841ce1141b292898b2dd2d3f08286affadf823a7e58df93"
HEAD_URL = "https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/" + HEAD_SHA256


def register(addPhantom: Callable) -> None:
    """addPhantom(): makes the phantom's volume node, and shows it, as Sample Data does not where it downloads nothing.

    Categories have titles from Slicer 5.12 on. `SampleData.downloadSample` knows no source without an address (5.10 to
    5.13): scripts call `ProMISeSlicerLogic().addPhantom()`.
    """
    import SampleData

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):
        logic.registerCustomSampleDataCategory(CATEGORY, title=_("ProMISe"))
    if not hasattr(logic, "registerCustomSampleDataSource"):
        return
    logic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName="ProMISeHeartPhantom",
        thumbnailFileName=os.path.join(_ICONS, "ProMISeHeartPhantom.png"),
        customDownloader=lambda source=None: [addPhantom()],
    )
    logic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName="MRHead",
        uris=HEAD_URL,
        fileNames="MR-head.nrrd",
        nodeNames="MRHead",
        checksums="SHA256:" + HEAD_SHA256,
    )
