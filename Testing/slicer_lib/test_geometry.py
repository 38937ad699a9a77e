"""Where masks and points land, told without the library's own geometry: voxel by voxel in (I, J, K), on real MRML."""

from __future__ import annotations

import numpy as np
import pytest
from desks import Desk, rotation

SHEAR = np.array([[1, 0.15, 0.1], [0, 1, 0.2], [0.05, 0, 1.1]])
PLAIN = np.diag([-1.0, -1, 1])
#: name → (IJK → RAS directions, spacing, shape (K, J, I), storage axis of axial slices (0 for I), parents, colour)
CASES = {
    "oblique": (rotation(17, -9, 23) @ PLAIN, (0.8, 0.9, 2.5), (9, 26, 31), 2, (), False),
    "flipped": (np.diag([1.0, 1, -1]), (1, 1, 3), (9, 26, 31), 2, (), False),
    "anisotropic": (PLAIN, (0.3, 1.9, 12.0), (6, 26, 31), 2, (), False),
    "left-handed": (np.diag([1.0, -1, 1]), (1, 1, 3), (9, 26, 31), 2, (), False),
    "stored in columns": (np.array([[0.0, 1, 0], [0, 0, -1], [1, 0, 0]]), (3, 1, 1), (26, 31, 9), 0, (), False),
    "stored in rows": (np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), (1, 3, 1), (26, 9, 31), 1, (), False),
    "sheared": (PLAIN, (1, 1, 3), (9, 26, 31), 2, (SHEAR,), False),
    "sheared and oblique": (rotation(8, 5, -12) @ PLAIN, (1, 1, 3), (9, 26, 31), 2, (SHEAR, rotation(4, 0, 9)), False),
    "mirrored by its parent": (PLAIN, (1, 1, 3), (9, 26, 31), 2, (np.diag([-1.0, 1, 1]),), False),
    "microscopic": (PLAIN, (0.002, 0.002, 0.01), (9, 26, 31), 2, (), False),
    "one slice": (rotation(10, 0, 20) @ PLAIN, (1, 1, 5), (1, 26, 31), 2, (), False),
    "colour": (rotation(17, -9, 23) @ PLAIN, (0.8, 0.9, 2.5), (9, 26, 31), 2, (), True),
    "colour, sheared": (PLAIN, (1, 1, 3), (9, 26, 31), 2, (SHEAR,), True),
    "colour, one slice": (PLAIN, (1, 1, 1), (1, 26, 31), 2, (SHEAR,), True),
}


def addCase(name: str):
    """A volume node whose voxels all differ from each other, with two boxes of the values that targets have."""
    return addBoxes(*CASES[name])


def addBoxes(directions, spacing, shape, axis, parents, colour):
    import slicer
    from ProMISeSlicerLib import mrml

    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions * np.array(spacing), [311.5, -220.25, 1033.0]
    voxels = np.zeros(shape, np.uint8 if colour else np.int16)
    for number, (first, last) in enumerate(((3, 9), (13, 20))):
        part = [slice(first, last - number)] * 3
        part[2 - axis] = slice(0, max(1, shape[2 - axis] - 1))
        voxels[tuple(part)] = 100 * (number + 1)
    kind = "vtkMRMLVectorVolumeNode" if colour else "vtkMRMLScalarVolumeNode"
    node = slicer.util.addVolumeFromArray(
        np.repeat(voxels[..., None], 3, axis=3) if colour else voxels, affine, "scan", kind
    )
    child = node
    for number, parent in enumerate(parents):
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = parent, [5, -7, 9 + number]
        transform.SetMatrixTransformToParent(mrml.matrixFromArray(matrix))
        child.SetAndObserveTransformNodeID(transform.GetID())
        child = transform
    return node


