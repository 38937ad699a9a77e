"""My packs: versions, going back, one file for elsewhere, a folder of one's own; taught by the child that stands in."""

from __future__ import annotations

import hashlib
import shutil
import unicodedata

import numpy as np
import pytest
from scene_cases import add_volume, save_pack, settle

from ProMISeCore.lock import alone


def test_continue_teaching_makes_the_next_version_and_one_can_go_back(school, home) -> None:
    panel = school()
    panel.click("teachButton")
    settle(panel)
    panel.ui.teachBaseComboBox.setCurrentIndex(
        [panel.ui.teachBaseComboBox.itemText(i) for i in range(panel.ui.teachBaseComboBox.count)].index("Große Läsion")
    )
    assert panel.ui.teachButton.text == "Continue teaching" and panel.ui.teachNameEdit.text == "Große Läsion"
    panel.click("teachButton")
    settle(panel)
    assert "--base" in panel.widget.teach.tuition.lesson.arguments() and "version 2" in panel.status
    tree = panel.ui.ownVersionTree
    assert [tree.topLevelItem(row).text(3) for row in range(2)] == ["", "✓"]
    assert not panel.ui.ownRollBackButton.enabled
    tree.setCurrentItem(tree.topLevelItem(0))
    panel.click("ownRollBackButton")
    assert [tree.topLevelItem(row).text(3) for row in range(2)] == ["✓", ""]
    first = home / "packs" / "Große Läsion.versions" / "1.safetensors"
    assert (home / "packs" / "Große Läsion.safetensors").read_bytes() == first.read_bytes()


def listed(panel) -> list[str]:
    """The segments to learn, and those that stay, as the list shows them."""
    rows = panel.ui.teachTargetList
    return [rows.item(row).text() for row in range(rows.count) if not rows.item(row).isHidden()]


def entry(panel, text: str):
    rows = panel.ui.teachTargetList
    return next(rows.item(row) for row in range(rows.count) if rows.item(row).text() == text)


def test_segments_of_the_pack_that_no_case_has_stay_or_are_left_out(school) -> None:
    import qt
    import slicer

    panel = school()
    panel.click("teachButton")
    settle(panel)
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        node.GetSegmentation().RemoveSegment(node.GetSegmentation().GetSegmentIdBySegmentName("ring"))
    teach, combo, rows = panel.widget.teach, panel.ui.teachBaseComboBox, panel.ui.teachTargetList
    teach.table.show()
    assert [rows.item(row).text() for row in range(rows.count)] == ["disc"]
    combo.setCurrentIndex([combo.itemText(i) for i in range(combo.count)].index("Große Läsion"))
    assert listed(panel) == ["disc", "ring (stays)"]
    ring = entry(panel, "ring (stays)")
    assert not ring.flags() & qt.Qt.ItemIsEditable and "stays as it is" in ring.toolTip()
    assert teach.segments.chosen == ["disc"] and "--drop" not in teach.wanted().arguments()
    ring.setCheckState(qt.Qt.Unchecked)
    arguments = teach.wanted().arguments()
    assert arguments[arguments.index("--drop") + 1] == "ring"
    teach.refresh()
    teach.restore()
    assert entry(panel, "ring (stays)").checkState() == qt.Qt.Unchecked, "remembered with the scene"
    rows.item(0).setCheckState(qt.Qt.Unchecked)
    assert "Tick a segment" in panel.ui.teachButton.toolTip
    combo.setCurrentIndex(0)
    assert [rows.item(row).text() for row in range(rows.count)] == ["disc"] and teach.segments.left == []


def test_a_segment_of_the_pack_that_cases_have_is_learned_or_stays_or_is_left_out(school) -> None:
    import qt

    panel = school()
    panel.click("teachButton")
    settle(panel)
    teach, combo = panel.widget.teach, panel.ui.teachBaseComboBox
    combo.setCurrentIndex([combo.itemText(i) for i in range(combo.count)].index("Große Läsion"))
    assert listed(panel) == ["disc", "ring"] and teach.segments.left == []
    entry(panel, "ring").setCheckState(qt.Qt.Unchecked)
    assert listed(panel) == ["disc", "ring", "ring (stays)"]
    arguments = teach.wanted().arguments()
    assert teach.segments.chosen == ["disc"] and "--drop" not in arguments
    entry(panel, "ring (stays)").setCheckState(qt.Qt.Unchecked)
    teach.refresh()
    arguments = teach.wanted().arguments()
    assert arguments[arguments.index("--targets") + 1 :][:1] == ["disc"]
    assert arguments[arguments.index("--drop") + 1] == "ring"
    entry(panel, "ring").setCheckState(qt.Qt.Checked)
    assert listed(panel) == ["disc", "ring"] and "--drop" not in teach.wanted().arguments()


