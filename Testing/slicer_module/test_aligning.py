"""What the slice views show: the chosen volume, and of oblique ones the slice on screen in its own plane."""

from __future__ import annotations

import numpy as np
import pytest

SLICE_BUTTONS = ("lockButton", "releaseButton", "deleteButton", "propagateButton")


def turned(axis: int, degrees: float) -> np.ndarray:
    """(3, 3) about an axis."""
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    matrix[[a, a, b, b], [a, b, a, b]] = cos, -sin, sin, cos
    return matrix


def add_oblique(tilt: float, name: str = "short axis"):
    """10 slices of 8 mm about the world's origin, tilted like a short axis."""
    import slicer

    affine = np.eye(4)
    affine[:3, :3] = turned(2, -45) @ turned(0, tilt) @ np.diag([1.5, 1.5, 8.0])
    affine[:3, 3] = -affine[:3, :3] @ [80, 80, 4.5]
    rows, columns = np.mgrid[:160, :160]
    voxels = np.repeat(np.where(np.hypot(rows - 80, columns - 80) < 18, 100, 0).astype(np.int16)[None], 10, 0)
    return slicer.util.addVolumeFromArray(voxels, ijkToRAS=affine, name=name)


def red():
    import slicer

    return slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode")


def background():
    import slicer

    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return next(node for node in nodes if node.GetLayoutName() == "Red")


def pan(right: float, up: float) -> None:
    """Shift+drag: another part of the same image is in the middle."""
    node = red()
    to_ras = node.GetSliceToRAS()
    for row in range(3):
        moved = to_ras.GetElement(row, 3) + right * to_ras.GetElement(row, 0) + up * to_ras.GetElement(row, 1)
        to_ras.SetElement(row, 3, moved)
    node.UpdateMatrices()


def off_plane(session, n: int) -> float:
    """mm that points of a slice lie off the view's plane, at most."""
    import slicer

    ras = session.source.world([[n, 80 + down, 80 + right] for down in (-16, 0, 16) for right in (-16, 0, 16)])
    matrix = slicer.util.arrayFromVTKMatrix(red().GetSliceToRAS())
    return float(np.abs((ras - matrix[:3, 3]) @ matrix[:3, 2]).max())


@pytest.fixture
def oblique(module, opened, request):
    """The panel on an oblique volume that the view shows, segmented."""
    volume = add_oblique(getattr(request, "param", 35))
    background().SetBackgroundVolumeID(volume.GetID())
    panel = opened(volume=False)
    panel.choose("fake")
    panel.click("segmentButton")
    panel.settle()
    return panel


@pytest.mark.parametrize("oblique", [0, 15, 35, 60], indirect=True)
def test_the_slice_on_screen_stays_while_the_view_is_panned(oblique) -> None:
    for n in (5, 8, 0):
        oblique.widget.review.goTo(n)
        assert oblique.widget.sliceOnScreen() == n and off_plane(oblique.widget.session, n) < 1e-3
        for right, up in ((40, 40), (-80, 0), (0, -90)):
            pan(right, up)
            assert oblique.widget.sliceOnScreen() == n
            assert oblique.ui.reviewLabel.text.startswith(f"Slice {n + 1}:")


def test_a_session_turns_the_view_and_keeps_its_zoom_and_middle(module, opened) -> None:
    import slicer

    volume = add_oblique(35)
    background().SetBackgroundVolumeID(volume.GetID())
    red().SetFieldOfView(300, 200, 1)
    panel = opened(volume=False)
    panel.click("segmentButton")
    panel.settle()
    matrix = slicer.util.arrayFromVTKMatrix(red().GetSliceToRAS())
    assert np.allclose(red().GetFieldOfView(), (300, 200, 1))
    assert np.linalg.norm(matrix[:3, 3]) <= 4.1  # within half a slice of where it was
    assert np.isclose(abs(matrix[:3, 2] @ turned(2, -45) @ turned(0, 35) @ [0, 0, 1]), 1)
    assert panel.widget.session.engine.calls == [] and not panel.ui.alignButton.isVisibleTo(panel.widget.parent)


def test_a_view_that_is_turned_away_has_no_slice_and_says_so_until_it_is_aligned(oblique) -> None:
    oblique.show(4)
    oblique.widget.review.goTo(4)
    tips = {name: getattr(oblique.ui, name).toolTip for name in SLICE_BUTTONS}
    assert oblique.ui.lockButton.enabled and oblique.ui.propagateButton.enabled
    red().SetOrientation("Axial")
    assert oblique.widget.sliceOnScreen() is None
    for name in SLICE_BUTTONS:
        button = getattr(oblique.ui, name)
        assert not button.enabled and "No slice view lies in the planes of short axis's slices" in button.toolTip
    oblique.widget.updateButtons()
    assert not oblique.ui.propagateButton.enabled and "Align views" in oblique.ui.reviewLabel.text
    assert oblique.ui.nextWorstButton.enabled and not oblique.ui.alignButton.isHidden()
    oblique.click("alignButton")
    assert oblique.ui.alignButton.isHidden() and oblique.ui.lockButton.enabled and oblique.ui.deleteButton.enabled
    assert {name: getattr(oblique.ui, name).toolTip for name in SLICE_BUTTONS} == tips
    assert oblique.ui.reviewLabel.text.startswith("Slice ")


def test_going_to_a_slice_turns_the_view_to_it(oblique) -> None:
    red().SetOrientation("Axial")
    oblique.ui.sliceStrip.cellClicked.emit(0, 7)
    assert oblique.widget.sliceOnScreen() == 7 and off_plane(oblique.widget.session, 7) < 1e-3


