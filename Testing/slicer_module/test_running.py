"""Segment, progress and Cancel, clicked in the test double; and what goes wrong."""

from __future__ import annotations

import logging

import numpy as np


def test_one_click_segments_every_target_and_slice(segmented, volume) -> None:
    import slicer

    node = segmented.widget.parameterNode.segmentation
    voxels = slicer.util.arrayFromVolume(volume)
    assert segmented.status.startswith("Done.")
    for target, value in (("disc", 100), ("ring", 200)):
        found = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmented.widget.session.segmentId(target), volume)
        assert np.array_equal(found != 0, voxels == value)
    assert not segmented.ui.progressBar.visible and not segmented.widget.run.timer.active
    assert segmented.ui.targetComboBox.count == 2 and segmented.ui.sliceStrip.columnCount == 12


def test_slice_on_screen_goes_first(segmented) -> None:
    panel, first = segmented, []
    panel.show(9)
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
    assert panel.status.startswith("Done.")


def test_cancel_keeps_what_is_done_and_segment_goes_on(opened) -> None:
    panel = opened(delay=0.05)
    panel.click("segmentButton")
    panel.settle(lambda: panel.ui.progressBar.value >= 3)
    panel.click("cancelButton")
    panel.settle()
    done = [n for n in range(12) if panel.mask("disc", n).any()]
    assert 3 <= len(done) < 12
    assert panel.status.startswith("Cancelled") and panel.ui.segmentButton.enabled
    panel.click("segmentButton")
    panel.settle()
    assert all(panel.mask("disc", n).any() for n in range(12))


def test_surfaces_are_made_on_demand(segmented) -> None:
    segmentation = segmented.widget.parameterNode.segmentation.GetSegmentation()
    segmented.click("show3DCheckBox")
    assert segmentation.ContainsRepresentation("Closed surface")
    segmented.click("show3DCheckBox")
    assert not segmentation.ContainsRepresentation("Closed surface")


def test_an_unusable_volume_gives_one_message(module, opened, caplog) -> None:
    import slicer

    slicer.util.addVolumeFromArray(np.zeros((4, 16, 16), np.int16), name="empty")
    panel = opened(volume=False)
    with caplog.at_level(logging.ERROR):
        panel.click("segmentButton")
    assert panel.status.startswith("⚠ Segmenting could not start") and "constant" in panel.status
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
    assert panel.ui.segmentButton.enabled and not panel.widget.run.timer.active


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
    assert panel.status.startswith("Done.")
