"""The square frame: pictures in, points, boxes and masks both ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ProMISeCore.errors import InputError
from ProMISeCore.frame import PIXEL_MEAN, PIXEL_STD, Frame

SHAPES = [(100, 80), (37, 64), (512, 512), (20, 300), (600, 450)]
PADDINGS = ["corner", "squeeze"]


def test_content_fills_the_longer_side_and_keeps_its_aspect() -> None:
    frame = Frame(100, 80, 256)
    assert (frame.rows, frame.columns) == (256, 205)
    assert (Frame(100, 80, 256, "squeeze").rows, Frame(100, 80, 256, "squeeze").columns) == (256, 256)


def test_the_aspect_is_physical() -> None:
    frame = Frame(10, 256, 512, spacing_rc=(8.0, 1.5))  # 80 mm × 384 mm
    assert (frame.rows, frame.columns) == (107, 512)
    assert Frame(100, 10, 512, spacing_rc=(1.5, 30.0)).columns == 512


def test_sizes_are_those_of_sam() -> None:
    """segment_anything's ResizeLongestSide: int(side × scale + 0.5)."""
    for height, width in [(333, 1000), (1, 3000), (1023, 777)]:
        frame = Frame(height, width, 1024)
        scale = 1024 / max(height, width)
        assert (frame.rows, frame.columns) == (max(1, int(height * scale + 0.5)), int(width * scale + 0.5))


def test_padding_is_zero_after_normalisation() -> None:
    image = Frame(4, 2, 64).image(np.zeros((4, 2, 3), np.float32))
    assert image.shape == (3, 64, 64) and image.dtype == torch.float32
    assert (image[:, :, 32:] == 0).all()
    black = -torch.tensor(PIXEL_MEAN) / torch.tensor(PIXEL_STD)
    torch.testing.assert_close(image[:, :, :32], black[:, None, None].expand(3, 64, 32))


def test_a_picture_of_the_frames_size_is_only_normalised() -> None:
    picture = np.random.default_rng(0).uniform(0, 255, (32, 32, 3)).astype(np.float32)
    expected = (torch.from_numpy(picture).permute(2, 0, 1) - torch.tensor(PIXEL_MEAN)[:, None, None]) / torch.tensor(
        PIXEL_STD
    )[:, None, None]
    for padding in PADDINGS:
        torch.testing.assert_close(Frame(32, 32, 32, padding).image(picture), expected)


def test_shrinking_does_not_alias() -> None:
    """A checkerboard becomes even grey, not a pattern."""
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255.0).astype(np.float32)
    image = Frame(256, 256, 64).image(np.repeat(board[..., None], 3, axis=-1))
    assert image.std(dim=(1, 2)).max() < 0.05


def test_the_picture_is_not_altered_and_views_work() -> None:
    picture = np.random.default_rng(0).uniform(0, 255, (9, 7, 3)).astype(np.float32)
    before = picture.copy()
    flipped = Frame(9, 7, 32).image(picture[::-1])
    np.testing.assert_array_equal(picture, before)
    torch.testing.assert_close(flipped, Frame(9, 7, 32).image(picture[::-1].copy()))


def test_pixel_centres_by_hand() -> None:
    frame = Frame(2, 4, 8)  # each slice pixel is 2 × 2 frame pixels
    np.testing.assert_array_equal(frame.rc_to_xy([[0, 0], [1, 3]]), [[0.5, 0.5], [6.5, 2.5]])
    # SAM adds 0.5 to a point, so (0.5, 0.5) means the middle of frame pixels 0 and 1: x = 1.0 from the left edge


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_points_round_trip(shape, padding) -> None:
    frame = Frame(*shape, 1024, padding, spacing_rc=(2.5, 1.0))
    points = np.random.default_rng(0).uniform(-1, 600, (50, 2))
    np.testing.assert_allclose(frame.xy_to_rc(frame.rc_to_xy(points)), points, atol=1e-9)
    tensor = torch.from_numpy(points)
    torch.testing.assert_close(frame.xy_to_rc(frame.rc_to_xy(tensor)), tensor)
    np.testing.assert_allclose(frame.rc_to_xy(tensor).numpy(), frame.rc_to_xy(points))
    assert frame.rc_to_xy(tensor.float()).dtype == torch.float32
    assert frame.rc_to_xy(np.zeros((0, 2))).shape == (0, 2)


def test_a_click_lands_on_the_bright_pixel() -> None:
    """The point of pixel (r, c) lies where that pixel's light is in the image."""
    for row, column in [(0, 0), (11, 17), (39, 29)]:
        frame = Frame(40, 30, 256)
        picture = np.zeros((40, 30, 3), np.float32)
        picture[row, column] = 255
        light = frame.image(picture)[0, : frame.rows, : frame.columns]
        light = light - light.min()
        y, x = ((light.sum(dim=1 - axis) * torch.arange(light.shape[axis])).sum() / light.sum() for axis in (0, 1))
        edge = 1.5 if row in (0, 39) else 0.1  # at the rim interpolation repeats the pixel outwards
        np.testing.assert_allclose(frame.rc_to_xy([[row, column]])[0], [x, y], atol=edge)


