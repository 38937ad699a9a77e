"""Cases as files for a child process: the same voxels, the same place; and what nobody has looked at is unknown."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from desks import GEOMETRIES, addVolume

VALUES = {"bar": 100, "rod": 200}


def segmentationOf(volume):
    import slicer
    from ProMISeSlicerLib import mrml

    node, voxels = mrml.createSegmentation(volume, "segmentation"), slicer.util.arrayFromVolume(volume)
    for name, value in VALUES.items():
        id_ = node.GetSegmentation().AddEmptySegment("", name, [1, 0, 0])
        slicer.util.updateSegmentBinaryLabelmapFromArray((voxels == value).astype(np.uint8), node, id_, volume)
    return node


def exported(folder: Path, *chosen, targets=("bar", "rod")) -> list:
    from ProMISeSlicerLib.exporting import Exporter

    return list(Exporter(folder).write(chosen, targets))


def known(files, *targets: str) -> np.ndarray:
    """What the core reads of a case: (T, K, J, I), 255 unknown."""
    from ProMISeCore import truth, volumes

    image, labels = files
    return truth.read(volumes.read(image), labels, dict.fromkeys(targets), "auto")


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_files_hold_the_voxels_and_the_segments(scene, tmp_path: Path, geometry: str) -> None:
    import slicer
    from ProMISeSlicerLib import mrml
    from ProMISeSlicerLib.cases import Case

    from ProMISeCore import volumes

    node = addVolume(geometry)
    (made,) = exported(tmp_path, Case(node, segmentationOf(node)))
    voxels, volume = slicer.util.arrayFromVolume(node), volumes.read(made.files[0])
    assert np.array_equal(volume.voxels, voxels)
    if geometry == "sheared":  # the nearest perpendicular axes, as files cannot say more; the slices are the same ones
        cosines = volume.affine[:3, :3] / volume.spacing
        assert np.allclose(cosines.T @ cosines, np.eye(3))
        mine, theirs = (
            volumes.Stack(volumes.Volume(voxels, affine, ""), "axial")
            for affine in (mrml.affineOf(node), volume.affine)
        )
        assert np.array_equal(mine.canonical(voxels), theirs.canonical(voxels))
    else:
        assert np.allclose(volume.affine, mrml.affineOf(node))
    for one, value in zip(known(made.files, *VALUES), VALUES.values(), strict=True):
        assert np.array_equal(one == 1, voxels == value)


def test_a_segmentation_on_a_coarser_grid_lands_where_it_lies(scene, tmp_path: Path) -> None:
    """A segment of every second voxel along I, shown on the volume's own grid: each covers two."""
    import slicer
    from ProMISeSlicerLib import mrml
    from ProMISeSlicerLib.cases import Case

    volume = addVolume()
    affine = mrml.ijkToRas(volume) @ np.diag([2.0, 1, 1, 1])
    affine[:3, 3] += mrml.ijkToRas(volume)[:3, 0] / 2  # the first coarse voxel covers 0 and 1
    coarse = slicer.util.addVolumeFromArray(np.zeros((10, 32, 20), np.int16), affine, "coarse")
    node = mrml.createSegmentation(coarse, "segmentation")
    mask = np.zeros((10, 32, 20), np.uint8)
    mask[4, 10, 6] = 1
    id_ = node.GetSegmentation().AddEmptySegment("", "bar", [1, 0, 0])
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, id_, coarse)
    (made,) = exported(tmp_path, Case(volume, node), targets=["bar"])
    assert np.argwhere(known(made.files, "bar")[0] == 1).tolist() == [[4, 10, 12], [4, 10, 13]]


