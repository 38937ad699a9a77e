"""Scenes closed, nodes deleted, volumes switched, sessions saved: the panel in the test double."""

from __future__ import annotations

import numpy as np
import pytest


def test_scene_closed_in_the_middle_of_a_run(opened) -> None:
    import slicer

    panel = opened(delay=0.05)
    panel.click("segmentButton")
    panel.settle(lambda: panel.ui.progressBar.value >= 1)
    slicer.mrmlScene.Clear(False)
    assert panel.widget.session is None and not panel.widget.run.timer.active
    assert panel.widget.parameterNode is not None and not panel.ui.segmentButton.enabled
    assert panel.status.startswith("Load and select a volume"), "nothing is left of what was done"


@pytest.mark.parametrize("which", ["inputVolume", "segmentation"])
def test_node_deleted_in_the_middle_of_a_run(opened, which: str) -> None:
    import slicer

    panel = opened(delay=0.05)
    panel.click("segmentButton")
    panel.settle(lambda: panel.ui.progressBar.value >= 1)
    slicer.mrmlScene.RemoveNode(getattr(panel.widget.parameterNode, which))
    assert panel.widget.session is None and not panel.widget.run.timer.active
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


@pytest.mark.parametrize("isOpen", [True, False])
def test_module_reloaded_in_the_middle_of_a_run(opened, monkeypatch, isOpen: bool) -> None:
    """Slicer makes another panel, of which it calls `setup`; `enter` is what switches on shortcuts in views."""
    import sys
    import types

    import slicer

    panel, reloaded = opened(delay=0.05), []
    panel.widget.parent.setProperty("isEntered", isOpen)
    names = [name for name in sys.modules if name.startswith(("ProMISeSlicerLib", "ProMISeCore"))]
    libraries = {name: sys.modules[name] for name in names}
    monkeypatch.setattr(slicer.util, "reloadScriptedModule", reloaded.append)
    other = types.SimpleNamespace(enter=lambda: reloaded.append("entered"))
    monkeypatch.setattr(slicer.modules, "ProMISeSlicerWidget", other, raising=False)
    panel.click("segmentButton")
    panel.settle(lambda: panel.ui.progressBar.value >= 1)
    session = panel.widget.session
    panel.widget.onReload()
    try:
        assert reloaded == ["ProMISeSlicer", *(["entered"] if isOpen else [])]
        assert session.isClosed and not panel.widget.run.timer.active
        assert not [name for name in sys.modules if name.startswith("ProMISeSlicerLib")]
    finally:
        sys.modules.update(libraries)


def test_a_scene_that_is_added_while_a_session_is_open_leaves_a_working_panel(opened, volume, monkeypatch) -> None:
    """It brings the parameters that it was saved with, before it had a session."""
    import sys

    import slicer

    panel, scene, failed = opened(), slicer.mrmlScene, []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: failed.append(str(error)))
    scene.SetSaveToXMLString(1)
    scene.Commit()
    text = scene.GetSceneXMLString()
    panel.choose("fake")
    panel.click("segmentButton")
    panel.settle()
    assert panel.widget.parameterNode.target == "disc" and panel.widget.session is not None
    scene.SetLoadFromXMLString(1)
    scene.SetSceneXMLString(text)
    assert scene.Import()
    assert failed == []
    panel.ui.inputVolumeSelector.setCurrentNode(volume)  # of the other nothing but the node was saved
    panel.choose("fake")
    panel.click("segmentButton")
    panel.settle()
    assert panel.widget.session is not None and panel.ui.positiveButton.enabled
    assert panel.ui.targetComboBox.currentText == panel.widget.parameterNode.target == "disc"


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
    before = panel.mask("disc", 3)
    ras = panel.widget.session.sliceCenter(3)
    positives.AddControlPointWorld(ras[0] + 8, ras[1], ras[2])
    panel.settle()
    assert not np.array_equal(before, panel.mask("disc", 3))


def test_a_missing_pack_is_a_message(segmented, opened, home) -> None:
    segmented.widget.cleanup()
    (home / "packs" / "fake.safetensors").unlink()
    panel = opened(volume=False, engine=None)
    assert "fake" in panel.status and panel.status.startswith("⚠")
    assert "The pack fake of this scene is not installed" in panel.ui.packWarningLabel.text
    assert not panel.ui.segmentButton.enabled


