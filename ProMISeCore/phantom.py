"""A drawn heart: a short-axis cine-MRI-like volume with known masks, for the demo and for tests without data."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ProMISeCore.volumes import Volume

DEPTH, HEIGHT, WIDTH = 10, 216, 256
SPACING = (1.5, 1.5, 8.0)  # mm along I, J, K, as nominal for the cine data the heart pack learns from
_CENTER = np.array([104.0, 124.0])  # of the left ventricle at the base, (row, column)
_SEED = 20240307

# Grey values read off real cine volumes (0–255).
_AIR, _LUNG, _LIVER, _MUSCLE, _MYOCARDIUM, _FAT, _RIGHT_BLOOD, _LEFT_BLOOD = 2, 12, 48, 55, 62, 185, 158, 186


def heart() -> Volume:
    """(10, 216, 256) uint8 at 1.5 × 1.5 × 8 mm, base first, patient's right on the left; the same on every call."""
    generator = np.random.default_rng(_SEED)
    masks = heart_masks()
    slices = [_slice({name: mask[k] for name, mask in masks.items()}, k, generator) for k in range(DEPTH)]
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    return Volume(np.stack(slices), affine, "heart phantom")


def heart_masks() -> dict[str, np.ndarray]:
    """The true masks of `heart`, (10, 216, 256) bool each: right ventricle, myocardium, left ventricle; disjoint."""
    shape = (DEPTH, HEIGHT, WIDTH)
    right, muscle, left = (np.zeros(shape, bool) for _ in range(3))
    for k in range(DEPTH):
        way = k / (DEPTH - 1)  # 0 at the base, 1 at the apex
        center = _center(way)
        radius = 19.0 * np.sqrt(1 - (0.94 * way) ** 2)
        left[k] = _blob(center, radius, radius * 0.96, 0.035)
        outer = _blob(center, radius + 6.5, (radius + 6.5) * 0.97, 0.025)
        muscle[k] = outer & ~left[k]
        if way < 0.95:
            reach = 1 - 0.42 * way
            wide = _blob(center + (3.0, -24.0 * reach), 29.0 * reach, 24.0 * reach, 0.05)
            right[k] = wide & ~ndimage.binary_dilation(outer)
    return {"right ventricle": right, "myocardium": muscle, "left ventricle": left}


def _center(way: float) -> np.ndarray:
    return _CENTER + np.array([10.0, 7.0]) * way


def _blob(center: np.ndarray, tall: float, wide: float, waviness: float) -> np.ndarray:
    """A slightly irregular ellipse (H, W) with semi-axes in pixels."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    down, right = (rows - center[0]) / tall, (columns - center[1]) / wide
    angle = np.arctan2(down, right)
    edge = 1 + waviness * (np.cos(2 * angle + 0.6) + 0.6 * np.cos(3 * angle - 1.1))
    return np.hypot(down, right) <= edge


def _slice(masks: dict[str, np.ndarray], k: int, generator: np.random.Generator) -> np.ndarray:
    """One slice (H, W) uint8: the chest, the heart in it, then blur, coil shading and noise."""
    way = k / (DEPTH - 1)
    picture = _chest(way, generator)
    heart = masks["right ventricle"] | masks["myocardium"] | masks["left ventricle"]
    sac = ndimage.binary_dilation(ndimage.binary_fill_holes(ndimage.binary_closing(heart, iterations=5)), iterations=2)
    picture[sac & ~heart] = 0.45 * _FAT
    wall = ndimage.binary_dilation(masks["right ventricle"], iterations=2) & ~heart
    picture[wall] = _MYOCARDIUM
    picture[masks["right ventricle"]] = _RIGHT_BLOOD
    picture[masks["myocardium"]] = _MYOCARDIUM
    picture[masks["left ventricle"]] = _LEFT_BLOOD
    if 0.2 < way < 0.8:
        for down, right in ((9.0, 4.0), (-7.0, 8.0)):  # papillary muscles, inside the cavity's mask as in the labels
            spot = _blob(_center(way) + np.array([down, right]) * (1.1 - 0.5 * way), 2.6, 3.0, 0.1)
            picture[spot & masks["left ventricle"]] = _MYOCARDIUM + 25
    flow = ndimage.gaussian_filter(generator.normal(size=picture.shape), 3)
    picture += np.where(heart, 26 * flow / flow.std() * (picture > 120) * 0.6, 0)
    picture = ndimage.gaussian_filter(picture, 0.7)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    picture *= 1.12 - 0.28 * np.hypot(rows - 60, columns - 110) / 180
    grain = ndimage.gaussian_filter(generator.normal(size=picture.shape), 0.6)
    picture += 3 * grain / grain.std() * (picture > 6)
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def _chest(way: float, generator: np.random.Generator) -> np.ndarray:
    """Everything around the heart: fat, muscle, left lung with vessels, liver, stomach and aorta."""
    picture = np.full((HEIGHT, WIDTH), float(_AIR))
    body = _blob(np.array([118.0, 128.0]), 92, 112, 0.02)
    depth = ndimage.distance_transform_edt(body)
    picture[body] = _FAT
    picture[depth > 9] = _MUSCLE
    ribs = (depth > 15) & (depth < 18)
    picture[ribs] = 0.6 * _FAT
    inside = depth > 20
    picture[inside] = _LUNG
    vessels = ndimage.gaussian_filter(generator.normal(size=picture.shape), 1.3)
    picture[inside & (vessels > 2.6 * vessels.std())] = 80
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    diaphragm = inside & (rows - 0.22 * columns > 96 - 12 * way + 6 * np.sin(columns / 23))
    texture = ndimage.gaussian_filter(generator.normal(size=picture.shape), 4)
    picture[diaphragm] = _LIVER + (8 * texture / texture.std())[diaphragm]
    stomach, aorta, spleen = ((142 + 6 * way, 158), (13, 17), 95), ((160, 118), (8, 8), 190), ((168, 190), (15, 11), 70)
    for center, size, value in (stomach, aorta, spleen):
        organ = _blob(np.array(center, float), *size, 0.05)
        picture[organ & inside] = value
        picture[organ & ~ndimage.binary_erosion(organ, iterations=1) & inside] = 0.5 * _FAT
    return picture
