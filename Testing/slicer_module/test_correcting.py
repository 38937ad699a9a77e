"""Control points, box, undo and propagation, clicked in the test double."""

from __future__ import annotations

import numpy as np
import pytest


def test_a_point_added_in_a_view_is_followed_without_a_click(segmented) -> None:
    before = segmented.mask("disc", 4)
    positives = segmented.widget.session.promptNodes("disc")[0]
    ras = segmented.widget.session.sliceCenter(4)
    positives.AddControlPointWorld(ras[0] + 8, ras[1], ras[2])
    assert segmented.widget.run.timer.active
    segmented.settle()
    assert not np.array_equal(before, segmented.mask("disc", 4))
    assert segmented.ui.undoButton.enabled


def test_undo_and_redo_take_one_prompt_step(segmented) -> None:
    before = segmented.mask("disc", 4)
    segmented.widget.session.addPoint("disc", segmented.widget.session.sliceCenter(4), True)
    segmented.settle()
    after = segmented.mask("disc", 4)
    segmented.click("undoButton")
    segmented.settle()
    assert np.array_equal(segmented.mask("disc", 4), before) and not segmented.ui.undoButton.enabled
    segmented.click("redoButton")
    segmented.settle()
    assert np.array_equal(segmented.mask("disc", 4), after)


def test_place_buttons_drive_and_follow_place_mode(segmented) -> None:
    import slicer

    interaction = slicer.app.applicationLogic().GetInteractionNode()
    selection = slicer.app.applicationLogic().GetSelectionNode()
    positives, negatives = segmented.widget.session.promptNodes("disc")[:2]
    segmented.click("positiveButton")
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    assert selection.GetActivePlaceNodeID() == positives.GetID()
    segmented.click("negativeButton")
    assert selection.GetActivePlaceNodeID() == negatives.GetID()
    assert (segmented.ui.positiveButton.checked, segmented.ui.negativeButton.checked) == (False, True)
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)  # Escape
    assert not segmented.ui.negativeButton.checked
    segmented.click("positiveButton")
    segmented.widget.exit()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform


