"""Where `promise teach` works: a folder of its own, in which nobody else's files are touched, one process at a time."""

from __future__ import annotations

import errno

from ProMISeCore import lock
from ProMISeCore.__main__ import main


def test_the_cases_folder_is_no_workspace(cases, command, capsys) -> None:
    for name in ("slice-001.png", "slice-000001.png"):
        (cases / name).write_bytes(b"mine")
    (cases / "views-mine").mkdir()
    assert main(command(cases, "--workspace", str(cases), "--held-out", "Fall 0")) == 2
    assert "give a folder of its own" in capsys.readouterr().err
    assert {path.name for path in cases.iterdir()} >= {"slice-001.png", "slice-000001.png", "views-mine"}


def test_only_what_a_teaching_has_written_is_deleted_from_the_workspace(cases, command, tmp_path) -> None:
    place = tmp_path / "work"
    place.mkdir()
    assert main(command(cases, "--workspace", str(place))) == 0
    (place / "views-mine").mkdir()
    (place / "slice-001.png").write_bytes(b"mine")
    assert main(command(cases, "--workspace", str(place), "--seed", "1")) == 0
    assert (place / "views-mine").is_dir() and (place / "slice-001.png").read_bytes() == b"mine"


def test_a_folder_of_somebody_elses_is_no_workspace(cases, command, tmp_path, capsys) -> None:
    place = tmp_path / "exported"
    place.mkdir()
    for name in ("slice-000001.png", "lock"):
        (place / name).write_bytes(b"mine")
    assert main(command(cases, "--workspace", str(place))) == 2
    assert "exported, which holds other files; give a new or an empty folder" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in place.iterdir()} == {"slice-000001.png": b"mine", "lock": b"mine"}


def test_where_files_cannot_be_locked_is_told(cases, command, monkeypatch, capsys) -> None:
    def refuse(descriptor: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_take", refuse)
    assert main(command(cases)) == 2
    assert "where files cannot be locked (No locks available); give another --workspace" in capsys.readouterr().err
