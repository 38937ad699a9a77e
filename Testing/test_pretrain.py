"""What the backbone's training draws and weighs."""

import argparse

import numpy as np
import pytest
import torch

from ProMISeCore.draw import Draw, Stage, ahead, crop
from ProMISeCore.errors import InputError
from ProMISeCore.pretrain import Pretraining, Step, add_arguments, iou, mask_loss, set_side


def _places(count, side):
    """Pictures whose pixels tell their own row and column."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([rows, columns, rows * 0]).float().repeat(count, 1, 1, 1)


def test_crops_keep_picture_and_label_together_and_show_the_target():
    labels = torch.zeros(40, 1, 64, 64)
    labels[:, 0, 60:, 60:] = 3
    pictures, valid = _places(40, 64), torch.ones(40, 1, 64, 64)
    windows, inside, cut = crop(32, pictures, valid, labels, np.random.default_rng(0))
    assert windows.shape == (40, 3, 32, 32) and inside.shape == cut.shape == (40, 1, 32, 32)
    assert torch.equal(cut[:, 0] == 3, (windows[:, 0] >= 60) & (windows[:, 1] >= 60))
    assert (cut == 3).flatten(1).any(1).all()
    assert (windows[:, 0].diff(dim=1) == 1).all() and (windows[:, 1].diff(dim=2) == 1).all()


def test_crops_of_pictures_without_target_lie_where_there_is_content():
    valid = torch.zeros(20, 1, 64, 64)
    valid[:, :, :8, :8] = 1
    windows, inside, _ = crop(32, _places(20, 64), valid, torch.zeros(20, 1, 64, 64), np.random.default_rng(0))
    assert inside.flatten(1).any(1).all()
    assert int(windows[:, 0, 0, 0].max()) <= 32


def test_mask_loss_falls_from_wrong_to_right_and_counts_every_mask_alone():
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    mask[..., 4:12, 4:12] = True
    right = torch.where(mask, 12.0, -12.0)
    logits = torch.cat([right, torch.zeros_like(right), -right], 1)
    losses = mask_loss(logits, mask)[0].tolist()
    assert losses[0] < 0.001 < 1 < losses[1] < 12 < losses[2]


def test_iou_of_known_overlaps():
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., :2] = True
    found = torch.full((1, 2, 4, 4), -1.0)
    found[:, 0, :, 1:3] = 1
    assert torch.allclose(iou(found, mask), torch.tensor([[1 / 3, 0.0]]))


def _packed(workspace, *names):
    """A corpus of two pictures per set, each with a square as its target."""
    folder = workspace / "train"
    folder.mkdir()
    labels = np.zeros((2, 256, 256), np.uint16)
    labels[:, 100:160, 100:160] = 1
    for name in names:
        np.save(folder / f"{name}.pictures.npy", np.full((2, 3, 256, 256), 128, np.uint8))
        np.save(folder / f"{name}.labels.npy", labels)
        np.save(folder / f"{name}.extents.npy", np.full((2, 2), 256))


def test_a_stage_draws_from_its_sets_only(tmp_path):
    _packed(tmp_path, "saliency", "isic", "kvasir")
    draw = Draw(tmp_path, Stage(256, ("saliency", "isic")), seed=0)
    drawn = [name for _ in range(6) for name in draw.batch(groups=4, group_size=1).names]
    assert set(drawn) == {"saliency", "isic"}
    assert drawn.count("isic") > drawn.count("saliency")  # drawn twice as often


def test_children_draw_in_turn_each_with_a_seed_of_its_own(tmp_path):
    _packed(tmp_path, "isic")
    stage = Stage(256, ("isic",))
    batches = ahead(tmp_path, stage, seed=7, workers=2, depth=1)
    found = [next(batches).pictures for _ in range(3)]
    batches.close()
    one, other = Draw(tmp_path, stage, 7), Draw(tmp_path, stage, 7 + 1_000_003)
    for picture, draw in zip(found, (one, other, one), strict=True):
        assert torch.equal(picture, draw.batch().pictures)
    assert not torch.equal(found[0], found[1])


def test_a_child_that_ends_is_told(tmp_path):
    _packed(tmp_path, "isic")
    with pytest.raises(InputError, match=r"a process that draws pictures has ended \(exit code 1\).*--workers"):
        next(ahead(tmp_path, Stage(256, ("kvasir",)), seed=0))  # a set that is not there


@pytest.mark.parametrize("decoder_only", [False, True])
def test_the_encoder_learns_unless_the_decoder_alone_shall(tmp_path, decoder_only):
    _packed(tmp_path, "isic")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = ["--data", str(tmp_path), "--workspace", str(tmp_path), "--out", str(tmp_path / "b.safetensors")]
    training = Pretraining(parser.parse_args([*options, *["--decoder-only"] * decoder_only]))
    set_side(training.sam, 256)
    loss, _ = Step(training.sam, training.aids, training.generator)(
        Draw(tmp_path, Stage(256, ("isic",)), seed=0).batch(groups=1, group_size=2)
    )
    loss.backward()
    before = {key: value.clone() for key, value in training.sam.named_parameters()}
    training.optimizer.step()
    changed = {key.split(".")[0] for key, value in training.sam.named_parameters() if not value.equal(before[key])}
    assert ("image_encoder" in changed) != decoder_only and "mask_decoder" in changed