def test_propagate_passes_the_choices_on(segmented, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(segmented.widget.session, "propagate", lambda *given: calls.append(given))
    segmented.ui.propagateCountSpinBox.value = 4
    segmented.ui.propagateDirectionComboBox.setCurrentIndex(2)
    segmented.show(6)
    segmented.click("propagateButton")
    segmented.ui.propagateCountSpinBox.value = 0
    segmented.click("propagateButton")
    assert calls == [("disc", 6, 4, -1), ("disc", 6, None, -1)]


def test_propagating_really_takes_the_slice_to_its_neighbours(segmented) -> None:
    segmented.show(6)
    segmented.ui.propagateCountSpinBox.value = 1
    segmented.click("propagateButton")
    segmented.settle()
    assert {n for n, _ in segmented.widget.session.engine.calls} == {5, 7}


def test_other_target_is_chosen_for_everything(segmented) -> None:
    segmented.ui.targetComboBox.setCurrentIndex(1)
    assert segmented.widget.parameterNode.target == "ring"
    segmented.click("positiveButton")
    import slicer

    positives = segmented.widget.session.promptNodes("ring")[0]
    assert slicer.app.applicationLogic().GetSelectionNode().GetActivePlaceNodeID() == positives.GetID()


def test_delete_takes_the_point_placed_last_on_the_slice_on_screen(segmented) -> None:
    session = segmented.widget.session
    positives = session.promptNodes("disc")[0]
    count = positives.GetNumberOfControlPoints()
    x, y, z = session.sliceCenter(4)
    session.addPoint("disc", (x + 8, y, z), True)
    session.addPoint("disc", session.sliceCenter(7), True)
    segmented.settle()
    before, other = segmented.mask("disc", 4), segmented.mask("disc", 7)
    segmented.show(4)
    segmented.click("deleteButton")
    segmented.settle()
    assert positives.GetNumberOfControlPoints() == count + 1
    assert not np.array_equal(segmented.mask("disc", 4), before)
    assert np.array_equal(segmented.mask("disc", 7), other)
    segmented.click("deleteButton")
    assert "placed no control point on this slice" in segmented.status


def test_points_and_box_are_shown_and_hidden(segmented) -> None:
    positives, negatives, roi = segmented.widget.session.promptNodes("disc")
    assert segmented.ui.showPointsCheckBox.checked
    segmented.click("showPointsCheckBox")
    assert not positives.GetDisplayVisibility() and not negatives.GetDisplayVisibility()
    segmented.click("positiveButton")  # what cannot be seen cannot be placed
    assert positives.GetDisplayVisibility() and segmented.ui.showPointsCheckBox.checked
    assert segmented.ui.showRoiCheckBox.checked and not segmented.ui.showHandlesCheckBox.checked
    segmented.click("showRoiCheckBox")
    assert not roi.GetDisplayVisibility()
    segmented.click("showHandlesCheckBox")
    assert roi.GetDisplayVisibility() and roi.GetDisplayNode().GetHandlesInteractive()
    assert segmented.ui.showRoiCheckBox.checked


def test_a_point_beside_the_slices_goes_to_the_nearest_one_and_that_is_said(segmented) -> None:
    session = segmented.widget.session
    positives, spacing = session.promptNodes("disc")[0], session.sliceCenter(5)[2] - session.sliceCenter(4)[2]
    x, y, z = session.sliceCenter(4)
    positives.AddControlPointWorld(x, y, z + 0.4 * spacing)
    segmented.settle()
    assert "nearest slice" in segmented.status and "mm away" in segmented.status
    places = [positives.GetNthControlPointPositionWorld(n) for n in range(positives.GetNumberOfControlPoints())]
    assert any(np.allclose(place, (x, y, z), atol=1e-3) for place in places)


# Shortcuts


@pytest.fixture
def layout(module):
    """Slicer with a slice view and a 3D view."""
    import qt
    import slicer
    from slicer_double.application import LayoutManager

    slicer.app.layout = LayoutManager(qt.QWidget)
    yield slicer.app.layout
    slicer.app.layout = None


def shortcuts(widget) -> list:
    import qt

    return [each for each in widget.findChildren(qt.QShortcut) if each.enabled]


def test_shortcuts_work_in_the_panel_and_the_views_only_while_the_module_is_open(layout, segmented) -> None:
    import qt

    places = [segmented.widget.parent, layout.sliceWidget("Red"), layout.threeDWidget(0)]
    for place in places:
        made = shortcuts(place)
        assert {s.key.toString() for s in made} == {"P", "N", "D", "U", "Shift+U", "L", "Shift+L", "W"}
        assert all(s.context == qt.Qt.WidgetWithChildrenShortcut for s in made)
    next(s for s in shortcuts(places[1]) if s.key.toString() == "P").activated.emit()
    assert segmented.ui.positiveButton.checked
    segmented.widget.exit()
    assert not any(shortcuts(place) for place in places)
    layout.fire("layoutChanged(int)", 3)
    assert not any(shortcuts(place) for place in places)
    segmented.widget.enter()
    layout.fire("layoutChanged(int)", 3)
    assert [len(shortcuts(place)) for place in places] == [8, 8, 8]


def test_every_shortcut_is_told_in_a_tooltip(panel) -> None:
    from ProMISeSlicerLib.shortcuts import KEYS

    for keys, name in KEYS.items():
        assert f"Shortcut: {keys}." in getattr(panel.ui, name + "Button").toolTip


# What follows the mouse, and warnings


def follow_mouse(panel: object, moves: int = 20) -> None:
    """Move a point that is not placed yet, as a slice view does in place mode."""
    import slicer
    import vtk

    positives = panel.widget.session.promptNodes("disc")[0]
    index = positives.AddControlPoint(vtk.vtkVector3d(0, 0, 0))
    for step in range(moves):
        position = (float(step), 0.0, 0.0, slicer.vtkMRMLMarkupsNode.PositionPreview)
        positives.SetNthControlPointPosition(index, *position)
        panel.settle()


def test_moving_the_mouse_in_place_mode_wipes_no_message_and_draws_nothing_again(segmented, monkeypatch) -> None:
    follow_mouse(segmented, 1)
    drawn, review = [], segmented.widget.review
    monkeypatch.setattr(review, "refresh", lambda: drawn.append(1))
    segmented.widget.say("Something worth reading.")
    follow_mouse(segmented)
    assert segmented.status == "Something worth reading." and len(drawn) <= 1, "the new point itself"


def test_leaving_place_mode_is_no_news(segmented) -> None:
    positives = segmented.widget.session.promptNodes("disc")[0]
    follow_mouse(segmented, 1)
    segmented.widget.say("Something worth reading.")
    positives.RemoveNthControlPoint(positives.GetNumberOfControlPoints() - 1)
    segmented.settle()
    assert segmented.status == "Something worth reading."


def test_a_warning_is_not_replaced_by_up_to_date(segmented) -> None:
    session = segmented.widget.session
    segmented.widget.say("⚠ Teaching failed: the disk is full")
    session.addPoint("disc", session.sliceCenter(4), True)
    segmented.settle()
    assert segmented.status == "⚠ Teaching failed: the disk is full"


def test_a_failed_step_is_told_until_a_later_one_succeeds(segmented, monkeypatch) -> None:
    session = segmented.widget.session
    real, (x, y, z) = session.engine.segmentSlice, session.sliceCenter(4)

    def fail(*_) -> None:
        raise MemoryError("not enough memory")

    with monkeypatch.context() as patch:
        patch.setattr(session.engine, "segmentSlice", fail)
        session.addPoint("disc", (x + 8, y, z), True)
        segmented.settle()
    assert segmented.status.startswith("⚠ Segmenting failed")
    follow_mouse(segmented, 2)
    assert segmented.status.startswith("⚠ Segmenting failed")
    assert session.engine.segmentSlice == real
    session.addPoint("disc", session.sliceCenter(6), True)
    segmented.settle()
    assert segmented.status == "The segment is up to date."