def test_a_name_that_was_given_to_a_value_stays_and_is_the_packs(school, tmp_path) -> None:
    """Of a folder's label maps: also where the list is filled anew, as by the choice of a pack."""
    import qt

    panel = school()
    panel.click("teachButton")
    settle(panel)
    teach, combo, rows = panel.widget.teach, panel.ui.teachBaseComboBox, panel.ui.teachTargetList
    teach.table.cases = []
    teach.table.addFolder(str(tmp_path))
    teach._targets, teach._folders = {"label 1=1": 2}, [str(tmp_path)]  # as after a check
    teach.fillTargets()
    rows.item(0).setText("disc=1")
    combo.setCurrentIndex([combo.itemText(i) for i in range(combo.count)].index("Große Läsion"))
    assert listed(panel) == ["disc=1", "ring (stays)"]
    teach.refresh()
    assert teach.segments.chosen == ["disc=1"] and teach.segments.left == []
    entry(panel, "ring (stays)").setCheckState(qt.Qt.Unchecked)
    rows.item(0).setText("ring=1")
    assert listed(panel) == ["ring=1", "disc (stays)"] and teach.segments.left == []
    teach.table.addFolder(str(tmp_path.parent))
    assert rows.count == 0, "of another folder nothing is known"


def test_export_delete_and_import_keep_the_pack(school, home, tmp_path, monkeypatch) -> None:
    import qt
    import slicer

    panel = school()
    panel.click("teachButton")
    settle(panel)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: True)
    place = tmp_path / "Große Läsion.safetensors"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", staticmethod(lambda *_: str(place)))
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", staticmethod(lambda *_: str(place)))
    panel.click("ownExportButton")
    kept = place.read_bytes()
    panel.widget.keeping.fill("Große Läsion")
    panel.click("ownDeleteButton")
    assert not list((home / "packs").glob("Gro*")) and not (home / "teach" / "Große Läsion").exists()
    assert "Große Läsion" not in [pack.path.stem for pack in panel.widget.choice.packs]
    panel.click("ownImportButton")
    assert (home / "packs" / "Große Läsion.safetensors").read_bytes() == kept
    assert "Große Läsion" in [pack.path.stem for pack in panel.widget.choice.packs]


def test_a_version_is_exported_to_the_name_that_was_chosen(school, tmp_path, monkeypatch) -> None:
    import qt

    panel = school()
    panel.click("teachButton")
    settle(panel)
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", staticmethod(lambda *_: str(tmp_path / "LV v1.2")))
    panel.click("ownExportButton")
    assert [path.name for path in tmp_path.glob("LV*")] == ["LV v1.2.safetensors"]


def test_a_pack_folder_of_ones_own_gets_a_copy(school, tmp_path) -> None:
    panel, folder = school(), tmp_path / "meine Packs"
    folder.mkdir()
    panel.ui.packFolderButton.directory = str(folder)
    panel.click("teachButton")
    settle(panel)
    assert (folder / "Große Läsion.safetensors").is_file()
    assert panel.widget.choice.chosen().path == folder / "Große Läsion.safetensors"


def test_a_file_of_somebody_else_in_a_folder_of_ones_own_stays(school, home, tmp_path, monkeypatch) -> None:
    import slicer

    panel, folder = school(), tmp_path / "gemeinsam"
    folder.mkdir()
    panel.ui.packFolderButton.directory = str(folder)
    panel.click("teachButton")
    theirs = shutil.copyfile(home / "packs" / "lung.safetensors", folder / "Große Läsion.safetensors")
    before = theirs.read_bytes()
    settle(panel)
    assert (
        "did not take a copy" in panel.status and f"{theirs} is another pack, and is not written over" in panel.status
    )
    assert theirs.read_bytes() == before and (home / "packs" / "Große Läsion.safetensors").is_file()
    assert panel.widget.parameterNode.pack == "", "what is listed under that name is not what was taught"
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: True)
    panel.click("ownDeleteButton")
    assert panel.status == "Deleted Große Läsion." and theirs.read_bytes() == before
    assert not (home / "packs" / "Große Läsion.safetensors").exists()


