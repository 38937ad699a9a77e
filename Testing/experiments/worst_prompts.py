"""The objects that a backbone answers worst when it is given their box, as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ProMISeCore.whole_file import replacing

#: Sets whose pictures may be passed on, with whom to name.
SHOWN = {
    "isic": "ISIC, CC0",
    "nuclei": "Data Science Bowl 2018, CC0",
    "fetal_head": "HC18, CC BY 4.0",
    "hippocampus": "Medical Segmentation Decathlon, CC BY-SA 4.0",
    "heart": "ACDC, CC BY-NC-SA",
    "brain_tumour": "LGG, CC BY-NC-SA",
}
_SIDE, _GAP, _QUALITY = 320, 6, 85  # pixels of a picture in the row and between them; of JPEG, 0 to 100
_WHITE, _ORANGE, _YELLOW = (255, 255, 255), (255, 120, 0), (255, 230, 60)


@dataclass(frozen=True)
class Answer:
    """picture (3, h, h) 0…255; truth and found (s, s) bool; the set's name and the IoU of the two."""

    name: str
    iou: float
    picture: np.ndarray
    truth: np.ndarray
    found: np.ndarray


def worst(answers: list[Answer], count: int = 5) -> list[Answer]:
    """The worst answer of each set that may be shown, the worst sets first."""
    chosen: dict[str, Answer] = {}
    for answer in sorted(answers, key=lambda answer: answer.iou):
        if answer.name in SHOWN:
            chosen.setdefault(answer.name, answer)
    return list(chosen.values())[:count]


def write(path: Path, answers: list[Answer]) -> None:
    """A JPEG with the answers side by side: truth white, answer orange, the box that was given yellow."""
    gap = np.full((_SIDE, _GAP, 3), 18, np.uint8)
    row = [part for answer in answers for part in (_drawn(answer), gap)][:-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        sitk.WriteImage(sitk.GetImageFromArray(np.concatenate(row, 1), isVector=True), str(part), True, _QUALITY)


def _drawn(answer: Answer) -> np.ndarray:
    out = _enlarged(np.moveaxis(answer.picture, 0, -1), 1).round().clip(0, 255).astype(np.uint8)
    truth, found = (
        _enlarged(mask.astype(np.float32)[..., None], 1)[..., 0] > 0.5 for mask in (answer.truth, answer.found)
    )
    box = np.zeros_like(truth)
    rows, columns = (np.flatnonzero(truth.any(axis)) for axis in (1, 0))
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    for mask, colour in ((box, _YELLOW), (found, _ORANGE), (truth, _WHITE)):
        out[mask & ~ndimage.binary_erosion(mask, iterations=2 if mask is truth else 1)] = colour
    return out


def _enlarged(picture: np.ndarray, order: int) -> np.ndarray:
    """(h, h, C) → (side, side, C)."""
    factor = _SIDE / len(picture)
    return ndimage.zoom(picture.astype(np.float32), (factor, factor, 1), order=order, grid_mode=True, mode="nearest")
