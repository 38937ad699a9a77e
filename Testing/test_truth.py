"""What is known of a case's voxels: names or values, several layers, cropped grids, and what nobody has looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ProMISeCore import exports, pairs, truth
from ProMISeCore.dataset import LabelledStack, Task
from ProMISeCore.errors import InputError
from ProMISeCore.slices import Slices
from ProMISeCore.volumes import Volume, check_grid

AFFINE = np.array([[-2.0, 0, 0, 10], [0, -1, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1]])
VOLUME = Volume(np.zeros((5, 4, 6), np.int16), AFFINE, "scan")
U = truth.UNKNOWN


def box(*slices: slice) -> np.ndarray:
    mask = np.zeros((5, 4, 6), bool)
    mask[slices] = True
    return mask


def segmentation(path: Path, masks: dict[str, np.ndarray], volume: Volume = VOLUME) -> Path:
    exports.write_segmentation(path, masks, volume, [{"name": name} for name in masks])
    return path


def label_map(path: Path, voxels: np.ndarray) -> Path:
    sitk.WriteImage(exports.on_grid(voxels.astype(np.uint8), VOLUME), str(path))
    return path


def test_segments_are_found_by_name_in_several_layers(tmp_path: Path) -> None:
    one, two = box(slice(1, 4), slice(0, 3)), box(slice(2, 5), slice(1, 4))
    path = segmentation(tmp_path / "a.seg.nrrd", {"Höhle links": one, "wall": two})
    assert truth.contents(path) == {"Höhle links": None, "wall": None}
    found = truth.read(VOLUME, path, {"wall": 9, "Höhle links": None, "absent": 1})
    assert np.array_equal(found[0], two) and np.array_equal(found[1], one)
    assert (found[2] == U).all()


def test_a_cropped_segmentation_is_put_where_it_lies(tmp_path: Path) -> None:
    mask = box(slice(2, 4), slice(1, 3), slice(2, 5))
    cropped = Volume(np.zeros((2, 2, 4), np.int16), AFFINE.copy(), "part")
    cropped.affine[:3, 3] = (AFFINE @ [2, 1, 2, 1])[:3]
    path = segmentation(tmp_path / "a.seg.nrrd", {"x": mask[2:4, 1:3, 2:6]}, cropped)
    assert np.array_equal(truth.read(VOLUME, path, {"x": None})[0], mask)
    beyond = Volume(np.ones((3, 3, 3), np.int16), AFFINE.copy(), "beyond")
    beyond.affine[:3, 3] = (AFFINE @ [5, 3, 4, 1])[:3]
    path = segmentation(tmp_path / "b.seg.nrrd", {"x": np.ones((3, 3, 3), bool)}, beyond)
    found = truth.read(VOLUME, path, {"x": None})[0]
    assert found.sum() == 1 and found[4, 3, 5] == 1


@pytest.mark.parametrize("shift", [0.4, 0.3])
def test_another_grid_is_refused(tmp_path: Path, shift: float) -> None:
    other = Volume(VOLUME.voxels, AFFINE.copy(), "other")
    other.affine[0, 3] += 2 * shift
    path = segmentation(tmp_path / "a.seg.nrrd", {"x": box(slice(0, 2))}, other)
    with pytest.raises(InputError, match="another grid than its image 'scan'"):
        truth.read(VOLUME, path, {"x": None})


def test_values_of_label_maps_and_255(tmp_path: Path) -> None:
    voxels = np.zeros((5, 4, 6), np.uint8)
    voxels[0], voxels[1, 0], voxels[2, 0, 0] = 1, 2, U
    path = label_map(tmp_path / "a.nii.gz", voxels)
    assert truth.contents(path) == {"label 1": 1, "label 2": 2, "label 255": 255}
    found = truth.read(VOLUME, path, {"one": 1, "two": 2, "named only": None})
    assert found[0, 0].all() and found[0, 2, 0, 0] == U and not found[0, 3].any()
    assert found[1, 1, 0].tolist() == [1] * 6 and found[1, 2, 0, 0] == U
    assert (found[2] == U).all()


def test_a_mask_of_0_and_255_is_a_target(tmp_path: Path) -> None:
    path = label_map(tmp_path / "a.nrrd", 255 * box(slice(1, 3)))
    assert truth.contents(path) == {"label 255": 255}
    assert np.array_equal(truth.read(VOLUME, path, {"x": 255})[0], box(slice(1, 3)))


@pytest.mark.parametrize(
    ("labelled", "rule", "unknown"),
    [
        ([0, 4], "auto", [1, 2, 3]),  # sparse: 2 of 5
        ([2], "auto", [0, 1, 3, 4]),  # one slice
        ([1, 2], "auto", []),
        ([0, 2, 4], "auto", [1, 3]),  # every second one
        ([1, 3], "auto", [0, 2, 4]),
        ([0, 1, 3, 4], "auto", []),  # a gap, but most are there
        ([], "auto", [0, 1, 2, 3, 4]),
        ([0, 4], "background", []),
        ([], "background", []),
        ([1, 2], "unknown", [0, 3, 4]),
    ],
)
def test_slices_without_the_target(tmp_path: Path, labelled: list[int], rule: str, unknown: list[int]) -> None:
    mask = np.zeros((5, 4, 6), bool)
    mask[labelled, 1:3, 2:4] = True
    found = truth.read(VOLUME, label_map(tmp_path / "a.nrrd", mask), {"x": 1}, rule)[0]
    assert np.flatnonzero((found == U).all((1, 2))).tolist() == unknown
    assert np.array_equal(found == 1, mask)
    assert not (found == U).any() if not unknown else True


def test_sparse_slices_are_seen_along_every_axis(tmp_path: Path) -> None:
    mask = np.zeros((5, 4, 6), bool)
    mask[:, :, [0, 3, 5]] = True
    mask[:, :, 3] = False
    found = truth.read(VOLUME, label_map(tmp_path / "a.nrrd", mask), {"x": 1}, "auto")[0]
    assert (found[:, :, 1:5] == U).all() and (found[:, :, [0, 5]] == 1).all()


def test_slices_without_the_target_are_unknown_along_the_axis_that_is_learned_from(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (5, 4, 6)).astype(np.int16)
    sitk.WriteImage(exports.on_grid(voxels, VOLUME), str(tmp_path / "image.nrrd"))
    label_map(tmp_path / "label.nrrd", box(slice(1, 4), slice(1, 3), slice(2, 5)))
    task = Task({"a": 1}, "coronal", {"mode": "bytes"}, "repeat", "corner", "unknown")
    stack = LabelledStack(pairs.Pair("c", tmp_path / "image.nrrd", tmp_path / "label.nrrd"), task, 64)
    unknown = stack.labels[0] == U
    assert unknown.shape == (4, 5, 6), "four coronal slices, in two of which the target is"
    assert unknown.all((1, 2)).tolist() == unknown.any((1, 2)).tolist() == [True, False, False, True]


@pytest.mark.parametrize("seed", range(5))
def test_slices_of_which_nothing_is_known_are_not_chosen_as_empty_ones(seed: int) -> None:
    there, known = np.arange(8) == 2, np.isin(np.arange(8), [2, 5])
    assert Slices(there[None], known).drawn(6, np.random.default_rng(seed)) == [2, 5]


@pytest.mark.parametrize("shift", [2.0, 0.6])
def test_a_label_map_of_the_same_shape_that_lies_elsewhere_is_refused(shift: float) -> None:
    """By a voxel, or by nearly a third of one."""
    beside = Volume(VOLUME.voxels, AFFINE.copy(), "label")
    beside.affine[0, 3] += shift
    with pytest.raises(InputError, match="elsewhere"):
        check_grid(VOLUME, beside, "label")


def test_a_pair_of_organs_leaves_nothing_unknown_between(tmp_path: Path) -> None:
    mask = np.zeros((5, 4, 6), bool)
    mask[1:4, 1:3, [0, 5]] = True
    wide = np.repeat(mask, 2, 2)  # 2 + 2 of 12 columns
    volume = Volume(np.zeros(wide.shape, np.int16), AFFINE, "pair")
    path = segmentation(tmp_path / "a.seg.nrrd", {"x": wide}, volume)
    assert np.array_equal(truth.read(volume, path, {"x": None}, "auto", axis=0)[0], wide)
    across = truth.read(volume, path, {"x": None}, "auto", axis=2)[0]  # as they are cut, four slices of twelve
    assert (across[:, :, 2:10] == U).all() and np.array_equal(across == 1, wide)


def test_two_segments_of_one_name_are_refused(tmp_path: Path) -> None:
    path = segmentation(tmp_path / "a.seg.nrrd", {"x": box(slice(0, 1)), "y": box(slice(1, 2))})
    path.write_bytes(path.read_bytes().replace(b"Segment1_Name:=y", b"Segment1_Name:=x"))
    with pytest.raises(InputError, match="two segments called 'x'"):
        truth.contents(path)


def test_segmentations_are_paired_by_name_and_the_rest_is_told(tmp_path: Path) -> None:
    for name in ("Fall ä 1.nrrd", "Fall ä 1.seg.nrrd", "b.nii.gz", "b Segmentation.seg.nrrd", "c.nrrd", "c-label.nrrd"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "new.nrrd").write_bytes(b"")
    found, rest, _ = pairs.sort_out([str(tmp_path)])
    assert [(pair.name, pair.label.name) for pair in found] == [
        ("Fall ä 1", "Fall ä 1.seg.nrrd"), ("b", "b Segmentation.seg.nrrd"), ("c", "c-label.nrrd"),
    ]  # fmt: skip
    assert [path.name for path in rest] == ["new.nrrd"]


@pytest.mark.parametrize("rule", truth.RULES)
def test_what_a_segmentation_calls_unknown_is_unknown_and_the_rest_is_known(tmp_path: Path, rule: str) -> None:
    """Two slices of five are looked at, for `x` another one than for all; slice 4 holds neither, and that is known."""
    masks = {"x": box(slice(1, 2), slice(0, 2)), "y": box(slice(1, 2), slice(1, 3))}
    masks |= {"ProMISe unknown": box(slice(2, 4)), "ProMISe unknown x": box(slice(0, 1))}
    path = segmentation(tmp_path / "a.seg.nrrd", masks)
    assert truth.contents(path) == {"x": None, "y": None}
    x, y = truth.read(VOLUME, path, {"x": None, "y": None}, rule)
    assert [set(np.unique(part).tolist()) for part in x] == [{U}, {0, 1}, {U}, {U}, {0}]
    assert [set(np.unique(part).tolist()) for part in y] == [{0}, {0, 1}, {U}, {U}, {0}]
    assert np.array_equal(x == 1, masks["x"]) and np.array_equal(y == 1, masks["y"])
    path = segmentation(tmp_path / "b.seg.nrrd", {"x": masks["x"], "ProMISe unknown": box(slice(0, 0))})
    assert np.array_equal(truth.read(VOLUME, path, {"x": None}, rule)[0], masks["x"])


def _turned(spacing: float, angle: float) -> Volume:
    """A grid of 200 × 200 pixels, turned in plane by an angle in radians about its first voxel."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:2, :2] = spacing * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Volume(np.zeros((2, 200, 200), np.uint8), affine, "scan")


@pytest.mark.parametrize("spacing", [0.004, 0.4, 40.0])  # mm: a microscope's, a scanner's, somebody's wrong unit
@pytest.mark.parametrize("suffix", [".nrrd", ".seg.nrrd"])
def test_a_grid_is_compared_in_voxels_at_its_corners(tmp_path: Path, spacing: float, suffix: str) -> None:
    def read(angle: float) -> np.ndarray:
        labels = _turned(spacing, angle)
        if suffix == ".nrrd":
            path = tmp_path / "labels.nrrd"
            sitk.WriteImage(exports.on_grid(labels.voxels, labels), str(path))
        else:
            path = segmentation(tmp_path / "labels.seg.nrrd", {"x": labels.voxels > 0}, labels)
        return truth.read(_turned(spacing, 0.0), path, {"x": 1})

    assert not read(0.05 / 200).any()  # a header that rounds: a twentieth of a voxel at the far corner
    for angle in (1.0 / 200, np.pi):
        with pytest.raises(InputError, match=r"labels\S+ lies (elsewhere|on another grid) than its image 'scan'"):
            read(angle)