def test_a_copy_of_whichever_version_follows_and_goes_with_the_pack(school, home, tmp_path, monkeypatch) -> None:
    import slicer

    panel, folder = school(), tmp_path / "gemeinsam"
    folder.mkdir()
    panel.ui.packFolderButton.directory = str(folder)
    copy, versions = folder / "Große Läsion.safetensors", home / "packs" / "Große Läsion.versions"
    for number in (1, 2):
        panel.click("teachButton")
        settle(panel)
        assert copy.read_bytes() == (versions / f"{number}.safetensors").read_bytes()
    roll_back(panel, 1)
    assert copy.read_bytes() == (versions / "1.safetensors").read_bytes()
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: True)
    panel.click("ownDeleteButton")
    assert list(folder.iterdir()) == []


def test_with_the_chosen_pack_deleted_nothing_can_be_compared(school, monkeypatch) -> None:
    import slicer

    panel = school()
    add_volume("next", 3)
    panel.click("teachButton")
    settle(panel)
    assert panel.widget.parameterNode.pack == "Große Läsion" and panel.ui.rankButton.enabled
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: True)
    panel.click("ownDeleteButton")
    assert panel.status == "Deleted Große Läsion." and panel.widget.choice.chosen() is None
    assert not panel.ui.rankButton.enabled and not panel.ui.segmentButton.enabled
    assert "select" in panel.ui.segmentButton.toolTip.lower()


def test_a_pack_that_is_taught_elsewhere_is_not_deleted(school, home, monkeypatch) -> None:
    import slicer

    panel, workspace = school(), home / "teach" / "Große Läsion"
    panel.click("teachButton")
    settle(panel)
    before = sorted(workspace.rglob("*"))
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: True)
    with alone(workspace, ""):
        panel.click("ownDeleteButton")
    assert panel.status.startswith("⚠ The pack could not be deleted") and "in use by another process" in panel.status
    assert set(before) <= set(workspace.rglob("*")) and (home / "packs" / "Große Läsion.safetensors").is_file()
    panel.click("ownDeleteButton")
    assert panel.status == "Deleted Große Läsion." and not workspace.exists()


def test_copies_of_volumes_that_could_not_be_deleted_are_told(school, home, monkeypatch) -> None:
    import slicer

    panel, workspace = school(), home / "teach" / "Große Läsion"
    panel.click("teachButton")
    settle(panel)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: True)
    rmtree = shutil.rmtree
    monkeypatch.setattr(
        shutil, "rmtree", lambda folder, *a, **k: None if folder == workspace else rmtree(folder, *a, **k)
    )
    panel.click("ownDeleteButton")
    assert panel.status.startswith("⚠") and f"{workspace} could not be emptied" in panel.status


def test_what_was_exported_is_no_second_pack_where_it_comes_from(school, home, tmp_path, monkeypatch) -> None:
    import qt

    panel, proposed = school(), []
    for _ in range(2):
        panel.click("teachButton")
        settle(panel)
    tree = panel.ui.ownVersionTree
    tree.setCurrentItem(tree.topLevelItem(0))
    monkeypatch.setattr(
        qt.QFileDialog, "getSaveFileName", staticmethod(lambda *a: proposed.append(a[2]) or str(tmp_path / "Kopie (1)"))
    )
    panel.click("ownExportButton")
    assert proposed == ["Große Läsion.safetensors"]
    file = str(tmp_path / "Kopie (1).safetensors")
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", staticmethod(lambda *_: file))
    before = sorted((home / "packs").rglob("*"))
    panel.click("ownImportButton")
    assert panel.status == "That file is here already: version 1 of Große Läsion."
    assert sorted((home / "packs").rglob("*")) == before and panel.ui.ownPackComboBox.currentText == "Große Läsion"
    assert panel.widget.keeping.chosen.number == 2, "the present version stays"


def test_a_name_pasted_from_a_file_on_macos_is_composed(school, home, monkeypatch) -> None:
    import slicer

    panel = school()
    panel.ui.teachNameEdit.text = unicodedata.normalize("NFD", "Große Läsion")
    panel.click("teachButton")
    settle(panel)
    assert panel.widget.teach.tuition.lesson.name == "Große Läsion"
    assert [path.name for path in (home / "teach").iterdir()] == ["Große Läsion"]
    assert panel.widget.choice.chosen().path.stem == "Große Läsion" and panel.ui.packWarningLabel.text == ""
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: True)
    panel.click("ownDeleteButton")
    assert list((home / "teach").iterdir()) == []


