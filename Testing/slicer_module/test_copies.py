"""Copies of the user's volumes in the folders of teachings: they go when nobody needs them, and not before."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
from scene_cases import TEACHER, settle

from ProMISeCore.errors import InputError
from ProMISeCore.lock import alone

DAY = 24 * 60 * 60


def copies_of(home: Path, name: str) -> list[str]:
    """Endings of the files, which tell volumes from labels."""
    cases = home / "teach" / name / "cases"
    return sorted(path.name.partition(".")[2] for path in cases.rglob("*") if path.is_file())


def stop(panel) -> None:
    """Teach, and stop after the first look."""
    panel.click("teachButton")
    panel.settle(lambda: panel.widget.teach.tuition.course.looks != [])
    panel.click("teachStopButton")
    settle(panel)


def left(home: Path, name: str, age: float, **others: str) -> Path:
    """What a check has left that many seconds ago, and other files beside it."""
    labels = home / "teach" / name / "cases" / "labels-1" / "case-1.seg.nrrd"
    labels.parent.mkdir(parents=True)
    labels.write_text("copy")
    for path in (labels, labels.parent, labels.parent.parent):
        os.utime(path, (time.time() - age,) * 2)
    for other, text in others.items():
        (home / "teach" / name / other.replace("_", ".")).write_text(text)
    return labels


def test_a_stopped_teaching_can_go_on_where_the_disk_is_full_when_the_next_one_begins(
    school, home, monkeypatch
) -> None:
    import slicer
    from ProMISeSlicerLib import lesson

    def full(self) -> None:
        raise InputError("lesson.json cannot be written (no space is left)")

    panel = school("slow")
    stop(panel)
    workspace = home / "teach" / "Große Läsion"
    kept, events = (workspace / name for name in ("lesson.json", "events.jsonl"))
    files = [Path(file) for file in json.loads(kept.read_text(encoding="utf-8"))["files"]]
    before = [kept.read_bytes(), events.read_bytes()]
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("Müller, Jörg 0"))
    with monkeypatch.context() as patched:
        patched.setattr(lesson.Lesson, "save", full)
        panel.click("teachButton")
        settle(panel)
    assert "no space is left" in panel.status
    assert len(files) == 4 and all(file.is_file() for file in files)
    assert [kept.read_bytes(), events.read_bytes()] == before
    panel.widget.teach.command = (sys.executable, str(TEACHER), "none")
    assert panel.ui.teachUnfinishedComboBox.currentText == "Große Läsion"
    panel.click("teachResumeButton")
    settle(panel)
    assert panel.status.startswith("Done:")


def test_cases_that_another_slicer_is_writing_are_not_removed(school, home) -> None:
    """This one has checked the same volumes under that name, and closes."""
    from ProMISeSlicerLib.tuition import Tuition

    panel = school("slow")
    panel.click("teachCheckButton")
    settle(panel)
    teach = panel.widget.teach
    this, ended = teach.tuition, []
    other = Tuition(teach.wanted(), lambda: None, lambda: ended.append(True), command=teach.command)
    other.begin(teach.table.used, ["disc", "ring"], teach.table.shown)
    panel.settle(lambda: len(other.exported) == 2)
    assert other.isWriting
    this.clear()
    assert copies_of(home, "Große Läsion") == ["nrrd", "nrrd", "seg.nrrd", "seg.nrrd"]
    panel.settle(lambda: other.course.looks != [])
    this.clear()
    other.stop()
    panel.settle(lambda: bool(ended))
    assert other.problem == "" and copies_of(home, "Große Läsion") == ["nrrd", "nrrd", "seg.nrrd", "seg.nrrd"]


@pytest.mark.parametrize("how", ["ended", "let go"])
def test_a_teaching_that_never_began_keeps_nobody_out(school, home, how: str) -> None:
    import slicer

    panel = school("slow")
    panel.click("teachButton")
    tuition = panel.widget.teach.tuition
    with pytest.raises(InputError, match="in use by another process"), alone(home / "teach" / "Große Läsion", ""):
        pass
    if how == "ended":
        slicer.mrmlScene.Clear(False)
        settle(panel)
    else:
        tuition.letGo()
    with alone(home / "teach" / "Große Läsion", ""):
        pass


def test_resuming_a_teaching_removes_what_the_check_of_another_name_needed(school, home) -> None:
    panel = school("slow")
    stop(panel)
    panel.ui.teachNameEdit.text = "other"
    panel.click("teachCheckButton")
    settle(panel)
    assert copies_of(home, "other") == ["nrrd", "nrrd", "seg.nrrd", "seg.nrrd"]
    panel.click("teachResumeButton")
    panel.settle(lambda: panel.widget.teach.tuition.course.looks != [])
    panel.click("teachStopButton")
    settle(panel)
    assert sorted(path.name for path in (home / "teach").iterdir()) == ["Große Läsion"]
    assert copies_of(home, "Große Läsion") == ["nrrd", "nrrd", "seg.nrrd", "seg.nrrd"]


def test_what_a_check_has_left_in_a_crash_goes_when_slicer_is_opened_a_day_later(opened, home) -> None:
    places = {
        "crashed": left(home, "crashed", 2 * DAY),
        "discarded": left(home, "discarded", 2 * DAY, learned_json="{}"),
        "just checked": left(home, "just checked", DAY / 2),
        "stopped": left(home, "stopped", 2 * DAY, lesson_json='{"format": 2}'),
        "going on": left(home, "going on", 2 * DAY),
    }
    (home / "teach" / "notes.txt").write_text("a file")
    with alone(home / "teach" / "going on", ""):
        panel = opened(volume=False)
    assert [name for name, file in places.items() if file.is_file()] == ["just checked", "stopped", "going on"]
    assert not (home / "teach" / "crashed").exists() and "⚠" not in panel.status
    assert [path.name for path in (home / "teach" / "discarded").iterdir()] == ["learned.json"]


def test_copies_that_are_used_again_are_not_old(school, opened, home) -> None:
    """A check finds the copies of one long ago, and leaves them alone; meanwhile another Slicer is opened."""
    panel = school()
    panel.click("teachCheckButton")
    settle(panel)
    cases = home / "teach" / "Große Läsion" / "cases"
    for path in (cases, *cases.rglob("*")):
        os.utime(path, (time.time() - 2 * DAY,) * 2)
    panel.click("teachCheckButton")
    opened(volume=False)
    assert copies_of(home, "Große Läsion") == ["nrrd", "nrrd", "seg.nrrd", "seg.nrrd"]
    settle(panel)
    assert panel.status == "Checked; see below."