def worldOf(node, ijk) -> np.ndarray:
    """World mm of a voxel, by VTK and MRML alone."""
    import vtk

    matrix, world = vtk.vtkMatrix4x4(), np.zeros(3)
    node.GetIJKToRASMatrix(matrix)
    node.TransformPointToWorld(matrix.MultiplyPoint((*map(float, ijk), 1))[:3], world)
    return world


def stored(d: Desk, target: str) -> np.ndarray:
    """(K, J, I) bool, as Slicer itself resamples the segment onto the volume."""
    import slicer

    session = d.session
    return slicer.util.arrayFromSegmentBinaryLabelmap(
        session.segmentationNode, session.segmentId(target), session.volumeNode
    ).astype(bool)


def values(d: Desk) -> np.ndarray:
    """(K, J, I) of the volume; of its red, for colour."""
    import slicer

    found = slicer.util.arrayFromVolume(d.session.volumeNode)
    return found[..., 0] if found.ndim == 4 else found


def disc(shape, axis: int, ijk) -> np.ndarray:
    """(K, J, I) bool: the fake engine's answer to one positive point at a voxel, written in (I, J, K)."""
    from ProMISeSlicerLib.fakeEngine import RADIUS

    away = [index - at for index, at in zip(np.indices(shape)[::-1], ijk, strict=True)]
    across = [distance for dim, distance in enumerate(away) if dim != axis]
    return (away[axis] == 0) & (across[0] ** 2 + across[1] ** 2 <= RADIUS**2)


@pytest.fixture
def case(desk, request):
    d = desk(volume=addCase(request.param))
    return d, CASES[request.param][3]


each = pytest.mark.parametrize("case", CASES, indirect=True)


@each
def test_an_automatic_mask_lies_on_the_voxels_that_it_was_found_in(case) -> None:
    d, _ = case
    for target, value in (("bar", 100), ("rod", 200)):
        assert np.array_equal(stored(d, target), values(d) == value) and stored(d, target).any()


@each
def test_a_users_point_changes_its_own_slice_voxel_by_voxel_and_no_other(case) -> None:
    d, axis = case
    volume, shape = d.session.volumeNode, values(d).shape
    before = {target: stored(d, target) for target in d.session.targets}
    ijk = np.array([22, 22, 22])  # beside both boxes
    ijk[axis] = shape[2 - axis] // 2
    assert d.session.addPoint("bar", worldOf(volume, ijk), True) is not None
    d.settle()
    inSlice = np.zeros(shape, bool)
    inSlice[tuple(ijk[axis] if dim == 2 - axis else slice(None) for dim in range(3))] = True
    found = stored(d, "bar")
    assert np.array_equal(found[~inSlice], before["bar"][~inSlice]), "neighbours stay bit by bit"
    expected = disc(shape, axis, ijk)
    assert np.array_equal(found & disc_area(shape, ijk, axis), expected) and expected.sum() == 37
    assert np.array_equal(stored(d, "rod"), before["rod"])
    d.session.undo()
    d.settle()
    assert all(np.array_equal(stored(d, target), before[target]) for target in before)


def disc_area(shape, ijk, axis: int) -> np.ndarray:
    """(K, J, I) bool: the quarter of the slice that the point was put in, beside what was there before."""
    inside = [index > 20 if dim != axis else index == ijk[dim] for dim, index in enumerate(np.indices(shape)[::-1])]
    wide = [index > 17 if dim != axis else index == ijk[dim] for dim, index in enumerate(np.indices(shape)[::-1])]
    return (inside[0] & inside[1] & inside[2]) | (wide[0] & wide[1] & wide[2])


