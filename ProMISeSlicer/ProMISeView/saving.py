"""The study as files: a scene for Slicer, a segmentation, a label map, prompts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import slicer

from ProMISeCore import bounds, exports, markups
from ProMISeCore.errors import InputError


class Kind(NamedTuple):
    """ending: of the file's name; write(study, path)."""

    ending: str
    write: Callable


def scene(study, path: Path) -> None:
    """Everything, as a bundle that Slicer opens and this page goes on with."""
    if study.volumeNode is None:
        raise InputError("there is nothing to save yet; open a volume first")
    study.solve()
    if not slicer.mrmlScene.WriteToMRB(str(path), None, None) or not path.is_file():
        raise InputError("the scene could not be written; is the disk full?")


def segmentation(study, path: Path) -> None:
    """A .seg.nrrd on the volume's own voxels."""
    exports.write_segmentation(path, _masks(study), study.session.source.volume, _targets(study))


def labelmap(study, path: Path) -> None:
    """One number per target, in the order of the pack."""
    exports.write_labelmap(path, _masks(study), study.session.source.volume, _targets(study))


def prompts(study, path: Path) -> None:
    """All targets' control points and boxes as markups."""
    session, masks = study.needed(), _masks(study)
    found = {}
    for name in session.targets:
        known = session.target(name).prompts
        points = known.points()
        found[name] = markups.Prompts(
            np.array([point.ras for point in points]).reshape(-1, 3),
            np.array([int(point.positive) for point in points]),
            np.array([point.user for point in points], bool),
            bounds.Box(*known.drawnRoi()) if known.roiIsUsers else None,
        )
    markups.write_prompts(path, found, session.source.volume, masks, _targets(study))


KINDS = {
    "scene": Kind(".mrb", scene),
    "segmentation": Kind(".seg.nrrd", segmentation),
    "labelmap": Kind(".label.nii.gz", labelmap),
    "prompts": Kind(".mrk.json", prompts),
}


def plain(name: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:80] or "study"


def _targets(study) -> list[dict]:
    return [asdict(target) for target in study.needed().manifest.targets]


def _masks(study) -> dict:
    """Target → (K, J, I) bool."""
    session = study.needed()
    study.solve()
    return {name: session.grid.toBlock(session.target(name).masks()) for name in session.targets}
