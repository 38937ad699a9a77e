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
        assert reloaded == ["ProMISeSlicer"] and session.isClosed and not panel.widget.run.timer.active
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
