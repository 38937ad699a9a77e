"""The heart phantom."""

from __future__ import annotations

import numpy as np
import pytest

from ProMISeCore.phantom import heart, heart_masks
from ProMISeCore.volumes import Stack


@pytest.fixture(scope="module")
def volume():
    return heart()


@pytest.fixture(scope="module")
def masks():
    return heart_masks()


def test_it_is_the_same_every_time(volume) -> None:
    assert volume.voxels.tobytes() == heart().voxels.tobytes()
    assert volume.voxels.shape == (10, 216, 256) and volume.voxels.dtype == np.uint8
    np.testing.assert_allclose(volume.spacing, (1.5, 1.5, 8.0))
    assert Stack(volume, "axial").canonical(volume.voxels).tobytes() == volume.voxels.tobytes()


def test_the_masks_are_disjoint_and_taper_to_the_apex(masks) -> None:
    assert list(masks) == ["right ventricle", "myocardium", "left ventricle"]
    assert sum(mask.astype(int) for mask in masks.values()).max() == 1
    for mask in masks.values():
        areas = mask.sum(axis=(1, 2))
        assert (np.diff(areas) <= 0).all()
    assert not masks["right ventricle"][-1].any()
    assert 30 <= 2 * np.sqrt(masks["left ventricle"][0].sum() / np.pi) <= 45  # diameter in pixels of 1.5 mm


def test_blood_is_bright_and_muscle_dark(volume, masks) -> None:
    """As in the cine volumes that the heart pack learns from: blood 130–200, myocardium 45–85."""
    means = {name: volume.voxels[mask].mean() for name, mask in masks.items()}
    assert 45 < means["myocardium"] < 85
    assert 130 < means["right ventricle"] < 200
    assert 150 < means["left ventricle"] < 210
