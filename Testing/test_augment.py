"""Random views: picture and label move together, and nothing moves when asked not to."""

import torch

from ProMISeCore.augment import Augment


def _batch(count: int = 8, side: int = 32):
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    label = ((rows - 12) ** 2 + (columns - 18) ** 2 < 49).float()[None, None].repeat(count, 1, 1, 1)
    return 40 + 150 * label.repeat(1, 3, 1, 1), torch.ones(count, 1, side, side), label


def test_label_follows_the_picture():
    augment = Augment(keep=0.0, noise=0.0, contrast=0.0, brightness=0.0, gamma=0.0, colour=0.0, upset=0.5)
    pictures, valid, labels = augment(*_batch(), torch.Generator().manual_seed(1))
    seen = (pictures[:, :1] > 115) & (valid > 0)
    differing = (seen != (labels > 0)).float().mean()
    assert differing < 0.02
    assert len({tuple(label.flatten().tolist()) for label in labels}) == 8  # every view is another one


def test_kept_pictures_are_unchanged():
    pictures, valid, labels = _batch()
    out = Augment(keep=1.0)(pictures, valid, labels, torch.Generator())
    for before, after in zip((pictures, valid, labels), out, strict=True):
        torch.testing.assert_close(after, before, atol=1e-3, rtol=0)


def test_intensities_stay_between_0_and_255_and_the_seed_decides():
    augment = Augment(contrast=2.0, brightness=1.0)
    first = augment(*_batch(), torch.Generator().manual_seed(5))[0]
    again = augment(*_batch(), torch.Generator().manual_seed(5))[0]
    assert first.min() >= 0 and first.max() <= 255
    assert torch.equal(first, again)


BENT = Augment(rotation=0, zoom=(1, 1), shift=0, mirror=0, keep=0, elastic=0.1)


def _ramps(side: int, count: int = 64) -> torch.Tensor:
    """Column and row of every pixel, −1…1 from edge to edge, (count, 2, side, side)."""
    middle = (torch.arange(side) + 0.5) * 2 / side - 1
    return torch.stack(torch.meshgrid(middle, middle, indexing="xy"))[None].repeat(count, 1, 1, 1)


def test_bends_are_the_same_in_maps_of_other_resolutions():
    fine, coarse = BENT.moved([_ramps(64), _ramps(32)], torch.Generator().manual_seed(0))
    inner = slice(10, 22)
    apart = (torch.nn.functional.avg_pool2d(fine, 2) - coarse)[..., inner, inner].abs()
    assert apart.max() < 0.02


def test_places_are_shifted_by_what_was_asked_for_and_not_all_alike():
    shifts = (BENT.moved([_ramps(64)], torch.Generator().manual_seed(0))[0] - _ramps(64))[:, :, 32, 32]
    assert 0.08 < shifts.std() < 0.12  # in the middle, which is one of the places
    straight = Augment(rotation=0, zoom=(1, 1), shift=0, mirror=0, keep=0).moved([_ramps(64)], torch.Generator())[0]
    torch.testing.assert_close(straight, _ramps(64), atol=1e-5, rtol=0)
    kept = Augment(keep=1.0, elastic=0.1).moved([_ramps(64)], torch.Generator())[0]
    torch.testing.assert_close(kept, _ramps(64), atol=1e-5, rtol=0)


def test_label_follows_a_bent_picture():
    plain = Augment(keep=0, noise=0, contrast=0, brightness=0, gamma=0, colour=0, mirror=0, elastic=0.1)
    pictures, valid, labels = plain(*_batch(), torch.Generator().manual_seed(1))
    assert (((pictures[:, :1] > 115) & (valid > 0)) != (labels > 0)).float().mean() < 0.02
