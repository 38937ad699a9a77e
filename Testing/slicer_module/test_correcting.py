"""Control points, box, undo and propagation, clicked in the test double."""

from __future__ import annotations

import numpy as np


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


def test_lock_and_release_the_slice_on_screen(segmented) -> None:
    segmented.show(7)
    segmented.click("lockButton")
    assert segmented.ui.sliceStrip.item(3, 7).text() == "L"
    segmented.click("releaseButton")
    assert segmented.ui.sliceStrip.item(3, 7).text() == ""


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


def test_shortcuts_belong_to_the_panel_only(segmented) -> None:
    import qt

    shortcuts = segmented.widget.parent.findChildren(qt.QShortcut)
    assert {s.key.toString() for s in shortcuts} == {"P", "N", "D", "U", "Shift+U", "L", "Shift+L", "W"}
    assert all(s.context == qt.Qt.WidgetWithChildrenShortcut for s in shortcuts)
    next(s for s in shortcuts if s.key.toString() == "P").activated.emit()
    assert segmented.ui.positiveButton.checked
