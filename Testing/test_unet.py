"""The U-Net that packs are measured against: it learns discs, sees only content, and keeps cases apart."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ProMISeCore import dataset, pairs
from ProMISeCore.augment import Augment

pytest.importorskip("monai", reason='MONAI is not installed: pip install -e ".[experiments]"')

from learning import Budget, Recipe  # noqa: E402 (after the reason to skip)
from unet import Frames, UNet, predict, train  # noqa: E402

TASK = dataset.Task({"disc": 1, "spot": 3}, "image", {"mode": "bytes"}, "repeat", "corner")


@pytest.fixture
def frames(tmp_path) -> Frames:
    """Six pictures of 32 × 48 with a bright disc (1) and, in the first, a spot (3), as frames of side 48."""
    rows, columns = np.mgrid[:32, :48]
    for number in range(6):
        label = (np.hypot(rows - 16, columns - 10 - 5 * number) < 8).astype(np.uint8)
        label[0, :4] = 3 if number == 0 else 0
        sitk.WriteImage(
            sitk.GetImageFromArray(40 + 160 * (label == 1).astype(np.uint8)), str(tmp_path / f"{number}.jpg")
        )
        sitk.WriteImage(sitk.GetImageFromArray(label), str(tmp_path / f"{number}.png"))
    return Frames.of(dataset.plan(pairs.find([str(tmp_path)]), TASK, 48, views=3, most=4, seed=0), 48)


def test_frames_hold_every_slice_once_with_its_masks_and_content(frames):
    assert frames.pictures.shape == (6, 3, 48, 48) and frames.case.tolist() == [0, 1, 2, 3, 4, 5]
    assert frames.valid[:, 0, :32].all() and not frames.valid[:, 0, 32:].any()
    assert frames.masks[0, 1].sum() == 4 and not frames.masks[1:, 1].any()
    assert frames.masks[:, 0].sum((1, 2)).tolist() == [193] * 6


def test_a_unet_learns_discs(frames):
    torch.set_num_threads(1)
    net, fitted = train(frames, frames, Augment(rotation=5, shift=0.02, noise=0), Recipe(Budget(steps=24), 5e-3), 6)
    assert fitted.best > 0.7 and fitted.cpu_seconds > 0
    assert predict(net, frames, batch=4).shape == (6, 2, 48, 48)


def test_what_lies_outside_the_content_does_not_matter():
    torch.manual_seed(0)
    net, valid = UNet(1, (8, 8, 8, 8, 8, 8)).eval(), torch.zeros(1, 1, 32, 32)
    valid[..., :16, :] = 1
    pictures = torch.rand(2, 1, 3, 32, 32) * 255
    pictures[1, :, :, :16] = pictures[0, :, :, :16]
    with torch.inference_mode():
        assert torch.equal(net(pictures[0], valid), net(pictures[1], valid))
