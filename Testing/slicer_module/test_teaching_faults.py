"""The section Teach where something goes wrong: it is told, nothing is lost, and the window stays alive."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scene_cases import TEACHER, add_segmentation, add_volume, settle

from ProMISeCore.lock import alone


def test_a_child_that_does_not_listen_is_ended_by_a_second_click(school, home) -> None:
    panel = school("deaf")
    panel.click("teachButton")
    panel.settle(lambda: panel.widget.teach.tuition.course.looks != [])
    panel.click("teachStopButton")
    panel.click("teachStopButton")
    settle(panel)
    assert "was killed or crashed" in panel.status and not list((home / "packs").glob("Gro*.safetensors"))
    assert panel.ui.teachResumeButton.enabled and panel.ui.teachUnfinishedComboBox.currentText == "Große Läsion"


def test_a_crash_is_told_and_the_teaching_goes_on_after_a_restart(school, opened, home) -> None:
    import slicer

    panel = school("crash")
    panel.click("teachButton")
    settle(panel)
    assert "ended with code 11" in panel.status and "Segmentation fault" in panel.status
    assert "What it had learned is kept" in panel.status
    panel.widget.cleanup()
    slicer.mrmlScene.Clear()
    again = opened(volume=False)  # as after a restart: another scene, another widget
    again.widget.teach.command = (sys.executable, str(TEACHER), "none")
    again.ui.teachCollapsibleButton.collapsed = False
    assert again.ui.teachUnfinishedComboBox.currentText == "Große Läsion"
    again.click("teachResumeButton")
    settle(again)
    looks = again.widget.teach.tuition.course.looks
    assert [look.step for look in looks] == [1, 2, 3, 4]  # the first two from before
    assert again.status.startswith("Done:") and (home / "packs" / "Große Läsion.safetensors").is_file()
    assert again.ui.teachUnfinishedComboBox.count == 0


def test_a_line_that_a_full_disk_has_cut_off_costs_its_look_and_no_more(school, home) -> None:
    """In the middle of a letter. What is kept after it stands on a line of its own."""
    import slicer

    panel = school("crash")
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        node.GetSegmentation().GetNthSegment(0).SetName("Läsion")
    panel.click("teachButton")
    settle(panel)
    events = home / "teach" / "Große Läsion" / "events.jsonl"
    text = events.read_bytes()
    events.write_bytes(text[: text.rindex("ä".encode()) + 1])
    panel.widget.teach.command = (sys.executable, str(TEACHER), "none")
    panel.click("teachResumeButton")
    settle(panel)
    looks = panel.widget.teach.tuition.course.looks
    assert panel.status.startswith("Done:") and [look.step for look in looks] == [1, 3, 4]
    kept = [line for line in events.read_bytes().splitlines() if line]
    assert [b'"step": 2' in line for line in kept].count(True) == 1 and json.loads(kept[-1])["event"] == "done"
    assert [json.loads(line)["step"] for line in kept if line.endswith(b"}") and b'"look"' in line] == [1, 3, 4]


def test_what_was_kept_of_a_curve_and_cannot_be_read_is_passed_over(school, home, monkeypatch) -> None:
    panel = school("crash")
    panel.click("teachButton")
    settle(panel)
    panel.widget.teach.command = (sys.executable, str(TEACHER), "none")
    for name in ("read_bytes", "read_text"):
        read = getattr(Path, name)

        def unreadable(path: Path, *given, read=read, **named):
            if path.name == "events.jsonl":
                raise OSError(5, "Input/output error")
            return read(path, *given, **named)

        monkeypatch.setattr(Path, name, unreadable)
    panel.click("teachResumeButton")
    settle(panel)
    looks = panel.widget.teach.tuition.course.looks
    assert panel.status.startswith("Done:") and [look.step for look in looks] == [3, 4]


def test_what_fails_at_last_is_told_and_can_be_resumed(school, home) -> None:
    panel = school("last")
    panel.click("teachButton")
    settle(panel)
    assert "could not be learned from (no memory is left); Resume tries again" in panel.status
    assert (home / "packs" / "Große Läsion.safetensors").is_file()
    assert panel.ui.teachUnfinishedComboBox.currentText == "Große Läsion" and panel.ui.teachResumeButton.enabled
    assert "Measured before" not in panel.ui.teachResultLabel.text
    panel.widget.teach.command = (sys.executable, str(TEACHER), "none")
    panel.click("teachResumeButton")
    settle(panel)
    assert panel.status.startswith("Done:") and panel.ui.teachUnfinishedComboBox.count == 0
    assert "Measured before the held-out slices were learned from, too." in panel.ui.teachResultLabel.text


def test_a_stop_before_anything_is_learned_promises_no_pack(school, home) -> None:
    panel = school("encoding")
    panel.click("teachButton")
    course = lambda: panel.widget.teach.tuition.course  # noqa: E731
    panel.settle(lambda: course().encoded == (4, 8))
    assert panel.ui.teachStageLabel.text == "Looking at the slices once: 4 of 8 views; about 2 s left"
    panel.click("teachStopButton")
    text = "Stopping before anything is learned: there will be no pack yet, Resume goes on from here…"
    assert panel.ui.teachStageLabel.text == text
    settle(panel)
    assert panel.status == "⚠ Große Läsion: stopped while encoding: nothing was learned yet"
    panel.widget.teach.command = (sys.executable, str(TEACHER), "slow")
    panel.click("teachResumeButton")
    panel.settle(lambda: course().looks != [])
    panel.click("teachStopButton")
    assert panel.ui.teachStageLabel.text == "Stopping; the best so far becomes the pack…"
    settle(panel)
    assert panel.status.startswith("Stopped; the best so far is the pack Große Läsion, version 1")


def test_what_was_cut_off_can_be_discarded(school, home, monkeypatch) -> None:
    import slicer

    panel = school("crash")
    panel.click("teachButton")
    settle(panel)
    kept = home / "teach" / "Große Läsion" / "learned.json"
    kept.write_text("{}")
    for agreed in (False, True):
        monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_, agreed=agreed: agreed)
        panel.click("teachDiscardButton")
        assert ([path.name for path in kept.parent.iterdir()] == ["learned.json"]) == agreed
    assert panel.ui.teachUnfinishedComboBox.count == 0


def test_figures_that_are_no_numbers_do_no_harm(school) -> None:
    panel = school("nan")
    panel.click("teachButton")
    settle(panel)
    looks = panel.widget.teach.tuition.course.looks
    assert [look.meanDice for look in looks] == [None] * 4 and panel.status.startswith("Done:")


def test_what_libraries_print_is_passed_over(school) -> None:
    panel = school("chatter")
    panel.click("teachButton")
    settle(panel)
    assert panel.status.startswith("Done:") and len(panel.widget.teach.tuition.course.looks) == 4


def test_two_teachings_of_one_name_are_refused_in_the_childs_words(school) -> None:
    panel = school("refuse")
    panel.click("teachButton")
    settle(panel)
    assert panel.status == "⚠ Große Läsion: the workspace is in use by another process (4711)"
    assert panel.ui.teachButton.enabled


def test_a_teaching_of_that_name_elsewhere_keeps_its_lesson(school, home) -> None:
    panel = school()
    with alone(home / "teach" / "Große Läsion", "wait"):
        kept = {"lesson.json": "its own", "events.jsonl": "its own"}
        for name, text in kept.items():
            (home / "teach" / "Große Läsion" / name).write_text(text)
        panel.click("teachButton")
        settle(panel)
        assert "in use by another process" in panel.status and "another name" in panel.status
        assert all((home / "teach" / "Große Läsion" / name).read_text() == text for name, text in kept.items())


def test_a_teaching_that_was_killed_while_paused_goes_on_unpaused(school, opened) -> None:
    panel = school("slow")
    panel.click("teachButton")
    panel.settle(lambda: panel.widget.teach.tuition.course.looks != [])
    panel.click("teachPauseButton")
    panel.settle(lambda: panel.widget.teach.tuition.course.isPaused)
    panel.widget.teach.tuition.kill()
    settle(panel)
    panel.click("teachResumeButton")
    before = len(panel.widget.teach.tuition.course.looks)
    panel.settle(lambda: len(panel.widget.teach.tuition.course.looks) > before)
    assert panel.ui.teachPauseButton.text == "Pause" and panel.ui.teachStageLabel.text != "Paused."
    panel.click("teachStopButton")
    settle(panel)


def test_a_check_that_is_stopped_was_no_crash(school) -> None:
    panel = school("slow")
    panel.click("teachCheckButton")
    panel.settle(lambda: not panel.widget.teach.tuition.isWriting)
    panel.click("teachStopButton")
    settle(panel)
    assert "Cancelled" in panel.status and "crashed" not in panel.status


def test_an_interpreter_that_is_not_there_is_told(school) -> None:
    panel = school()
    panel.widget.teach.command = ("/nowhere/python",)
    panel.click("teachButton")
    settle(panel)
    assert "was killed or crashed" in panel.status and panel.ui.teachButton.enabled


def test_closing_the_scene_does_not_end_the_teaching(school) -> None:
    import slicer

    panel = school("slow")
    panel.click("teachButton")
    panel.settle(lambda: len(panel.widget.teach.tuition.course.looks) >= 1)
    slicer.mrmlScene.Clear()
    assert panel.ui.teachCaseTable.rowCount == 0
    seen = len(panel.widget.teach.tuition.course.looks)
    panel.settle(lambda: len(panel.widget.teach.tuition.course.looks) > seen)
    panel.click("teachStopButton")
    settle(panel)
    assert "the pack Große Läsion, version 1" in panel.status


@pytest.mark.parametrize("written", [0, 1, 2])
def test_closing_the_scene_while_cases_are_written_is_told_and_nothing_is_taught(school, home, written: int) -> None:
    """So many of three cases are written. Of the others nobody knows any more which slices are the user's."""
    import slicer

    panel = school(cases=3)
    panel.click("teachButton")
    panel.settle(lambda: len(panel.widget.teach.tuition.exported) == written)
    slicer.mrmlScene.Clear()
    settle(panel)
    told = f"'Müller, Jörg {written}' left the scene before it was written; nothing was taught"
    assert panel.status.startswith("⚠ Große Läsion: ") and told in panel.status
    assert not list((home / "packs").glob("Gro*")) and panel.ui.teachUnfinishedComboBox.count == 0