def test_several_segments_of_one_name_are_one_target(scene, tmp_path: Path) -> None:
    import slicer
    from ProMISeSlicerLib.cases import Case

    volume = addVolume()
    node = segmentationOf(volume)
    for id_ in node.GetSegmentation().GetSegmentIDs():
        node.GetSegmentation().GetSegment(id_).SetName("lesion")
    (made,) = exported(tmp_path, Case(volume, node), targets=["lesion"])
    assert np.array_equal(known(made.files, "lesion")[0] == 1, slicer.util.arrayFromVolume(volume) > 0)


def test_nothing_in_the_scene_changes(scene, tmp_path: Path) -> None:
    from ProMISeSlicerLib.cases import Case

    volume = addVolume()
    node = segmentationOf(volume)
    nodes, events = scene.GetNumberOfNodes(), []
    watched = [volume, node, node.GetSegmentation()]
    tags = [(each, each.AddObserver("AnyEvent", lambda caller, event: events.append(event))) for each in watched]
    exported(tmp_path, Case(volume, node))
    for each, tag in tags:
        each.RemoveObserver(tag)
    assert scene.GetNumberOfNodes() == nodes
    assert [event for event in events if event != "AnyEvent"] == []


def test_only_what_has_changed_is_written_beside_what_was(scene, tmp_path: Path) -> None:
    """A teaching that was stopped goes on with the labels as they were."""
    import slicer
    from ProMISeSlicerLib.cases import Case

    volume = addVolume()
    node = segmentationOf(volume)
    case = Case(volume, node)
    (made,) = exported(tmp_path, case)
    before = [(file.stat().st_mtime_ns, file.read_bytes()) for file in made.files]
    assert exported(tmp_path, case) == [made]
    assert [(file.stat().st_mtime_ns, file.read_bytes()) for file in made.files] == before
    empty = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    first = node.GetSegmentation().GetNthSegmentID(0)
    slicer.util.updateSegmentBinaryLabelmapFromArray(empty, node, first, volume)
    (again,) = exported(tmp_path, case)
    assert again.files[0] == made.files[0] and again.files[1] != made.files[1]
    assert [(file.stat().st_mtime_ns, file.read_bytes()) for file in made.files] == before
    assert not (known(again.files, "bar")[0] == 1).any() and (known(made.files, "bar")[0] == 1).any()


def test_what_nobody_needs_is_removed(scene, tmp_path: Path) -> None:
    """Also files of earlier versions; a folder that was moved meanwhile is told by its last two names."""
    from ProMISeSlicerLib.cases import Case
    from ProMISeSlicerLib.exporting import Exporter

    volume = addVolume()
    case = Case(volume, segmentationOf(volume))
    (both,), (bar,) = exported(tmp_path, case), exported(tmp_path, case, targets=["bar"])
    (tmp_path / "case-1.seg.nrrd.written").write_text("as earlier versions had it")
    Exporter(tmp_path).keepOnly([f"/elsewhere/{tmp_path.name}/{file.relative_to(tmp_path)}" for file in bar.files])
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(bar.files)
    assert not both.files[1].parent.exists()
    Exporter(tmp_path).keepOnly([])
    assert not tmp_path.exists()


def test_of_a_session_only_the_users_slices_are_known(desk, tmp_path: Path) -> None:
    """Slice 2 is locked, 5 corrected for `bar` alone, 7 edited by hand for `rod`: nothing else is known, per target."""
    import slicer
    from ProMISeSlicerLib import cases

    made = desk()
    session = made.session
    session.lock(2)
    session.addPoint("bar", made.world(5, 16, 13), True)
    made.settle()
    rod = session.segments.read(session.segmentId("rod"), 7)
    rod[0, 0] = True
    session.segments.write(session.segmentId("rod"), 7, rod)
    case = cases.proposed(session.volumeNode, session.segmentationNode)
    assert case.slices == cases.MINE
    masks = made.everything()
    bar, rod = known(exported(tmp_path, case)[0].files, "bar", "rod")
    grid = session.grid
    for found, name, mine in ((bar, "bar", {2, 5}), (rod, "rod", {2, 7})):
        slices = grid.fromBlock(found)
        assert {n for n in range(len(slices)) if (slices[n] != 255).any()} == mine
        for n in mine:
            assert np.array_equal(slices[n] == 1, masks[name][n]) and not (slices[n] == 255).any()
    case.chosen = cases.AS_SEGMENTED
    assert not (known(exported(tmp_path, case)[0].files, "bar", "rod") == 255).any()
    assert slicer.mrmlScene.IsNodePresent(session.segmentationNode)


