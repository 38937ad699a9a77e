"""A session is open, or was, and its pack becomes another version: which session goes on, and what it takes along."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import save_pack
from scene_cases import add_volume


def adopt(folder: Path, *targets: str) -> None:
    """Another version of the pack `fake`, with these targets, becomes the present one."""
    from ProMISeCore import versions

    folder.mkdir(exist_ok=True)
    versions.adopt("fake", save_pack(folder, "fake", "MR", targets))


def segment(panel):
    panel.click("segmentButton")
    panel.settle()
    return panel.widget.session


def place(panel, target: str, n: int = 2) -> None:
    x, y, z = panel.widget.session.sliceCenter(n)
    panel.widget.session.addPoint(target, (x + 8, y, z), True)
    panel.settle()


def mine(session, target: str) -> int:
    """How many points of a target are the user's."""
    return sum(mark.user for mark in session.target(target).table.values())


def deleteMine(panel, target: str, n: int = 2) -> None:
    panel.widget.session.target(target).deleteLast(n)
    panel.settle()


# Which session goes on


def comeBack(panel, opened):
    node = panel.widget.parameterNode
    before = node.inputVolume
    node.inputVolume = add_volume("next", 9)
    node.inputVolume = before
    return panel


def renew(panel, opened):
    panel.widget.sitting.renew()
    return panel


def openAgain(panel, opened):
    """As after loading the scene: nothing is known but what is in it."""
    panel.widget.cleanup()
    return opened(volume=False)


@pytest.mark.parametrize("leave", [comeBack, renew, openAgain])
def test_the_session_last_at_work_goes_on_not_the_one_begun_last(segmented, opened, tmp_path, leave) -> None:
    from ProMISeCore import versions

    panel, first = segmented, segmented.widget.session.node
    panel.choose("fake")
    adopt(tmp_path, "disc")
    assert segment(panel).targets == ["disc"] and panel.widget.session.node is not first
    versions.roll_back("fake", 1)
    assert segment(panel).node is first
    place(panel, "ring")
    session = leave(panel, opened).widget.session
    assert session.node is first and session.targets == ["disc", "ring"] and mine(session, "ring") == 1


def test_the_segmentation_last_worked_in_is_found_in_a_scene_not_the_newest(segmented, volume) -> None:
    import slicer
    from ProMISeSlicerLib import cases
    from ProMISeSlicerLib.state import findSession, volumeIn

    panel, node = segmented, segmented.widget.parameterNode
    first, memory = node.segmentation, segmented.widget.session.node
    node.segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "second")
    assert segment(panel).node is not memory
    node.segmentation = first
    assert panel.widget.session.node is memory
    panel.widget.cleanup()
    assert panel.widget.logic.segmentationOf(volume) is first and findSession(volume) is memory
    other = panel.widget.logic.makeSession(add_volume("next", 9), panel.widget.choice.chosen(), first)
    other.close()
    assert volumeIn(first) is other.volumeNode
    panel.widget.logic.resumeSession(memory)[0].close()
    first.SetNodeReferenceID(first.GetReferenceImageGeometryReferenceRole(), None)
    assert volumeIn(first) is volume and cases.volumeOf(first) is volume


# What it takes along


def test_points_go_along_to_a_version_with_one_more_target_and_are_followed(segmented, tmp_path) -> None:
    panel = segmented
    panel.choose("fake")
    place(panel, "disc")
    deleteMine(panel, "disc")
    without = panel.mask("disc", 2)
    place(panel, "disc")
    corrected = panel.mask("disc", 2)
    adopt(tmp_path, "disc", "ring", "more")
    session = segment(panel)
    assert session.targets == ["disc", "ring", "more"] and mine(session, "disc") == 1
    assert (panel.mask("disc", 2) == corrected).all() and (corrected != without).any()
    deleteMine(panel, "disc")
    assert (panel.mask("disc", 2) == without).all()