def test_closing_the_application_ends_the_child_with_something_to_go_on_from(school, opened) -> None:
    panel = school("slow")
    panel.click("teachButton")
    panel.settle(lambda: len(panel.widget.teach.tuition.course.looks) >= 2)
    child = panel.widget.teach.tuition._child
    panel.widget.cleanup()
    assert not child.isRunning
    again = opened(volume=False)
    again.widget.teach.command = (sys.executable, str(TEACHER), "none")
    again.widget.teach.refresh()
    again.click("teachResumeButton")
    settle(again)
    steps = [look.step for look in again.widget.teach.tuition.course.looks]
    assert again.status.startswith("Done:") and steps == list(range(1, max(steps) + 1)) and len(steps) >= 4


def test_labels_edited_meanwhile_do_not_reach_the_running_child(school) -> None:
    import slicer

    panel = school("slow")
    panel.click("teachButton")
    panel.settle(lambda: len(panel.widget.teach.tuition.course.looks) >= 1)
    files = [Path(file) for file in panel.widget.teach.tuition.lesson.files]
    before = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]
    node = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0]
    slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, node.GetSegmentation().GetNthSegmentID(0))[:] = 0
    node.Modified()
    panel.settle(lambda: len(panel.widget.teach.tuition.course.looks) >= 3)
    assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in files] == before
    panel.click("teachStopButton")
    settle(panel)


