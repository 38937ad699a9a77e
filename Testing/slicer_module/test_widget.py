"""The panel, clicked offscreen in the test double: real scene, real nodes, the real session, a fake engine."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest


@pytest.fixture
def segmented(panel):
    """The panel after one click on Segment."""
    panel.click("segmentButton")
    panel.settle()
    return panel


def mask(panel, target: str, n: int) -> np.ndarray:
    session = panel.widget.session
    return session.segments.read(session.segmentId(target), n)


def show(n: int, panel) -> None:
    """Scroll the red view to a slice."""
    import slicer

    red = slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode")
    red.SetSliceOffset(panel.widget.session.sliceCenter(n)[2])


# Opening


def test_nothing_can_be_done_before_something_is_chosen(module, opened) -> None:
    panel = opened(volume=False)
    assert not panel.ui.segmentButton.enabled
    assert "volume" in panel.ui.segmentButton.toolTip
    for name in ("cancel", "undo", "redo", "positive", "lock", "propagate", "nextWorst", "show3D"):
        assert not getattr(panel.ui, name + "Button").enabled


def test_first_volume_and_first_pack_are_chosen(panel, volume) -> None:
    assert panel.ui.inputVolumeSelector.currentNode() is volume
    assert panel.ui.packComboBox.currentText == "Title of fake (MR)"
    for words in ("disc (0.91), ring", "MR, axial slices", "CC-BY-4.0"):
        assert words in panel.ui.packDetailsLabel.text
    assert panel.ui.segmentButton.enabled


def test_opening_and_leaving_change_nothing_but_the_display(panel, volume) -> None:
    import slicer

    def scene() -> list[str]:
        return [slicer.mrmlScene.GetNthNode(i).GetID() for i in range(slicer.mrmlScene.GetNumberOfNodes())]

    before = scene()
    panel.widget.exit()
    panel.widget.enter()
    assert scene() == before
    assert not panel.widget.timer.active


def test_label_maps_are_no_volumes_to_segment(module, opened) -> None:
    import slicer

    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    panel = opened(volume=False)
    assert panel.widget.parameterNode.inputVolume is None and panel.ui.inputVolumeSelector.nodeCount() == 0
    panel.ui.inputVolumeSelector.setCurrentNode(labels)
    assert not panel.ui.segmentButton.enabled


def test_colour_volumes_can_be_chosen_and_are_told_from_grey_ones(panel, home, module) -> None:
    import slicer
    from ProMISeSlicerLib import catalogue

    colour = slicer.util.addVolumeFromArray(
        np.zeros((1, 8, 9, 3), np.uint8), name="picture", nodeClassName="vtkMRMLVectorVolumeNode"
    )
    grey = panel.widget.parameterNode.inputVolume
    panel.ui.inputVolumeSelector.setCurrentNode(colour)
    assert panel.widget.parameterNode.inputVolume is colour
    assert "looks like RGB" in panel.ui.packWarningLabel.text
    rgb = replace(panel.widget.choice.chosen().manifest, modality="RGB")
    assert catalogue.misfit(rgb, colour) == "" and "no colour" in catalogue.misfit(rgb, grey)


def test_a_pack_for_another_modality_says_so(panel) -> None:
    import slicer

    assert panel.ui.packWarningLabel.text == ""
    ct = slicer.util.addVolumeFromArray(np.full((3, 8, 8), -1000, np.int16), name="ct")
    panel.ui.inputVolumeSelector.setCurrentNode(ct)
    assert "made for MR, and the volume looks like CT" in panel.ui.packWarningLabel.text
    panel.ui.packComboBox.setCurrentIndex(1)
    assert panel.widget.parameterNode.pack == "lung"
    assert panel.ui.packWarningLabel.text == ""


def test_parameters_and_widgets_follow_each_other(panel) -> None:
    node = panel.widget.parameterNode
    panel.ui.propagateCountSpinBox.value = 7
    assert node.propagateCount == 7
    node.propagateCount = 2
    assert panel.ui.propagateCountSpinBox.value == 2
    panel.ui.propagateDirectionComboBox.setCurrentIndex(1)
    assert node.propagateDirection.name == "UP"
    node.pack = "lung"
    assert panel.ui.packComboBox.currentText == "Title of lung (CT)"


# One click


def test_one_click_segments_every_target_and_slice(segmented, volume) -> None:
    import slicer

    node = segmented.widget.parameterNode.segmentation
    voxels = slicer.util.arrayFromVolume(volume)
    assert segmented.status == "Done."
    for target, value in (("disc", 100), ("ring", 200)):
        found = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmented.widget.session.segmentId(target), volume)
        assert np.array_equal(found != 0, voxels == value)
    assert not segmented.ui.progressBar.visible and not segmented.widget.timer.active
    assert segmented.ui.targetComboBox.count == 2 and segmented.ui.sliceStrip.columnCount == 12


def test_slice_on_screen_goes_first(segmented) -> None:
    panel, first = segmented, []
    show(9, panel)
    panel.widget.session.engine.segmentVolume = lambda n, cancelled: first.append(n) or iter(())
    panel.click("segmentButton")
    panel.settle()
    assert first == [9]


def test_progress_is_shown_with_the_time_left(opened) -> None:
    panel = opened(delay=0.05)
    panel.click("segmentButton")
    assert panel.ui.cancelButton.enabled and not panel.ui.segmentButton.enabled
    panel.settle(lambda: "s left" in panel.status)
    assert panel.ui.progressBar.maximum == 12 and 0 < panel.ui.progressBar.value < 12
    panel.settle()
    assert panel.status == "Done."


def test_cancel_keeps_what_is_done_and_segment_goes_on(opened) -> None:
    panel = opened(delay=0.05)
    panel.click("segmentButton")
    panel.settle(lambda: panel.ui.progressBar.value >= 3)
    panel.click("cancelButton")
    panel.settle()
    done = [n for n in range(12) if mask(panel, "disc", n).any()]
    assert 3 <= len(done) < 12
    assert panel.status.startswith("Cancelled") and panel.ui.segmentButton.enabled
    panel.click("segmentButton")
    panel.settle()
    assert all(mask(panel, "disc", n).any() for n in range(12))


def test_surfaces_are_made_on_demand(segmented) -> None:
    segmentation = segmented.widget.parameterNode.segmentation.GetSegmentation()
    segmented.click("show3DButton")
    assert segmentation.ContainsRepresentation("Closed surface")
    segmented.click("show3DButton")
    assert not segmentation.ContainsRepresentation("Closed surface")


# Correcting


def test_a_point_added_in_a_view_is_followed_without_a_click(segmented) -> None:
    before = mask(segmented, "disc", 4)
    positives = segmented.widget.session.promptNodes("disc")[0]
    ras = segmented.widget.session.sliceCenter(4)
    positives.AddControlPointWorld(ras[0] + 8, ras[1], ras[2])
    assert segmented.widget.timer.active
    segmented.settle()
    assert not np.array_equal(before, mask(segmented, "disc", 4))
    assert segmented.ui.undoButton.enabled


def test_undo_and_redo_take_one_prompt_step(segmented) -> None:
    before = mask(segmented, "disc", 4)
    segmented.widget.session.addPoint("disc", segmented.widget.session.sliceCenter(4), True)
    segmented.settle()
    after = mask(segmented, "disc", 4)
    segmented.click("undoButton")
    segmented.settle()
    assert np.array_equal(mask(segmented, "disc", 4), before) and not segmented.ui.undoButton.enabled
    segmented.click("redoButton")
    segmented.settle()
    assert np.array_equal(mask(segmented, "disc", 4), after)


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
    show(7, segmented)
    segmented.click("lockButton")
    assert segmented.ui.sliceStrip.item(2, 7).text() == "L"
    segmented.click("releaseButton")
    assert segmented.ui.sliceStrip.item(2, 7).text() == ""


def test_propagate_passes_the_choices_on(segmented, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(segmented.widget.session, "propagate", lambda *given: calls.append(given))
    segmented.ui.propagateCountSpinBox.value = 4
    segmented.ui.propagateDirectionComboBox.setCurrentIndex(2)
    show(6, segmented)
    segmented.click("propagateButton")
    segmented.ui.propagateCountSpinBox.value = 0
    segmented.click("propagateButton")
    assert calls == [("disc", 6, 4, -1), ("disc", 6, None, -1)]


def test_propagating_really_takes_the_slice_to_its_neighbours(segmented) -> None:
    show(6, segmented)
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


# Review


def test_clicking_the_strip_goes_to_the_slice(segmented) -> None:
    segmented.ui.sliceStrip.cellClicked.emit(0, 10)
    assert segmented.widget.sliceOnScreen() == 10
    assert segmented.ui.reviewLabel.text.startswith("Slice 11: predicted quality 0.80")


def test_next_worst_slice_is_the_one_of_least_quality(segmented) -> None:
    segmented.click("nextWorstButton")
    assert segmented.widget.sliceOnScreen() == 11
    segmented.click("nextWorstButton")
    assert segmented.widget.sliceOnScreen() == 10


def test_the_strip_tells_states_without_colour(segmented) -> None:
    segmented.widget.session.addPoint("disc", segmented.widget.session.sliceCenter(2), True)
    segmented.settle()
    letters = [segmented.ui.sliceStrip.item(2, n).text() for n in range(12)]
    assert letters == ["", "", "U"] + [""] * 9
    assert "corrected by you" in segmented.ui.sliceStrip.item(0, 2).toolTip()


# Shortcuts


def test_shortcuts_belong_to_the_panel_only(segmented) -> None:
    import qt

    shortcuts = segmented.widget.parent.findChildren(qt.QShortcut)
    assert {s.key.toString() for s in shortcuts} == {"P", "N", "U", "Shift+U", "L", "W"}
    assert all(s.context == qt.Qt.WidgetWithChildrenShortcut for s in shortcuts)
    next(s for s in shortcuts if s.key.toString() == "P").activated.emit()
    assert segmented.ui.positiveButton.checked


# Scene


def test_scene_closed_in_the_middle_of_a_run(opened) -> None:
    import slicer

    panel = opened(delay=0.05)
    panel.click("segmentButton")
    panel.settle(lambda: panel.ui.progressBar.value >= 1)
    slicer.mrmlScene.Clear(False)
    assert panel.widget.session is None and not panel.widget.timer.active
    assert panel.widget.parameterNode is not None and not panel.ui.segmentButton.enabled


@pytest.mark.parametrize("which", ["inputVolume", "segmentation"])
def test_node_deleted_in_the_middle_of_a_run(opened, which: str) -> None:
    import slicer

    panel = opened(delay=0.05)
    panel.click("segmentButton")
    panel.settle(lambda: panel.ui.progressBar.value >= 1)
    slicer.mrmlScene.RemoveNode(getattr(panel.widget.parameterNode, which))
    assert panel.widget.session is None and not panel.widget.timer.active
    assert "was removed" in panel.status


def test_volume_switched_in_the_middle_of_a_run(opened, volume) -> None:
    import slicer

    panel = opened(delay=0.05)
    panel.click("segmentButton")
    panel.settle(lambda: panel.ui.progressBar.value >= 1)
    other = slicer.util.addVolumeFromArray(slicer.util.arrayFromVolume(volume).copy(), name="other")
    panel.ui.inputVolumeSelector.setCurrentNode(other)
    assert panel.widget.session is None and panel.widget.parameterNode.segmentation is None
    panel.click("segmentButton")
    panel.settle()
    assert panel.widget.session.volumeNode is other


def test_module_reloaded_in_the_middle_of_a_run(opened, monkeypatch) -> None:
    import sys

    import slicer

    panel, reloaded = opened(delay=0.05), []
    names = [name for name in sys.modules if name.startswith(("ProMISeSlicerLib", "ProMISeCore"))]
    libraries = {name: sys.modules[name] for name in names}
    monkeypatch.setattr(slicer.util, "reloadScriptedModule", reloaded.append)
    panel.click("segmentButton")
    panel.settle(lambda: panel.ui.progressBar.value >= 1)
    session = panel.widget.session
    panel.widget.onReload()
    try:
        assert reloaded == ["ProMISeSlicer"] and session.isClosed and not panel.widget.timer.active
        assert not [name for name in sys.modules if name.startswith("ProMISeSlicerLib")]
    finally:
        sys.modules.update(libraries)


def test_repeated_runs_and_cleanup_leave_nothing_behind(module, opened) -> None:
    import threading

    panel = opened()
    for _ in range(3):
        panel.click("segmentButton")
        panel.settle()
    workers = [thread for thread in threading.enumerate() if thread.name == "ProMISe worker"]
    assert len(workers) == 1
    panel.widget.cleanup()
    workers[0].join(5)
    assert not workers[0].is_alive()
    assert panel.widget.Observations == []


def test_saved_session_goes_on_when_the_module_is_opened_again(segmented, opened) -> None:
    segmented.widget.cleanup()
    panel = opened(volume=False)
    assert panel.widget.session is not None and panel.ui.targetComboBox.count == 2
    positives = panel.widget.session.promptNodes("disc")[0]
    before = mask(panel, "disc", 3)
    ras = panel.widget.session.sliceCenter(3)
    positives.AddControlPointWorld(ras[0] + 8, ras[1], ras[2])
    panel.settle()
    assert not np.array_equal(before, mask(panel, "disc", 3))


def test_a_missing_pack_is_a_message(segmented, opened, home) -> None:
    segmented.widget.cleanup()
    (home / "packs" / "fake.safetensors").unlink()
    panel = opened(volume=False, engine=None)
    assert "fake" in panel.status and panel.status.startswith("⚠")
    assert "The pack fake of this scene is not installed" in panel.ui.packDetailsLabel.text
    assert not panel.ui.segmentButton.enabled


# What goes wrong


def test_an_unusable_volume_gives_one_message(module, opened, caplog) -> None:
    import slicer

    slicer.util.addVolumeFromArray(np.zeros((4, 16, 16), np.int16), name="empty")
    panel = opened(volume=False)
    with caplog.at_level(logging.ERROR):
        panel.click("segmentButton")
    assert panel.status.startswith("⚠ Segmenting could not start") and "constant" in panel.status
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
    assert panel.ui.segmentButton.enabled and not panel.widget.timer.active


def test_an_engine_that_fails_gives_a_message_and_can_be_tried_again(panel, monkeypatch) -> None:
    from ProMISeSlicerLib.fakeEngine import FakeEngine

    def fail(self, first, cancelled):
        raise RuntimeError("out of order")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(FakeEngine, "segmentVolume", fail)
        panel.click("segmentButton")
        panel.settle()
    assert "out of order" in panel.status and panel.ui.segmentButton.enabled
    panel.click("segmentButton")
    panel.settle()
    assert panel.status == "Done."


# Installing


def test_nothing_is_installed_while_testing(opened, monkeypatch) -> None:
    from ProMISeSlicerLib import environment

    panel = opened(engine=None)
    monkeypatch.setattr(environment, "missing", lambda: list(environment.REQUIREMENTS[:1]))
    panel.click("segmentButton")
    assert "PyTorch (0.2 to 3 GB)" in panel.status and panel.widget.session is None


@pytest.mark.parametrize("agrees", [True, False])
@pytest.mark.parametrize("packaging", [True, False])
def test_what_is_missing_is_asked_for_once_with_sizes(opened, monkeypatch, agrees: bool, packaging: bool) -> None:
    import sys
    import types

    import slicer
    from ProMISeSlicerLib import environment

    asked, done = [], []
    panel = opened(engine=None)
    logic = type("PyTorchUtilsLogic", (), {"installTorch": lambda self, **how: done.append(("torch", how)) or True})
    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = logic
    installer = types.ModuleType("slicer.packaging")
    installer.load_requirements = lambda path: path
    installer.pip_ensure = lambda wanted, **how: done.append(("ensure", how["prompt_install"]))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    monkeypatch.setitem(sys.modules, "slicer.packaging", installer if packaging else None)
    monkeypatch.setattr(slicer, "packaging", installer, raising=False)
    if not packaging:
        monkeypatch.delattr(slicer, "packaging")
    monkeypatch.setattr(environment, "missing", lambda: list(environment.REQUIREMENTS))
    monkeypatch.setattr(slicer.app, "testingEnabled", lambda: False)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: asked.append(text) or agrees)
    monkeypatch.setattr(slicer.util, "pip_install", lambda line: done.append(("pip", line.split(">")[0])))
    panel.click("segmentButton")
    assert len(asked) == 1 and "PyTorch (0.2 to 3 GB)" in asked[0]
    names = [name for name, _ in done]
    assert names == ([] if not agrees else ["torch", "ensure"] if packaging else ["torch", "pip", "pip"])
    if agrees:
        assert done[0][1]["askConfirmation"] is False
    else:
        assert "Nothing was installed" in panel.status


def test_without_the_pytorch_extension_the_message_says_how_to_get_it(opened, monkeypatch) -> None:
    import slicer
    from ProMISeSlicerLib import environment

    panel = opened(engine=None)
    monkeypatch.setattr(environment, "missing", lambda: list(environment.REQUIREMENTS[:1]))
    monkeypatch.setattr(slicer.app, "testingEnabled", lambda: False)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    panel.click("segmentButton")
    assert "install it from the Extensions Manager" in panel.status


# Settings


def test_settings_are_kept_for_this_machine_not_in_the_scene(panel, opened) -> None:
    from ProMISeSlicerLib import settings

    panel.ui.deviceComboBox.setCurrentIndex(3)
    panel.ui.cacheLimitSpinBox.value = 2.5
    assert (settings.device(), settings.cacheLimit()) == ("cpu", 2.5e9)
    again = opened(volume=False)
    assert again.ui.deviceComboBox.currentText == "cpu" and again.ui.cacheLimitSpinBox.value == 2.5
    assert panel.widget.logic.getParameterNode().parameterNode.GetParameter("device") == ""


def test_cache_is_shown_and_cleared(panel) -> None:
    from ProMISeCore.cache import Cache

    Cache().put("0" * 64, {"embedding": np.ones((256, 4, 4), np.float16)})
    panel.ui.settingsCollapsibleButton.collapsed = False
    assert "1 slices" in panel.ui.cacheLabel.text
    panel.click("clearCacheButton")
    assert "0 slices" in panel.ui.cacheLabel.text and "1 cached slices removed" in panel.status


def test_downloaded_models_are_removed_and_the_embedded_one_stays(panel, home) -> None:
    from ProMISeCore import backbones

    (home / "backbones").mkdir()
    file = home / "backbones" / backbones.TABLE["mobile_sam"].file
    file.write_bytes(b"\0" * 3_000_000)
    panel.ui.settingsCollapsibleButton.collapsed = False
    assert "mobile_sam (3 MB)" in panel.ui.modelsLabel.text
    panel.click("removeModelsButton")
    assert not file.exists() and "3 MB freed" in panel.status and not panel.ui.removeModelsButton.enabled


def test_folder_is_another_one_for_packs_and_cache(panel, tmp_path) -> None:
    from ProMISeSlicerLib import upkeep

    panel.ui.homeFolderButton.directory = str(tmp_path / "elsewhere")
    assert upkeep.home() == str(tmp_path / "elsewhere")
    assert "Title of fake (MR)" not in [panel.ui.packComboBox.itemText(i) for i in range(panel.ui.packComboBox.count)]


def test_installation_check_says_how_to_mend(panel, monkeypatch) -> None:
    from ProMISeSlicerLib import environment

    monkeypatch.setattr(environment, "isThere", lambda name: name != "torch")
    panel.click("selfCheckButton")
    lines = panel.ui.selfCheckLabel.text.splitlines()
    assert lines[0].startswith("✓ ProMISeCore")
    assert any(line.startswith("✗ PyTorch is missing") and "PyTorch extension" in line for line in lines)
    assert any(line.startswith("✓ Packs:") and "fake" in line for line in lines)
