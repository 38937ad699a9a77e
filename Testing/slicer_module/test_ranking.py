"""Which case next: volumes without a segmentation, the least sure first."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scene_cases import add_volume

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copies(tmp_path, monkeypatch) -> Path:
    """The system's folder for temporary files, empty."""
    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_which_case_next_lists_the_worst_first_and_shows_it(school, copies) -> None:
    panel = school()
    add_volume("ohne A", 3), add_volume("ohne B", 4)
    panel.widget.updateButtons()
    panel.click("rankButton")
    panel.settle(lambda: not panel.widget.rank.isRunning)
    tree = panel.ui.nextCaseTree
    assert [tree.topLevelItem(row).text(0) for row in range(tree.topLevelItemCount)] == ["ohne A", "ohne B"]
    assert [tree.topLevelItem(row).text(1) for row in range(2)] == ["0.90", "0.60"]
    assert list(copies.iterdir()) == []
    panel.widget.rank.onClicked(tree.topLevelItem(1), 0)
    assert panel.widget.parameterNode.inputVolume.GetName() == "ohne B"


def test_a_volume_that_cannot_be_used_is_named_and_the_others_are_ranked(school) -> None:
    import slicer

    panel = school()
    panel.widget.teach.command = None
    constant, scout = np.full((6, 32, 40), 7, np.int16), np.full((6, 32, 40), np.nan, np.float32)
    good = np.random.default_rng(0).integers(0, 200, constant.shape).astype(np.int16)
    for name, voxels in (("leer", constant), ("voller NaN", scout), ("gut", good)):
        slicer.util.addVolumeFromArray(voxels, name=name)
    panel.choose("atrium")
    panel.click("rankButton")
    panel.settle(lambda: not panel.widget.rank.isRunning, 300)
    tree = panel.ui.nextCaseTree
    shown = [[tree.topLevelItem(row).text(column) for column in range(3)] for row in range(tree.topLevelItemCount)]
    assert [row[0] for row in shown] == ["gut", "leer"] and shown[1][1] == "–"
    assert shown[1][2].startswith("'leer' is constant") and "voller NaN" in panel.status


def test_the_real_core_ranks_as_the_command_does(school, tmp_path) -> None:
    """No stand-in: an embedded pack looks at a disc, at noise, and at a disc that jumps from slice to slice."""
    import slicer

    from ProMISeCore import exports
    from ProMISeCore.volumes import Volume

    disc = slicer.util.arrayFromVolume(add_volume("Scheibe, groß", 0))
    noise = np.random.default_rng(0).integers(0, 200, disc.shape).astype(np.int16)
    slicer.util.addVolumeFromArray(noise, name="Rauschen")
    jumping = np.stack([np.roll(one, 9 * (-1) ** n, 1) for n, one in enumerate(disc)])
    slicer.util.addVolumeFromArray(jumping, name="Sprünge")
    volumes = {"Scheibe, groß": disc, "Rauschen": noise, "Sprünge": jumping}
    for name, voxels in volumes.items():
        image = exports.on_grid(voxels, Volume(voxels, np.eye(4), name))
        sitk.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    command = ["rank", "--pack", "atrium", "--images", str(tmp_path), "--device", "cpu", "--no-cache", "--json"]
    done = subprocess.run([sys.executable, "-m", "ProMISeCore", *command], cwd=ROOT, capture_output=True, check=True)
    expected = json.loads(done.stdout)
    panel = school()
    panel.widget.teach.command = None
    panel.choose("atrium")
    panel.click("rankButton")
    panel.settle(lambda: not panel.widget.rank.isRunning, 300)
    tree = panel.ui.nextCaseTree
    shown = [[tree.topLevelItem(row).text(column) for column in range(3)] for row in range(tree.topLevelItemCount)]
    assert shown == [[one["case"], f"{one['uncertainty']:.2f}", one["why"]] for one in expected]
    assert {row[0] for row in shown} == set(volumes)
    assert all(np.array_equal(slicer.util.arrayFromVolume(slicer.util.getNode(n)), v) for n, v in volumes.items())