def test_a_volume_with_nans_is_left_out_and_named(school) -> None:
    import slicer

    panel = school()
    bad = slicer.util.addVolumeFromArray(np.full((6, 32, 40), 100, np.float32), name="Schäden")
    add_segmentation(bad, "bad", disc=100)
    slicer.util.arrayFromVolume(bad)[0, 0, 0] = np.nan
    panel.click("teachSceneButton")
    panel.click("teachCheckButton")
    settle(panel)
    assert "Schäden" in panel.ui.teachFoundLabel.text and "NaN" in panel.ui.teachFoundLabel.text
    assert panel.ui.teachCaseTable.item(2, 3).text() == "⚠ left out"
    assert len(panel.widget.teach.tuition.course.report["cases"]) == 2


def test_a_held_out_case_that_cannot_be_used_is_told_and_its_name_stays_here(school) -> None:
    import slicer

    panel = school()
    bad = slicer.util.getNode("Müller, Jörg 1")
    voxels = slicer.util.arrayFromVolume(bad).astype(np.float32)
    voxels[0, 0, 0] = np.nan
    slicer.util.updateVolumeFromArray(bad, voxels)
    panel.ui.teachHeldOutComboBox.setCurrentIndex(2)
    panel.click("teachCheckButton")
    settle(panel)
    arguments = panel.widget.teach.tuition.lesson.arguments(check=True)
    assert "--held-out" not in arguments and not [part for part in arguments if "Müller" in part]
    text = "Müller, Jörg 1 cannot be used, and so not be held out: what is proposed is held out instead"
    assert f"⚠ {text}" in panel.ui.teachFoundLabel.text and panel.status.startswith("Checked")


