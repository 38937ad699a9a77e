"""ProMISe: promptable segmentation of medical images with a frozen SAM (arXiv 2403.04164).

Importing this loads no torch; `load` and `load_backbone` do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ProMISeCore.promise import Promise
    from ProMISeCore.sam import Sam

__version__ = "0.1.0"
__all__ = ["__version__", "load", "load_backbone"]


def load(pack: str | Path, backbone: str | Path | None = None, device: str = "cpu") -> Promise:
    """A pack on its frozen backbone, ready to use: `out = model(images)`.

    pack, backbone: a name or a file; the backbone is the pack's own unless given. device: "auto", "cpu", "cuda", "mps".
    Raises WeightsError for a pack or backbone that is missing, damaged, foreign or does not fit.
    """
    from ProMISeCore import backbones, packs
    from ProMISeCore.errors import WeightsError
    from ProMISeCore.promise import Promise, check_shapes

    path = packs.find(pack)
    found = packs.read(path)
    manifest = found.manifest
    wanted = manifest.backbone
    if backbone is None and wanted.name not in backbones.TABLE:
        raise WeightsError(
            f"the pack {manifest.name!r} was made for a backbone called {wanted.name!r}, which is none of "
            f"{', '.join(backbones.TABLE)}; give its file as the backbone"
        )
    sam = load_backbone(backbone or wanted.name, device, wanted.side)
    check_shapes(found.shapes, sam, manifest, str(path))
    model = Promise(sam, manifest)
    return model.load_tensors(packs.tensors(path), str(path)).eval()


def load_backbone(name_or_path: str | Path, device: str = "cpu", side: int | None = None) -> Sam:
    """A frozen SAM by its name (`promise backbones`) or from a file, for frames of `side` pixels (None: its own).

    Raises WeightsError for a file that is missing, damaged or foreign, InputError for a side or device that is not
    possible.
    """
    from ProMISeCore import devices, sam

    return sam.load(name_or_path, devices.choose(device), side)
