"""Where networks run: choosing a device, the encoder's precision on it, and recognising that its memory ran out."""

from __future__ import annotations

import errno

import torch

from ProMISeCore.errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")

#: Architectures whose encoder is quicker in bfloat16 on CPUs that compute in it (measured by `promise bench`).
_CPU_BFLOAT16 = ("vit_b", "vit_l", "vit_h", "mobile_sam")


def choose(device: str = "auto") -> torch.device:
    """The device of that name ("cuda:1" too); "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises InputError for a name that is unknown or not available here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}; choose one of {', '.join(DEVICES)}") from error
    there = {"cpu": 1, "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0, "mps": int(_has_mps())}
    if (chosen.index or 0) >= there.get(chosen.type, 0):
        available = [name for name, count in there.items() if count]
        raise InputError(f"the device {device!r} is not available here; choose auto or one of {', '.join(available)}")
    return chosen


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def cpu_has_bfloat16() -> bool:
    """True where the CPU multiplies bfloat16 itself (AVX-512 BF16 or AMX) instead of emulating it."""
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name)() for name in asked if hasattr(torch.cpu, name))


def encoder_dtype(device: torch.device, architecture: str) -> torch.dtype:
    """Precision of the encoder's matrix products; everything after the encoder is float32.

    On a CPU with bfloat16, ViT and TinyViT take about half the time of float32 (docs/performance.md); `tiny` would gain
    a third and stays in float32.
    """
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return torch.bfloat16
    if device.type == "cpu" and architecture in _CPU_BFLOAT16 and cpu_has_bfloat16():
        return torch.bfloat16
    return torch.float32


def first_batch(device: torch.device, architecture: str, side: int) -> int:
    """Slices encoded at once: on CUDA what fits in three quarters of its free memory, 64 at most.

    A CPU gains nothing from more than one; MPS does not tell what is free.
    """
    if device.type != "cuda":
        return 2 if device.type == "mps" else 1
    free, _ = torch.cuda.mem_get_info(device)
    return int(max(1, min(64, 0.75 * free // working_bytes(architecture, side))))


def is_out_of_memory(error: Exception) -> bool:
    """True for every way in which Python, the CPU allocator, CUDA and MPS say that memory ran out."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    text = str(error).lower()
    words = ("out of memory", "not enough memory", "can't allocate memory", "unable to allocate", "alloc_failed")
    return isinstance(error, RuntimeError) and any(word in text for word in words)


def release(device: torch.device) -> None:
    """Give unused memory of an accelerator back, so that smaller batches can fit."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def working_bytes(architecture: str, side: int) -> int:
    """Memory beside weights and data that encoding one frame of side S takes at its peak, about (measured, float32)."""
    at_1024 = {"tiny": 0.2e9, "mobile_sam": 0.3e9, "vit_b": 2.6e9, "vit_l": 3.5e9, "vit_h": 3.5e9}
    return int(at_1024.get(architecture, 3.5e9) * (side / 1024) ** 2)
