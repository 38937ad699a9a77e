"""A baseline without learning: watershed of the picture's edges from the same prompts a backbone is given."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor
from torch.nn import functional as F

from ProMISeCore.simulate import STRIDE, Prompts

_INSIDE, _OUTSIDE = 1, 2


class Edges:
    """Answers prompts on one picture (3, 256, 256) with markers on its gradient; masks on the (128, 128) grid."""

    def __init__(self, picture: np.ndarray, valid: np.ndarray, sigma: float = 1.0) -> None:
        small = F.avg_pool2d(torch.from_numpy(picture * valid)[None], 2)[0].numpy()
        channels = [sitk.GradientMagnitudeRecursiveGaussian(sitk.GetImageFromArray(c), sigma) for c in small]
        self.edges = sitk.GetImageFromArray(np.max([sitk.GetArrayFromImage(c) for c in channels], 0))
        self.side = small.shape[-1]

    def __call__(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Logits (P, 128, 128), ±1, and a predicted IoU (P,) that it does not have: one half."""
        boxes = [None] * len(prompts.points) if prompts.box is None else prompts.box.tolist()
        found = [
            self._grow(points, labels, box)
            for points, labels, box in zip(prompts.points.tolist(), prompts.labels.tolist(), boxes, strict=True)
        ]
        return torch.from_numpy(np.stack(found)).float() * 2 - 1, torch.full((len(found),), 0.5)

    def _grow(self, points: list, labels: list, box: list | None) -> np.ndarray:
        markers = np.zeros((self.side, self.side), np.uint8)
        markers[[0, -1]] = markers[:, [0, -1]] = _OUTSIDE
        if box is not None:
            left, top, right, bottom = (int(np.clip(round(value / STRIDE), 0, self.side - 1)) for value in box)
            outside = np.ones_like(markers, bool)
            outside[top : bottom + 1, left : right + 1] = False
            markers[outside] = _OUTSIDE
            markers[(top + bottom) // 2, (left + right) // 2] = _INSIDE
        for (x, y), label in zip(points, labels, strict=True):
            if label >= 0:
                row, column = (int(np.clip(round(value / STRIDE), 0, self.side - 1)) for value in (y, x))
                markers[row, column] = _INSIDE if label else _OUTSIDE
        basins = sitk.MorphologicalWatershedFromMarkers(self.edges, sitk.GetImageFromArray(markers), False, True)
        return sitk.GetArrayFromImage(basins) == _INSIDE
