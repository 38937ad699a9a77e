"""A pack: one .safetensors file with the trained parts of every target and, in its header, what they are.

The header is read here by hand, before anything else touches the file: 8 bytes of length, JSON, then the numbers
(https://github.com/huggingface/safetensors). Nothing is unpickled, and no torch is needed to read a manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ProMISeCore.errors import InputError, WeightsError
from ProMISeCore.manifest import BackboneInfo, Manifest, TargetInfo
from ProMISeCore.whole_file import replacing

if TYPE_CHECKING:
    import torch

__all__ = [
    "BackboneInfo",
    "Manifest",
    "Pack",
    "TargetInfo",
    "files",
    "find",
    "folder",
    "installed",
    "name_of",
    "read",
    "read_manifest",
    "save",
    "tensors",
]

EMBEDDED = Path(__file__).resolve().parent / "weights"
SUFFIX = ".safetensors"
LARGEST_FILE = 2 * 10**9  # bytes
LARGEST_HEADER = 2**20  # bytes
_LENGTH = 8  # bytes of the header's length
_KEY = "promise"  # under which the manifest is kept
_BYTES = {"F16": 2, "F32": 4}
_AGAIN = "download or copy it again"


@dataclass(frozen=True)
class Pack:
    """A pack's file and what it says. shapes: of its tensors, by key."""

    path: Path
    manifest: Manifest
    shapes: Mapping[str, tuple[int, ...]]


def read_manifest(path: str | Path) -> Manifest:
    """The manifest of a pack's file. Raises WeightsError for a damaged, foreign or hostile file."""
    return read(path).manifest


def read(path: str | Path) -> Pack:
    """The manifest and the tensors' shapes of a pack's file, checked against the file's size and each other.

    Raises WeightsError that says what is wrong and what to do.
    """
    path = Path(path)
    header = _header(path)
    described = header.pop("__metadata__", None)
    text = described.get(_KEY) if isinstance(described, dict) else None
    if not isinstance(text, str):
        raise WeightsError(f"{path} is no pack, it holds no manifest; {_what_it_may_be(header)}")
    manifest = Manifest.of(_parse(text, f"the manifest of {path}"), f"the manifest of {path}")
    return Pack(path, manifest, {key: tuple(entry["shape"]) for key, entry in header.items()})


def tensors(path: str | Path, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """A pack's tensors as float32 on the device, by key. Raises WeightsError as `read`, and for values not finite."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read(path)
    try:
        found = {key: tensor.float() for key, tensor in load_file(str(path), device=str(device)).items()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read ({error}); {_AGAIN}") from error
    broken = [key for key, tensor in found.items() if not tensor.isfinite().all()]
    if broken:
        raise WeightsError(f"{path} holds values that are not numbers, in {', '.join(broken[:5])}; {_AGAIN}")
    return found


def part_of(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose keys begin with a prefix, by what follows it: "0." is of the first target, "refiners.0." of
    the first refiner."""
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def save(path: str | Path, manifest: Manifest, tensors: Mapping[str, Any], half: bool = False) -> None:
    """Write a pack, whole or not at all. tensors: torch or numpy, by key; half: stored as float16, else float32.

    Raises WeightsError for a manifest or numbers that cannot be read back, and where the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path = Path(path)
    if path.suffix != SUFFIX:
        raise WeightsError(f"{path} does not end in {SUFFIX}, as packs do; choose another name")
    text = json.dumps(manifest.check(f"the manifest for {path}").entries(), ensure_ascii=False, allow_nan=False)
    arrays = {key: _stored(key, tensor, np.float16 if half else np.float32) for key, tensor in tensors.items()}
    try:
        with replacing(path) as part:
            save_file(arrays, str(part), metadata={_KEY: text})
            read(part)
    except InputError as error:
        raise WeightsError(str(error)) from error
    except SafetensorError as error:  # a disk that has filled up, too: to safetensors that is no OSError
        raise WeightsError(f"{path} cannot be written: {error}; check the free space") from error


def folder() -> Path:
    """Where installed packs lie, `$PROMISE_HOME/packs` or `~/.promise/packs`; it need not exist."""
    return Path(os.environ.get("PROMISE_HOME") or Path.home() / ".promise") / "packs"


def workspaces() -> Path:
    """The folder of teachings' workspaces, each called as its pack; it need not exist."""
    return folder().parent / "teach"


def find(name_or_path: str | Path) -> Path:
    """The file of a pack: a path, or the name of an installed or embedded one. WeightsError lists what there is."""
    path = Path(name_or_path)
    if path.is_file():
        return path
    if len(path.parts) == 1:
        file = path.name.removesuffix(SUFFIX) + SUFFIX
        for place in (folder(), EMBEDDED):
            if (place / file).is_file():
                return place / file
            for other in files(place):
                if _composed(other.name) == _composed(file):  # systems write umlauts in two ways
                    return other
    names = ", ".join(sorted(pack.path.stem for pack in installed())) or "none"
    raise WeightsError(f"there is no pack or file {str(name_or_path)!r}; installed are: {names}")


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def name_of(path: Path) -> str:
    """A name for the pack of this file, as manifests allow it; of other letters' names no two are the same."""
    plain = re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9._-]+", "-", path.stem).strip("-")
    if path.stem.isascii():
        return plain[:64] or "pack"
    mark = hashlib.sha256(unicodedata.normalize("NFC", path.stem).encode()).hexdigest()[:8]
    return f"{plain[:55] or 'pack'}-{mark}"


