"""Reading, canonical slices, windows."""

from __future__ import annotations

import itertools
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ProMISeCore.errors import InputError
from ProMISeCore.volumes import AXES, Stack, Volume, Window, percentiles, pictures, read, read_label

LETTERS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)  # (K, J, I)


def storages(volume: Volume):
    """The 48 ways to store one volume: every order and direction of its axes, with the affine that keeps its place."""
    for order in itertools.permutations(range(3)):  # new axis (I, J, K) n is old axis order[n]
        for signs in itertools.product((1, -1), repeat=3):
            numpy_order = [2 - order[2 - axis] for axis in range(3)]
            flips = tuple(slice(None, None, signs[2 - axis]) for axis in range(3))
            voxels = volume.voxels.transpose(*numpy_order, *range(3, volume.voxels.ndim))[flips]
            step = np.zeros((4, 4))
            step[3, 3] = 1
            for new, old in enumerate(order):
                step[old, new] = signs[new]
                step[old, 3] = 0 if signs[new] > 0 else volume.voxels.shape[2 - old] - 1
            yield Volume(np.ascontiguousarray(voxels), volume.affine @ step, volume.name)


def rotation(generator: np.random.Generator) -> np.ndarray:
    matrix, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    return matrix


def turned(axis: int, degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = np.eye(3)
    first, second = (other for other in range(3) if other != axis)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def placed(linear: np.ndarray, spacing=(0.7, 1.1, 5.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = linear * spacing
    affine[:3, 3] = (3.0, -40.0, 12.5)
    return affine


ISOMETRIC = np.array([[2, -1, 2], [2, 2, -1], [-1, 2, 2]]) / 3  # every axis equally near to two anatomical ones
PLACES = {
    "straight": np.eye(3),
    "45 about S": turned(2, 45),
    "45 about R": turned(0, 45),
    "45 about A, mirrored": turned(1, 45) @ np.diag([1, 1, -1]),
    "45 twice": turned(0, 45) @ turned(2, 45),
    "isometric": ISOMETRIC,
    **{f"oblique {seed}": rotation(np.random.default_rng(seed)) for seed in range(12)},
}


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
     ([0, 65535], np.uint16, (0, 65535)), ([0.0, 0.5], np.float32, (0, 1)), ([0.0, 250.0], np.float32, (0, 255)),
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


# ---------------------------------------------------------------------------------------------------------- reading


def written(path, array, **options):
    """The array written through SimpleITK; a 4D array stays 4D unless isVector=True."""
    image = sitk.GetImageFromArray(array, isVector=options.get("isVector", False))
    if "spacing" in options:
        image.SetSpacing(options["spacing"])
        image.SetDirection(options["direction"])
        image.SetOrigin(options["origin"])
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("name", ["Größe mit Raum.nii.gz", "v.nii", "v.nrrd", "v.nhdr", "v.mha", "v.mhd"])
def test_volumes_come_with_their_place_in_ras(tmp_path, name) -> None:
    direction = turned(2, 30)
    path = written(
        tmp_path / name, LETTERS, spacing=(0.5, 2.0, 3.0), direction=direction.ravel().tolist(), origin=(1.0, 2.0, 3.0)
    )
    volume = read(path)
    np.testing.assert_array_equal(volume.voxels, LETTERS)
    assert volume.voxels.dtype == np.int16 and not volume.picture
    assert volume.name == name.split(".")[0]
    to_ras = np.diag([-1, -1, 1])
    np.testing.assert_allclose(volume.affine[:3, :3], to_ras @ direction * (0.5, 2.0, 3.0), atol=1e-5)
    np.testing.assert_allclose(volume.affine[:3, 3], (-1, -2, 3), atol=1e-5)
    np.testing.assert_allclose(volume.spacing, (0.5, 2.0, 3.0), atol=1e-5)
    with pytest.raises(ValueError, match="read-only"):
        volume.voxels[0] = 1


def test_pictures_are_one_slice(tmp_path) -> None:
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    rgb = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    rgba = np.arange(80, dtype=np.uint8).reshape(4, 5, 4)
    deep = grey.astype(np.uint16) * 3000
    for name, array, expected in (
        ("grey.png", grey, grey), ("rgb.png", rgb, rgb), ("rgba.png", rgba, rgba[..., :3]), ("deep.png", deep, deep),
        ("rgb.bmp", rgb, rgb), ("rgb.tif", rgb, rgb), ("deep.tiff", deep, deep),
    ):  # fmt: skip
        volume = read(written(tmp_path / name, array, isVector=array.ndim == 3))
        assert volume.picture
        np.testing.assert_array_equal(volume.voxels, expected[None])
        assert volume.voxels.dtype == expected.dtype
    assert read(written(tmp_path / "rgb.jpg", rgb, isVector=True)).voxels.shape == (1, 4, 5, 3)


def test_thin_and_constant_volumes_work(tmp_path) -> None:
    for shape in ((1, 3, 4), (3, 1, 4), (3, 4, 1), (1, 1, 1)):
        volume = read(written(tmp_path / "thin.nii.gz", np.full(shape, 7, np.int16)))
        window = Window.of({"mode": "percentile", "low": 0.5, "high": 99.5}, volume.voxels)
        for axis in AXES:
            assert pictures(Stack(volume, axis), window, "neighbours")[0].shape[2] == 3


def test_one_frame_of_a_4d_file_works(tmp_path) -> None:
    assert read(written(tmp_path / "v.nii.gz", LETTERS[None])).voxels.shape == (2, 3, 4)


def test_a_long_thin_picture_works_and_a_huge_one_is_refused(tmp_path) -> None:
    assert read(written(tmp_path / "long.png", np.zeros((20000, 2), np.uint8))).voxels.shape == (1, 20000, 2)
    with pytest.raises(InputError, match="20000 × 20000"):
        read(written(tmp_path / "huge.png", np.zeros((20000, 20000), np.uint8)))


def header_with(source, target, changes):
    data = bytearray(source.read_bytes())
    for form, offset, *values in changes:
        struct.pack_into(form, data, offset, *values)
    target.write_bytes(data)
    return target


def test_bad_files_are_refused_with_a_reason(tmp_path) -> None:
    good = written(tmp_path / "good.nii", np.random.default_rng(0).normal(size=(4, 5, 6)))
    nan = np.ones((2, 3, 4), np.float32)
    nan[0, 0, :2] = np.nan, np.inf
    sheared = [("<2h", 252, 0, 1), ("<12f", 280, 1, 0.5, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)]
    cut = {}
    for name in ("cut.nii.gz", "cut.nrrd", "cut.png"):
        noise = np.random.default_rng(1).integers(0, 255, (1, 40, 50)).astype(np.uint8)
        path = written(tmp_path / name, noise[0] if name == "cut.png" else noise)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        cut[name] = path
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "words.nii.gz").write_text("not an image" * 50)
    (tmp_path / "folder").mkdir()
    (tmp_path / "cut.nii").write_bytes(good.read_bytes()[:600])
    for path, reason in (
        (tmp_path / "missing.nii", "does not exist"),
        (tmp_path / "empty.nii.gz", "empty"),
        (tmp_path / "words.nii.gz", "format"),
        (tmp_path / "folder", "DICOM"),
        (written(tmp_path / "four.nii.gz", np.zeros((3, 4, 5, 6), np.int16)), "one frame"),
        (written(tmp_path / "four.nrrd", np.zeros((3, 4, 5, 6), np.int16)), "one frame"),
        (written(tmp_path / "nan.nii.gz", nan), "2 of 24 voxels"),
        (written(tmp_path / "nan.nrrd", nan), "2 of 24 voxels"),
        (written(tmp_path / "vector.nrrd", np.zeros((4, 5, 6, 3), np.float32), isVector=True), "3 values per voxel"),
        (written(tmp_path / "two.nrrd", np.zeros((4, 5, 6, 2), np.uint8), isVector=True), "2 values per voxel"),
        (header_with(good, tmp_path / "sheared.nii", sheared), "perpendicular"),
        (header_with(good, tmp_path / "none.nii", [("<3h", 42, 0, 5, 6)]), "no voxels"),
        (header_with(good, tmp_path / "vast.nii", [("<3h", 42, 2000, 2000, 2000)]), "GB"),
        (tmp_path / "cut.nii", "cut off"),
        (cut["cut.nii.gz"], "cut off"),
        (cut["cut.nrrd"], "cut off"),
        (cut["cut.png"], "cut off"),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert path.name in str(caught.value)


def test_a_cut_off_jpeg_is_refused(tmp_path) -> None:
    path = written(tmp_path / "cut.jpg", np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="cut off"):
        read(path)


def test_warnings_of_itk_are_as_before(tmp_path) -> None:
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    read(written(tmp_path / "v.nii.gz", LETTERS))
    with pytest.raises(InputError):
        read(tmp_path / "missing.nii")
    assert sitk.ProcessObject.GetGlobalWarningDisplay() == shown


def test_labels_are_whole_numbers(tmp_path) -> None:
    label = read_label(written(tmp_path / "label.nii.gz", LETTERS.astype(np.float32)))
    assert label.voxels.dtype == np.int32
    np.testing.assert_array_equal(label.voxels, LETTERS)
    grey = np.repeat(np.array([[[0], [2]]], np.uint8), 3, axis=-1)
    assert read_label(written(tmp_path / "grey.png", grey, isVector=True)).voxels.tolist() == [[[0, 2]]]
    with pytest.raises(InputError, match="whole numbers"):
        read_label(written(tmp_path / "image.nii.gz", LETTERS + 0.5))
    with pytest.raises(InputError, match="colour"):
        read_label(written(tmp_path / "rgb.png", np.arange(60, dtype=np.uint8).reshape(4, 5, 3), isVector=True))


@pytest.fixture
def series(tmp_path):
    """A written DICOM series of 5 slices, 2 mm apart, in files without suffix and not in order of position."""
    folder = tmp_path / "Bilder ü"
    folder.mkdir()
    write_series(folder, "1.2.3.1", [4.0, 0.0, 8.0, 2.0, 6.0])
    return folder


def write_series(folder, uid: str, depths: list[float], prefix: str = "IM") -> None:
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, depth in enumerate(depths):
        image = sitk.GetImageFromArray(np.full((1, 6, 7), int(depth * 10), np.int16))
        image.SetSpacing((0.5, 0.5, 2.0))
        for tag, value in (
            ("0008|0060", "MR"), ("0008|103e", "T2 sag"), ("0020|000d", "1.2.3"), ("0020|000e", uid),
            ("0008|0018", f"{uid}.{number + 1}"), ("0020|0013", str(number + 1)),
            ("0020|0032", f"1\\2\\{depth:g}"), ("0020|0037", "1\\0\\0\\0\\1\\0"),
        ):  # fmt: skip
            image.SetMetaData(tag, value)
        file = folder / f"{prefix}{number}.dcm"
        writer.SetFileName(str(file))
        writer.Execute(image)
        file.rename(folder / f"{prefix}{number}")


def test_a_dicom_folder_is_sorted_by_position(series) -> None:
    volume = read(series)
    assert volume.name == "Bilder ü"
    assert volume.voxels[:, 0, 0].tolist() == [0, 20, 40, 60, 80]
    expected = [[-0.5, 0, 0, -1], [0, -0.5, 0, -2], [0, 0, 2, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, expected, atol=1e-6)
    assert read(series.parent).voxels.shape == (5, 6, 7)  # found below as well


def test_the_largest_series_is_taken_and_named(series, caplog) -> None:
    write_series(series, "1.2.3.2", [0.0, 2.0], prefix="small")
    assert len(read(series).voxels) == 5
    assert "2 DICOM series" in caplog.text and "T2 sag" in caplog.text


def test_a_series_with_a_gap_or_twice_the_same_place_is_refused(series) -> None:
    shutil.copy(series / "IM0", series / "again")
    with pytest.raises(InputError, match="already taken"):
        read(series)
    (series / "again").unlink()
    (series / "IM0").unlink()  # the slice at 4 mm
    with pytest.raises(InputError, match="4.00 mm where 2.00 mm"):
        read(series)


def test_one_dicom_file_is_one_slice(series) -> None:
    assert read(series / "IM2").voxels.shape == (1, 6, 7)


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


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_labels_of_a_picture_with_a_palette_are_its_indices(tmp_path: Path, depth: int) -> None:
    indices = np.arange(24).reshape(3, 8) % min(2**depth, 5)
    bits = (indices[..., None] >> np.arange(depth)[::-1] & 1).reshape(3, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(bits.astype(np.uint8), axis=1))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 3, depth, 3, 0, 0, 0)), (b"PLTE", bytes(3 * 2**depth))]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path = tmp_path / "labels.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks))
    assert np.array_equal(read_label(path).voxels, indices[None])
    assert read(path).voxels.shape == (1, 3, 8, 3)
