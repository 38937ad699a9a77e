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
from urllib.request import urlopen

from ProMISeCore import downloading
from ProMISeCore.errors import InputError, WeightsError

EMBEDDED = Path(__file__).resolve().parent / "weights"
_SAM = "https://dl.fbaipublicfiles.com/segment_anything/"
_CHUNK = 1 << 20
STRIDE = 16  # frame pixels per grid cell, of every encoder
_SMALLEST_SIDE, _LARGEST_SIDE = 64, 4096
#: How files of weights start: a zip archive (PyTorch ≥ 1.6), a pickle (older), or safetensors' JSON after its length.
_STARTS = {0: (b"PK\x03\x04", b"\x80\x02"), 8: (b"{",)}

#: Of the embedded weights: the strictest terms of the data that they learned from; two of the sets state none at all.
NON_COMMERCIAL = "non-commercial research"


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
        "tiny", "tiny", "tiny.safetensors", None, None, None, NON_COMMERCIAL, 512,
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
    """The file of a backbone of the table, or the path itself. Raises WeightsError: what there is and what to do."""
    backbone = TABLE.get(str(name_or_path))
    if backbone is None:
        path = Path(name_or_path)
        if path.exists():
            return path
        raise WeightsError(f"there is no backbone or file {str(name_or_path)!r}; give a file, or one of {_listing()}")
    path = location(backbone)
    if path.is_file():
        return path
    if backbone.name == "tiny":
        raise WeightsError(f"the embedded backbone is missing at {path}; install promise-slicer again")
    raise WeightsError(f"the backbone {backbone.name} is not installed; {_obtaining(backbone)}")


def checked_side(side: int) -> int:
    """A frame side that every encoder takes. InputError for others."""
    is_whole = isinstance(side, int) and not isinstance(side, bool)
    if not is_whole or not _SMALLEST_SIDE <= side <= _LARGEST_SIDE or side % STRIDE:
        raise InputError(
            f"the frame side is {side}; expected a multiple of {STRIDE} from {_SMALLEST_SIDE} to {_LARGEST_SIDE}"
        )
    return side


def name_of(path: str | Path) -> str | None:
    """The table's name of a file that is called as published, or None."""
    return next((b.name for b in TABLE.values() if b.file == Path(path).name), None)


def download(
    name: str | Backbone, progress: Callable[[int, int | None], None] | None = None, opener: Callable = urlopen
) -> Path:
    """Fetch a backbone of the table into `folder()`, verify it and return its path; one that is there is only verified.

    progress(bytes so far, bytes in all or None) is called about once per MB and may raise to stop. An interrupted
    download leaves a .part file from which the next one goes on. Raises WeightsError for a backbone without a download,
    an answer that is an error, a lost connection, too little disk space, and a file that is not the published one.
    """
    backbone = name if isinstance(name, Backbone) else _entry(name)
    if backbone.url is None:
        raise WeightsError(f"the backbone {backbone.name} has no download; {_obtaining(backbone)}")
    target = location(backbone)
    if target.is_file() and _difference(target, backbone) is None:
        return target
    part = target.with_name(target.name + ".part")
    downloading.fetch(backbone.url, part, backbone.size, progress, opener)
    return _settle(part, target, backbone, f"what {backbone.url} sent")


def install(name: str | Backbone, file: str | Path) -> Path:
    """Copy a local file to where the backbone belongs, verify it and return its path. Raises WeightsError."""
    backbone, file = name if isinstance(name, Backbone) else _entry(name), Path(file)
    if backbone.name == "tiny":
        raise WeightsError("the backbone tiny is embedded in the package; give other weights to --backbone as a file")
    if not file.is_file():
        raise WeightsError(f"there is no file {file}; expected a copy of {backbone.file}")
    target = location(backbone)
    if target.is_file() and target.samefile(file):
        verify(target, backbone)
        return target
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        downloading.check_space(target.parent, file.stat().st_size)
        shutil.copyfile(file, temporary)
        return _settle(temporary, target, backbone, str(file))
    except OSError as error:
        raise WeightsError(f"{file} cannot be copied to {target}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove(name: str | Backbone) -> int:
    """Delete a backbone's file, and what an interrupted download left; returns the bytes freed. Raises WeightsError."""
    backbone = name if isinstance(name, Backbone) else _entry(name)
    if backbone.name == "tiny":
        raise WeightsError("the backbone tiny is embedded in the package and cannot be removed")
    target = folder() / backbone.file
    present = [path for path in (target, target.with_name(target.name + ".part")) if path.is_file()]
    if not present:
        raise WeightsError(f"the backbone {backbone.name} is not installed, there is nothing to remove")
    freed = sum(path.stat().st_size for path in present)
    try:
        for path in present:
            path.unlink()
    except OSError as error:
        raise WeightsError(f"{error.filename} cannot be removed: {error.strerror}; close programs using it") from error
    return freed


def verify(path: str | Path, backbone: Backbone) -> None:
    """Compare size and SHA-256 with the published ones, where there are any. Raises WeightsError where they differ."""
    difference = _difference(Path(path), backbone)
    if difference:
        raise WeightsError(f"{path} is not {backbone.file} as published: {difference}; download or copy it again")


def _difference(path: Path, backbone: Backbone) -> str | None:
    """What tells the file from the published one, or None."""
    size = path.stat().st_size
    if backbone.size is not None and size != backbone.size:
        return f"it has {size:,} bytes, expected {backbone.size:,}"
    if backbone.sha256 is None:
        return None if _starts_as_weights(path) else "it does not start as a file of weights"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != backbone.sha256:
        return f"its SHA-256 is {digest.hexdigest()}, expected {backbone.sha256}"
    return None


def _starts_as_weights(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(16)
    return any(start[place:].startswith(sign) for place, signs in _STARTS.items() for sign in signs)


def _settle(temporary: Path, target: Path, backbone: Backbone, source: str) -> Path:
    """Rename a verified file into place; one that is not as published is removed."""
    difference = _difference(temporary, backbone)
    if difference:
        temporary.unlink()
        raise WeightsError(
            f"{source} is not {backbone.file} as published: {difference}; it was removed, download or copy it again"
        )
    os.replace(temporary, target)
    return target


def _entry(name: str) -> Backbone:
    if name not in TABLE:
        raise WeightsError(f"there is no backbone {name!r}; choose one of {', '.join(TABLE)}")
    return TABLE[name]


def _obtaining(backbone: Backbone) -> str:
    """What to type to get it."""
    local = f"promise backbones --install {backbone.name} {backbone.file}"
    if backbone.url is None:
        return f"get {backbone.file} from its authors, then: {local}"
    return f"run promise backbones --download {backbone.name}, or install a file you have: {local}"


def _listing() -> str:
    return ", ".join(f"{b.name} ({'installed' if location(b).is_file() else 'not installed'})" for b in TABLE.values())
