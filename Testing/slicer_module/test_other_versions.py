"""A session is open, or was, and its pack becomes another version: which session goes on, and what it takes along."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from scene_cases import add_volume, save_pack, settle


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


# What counts as another version


def test_a_teaching_that_ends_while_another_module_is_open_says_nothing_of_a_session_with_another_pack(school) -> None:
    panel = school("slow")
    panel.choose("lung")
    segment(panel)
    panel.click("teachButton")
    panel.settle(lambda: panel.widget.teach.tuition.course.looks != [])
    panel.widget.exit()
    panel.widget.teach.tuition.stop()
    settle(panel)
    assert "Große Läsion" in panel.status and "was begun with version" not in panel.status
    panel.widget.enter()
    assert panel.widget.session.manifest.name == "lung" and "was begun with" not in panel.ui.packWarningLabel.text


def test_a_version_put_to_use_while_another_module_is_open_is_told(segmented, tmp_path) -> None:
    panel = segmented
    panel.widget.exit()
    adopt(tmp_path, "disc")
    panel.widget.choice.fill()
    assert "was begun with version" in panel.widget.choice.otherVersion()


def test_a_file_with_other_weights_of_which_the_same_is_said_is_another_version(segmented, home) -> None:
    from ProMISeCore import packs

    panel, path = segmented, home / "packs" / "fake.safetensors"
    place(panel, "disc")
    begun = panel.widget.session.sha256
    packs.save(path, packs.read_manifest(path), {"0.x": np.ones(3, np.float32)})
    panel.widget.choice.fill()
    assert "Segment again takes that" in panel.ui.packWarningLabel.text
    session = segment(panel)
    assert session.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() != begun and mine(session, "disc") == 1
    assert panel.ui.packWarningLabel.text == "" and segment(panel) is session
