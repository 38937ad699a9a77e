"""The square an encoder sees: a slice (H, W) goes in, points, boxes and masks go both ways.

Slice coordinates are (row, column) with pixel centres at whole numbers. Frame coordinates are (x, y) as SAM's prompt
encoder takes them: it adds 0.5 itself, so pixel centres are whole numbers there too, and slice pixel (r, c) lies at
x = (c + 0.5)·sx − 0.5, y = (r + 0.5)·sy − 0.5. Published points (sigmoid × S) are frame coordinates as they are.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ProMISeCore.errors import InputError

PIXEL_MEAN = (123.675, 116.28, 103.53)  # segment_anything/build_sam.py; ImageNet's × 255
PIXEL_STD = (58.395, 57.12, 57.375)
MASK_LOGIT = 10.0  # a mask prompt is ± this


def normalised(pixels: Tensor) -> Tensor:
    """Pixels (…, 3, H, W) 0…255 as SAM takes them."""
    mean, deviation = _mean_and_deviation(pixels)
    return (pixels - mean) / deviation


def as_pixels(image: Tensor) -> Tensor:
    """What `normalised` was made of, (…, 3, H, W) 0…255."""
    mean, deviation = _mean_and_deviation(image)
    return image * deviation + mean


def _mean_and_deviation(like: Tensor) -> tuple[Tensor, Tensor]:
    return tuple(like.new_tensor(values)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))


def _resampling(outputs: int, inputs: int, step: float, width: float = 1.0) -> Tensor:
    """Weights (outputs, inputs) float32: output i is centred at input (i + 0.5)·step − 0.5; edges are repeated.

    Each output is a triangle of `width` inputs to either side: 1 interpolates linearly, `step` above 1 antialiases.
    """
    centres = ((torch.arange(outputs, dtype=torch.float64) + 0.5) * step - 0.5).clamp(0, inputs - 1)
    distances = torch.arange(inputs, dtype=torch.float64)[None] - centres[:, None]
    weights = (1 - distances.abs() / width).clamp(min=0)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


class Frame:
    """Between a slice of height × width and the side × side square.

    padding "corner": the physically longer side fills the square, aspect kept by spacing_rc (mm per row, per column),
    content top left, zeros after normalisation at the bottom and right (as SAM). "squeeze": both sides fill it
    (as published).
    """

    def __init__(
        self,
        height: int,
        width: int,
        side: int,
        padding: str = "corner",
        spacing_rc: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        if min(height, width, side) < 1 or min(spacing_rc) <= 0:
            raise InputError(f"a slice of {height} × {width} with spacing {spacing_rc} cannot fill a frame of {side}")
        if padding == "squeeze":
            rows = columns = side
        elif padding == "corner":
            tall, wide = height * spacing_rc[0], width * spacing_rc[1]
            scale = side / max(tall, wide)
            rows, columns = (max(1, int(length * scale + 0.5)) for length in (tall, wide))
        else:
            raise InputError(f"unknown padding {padding!r}; choose corner or squeeze")
        self.height, self.width, self.side, self.padding = height, width, side, padding
        self.rows, self.columns = rows, columns  # of the frame that hold content
        self.scale_xy = (columns / width, rows / height)  # frame pixels per slice pixel
        self._weights: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    def image(self, picture) -> Tensor:
        """A picture (H, W, 3) 0…255 → (3, S, S) float32, normalised as SAM does; antialiased bilinear."""
        picture = torch.from_numpy(np.array(picture, np.float32)) if isinstance(picture, np.ndarray) else picture
        expected = (self.height, self.width, 3)
        if tuple(picture.shape) != expected:
            raise InputError(f"a picture of shape {tuple(picture.shape)} was given, this frame needs {expected}")
        resized = F.interpolate(
            picture.permute(2, 0, 1)[None].float(),
            size=(self.rows, self.columns),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )[0]
        return F.pad(normalised(resized), (0, self.side - self.columns, 0, self.side - self.rows))

    def logits(self, low: Tensor) -> Tensor:
        """Low-resolution logits (…, s, s) over the whole frame → (…, H, W) float32 on the slice, padding cut off.

        Bilinear, sampled at the slice's pixel centres, so an edge stays where it is (SAM's postprocess_masks
        interpolates twice for the same result).
        """
        key = (low.shape[-1], low.device)
        if key not in self._weights:
            cells = low.shape[-1] / self.side  # low-resolution cells per frame pixel
            rows = _resampling(self.height, low.shape[-2], self.scale_xy[1] * cells)
            columns = _resampling(self.width, low.shape[-1], self.scale_xy[0] * cells)
            self._weights[key] = (rows.to(low.device), columns.T.contiguous().to(low.device))
        rows, columns = self._weights[key]
        return rows @ low.float() @ columns

    def mask_prompt(self, mask) -> Tensor:
        """A mask (H, W), boolean or logits, → (1, S/4, S/4) float32 logits as SAM's mask prompt (boolean: ±10)."""
        mask = torch.as_tensor(np.ascontiguousarray(mask) if isinstance(mask, np.ndarray) else mask)
        if tuple(mask.shape) != (self.height, self.width):
            raise InputError(f"a mask of shape {tuple(mask.shape)} was given, {(self.height, self.width)} needed")
        if not mask.is_floating_point():
            mask = ((mask != 0).float() * 2 - 1) * MASK_LOGIT
        cells = self.side // 4
        step_x, step_y = (4 / scale for scale in self.scale_xy)  # slice pixels per cell
        rows = _resampling(cells, self.height, step_y, max(step_y, 1.0)).to(mask.device)
        columns = _resampling(cells, self.width, step_x, max(step_x, 1.0)).to(mask.device)
        prompt = rows @ mask.float() @ columns.T
        centres = (torch.arange(cells, device=mask.device) + 0.5) * 4
        inside = (centres < self.rows)[:, None] & (centres < self.columns)[None]
        return torch.where(inside, prompt, prompt.new_tensor(-MASK_LOGIT))[None]

    def rc_to_xy(self, points_rc):
        """Slice (…, 2) as (row, column) → frame (…, 2) as (x, y); tensors stay tensors, anything else is numpy."""
        points = points_rc if isinstance(points_rc, Tensor) else np.asarray(points_rc, float)
        return (points[..., [1, 0]] + 0.5) * _like(points, self.scale_xy) - 0.5

    def xy_to_rc(self, points_xy):
        """Frame (…, 2) as (x, y) → slice (…, 2) as (row, column): the inverse of `rc_to_xy`."""
        points = points_xy if isinstance(points_xy, Tensor) else np.asarray(points_xy, float)
        return ((points + 0.5) / _like(points, self.scale_xy) - 0.5)[..., [1, 0]]

    def box_rc_to_xy(self, box):
        """A box (…, 4) as (row, column, row, column) of two corners → (…, 4) as (x, y, x, y), smaller corner first."""
        box = box if isinstance(box, Tensor) else np.asarray(box, float)
        corners = self.rc_to_xy(box.reshape(*box.shape[:-1], 2, 2))
        if isinstance(corners, Tensor):
            return torch.cat([corners.amin(dim=-2), corners.amax(dim=-2)], dim=-1)
        return np.concatenate([corners.min(axis=-2), corners.max(axis=-2)], axis=-1)


def _like(points, values: tuple[float, float]):
    return points.new_tensor(values) if isinstance(points, Tensor) else np.array(values)