def test_two_volumes_keep_their_segmentations_and_sessions(segmented, volume) -> None:
    import slicer

    panel, first = segmented, segmented.widget.parameterNode.segmentation
    voxels = slicer.util.arrayFromVolume(volume)
    other = slicer.util.addVolumeFromArray(voxels.copy(), name="other")
    panel.ui.inputVolumeSelector.setCurrentNode(other)
    panel.click("segmentButton")
    panel.settle()
    second = panel.widget.parameterNode.segmentation
    assert second is not None and second is not first
    panel.ui.inputVolumeSelector.setCurrentNode(volume)
    assert panel.widget.parameterNode.segmentation is first and panel.widget.session.volumeNode is volume
    before = panel.mask("disc", 3)
    ras = panel.widget.session.sliceCenter(3)
    panel.widget.session.promptNodes("disc")[0].AddControlPointWorld(ras[0] + 8, ras[1], ras[2])
    panel.settle()
    assert not np.array_equal(before, panel.mask("disc", 3))


def test_other_slices_are_another_session_with_another_segmentation(segmented) -> None:
    first = segmented.widget.parameterNode.segmentation
    segmented.ui.slicesComboBox.setCurrentIndex(2)
    assert segmented.widget.session is None and segmented.widget.parameterNode.segmentation is None
    segmented.click("segmentButton")
    segmented.settle()
    assert segmented.widget.session.axis == "sagittal" and len(segmented.widget.review.states) == 40
    assert segmented.widget.parameterNode.segmentation is not first
    segmented.widget.exit()
    segmented.widget.sitting.end()
    segmented.widget.enter()
    assert segmented.widget.session.axis == "sagittal"


def test_changed_settings_do_not_end_the_session_for_the_user(segmented) -> None:
    before = segmented.mask("disc", 3)
    segmented.ui.deviceComboBox.setCurrentIndex(3)
    ras = segmented.widget.session.sliceCenter(3)
    segmented.widget.session.promptNodes("disc")[0].AddControlPointWorld(ras[0] + 8, ras[1], ras[2])
    segmented.settle()
    assert not np.array_equal(before, segmented.mask("disc", 3))


def test_colour_pictures_are_segmented(module, opened) -> None:
    import slicer

    picture = np.zeros((1, 24, 30, 3), np.uint8)
    picture[0, 5:15, 6:18] = 100
    slicer.util.addVolumeFromArray(picture, name="picture", nodeClassName="vtkMRMLVectorVolumeNode")
    panel = opened(volume=False)
    assert panel.widget.choice.chosen().manifest.modality == "RGB"
    panel.choose("polyp")
    panel.click("segmentButton")
    panel.settle()
    assert panel.status.startswith("Done.") and panel.ui.sliceStrip.columnCount == 1
    assert panel.mask("polyp", 0).sum() == 120


def test_frames_of_a_sequence_are_segmented_as_they_are_shown(module, opened) -> None:
    import slicer

    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    frames = [np.zeros((6, 20, 20), np.int16) for _ in range(2)]
    frames[0][:, 4:9, 4:9] = frames[1][:, 10:16, 10:16] = 100
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine")
    for index, frame in enumerate(frames):
        node = slicer.util.addVolumeFromArray(frame, name=f"frame {index}")
        sequence.SetDataNodeAtValue(node, str(index))
        slicer.mrmlScene.RemoveNode(node)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    logic.UpdateProxyNodesFromSequences(browser)
    panel = opened(volume=False)
    assert panel.widget.parameterNode.inputVolume is browser.GetProxyNode(sequence)
    panel.widget.parameterNode.pack = "fake"
    for index, frame in enumerate(frames):
        browser.SetSelectedItemNumber(index)
        logic.UpdateProxyNodesFromSequences(browser)
        panel.click("segmentButton")
        panel.settle()
        assert panel.status.startswith("Done.")
        assert panel.mask("disc", 3).sum() == (frame[3] > 0).sum()


def test_leaving_the_module_in_the_middle_of_a_run_lets_it_go_on(opened) -> None:
    panel = opened(delay=0.02)
    panel.click("segmentButton")
    panel.widget.exit()
    panel.settle()
    panel.widget.enter()
    assert all(panel.mask("disc", n).any() for n in range(12)) and panel.status.startswith("Done.")


def test_a_session_goes_on_with_the_version_of_the_pack_it_was_made_with(segmented, opened) -> None:
    from dataclasses import replace

    from ProMISeCore import packs, versions

    first = packs.read_manifest(packs.find("fake"))
    before = segmented.mask("disc", 5)
    versions.add("fake", replace(first, description="taught again"), {})
    assert packs.read_manifest(packs.find("fake")).description == "taught again"
    segmented.widget.cleanup()
    again = opened(volume=False)
    assert again.widget.session is not None and "⚠" not in again.status, again.status
    assert again.widget.session.manifest.description == first.description
    assert again.widget.choice.chosen().path.stem == "fake" and np.array_equal(again.mask("disc", 5), before)
