"""Versions of packs: nothing is lost by teaching, installing or going back, whatever fails in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
import torch
from small_cases import limited

from ProMISeCore import packs, versions, whole_file
from ProMISeCore.__main__ import main
from ProMISeCore.errors import InputError, WeightsError
from ProMISeCore.inventory import install_pack
from ProMISeCore.lock import alone

NAME = "Ventrikel, süß (2)"
KEY = "0.apm.read.bias"


@pytest.fixture
def filled(tiny_model):
    """`filled(value)`: the manifest and tensors of a pack whose first tensor is filled with that value."""

    def make(value: float) -> tuple[packs.Manifest, dict[str, torch.Tensor]]:
        model = tiny_model(("a",))
        return model.manifest, model.tensors() | {KEY: torch.full_like(model.tensors()[KEY], value)}

    return make


@pytest.fixture
def taught(filled):
    """`taught(value)`: add such a version of NAME."""
    return lambda value: versions.add(NAME, *filled(value))


@pytest.fixture
def installed(filled, tmp_path):
    """`installed(value)`: install such a pack of NAME from a file."""

    def install(value: float) -> Path:
        file = tmp_path / str(value) / f"{NAME}.safetensors"
        file.parent.mkdir()
        packs.save(file, *filled(value))
        return install_pack(file)

    return install


def first(path: Path) -> float:
    return float(packs.tensors(path)[KEY][0])


def test_versions_are_numbered_and_the_latest_is_present(taught) -> None:
    assert [taught(value).number for value in (1, 2, 3)] == [1, 2, 3]
    assert first(packs.find(NAME)) == 3
    assert [(v.number, v.present, v.manifest.version) for v in versions.listing(NAME)] == [
        (1, False, "1"), (2, False, "2"), (3, True, "3"),
    ]  # fmt: skip


def test_rolling_back_keeps_every_version(taught) -> None:
    for value in (1, 2, 3):
        taught(value)
    versions.roll_back(NAME, 1)
    assert first(packs.find(NAME)) == 1
    assert [v.present for v in versions.listing(NAME)] == [True, False, False]
    assert taught(4).number == 4
    versions.roll_back(NAME, 3)
    assert first(packs.find(NAME)) == 3
    with pytest.raises(WeightsError, match="no version 7; there are: 1, 2, 3, 4"):
        versions.roll_back(NAME, 7)


def test_an_installed_pack_becomes_a_version_before_it_is_replaced(taught, tiny_model, tmp_path) -> None:
    model = tiny_model(("a",))
    foreign = tmp_path / f"{NAME}.safetensors"
    packs.save(foreign, model.manifest, model.tensors())
    install_pack(foreign)
    assert [v.number for v in versions.listing(NAME)] == [1]
    assert taught(5).number == 2
    versions.roll_back(NAME, 1)
    assert packs.find(NAME).read_bytes() == foreign.read_bytes()
    versions.roll_back(NAME, 2)
    install_pack(foreign)
    assert packs.find(NAME).read_bytes() == foreign.read_bytes()
    assert [v.number for v in versions.listing(NAME)] == [1, 2]


def test_installing_over_an_installed_pack_keeps_that_as_a_version(installed) -> None:
    installed(7), installed(8)
    assert [(first(v.path), v.present) for v in versions.listing(NAME)] == [(7, False), (8, True)]


def test_rolling_back_keeps_what_was_only_installed(taught, installed) -> None:
    taught(1), installed(7)
    versions.roll_back(NAME, 1)
    assert [(first(v.path), v.present) for v in versions.listing(NAME)] == [(1, True), (7, False)]


def test_a_version_that_cannot_be_written_leaves_the_present_one(taught) -> None:
    taught(1)
    before = packs.find(NAME).read_bytes()

    with limited("RLIMIT_FSIZE", 1000), pytest.raises(WeightsError, match="cannot be written: .*File too large"):
        taught(2)
    assert packs.find(NAME).read_bytes() == before
    assert [v.number for v in versions.listing(NAME)] == [1]
    assert not list(packs.folder().rglob(".promise-*"))


def test_a_damaged_present_pack_can_be_rolled_back(taught) -> None:
    taught(1), taught(2)
    packs.find(NAME).write_bytes(b"broken")
    versions.roll_back(NAME, 1)
    assert first(packs.find(NAME)) == 1


def test_exported_and_installed_elsewhere_it_is_the_same(taught, tmp_path, monkeypatch) -> None:
    path = taught(6).path
    versions.export(NAME, tmp_path / f"{NAME}.safetensors")
    monkeypatch.setenv("PROMISE_HOME", str(tmp_path / "elsewhere"))
    assert install_pack(tmp_path / f"{NAME}.safetensors").read_bytes() == path.read_bytes()
    with pytest.raises(InputError, match="safetensors"):
        versions.export(NAME, tmp_path / "pack.zip")


def test_removing_takes_all_versions(taught) -> None:
    taught(1), taught(2)
    assert versions.remove(NAME) == 3
    assert not list(packs.folder().iterdir())
    with pytest.raises(WeightsError, match="no installed pack"):
        versions.remove(NAME)


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "a.", "../a", "a/b", "a\\b", "a:b", "CON", "nul.x", "x" * 65, "_a", "\u0301a"]
)
def test_names_that_no_file_can_have_everywhere_are_refused(name) -> None:
    with pytest.raises(InputError, match="cannot be called"):
        versions.checked_name(name)


def test_umlauts_are_composed() -> None:
    assert versions.checked_name("a\u0308 b") == "ä b"


@pytest.mark.parametrize("name", ["हृदय", "हिन्दी 2", "ตับ", "قَلْب", "q\u0301"])
def test_letters_of_any_script_are_letters_with_their_vowels_and_tones(name) -> None:
    assert versions.checked_name(name) == name


def test_a_pack_is_found_by_a_name_whose_umlauts_are_not_composed(taught, tmp_path) -> None:
    path = taught(1).path
    decomposed = "Ventrikel, su\u0308ß (2)"
    assert packs.find(decomposed) == packs.find(f"{decomposed}.safetensors") == packs.find(NAME)
    versions.export(decomposed, tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == path.read_bytes()


def test_a_pack_copied_from_a_mac_has_its_versions_under_the_name_that_it_has_there(filled) -> None:
    name = unicodedata.normalize("NFD", "Läsion")
    packs.folder().mkdir(parents=True)
    packs.save(packs.folder() / f"{name}.safetensors", *filled(1))
    assert [(version.number, version.present) for version in versions.listing(name)] == [(1, True)]
    assert (
        versions.add(name, *filled(2)).number == 2 and [pack.path.stem for pack in packs.installed()].count(name) == 1
    )
    assert first(versions.roll_back(name, 1)) == 1 and versions.remove(name) == 3


def test_what_kills_have_left_is_removed_when_a_version_is_added_and_what_is_being_written_stays(taught) -> None:
    taught(1)
    versions_folder = packs.folder() / f"{NAME}.versions"
    left, written = versions_folder / ".promise-a.safetensors", packs.folder() / ".promise-b.safetensors"
    for path in (left, written, old := packs.folder() / ".promise-c.safetensors", own := packs.folder() / "d.txt"):
        path.write_bytes(b"half")
    for path in (left, old, own):
        os.utime(path, 2 * (time.time() - 2 * 24 * 3600,))
    taught(2)
    assert not left.exists() and not old.exists() and written.exists() and own.exists()


def test_command_lists_and_rolls_back(taught, capsys) -> None:
    taught(1), taught(2)
    assert main(["packs", "--roll-back", NAME, "1"]) == 0
    assert main(["packs", "--versions", NAME]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("1") and lines[-2].endswith("present") and not lines[-1].endswith("present")
    assert main(["packs", "--versions", NAME, "--json"]) == 0
    assert '"number": 1' in capsys.readouterr().out
    assert main(["packs", "--roll-back", NAME, "one"]) == 2


HOLD = "import sys, time; from ProMISeCore.lock import alone\nwith alone(__import__('pathlib').Path(sys.argv[1]), 'x'):"


def test_a_lock_is_refused_while_held_and_free_after_a_kill(tmp_path) -> None:
    code = f"{HOLD} print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        message = rf"in use by another process \({holder.pid}\).*another name"
        with pytest.raises(InputError, match=message), alone(tmp_path, "give another name"):
            pass
        os.kill(holder.pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        holder.wait(20)
        time.sleep(0.1)
        with alone(tmp_path, "give another name"):
            pass
    finally:
        holder.kill()
        holder.wait()


def test_a_lock_ends_with_its_block(tmp_path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError), alone(tmp_path, "wait"):
            raise ValueError


def test_nothing_is_removed_from_a_folder_that_cannot_be_written(taught, monkeypatch) -> None:
    taught(1.0), taught(2.0)
    packs_folder, real = packs.folder(), whole_file.tempfile.TemporaryFile

    def refused(dir: Path):
        if dir == packs_folder:
            raise PermissionError(13, "Permission denied")
        return real(dir=dir)

    monkeypatch.setattr(whole_file.tempfile, "TemporaryFile", refused)
    with pytest.raises(InputError, match=r"packs cannot be written \(Permission denied\)"):
        versions.remove(NAME)
    assert [(version.number, version.present) for version in versions.listing(NAME)] == [(1, False), (2, True)]


def test_a_folder_of_versions_that_cannot_be_written_is_told_before_anything_is_computed(taught, monkeypatch) -> None:
    taught(1.0)
    real = whole_file.tempfile.TemporaryFile

    def refused(dir: Path):
        if dir.name.endswith(".versions"):
            raise PermissionError(13, "Permission denied")
        return real(dir=dir)

    monkeypatch.setattr(whole_file.tempfile, "TemporaryFile", refused)
    with pytest.raises(InputError, match=r"\.versions cannot be written \(Permission denied\)"):
        versions.check_writable(NAME)
    versions.check_writable("another")


def test_the_number_that_is_listed_of_an_installed_pack_can_be_rolled_back_to(installed) -> None:
    now = installed(1.0)
    assert [version.number for version in versions.listing(NAME)] == [1]
    assert versions.roll_back(NAME, 1) == now and first(now) == 1.0
    with pytest.raises(WeightsError, match="has no version 2; there are: 1"):
        versions.roll_back(NAME, 2)


def test_a_packs_suffix_is_no_part_of_its_name() -> None:
    assert versions.checked_name("heart.safetensors") == "heart"
    with pytest.raises(InputError, match="a pack cannot be called '.safetensors'"):
        versions.checked_name(".safetensors")
