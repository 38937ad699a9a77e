"""A file of tensors, read without running anything in it: .safetensors, or PyTorch's own format with weights only."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ProMISeCore.errors import WeightsError

#: Keys under which training scripts put the network's tensors beside their optimizer.
_WRAPPERS = ("state_dict", "model", "model_state_dict")
#: What `DataParallel` and its kin put before every key.
_PREFIX = "module."


def read(path: str | Path) -> dict[str, Tensor]:
    """All tensors of the file, by key, on the CPU; large ones stay on disk until they are used, where that is possible.

    Raises WeightsError where the file is missing, empty, cut off, foreign, or wants to run code on loading.
    """
    path = Path(path)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "not there"
        raise WeightsError(f"{path} is {what}; expected a file of weights (.pth, .pt or .safetensors)")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path} is empty; download or copy it again")
    start = _start(path)
    if start[8:] == b"{" or path.suffix.lower() == ".safetensors":  # eight bytes of length, then JSON
        tensors = _read_safetensors(path)
    elif start.startswith((b"PK", b"\x80")):  # a zip archive (PyTorch ≥ 1.6), a pickle (before)
        tensors = _unwrap(_read_torch(path), path)
    else:
        raise WeightsError(f"{path} is no file of weights, it starts with {start!r}; download or copy it again")
    if not tensors:
        raise WeightsError(f"{path} holds no tensors; expected the weights of a network")
    return tensors


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(9)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}; check its rights") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(str(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{path} is not a whole .safetensors file ({_short(error)}); download or copy it again"
        ) from error


def _read_torch(path: Path) -> object:
    try:
        # Only the zip format (PyTorch ≥ 1.6) can be mapped.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} {_refusal(error)}") from error
    except MemoryError as error:
        raise WeightsError(f"there is not enough memory to read {path}; close other programs") from error
    except Exception as error:  # noqa: BLE001  damaged files raise whatever the unpickler stumbles over
        raise WeightsError(
            f"{path} cannot be read as PyTorch weights, it is cut off or something else; download or copy it again "
            f"({_short(error)})"
        ) from error


def _refusal(error: pickle.UnpicklingError) -> str:
    """Why the safe unpickler stopped: code in the file, or no pickle at all."""
    if any(word in str(error) for word in ("Unsupported", "GLOBAL", "weights_only")):
        return (
            "holds more than tensors and was refused, because loading it could run code hidden in it; "
            "ask its authors for a file of weights only (a state_dict, or .safetensors)"
        )
    return f"cannot be read as PyTorch weights, it is cut off or something else; download it again ({_short(error)})"


def _unwrap(loaded: object, path: Path) -> dict[str, Tensor]:
    """The mapping of tensors inside a checkpoint; other entries beside it (optimizer, epoch) are left."""
    if isinstance(loaded, dict):
        for name in _WRAPPERS:
            if isinstance(loaded.get(name), dict):
                loaded = loaded[name]
                break
    if not isinstance(loaded, dict):
        raise WeightsError(f"{path} holds a {type(loaded).__name__}; expected a mapping of names to tensors")
    foreign = [str(key) for key, value in loaded.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if foreign:
        raise WeightsError(f"{path} has entries that are no tensors: {', '.join(foreign[:5])}; expected weights only")
    if loaded and all(key.startswith(_PREFIX) for key in loaded):
        return {key[len(_PREFIX) :]: value for key, value in loaded.items()}
    return dict(loaded)


def _short(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:120].rstrip(". ") if text else type(error).__name__
