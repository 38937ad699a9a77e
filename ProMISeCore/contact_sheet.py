"""A contact sheet: the segmented slices in order, outlines and points in the targets' colours, volumes in ml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ProMISeCore.bitmap_font import HEIGHT, text_bitmap
from ProMISeCore.markups import Prompts
from ProMISeCore.volumes import Stack, Window
from ProMISeCore.whole_file import replacing

MAX_TILES = 24
_TILES = ((1, 640), (4, 460), (12, 320), (MAX_TILES, 260))  # up to so many tiles: long side of a tile, px
_LARGE = 400  # px, long side
_GAP, _MARGIN, _SCALE = 6, 14, 2
_BACKGROUND, _TEXT, _DIM = (18, 18, 20), (235, 235, 235), (150, 150, 150)
_EDGES = {"axial": ("A", "R"), "coronal": ("S", "R"), "sagittal": ("S", "A")}  # what is at the top and at the left


def write_contact_sheet(
    path,
    stack: Stack,
    window: Window,
    masks: Mapping[str, np.ndarray],
    targets: Sequence[Mapping[str, Any]],
    prompts: Mapping[str, Sequence] | None = None,
) -> None:
    """Write a PNG of at most 24 slices, evenly chosen among those with content, at their physical aspect ratio.

    masks: target → (K, J, I) bool on the storage grid; prompts: target → Prompts or (points_ras, labels[, user]).
    Positive points are circles, negative ones crosses. Slice numbers count from 1 in the stack's order.
    """
    sheet = contact_sheet(stack, window, masks, targets, prompts)
    with replacing(path) as temporary:
        sitk.WriteImage(sitk.GetImageFromArray(sheet, isVector=True), str(temporary))


def contact_sheet(
    stack: Stack,
    window: Window,
    masks: Mapping[str, np.ndarray],
    targets: Sequence[Mapping[str, Any]],
    prompts: Mapping[str, Sequence] | None = None,
) -> np.ndarray:
    """The sheet as (H, W, 3) uint8; arguments as in `write_contact_sheet`."""
    layers = [_layer(stack, target, masks, prompts or {}) for target in targets]
    slices = _chosen(stack, layers)
    view = _view(stack, layers, next(side for most, side in _TILES if len(slices) <= most))
    tiles = [_tile(stack, window, layers, n, view) for n in slices]
    columns = _columns(len(tiles), view)
    grid = _grid(tiles, columns)
    legend = _legend(stack, layers, max(grid.shape[1], 420))
    width = max(grid.shape[1], legend.shape[1])
    sheet = np.full((len(legend) + len(grid), width, 3), _BACKGROUND, np.uint8)
    sheet[: len(legend), : legend.shape[1]] = legend
    sheet[len(legend) :, : grid.shape[1]] = grid
    return sheet


@dataclass(frozen=True)
class _Layer:
    """One target in the stack: its mask (n, H, W), its points (N, 3) as (slice, row, column) and their labels."""

    name: str
    color: tuple[int, ...]
    mask: np.ndarray | None
    points: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class _View:
    """The part of each slice that is shown, [top, bottom) × [left, right), and the tile's size in pixels."""

    top: int
    bottom: int
    left: int
    right: int
    height: int
    width: int


def _layer(stack: Stack, target: Mapping[str, Any], masks: Mapping, prompts: Mapping) -> _Layer:
    name = str(target["name"])
    points, labels, *_ = Prompts(*prompts.get(name, (np.zeros((0, 3)), np.zeros(0))))
    color = tuple(int(round(255 * float(value))) for value in target.get("color") or (1.0, 0.6, 0.2))
    mask = stack.canonical(np.asarray(masks[name])) if name in masks else None
    return _Layer(name, color, mask, stack.ras_to_nrc(points), np.asarray(labels).reshape(-1))


def _chosen(stack: Stack, layers: list[_Layer]) -> list[int]:
    """Up to MAX_TILES slices with a mask or, without any mask, with a positive point or simply all, evenly spread."""
    content = {n for layer in layers if layer.mask is not None for n in np.flatnonzero(layer.mask.any(axis=(1, 2)))}
    if not content:
        content = {int(round(n)) for layer in layers for n in layer.points[layer.labels == 1, 0]}
    slices = sorted(int(n) for n in content if 0 <= n < len(stack)) or list(range(len(stack)))
    if len(slices) <= MAX_TILES:
        return slices
    return [slices[round(place)] for place in np.linspace(0, len(slices) - 1, MAX_TILES)]