def test_a_result_that_nobody_has_touched_says_what_to_do(desk, tmp_path: Path) -> None:
    from ProMISeSlicerLib import cases

    session = desk().session
    case = cases.proposed(session.volumeNode, session.segmentationNode)
    (made,) = exported(tmp_path, case)
    assert made.files == () and "no slice of" in made.problem and "let all of them count" in made.problem
    case.chosen = cases.AS_SEGMENTED
    assert exported(tmp_path, case)[0].problem == ""


def test_a_colour_picture_becomes_a_picture(scene, tmp_path: Path) -> None:
    import slicer
    from ProMISeSlicerLib import mrml
    from ProMISeSlicerLib.cases import Case

    from ProMISeCore import volumes

    voxels = np.random.default_rng(0).integers(0, 255, (1, 20, 30, 3)).astype(np.uint8)
    node = slicer.util.addVolumeFromArray(voxels, name="polyp", nodeClassName="vtkMRMLVectorVolumeNode")
    seg = mrml.createSegmentation(node, "segmentation")
    mask = np.zeros((1, 20, 30), np.uint8)
    mask[0, 3:9, 4:12] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        mask, seg, seg.GetSegmentation().AddEmptySegment("", "polyp", [1, 0, 0]), node
    )
    (made,) = exported(tmp_path, Case(node, seg), targets=["polyp"])
    read = volumes.read(made.files[0])
    assert read.picture and np.array_equal(read.voxels, voxels)
    assert np.array_equal(known(made.files, "polyp")[0] == 1, mask == 1)


def pictured(dtype: str, low: float, high: float, depth: int = 1):
    """A coloured ramp from low to high."""
    import slicer

    ramp = np.linspace(low, high, depth * 20 * 30 * 3).reshape(depth, 20, 30, 3).astype(dtype)
    return slicer.util.addVolumeFromArray(ramp, name="polyp", nodeClassName="vtkMRMLVectorVolumeNode")


def seen(volume) -> np.ndarray:
    """Its first slice, as a pack for pictures sees it."""
    from ProMISeCore import volumes

    window = volumes.Window.of({"mode": "bytes"}, volume.voxels)
    return volumes.pictures(volumes.Stack(volume, "image"), window, "repeat")[0]


@pytest.mark.parametrize(
    ("dtype", "low", "high", "first", "last", "apart"),
    [
        ("uint8", 0, 255, 0, 255, 0),
        ("uint8", 30, 200, 30, 200, 0),
        ("uint16", 0, 65535, 0, 255, 0),
        ("uint16", 300, 4095, 0, 255, 0),
        ("int16", 0, 4095, 0, 255, 0),
        ("int32", 10, 250, 10, 250, 0),
        ("int16", -1000, 3000, 0, 255, 0.5),
        ("uint32", 0, 2**24 - 1, 0, 255, 0.5),
        ("float32", 0, 1, 0, 255, 0.5),
        ("float64", 0.2, 0.6, 51, 153, 0.5),
        ("float32", 20, 230, 20, 230, 0.5),
        ("float32", -5, 5, 0, 255, 0.5),
    ],
)
def test_a_picture_is_taught_as_a_session_sees_it(
    scene, tmp_path: Path, dtype: str, low: float, high: float, first: float, last: float, apart: float
) -> None:
    """Where a file cannot hold its numbers, to half a grey value (`apart`). first, last: its corners' grey values."""
    from types import SimpleNamespace

    from ProMISeSlicerLib.exporting import Exporter
    from ProMISeSlicerLib.source import Source

    from ProMISeCore import volumes

    node = pictured(dtype, low, high)
    session = seen(Source(node, SimpleNamespace(orientation="image"), None).volume)
    taught = seen(volumes.read(Exporter(tmp_path).writeVolume(node).files[0]))
    assert np.abs(taught - session).max() <= apart + 1e-4
    assert taught[0, 0, 0] == pytest.approx(first, abs=0.51) and taught[-1, -1, -1] == pytest.approx(last, abs=0.51)


