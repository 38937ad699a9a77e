"""Canonical slices, windows and pictures of volumes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from placements import LETTERS, PLACES, placed, rotation, storages

from ProMISeCore.errors import InputError
from ProMISeCore.volumes import AXES, Stack, Volume, Window, percentiles, pictures, read


@pytest.mark.parametrize("place", PLACES)
def test_every_storage_order_gives_the_same_slices(place) -> None:
    generator = np.random.default_rng(5)
    volume = Volume(generator.integers(-50, 900, (3, 4, 5)).astype(np.int16), placed(PLACES[place]), "v")
    noise = np.random.default_rng(6)
    for axis in AXES:
        expected = Stack(volume, axis)
        slices = expected.canonical(volume.voxels)
        where = expected.rc_to_ras(1, [[0.0, 0.0], [1.5, 2.25]])
        for stored in storages(volume):
            wobble = Volume(stored.voxels, stored.affine * (1 + 1e-7 * noise.normal(size=(4, 4))), "v")
            stack = Stack(wobble, axis)
            found = stack.canonical(stored.voxels)
            assert found.tobytes() == slices.tobytes()
            assert (stack.shape, stack.spacing_rc, stack.spacing_slice) == (
                expected.shape, expected.spacing_rc, expected.spacing_slice,
            )  # fmt: skip
            np.testing.assert_array_equal(stack.join(found), stored.voxels)
            np.testing.assert_allclose(stack.rc_to_ras(1, [[0.0, 0.0], [1.5, 2.25]]), where, atol=1e-4)


@pytest.mark.parametrize("place", ["straight", "45 about S", "oblique 3"])
def test_points_go_to_ras_and_back(place) -> None:
    volume = Volume(LETTERS, placed(PLACES[place]), "v")
    for stored, axis in itertools.product(storages(volume), AXES):
        stack = Stack(stored, axis)
        points = np.array([[0.0, 0.0], [2.0, 1.0], [-0.5, 7.25]])
        back = stack.ras_to_nrc(stack.rc_to_ras(1, points))
        np.testing.assert_allclose(back, np.column_stack([np.ones(3), points]), atol=1e-9)


def test_a_voxel_stays_the_same_voxel() -> None:
    """The value at (n, row, column) is the value of the voxel at the RAS position that the stack gives."""
    volume = Volume(LETTERS, placed(rotation(np.random.default_rng(9))), "v")
    for axis in AXES:
        stack = Stack(volume, axis)
        slices = stack.canonical(volume.voxels)
        for n, row, column in np.ndindex(*stack.shape):
            ras = stack.rc_to_ras(n, [[row, column]])[0]
            i, j, k = np.round(np.linalg.solve(volume.affine[:3, :3], ras - volume.affine[:3, 3])).astype(int)
            assert slices[n, row, column] == LETTERS[k, j, i]


def test_displays_are_as_radiologists_view_them() -> None:
    """In RAS storage I runs to the right, J to anterior, K to superior."""
    volume = Volume(LETTERS, np.eye(4), "v")
    k, j, i = 2, 3, 4
    axial = Stack(volume, "axial").canonical(LETTERS)
    assert axial.shape == (k, j, i)
    assert axial[0, 0, 0] == LETTERS[0, -1, -1]  # most inferior; top anterior, left the patient's right
    coronal = Stack(volume, "coronal").canonical(LETTERS)
    assert coronal.shape == (j, k, i)
    assert coronal[0, 0, 0] == LETTERS[-1, 0, -1]  # most posterior; top superior, left the patient's right
    sagittal = Stack(volume, "sagittal").canonical(LETTERS)
    assert sagittal.shape == (i, k, j)
    assert sagittal[0, 0, 0] == LETTERS[-1, -1, -1]  # most right; top superior, left anterior


def test_slices_are_views_and_colour_keeps_its_channels() -> None:
    voxels = np.arange(72, dtype=np.uint8).reshape(2, 3, 4, 3)
    stack = Stack(Volume(voxels, np.eye(4), "v"), "sagittal")
    slices = stack.canonical(voxels)
    assert slices.shape == (4, 2, 3, 3)
    assert np.shares_memory(slices, voxels)
    np.testing.assert_array_equal(stack.join(slices), voxels)


def test_a_picture_keeps_storage_order_whatever_the_axis() -> None:
    stack = Stack(Volume(LETTERS[:1], np.diag([-1.0, -1, 1, 1]), "p", picture=True), "sagittal")
    assert stack.axis == "image"
    np.testing.assert_array_equal(stack.canonical(LETTERS[:1]), LETTERS[:1])


def test_wrong_arguments_are_refused() -> None:
    volume = Volume(LETTERS, np.eye(4), "v")
    with pytest.raises(InputError, match="axial"):
        Stack(volume, "transversal")
    with pytest.raises(InputError, match="resample"):
        Stack(volume, "axial").canonical(np.zeros((2, 3, 5)))
    with pytest.raises(InputError, match="stack has"):
        Stack(volume, "axial").join(np.zeros((2, 3, 5)))
    with pytest.raises(InputError, match="geometry"):
        Stack(Volume(LETTERS, np.diag([1.0, 0, 1, 1]), "v"), "axial")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_percentiles_are_numpys_and_exactly_the_same_for_every_storage(dtype) -> None:
    generator = np.random.default_rng(0)
    values = generator.gamma(2, 20, (6, 7, 8)).clip(0, 250)
    volume = Volume(values.astype(dtype), placed(np.eye(3)), "v")
    found = {percentiles(stored.voxels, (0.5, 37.0, 99.5)) for stored in storages(volume)}
    assert len(found) == 1
    np.testing.assert_allclose(found.pop(), np.percentile(volume.voxels, (0.5, 37.0, 99.5)), rtol=1e-6)


def test_percentiles_of_negative_small_integers() -> None:
    assert percentiles(np.array([[[-3, -1, 0, 5]]], np.int8), (0.0, 50.0, 100.0)) == (-3.0, -0.5, 5.0)
    assert percentiles(np.array([[[-30000, 30000]]], np.int16), (50.0,)) == (0.0,)


def test_windows() -> None:
    voxels = np.array([[[-10, 0, 5, 10, 20]]], np.int16)
    fixed = Window.of({"mode": "fixed", "low": 0, "high": 10}, voxels)
    np.testing.assert_array_equal(fixed.apply(voxels), [[[0, 0, 127.5, 255, 255]]])
    assert fixed.apply(voxels).dtype == np.float32
    assert Window.of({"mode": "percentile", "low": 0, "high": 100}, voxels) == Window(-10, 20)
    with pytest.raises(InputError, match="percentile, fixed or bytes"):
        Window.of({"mode": "minmax"}, voxels)


@pytest.mark.parametrize("mode", ["percentile", "fixed", "bytes"])
def test_a_constant_image_is_black_or_grey_but_never_nan(mode) -> None:
    for value in (-7, 0, 7):
        voxels = np.full((2, 3, 4), value, np.int16)
        shown = Window.of({"mode": mode, "low": 1, "high": 1}, voxels).apply(voxels)
        assert np.isfinite(shown).all() and shown.min() >= 0 and shown.max() <= 255


def test_a_window_without_width_shows_the_rare_bright_voxels() -> None:
    voxels = np.zeros((10, 10, 10), np.uint8)
    voxels[5, 5, 5] = 9
    assert Window.of({"mode": "percentile", "low": 0.5, "high": 99.5}, voxels) == Window(0, 9)


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [([0, 200], np.uint8, (0, 255)), ([0, 200], np.uint16, (0, 255)), ([0, 3000], np.uint16, (0, 4095)),
     ([0, 65535], np.uint16, (0, 65535)),
     ([61455, 65535], np.uint16, (61455, 65535)), ([1000, 2020], np.int16, (1000, 2047)),
     ([0.0, 0.5], np.float32, (0, 1)), ([0.0, 250.0], np.float32, (0, 255)),
     ([-5, 90], np.int16, (-5, 90))],
)  # fmt: skip
def test_bytes_window(values, dtype, expected) -> None:
    voxels = np.array([[values]], dtype)
    window = Window.of({"mode": "bytes"}, voxels)
    assert (window.low, window.high) == expected


def test_pictures_repeat_or_take_the_neighbours() -> None:
    voxels = np.array([[[10]], [[20]], [[30]]], np.uint8)
    stack, window = Stack(Volume(voxels, np.eye(4), "v"), "axial"), Window(0, 255)
    assert pictures(stack, window, "repeat")[1].tolist() == [[[20, 20, 20]]]
    seen = pictures(stack, window, "neighbours")
    assert [seen[n].tolist() for n in range(3)] == [[[[10, 10, 20]]], [[[10, 20, 30]]], [[[20, 30, 30]]]]
    assert len(list(seen)) == 3
    with pytest.raises(InputError, match="repeat or neighbours"):
        pictures(stack, window, "rgb")


def test_colour_pictures_stay_rgb() -> None:
    voxels = np.array([[[[1, 2, 3]]]], np.uint8)
    volume = Volume(voxels, np.eye(4), "p", picture=True)
    for channels in ("repeat", "neighbours"):
        assert pictures(Stack(volume, "image"), Window(0, 255), channels)[0].tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("name", ["ct_3mm/image.nii.gz", "mr_small/image.nii.gz", "spine_t2/image.nii.gz", "ct_dicom"])
def test_fixtures_in_every_storage_order(shared, name) -> None:
    volume = read(shared / "data" / "fixtures" / name)
    expected = Stack(volume, "coronal").canonical(volume.voxels)
    window = Window.of({"mode": "percentile", "low": 0.5, "high": 99.5}, volume.voxels)
    for number, stored in enumerate(storages(volume)):
        if number % 5 == 0:
            found = Stack(stored, "coronal").canonical(stored.voxels)
            assert np.array_equal(found, expected)
            assert Window.of({"mode": "percentile", "low": 0.5, "high": 99.5}, stored.voxels) == window


def test_memory_for_a_large_volume() -> None:
    """A window of a big int16 volume needs no float or index copy of the whole."""
    import tracemalloc

    voxels = np.zeros((100, 256, 256), np.int16)  # 13 MB
    tracemalloc.start()
    window = Window.of({"mode": "percentile", "low": 0.5, "high": 99.5}, voxels)
    seen = pictures(Stack(Volume(voxels, np.eye(4), "v"), "sagittal"), window, "neighbours")
    for n in (0, 100, 255):
        seen[n]
    assert tracemalloc.get_traced_memory()[1] < 6e6
    tracemalloc.stop()
