"""The frozen SAMs that packs stand on: what they are, where their files lie, and getting and removing those files.

Nothing here is downloaded unless `download` is called. Files live in `$PROMISE_HOME/backbones`, which is
`~/.promise/backbones` where that variable is not set; the embedded default lives in the package's `weights`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from ProMISeCore.errors import WeightsError

EMBEDDED = Path(__file__).resolve().parent / "weights"
_SAM = "https://dl.fbaipublicfiles.com/segment_anything/"
_CHUNK = 1 << 20
_TIMEOUT_S = 30


@dataclass(frozen=True)
class Backbone:
    """One frozen SAM. size (bytes) and sha256 (hex) are None where its publisher states none; url None: no download."""

    name: str
    architecture: str  # "vit_b" | "vit_l" | "vit_h" | "mobile_sam" | "tiny"
    file: str
    url: str | None
    size: int | None
    sha256: str | None
    licence: str
    side: int  # S, pixels of the frame it was trained on
    summary: str


_ALL = (
    Backbone(
        "tiny", "tiny", "tiny.safetensors", None, None, None, "CC-BY-NC-SA-4.0", 512,
        "the embedded default: a compact SAM trained on medical images",
    ),
    Backbone(
        "mobile_sam", "mobile_sam", "mobile_sam.pt",
        "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/master/weights/mobile_sam.pt", 40_728_226,
        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f", "Apache-2.0", 1024,
        "MobileSAM: TinyViT distilled from SAM, about ten times faster than sam_vit_b",
    ),
    Backbone(
        "sam_vit_b", "vit_b", "sam_vit_b_01ec64.pth", _SAM + "sam_vit_b_01ec64.pth", 375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912", "Apache-2.0", 1024,
        "Segment Anything, ViT-B: the backbone of the paper",
    ),
    Backbone(
        "sam_vit_l", "vit_l", "sam_vit_l_0b3195.pth", _SAM + "sam_vit_l_0b3195.pth", None,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622", "Apache-2.0", 1024,
        "Segment Anything, ViT-L (about 1.2 GB)",
    ),
    Backbone(
        "sam_vit_h", "vit_h", "sam_vit_h_4b8939.pth", _SAM + "sam_vit_h_4b8939.pth", 2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e", "Apache-2.0", 1024,
        "Segment Anything, ViT-H",
    ),
    Backbone(
        "medsam_vit_b", "vit_b", "medsam_vit_b.pth", None, None, None, "Apache-2.0", 1024,
        "MedSAM: ViT-B trained on medical images with boxes; expects per-image min–max intensities; published on a "
        "drive without a hash, so install it from a local file",
    ),
)  # fmt: skip

TABLE: dict[str, Backbone] = {backbone.name: backbone for backbone in _ALL}


def folder() -> Path:
    """Where downloaded and installed backbones lie; it need not exist."""
    return Path(os.environ.get("PROMISE_HOME") or Path.home() / ".promise") / "backbones"


def location(backbone: Backbone) -> Path:
    """Where this backbone's file is, or would be."""
    embedded = EMBEDDED / backbone.file
    return embedded if backbone.name == "tiny" or embedded.is_file() else folder() / backbone.file


def installed() -> list[Backbone]:
    """The table's backbones whose file is here."""
    return [backbone for backbone in TABLE.values() if location(backbone).is_file()]


def find(name_or_path: str | Path) -> Path:
    """The file of a backbone of the table, or the path itself. Raises WeightsError with what there is and what to do."""
    backbone = TABLE.get(str(name_or_path))
    if backbone is None:
        path = Path(name_or_path)
        if path.exists():
            return path
        raise WeightsError(
            f"there is no backbone or file {str(name_or_path)!r}; give a file, or one of {_listing()}"
        )
    path = location(backbone)
    if path.is_file():
        return path
    if backbone.name == "tiny":
        raise WeightsError(f"the embedded backbone is missing at {path}; install promise-slicer again")
    obtain = f"promise backbones --download {backbone.name}" if backbone.url else "no download is published"
    raise WeightsError(
        f"the backbone {backbone.name} is not installed; {obtain}, or install a file you have: "
        f"promise backbones --install {backbone.name} {backbone.file}"
    )


def name_of(path: str | Path) -> str | None:
    """The table's name of a file that is called as published, or None."""
    return next((b.name for b in TABLE.values() if b.file == Path(path).name), None)


def _listing() -> str:
    return ", ".join(f"{b.name} ({'installed' if location(b).is_file() else 'not installed'})" for b in TABLE.values())
