"""The extension built and packaged by Slicer's own CMake macros, on a stub of Slicer's build tree.

Needs SLICER_SRC (a checkout of Slicer's sources), CMake 3.28 or later, and the stub beside the repository.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cmake() -> str:
    found = os.environ.get("CMAKE") or shutil.which("cmake")
    if not found:
        pytest.skip("CMake is not installed; pip install cmake")
    version = subprocess.run([found, "--version"], capture_output=True, text=True).stdout.split()[2]
    if tuple(map(int, version.split(".")[:2])) < (3, 28):
        pytest.skip(f"CMake {version} is older than 3.28")
    return found


@pytest.fixture(scope="module")
def package(cmake: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of scripted modules in the unpacked package."""
    stub = ROOT.parent / "shared" / "examples" / "cmake_stub"
    if not os.environ.get("SLICER_SRC"):
        pytest.skip("SLICER_SRC does not name a checkout of Slicer's sources")
    if not stub.is_dir():
        pytest.skip("the stub of Slicer's build tree is not beside the repository")
    build = tmp_path_factory.mktemp("build")
    cpack = Path(cmake).with_name("cpack")
    commands = (
        [cmake, "-S", str(ROOT), "-B", str(build), f"-DSlicer_DIR={stub}", "-DBUILD_TESTING=ON"],
        [cmake, "--build", str(build)],
        [str(cpack if cpack.exists() else "cpack"), "-G", "TGZ"],
    )
    for command in commands:
        done = subprocess.run(command, cwd=build, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    (archive,) = [path for path in build.glob("*.tar.gz") if "_CPack" not in path.as_posix()]
    unpacked = build / "unpacked"
    with tarfile.open(archive) as file:
        file.extractall(unpacked, filter="data")
    (modules,) = unpacked.rglob("qt-scripted-modules")
    return modules


def test_every_file_is_in_the_package(package: Path) -> None:
    for name in ("ProMISeCore", "ProMISeSlicer"):
        below = package if name == "ProMISeSlicer" else package / name
        left = {"__pycache__", "ProMISeView"}  # the page in the browser needs no Slicer, and goes with pip only
        files = [path for path in (ROOT / name).rglob("*") if path.is_file() and not left & set(path.parts)]
        wanted = {path.relative_to(ROOT / name) for path in files if path.name != "CMakeLists.txt"}
        assert [str(path) for path in sorted(wanted) if not (below / path).is_file()] == []


def test_slicer_sees_one_module_only(package: Path) -> None:
    """Every .py file directly in the folder is taken for a module."""
    assert [path.name for path in package.glob("*.py")] == ["ProMISeSlicer.py"]


def test_both_packages_import_from_the_package_alone(package: Path) -> None:
    code = (
        "import ProMISeCore, ProMISeSlicerLib, ProMISeSlicerLib.worker, ProMISeSlicerLib.environment\n"
        "core = ProMISeSlicerLib.environment.core('packs')\n"
        "print(ProMISeCore.__file__, ProMISeSlicerLib.__file__, core.__file__, sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=package, capture_output=True, text=True, env={"PYTHONPATH": str(package)}
    )
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(package)) for line in done.stdout.split())