def test_of_several_notices_all_can_be_read(school) -> None:
    panel = school("slow")
    panel.click("teachButton")
    tuition = panel.widget.teach.tuition
    panel.settle(lambda: tuition.course.looks != [])
    case = next(iter(tuition.lesson.shown))
    for message in (f"{case} was <changed>", "the disk is nearly full", "the disk is nearly full"):
        tuition._take(json.dumps({"event": "notice", "message": message}))
    assert panel.status == "the disk is nearly full"
    for _ in range(2):
        text = panel.ui.teachFoundLabel.text
        assert f"⚠ {tuition.lesson.shown[case]} was &lt;changed&gt;" in text
        assert text.count("⚠ the disk is nearly full") == 1
        if tuition.isRunning:
            panel.click("teachStopButton")
            settle(panel)


def test_resuming_asks_for_what_is_not_installed(school, monkeypatch) -> None:
    from ProMISeSlicerLib import environment

    panel = school("crash")
    panel.click("teachButton")
    settle(panel)
    monkeypatch.setattr(environment, "missing", lambda: [environment.REQUIREMENTS[0]])
    panel.click("teachResumeButton")  # in testing mode nothing is installed, and that is told
    assert panel.status.startswith("⚠ The teaching could not go on: missing") and "PyTorch" in panel.status
    assert not panel.widget.teach.isRunning and panel.ui.teachResumeButton.enabled


def test_the_same_voxels_twice_are_told(school) -> None:
    panel = school()
    add_segmentation(add_volume("copy", 0), "again", disc=100)
    panel.click("teachSceneButton")
    panel.click("teachCheckButton")
    settle(panel)
    assert "hold the same voxels" in panel.ui.teachFoundLabel.text


def test_a_read_only_home_is_told_and_nothing_begins(school, home, monkeypatch) -> None:
    (home / "teach").write_text("a file where the folder should be")
    panel = school()
    panel.click("teachButton")
    settle(panel)
    assert panel.status.startswith("⚠") and "cannot be written" in panel.status
    assert panel.ui.teachButton.enabled


def test_a_disk_that_is_full_costs_the_curve_after_a_restart_and_no_more(school, home) -> None:
    """Folders where the files should be: neither what the child says nor how it ended can be kept."""
    panel = school("slow")
    panel.click("teachButton")
    course = panel.widget.teach.tuition.course
    panel.settle(lambda: len(course.looks) >= 1)
    for name in ("events.jsonl", "lesson.json"):
        (home / "teach" / "Große Läsion" / name).unlink()
        (home / "teach" / "Große Läsion" / name).mkdir()
    seen = len(course.looks)
    panel.settle(lambda: len(course.looks) > seen + 1)
    panel.click("teachStopButton")
    settle(panel)
    assert "the pack Große Läsion, version 1" in panel.status and "lesson.json cannot be written" in panel.status
    assert (home / "packs" / "Große Läsion.safetensors").is_file() and panel.ui.teachButton.enabled


def test_a_pack_folder_of_ones_own_that_cannot_be_written_is_told_and_the_pack_is_kept(school, home, tmp_path) -> None:
    panel, folder = school("slow"), tmp_path / "meine Packs"
    folder.mkdir()
    panel.ui.packFolderButton.directory = str(folder)
    panel.click("teachButton")
    panel.settle(lambda: panel.widget.teach.tuition.course.looks != [])
    folder.rmdir()
    folder.write_bytes(b"a file where the folder should be")
    panel.click("teachStopButton")
    settle(panel)
    assert panel.status.startswith("⚠ The pack was taught and is kept") and "cannot be written" in panel.status
    assert [version.number for version in panel.widget.keeping._versions] == [1]
    assert (home / "packs" / "Große Läsion.safetensors").is_file() and panel.ui.teachButton.enabled


def test_a_teaching_that_runs_elsewhere_is_not_listed_and_not_discarded(school, home, monkeypatch) -> None:
    import slicer

    panel, workspace = school("slow"), home / "teach" / "Große Läsion"
    panel.click("teachButton")
    panel.settle(lambda: len(panel.widget.teach.tuition.course.looks) > 1)
    panel.click("teachStopButton")
    settle(panel)
    unfinished = panel.ui.teachUnfinishedComboBox
    assert unfinished.currentText == "Große Läsion"
    before = sorted(workspace.rglob("*"))
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: True)
    with alone(workspace, ""):
        panel.click("teachDiscardButton")
        assert panel.status.startswith("⚠") and "in use by another process" in panel.status
        assert unfinished.count == 0 and not panel.ui.teachResumeButton.visible
    assert set(before) <= set(workspace.rglob("*"))
    panel.widget.teach.refresh()
    assert unfinished.currentText == "Große Läsion"
    panel.click("teachDiscardButton")
    assert panel.status == "Deleted." and not workspace.exists()
