"""Segmentations stored in another order of voxels than their volume are taken as they are seen, and stored alike."""

from __future__ import annotations

import numpy as np
import pytest
from desks import addVolume, manifest

SHAPE = (10, 32, 40)  # (K, J, I) of the plain volume
#: name → for each of the labelmap's I, J, K: the volume's axis, and whether it runs backwards
ORDERS = {
    "as the volume": ((0, 1), (1, 1), (2, 1)),
    "slices backwards": ((0, 1), (1, 1), (2, -1)),
    "all backwards": ((0, -1), (1, -1), (2, -1)),
    "along other axes": ((2, 1), (0, -1), (1, 1)),
}


def covered() -> dict[str, np.ndarray]:
    """Name → (K, J, I) bool on the volume's voxels; no symmetry, and the second overlaps the first."""
    first, second = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    first[1:4, 3:20, 30:38], first[8, 31, 0] = True, True
    second[2:9, 10:12, 5:35] = True
    return {"earlier": first, "by hand": second}


def addSegmentation(volumeNode, order):
    """The same cover, stored in an order."""
    import slicer
    from ProMISeSlicerLib import mrml

    affine, sizes = mrml.ijkToRas(volumeNode), SHAPE[::-1]
    axes, signs = zip(*order, strict=True)
    turned = affine.copy()
    turned[:3, :3] = affine[:3, list(axes)] * signs
    for axis, sign in order:
        turned[:3, 3] += affine[:3, axis] * (sizes[axis] - 1) * (sign < 0)
    sideways = slicer.util.addVolumeFromArray(np.zeros([sizes[axis] for axis in axes[::-1]], np.uint8), turned)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "stored elsewhere")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(sideways)
    for name, mask in covered().items():
        flips = tuple(slice(None, None, sign) for sign in signs)
        stored = np.ascontiguousarray(mask.T.transpose(axes)[flips].T).astype(np.uint8)
        id_ = node.GetSegmentation().AddEmptySegment("", name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(stored, node, id_, sideways)
    slicer.mrmlScene.RemoveNode(sideways)
    return node


def seen(node, volumeNode) -> dict[str, np.ndarray]:
    """As Slicer resamples the segments onto the volume."""
    import slicer

    segmentation = node.GetSegmentation()
    return {
        segmentation.GetSegment(id_).GetName(): slicer.util.arrayFromSegmentBinaryLabelmap(node, id_, volumeNode) != 0
        for id_ in segmentation.GetSegmentIDs()
    }


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_segmentation_in_another_order_is_worked_on_where_it_is(scene, order) -> None:
    from ProMISeSlicerLib.fakeEngine import FakeEngine
    from ProMISeSlicerLib.session import Session

    volume = addVolume()
    node = addSegmentation(volume, order)
    assert all(np.array_equal(mask, covered()[name]) for name, mask in seen(node, volume).items())
    session = Session(volume, manifest(), node, FakeEngine())
    found = seen(node, volume)
    assert found.keys() >= covered().keys()
    assert all(np.array_equal(found[name], mask) for name, mask in covered().items())
    byHand = next(id_ for id_ in node.GetSegmentation().GetSegmentIDs()
                  if node.GetSegmentation().GetSegment(id_).GetName() == "by hand")  # fmt: skip
    slices = session.segments.readAll(byHand)
    assert np.array_equal(session.grid.toBlock(slices), covered()["by hand"])
    session.close()


def test_labelmaps_in_one_layer_are_turned_once(scene) -> None:
    from ProMISeSlicerLib.turning import turnToVolume

    volume = addVolume()
    node = addSegmentation(volume, ORDERS["slices backwards"])
    second = node.GetSegmentation().GetSegmentIDs()[1]
    import slicer

    apart = covered()["by hand"] & ~covered()["earlier"]
    slicer.util.updateSegmentBinaryLabelmapFromArray(apart.astype(np.uint8), node, second, volume)
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    turnToVolume(node, volume)
    assert not turnToVolume(node, volume)
    found = seen(node, volume)
    assert np.array_equal(found["earlier"], covered()["earlier"]) and np.array_equal(found["by hand"], apart)


@pytest.mark.parametrize("change", ["another transform", "half a voxel"])
def test_what_lies_elsewhere_is_left_as_it_is(scene, change: str) -> None:
    import slicer
    import vtk
    from ProMISeSlicerLib.turning import turnToVolume

    volume = addVolume()
    node = addSegmentation(volume, ORDERS["all backwards"])
    image = node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    if change == "another transform":
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        node.SetAndObserveTransformNodeID(transform.GetID())
    else:
        volume.SetOrigin([value + 0.5 for value in volume.GetOrigin()])
    before, after = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(before)
    assert not turnToVolume(node, volume)
    image.GetImageToWorldMatrix(after)
    assert [after.GetElement(i, j) for i in range(4) for j in range(4)] == [
        before.GetElement(i, j) for i in range(4) for j in range(4)
    ]