def test_colours_that_no_file_can_hold_are_refused_by_name(scene, tmp_path: Path) -> None:
    from ProMISeSlicerLib.exporting import Exporter

    from ProMISeCore import volumes

    deep = pictured("int16", 0, 4095, depth=5)
    (file,) = Exporter(tmp_path).writeVolume(deep).files
    assert volumes.read(file).voxels.max() == 4095
    made = Exporter(tmp_path).writeVolume(pictured("float32", -1, 1, depth=5))
    assert made.files == () and made.problem == (
        "the colours of the volume 'polyp' are float32, whole numbers from 0 to 65535 can be used; make a grey volume "
        "of it in the module Vector to Scalar Volume"
    )


def test_a_full_disk_leaves_nothing_half_written(scene, tmp_path: Path, monkeypatch) -> None:
    import SimpleITK as sitk
    from ProMISeSlicerLib.cases import Case

    from ProMISeCore.errors import InputError

    def full(*_, **__):
        raise RuntimeError("No space left on device")

    volume = addVolume()
    monkeypatch.setattr(sitk, "WriteImage", full)
    with pytest.raises(InputError, match="cannot be written"):
        exported(tmp_path, Case(volume, segmentationOf(volume)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("depth", "cut"), [(1, 60), (5, 1), (5, 3000)])
def test_an_image_whose_last_bytes_did_not_fit_on_the_disk_is_told_and_not_kept(
    scene, tmp_path: Path, monkeypatch, depth: int, cut: int
) -> None:
    """ITK says nothing then."""
    import SimpleITK as sitk
    from ProMISeSlicerLib.exporting import Exporter

    from ProMISeCore.errors import InputError

    write, node = sitk.WriteImage, pictured("uint8", 0, 255, depth)

    def full(image, path: str) -> None:
        write(image, path)
        os.truncate(path, os.path.getsize(path) - cut)

    monkeypatch.setattr(sitk, "WriteImage", full)
    told = "cannot be written: a part of it is missing, as where the disk is full; check the folder's rights and the"
    with pytest.raises(InputError, match=told):
        Exporter(tmp_path).writeVolume(node)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", [0, 300])
def test_an_image_that_was_cut_off_before_is_written_anew(scene, tmp_path: Path, left: int) -> None:
    """As after a power failure: so many bytes of it are there."""
    from ProMISeSlicerLib.exporting import Exporter

    node = pictured("uint8", 0, 255, depth=5)
    (file,) = Exporter(tmp_path).writeVolume(node).files
    whole = file.read_bytes()
    os.truncate(file, left)
    assert Exporter(tmp_path).writeVolume(node).files == (file,) and file.read_bytes() == whole


def test_a_colour_volume_keeps_its_three_channels(scene, tmp_path: Path) -> None:
    import slicer
    from ProMISeSlicerLib.exporting import Exporter

    from ProMISeCore import volumes

    voxels = np.random.default_rng(0).integers(0, 255, (5, 20, 30, 3)).astype(np.uint8)
    node = slicer.util.addVolumeFromArray(voxels, name="colour", nodeClassName="vtkMRMLVectorVolumeNode")
    (file,) = Exporter(tmp_path).writeVolume(node).files
    assert np.array_equal(volumes.read(file).voxels, voxels)
