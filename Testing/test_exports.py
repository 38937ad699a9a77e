"""What is written, read back: segmentations, label maps, markups, the contact sheet; whole files or none."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import SimpleITK as sitk

from ProMISeCore import contact_sheet as sheets
from ProMISeCore import markups
from ProMISeCore.bitmap_font import text_bitmap
from ProMISeCore.bounds import Box
from ProMISeCore.errors import InputError
from ProMISeCore.exports import Prompts, write_contact_sheet, write_labelmap, write_prompts, write_segmentation
from ProMISeCore.markups import read_prompts
from ProMISeCore.terminology import GENERIC, KNOWN
from ProMISeCore.volumes import Stack, Volume, Window, read, read_label
from ProMISeCore.whole_file import replacing

OBLIQUE = np.array([[0.6, 0.0, -1.6, 10.0], [0.8, 0.0, 1.2, -20.5], [0.0, 3.0, 0.0, 7.25], [0, 0, 0, 1]])
TARGETS = [
    {"name": "left ventricle", "color": [1.0, 0.25, 0.0], "terminology": KNOWN["left ventricle"]},
    {"name": "Größe | β", "color": [0.0, 0.5, 1.0], "terminology": ""},
]


@pytest.fixture
def volume() -> Volume:
    voxels = np.random.default_rng(0).integers(0, 200, (3, 4, 5)).astype(np.int16)
    return Volume(voxels, OBLIQUE, "scan ü")


@pytest.fixture
def masks(volume) -> dict[str, np.ndarray]:
    first, second = (np.zeros(volume.voxels.shape, bool) for _ in range(2))
    first[0:2, 1:3, 0:2] = True
    second[2, 3, 2:5] = True
    return {"left ventricle": first, "Größe | β": second}


def overlapping(masks) -> dict[str, np.ndarray]:
    both = {name: mask.copy() for name, mask in masks.items()}
    both["Größe | β"][0, 1, 0] = True
    return both


def keys_of(image: sitk.Image) -> dict[str, str]:
    return {key: image.GetMetaData(key) for key in image.GetMetaDataKeys() if key.startswith("Segment")}


def test_a_segmentation_reads_back_as_labels_in_place(tmp_path, volume, masks) -> None:
    path = tmp_path / "scan ü.seg.nrrd"
    write_segmentation(path, masks, volume, TARGETS)
    label = read_label(path)
    assert label.name == "scan ü" and label.voxels.dtype == np.uint8
    np.testing.assert_array_equal(label.voxels, masks["left ventricle"] + 2 * masks["Größe | β"])
    np.testing.assert_allclose(label.affine, OBLIQUE, atol=1e-12)


def test_the_header_has_what_slicer_reads(tmp_path, volume, masks) -> None:
    path = tmp_path / "s.seg.nrrd"
    write_segmentation(path, masks, volume, TARGETS)
    keys = keys_of(sitk.ReadImage(str(path)))
    assert keys["Segmentation_MasterRepresentation"] == "Binary labelmap"
    assert keys["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"
    assert keys["Segmentation_ReferenceImageExtentOffset"] == "0 0 0"
    assert keys["Segmentation_ConversionParameters"].startswith("Reference image geometry|0.6;0.0;-1.6;10.0;0.8;")
    assert keys["Segment0_ID"] == "Segment_1" and keys["Segment1_ID"] == "Segment_2"
    assert keys["Segment1_Name"] == "Größe | β"
    assert keys["Segment0_Color"] == "1 0.25 0"
    assert keys["Segment0_Extent"] == "0 1 1 2 0 1" and keys["Segment1_Extent"] == "2 4 3 3 2 2"
    assert (keys["Segment0_LabelValue"], keys["Segment1_LabelValue"]) == ("1", "2")
    assert keys["Segment0_Layer"] == keys["Segment1_Layer"] == "0"
    assert f"TerminologyEntry:{KNOWN['left ventricle']}|" in keys["Segment0_Tags"]
    assert f"TerminologyEntry:{GENERIC}|" in keys["Segment1_Tags"]
    assert keys["Segment0_Tags"].startswith("Segmentation.Status:inprogress|")


def test_overlapping_targets_get_layers(tmp_path, volume, masks) -> None:
    masks = overlapping(masks)
    path = tmp_path / "s.seg.nrrd"
    write_segmentation(path, masks, volume, TARGETS)
    image = sitk.ReadImage(str(path))
    layers = sitk.GetArrayFromImage(image)
    assert layers.shape == (3, 4, 5, 2)
    np.testing.assert_array_equal(layers[..., 0] == 1, masks["left ventricle"])
    np.testing.assert_array_equal(layers[..., 1] == 2, masks["Größe | β"])
    assert keys_of(image)["Segment1_Layer"] == "1"
    np.testing.assert_allclose(image.GetSpacing(), (1, 3, 2))
    np.testing.assert_allclose(image.GetOrigin(), (-10, 20.5, 7.25))


def test_empty_and_missing_masks_become_empty_segments(tmp_path, volume) -> None:
    path = tmp_path / "s.seg.nrrd"
    write_segmentation(path, {"left ventricle": np.zeros(volume.voxels.shape, bool)}, volume, TARGETS)
    image = sitk.ReadImage(str(path))
    assert image.GetSize() == (5, 4, 3) and not sitk.GetArrayFromImage(image).any()
    assert keys_of(image)["Segment0_Extent"] == keys_of(image)["Segment1_Extent"] == "0 -1 0 -1 0 -1"


def test_the_same_result_gives_the_same_file(tmp_path, volume, masks) -> None:
    for name in ("a.seg.nrrd", "b.seg.nrrd"):
        write_segmentation(tmp_path / name, masks, volume, TARGETS)
    assert (tmp_path / "a.seg.nrrd").read_bytes() == (tmp_path / "b.seg.nrrd").read_bytes()


def test_views_of_a_stack_can_be_written(tmp_path, volume, masks) -> None:
    for axis in ("axial", "sagittal", "coronal"):
        stack = Stack(volume, axis)
        joined = {name: stack.join(np.ascontiguousarray(stack.canonical(mask))) for name, mask in masks.items()}
        write_segmentation(tmp_path / "s.seg.nrrd", joined, volume, TARGETS)
        found = read_label(tmp_path / "s.seg.nrrd").voxels
        np.testing.assert_array_equal(found, masks["left ventricle"] + 2 * masks["Größe | β"])


@pytest.mark.parametrize("name", ["label.nii.gz", "label.nii", "label.nrrd", "label.mha"])
def test_label_maps_read_back_in_place(tmp_path, volume, masks, name) -> None:
    right_handed = Volume(volume.voxels, OBLIQUE @ np.diag([1, 1, -1, 1.0]), "scan")
    write_labelmap(tmp_path / name, overlapping(masks), right_handed, TARGETS)
    label = read_label(tmp_path / name)
    expected = np.where(overlapping(masks)["Größe | β"], 2, masks["left ventricle"])
    np.testing.assert_array_equal(label.voxels, expected)
    np.testing.assert_allclose(label.affine, right_handed.affine, atol=1e-4)


def test_label_maps_of_pictures_are_pictures(tmp_path) -> None:
    picture = Volume(np.zeros((1, 3, 4), np.uint8), np.eye(4), "p", picture=True)
    mask = np.arange(12).reshape(1, 3, 4) > 6
    write_labelmap(tmp_path / "label.png", {"left ventricle": mask}, picture, TARGETS[:1])
    assert sitk.ReadImage(str(tmp_path / "label.png")).GetDimension() == 2
    np.testing.assert_array_equal(read_label(tmp_path / "label.png").voxels, mask)
    with pytest.raises(InputError, match=r"3 slices"):
        write_labelmap(tmp_path / "l.png", {}, Volume(np.zeros((3, 3, 4)), np.eye(4), "v"), TARGETS)


def test_wrong_masks_are_refused(tmp_path, volume) -> None:
    with pytest.raises(InputError, match="liver"):
        write_segmentation(tmp_path / "s.seg.nrrd", {"liver": np.zeros((3, 4, 5), bool)}, volume, TARGETS)
    with pytest.raises(InputError, match=r"\(5, 4, 3\)"):
        write_labelmap(tmp_path / "s.nii.gz", {"left ventricle": np.zeros((5, 4, 3), bool)}, volume, TARGETS)
    assert not list(tmp_path.iterdir())


def test_prompts_are_lists_in_lps(tmp_path, volume, masks) -> None:
    points = np.array([[1.0, 2.0, 3.0], [-4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    prompts = {"left ventricle": Prompts(points, np.array([1, 0, 1]), np.array([False, False, True]))}
    path = tmp_path / "s.prompts.mrk.json"
    write_prompts(path, prompts, volume, masks | {"Größe | β": np.zeros((3, 4, 5), bool)}, TARGETS)
    content = json.loads(path.read_text("utf-8"))
    assert "markups-schema-v1.0.3.json" in content["@schema"]
    found = {markup["name"]: markup for markup in content["markups"]}
    assert list(found) == [
        "left ventricle positive", "left ventricle negative", "left ventricle ROI",
        "Größe | β positive", "Größe | β negative",
    ]  # fmt: skip
    positive = found["left ventricle positive"]
    assert positive["type"] == "Fiducial" and positive["coordinateSystem"] == "LPS"
    assert [point["position"] for point in positive["controlPoints"]] == [[-1.0, -2.0, 3.0], [-7.0, -8.0, 9.0]]
    assert [point["description"] for point in positive["controlPoints"]] == ["auto", "user"]
    assert found["left ventricle negative"]["controlPoints"][0]["position"] == [4.0, -5.0, 6.0]
    assert found["Größe | β positive"]["controlPoints"] == []
    assert positive["display"]["selectedColor"] == TARGETS[0]["color"]


def test_the_roi_holds_exactly_the_masks_voxels(tmp_path, volume, masks) -> None:
    path = tmp_path / "s.mrk.json"
    write_prompts(path, {}, volume, masks, TARGETS)
    roi = next(markup for markup in json.loads(path.read_text("utf-8"))["markups"] if markup["type"] == "ROI")
    to_ras = np.diag([-1, -1, 1])
    axes = to_ras @ np.reshape(roi["orientation"], (3, 3))
    assert np.linalg.det(axes) == pytest.approx(1)
    for k, j, i in itertools.product(range(3), range(4), range(5)):
        ras = OBLIQUE[:3, :3] @ [i, j, k] + OBLIQUE[:3, 3]
        inside = np.abs(axes.T @ (ras - to_ras @ roi["center"])) <= np.array(roi["size"]) / 2
        assert inside.all() == masks["left ventricle"][k, j, i]


def test_uneven_prompts_are_refused(tmp_path, volume) -> None:
    with pytest.raises(InputError, match="2 points, 1 labels"):
        write_prompts(tmp_path / "s.mrk.json", {"left ventricle": (np.zeros((2, 3)), [1])}, volume, {}, TARGETS)
    with pytest.raises(InputError, match="finite"):
        write_prompts(tmp_path / "s.mrk.json", {"left ventricle": ([[0, np.nan, 0]], [1])}, volume, {}, TARGETS)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------------- contact sheet


@pytest.fixture
def tall() -> Volume:
    """40 slices of 30 × 20 voxels, 1 × 2 mm; axial as stored."""
    return Volume(np.full((40, 30, 20), 100, np.int16), np.diag([-1.0, -2.0, 3.0, 1.0]), "scan ü")


def block(volume: Volume, slices: slice) -> dict[str, np.ndarray]:
    mask = np.zeros(volume.voxels.shape, bool)
    mask[slices, 10:20, 5:15] = True
    return {"left ventricle": mask}


GREY = Window(0, 255)


def test_a_sheet_shows_at_most_24_slices_with_content(tall) -> None:
    stack = Stack(tall, "axial")
    for slices, expected in ((slice(4, 9), [4, 5, 6, 7, 8]), (slice(0, 40), 24), (slice(0, 0), 24)):
        layers = [sheets._layer(stack, TARGETS[0], block(tall, slices), {})]
        chosen = sheets._chosen(stack, layers)
        assert chosen == sorted(set(chosen))
        assert chosen == expected if isinstance(expected, list) else len(chosen) == expected
    assert chosen[0] == 0 and chosen[-1] == 39


def test_a_tile_keeps_the_physical_aspect(tall) -> None:
    stack = Stack(tall, "axial")
    view = sheets._view(stack, [sheets._layer(stack, TARGETS[0], block(tall, slice(4, 5)), {})], 300)
    tall_mm, wide_mm = (view.bottom - view.top) * 2.0, (view.right - view.left) * 1.0
    assert view.height / view.width == pytest.approx(tall_mm / wide_mm, rel=0.02)
    assert max(view.height, view.width) == 300


def test_outlines_and_points_have_the_targets_colour(tall) -> None:
    stack = Stack(tall, "axial")
    masks = block(tall, slice(4, 5))
    color = np.array([255, 64, 0])
    plain = sheets.contact_sheet(stack, GREY, masks, TARGETS[:1])
    outline = (plain == color).all(axis=-1)
    legend = outline[:60].sum()
    assert outline[60:].sum() > 4 * 60  # a rectangle's rim, not its area
    assert (plain[60:] == 100).all(axis=-1).sum() > 10 * outline[60:].sum()
    point = stack.rc_to_ras(4, [[14.0, 9.0]])
    marked = {
        label: sheets.contact_sheet(stack, GREY, masks, TARGETS[:1], {"left ventricle": (point, np.array([label]))})
        for label in (0, 1)
    }
    assert legend > 0
    assert not np.array_equal(marked[0], marked[1])  # a cross is not a circle
    for sheet in marked.values():
        assert (sheet == color).all(axis=-1).sum() > outline.sum() + 10


def test_outlines_of_large_tiles_are_two_pixels_wide_with_a_dark_rim() -> None:
    mask = np.zeros((400, 300), bool)
    mask[100:110, 50:60] = True
    tile = np.full((400, 300, 3), 100, np.uint8)
    sheets._draw_outlines(tile, [(mask, (255, 64, 0))])
    assert tile[105, 48:54, 0].tolist() == [100, 0, 255, 255, 100, 100] and (tile[99, 50:60] == 0).all()
    small = np.full((200, 300, 3), 100, np.uint8)
    sheets._draw_outlines(small, [(mask[:200], (255, 64, 0))])
    assert small[105, 48:54, 0].tolist() == [100, 100, 255, 100, 100, 100]
    beside, tile = np.roll(mask, 10, axis=1), np.full((400, 300, 3), 100, np.uint8)
    sheets._draw_outlines(tile, [(mask, (255, 64, 0)), (beside, (200, 64, 0))])
    assert tile[105, 57:63, 0].tolist() == [100, 255, 255, 200, 200, 100], "no rim over another outline"


def test_points_of_other_slices_and_outside_are_left_out(tall) -> None:
    stack = Stack(tall, "axial")
    masks = block(tall, slice(4, 5))
    points = np.vstack([stack.rc_to_ras(7, [[14.0, 9.0]]), stack.rc_to_ras(4, [[1e4, -1e4]])])
    far = {"left ventricle": (points, [1, 1])}
    stack_tile = sheets._view(stack, [sheets._layer(stack, TARGETS[0], masks, {})], 300)
    layers = [[sheets._layer(stack, TARGETS[0], masks, prompts)] for prompts in ({}, far)]
    tiles = [sheets._tile(stack, GREY, layer, 4, stack_tile) for layer in layers]
    np.testing.assert_array_equal(*tiles)


def test_amounts_are_in_ml_or_percent(tall) -> None:
    stack = Stack(tall, "coronal")
    layer = sheets._layer(stack, TARGETS[0], block(tall, slice(0, 10)), {})
    assert sheets._amount(stack, layer) == "6.0 ml"  # 1000 voxels of 1 × 2 × 3 mm
    picture = Volume(np.zeros((1, 10, 10, 3), np.uint8), np.eye(4), "p", picture=True)
    mask = np.zeros((1, 10, 10), bool)
    mask[0, :5, :5] = True
    layer = sheets._layer(Stack(picture, "image"), TARGETS[0], {"left ventricle": mask}, {})
    assert sheets._amount(Stack(picture, "image"), layer) == "25.0 %"


@pytest.mark.parametrize("shape", [(1, 8, 9, 3), (1, 1, 1), (3, 1, 40), (2, 300, 4)])
def test_odd_volumes_make_a_sheet(tmp_path, shape) -> None:
    volume = Volume(np.full(shape, 7, np.uint8), np.eye(4), "x", picture=len(shape) == 4)
    masks = {"left ventricle": np.ones(shape[:3], bool)}
    for axis in ("axial", "sagittal", "image"):
        write_contact_sheet(tmp_path / "s.png", Stack(volume, axis), Window(7, 7), masks, TARGETS)
        assert read(tmp_path / "s.png").voxels.shape[3] == 3


def test_text_is_readable_and_never_fails() -> None:
    assert text_bitmap("I").astype(int).tolist() == [
        [0, 1, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0],
    ]  # fmt: skip
    np.testing.assert_array_equal(text_bitmap("ü"), text_bitmap("U"))
    np.testing.assert_array_equal(text_bitmap("心"), text_bitmap("?"))
    assert text_bitmap("", 2).shape[0] == 14


# ------------------------------------------------------------------------------------------------------ whole files


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError, match="a.nii.gz cannot be written: No space left"), replacing(path):
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_an_unwritable_folder_is_named(tmp_path, volume, masks) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_segmentation(tmp_path / "file" / "s.seg.nrrd", masks, volume, TARGETS)


def test_the_volume_is_not_altered(tmp_path, volume, masks) -> None:
    before = volume.voxels.tobytes()
    volume.voxels.flags.writeable = False
    write_segmentation(tmp_path / "s.seg.nrrd", masks, volume, TARGETS)
    write_labelmap(tmp_path / "s.nii.gz", masks, volume, TARGETS)
    write_contact_sheet(tmp_path / "s.png", Stack(volume, "axial"), GREY, masks, TARGETS)
    assert volume.voxels.tobytes() == before


@pytest.mark.parametrize("mirrored", [False, True])
def test_what_a_person_placed_is_read_back(tmp_path, volume, masks, mirrored) -> None:
    points = np.array([[1.0, 2.0, 3.0], [-4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    axes = OBLIQUE[:3, :3] / np.linalg.norm(OBLIQUE[:3, :3], axis=0) * [1, 1, -1 if mirrored else 1]
    box = Box(np.array([10.0, -20.0, 30.0]), axes, np.array([4.0, 5.0, 6.0]))
    prompts = {
        "left ventricle": Prompts(points, np.array([0, 1, 1]), np.array([True, False, True]), box),
        "Größe | β": Prompts(points[:1], np.array([1]), np.array([False])),
    }
    write_prompts(tmp_path / "s.mrk.json", prompts, volume, masks, TARGETS)
    names = [target["name"] for target in TARGETS]
    found = read_prompts(tmp_path / "s.mrk.json", names)
    assert list(found) == ["left ventricle"], "automatic points and boxes are no person's"
    read = found["left ventricle"]
    assert read.points_ras.tolist() == [[7.0, 8.0, 9.0], [1.0, 2.0, 3.0]] and read.labels.tolist() == [1, 0]
    assert read.box.center_ras.tolist() == [10, -20, 30] and read.box.size_mm.tolist() == [4, 5, 6]
    np.testing.assert_allclose(np.abs(axes.T @ read.box.axes_ras), np.eye(3), atol=1e-12)
    with pytest.raises(InputError, match="of yours for Größe"):
        read_prompts(tmp_path / "s.mrk.json", names[1:])


def test_places_in_a_file_of_ras_are_taken_as_they_are(tmp_path) -> None:
    points = [{"description": "user", "position": [1, 2, 3]}]
    lists = [{"type": "Fiducial", "name": "a positive", "coordinateSystem": "RAS", "controlPoints": points}]
    (tmp_path / "a.mrk.json").write_text(json.dumps({"markups": lists}))
    assert read_prompts(tmp_path / "a.mrk.json", ["a"])["a"].points_ras.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"markups": 3}',
        '{"markups": [{"type": "Fiducial"}]}',
        '{"markups": [{"type": "Fiducial", "name": "left ventricle positive", "controlPoints": '
        '[{"description": "user", "position": [1, NaN, 2]}]}]}',
        '{"markups": [{"type": "ROI", "name": "left ventricle ROI", "center": [0, 0], "orientation": [], "size": [], '
        '"controlPoints": [{"description": "user"}]}]}',
    ],
)
def test_other_files_are_no_prompts(tmp_path, text) -> None:
    path = tmp_path / "s.mrk.json"
    path.write_text(text)
    with pytest.raises(InputError, match="no file of control points"):
        read_prompts(path, ["left ventricle"])


def test_too_large_a_file_and_too_many_points_are_refused(tmp_path, monkeypatch) -> None:
    path = tmp_path / "s.mrk.json"
    points = [{"description": "user", "position": [1, 2, 3]}] * 3
    lists = [{"type": "Fiducial", "name": "left ventricle positive", "controlPoints": points}]
    path.write_text(json.dumps({"markups": lists}))
    assert len(read_prompts(path, ["left ventricle"])["left ventricle"].labels) == 3
    monkeypatch.setattr(markups, "_MOST_POINTS", 2)
    with pytest.raises(InputError, match="3 control points; at most 2"):
        read_prompts(path, ["left ventricle"])
    monkeypatch.setattr(markups, "_MOST_BYTES", 10)
    with pytest.raises(InputError, match="too large"):
        read_prompts(path, ["left ventricle"])
