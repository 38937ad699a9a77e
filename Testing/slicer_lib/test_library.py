"""Rules of the library: what it imports, and what it says is missing. Needs no Slicer."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from desks import ROOT
from ProMISeSlicerLib import environment

FOLDER = ROOT / "ProMISeSlicer" / "ProMISeSlicerLib"
WORKERS = ["worker", "environment", "engine", "fakeEngine", "history", "review", "sliceGrid"]
OWN = ["mrml", "segments", "prompts", "session", "targets", "state", *WORKERS]
HEAVY = {"torch", "ProMISeCore", "segment_anything", "scipy", "SimpleITK", "safetensors", "qt", "ctk"}


def modules(nodes) -> set[str]:
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("name", OWN)
def test_imports_are_slicer_vtk_and_numpy_only(name: str) -> None:
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    found = modules(ast.walk(tree))
    assert found - set(sys.stdlib_module_names) <= {"slicer", "vtk", "numpy"}, found & HEAVY


@pytest.mark.parametrize("name", WORKERS)
def test_what_the_worker_runs_knows_no_mrml(name: str) -> None:
    assert not modules(ast.walk(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")))) & {"slicer", "vtk"}


def test_the_core_is_found_from_the_source_tree(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(FOLDER.parent)!r}); from ProMISeSlicerLib import environment; "
        "assert 'ProMISeCore' not in sys.modules; print(environment.core('errors').__name__, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["ProMISeCore.errors", "False"], done.stderr


def test_what_is_missing_is_named_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "torch" in [requirement.name for requirement in environment.missing()]
    with pytest.raises(environment.MissingError, match="PyTorch .*GB"):
        environment.requireAll()