def test_only_a_view_of_this_volume_is_turned_and_the_nearest_one(oblique) -> None:
    import slicer

    logic = oblique.widget.logic
    for name in ("Yellow", "Green"):
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSliceNode")  # with the presets of orientations
        node.UnRegister(None)
        node.SetName(name), node.SetLayoutName(name)
        slicer.mrmlScene.AddNode(node)
        node.SetOrientation("Coronal")
    green = node
    composite = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    composite.SetLayoutName("Green")
    background().SetBackgroundVolumeID(None)
    red().SetOrientation("Axial")

    def orientations() -> dict[str, np.ndarray]:
        nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
        return {each.GetName(): slicer.util.arrayFromVTKMatrix(each.GetSliceToRAS())[:3, :3] for each in nodes}

    before = orientations()

    def turned_views() -> list[str]:
        return [name for name, matrix in orientations().items() if not np.allclose(matrix, before[name])]

    logic.alignViews(oblique.widget.session, evenAcross=True)
    assert turned_views() == []
    composite.SetBackgroundVolumeID(oblique.widget.session.volumeNode.GetID())
    logic.alignViews(oblique.widget.session, evenAcross=True)
    assert turned_views() == ["Green"]
    green.SetOrientation("Coronal")
    background().SetForegroundVolumeID(oblique.widget.session.volumeNode.GetID())
    logic.alignViews(oblique.widget.session, evenAcross=True)
    assert turned_views() == ["Red"]


def test_a_view_of_another_patient_does_not_say_which_slice_is_looked_at(segmented, volume) -> None:
    import slicer

    def background_of(layout: str, shown) -> None:
        composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        next(node for node in composites if node.GetLayoutName() == layout).SetBackgroundVolumeID(shown.GetID())

    yellow = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSliceNode")
    yellow.UnRegister(None)
    yellow.SetName("Yellow"), yellow.SetLayoutName("Yellow")
    slicer.mrmlScene.AddNode(yellow)
    yellow.SetOrientation("Coronal")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode").SetLayoutName("Yellow")
    background_of("Red", volume), background_of("Yellow", volume)
    segmented.show(4)
    assert segmented.widget.sliceOnScreen() == 4
    background_of("Red", add_oblique(0, "another patient"))
    assert segmented.widget.sliceOnScreen() is None
    background_of("Red", volume)
    assert segmented.widget.sliceOnScreen() == 4


def test_a_view_of_another_orientation_is_turned_by_the_button_alone(oblique) -> None:
    """As where it is the only one in the layout."""
    import slicer

    red().SetOrientation("Sagittal")
    before = slicer.util.arrayFromVTKMatrix(red().GetSliceToRAS()).copy()
    oblique.ui.sliceStrip.cellClicked.emit(0, 7)
    assert np.allclose(slicer.util.arrayFromVTKMatrix(red().GetSliceToRAS())[:3, :3], before[:3, :3])
    assert oblique.widget.sliceOnScreen() is None and not oblique.ui.lockButton.enabled
    oblique.click("alignButton")
    right, up, _ = slicer.util.arrayFromVTKMatrix(red().GetSliceToRAS())[:3, :3].T
    assert off_plane(oblique.widget.session, oblique.widget.sliceOnScreen()) < 1e-3
    assert right[0] < -0.5 and up[1] > 0.5, "a person's left is on the right, and the front on top, as in axial views"


def test_a_sheared_volume_is_aligned_to_its_own_planes(module, opened) -> None:
    import slicer
    from ProMISeSlicerLib import mrml

    volume = add_oblique(20)
    parent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    shear = np.eye(4)
    shear[:3, :3] = [[1, 0.15, 0.1], [0, 1, 0.2], [0.05, 0, 1.1]]
    parent.SetMatrixTransformToParent(mrml.matrixFromArray(shear))
    volume.SetAndObserveTransformNodeID(parent.GetID())
    panel = opened(volume=False)
    panel.click("segmentButton")
    panel.settle()
    assert background().GetBackgroundVolumeID() == volume.GetID(), "no view showed it"
    panel.widget.review.goTo(6)
    assert panel.widget.sliceOnScreen() == 6 and off_plane(panel.widget.session, 6) < 1e-3


def test_the_phantom_is_selected_and_shown_though_another_volume_is(panel, volume) -> None:
    import slicer

    selection = slicer.app.applicationLogic().GetSelectionNode()
    selection.SetActiveVolumeID(volume.GetID())
    background().SetBackgroundVolumeID(volume.GetID())
    phantom = panel.widget.logic.addPhantom()
    assert selection.GetActiveVolumeID() == background().GetBackgroundVolumeID() == phantom.GetID()
    panel.widget.parameterNode.inputVolume = None
    panel.widget.enter()
    assert panel.widget.parameterNode.inputVolume is phantom, "the volume is chosen already"


def test_a_volume_that_the_user_chooses_is_shown_and_one_that_a_script_chooses_is_not(panel, volume) -> None:
    import slicer

    background().SetBackgroundVolumeID(volume.GetID())
    other = slicer.util.addVolumeFromArray(np.eye(8)[None].repeat(3, 0), name="other")
    panel.widget.parameterNode.inputVolume = other
    assert background().GetBackgroundVolumeID() == volume.GetID()
    panel.ui.inputVolumeSelector.nodeActivated.emit(other)
    assert background().GetBackgroundVolumeID() == other.GetID()
    background().SetForegroundVolumeID(volume.GetID())
    panel.ui.inputVolumeSelector.nodeActivated.emit(volume)
    panel.ui.inputVolumeSelector.nodeActivated.emit(None)
    assert background().GetBackgroundVolumeID() == other.GetID(), "a fused view shows it already"
