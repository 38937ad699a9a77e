"""How good a mask is. Overlap, surfaces in mm, and the picture measures that the paper reports.

A prediction is a mask (bool) or a probability map (0…1), the truth a mask; arrays of any dimension for overlap and
surfaces, (H, W) for the picture measures. Where both are empty, overlap is 1: nothing there, and nothing found.
The picture measures follow the published evaluation, which sees masks (thresholded at 0.5), and give the same numbers
there; on probability maps E-measure is the largest over 256 thresholds, as PraNet's evaluation does it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from .bounds import bounds
from .errors import InputError

_EPS = np.finfo(np.float64).eps


def _masks(prediction: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as bool; a probability map is cut at 0.5 (from there on it is foreground)."""
    prediction, truth = _maps(prediction, truth)
    return prediction if prediction.dtype == bool else prediction >= 0.5, truth


def _maps(prediction: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The prediction as it is (bool) or as float64 in 0…1, the truth as bool. InputError for unlike shapes or range."""
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.shape != truth.shape:
        raise InputError(f"a mask of shape {prediction.shape} cannot be scored against a truth of shape {truth.shape}")
    if prediction.dtype != bool:
        prediction = prediction.astype(np.float64)
        if prediction.size and not (prediction.min() >= 0 and prediction.max() <= 1):
            raise InputError("a probability map must lie within 0…1; convert logits with a sigmoid first")
    return prediction, truth.astype(bool)


def dice(prediction: ArrayLike, truth: ArrayLike) -> float:
    """2 |A ∩ B| / (|A| + |B|), 0…1; 1 where both are empty."""
    prediction, truth = _masks(prediction, truth)
    total = int(prediction.sum()) + int(truth.sum())
    return 2 * int((prediction & truth).sum()) / total if total else 1.0


def iou(prediction: ArrayLike, truth: ArrayLike) -> float:
    """|A ∩ B| / |A ∪ B|, 0…1; 1 where both are empty."""
    prediction, truth = _masks(prediction, truth)
    union = int((prediction | truth).sum())
    return int((prediction & truth).sum()) / union if union else 1.0


def mae(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Mean absolute error per pixel, 0…1, lower is better."""
    prediction, truth = _maps(prediction, truth)
    return float(np.abs(prediction.astype(np.float64) - truth).mean())


def f_beta(prediction: ArrayLike, truth: ArrayLike, beta_squared: float = 0.3) -> float:
    """(1 + β²) P R / (β² P + R) of the mask, 0…1; 1 where both are empty, 0 where only one is."""
    prediction, truth = _masks(prediction, truth)
    hits, predicted, true = int((prediction & truth).sum()), int(prediction.sum()), int(truth.sum())
    if not predicted and not true:
        return 1.0
    if not hits:
        return 0.0
    precision, recall = hits / predicted, hits / true
    return (1 + beta_squared) * precision * recall / (beta_squared * precision + recall)


def s_measure(prediction: ArrayLike, truth: ArrayLike, alpha: float = 0.5) -> float:
    """Structure measure (Fan et al. 2017) of (H, W): alpha × object-aware + (1 − alpha) × region-aware, 0…1."""
    prediction, truth = _maps(prediction, truth)
    prediction = prediction.astype(np.float64)
    share = truth.mean()
    if share == 0:
        return float(1 - prediction.mean())
    if share == 1:
        return float(prediction.mean())
    objects = share * _object_score(prediction[truth]) + (1 - share) * _object_score(1 - prediction[~truth])
    return float(max(alpha * objects + (1 - alpha) * _region_score(prediction, truth), 0))


def _object_score(values: np.ndarray) -> float:
    """How much and how evenly `values` (n,) are 1."""
    mean = values.mean()
    return 2 * mean / (mean**2 + 1 + values.std() + _EPS)


def _region_score(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Similarity of the four quadrants around the truth's centroid, weighted by their areas."""
    row, column = (round(float(where.mean()) + 1) for where in np.nonzero(truth))
    score = 0.0
    for rows in (slice(None, row), slice(row, None)):
        for columns in (slice(None, column), slice(column, None)):
            part = truth[rows, columns]
            if part.size:
                score += part.size / truth.size * _similarity(prediction[rows, columns], part.astype(np.float64))
    return score


def _similarity(x: np.ndarray, y: np.ndarray) -> float:
    """SSIM without constants, of one region."""
    mean_x, mean_y, count = x.mean(), y.mean(), x.size - 1 + _EPS
    variances = (((x - mean_x) ** 2).sum() + ((y - mean_y) ** 2).sum()) / count
    covariance = ((x - mean_x) * (y - mean_y)).sum() / count
    above, below = 4 * mean_x * mean_y * covariance, (mean_x**2 + mean_y**2) * variances
    if above == 0:
        return 1.0 if below == 0 else 0.0
    return above / (below + _EPS)


def e_measure(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Enhanced-alignment measure (Fan et al. 2018) of (H, W): of the mask, or the largest over 256 thresholds.

    0 to H W / (H W − 1): the published code divides by one pixel less, so a perfect mask scores a little above 1.
    """
    prediction, truth = _maps(prediction, truth)
    if prediction.dtype == bool:
        return _alignment(prediction, truth)
    return max(_alignment(prediction >= threshold, truth) for threshold in np.linspace(0, 1, 256))


def _alignment(mask: np.ndarray, truth: np.ndarray) -> float:
    if not truth.any():
        aligned = 1.0 - mask
    elif truth.all():
        aligned = mask.astype(np.float64)
    else:
        x, y = mask - mask.mean(), truth - truth.mean()
        aligned = (2 * x * y / (x * x + y * y + _EPS) + 1) ** 2 / 4
    return float(aligned.sum() / (mask.size - 1 + _EPS))


def _surface_distances(
    prediction: ArrayLike, truth: ArrayLike, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Distances (mm) of the prediction's border voxels to the truth's border, and back. None where a mask is empty.

    A border voxel is one with a face neighbour outside the mask (the grid's edge counts as outside). spacing: mm along
    the array's axes.
    """
    prediction, truth = _masks(prediction, truth)
    if len(spacing) != prediction.ndim:
        raise InputError(f"{prediction.ndim} axes need {prediction.ndim} spacings in mm, got {len(spacing)}")
    if not prediction.any() or not truth.any():
        return None
    box = bounds(prediction | truth)
    borders = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction[box], truth[box])]
    to_prediction, to_truth = (ndimage.distance_transform_edt(~border, spacing) for border in borders)
    return to_truth[borders[0]], to_prediction[borders[1]]


def hd95(prediction: ArrayLike, truth: ArrayLike, spacing: Sequence[float]) -> float:
    """95th percentile of the symmetric border distances (the larger of both directions), mm.

    0 where both masks are empty, infinity where one is. spacing: mm along the array's axes.
    """
    distances = _surface_distances(prediction, truth, spacing)
    if distances is None:
        return 0.0 if not np.any(prediction) and not np.any(truth) else float("inf")
    return float(max(np.percentile(side, 95) for side in distances))


def surface_dice(prediction: ArrayLike, truth: ArrayLike, spacing: Sequence[float], tolerance: float = 1.0) -> float:
    """Share of both borders' voxels that lie within `tolerance` mm of the other border, 0…1; 1 where both are empty."""
    distances = _surface_distances(prediction, truth, spacing)
    if distances is None:
        return 1.0 if not np.any(prediction) and not np.any(truth) else 0.0
    near = sum(int((side <= tolerance).sum()) for side in distances)
    return near / sum(side.size for side in distances)
