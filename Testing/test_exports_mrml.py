"""The written files, loaded by 3D Slicer's own storage nodes (extra `mrml`: the slicer-core wheel)."""

from __future__ import annotations

import numpy as np
import pytest

from ProMISeCore.exports import write_prompts, write_segmentation
from ProMISeCore.terminology import KNOWN
from ProMISeCore.truth import contents, is_automatic
from ProMISeCore.volumes import Volume

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed; pip install 'promise-slicer[mrml]'")
vtk = pytest.importorskip("vtk", reason="VTK comes with slicer-core")
numpy_support = pytest.importorskip("vtk.util.numpy_support", reason="VTK comes with slicer-core")

OBLIQUE = np.array([[0.6, -0.0, -1.6, 10.0], [0.8, 0.0, 1.2, -20.5], [0.0, 3.0, 0.0, 7.25], [0, 0, 0, 1]])
TARGETS = [
    {"name": "left ventricle", "color": [1.0, 0.25, 0.5], "terminology": KNOWN["left ventricle"]},
    {"name": "Größe β", "color": [0.0, 0.5, 1.0], "terminology": ""},
    {"name": "leer", "color": [0.5, 0.5, 0.0], "terminology": ""},
]


@pytest.fixture
def volume() -> Volume:
    return Volume(np.zeros((4, 5, 6), np.int16), OBLIQUE, "scan")


def box(volume: Volume, k: slice, j: slice, i: slice) -> np.ndarray:
    mask = np.zeros(volume.voxels.shape, bool)
    mask[k, j, i] = True
    return mask


def load_segmentation(path):
    node = slicer.vtkMRMLScene().AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(node) == 1, storage.GetUserMessages().GetAllMessagesAsString()
    return node


def segment_on_grid(node, segment_id: str, volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """The segment as (K, J, I) bool on the volume's grid, and the image-to-RAS matrix."""
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segment_id, image)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    affine = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    grid = np.zeros(volume.voxels.shape[:3], bool)
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    if i1 >= i0:
        values = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
        grid[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1] = values.reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1) != 0
    return grid, affine


def test_a_result_that_slicer_has_saved_is_no_automatic_one_any_more(tmp_path, volume) -> None:
    path, saved = tmp_path / "s.seg.nrrd", tmp_path / "saved.seg.nrrd"
    mask = box(volume, slice(1, 3), slice(1, 4), slice(2, 5))
    write_segmentation(path, {"leer": mask}, volume, TARGETS, automatic=True)
    node = load_segmentation(path)
    segments, tag = node.GetSegmentation(), vtk.reference("")
    names = [segments.GetNthSegment(n).GetTag("ProMISe.target", tag) and str(tag) for n in range(3)]
    assert names == ["left ventricle", "Größe β", "leer"]  # the Slicer module asks which slices were looked at
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(saved))
    assert storage.WriteData(node) == 1
    assert (is_automatic(path), is_automatic(saved)) == (True, False)
    assert contents(saved) == contents(path) == dict.fromkeys(("left ventricle", "Größe β", "leer"))


@pytest.mark.parametrize("overlapping", [False, True])
def test_slicer_reads_the_segmentation(tmp_path, volume, overlapping) -> None:
    masks = {
        "left ventricle": box(volume, slice(1, 3), slice(2, 4), slice(0, 3)),
        "Größe β": box(volume, slice(1, 4), slice(3 if overlapping else 4, 5), slice(1, 6)),
    }
    path = tmp_path / "a b ü.seg.nrrd"
    write_segmentation(path, masks, volume, TARGETS)
    node = load_segmentation(path)
    segmentation = node.GetSegmentation()
    ids = segmentation.GetSegmentIDs()
    assert list(ids) == ["Segment_1", "Segment_2", "Segment_3"]
    for segment_id, target in zip(ids, TARGETS, strict=True):
        segment = segmentation.GetSegment(segment_id)
        assert segment.GetName() == target["name"]
        np.testing.assert_allclose(segment.GetColor(), target["color"], atol=1e-6)
        found, affine = segment_on_grid(node, segment_id, volume)
        np.testing.assert_array_equal(found, masks.get(target["name"], np.zeros_like(found)))
        if found.any():
            np.testing.assert_allclose(affine, OBLIQUE, atol=1e-9)
    entry = vtk.reference("")
    assert segmentation.GetSegment("Segment_1").GetTag("TerminologyEntry", entry)
    assert str(entry) == KNOWN["left ventricle"]
    assert segmentation.GetNumberOfLayers("Binary labelmap") == (2 if overlapping else 1)


