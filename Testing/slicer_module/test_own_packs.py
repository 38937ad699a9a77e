"""My packs: versions, going back, one file for elsewhere, a folder of one's own; taught by the child that stands in."""

from __future__ import annotations

from scene_cases import settle


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