@pytest.fixture
def importing(opened, tmp_path, monkeypatch):
    """`importing()`: the panel, and a pack `new` in a file that the dialog gives."""
    import qt

    file = save_pack(tmp_path, "new", "MR", ("x",))
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", staticmethod(lambda *_: str(file)))
    return opened


@pytest.mark.parametrize("name", ["les [1]", unicodedata.normalize("NFD", "Läsion")])
def test_a_file_of_another_name_among_the_packs_does_not_hinder_an_import(importing, home, name: str) -> None:
    save_pack(home / "packs", "les", "MR", ("disc",)).rename(home / "packs" / f"{name}.safetensors")
    panel = importing()
    panel.click("ownImportButton")
    assert panel.status == "Imported new." and (home / "packs" / "new.safetensors").is_file()
    panel.click("ownImportButton")
    assert panel.status == "That file is here already: version 1 of new."


def test_versions_of_a_pack_copied_from_a_mac_are_listed(opened, home) -> None:
    name = unicodedata.normalize("NFD", "Läsion")
    save_pack(home / "packs", "les", "MR", ("disc",)).rename(home / "packs" / f"{name}.safetensors")
    panel = opened()
    panel.widget.keeping.fill(name)
    assert panel.status == "" and panel.ui.ownVersionTree.topLevelItemCount == 1


def test_a_name_that_somebody_has_in_the_folder_is_told_before_the_minutes(school, home, tmp_path) -> None:
    panel, folder = school(), tmp_path / "gemeinsam"
    folder.mkdir()
    theirs = shutil.copyfile(home / "packs" / "lung.safetensors", folder / "Große Läsion.safetensors")
    panel.ui.packFolderButton.directory = str(folder)
    panel.click("teachButton")
    assert panel.status == (
        f"{theirs} is another pack, in your folder of packs: give yours another name, or move that file first."
    )
    assert not panel.widget.teach.isRunning and not (home / "teach").exists()
    theirs.unlink()
    panel.click("teachButton")
    settle(panel)
    assert theirs.is_file(), "the copy of what was taught"
    panel.click("teachButton")
    settle(panel)
    assert theirs.read_bytes() == (home / "packs" / "Große Läsion.safetensors").read_bytes(), "of a new version"


def test_beside_a_damaged_pack_of_ones_own_a_taken_name_is_told_as_such(school, home, tmp_path) -> None:
    panel, folder = school(), tmp_path / "gemeinsam"
    folder.mkdir()
    theirs = shutil.copyfile(home / "packs" / "lung.safetensors", folder / "Große Läsion.safetensors")
    (home / "packs" / "Große Läsion.safetensors").write_bytes(b"damaged")
    panel.ui.packFolderButton.directory = str(folder)
    panel.click("teachButton")
    assert panel.status.startswith(f"{theirs} is another pack, in your folder of packs")


def own_packs(panel) -> list[str]:
    return [panel.ui.ownPackComboBox.itemText(row) for row in range(panel.ui.ownPackComboBox.count)]


def test_an_import_whose_copy_fails_is_an_import_that_says_so(importing, home, tmp_path) -> None:
    folder = tmp_path / "gemeinsam"
    folder.mkdir()
    theirs = save_pack(folder, "new", "CT", ("y",))
    panel = importing()
    panel.ui.packFolderButton.directory = str(folder)
    panel.click("ownImportButton")
    assert panel.status.startswith("⚠ Imported new. Your folder of packs did not take a copy: ")
    assert f"{theirs} is another pack" in panel.status and (home / "packs" / "new.safetensors").is_file()
    assert "new" in own_packs(panel) and panel.ui.ownPackComboBox.currentText == "new"


def test_a_version_that_is_back_though_its_copy_fails_is_told_as_back(school, tmp_path) -> None:
    panel, folder = school(), tmp_path / "gemeinsam"
    for _ in range(2):
        panel.click("teachButton")
        settle(panel)
    folder.mkdir()
    save_pack(folder, "theirs", "CT", ("y",)).rename(folder / "Große Läsion.safetensors")
    panel.ui.packFolderButton.directory = str(folder)
    roll_back(panel, 1)
    tree = panel.ui.ownVersionTree
    assert panel.status.startswith("⚠ Große Läsion is version 1 again. Your folder of packs did not take a copy: ")
    assert [tree.topLevelItem(row).text(3) for row in range(2)] == ["✓", ""]