def test_slicer_keeps_the_reference_geometry(tmp_path, volume) -> None:
    path = tmp_path / "scan.seg.nrrd"
    write_segmentation(path, {"leer": box(volume, slice(0, 1), slice(0, 1), slice(0, 1))}, volume, TARGETS)
    text = load_segmentation(path).GetSegmentation().GetConversionParameter("Reference image geometry")
    image = slicer.vtkOrientedImageData()
    assert slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, image)
    assert image.GetExtent() == (0, 5, 0, 4, 0, 3)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    found = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    np.testing.assert_allclose(found, OBLIQUE, atol=1e-9)


@pytest.fixture
def markups(tmp_path, volume):
    """All nodes that Slicer's markups logic loads from one file, by name."""
    masks = {"left ventricle": box(volume, slice(1, 3), slice(2, 4), slice(0, 3))}
    points = np.array([[1.0, 2.0, 3.0], [-4.5, 5.25, 6.0], [7.0, 8.0, -9.0]])
    prompts = {"left ventricle": (points, np.array([1, 0, 1]), np.array([False, False, True]))}
    path = tmp_path / "scan.prompts.mrk.json"
    write_prompts(path, prompts, volume, masks, TARGETS[:2])
    scene = slicer.vtkMRMLScene()
    selection = slicer.vtkMRMLSelectionNode()
    selection.SetSingletonTag("Singleton")
    scene.AddNode(selection)
    logic = slicer.vtkSlicerMarkupsLogic()
    logic.SetMRMLScene(scene)
    assert logic.LoadMarkups(str(path), "")
    nodes = scene.GetNodesByClass("vtkMRMLMarkupsNode")
    nodes = [nodes.GetItemAsObject(index) for index in range(nodes.GetNumberOfItems())]
    yield {node.GetName(): node for node in nodes}
    scene.Clear(1)


def test_slicer_loads_every_list_of_one_file(markups) -> None:
    assert list(markups) == [
        "left ventricle positive", "left ventricle negative", "left ventricle ROI",
        "Größe β positive", "Größe β negative",
    ]  # fmt: skip
    positive = markups["left ventricle positive"]
    assert positive.GetNumberOfControlPoints() == 2
    assert list(positive.GetNthControlPointPosition(1)) == [7.0, 8.0, -9.0]  # RAS again
    assert [positive.GetNthControlPointDescription(index) for index in (0, 1)] == ["auto", "user"]
    negative = markups["left ventricle negative"]
    assert list(negative.GetNthControlPointPosition(0)) == [-4.5, 5.25, 6.0]
    np.testing.assert_allclose(negative.GetDisplayNode().GetSelectedColor(), TARGETS[0]["color"], atol=1e-6)
    assert markups["Größe β positive"].GetNumberOfControlPoints() == 0


def test_slicer_places_the_roi_around_the_voxels(markups) -> None:
    roi = markups["left ventricle ROI"]
    # voxels i 0…2, j 2…3, k 1…2 with their half-voxel rims, spacing (1, 3, 2) mm
    np.testing.assert_allclose(roi.GetSize(), [3.0, 6.0, 4.0], atol=1e-9)
    np.testing.assert_allclose(roi.GetCenter(), (OBLIQUE @ [1.0, 2.5, 1.5, 1.0])[:3], atol=1e-9)
    matrix = roi.GetObjectToWorldMatrix()
    axes = np.array([[matrix.GetElement(row, column) for column in range(3)] for row in range(3)])
    np.testing.assert_allclose(axes, OBLIQUE[:3, :3] / [1, 3, -2], atol=1e-9)  # right-handed, the volume is not
