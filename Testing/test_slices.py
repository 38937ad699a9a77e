"""Which slices are taken: spread at random, but a target on a few slices of many is among them, however small it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_cases import NAME, volume, write

from ProMISeCore import packs
from ProMISeCore.__main__ import main
from ProMISeCore.dataset import LabelledStack, Task, masks_of
from ProMISeCore.errors import InputError
from ProMISeCore.material import Material
from ProMISeCore.pairs import find
from ProMISeCore.settings import Settings
from ProMISeCore.slices import Slices, shown, with_every_target

PERCENTILES = {"mode": "percentile", "low": 0.5, "high": 99.5}


def case(slices: int, *targets: slice | list[int]) -> Slices:
    there = np.zeros((len(targets), slices), bool)
    for one, places in zip(there, targets, strict=True):
        one[places] = True
    return Slices(there, np.ones(slices, bool))


def drawn(cases: list[Slices], most: int, seed: int = 0) -> list[list[int]]:
    return [one.drawn(most, np.random.default_rng([seed, number])) for number, one in enumerate(cases)]


def test_where_every_target_is_drawn_nothing_is_exchanged() -> None:
    cases = [case(20, slice(2, 15), slice(5, 16)) for _ in range(3)]
    for seed in range(20):
        first = drawn(cases, 4, seed)
        assert with_every_target(cases, first) == first
    assert drawn(cases, 4)[0] == [0, 9, 10, 12], "as teachings before"


def test_a_target_on_few_slices_of_many_is_taken() -> None:
    cases = [case(160, slice(10, 150), [70, 110]) for _ in range(2)]
    for seed in range(10):
        first = drawn(cases, 24, seed)
        taken = with_every_target(cases, first)
        assert shown(cases, taken)[1] >= 3 and {70, 110} <= {*with_every_target(cases[:1], first[:1])[0]}
        assert [len(some) for some in taken] == [24, 24] and len({*taken[0]} - {*first[0]}) <= 2
        empty = [[n for n in some if not 10 <= n < 150] for some in (first[0], taken[0])]
        assert empty[0] == empty[1], "what has no target stays"


def test_few_slices_and_many_targets_have_one_of_each_first() -> None:
    cases = [case(12, *[[2 * number, 2 * number + 1] for number in range(6)])]
    taken = with_every_target(cases, [[0, 1, 2, 3, 4, 5]])
    assert shown(cases, taken).tolist() == [1] * 6


def test_what_is_learned_already_counts() -> None:
    cases = [case(9, slice(0, 9), [4])]
    assert with_every_target(cases, [[0, 8]], np.array([9, 9])) == [[0, 8]]
    assert with_every_target(cases, [[0, 8]], np.array([9, 0])) != [[0, 8]]


@pytest.mark.parametrize(("most", "filled", "empty"), [(1, 1, 0), (2, 1, 1), (4, 3, 1), (8, 6, 2)])
def test_slices_without_a_target_never_take_all_there_are(most: int, filled: int, empty: int) -> None:
    there = [4 <= n < 12 for (some,) in [drawn([case(16, slice(4, 12))], most)] for n in some]
    assert (sum(there), len(there) - sum(there)) == (filled, empty)


def test_a_very_small_target_keeps_a_pixel_and_others_lose_theirs_as_before() -> None:
    labels = torch.zeros(2, 16, 16)
    labels[:, 6:10, 6:10] = 1  # over four pixels of the mask, a quarter of each
    labels[:, 6, 7] = 0
    masks = masks_of(labels, torch.tensor([True, False]))
    assert masks.flatten(1).sum(1).tolist() == [1, 0] and masks[0, 1, 2]
    assert torch.equal(masks_of(labels), torch.zeros(2, 4, 4, dtype=torch.bool))


def test_a_target_between_the_pixels_of_a_smaller_frame_is_there(tmp_path: Path) -> None:
    voxels, mask = (
        np.random.default_rng(0).integers(0, 99, (3, 256, 256)).astype(np.int16),
        np.zeros((3, 256, 256), bool),
    )
    mask[1, 101, 201] = True
    write(tmp_path, "one", voxels, {"dot": mask})
    stack = LabelledStack(*find([str(tmp_path)]), Task({"dot": None}, "axial", PERCENTILES, "repeat", "corner"), 64)
    _, _, labels = stack.sample(1)
    assert labels.nonzero().tolist() == [[0, 25, 50]] and stack.fine(labels).tolist() == [True]


def lesions(folder: Path, side: int) -> Path:
    """Three cases of a target of 4 × 4 voxels on 6 of 10 slices."""
    for number in range(3):
        mask = np.zeros((10, side, side), bool)
        mask[2:8, 54 + number : 58 + number, 102:106] = True
        noise = np.random.default_rng(number).integers(0, 40, mask.shape)
        write(folder, f"p{number}", (100 + 200 * mask + noise).astype(np.int16), {"lesion": mask})
    return folder


def test_very_small_lesions_are_taught_and_a_larger_side_is_proposed(tmp_path, command, capsys) -> None:
    """Over four pixels of a mask they were on none of them: "no training slice holds this target"."""
    assert main(command(lesions(tmp_path / "small", 128), steps=3)) == 0
    told = capsys.readouterr().err
    assert "'lesion' is very small: with frames of 64 its masks have 0.2 pixels" in told and "--side 256 sees" in told
    assert packs.read_manifest(packs.find(NAME)).scores[0]["cases"] == 1


def test_a_target_that_no_usual_frame_shows_is_to_be_cropped(tmp_path, command, capsys) -> None:
    for number in range(2):
        mask = np.zeros((4, 600, 600), bool)
        mask[1:3, 300, 300] = True
        noise = np.random.default_rng(number).integers(0, 40, mask.shape)
        write(tmp_path / "dots", f"p{number}", (100 + 200 * mask + noise).astype(np.int16), {"dot": mask})
    assert main(command(tmp_path / "dots", "--check")) == 0
    assert "crop the images around it (a frame that sees it whole has a side of 4800)" in capsys.readouterr().out


def test_a_single_slice_of_each_case_is_one_with_the_target(tmp_path, command) -> None:
    for number in range(3):
        voxels, mask = volume(number)
        mask[:2] = False
        write(tmp_path / "some", f"c{number}", voxels, {"Scheibe": mask})
    assert main(command(tmp_path / "some", "--slices", "1", steps=2)) == 0


def test_more_targets_than_slices_are_named_before_anything_is_encoded(tmp_path, command, capsys) -> None:
    for number in range(2):
        voxels, _ = volume(number)
        masks = {f"t{n}": np.zeros(voxels.shape, bool) for n in range(3)}
        for n, mask in enumerate(masks.values()):
            mask[2 * n : 2 * n + 2, 5:20, 5:20] = True
        write(tmp_path / "some", f"c{number}", voxels, masks)
    assert main(command(tmp_path / "some", "--slices", "1", "--held-out", "none")) == 2
    told = capsys.readouterr().err
    assert "none of the slices that were chosen to learn from holds 't1'; let more of each case be chosen" in told


def test_material_without_a_target_names_it() -> None:
    from test_partial import views

    material = views()
    material.masks[:] = False
    with pytest.raises(InputError, match="no slice that is learned from holds 'wall'"):
        Material(material, {"wall": ()}).rows(0, Settings(), torch.Generator())