def installed() -> list[Pack]:
    """Every pack that `find` knows by name, the user's before the embedded of the same name; others are passed over."""
    found: dict[str, Pack] = {}
    for pack in map(readable, [*files(folder()), *files(EMBEDDED)]):
        if pack is not None:
            found.setdefault(pack.path.stem, pack)
    return list(found.values())


def embedded() -> list[Pack]:
    """The embedded packs, those of the user of the same name notwithstanding."""
    return [pack for pack in map(readable, files(EMBEDDED)) if pack is not None]


def readable(path: Path) -> Pack | None:
    """As `read`; None of a backbone, or of what is damaged or not there: `find` and `read` tell."""
    try:
        return read(path)
    except WeightsError:
        return None


def files(place: Path) -> list[Path]:
    """What may be packs in a folder; one whose name begins with a dot is being written, or was when it was killed."""
    return [path for path in sorted(place.glob(f"*{SUFFIX}")) if path.is_file() and not path.name.startswith(".")]


def _header(path: Path) -> dict[str, Any]:
    """The JSON before the numbers, once it is certain that it describes exactly the rest of the file."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise WeightsError(f"{path} is not a file; expected a pack ({SUFFIX})")
        with path.open("rb") as file:
            length = int.from_bytes(_start(file.read(_LENGTH), path, size), "little")
            if length > LARGEST_HEADER:
                raise WeightsError(f"{path} is no pack: its header would take {length:,} bytes; {_AGAIN}")
            if _LENGTH + length > size:
                raise WeightsError(f"{path} is cut off within its header ({size:,} bytes); {_AGAIN}")
            raw = file.read(length)
    except FileNotFoundError as error:
        raise WeightsError(f"there is no file {path}; give a pack ({SUFFIX})") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}; check its rights") from error
    header = _parse(raw, f"the header of {path}")
    if not isinstance(header, dict):
        raise WeightsError(f"{path} is no pack, its header is no JSON object; {_AGAIN}")
    _check_layout(header, path, size - _LENGTH - length)
    return header


def _start(first: bytes, path: Path, size: int) -> bytes:
    """The first bytes, if they can be a header's length."""
    if first.startswith((b"PK", b"\x80\x02")):
        raise WeightsError(f"{path} is a PyTorch checkpoint, no pack; promise import turns ProMISe's into one")
    if size <= _LENGTH:
        raise WeightsError(f"{path} is {'empty' if size == 0 else 'cut off'} ({size} bytes); {_AGAIN}")
    if size > LARGEST_FILE:
        raise WeightsError(f"{path} has {size:,} bytes, packs have at most {LARGEST_FILE:,}; use another file")
    return first


def _check_layout(header: Mapping[str, Any], path: Path, room: int) -> None:
    """Tensors of known types fill the `room` bytes after the header, one after the other. Raises WeightsError."""
    spans = []
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        if not _is_entry(entry):
            raise WeightsError(f"{path} is no pack: its header describes {key[:80]!r} wrongly; {_AGAIN}")
        (begin, end), count = entry["data_offsets"], 1
        for extent in entry["shape"]:
            count *= extent
        if entry["dtype"] not in _BYTES:
            given = entry["dtype"][:20]
            raise WeightsError(
                f"{path} is no pack: {key[:80]!r} has numbers of type {given}, not {' or '.join(_BYTES)}"
            )
        if end - begin != count * _BYTES[entry["dtype"]]:
            raise WeightsError(f"{path} is damaged: {key[:80]!r} has {end - begin} bytes for {count} numbers; {_AGAIN}")
        spans.append((begin, end))
    reached = 0
    for begin, end in sorted(spans):
        if begin != reached:
            raise WeightsError(f"{path} is damaged: its tensors overlap or leave gaps at byte {reached}; {_AGAIN}")
        reached = end
    if reached != room:
        what = "cut off" if reached > room else "longer than its header says"
        raise WeightsError(f"{path} is {what}: {room:,} bytes of numbers, expected {reached:,}; {_AGAIN}")


def _is_entry(entry: Any) -> bool:
    """Whether a tensor's entry has type, shape and offsets in their form."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        return False
    shape, offsets = entry["shape"], entry["data_offsets"]
    lists = isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2 and len(shape) <= 8
    numbers = lists and all(type(n) is int and 0 <= n <= LARGEST_FILE for n in [*shape, *offsets])
    return numbers and offsets[0] <= offsets[1] and isinstance(entry["dtype"], str)


def _parse(text: str | bytes, what: str) -> Any:
    """JSON in which no key occurs twice and all numbers are numbers. Raises WeightsError."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{what} is not readable JSON ({str(error)[:100]}); {_AGAIN}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _what_it_may_be(keys: Mapping[str, Any]) -> str:
    if any(key.startswith(("image_encoder.", "mask_decoder.")) for key in keys):
        return "it looks like a backbone: give it to --backbone"
    return "expected one made by promise train or promise import"


def _stored(key: str, tensor: Any, dtype: type) -> np.ndarray:
    """As numpy takes it, in the precision of storage."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        tensor = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    values = np.asarray(tensor)
    if values.dtype.kind != "f":
        raise WeightsError(f"{key} has numbers of type {values.dtype}; packs hold float16 or float32")
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(values.astype(dtype))
    if not np.isfinite(stored).all():
        finite = np.isfinite(values).all()
        raise WeightsError(f"{key} holds {'values beyond float16; store float32' if finite else 'values not finite'}")
    return stored
