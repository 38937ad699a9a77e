"""Hostile zips and scenes are refused before anything of theirs is used."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from ProMISeView import archive

from ProMISeCore.errors import InputError

SCENE = '<MRML version="x"><VolumeArchetypeStorage id="a" fileName="{name}"></VolumeArchetypeStorage></MRML>'


def packed(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
    return path


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", "a\\..\\out", "C:/out"])
def test_paths_out_of_the_zip_are_refused(tmp_path: Path, name: str) -> None:
    path = packed(tmp_path / "a.zip", {name: "x"})
    with pytest.raises(InputError, match="lead out of it"), archive.unpacked(path, keepNames=True):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["a.zip"], "nothing is left behind"


def test_links_are_refused(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("link")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(entry, "/etc/passwd")
    with pytest.raises(InputError, match="lead out of it"), archive.unpacked(tmp_path / "a.zip", keepNames=True):
        pass


def test_without_names_files_are_numbered(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", {"../x/IM1": "one", "y/IM1": "two"})
    with archive.unpacked(path, keepNames=False) as folder:
        assert {each.name: each.read_text() for each in folder.iterdir()} == {"00000": "one", "00001": "two"}
    assert not folder.exists()


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a.zip", {"a": "x" * 2000, "b": "y"})
    monkeypatch.setattr(archive, "_MAX_BYTES", 1000)
    with pytest.raises(InputError, match="holds more than"), archive.unpacked(path, keepNames=True):
        pass
    monkeypatch.setattr(archive, "_MAX_BYTES", 10**6)
    monkeypatch.setattr(archive, "_MAX_FILES", 1)
    with pytest.raises(InputError, match="holds more than"), archive.unpacked(path, keepNames=True):
        pass


@pytest.mark.parametrize("name", ["Data/a.nrrd", "Data/a%20b.nrrd"])
def test_a_scene_with_its_own_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "s.mrml").write_text(SCENE.format(name=name))
    assert archive.sceneFile(tmp_path) == tmp_path / "s.mrml"


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../../a", "%2e%2e/a", "file:///etc/passwd", "https://x.example/a", "\\\\host\\a", "C:\\a"]
)
def test_a_scene_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "s.mrml").write_text(SCENE.format(name=name))
    with pytest.raises(InputError, match="files outside it"):
        archive.sceneFile(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"), [("<!DOCTYPE a []><MRML/>", "entities"), ("<MRML>", "damaged"), (None, "holds no scene")]
)
def test_a_scene_that_is_none_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "s.mrml").write_text(text)
    with pytest.raises(InputError, match=words):
        archive.sceneFile(tmp_path)