def test_boxes_are_ordered_corners() -> None:
    frame = Frame(2, 4, 8)
    np.testing.assert_array_equal(frame.box_rc_to_xy([1, 3, 0, 0]), [0.5, 0.5, 6.5, 2.5])
    boxes = torch.tensor([[0.0, 0, 1, 3], [1, 3, 0, 0]])
    torch.testing.assert_close(frame.box_rc_to_xy(boxes), torch.tensor([[0.5, 0.5, 6.5, 2.5]]).expand(2, 4))


def sampled(function, side: int, cells: int) -> torch.Tensor:
    """A function of continuous frame position (edges at 0 and side) at the centres of the low-resolution cells."""
    centres = (torch.arange(cells) + 0.5) * side / cells
    return function(centres[:, None], centres[None])


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("cells", [64, 256])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_edge_comes_back_where_it_is(shape, cells, padding) -> None:
    """A linear ramp is reproduced exactly at the slice's pixel centres, away from the outermost half cell."""
    side = 256
    frame = Frame(*shape, side, padding)
    low = sampled(lambda y, x: 0.03 * x - 0.05 * y + 1, side, cells)
    found = frame.logits(low)
    assert found.shape == shape
    y = (torch.arange(shape[0]) + 0.5) * frame.scale_xy[1]
    x = (torch.arange(shape[1]) + 0.5) * frame.scale_xy[0]
    expected = 0.03 * x[None] - 0.05 * y[:, None] + 1
    cell = side / cells
    rows = (y > cell / 2) & (y < side - cell / 2)
    columns = (x > cell / 2) & (x < side - cell / 2)
    torch.testing.assert_close(found[rows][:, columns], expected[rows][:, columns], atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_agree_with_sams_two_steps(shape) -> None:
    """postprocess_masks: to S × S, crop, to H × W, both bilinear. Ours interpolates once; smooth logits agree."""
    generator = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.randn(2, 1, 6, 6, generator=generator), (64, 64), mode="bicubic")
    frame = Frame(*shape, 256)
    whole = F.interpolate(smooth, (256, 256), mode="bilinear", align_corners=False)
    theirs = F.interpolate(whole[..., : frame.rows, : frame.columns], shape, mode="bilinear", align_corners=False)
    ours = frame.logits(smooth)
    assert ours.shape == (2, 1, *shape)
    assert (ours - theirs).abs().max() < 0.12  # of a range of about 5
    assert (ours - theirs).abs().mean() < 0.01


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", [(100, 80), (512, 512), (217, 181)])
def test_a_disc_survives_the_mask_prompt_and_the_logits(shape, padding) -> None:
    rows, columns = np.indices(shape)
    centre, radius = (shape[0] * 0.4, shape[1] * 0.55), min(shape) * 0.3
    disc = np.hypot(rows - centre[0], columns - centre[1]) <= radius
    frame = Frame(*shape, 256, padding)
    prompt = frame.mask_prompt(disc)
    assert prompt.shape == (1, 64, 64) and prompt.dtype == torch.float32
    assert float(prompt.min()) == pytest.approx(-10) and float(prompt.max()) == pytest.approx(10)
    back = (frame.logits(prompt)[0] > 0).numpy()
    cell = max(1.0, 4 / min(frame.scale_xy))  # slice pixels per low-resolution cell
    perimeter = 2 * np.pi * radius
    assert (back != disc).sum() < 0.5 * cell * perimeter  # half a cell along the rim at most
    shift = np.argwhere(back).mean(axis=0) - np.argwhere(disc).mean(axis=0)
    assert np.abs(shift).max() < 0.15 * cell
    assert abs(back.sum() - disc.sum()) < 0.1 * cell * perimeter


def test_a_mask_prompt_is_outside_in_the_padding() -> None:
    prompt = Frame(64, 32, 64).mask_prompt(np.ones((64, 32), bool))[0]
    expected = torch.full((16, 16), -10.0)
    expected[:, :8] = 10
    torch.testing.assert_close(prompt, expected)
    logits = Frame(64, 32, 64).mask_prompt(torch.full((64, 32), 3.5))[0]
    torch.testing.assert_close(logits[:, :8], torch.full((16, 8), 3.5))


def test_a_mask_prompt_does_not_alias() -> None:
    """Stripes two pixels wide in every eight: each cell of eight pixels is a quarter inside, wherever they begin."""
    mask = np.zeros((256, 256), bool)
    mask[3::8] = mask[4::8] = True
    prompt = Frame(256, 256, 128).mask_prompt(mask)[0]
    assert prompt.shape == (32, 32) and float(prompt[4:-4, 4:-4].mean()) == pytest.approx(-5, abs=1)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="corner or squeeze"):
        Frame(4, 4, 16, "centre")
    with pytest.raises(InputError, match="cannot fill"):
        Frame(0, 4, 16)
    with pytest.raises(InputError, match="this frame needs"):
        Frame(4, 5, 16).image(np.zeros((5, 4, 3), np.float32))
    with pytest.raises(InputError, match="needed"):
        Frame(4, 5, 16).mask_prompt(np.zeros((5, 4), bool))
