"""Images find their label maps by name, in one folder or two, and those without are named."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from ProMISeCore import exports, pairs
from ProMISeCore.detached import voxel_files
from ProMISeCore.errors import InputError
from ProMISeCore.volumes import Volume


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def names(found: list[pairs.Pair]) -> list[tuple[str, str, str]]:
    return [(pair.name, pair.image.name, pair.label.name) for pair in found]


def test_volumes_in_one_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a_image.nii.gz", "a_label.nii.gz", "b_image.nii.gz", "b_label.nii.gz", "notes.txt", ".hidden.png")
    assert names(pairs.find([str(tmp_path)])) == [
        ("a", "a_image.nii.gz", "a_label.nii.gz"),
        ("b", "b_image.nii.gz", "b_label.nii.gz"),
    ]


def test_what_promise_segment_writes_beside_an_image_is_its_label_map_and_no_other_image(tmp_path: Path) -> None:
    touch(tmp_path, "a.nrrd", "a.seg.nrrd", "a.sheet.png", "b_image.nii.gz", "b_image_seg.nii.gz", "b_image.sheet.png")
    assert pairs.sort_out([str(tmp_path)]) == pairs.Sorted(
        [
            pairs.Pair("a", tmp_path / "a.nrrd", tmp_path / "a.seg.nrrd"),
            pairs.Pair("b", tmp_path / "b_image.nii.gz", tmp_path / "b_image_seg.nii.gz"),
        ],
        [],
        [],
    )


def test_a_picture_with_its_segmentation_is_no_label_map(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "b.seg.nrrd", "b.sheet.png", "c.png", "c_seg.nii.gz")
    found = pairs.sort_out([str(tmp_path)])
    assert names(found.pairs) == [("b", "b.png", "b.seg.nrrd"), ("c", "c.png", "c_seg.nii.gz")]
    assert [path.name for path in found.unlabelled] == ["a.png"] and found.strays == []


def test_what_somebody_has_made_comes_before_what_a_pack_has_found(tmp_path: Path) -> None:
    mask = np.ones((2, 3, 4), bool)
    written = Volume(mask.astype(np.int16), np.eye(4), "a")
    touch(tmp_path, "a.nii.gz", "a_label.nii.gz", "b.nii.gz")
    for name, ending, write in (
        ("a", ".seg.nrrd", exports.write_segmentation),
        ("b", ".seg.nrrd", exports.write_segmentation),
        ("b", "_seg.nii.gz", exports.write_labelmap),
    ):
        write(tmp_path / f"{name}{ending}", {"x": mask}, written, [{"name": "x"}], automatic=True)
    found = pairs.sort_out([str(tmp_path)])
    assert names(found.pairs) == [("a", "a.nii.gz", "a_label.nii.gz"), ("b", "b.nii.gz", "b.seg.nrrd")]
    assert found.unlabelled == found.strays == []


def test_label_maps_of_no_image_are_strays(tmp_path: Path) -> None:
    touch(tmp_path, "a.nrrd", "a.seg.nrrd", "p2.nrrd", "p02-label.nrrd")
    found = pairs.sort_out([str(tmp_path)])
    assert [path.name for path in found.unlabelled + found.strays] == ["p2.nrrd", "p02-label.nrrd"]


def test_pictures_in_one_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png", "b.JPG", "b.png")
    assert names(pairs.find([str(tmp_path)])) == [("a", "a.jpg", "a.png"), ("b", "b.JPG", "b.png")]


def test_two_folders(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "a.png", "b.png")
    labels = touch(tmp_path / "labels", "a.png", "b_mask.png", "c.png")
    assert names(pairs.find([str(images)], [str(labels)])) == [("a", "a.png", "a.png"), ("b", "b.png", "b_mask.png")]


def test_patterns_and_files(tmp_path: Path) -> None:
    touch(tmp_path, "a_image.nii.gz", "a_label.nii.gz", "b_image.nii.gz", "b_label.nii.gz")
    found = pairs.find([f"{tmp_path}/*_image.nii.gz"], [f"{tmp_path}/*_label.nii.gz"])
    assert [pair.name for pair in found] == ["a", "b"]
    found = pairs.find([f"{tmp_path}/a_image.nii.gz"], [f"{tmp_path}/a_label.nii.gz"])
    assert [pair.name for pair in found] == ["a"]


def test_one_folder_named_twice(tmp_path: Path) -> None:
    touch(tmp_path, "a_image.nii.gz", "a_label.nii.gz")
    assert len(pairs.find([str(tmp_path)], [str(tmp_path)])) == 1
    pictures = touch(tmp_path / "pictures", "a.jpg", "a.png")
    assert names(pairs.find([str(pictures)], [str(pictures)])) == [("a", "a.jpg", "a.png")]


def test_folders_with_the_same_names(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir(), (tmp_path / "two").mkdir()
    folders = [touch(tmp_path / name / "val", "a.jpg", "a.png") for name in ("one", "two")]
    found = pairs.find([str(folder) for folder in folders])
    assert [(pair.name, pair.label) for pair in found] == [
        ("one/val/a", folders[0] / "a.png"),
        ("two/val/a", folders[1] / "a.png"),
    ]
    images = touch(tmp_path / "images", "a.jpg")
    with pytest.raises(InputError, match="could both be for"):
        pairs.find([str(images)], [str(folder) for folder in folders])


def test_an_image_without_label_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a_image.nii.gz", "a_label.nii.gz", "b_image.nii.gz")
    with pytest.raises(InputError, match=r"1 of 2 images.*b_image\.nii\.gz"):
        pairs.find([str(tmp_path)])


def test_two_labels_of_one_case_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a_image.nii.gz", "a_label.nii.gz", "a_mask.nii.gz")
    with pytest.raises(InputError, match="both label maps of 'a'"):
        pairs.find([str(tmp_path)])


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        pairs.find([str(tmp_path)])
    with pytest.raises(InputError, match="does not exist"):
        pairs.find([str(tmp_path / "typo")])


def test_the_label_of_another_folders_image_is_not_taken(tmp_path: Path) -> None:
    monday, tuesday = touch(tmp_path / "mon", "img0.jpg"), touch(tmp_path / "tue", "img0.jpg", "img0.png")
    found, rest, _ = pairs.sort_out([str(monday), str(tuesday)])
    assert [(pair.name, pair.image, pair.label) for pair in found] == [
        ("tue/img0", tuesday / "img0.jpg", tuesday / "img0.png")
    ]
    assert rest == [monday / "img0.jpg"]


def test_two_images_of_one_label_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "p1.nii.gz", "p1.nrrd", "p1-label.nrrd")
    with pytest.raises(InputError, match="both images of"):
        pairs.find([str(tmp_path)])


def test_a_picture_of_a_volume_is_not_its_twin(tmp_path: Path) -> None:
    touch(tmp_path, "X.nrrd", "X.jpg", "X.seg.nrrd")
    found, rest, _ = pairs.sort_out([str(tmp_path)])
    assert names(found) == [("X", "X.nrrd", "X.seg.nrrd")] and rest == [tmp_path / "X.jpg"]


def test_two_contrasts_may_share_labels_that_are_given(tmp_path: Path) -> None:
    places = [str(touch(tmp_path / name, "a.nii.gz")) for name in ("T1", "T2", "labels")]
    found = pairs.find(places[:2], places[2:])
    assert [(pair.name, pair.label.parent.name) for pair in found] == [("T1/a", "labels"), ("T2/a", "labels")]


@pytest.mark.parametrize(("image", "label"), [
    ("MRHead.nrrd", "Segmentation.seg.nrrd"), ("image.nii.gz", "mask.nii.gz"), ("photo.jpg", "mask.png"),
])  # fmt: skip
def test_what_is_alone_in_its_folder_belongs_together_whatever_it_is_called(tmp_path: Path, image, label) -> None:
    for patient in ("p1", "p2"):
        touch(tmp_path / patient, image, label)
    found, rest, _ = pairs.sort_out([str(tmp_path / "*" / "*")])
    assert [(pair.image, pair.label) for pair in found] == [
        (tmp_path / patient / image, tmp_path / patient / label) for patient in ("p1", "p2")
    ]
    assert not rest
    touch(tmp_path / "p1", "T2.nrrd")
    found, rest, _ = pairs.sort_out([str(tmp_path / "p1" / image), str(tmp_path / "p1" / label)])
    assert not found and [path.name for path in rest] == [image], "whose it is, is not known"


def test_what_is_alone_in_its_folder_is_no_other_patients(tmp_path: Path) -> None:
    touch(tmp_path / "p1", "MRHead.nrrd", "Segmentation.seg.nrrd")
    for patient in ("p2", "p3"):
        touch(tmp_path / patient, "T1.nrrd", "MRHead.seg.nrrd")
    found, rest, _ = pairs.sort_out([str(tmp_path / "*" / "*")])
    assert [pair.image.parent for pair in found] == [tmp_path / patient for patient in ("p1", "p2", "p3")]
    assert all(pair.image.parent == pair.label.parent for pair in found) and not rest


def test_one_image_and_one_label_map_that_are_given_belong_together(tmp_path: Path) -> None:
    touch(tmp_path, "MRHead.nrrd", "T2.nrrd", "Segmentation.seg.nrrd")
    found = pairs.find([str(tmp_path / "MRHead.nrrd")], [str(tmp_path / "Segmentation.seg.nrrd")])
    assert names(found) == [("MRHead", "MRHead.nrrd", "Segmentation.seg.nrrd")]
    a, b = touch(tmp_path / "a", "c0.nrrd"), touch(tmp_path / "b", "c1.seg.nrrd")
    with pytest.raises(InputError, match="no label map of the same name"):  # of folders the names count
        pairs.find([str(a)], [str(b)])


def test_umlauts_may_be_written_in_two_ways(tmp_path: Path) -> None:
    touch(tmp_path, "Mu\u0308ller.nrrd", "M\u00fcller.seg.nrrd", "Mo\u0308hn.jpg", "M\u00f6hn.png")
    assert sorted(pair.name for pair in pairs.find([str(tmp_path)])) == ["M\u00f6hn", "M\u00fcller"]


def test_where_there_is_no_image_it_is_said_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "study" / "p1").mkdir(parents=True)
    touch(tmp_path / "study" / "p1" / "mr", "a.nrrd")
    study = tmp_path / "study"
    for given, instead in ((study, study / "*" / "*" / "*"), (study / "*", study / "*" / "*" / "*")):
        with pytest.raises(InputError, match="folders in it are not looked into") as caught:
            pairs.find([str(given)])
        assert f"give '{instead}', in quotes" in str(caught.value)
    scan = touch(tmp_path / "scan", "IM0001")
    (scan / "IM0001").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "study" / "p1" / "mr" / "a.nrrd").unlink()
    for given in (scan, tmp_path):
        with pytest.raises(InputError, match="for DICOM, save image and segmentation as NRRD in 3D Slicer"):
            pairs.find([str(given)])


def test_one_case_is_not_two_where_labels_lie_elsewhere(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "a.nii.gz", "a.nrrd", "b.nrrd", "b.png")
    labels = touch(tmp_path / "labels", "a.nrrd", "b.nrrd")
    with pytest.raises(InputError, match=r"a.nii.gz and .*a.nrrd are both images of .*a.nrrd; keep one"):
        pairs.find([str(images)], [str(labels)])
    (images / "a.nii.gz").unlink()
    found, rest, _ = pairs.sort_out([str(images)], [str(labels)])
    assert [(pair.image.name, pair.label.name) for pair in found] == [("a.nrrd", "a.nrrd"), ("b.nrrd", "b.nrrd")]
    assert [path.name for path in rest] == ["b.png"]


def test_names_have_folders_where_several_are_called_the_same(tmp_path: Path) -> None:
    files = [tmp_path / place for place in ("1/scan.nrrd", "2/inner/scan.nrrd", "2/other.nrrd")]
    assert pairs.distinct(files, ["scan", "scan", "other"]) == ["1/scan", "2/inner/scan", "other"]
    assert pairs.distinct(files[1:], ["scan", "other"]) == ["scan", "other"]
    assert pairs.distinct([Path("/one/a.nrrd"), Path("/other/b/a.nrrd")], ["a", "a"]) == ["one/a", "other/b/a"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not UTF-8")
def test_a_name_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"K\xf6ln.nrrd")).write_bytes(b"")
    with pytest.raises(InputError, match=r"K\\udcf6ln.nrrd' holds letters that are not UTF-8; rename"):
        pairs.find([str(tmp_path)])


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.mhd", "NDims = 3\nElementDataFile = a.raw\n"),
        ("a.mhd", "NDims = 3\nElementDataFile = LIST\nb.raw\na.raw\n"),
        ("a.mhd", "NDims = 3\nElementDataFile = %01d.raw 1 2 1\n"),
        ("a.nrrd", "NRRD0004\nencoding: raw\ndata file: a.raw\n"),
        ("a.nrrd", "NRRD0004\ndatafile: a.raw\r\n"),
    ],
)
def test_voxels_in_a_file_of_their_own_count(tmp_path: Path, name: str, header: str) -> None:
    for raw in ("a.raw", "b.raw", "1.raw", "2.raw"):
        (tmp_path / raw).write_bytes(b"one")
    (tmp_path / name).write_text(header, newline="")
    before = pairs.content(tmp_path / name)
    assert pairs.content(tmp_path / name) == before
    (tmp_path / ("2.raw" if "%" in header else "a.raw")).write_bytes(b"two")
    assert pairs.content(tmp_path / name) != before


@pytest.mark.parametrize(
    "header", ["ElementDataFile = LOCAL\n\x00ElementDataFile = a.raw", "ElementDataFile = gone.raw"]
)
def test_voxels_that_lie_nowhere_else_do_not(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.raw").write_bytes(b"one")
    (tmp_path / "a.mhd").write_text(header)
    assert voxel_files(tmp_path / "a.mhd") == []
    (tmp_path / "b.nrrd").write_text("NRRD0004\nencoding: raw\n\ndata file: a.raw\n")
    assert voxel_files(tmp_path / "b.nrrd") == []


def test_names_of_their_own_stay_beside_some_that_several_have(tmp_path: Path) -> None:
    files = [tmp_path / place for place in ("p 1/scan.nrrd", "p 2/scan.nrrd", "teach/case-a.nrrd")]
    assert pairs.distinct(files, ["scan", "scan", "case-a"]) == ["p 1/scan", "p 2/scan", "case-a"]
