"""The cache gives back what was put, refuses what is damaged, stays below its cap and never stops the work."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from ProMISeCore import cache as module
from ProMISeCore.cache import Cache, default_folder, key

KEYS = [key(bytes([n]), "backbone", "float32") for n in range(8)]
ARRAYS = {"embedding": np.array([[1.5, -2.0], [0.25, 65504.0]], np.float16), "block9": np.arange(3, dtype=np.float16)}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def the_file(cache: Cache) -> Path:
    (path,) = cache.folder.glob("*/*.slice")
    return path


def test_what_is_put_comes_back(cache: Cache) -> None:
    assert cache.get(KEYS[0]) is None
    assert cache.put(KEYS[0], ARRAYS)
    back = cache.get(KEYS[0])
    assert list(back) == ["embedding", "block9"]
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == np.float16
    assert (cache.hits, cache.misses) == (1, 1)


def test_float32_is_stored_as_float16(cache: Cache) -> None:
    cache.put(KEYS[0], {"embedding": np.array([1.0001], np.float32)})
    assert cache.get(KEYS[0])["embedding"][0] == np.float16(1.0001)


def test_files_lie_in_folders_of_two_digits(cache: Cache) -> None:
    cache.put(KEYS[0], ARRAYS)
    assert the_file(cache).parent.name == KEYS[0][:2]
    assert the_file(cache).name == f"{KEYS[0]}.slice"


def test_key_depends_on_everything() -> None:
    keys = {
        key(b"frame", "a", "float32"),
        key(b"Frame", "a", "float32"),
        key(b"frame", "b", "float32"),
        key(b"frame", "a", "bfloat16"),
        key(b"frame", "a", "float32", (12, 9, 6)),
        key(b"frame", "a", "float32", (12, 96)),
    }
    assert len(keys) == 6
    assert all(len(one) == 64 for one in keys)


@pytest.mark.parametrize("damage", ["one bit", "half", "nothing left", "foreign"])
def test_damaged_file_is_a_miss_and_removed(cache: Cache, damage: str) -> None:
    cache.put(KEYS[0], ARRAYS)
    path = the_file(cache)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    half = bytes(data[: len(data) // 2])
    path.write_bytes({"one bit": bytes(data), "half": half, "nothing left": b"", "foreign": b"\x80\x04."}[damage])
    assert cache.get(KEYS[0]) is None
    assert not path.exists()
    assert cache.put(KEYS[0], ARRAYS)
    assert cache.get(KEYS[0]) is not None


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    one = len(module._pack({"a": np.zeros(5000)}))
    cache = Cache(tmp_path, cap_bytes=3.5 * one)
    for n in range(3):
        cache.put(KEYS[n], {"a": np.zeros(5000)})
        os.utime(cache._path(KEYS[n]), (1000 + n, 1000 + n))
    assert cache.get(KEYS[0]) is not None  # used now: KEYS[1] is the oldest from here on
    cache.put(KEYS[3], {"a": np.zeros(5000)})
    assert [k in cache for k in KEYS[:4]] == [True, False, True, True]
    assert cache.size()[0] <= cache.cap_bytes


def test_cap_holds_with_files_of_another_process(tmp_path: Path) -> None:
    one = len(module._pack({"a": np.zeros(5000)}))
    ours, theirs = Cache(tmp_path, cap_bytes=4 * one), Cache(tmp_path, cap_bytes=4 * one)
    for n in range(8):
        (ours if n % 2 else theirs).put(KEYS[n], {"a": np.zeros(5000)})
    ours._bytes = None  # what happens every few writes: look again
    ours.put(KEYS[0], {"a": np.zeros(5000)})
    assert ours.size()[0] <= 4 * one


def test_a_slice_larger_than_the_cap_is_not_kept(tmp_path: Path) -> None:
    notices: list[str] = []
    cache = Cache(tmp_path, cap_bytes=100, notice=notices.append)
    assert not cache.put(KEYS[0], {"a": np.zeros(5000)})
    assert len(notices) == 1 and "cap" in notices[0]


def test_full_disk_is_said_once_and_nothing_is_left(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    notices: list[str] = []
    cache.notice = notices.append

    def full(self: Path, data: bytes) -> int:
        with open(self, "wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert not cache.put(KEYS[0], ARRAYS)
    assert not cache.put(KEYS[1], ARRAYS)
    assert len(notices) == 1 and "No space left" in notices[0] and str(cache.folder) in notices[0]
    assert [path for path in cache.folder.rglob("*") if path.is_file()] == []


def test_the_last_of_the_disk_is_left_to_the_results(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    notices: list[str] = []
    cache.notice = notices.append
    monkeypatch.setattr(module, "RESERVE_BYTES", shutil.disk_usage("/").total * 100)
    assert not cache.put(KEYS[0], ARRAYS)
    assert len(notices) == 1 and "free" in notices[0]


def test_unwritable_folder_is_said_once(tmp_path: Path) -> None:
    notices: list[str] = []
    (tmp_path / "file").write_text("not a folder")
    cache = Cache(tmp_path / "file" / "cache", notice=notices.append)
    assert cache.get(KEYS[0]) is None
    assert not cache.put(KEYS[0], ARRAYS)
    assert not cache.put(KEYS[1], ARRAYS)
    assert len(notices) == 1
    assert cache.size() == (0, 0)


def test_clear_removes_slices_and_leftovers_only(cache: Cache) -> None:
    for n in range(3):
        cache.put(KEYS[n], ARRAYS)
    leftover = cache._path(KEYS[0]).with_name(f".{KEYS[0]}.1_ab.tmp")
    leftover.write_bytes(b"half")
    foreign = cache.folder / "thesis.docx"
    foreign.write_text("precious")
    assert cache.size()[1] == 3
    assert cache.clear() == 3
    assert cache.size() == (0, 0)
    assert foreign.exists() and not leftover.exists()
    assert cache.put(KEYS[0], ARRAYS)


def test_default_folder_follows_promise_home(home: Path) -> None:
    assert default_folder() == home / "cache"


def test_a_killed_writer_loses_one_slice_at_most(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys, numpy as np
        from ProMISeCore.cache import Cache, key
        cache, n = Cache(sys.argv[1]), 0
        while True:
            cache.put(key(str(n).encode(), "", ""), {"a": np.full(200_000, n % 100)})
            n += 1
            print(n, flush=True)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
    )
    done = [int(process.stdout.readline()) for _ in range(5)][-1]
    time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    cache = Cache(tmp_path)
    for n in range(done):
        np.testing.assert_array_equal(cache.get(key(str(n).encode(), "", ""))["a"], np.full(200_000, n % 100))
    assert len([path for path in tmp_path.rglob("*.tmp")]) <= 1