def roll_back(panel, number: int) -> None:
    tree = panel.ui.ownVersionTree
    tree.setCurrentItem(tree.topLevelItem(number - 1))
    panel.click("ownRollBackButton")


# A session is open


@pytest.fixture
def sitting(school):
    """A session with version 1 on a volume of its own, and version 2 taught meanwhile."""
    panel = school()
    panel.click("teachButton")
    settle(panel)
    panel.widget.parameterNode.segmentation = None
    panel.widget.parameterNode.inputVolume = add_volume("next", 9)
    panel.click("segmentButton")
    panel.settle()
    assert panel.widget.session.manifest.version == "1" and "version" not in panel.ui.packWarningLabel.text
    panel.click("teachButton")
    settle(panel)
    return panel


_TOLD = "begun with version {} of this pack, which answers its points; the pack listed is another, version {}"


def test_a_session_goes_on_with_its_version_which_is_said_until_segment_again(sitting) -> None:
    panel, first = sitting, sitting.widget.session
    assert _TOLD.format(1, 2) in panel.status and panel.status.startswith("Done: the pack Große Läsion, version 2.")
    assert _TOLD.format(1, 2) in panel.ui.packWarningLabel.text
    panel.choose("fake")
    assert panel.ui.packWarningLabel.text == ""
    panel.choose("Große Läsion")
    assert panel.widget.session.manifest.version == "1" and _TOLD.format(1, 2) in panel.ui.packWarningLabel.text
    x, y, z = panel.widget.session.sliceCenter(2)
    panel.widget.session.addPoint("disc", (x + 8, y, z), True)
    panel.settle()
    corrected, segmentation = panel.mask("disc", 2), panel.widget.parameterNode.segmentation
    panel.click("segmentButton")
    panel.settle()
    session = panel.widget.session
    assert session.manifest.version == "2" and panel.status.startswith("Done.") and first.isClosed
    assert session.segmentationNode is segmentation and panel.ui.packWarningLabel.text == ""
    assert np.array_equal(panel.mask("disc", 2), corrected) and session.sliceStates("disc")[2]["state"] == "user"
    assert session.sliceStates("disc")[3]["state"] == "auto" and panel.mask("disc", 3).any()
    panel.widget.sitting.renew()
    assert panel.widget.session.manifest.version == "2", "which the scene now says"


def test_going_back_to_a_version_says_that_the_session_goes_on_with_the_other(sitting) -> None:
    panel = sitting
    panel.click("segmentButton")
    panel.settle()
    roll_back(panel, 1)
    assert panel.status.startswith("Große Läsion is version 1 again. ") and _TOLD.format(2, 1) in panel.status
    assert panel.widget.session.manifest.version == "2"
    panel.click("segmentButton")
    panel.settle()
    assert panel.widget.session.manifest.version == "1" and panel.ui.packWarningLabel.text == ""


def test_a_version_that_was_put_to_use_in_a_terminal_is_taken(sitting) -> None:
    from ProMISeCore import versions

    panel = sitting
    panel.click("segmentButton")
    panel.settle()
    assert panel.widget.session.manifest.version == "2"
    versions.roll_back("Große Läsion", 1)
    panel.click("segmentButton")
    panel.settle()
    assert panel.widget.session.manifest.version == "1"


def test_a_pack_that_has_gone_meanwhile_is_told(segmented, home) -> None:
    (home / "packs" / "fake.safetensors").unlink()
    segmented.click("segmentButton")
    assert "The pack fake of this scene is not installed here" in segmented.status


def test_an_engine_that_opens_later_has_the_file_of_its_version(sitting, module, home) -> None:
    module.ProMISeSlicerLogic.engine = None
    panel, kept = sitting, home / "packs" / "Große Läsion.versions"
    engine = panel.widget.logic.makeEngine(panel.widget.choice.chosen())
    assert engine.packPath == kept / "2.safetensors" and engine.sha256 == sha256(kept / "2.safetensors")
    roll_back(panel, 1)
    assert sha256(engine.packPath) == engine.sha256
    lung = next(pack for pack in panel.widget.choice.packs if pack.path.stem == "lung")
    assert panel.widget.logic.makeEngine(lung).packPath == lung.path, "which has no versions"


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