@pytest.mark.parametrize("case", ["oblique", "flipped", "left-handed", "mirrored by its parent"], indirect=True)
def test_a_box_that_is_told_and_drawn_again_is_the_same_and_the_users(case) -> None:
    d, _ = case
    roi = d.session.target("bar").prompts
    center, axes, size = roi.drawnRoi()
    assert not roi.roiIsUsers and np.allclose(np.abs(axes.T @ axes), np.eye(3))
    wanted = center + axes @ [1.0, 0, 0], axes, size * [0.5, 1, 1]
    roi.drawRoi(*wanted)
    d.settle()
    assert roi.roiIsUsers
    corners = [wanted[0] + axes @ ((np.array(side) - 0.5) * wanted[2]) for side in np.ndindex(2, 2, 2)]
    found = {tuple(corner) for corner in roi.roiCorners().round(3).tolist()}
    assert found == {tuple(corner) for corner in np.round(corners, 3).tolist()}
    assert all(np.allclose(told, want) for told, want in zip(roi.drawnRoi(), wanted, strict=True))
    assert "user" in {state["state"] for state in d.session.sliceStates("bar")}, "its slices are solved again"
    d.session.undo()
    d.settle()
    assert not roi.roiIsUsers and np.allclose(roi.drawnRoi()[0], center)


def test_the_voxels_that_a_session_has_are_its_own(scene) -> None:
    import slicer
    from desks import addVolume
    from ProMISeSlicerLib import mrml

    node = addVolume()
    voxels = mrml.voxelsOf(node)
    before = voxels.copy()
    slicer.util.arrayFromVolume(node)[:] = 7
    assert np.array_equal(voxels, before) and not np.array_equal(mrml.voxelsOf(node), before)


@pytest.mark.parametrize("geometry", ["transformed", "sheared", "turned"])
def test_hardening_the_volumes_transform_leaves_masks_and_prompts_on_the_anatomy(desk, geometry: str) -> None:
    d = desk(geometry)
    session, volume = d.session, d.session.volumeNode
    nodes = [node for target in session.targets for node in session.promptNodes(target)]
    d.session.addPoint("bar", worldOf(volume, (2, 2, 2)), True)
    d.settle()
    roi = session.target("bar").prompts
    automatic = roi.roiCorners()
    roi.drawRoi(roi.drawnRoi()[0], roi.drawnRoi()[1], roi.drawnRoi()[2] * 0.5)
    d.settle()

    def everything() -> list:
        points = [point.ras for target in session.targets for point in session.target(target).prompts.points()]
        masks = [stored(d, target).tobytes() for target in session.targets]
        return [sorted(np.round(points, 4).tolist()), np.round(roi.roiCorners(), 2).tolist(), masks]

    before, calls = everything(), len(d.engine.calls)
    volume.HardenTransform()
    d.settle()
    assert [node.GetTransformNodeID() for node in (volume, session.segmentationNode, *nodes)] == [None] * 8
    assert everything() == before and len(d.engine.calls) == calls
    session.undo()
    assert np.allclose(roi.roiCorners(), automatic, atol=1 if geometry == "sheared" else 0.01), "ROIs have right angles"
    session.redo()
    d.settle()
    assert everything() == before
    session.segment()
    d.settle()
    assert everything() == before and not session.hint


def test_a_segmentation_hardened_before_its_volume_is_not_moved_twice(desk) -> None:
    """As with a folder of the subject hierarchy, whose nodes are hardened one after another."""
    d = desk("transformed")
    before = {target: stored(d, target) for target in d.session.targets}
    d.session.segmentationNode.HardenTransform()
    d.session.volumeNode.HardenTransform()
    assert all(np.array_equal(stored(d, target), before[target]) for target in before)


def test_a_transform_that_is_taken_off_is_taken_off_all(desk) -> None:
    d = desk("transformed")
    volume = d.session.volumeNode
    before = {target: stored(d, target) for target in d.session.targets}
    at = d.session.source.nrc([point.ras for point in d.session.target("bar").prompts.points()])
    volume.SetAndObserveTransformNodeID(None)
    assert np.allclose(at, d.session.source.nrc([point.ras for point in d.session.target("bar").prompts.points()]))
    assert all(np.array_equal(stored(d, target), before[target]) for target in before)
