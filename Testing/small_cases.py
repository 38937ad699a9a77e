"""Small cases to teach with, the command as a child process, and what it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ProMISeCore import exports, packs
from ProMISeCore.volumes import Volume

NAME = "Knöchel 2"
ROOT = Path(__file__).resolve().parent.parent


def volume(seed: int, slices: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on every slice of (slices, 32, 40), and its mask."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :40]
    mask = np.stack([np.hypot(rows - 15 - n % 3, columns - generator.integers(14, 26)) < 8 for n in range(slices)])
    return (50 + 150 * mask + generator.integers(0, 20, mask.shape)).astype(np.int16), mask


def write(folder: Path, name: str, voxels: np.ndarray, masks: dict[str, np.ndarray], thickness: float = 4) -> None:
    folder.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((1, 1, thickness))
    sitk.WriteImage(image, str(folder / f"{name}.nrrd"))
    affine = np.diag([-1.0, -1, thickness, 1])
    exports.write_segmentation(
        folder / f"{name}.seg.nrrd", masks, Volume(voxels, affine, name), [{"name": n} for n in masks]
    )


def write_disc(folder: Path, name: str, inside: np.ndarray, grey: np.ndarray | int = 0) -> None:
    """A picture, brighter inside (H, W) than elsewhere, grey more of it, and its label map."""
    for suffix, values in (("jpg", 60 + 130 * inside + grey), ("png", inside)):
        sitk.WriteImage(sitk.GetImageFromArray(values.astype(np.uint8)), str(folder / f"{name}.{suffix}"))


def four(folder: Path) -> Path:
    """Volumes with the segment "Scheibe" in a folder."""
    for number in range(4):
        voxels, mask = volume(number)
        write(folder, f"Fall {number}", voxels, {"Scheibe": mask})
    return folder


def events(capsys) -> list[dict]:
    """What was told, but for how far reading the cases was."""
    return [told for told in all_events(capsys) if told["event"] != "checking"]


def all_events(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def spoken(arguments: list[str], home: Path) -> subprocess.Popen:
    """The command as a child process that is spoken to."""
    variables = os.environ | {"PROMISE_HOME": str(home), "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", "ProMISeCore", *arguments, "--events"], env=variables, **pipes)


def wait_for(child: subprocess.Popen, event: str) -> dict:
    for line in child.stdout:
        told = json.loads(line)
        if told["event"] == event:
            return told
    raise AssertionError(f"no {event}: {child.stderr.read().decode()}")


@contextmanager
def limited(kind: str, most: int) -> Iterator[None]:
    """Let the process use at most so much, as a disk that is full (RLIMIT_FSIZE, bytes of a file) or a system that is
    strict (RLIMIT_NOFILE, open files) does; skipped where there are no such limits."""
    resource = pytest.importorskip("resource")
    limit = getattr(resource, kind)
    before = resource.getrlimit(limit)
    resource.setrlimit(limit, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(limit, before)


def workspace() -> Path:
    return packs.folder().parent / "teach" / NAME


def tensors() -> dict[str, torch.Tensor]:
    return packs.tensors(packs.find(NAME))
