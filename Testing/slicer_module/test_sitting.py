"""Which session the panel has: another pack, volume, slices or setting is chosen, or the session closes itself."""

from __future__ import annotations

import threading

import numpy as np
import pytest


def add_other(volume):
    """Another volume on the same grid, whose disc (value 100) is elsewhere."""
    import slicer

    return slicer.util.addVolumeFromArray(np.roll(slicer.util.arrayFromVolume(volume), 3, axis=2), name="other")


def prompts(session) -> list:
    return [node for target in session.targets for node in session.promptNodes(target)]


def seen(nodes: list) -> list[bool]:
    return [bool(node.GetDisplayVisibility()) for node in nodes]


def voxels(panel) -> np.ndarray:
    """(K, J, I) bool of the disc, as Slicer itself puts the segment onto the volume."""
    import slicer

    session = panel.widget.session
    found = slicer.util.arrayFromSegmentBinaryLabelmap(
        session.segmentationNode, session.segmentId("disc"), session.volumeNode
    )
    return found != 0


def correct(panel, n: int = 4) -> None:
    x, y, z = panel.widget.session.sliceCenter(n)
    panel.widget.session.addPoint("disc", (x + 8, y, z), True)
    panel.settle()


def is_followed(panel) -> bool:
    """Whether dragged control points change the mask."""
    before, node = panel.mask("disc", 4), panel.widget.session.promptNodes("disc")[0]
    for index in range(node.GetNumberOfControlPoints()):
        x, y, z = node.GetNthControlPointPositionWorld(index)
        node.SetNthControlPointPositionWorld(index, x + 3, y, z)
    panel.settle()
    return not np.array_equal(before, panel.mask("disc", 4))


def test_after_a_look_at_another_pack_the_session_goes_on(segmented) -> None:
    correct(segmented)
    mask = segmented.mask("disc", 4)
    segmented.choose("lung")
    assert segmented.widget.session is None and not segmented.ui.positiveButton.enabled
    segmented.choose("fake")
    assert np.array_equal(segmented.mask("disc", 4), mask) and is_followed(segmented)


def test_an_answer_that_had_not_come_before_the_look_comes_after_it(segmented) -> None:
    before, session = segmented.mask("disc", 4), segmented.widget.session
    x, y, z = session.sliceCenter(4)
    session.engine.delay = 0.2
    session.addPoint("disc", (x + 8, y, z), True)
    segmented.choose("lung")
    segmented.choose("fake")
    segmented.settle()
    assert not np.array_equal(segmented.mask("disc", 4), before)


def test_a_look_at_another_pack_outlives_leaving_the_module(segmented) -> None:
    segmented.choose("lung")
    segmented.widget.exit()
    segmented.widget.enter()
    assert segmented.widget.session is None and segmented.widget.parameterNode.pack == "lung"


@pytest.mark.parametrize("pack", ["fake", "lung"])
def test_another_volume_gets_its_own_segmentation(segmented, volume, pack: str) -> None:
    """Whether a session is open on the first one, or was ended by a look at another pack."""
    import slicer

    segmented.choose(pack)
    other = add_other(volume)
    segmented.widget.parameterNode.inputVolume = other
    assert segmented.widget.parameterNode.segmentation is None
    segmented.choose("fake")
    segmented.click("segmentButton")
    segmented.settle()
    assert segmented.widget.session.segmentationNode.GetName() == "other ProMISe"
    assert np.array_equal(voxels(segmented), slicer.util.arrayFromVolume(other) == 100)


def test_a_volume_switched_while_another_module_is_open_gets_its_own_segmentation(segmented, volume) -> None:
    node = segmented.widget.parameterNode
    segmented.widget.exit()
    node.inputVolume = add_other(volume)
    segmented.widget.enter()
    assert node.segmentation is None and segmented.widget.session is None
    node.inputVolume = volume
    assert segmented.widget.session.segmentationNode is node.segmentation


def test_after_its_volume_was_removed_a_segmentation_is_not_the_next_volumes(segmented, volume) -> None:
    import slicer

    other, first = add_other(volume), segmented.widget.parameterNode.segmentation
    slicer.mrmlScene.RemoveNode(volume)
    segmented.widget.parameterNode.inputVolume = other
    assert segmented.widget.parameterNode.segmentation is None and first.GetScene() is not None


def test_a_session_of_a_scene_in_which_nothing_is_chosen_goes_on_at_once(segmented, opened) -> None:
    """As that of the page in a browser, which has no panel's choices to save."""
    node = segmented.widget.parameterNode
    first = node.segmentation
    segmented.widget.cleanup()
    node.inputVolume = node.segmentation = None
    panel = opened(volume=False)
    assert panel.widget.session.segmentationNode is first and is_followed(panel)


