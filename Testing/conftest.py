"""What every test may rely on: one thread, an own home folder, and where the shared data would be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `$PROMISE_HOME`: no test reads or writes the user's packs, backbones or cache."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("PROMISE_HOME", str(folder))
    return folder


@pytest.fixture
def shared() -> Path:
    """The folder of shared data beside the repository, or a skipped test."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("the shared data is not beside the repository")
    return folder
