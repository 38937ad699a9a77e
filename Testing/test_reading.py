"""Volumes, pictures, label maps and DICOM series from files, and files that are refused."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from placements import LETTERS, turned

from ProMISeCore.errors import InputError
from ProMISeCore.volumes import AXES, Stack, Window, pictures, read, read_label


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


def test_a_mask_whose_shape_is_in_its_alpha_is_refused_as_labels(tmp_path: Path) -> None:
    pixels = np.full((6, 8, 4), 255, np.uint8)
    assert (read_label(written(tmp_path / "opaque.png", pixels, isVector=True)).voxels == 255).all()
    pixels[2:4, 2:4, 3] = 0
    path = written(tmp_path / "mask.png", pixels, isVector=True)
    assert read(path).voxels.shape == (1, 6, 8, 3), "as a picture it is what it was"
    with pytest.raises(InputError, match="mask.png is transparent in places; a label map has one whole number"):
        read_label(path)