def test_a_segmentation_chosen_together_with_its_volume_stays_chosen(segmented, volume) -> None:
    import slicer

    node = segmented.widget.parameterNode
    mine = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    was = node.parameterNode.StartModify()
    node.inputVolume, node.segmentation = add_other(volume), mine
    node.parameterNode.EndModify(was)
    assert node.segmentation is mine and segmented.widget.session is None


def test_slices_of_another_direction_and_back_are_each_their_own_session(segmented) -> None:
    first = segmented.widget.parameterNode.segmentation
    segmented.ui.slicesComboBox.setCurrentIndex(2)
    assert segmented.widget.session is None and segmented.widget.parameterNode.segmentation is None
    segmented.ui.slicesComboBox.setCurrentIndex(0)
    assert segmented.widget.session.segmentationNode is first and is_followed(segmented)


def test_who_comes_back_finds_the_segmentation_that_was_left_not_the_newest(segmented, volume) -> None:
    import slicer

    node, first, other = segmented.widget.parameterNode, segmented.widget.parameterNode.segmentation, add_other(volume)
    node.segmentation = second = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "second")
    segmented.click("segmentButton")
    segmented.settle()
    for left in (first, second):
        node.segmentation = left
        segmented.ui.slicesComboBox.setCurrentIndex(2)
        segmented.ui.slicesComboBox.setCurrentIndex(0)
        assert node.segmentation is left and segmented.widget.session.segmentationNode is left
        node.inputVolume = other
        assert node.segmentation is None
        node.inputVolume = volume
        assert node.segmentation is left and segmented.widget.session.segmentationNode is left


def add_later_session(volume, segmentation):
    """What a later version has saved, as far as this one can tell."""
    from ProMISeSlicerLib.state import SceneState

    state = SceneState.create("later")
    state.refer("volume", volume), state.refer("segmentation", segmentation)
    state.node.SetParameter("state", '{"format": 99}')
    return state.node


def test_beside_a_session_of_a_later_version_ones_own_goes_on(segmented, volume) -> None:
    import slicer
    from ProMISeSlicerLib.state import findSession

    node, other = segmented.widget.parameterNode, add_other(volume)
    first, memory = node.segmentation, findSession(node.segmentation)
    add_later_session(volume, first)
    count = len(slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"))
    node.inputVolume = other
    assert segmented.widget.session is None
    node.inputVolume = volume
    assert node.segmentation is first and is_followed(segmented)
    assert len(slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")) == count and memory.GetScene() is not None


def test_after_the_newest_segmentation_was_deleted_the_other_one_is_found_and_teaching_lists_it(
    segmented, volume
) -> None:
    import slicer
    from ProMISeSlicerLib import cases

    node, other = segmented.widget.parameterNode, add_other(volume)
    first = node.segmentation
    node.segmentation = second = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "second")
    segmented.click("segmentButton")
    segmented.settle()
    node.inputVolume = other
    slicer.mrmlScene.RemoveNode(second)
    node.inputVolume = volume
    assert node.segmentation is first and segmented.widget.session.segmentationNode is first
    add_later_session(volume, first)
    (case,) = cases.ofScene()
    assert len(case.results()) == 2 and not case.isUntold, "this version's session knows both targets"


def test_a_session_that_only_a_later_version_knows_is_told_and_ends_the_one_before(segmented, volume) -> None:
    import slicer

    other = add_other(volume)
    theirs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "theirs")
    add_later_session(other, theirs)
    segmented.widget.parameterNode.inputVolume = other
    assert segmented.widget.session is None and segmented.widget.parameterNode.segmentation is theirs
    assert "has format 99, not 1; update ProMISe" in segmented.status


def change_limit(panel, folder) -> None:
    panel.ui.cacheLimitSpinBox.value += 1


def change_cache_folder(panel, folder) -> None:
    panel.ui.cacheFolderButton.directory = str(folder / "cache")


def remove_models(panel, folder) -> None:
    panel.widget.settings.onRemoveModels()


@pytest.mark.parametrize("change", [change_limit, change_cache_folder, remove_models])
def test_settings_of_the_next_engine_end_no_pass_and_no_session(opened, tmp_path, change) -> None:
    panel = opened(delay=0.02)
    panel.click("segmentButton")
    panel.settle(lambda: panel.ui.progressBar.value >= 1)
    session = panel.widget.session
    change(panel, tmp_path)
    panel.settle()
    assert panel.widget.session is session and panel.status.startswith("Done.")


