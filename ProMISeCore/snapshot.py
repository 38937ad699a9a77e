"""A picture of one slice while a pack is taught: the reference's outline in white, the present one in colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage
from torch.nn import functional as F

from ProMISeCore.dataset import LabelledStack, Views
from ProMISeCore.promise import Encoded, Promise
from ProMISeCore.whole_file import replacing

_WHITE = (245, 245, 245)
_MARGIN = 0.6  # around the reference, of its size
_SIDE = 480  # pixels of the longer side


class Snapshot:
    """The row of `views` with the largest reference, ready to be drawn again and again. stack: of that row's case."""

    def __init__(self, views: Views, row: int, stack: LabelledStack) -> None:
        self.views, self.row = views, row
        self.slice = int(views.slice[row])
        picture, _, self._labels = stack.sample(self.slice)
        self._picture = picture[stack.shown].permute(1, 2, 0).numpy()
        self._window = _box((self._labels == 1).any(0).numpy(), stack.frame.rows, stack.frame.columns)

    def write(self, path: Path, model: Promise) -> Path:
        """Write the PNG of what the model finds now."""
        rows, columns = self._window
        tile = self._scaled(np.ascontiguousarray(self._picture[rows, columns])).clip(0, 255).astype(np.uint8)
        for number, (info, logits) in enumerate(zip(model.manifest.targets, self._found(model), strict=True)):
            reference = self._scaled((self._labels[number] == 1).float().numpy()[rows, columns]) > 0.5
            tile[_outline(reference)] = _WHITE
            tile[_outline(self._scaled(logits[rows, columns]) > 0)] = [round(255 * part) for part in info.color]
        with replacing(path) as part:
            sitk.WriteImage(sitk.GetImageFromArray(tile, isVector=True), str(part))
        return path

    @torch.inference_mode()
    def _found(self, model: Promise) -> list[np.ndarray]:
        """Logits (S, S) of every target; where it is said to be absent, none is positive."""
        device = next(model.sam.parameters()).device
        embedding, features, _ = self.views.take([self.row])
        seen = self.views.take_pictures([self.row])
        encoded = Encoded(
            embedding.to(device),
            [feature.to(device) for feature in features],
            None if seen is None else seen.to(device),
        )
        found = []
        for name in model.targets:
            output = model.solve(encoded, name)
            logits = F.interpolate(output.logits[:, :1].float(), scale_factor=4, mode="bilinear")[0, 0]
            absent = output.presence is not None and output.presence[0] < model.manifest.presence_threshold
            found.append((logits - 1000 if absent else logits).cpu().numpy())
        return found

    def _scaled(self, part: np.ndarray) -> np.ndarray:
        factor = _SIDE / max(part.shape[:2])
        tensor = torch.from_numpy(np.ascontiguousarray(part, np.float32))
        tensor = tensor[None, None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)[None]
        size = [max(1, round(extent * factor)) for extent in part.shape[:2]]
        scaled = F.interpolate(tensor, size, mode="bilinear", antialias=factor < 1)[0]
        return scaled[0].numpy() if part.ndim == 2 else scaled.permute(1, 2, 0).numpy().copy()


def best_row(views: Views) -> int:
    """The plain row with the largest reference."""
    return int(np.argmax(np.where(views.plain, views.masks.sum((1, 2, 3)), -1)))


def _outline(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask, iterations=2, border_value=1)


def _box(mask: np.ndarray, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns around the mask, all of the content where it is empty."""
    if not mask.any():
        return slice(0, height), slice(0, width)
    spans = []
    for axis, size in ((1, height), (0, width)):
        places = np.flatnonzero(mask.any(axis))
        margin = int(_MARGIN * (places[-1] - places[0] + 1)) + 8
        spans.append(slice(max(0, places[0] - margin), min(size, places[-1] + margin + 1)))
    return spans[0], spans[1]
