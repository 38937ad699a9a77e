"""Segmentations whose voxels are a volume's in another order, along other axes or backwards, and turning them.

Slicer's readers turn left-handed volumes around, but not the segmentations saved beside them; DICOM-SEG may be stored
backwards, too.
"""

from __future__ import annotations

import numpy as np
from vtk.util.numpy_support import vtk_to_numpy

from . import mrml


def turnToVolume(segmentationNode, volumeNode) -> bool:
    """Store the labelmaps in the volume's order of voxels; True where one was not. What segments cover stays.

    Labelmaps on another grid, and nodes under another transform, are left as they are.
    """
    segmentation = segmentationNode.GetSegmentation()
    if segmentationNode.GetTransformNodeID() != volumeNode.GetTransformNodeID():
        return False
    images = [segmentation.GetSegment(id_).GetRepresentation("Binary labelmap") for id_ in segmentation.GetSegmentIDs()]
    filled = [image for image in images if image is not None and image.GetPointData().GetScalars() is not None]
    turned = [_turn(image, volumeNode) for image in filled]  # one that segments share is turned by the first of them
    if any(turned):
        segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    return any(turned)


def _turn(image, volumeNode) -> bool:
    turn, offset = mrml.voxelOrder(image, volumeNode) or (np.eye(3), None)
    if np.array_equal(turn, np.eye(3)):
        return False
    ends = np.array(image.GetExtent()).reshape(3, 2)
    ends = np.sort(turn @ ends + offset[:, None], axis=1)
    source = np.abs(turn).argmax(axis=1)  # of I, J and K in turn
    way = tuple(slice(None, None, turn[axis, source[axis]]) for axis in range(3))
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1]).T
    values = values.transpose(source)[way].copy()
    image.SetGeometryFromImageToWorldMatrix(mrml.matrixFromArray(mrml.ijkToRas(volumeNode)))
    image.SetExtent(*ends.ravel().tolist())
    image.AllocateScalars(image.GetScalarType(), 1)
    vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1]).T[:] = values
    image.Modified()
    return True