def test_a_pass_that_a_setting_ends_is_said_to_have_ended(opened) -> None:
    panel = opened(delay=0.02)
    panel.click("segmentButton")
    panel.settle(lambda: panel.ui.progressBar.value >= 1)
    session = panel.widget.session
    panel.ui.deviceComboBox.setCurrentIndex(3)
    assert panel.status.startswith("Segmenting scan was ended") and "of 12 slices are done and stay" in panel.status
    assert session.isClosed and not panel.widget.session.isBusy and not panel.ui.progressBar.visible


def test_a_segmentation_chosen_on_purpose_is_worked_in_and_whose_it_was_is_said(segmented, volume) -> None:
    first, other = segmented.widget.parameterNode.segmentation, add_other(volume)
    segmented.widget.parameterNode.inputVolume = other
    segmented.widget.parameterNode.segmentation = first
    before = None
    for said in ("24 slices hold what was made on 'scan' and are kept", "Done. Where the segment is wrong"):
        segmented.click("segmentButton")
        segmented.settle()
        assert said in segmented.status and segmented.widget.session.segmentationNode is first
        assert before is None or np.array_equal(voxels(segmented), before)
        before = voxels(segmented)


@pytest.mark.parametrize("isMoved", [False, True])
def test_a_segmentation_that_the_selector_has_made_is_drawn_on_the_volumes_grid(panel, volume, isMoved: bool) -> None:
    """qMRMLNodeFactory makes an instance, names it and adds it: no display node, no geometry, no transform."""
    import slicer

    if isMoved:
        parent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        volume.SetAndObserveTransformNodeID(parent.GetID())
    panel.widget.parameterNode.segmentation = panel.ui.segmentationSelector.addNode()
    panel.click("segmentButton")
    panel.settle()
    node = panel.widget.parameterNode.segmentation
    assert panel.status.startswith("Done.") and np.array_equal(
        voxels(panel), slicer.util.arrayFromVolume(volume) == 100
    )
    assert node.GetDisplayNode() is not None and node.GetParentTransformNode() is volume.GetParentTransformNode()
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume


# The session closes itself


def test_a_volume_of_another_size_gets_a_new_session_and_segmentation(segmented, volume) -> None:
    import slicer

    first = segmented.widget.parameterNode.segmentation
    slicer.util.updateVolumeFromArray(volume, np.repeat(slicer.util.arrayFromVolume(volume), 2, 0))
    segmented.click("segmentButton")
    assert "another size" in segmented.status and segmented.widget.session is None
    segmented.click("segmentButton")
    segmented.settle()
    assert segmented.status.startswith("Done.") and len(segmented.widget.review.states) == 24
    assert segmented.widget.parameterNode.segmentation is not first


def test_a_volume_that_is_resized_while_another_module_is_open_gets_a_new_session(segmented, volume) -> None:
    import slicer
    from ProMISeSlicerLib.session import SessionError

    session, node = segmented.widget.session, segmented.widget.parameterNode
    segmented.widget.exit()
    slicer.util.updateVolumeFromArray(volume, np.repeat(slicer.util.arrayFromVolume(volume), 2, 0))
    with pytest.raises(SessionError, match="another size"):
        session.addPoint("disc", session.sliceCenter(4), True)
    segmented.widget.enter()
    assert segmented.widget.session is None and node.segmentation is None and node.inputVolume is volume


@pytest.mark.parametrize("kind", ["constant", "NaN"])
def test_after_an_empty_frame_the_session_goes_on_with_the_next(segmented, volume, kind: str) -> None:
    import slicer

    session, frame = segmented.widget.session, slicer.util.arrayFromVolume(volume).copy()
    slicer.util.updateVolumeFromArray(volume, frame * (0 if kind == "constant" else np.float32("nan")))
    segmented.click("segmentButton")
    assert kind in segmented.status and not session.isClosed
    slicer.util.updateVolumeFromArray(volume, np.roll(frame, 3, axis=2))
    segmented.click("segmentButton")
    segmented.settle()
    assert segmented.status.startswith("Done.") and segmented.widget.session is session
    assert np.array_equal(voxels(segmented), np.roll(frame, 3, axis=2) == 100)


def test_a_session_whose_memory_was_removed_is_replaced(segmented) -> None:
    import slicer

    slicer.mrmlScene.RemoveNode(segmented.widget.session.node)
    assert segmented.widget.session is None and "was removed" in segmented.status
    segmented.click("segmentButton")
    segmented.settle()
    before = segmented.mask("disc", 4)
    correct(segmented)
    assert not np.array_equal(segmented.mask("disc", 4), before)