def _view(stack: Stack, layers: list[_Layer], side: int) -> _View:
    """The box around all masks with more than half as much on each side, at least 96 mm where the slice has that."""
    _, height, width = stack.shape
    outline = np.zeros((height, width), bool)
    for layer in layers:
        if layer.mask is not None:
            outline |= layer.mask.any(axis=0)
    spans = []
    for axis, size in ((1, height), (0, width)):
        indices = np.flatnonzero(outline.any(axis=axis))
        if not len(indices) or stack.axis == "image":
            spans.append((0, size))
            continue
        first, last = int(indices[0]), int(indices[-1]) + 1
        margin = max((last - first) * 0.6, (96 / stack.spacing_rc[1 - axis] - (last - first)) / 2)
        spans.append((max(0, int(first - margin)), min(size, int(last + margin) + 1)))
    (top, bottom), (left, right) = spans
    tall, wide = (bottom - top) * stack.spacing_rc[0], (right - left) * stack.spacing_rc[1]
    pixels = side / max(tall, wide)
    return _View(top, bottom, left, right, max(48, round(tall * pixels)), max(48, round(wide * pixels)))


def _columns(count: int, view: _View) -> int:
    """Columns that make the sheet about 4:3."""
    return int(np.clip(np.ceil(np.sqrt(count * 4 / 3 * view.height / view.width)), 1, min(count, 8)))


