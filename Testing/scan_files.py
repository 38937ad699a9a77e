"""A scan as a file for the command line, and what a run answered and left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk


def scan(path: Path, shape=(4, 20, 24), voxels: np.ndarray | None = None) -> Path:
    """A file with a volume (K, J, I) at 1.5 × 1.5 × 4 mm."""
    if voxels is None:
        voxels = np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)
    image = sitk.GetImageFromArray(voxels)
    if image.GetDimension() == 3:
        image.SetSpacing((1.5, 1.5, 4.0))
    sitk.WriteImage(image, str(path))
    return path


def refused(answer: tuple[int, str, list[str]], *words: str) -> None:
    """Exit code 2, nothing on stdout, and a last line of ours that has all of the words."""
    code, out, lines = answer
    assert (code, out) == (2, ""), lines
    assert lines[-1].startswith("promise: ") and all(word in lines[-1] for word in words), lines


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