# The end of a session


def test_nobody_waits_for_a_step_of_a_session_that_ends(opened, module) -> None:
    """The slice under way waits for a word that is said after the other pack was chosen."""
    from ProMISeSlicerLib.fakeEngine import FakeEngine

    panel, go, heard, at = opened(), threading.Event(), [], threading.Event()

    class Slow(FakeEngine):
        def automatic(self, n):
            at.set()
            heard.append(go.wait(4))
            return super().automatic(n)

        def close(self):
            heard.append("closed")

    module.ProMISeSlicerLogic.engine = staticmethod(Slow)
    panel.click("segmentButton")
    panel.settle(at.is_set)
    panel.choose("lung")
    assert heard == [] and panel.widget.session is None and panel.status.startswith("Segmenting scan was ended")
    go.set()
    panel.settle(lambda: len(heard) == 2)
    assert heard == [True, "closed"], "the engine is let go once nothing works with it any more"


def test_prompts_of_an_ended_session_are_out_of_sight_until_it_goes_on(segmented, volume) -> None:
    nodes = prompts(segmented.widget.session)
    segmented.click("showRoiCheckBox")
    before = seen(nodes)
    assert before == [True, True, False, True, True, True]
    segmented.widget.parameterNode.inputVolume = add_other(volume)
    assert seen(nodes) == [False] * 6
    segmented.widget.parameterNode.inputVolume = volume
    assert prompts(segmented.widget.session) == nodes and seen(nodes) == before


def test_names_of_prompts_say_of_which_volume_they_are(segmented, volume) -> None:
    segmented.widget.parameterNode.inputVolume = add_other(volume)
    segmented.click("segmentButton")
    names = [node.GetName() for node in prompts(segmented.widget.session)]
    assert names[:3] == ["other disc positive", "other disc negative", "other disc ROI"]


def test_placing_somebody_elses_points_outlives_the_session(segmented) -> None:
    import slicer
    from ProMISeSlicerLib import views

    mine = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "mine")
    views.startPlacing(mine)
    segmented.ui.targetComboBox.setCurrentIndex(1)
    segmented.choose("lung")
    assert views.placingNode() is mine
    segmented.choose("fake")
    segmented.click("positiveButton")
    segmented.choose("lung")
    assert views.placingNode() is None


def test_a_segmentation_that_the_user_made_stays_chosen_with_another_volume(panel, volume) -> None:
    import slicer

    manual = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Manual")
    panel.widget.parameterNode.inputVolume = None
    panel.widget.parameterNode.segmentation = manual
    panel.widget.parameterNode.inputVolume = volume
    assert panel.widget.parameterNode.segmentation is manual
    other = add_other(volume)
    panel.widget.parameterNode.inputVolume = other
    assert panel.widget.parameterNode.segmentation is manual
    panel.widget.exit()
    slicer.mrmlScene.RemoveNode(other)
    panel.widget.enter()
    assert panel.widget.parameterNode.segmentation is manual


def test_what_is_chosen_while_something_installs_is_not_segmented(panel, volume, monkeypatch) -> None:
    other = add_other(volume)

    def install(needs) -> bool:
        panel.widget.parameterNode.inputVolume = other
        return True

    monkeypatch.setattr(panel.widget.installation, "ensure", install)
    panel.click("segmentButton")
    assert panel.widget.session is None


def test_a_point_placed_on_an_empty_frame_counts_once_there_are_voxels(segmented, volume) -> None:
    import slicer
    from ProMISeSlicerLib.failing import SessionError

    array = slicer.util.arrayFromVolume(volume)
    voxels, before = array.copy(), segmented.mask("disc", 4)
    array[:] = 0
    slicer.util.arrayFromVolumeModified(volume)
    with pytest.raises(SessionError, match="constant"):
        correct(segmented)
    segmented.settle()
    array[:] = voxels
    slicer.util.arrayFromVolumeModified(volume)
    segmented.click("segmentButton")
    segmented.settle()
    assert not np.array_equal(segmented.mask("disc", 4), before)
    assert segmented.widget.session.sliceStates("disc")[4]["state"] == "user"


def test_prompts_that_another_session_hides_come_back(segmented, volume) -> None:
    session = segmented.widget.session
    second = segmented.widget.logic.makeSession(volume, segmented.widget.choice.chosen(), session.segmentationNode)
    nodes = prompts(session)
    second.close()
    segmented.widget.sitting.renew()
    assert all(seen(nodes))