def test_leaving_the_module_while_volumes_are_written_ranks_with_the_pack_of_the_click(school, monkeypatch) -> None:
    from ProMISeSlicerLib import ranking

    panel, given, start = school(), [], ranking.Child.start
    add_volume("ohne A", 3), add_volume("ohne B", 4)
    monkeypatch.setattr(ranking.Child, "start", lambda self, words: (given.extend(words), start(self, words)))
    panel.choose("lung")
    panel.click("rankButton")
    panel.widget.exit()
    panel.settle(lambda: not panel.widget.rank.isRunning)
    assert Path(given[given.index("--pack") + 1]).stem == "lung" and given[given.index("--backbone") + 1] == "tiny"


def test_a_list_ends_with_its_scene_as_ids_come_again(school) -> None:
    import slicer

    panel = school()
    id_ = add_volume("ohne A", 3).GetID()
    panel.widget.updateButtons()
    panel.click("rankButton")
    panel.settle(lambda: not panel.widget.rank.isRunning)
    assert panel.ui.nextCaseTree.topLevelItem(0).text(0) == "ohne A"
    slicer.mrmlScene.Clear(False)
    assert id_ in [add_volume(f"fremd {number}", number).GetID() for number in range(3)]
    assert panel.ui.nextCaseTree.topLevelItemCount == 0 and panel.widget.rank._volumes == {}


@pytest.mark.parametrize("when", ["written", "ranked"])
def test_a_ranking_ends_with_its_scene(school, copies, when: str) -> None:
    import slicer

    panel = school()
    add_volume("ohne A", 3), add_volume("ohne B", 4)
    panel.widget.updateButtons()
    panel.click("rankButton")
    rank = panel.widget.rank
    if when == "ranked":
        panel.settle(lambda: rank._child is not None)
    slicer.mrmlScene.Clear(False)
    for number in range(4):
        add_volume(f"fremd {number}", number)
    panel.settle(lambda: not rank.isRunning)
    assert panel.ui.nextCaseTree.topLevelItemCount == 0 and list(copies.iterdir()) == []
    assert "ancelled" in panel.status


def test_a_volume_that_was_removed_is_not_shown_for_one_that_came_after(school) -> None:
    import slicer

    panel = school()
    node = add_volume("ohne A", 3)
    panel.widget.updateButtons()
    panel.click("rankButton")
    panel.settle(lambda: not panel.widget.rank.isRunning)
    slicer.mrmlScene.RemoveNode(node)
    panel.widget.rank.onClicked(panel.ui.nextCaseTree.topLevelItem(0), 0)
    assert panel.status == "That volume is no longer in the scene." and panel.widget.rank._volumes == {}


@pytest.mark.parametrize("removed", [["ohne B"], ["ohne A", "ohne B"]])
def test_a_volume_that_is_removed_while_copies_are_written_is_not_listed(school, removed: list[str]) -> None:
    import slicer

    panel = school()
    add_volume("ohne A", 3), add_volume("ohne B", 4)
    panel.widget.updateButtons()
    panel.click("rankButton")
    for name in removed:
        slicer.mrmlScene.RemoveNode(slicer.util.getNode(name))
    panel.settle(lambda: not panel.widget.rank.isRunning)
    tree = panel.ui.nextCaseTree
    left = [name for name in ("ohne A", "ohne B") if name not in removed]
    assert [tree.topLevelItem(row).text(0) for row in range(tree.topLevelItemCount)] == left
    assert list(panel.widget.rank._volumes.values()) == [slicer.util.getNode(name) for name in left]
    told = "The volume at the top" if left else "⚠ The volumes have left the scene; nothing was compared."
    assert panel.status.startswith(told)