def _tile(stack: Stack, window: Window, layers: list[_Layer], n: int, view: _View) -> np.ndarray:
    shown = stack.canonical(stack.volume.voxels)[n, view.top : view.bottom, view.left : view.right]
    tile = _resized(window.apply(shown), view)
    tile = np.repeat(tile[..., None], 3, axis=-1) if tile.ndim == 2 else tile
    tile = np.round(tile).astype(np.uint8)
    _draw_outlines(tile, [(_shown(layer.mask[n], view), layer.color) for layer in layers if layer.mask is not None])
    for layer in layers:
        _draw_points(tile, layer, n, view)
    _write(tile, 4, 4, str(n + 1), _TEXT)
    if stack.axis in _EDGES:
        above, left = _EDGES[stack.axis]
        _write(tile, 4, view.width // 2 - 5, above, _DIM)
        _write(tile, view.height // 2 - 7, 4, left, _DIM)
    return tile


def _shown(mask: np.ndarray, view: _View) -> np.ndarray:
    """The shown part of a slice's mask (H, W) at the tile's size."""
    part = mask[view.top : view.bottom, view.left : view.right]
    return _resized(np.pad(part, 1).astype(np.float32), view, pad=1) > 0.5


def _draw_outlines(tile: np.ndarray, masks: Sequence[tuple[np.ndarray, tuple[int, ...]]]) -> None:
    """Inner borders in colours; on large tiles twice as wide, with dark rims below all of them, so that they show on
    any ground."""
    wide = max(tile.shape[:2]) >= _LARGE
    for mask, _ in masks if wide else ():
        tile[ndimage.binary_dilation(mask) & ~mask] = 0
    for mask, color in masks:
        tile[mask & ~ndimage.binary_erosion(mask, iterations=1 + wide, border_value=0)] = color


def _resized(picture: np.ndarray, view: _View, pad: int = 0) -> np.ndarray:
    """The shown part (h, w[, C]) at the tile's size, linear between pixel centres, smoothed first where it shrinks."""
    height, width = picture.shape[0] - 2 * pad, picture.shape[1] - 2 * pad
    steps = (height / view.height, width / view.width)
    blur = [0.4 * step if step > 1 else 0 for step in steps] + [0] * (picture.ndim - 2)
    picture = ndimage.gaussian_filter(picture, blur, mode="nearest") if any(blur) else picture
    for axis, (size, step) in enumerate(zip((view.height, view.width), steps, strict=True)):
        places = (np.arange(size) + 0.5) * step - 0.5 + pad
        picture = np.moveaxis(_linear(np.moveaxis(picture, axis, 0), places), 0, axis)
    return picture


def _linear(array: np.ndarray, places: np.ndarray) -> np.ndarray:
    places = np.clip(places, 0, len(array) - 1)
    low = np.floor(places).astype(int)
    share = (places - low).reshape(-1, *[1] * (array.ndim - 1)).astype(np.float32)
    return array[low] * (1 - share) + array[np.minimum(low + 1, len(array) - 1)] * share


def _draw_points(tile: np.ndarray, layer: _Layer, n: int, view: _View) -> None:
    """Circles for positive, crosses for negative points, each with a dark rim so that it shows on any grey."""
    for (place, row, column), label in zip(layer.points, layer.labels, strict=True):
        if round(place) != n:
            continue
        y = (row - view.top + 0.5) * view.height / (view.bottom - view.top)
        x = (column - view.left + 0.5) * view.width / (view.right - view.left)
        if 0 <= y < view.height and 0 <= x < view.width:
            _stamp(tile, int(y), int(x), bool(label), layer.color)


def _stamp(tile: np.ndarray, y: int, x: int, positive: bool, color: tuple[int, ...]) -> None:
    down, right = np.mgrid[-6:7, -6:7]
    distance = np.hypot(down, right)
    arm = np.minimum(abs(down - right), abs(down + right))
    shape = abs(distance - 3.5) < 0.8 if positive else (arm <= 1) & (np.maximum(abs(down), abs(right)) <= 4)
    rim = ndimage.binary_dilation(shape, np.ones((3, 3))) & ~shape
    for pixels, value in ((rim, (0, 0, 0)), (shape, color)):
        rows, columns = down[pixels] + y, right[pixels] + x
        inside = (rows >= 0) & (rows < tile.shape[0]) & (columns >= 0) & (columns < tile.shape[1])
        tile[rows[inside], columns[inside]] = value


def _write(picture: np.ndarray, top: int, left: int, text: str, color: tuple[int, ...], scale: int = _SCALE) -> int:
    """Write text with a dark rim, cut at the border; returns the column after it."""
    bitmap = np.pad(text_bitmap(text, scale), 1)
    rim = ndimage.binary_dilation(bitmap, np.ones((3, 3)))
    area = picture[max(0, top - 1) :, max(0, left - 1) :][: bitmap.shape[0], : bitmap.shape[1]]
    rows, columns = area.shape[:2]
    area[rim[:rows, :columns]] = (0, 0, 0)
    area[bitmap[:rows, :columns]] = color
    return left + bitmap.shape[1]


def _grid(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    size = (rows * (height + _GAP) - _GAP + 2 * _MARGIN, columns * (width + _GAP) - _GAP + 2 * _MARGIN, 3)
    grid = np.full(size, _BACKGROUND, np.uint8)
    for place, tile in enumerate(tiles):
        top, left = _MARGIN + place // columns * (height + _GAP), _MARGIN + place % columns * (width + _GAP)
        grid[top : top + height, left : left + width] = tile
    return grid


def _legend(stack: Stack, layers: list[_Layer], width: int) -> np.ndarray:
    """The volume's name and axis, then one line per target with its colour, volume and, with points, the signs."""
    line = HEIGHT * _SCALE + 8
    slices = f"{len(stack)} slices of {stack.spacing_slice:.3g} mm" if stack.axis != "image" else ""
    heading = ", ".join(part for part in (stack.volume.name, stack.axis if slices else "", slices) if part)
    entries = [f"{layer.name}  {_amount(stack, layer)}" for layer in layers]
    if any(len(layer.points) for layer in layers):
        entries.append("points: circle = inside, cross = outside")
    longest = max(len(text) for text in (heading, *entries)) + 3
    width = max(width, 2 * _MARGIN + longest * 6 * _SCALE)
    legend = np.full((_MARGIN + line * (len(entries) + 1), width, 3), _BACKGROUND, np.uint8)
    _write(legend, _MARGIN, _MARGIN, heading, _TEXT)
    for place, text in enumerate(entries, 1):
        top, left = _MARGIN + place * line, _MARGIN
        if place <= len(layers):
            legend[top : top + HEIGHT * _SCALE, left : left + HEIGHT * _SCALE] = layers[place - 1].color
            left += HEIGHT * _SCALE + 8
        _write(legend, top, left, text, _TEXT if place <= len(layers) else _DIM)
    return legend


def _amount(stack: Stack, layer: _Layer) -> str:
    """Volume in ml from the true voxel size; for pictures, whose size is unknown, the share of the area."""
    voxels = 0 if layer.mask is None else int(np.count_nonzero(layer.mask))
    if not voxels:
        return "none"
    if stack.axis == "image":
        return f"{100 * voxels / float(np.prod(stack.shape)):.1f} %"
    return f"{voxels * abs(np.linalg.det(np.asarray(stack.volume.affine, float)[:3, :3])) / 1000:.1f} ml"
