"""Opening the panel, choosing volume and pack, in the test double."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest


def test_nothing_can_be_done_before_something_is_chosen(module, opened) -> None:
    panel = opened(volume=False)
    assert not panel.ui.segmentButton.enabled
    assert "volume" in panel.ui.segmentButton.toolTip
    for name in ("cancel", "undo", "redo", "positive", "delete", "lock", "release", "propagate", "nextWorst"):
        assert not getattr(panel.ui, name + "Button").enabled
    assert panel.status == "Load and select a volume first."


def test_first_volume_and_first_fitting_pack_are_chosen(panel, volume) -> None:
    assert panel.ui.inputVolumeSelector.currentNode() is volume
    assert panel.widget.choice.chosen().path.stem == "fake"
    assert panel.ui.packTree.currentItem().text(0) == "Title of fake"
    assert panel.ui.segmentButton.enabled


def test_the_volume_selected_in_slicer_comes_first(module, opened, volume) -> None:
    import slicer

    other = slicer.util.addVolumeFromArray(np.ones((3, 8, 8), np.int16), name="other")
    slicer.app.applicationLogic().GetSelectionNode().SetActiveVolumeID(other.GetID())
    assert opened(volume=False).widget.parameterNode.inputVolume is other


def test_packs_are_listed_with_targets_dice_image_and_licence(panel) -> None:
    tree = panel.ui.packTree
    names = [each.path.stem for each in panel.widget.choice.packs]
    item = tree.topLevelItem(names.index("fake"))
    assert [item.text(column) for column in range(4)] == ["Title of fake", "–", "MR, axial", "CC-BY-4.0"]
    assert [(item.child(n).text(0), item.child(n).text(1)) for n in range(2)] == [("disc", "0.91"), ("ring", "–")]
    assert {"fake", "lung", "heart", "hippocampus", "polyp"} < set(names)
    titles = [tree.topLevelItem(row).text(0) for row in range(len(names))]
    assert names[:2] == ["fake", "lung"] and titles[2:] == sorted(titles[2:], key=str.casefold)
    heart = tree.topLevelItem(names.index("heart"))
    assert heart.childCount() == 3 and 0.5 < float(heart.text(1)) < 1 and heart.text(3) == "non-commercial"


def test_the_model_card_tells_use_training_scores_and_terms(panel) -> None:
    panel.choose("heart")
    for words in (
        "Research use only",
        "ACDC, 52 patients",
        "left ventricle",
        "14 cases",
        "Non-commercial use only",
        "tiny",
    ):
        assert words in panel.ui.packCardLabel.text
        assert words in panel.ui.packTree.currentItem().toolTip(0)


def test_clicking_a_target_chooses_its_pack(panel) -> None:
    names = [each.path.stem for each in panel.widget.choice.packs]
    panel.ui.packTree.setCurrentItem(panel.ui.packTree.topLevelItem(names.index("heart")).child(1))
    assert panel.widget.parameterNode.pack == "heart"


def test_opening_and_leaving_change_nothing_but_the_display(panel, volume) -> None:
    import slicer

    def scene() -> list[str]:
        return [slicer.mrmlScene.GetNthNode(i).GetID() for i in range(slicer.mrmlScene.GetNumberOfNodes())]

    before = scene()
    panel.widget.exit()
    panel.widget.enter()
    assert scene() == before
    assert not panel.widget.run.timer.active


def test_label_maps_are_no_volumes_to_segment(module, opened) -> None:
    import slicer

    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    panel = opened(volume=False)
    assert panel.widget.parameterNode.inputVolume is None and panel.ui.inputVolumeSelector.nodeCount() == 0
    panel.ui.inputVolumeSelector.setCurrentNode(labels)
    assert not panel.ui.segmentButton.enabled


def test_colour_volumes_can_be_chosen_and_are_told_from_grey_ones(panel, volume) -> None:
    import slicer
    from ProMISeSlicerLib import catalogue

    colour = slicer.util.addVolumeFromArray(
        np.zeros((1, 8, 9, 3), np.uint8), name="picture", nodeClassName="vtkMRMLVectorVolumeNode"
    )
    panel.ui.inputVolumeSelector.setCurrentNode(colour)
    assert panel.widget.parameterNode.inputVolume is colour
    assert panel.widget.choice.chosen().manifest.modality == "RGB" and panel.ui.packWarningLabel.text == ""
    panel.choose("fake")
    assert "looks like RGB" in panel.ui.packWarningLabel.text
    rgb = replace(panel.widget.choice.chosen().manifest, modality="RGB")
    assert catalogue.misfit(rgb, colour) == "" and "no colour" in catalogue.misfit(rgb, volume)


def test_packs_for_pictures_do_not_suit_volumes_but_pictures_in_colour(panel, volume) -> None:
    import slicer
    from ProMISeSlicerLib import catalogue

    xray = replace(panel.widget.choice.chosen().manifest, modality="CR", orientation="image")
    assert "single pictures, and the volume has 12 slices" in catalogue.misfit(xray, volume)
    picture = slicer.util.addVolumeFromArray(
        np.zeros((1, 8, 9, 3), np.uint8), name="xray.png", nodeClassName="vtkMRMLVectorVolumeNode"
    )
    assert (
        catalogue.misfit(xray, picture) == "" == catalogue.misfit(xray, slicer.util.addVolumeFromArray(np.eye(8)[None]))
    )


def test_the_phantom_gets_the_heart_pack(module, opened) -> None:
    module.ProMISeSlicerLogic().addPhantom()
    panel = opened(volume=False)
    embedded = [pack for pack in panel.widget.choice.packs if pack.path.stem not in ("fake", "lung")]
    panel.widget.choice.packs = embedded
    assert panel.widget.choice.chosen().path.stem == "heart"


def test_a_pack_for_another_modality_says_so(panel) -> None:
    import slicer

    panel.widget.parameterNode.pack = "fake"
    assert panel.ui.packWarningLabel.text == "" and not panel.ui.packWarningLabel.visible
    ct = slicer.util.addVolumeFromArray(np.full((3, 8, 8), -1000, np.int16), name="ct")
    panel.ui.inputVolumeSelector.setCurrentNode(ct)
    assert "made for MR, and the volume looks like CT" in panel.ui.packWarningLabel.text
    assert panel.ui.packTree.currentItem().text(2) == "⚠ MR, axial"
    panel.choose("lung")
    assert panel.widget.parameterNode.pack == "lung"
    assert panel.ui.packWarningLabel.text == ""


def test_a_pack_for_another_orientation_says_so_until_the_slices_are_chosen(panel) -> None:
    import slicer

    thick = np.diag([1.0, 8.0, 1.0, 1.0])[:, [0, 2, 1, 3]]  # K runs along A in steps of 8 mm: coronal slices
    node = slicer.util.addVolumeFromArray(np.ones((3, 8, 8), np.int16), ijkToRAS=thick, name="coronal")
    panel.widget.parameterNode.pack = "fake"
    panel.ui.inputVolumeSelector.setCurrentNode(node)
    assert "acquired in coronal" in panel.ui.packWarningLabel.text
    panel.ui.slicesComboBox.setCurrentIndex(3)
    assert panel.widget.parameterNode.slices.value == "coronal" and panel.ui.packWarningLabel.text == ""


def test_parameters_and_widgets_follow_each_other(panel) -> None:
    node = panel.widget.parameterNode
    panel.ui.propagateCountSpinBox.value = 7
    assert node.propagateCount == 7
    node.propagateCount = 2
    assert panel.ui.propagateCountSpinBox.value == 2
    panel.ui.propagateDirectionComboBox.setCurrentIndex(1)
    assert node.propagateDirection.name == "UP"
    node.pack = "lung"
    assert panel.ui.packTree.currentItem().text(0) == "Title of lung"


@pytest.mark.parametrize("scene", ["empty", "saved"])
def test_without_the_core_the_panel_opens_and_says_what_to_do(school, opened, monkeypatch, scene: str) -> None:
    from ProMISeSlicerLib import environment

    if scene == "saved":
        panel = school()
        panel.widget.teach.onEdited()
        panel.widget.parameterNode.segmentation = None
        panel.click("segmentButton")
        panel.settle()
        panel.widget.cleanup()

    def core(name=""):
        raise environment.MissingError("ProMISeCore was not found; reinstall the ProMISeSlicer extension")

    monkeypatch.setattr(environment, "core", core)
    panel = opened(volume=False)
    panel.widget.exit()
    panel.widget.enter()
    assert panel.status.startswith("⚠") and panel.status.endswith("reinstall the ProMISeSlicer extension")
    assert not panel.ui.segmentButton.enabled and not panel.ui.teachButton.enabled


def test_teachings_that_cannot_be_listed_are_told_and_the_panel_opens(opened, monkeypatch) -> None:
    from ProMISeSlicerLib import lesson

    def unfinished():
        raise PermissionError(13, "Permission denied", "/home/teach")

    monkeypatch.setattr(lesson, "unfinished", unfinished)
    panel = opened()
    assert panel.status.startswith("⚠ The folder of teachings could not be read: [Errno 13] Permission denied")
    assert panel.ui.segmentButton.enabled
