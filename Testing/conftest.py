"""What every test may rely on: one thread, an own home folder, tiny models, and where the shared data would be."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # of child processes, too, whose sums else are not bit for bit these here

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


@pytest.fixture(scope="session")
def tiny_sam():
    """A frozen `tiny` backbone with random weights at frame side 64, the same in every session."""
    import torch

    from ProMISeCore import sam

    torch.set_num_threads(1)
    torch.manual_seed(0)
    return sam.build("tiny", 64).freeze()


@pytest.fixture
def tiny_model(tiny_sam) -> Callable:
    """`tiny_model(targets=("a", "b"), refiner=None, **changes)`: a model of random targets, with a refiner of a width
    for all of them where one is given; changes go into its manifest."""
    import torch

    from ProMISeCore import packs
    from ProMISeCore.promise import Promise

    def make(targets: tuple[str, ...] = ("a", "b"), refiner: int | None = None, **changes) -> Promise:
        torch.manual_seed(1)
        infos = [
            packs.TargetInfo(
                name,
                (1.0, 0.5 * (number % 2), 0.0),
                apm={"kind": "lite", "count": 4, "width": 16},
                ips={"kind": "pae", "hidden": 16},
                presence={"width": 16},
                point_labels=(1, 1, 0, 0),
            )
            for number, name in enumerate(targets)
        ]
        manifest = packs.Manifest(
            name="test",
            backbone=packs.BackboneInfo("tiny", tiny_sam.fingerprint(), tiny_sam.side),
            targets=tuple(infos),
            modality="MR",
            orientation="axial",
            window={"mode": "percentile", "low": 0.5, "high": 99.5},
            presence_threshold=0.0,
            exclusive=False,
            refiners=() if refiner is None else ({"width": refiner, "patch": 1, "targets": list(targets)},),
        )
        return Promise(tiny_sam, replace(manifest, **changes)).eval()

    return make


@pytest.fixture
def weights(tiny_model, tmp_path: Path) -> Callable:
    """`weights(**as for tiny_model)`: the model as files, and the arguments that name them on the command line."""
    from safetensors.torch import save_file

    from ProMISeCore import packs

    def save(targets: tuple[str, ...] = ("a", "b"), **changes) -> list[str]:
        model = tiny_model(targets, **changes)
        pack, backbone = tmp_path / "weights" / "test.safetensors", tmp_path / "weights" / "backbone.safetensors"
        packs.save(pack, model.manifest, model.tensors())
        save_file({key: value.contiguous() for key, value in model.sam.state_dict().items()}, backbone)
        return ["--pack", str(pack), "--backbone", str(backbone), "--device", "cpu"]

    return save


@pytest.fixture
def obeys_ctrl_c() -> Iterator[None]:
    """SIGINT as Python has it: a shell's background jobs, and so tests run in one, begin with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Four volumes with the segment "Scheibe"."""
    from small_cases import four

    return four(tmp_path / "Fälle")


@pytest.fixture
def command(tiny_sam, tmp_path: Path) -> Callable:
    """`command(folder, "--option", …)`: the arguments of a short `promise teach`."""
    import torch
    from small_cases import NAME

    torch.save(tiny_sam.state_dict(), tmp_path / "b.pth")

    def make(folder: Path, *options: str, steps: int = 6) -> list[str]:
        common = ["teach", "--images", str(folder), "--name", NAME, "--backbone", str(tmp_path / "b.pth")]
        common += ["--side", "64", "--device", "cpu", "--views", "2", "--batch", "4", "--every", "3"]
        return [*common, "--steps", str(steps), "--start", "none", *options]

    return make


@pytest.fixture
def promise(capsys: pytest.CaptureFixture[str]) -> Callable:
    """`promise(*words)` → (exit code, stdout, lines of stderr)."""

    from ProMISeCore import __main__ as command_line

    def run(*words: object) -> tuple[int, str, list[str]]:
        capsys.readouterr()
        try:
            code = command_line.main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return run
