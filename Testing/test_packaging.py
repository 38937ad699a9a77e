"""What is packaged, and under which names: CMake lists, Python metadata, catalogue entries, tracked text."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

import ProMISeCore
from ProMISeCore import __main__ as command_line
from ProMISeCore.manifest import Manifest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "ProMISeCore"
MACHINE_PATH = re.compile(r"(?:^|[^\w.])/(?:work|farm|root)/", re.MULTILINE)
REGISTRY = re.compile("index" + "-url|extra" + "-index|find" + r"-links|deb\.debian|registry\.npm|pythonhosted\.")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def cmake_list(name: str) -> list[str]:
    """The entries of set(name …) in ProMISeCore/CMakeLists.txt."""
    return re.search(rf"set\({name}\s([^)]*)\)", text("ProMISeCore/CMakeLists.txt")).group(1).split()


def cmake_value(name: str) -> str:
    """The one quoted value of set(name "…") in the top CMakeLists.txt, written as the Extensions Index reads it."""
    return re.search(rf'set\({name} "([^"$]*)"\)', text("CMakeLists.txt")).group(1)


def description_file() -> dict[str, str]:
    """ProMISeSlicer.s4ext as keyword → value."""
    lines = [line for line in text("ProMISeSlicer.s4ext").splitlines() if line and not line.startswith("#")]
    return {line.split(" ", 1)[0]: line.partition(" ")[2] for line in lines}


def tracked() -> list[Path]:
    """Every file under version control, or skip where this is no checkout."""
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def tracked_text() -> list[tuple[str, str]]:
    """(name, content) of every tracked file that is text."""
    found = []
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data[:8000]:
            found.append((path.relative_to(ROOT).as_posix(), data.decode("utf-8")))
    return found


def test_cmake_lists_every_python_file() -> None:
    listed = cmake_list("MODULE_PYTHON_SCRIPTS")
    assert listed == sorted(path.name for path in CORE.glob("*.py"))


def test_cmake_lists_every_resource() -> None:
    weights = sorted(path.relative_to(CORE).as_posix() for path in (CORE / "weights").glob("*.[sj]*"))
    assert cmake_list("MODULE_PYTHON_RESOURCES") == ["py.typed", *weights]


def test_no_python_file_is_below_the_flat_package() -> None:
    nested = [path for path in CORE.rglob("*.py") if path.parent != CORE]
    assert nested == []


def test_version_is_read_from_the_package_and_told_the_same_everywhere() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", ProMISeCore.__version__)
    assert 'version = { attr = "ProMISeCore.__version__" }' in text("pyproject.toml")
    assert re.search(r'^__version__ = "', text("ProMISeCore/__init__.py"), re.MULTILINE), "setuptools reads a literal"
    assert f"\nversion: {ProMISeCore.__version__}\n" in text("CITATION.cff")
    assert f"\n## {ProMISeCore.__version__}" in text("CHANGELOG.md")


def test_python_package_carries_the_weights() -> None:
    tomllib = pytest.importorskip("tomllib", reason="tomllib comes with Python 3.11")
    project = tomllib.loads(text("pyproject.toml"))
    assert project["tool"]["setuptools"]["packages"] == ["ProMISeCore", "ProMISeSlicerLib", "ProMISeView"]
    patterns = project["tool"]["setuptools"]["package-data"]["ProMISeCore"]
    packed = {path for pattern in patterns for path in CORE.glob(pattern)}
    assert {CORE / name for name in cmake_list("MODULE_PYTHON_RESOURCES")} == packed
    assert project["project"]["scripts"] == {"promise": "ProMISeCore.__main__:main"}


def test_weights_stay_small() -> None:
    sizes = [path.stat().st_size for path in (CORE / "weights").glob("*")]
    assert sum(sizes) <= 40e6


def test_catalogue_entries_agree_with_cmake() -> None:
    entry, described = json.loads(text("ProMISeSlicer.json")), description_file()
    assert re.search(r"project\((\w+)", text("CMakeLists.txt")).group(1) == "ProMISeSlicer"
    assert " ".join(entry["build_dependencies"]) == described["depends"] == cmake_value("EXTENSION_DEPENDS")
    assert entry["scm_url"] == described["scmurl"] == cmake_value("EXTENSION_HOMEPAGE") + ".git"
    assert entry["scm_url"].rsplit("/", 1)[1].startswith("Slicer"), "the Extensions Index refuses other names"
    for keyword in ("homepage", "contributors", "description", "iconurl", "screenshoturls"):
        assert described[keyword] == cmake_value(f"EXTENSION_{keyword.upper()}")
    assert (entry["scm_revision"], entry["category"]) == (described["scmrevision"], described["category"])


def test_the_extensions_index_can_read_the_cmake_file() -> None:
    """With the expressions of its check_description_files.py; every picture that it would fetch is there."""
    cmake, folder = text("CMakeLists.txt"), "https://raw.githubusercontent.com/OWNER/SlicerProMISe/main/"
    patterns = {
        "project": r"project\s*\(\s*([^\s\)\n\r]+)",
        "icon": r'set\s*\(EXTENSION_ICONURL\s*"([^"]+)"[ ]*\)',
        "screenshots": r'set\s*\(EXTENSION_SCREENSHOTURLS\s*"([^"]+)"\)',
    }
    found = {name: re.findall(pattern, cmake, re.IGNORECASE | re.MULTILINE) for name, pattern in patterns.items()}
    assert found["project"][0] == "ProMISeSlicer"
    addresses = [*found["icon"], *found["screenshots"][0].split()]
    assert len(addresses) == 4 and all(address.startswith(folder) for address in addresses)
    files = [ROOT / address.removeprefix(folder) for address in addresses]
    assert all(file.is_file() and file.suffix in (".png", ".jpg", ".gif") for file in files)


def test_contributors_have_a_name_and_an_organisation() -> None:
    for person in cmake_value("EXTENSION_CONTRIBUTORS").split(", "):
        assert re.fullmatch(r"\S+( \S+)+ \([^()]+\)", person)


def test_catalogue_entry_has_only_the_keys_of_the_schema() -> None:
    optional = {"build_dependencies", "build_subdirectory", "scm_revision", "tier", "enabled"}
    keys = set(json.loads(text("ProMISeSlicer.json")))
    assert {"$schema", "category", "scm_url"} <= keys <= {"$schema", "category", "scm_url"} | optional


def test_description_file_has_every_field() -> None:
    required = "scm scmurl scmrevision depends build_subdirectory homepage contributors category iconurl description"
    described = description_file()
    assert [name for name in (*required.split(), "enabled") if not described.get(name)] == []


def test_icon_is_a_png_of_128_pixels() -> None:
    data = (ROOT / "ProMISeSlicer.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")) == (128, 128)


def test_every_folder_with_a_cmake_file_is_added() -> None:
    added = re.findall(r"add_subdirectory\((\w+)\)", text("CMakeLists.txt"))
    assert sorted(added) == sorted(path.parent.name for path in ROOT.glob("[!b.]*/CMakeLists.txt"))


def test_licence_is_apache_2() -> None:
    licence = text("LICENSE.txt")
    assert "Apache License" in licence and "Version 2.0, January 2004" in licence and len(licence) > 10000


def test_no_machine_paths_or_registry_hosts_are_tracked() -> None:
    faults = [name for name, content in tracked_text() if MACHINE_PATH.search(content) or REGISTRY.search(content)]
    assert faults == []


def test_the_check_for_machine_paths_can_fail() -> None:
    assert MACHINE_PATH.search("see " + "/work" + "/main") and not MACHINE_PATH.search("../work/main network/root/")


def test_ci_runs_the_command_of_the_readme() -> None:
    commands = re.findall(r"^python3 promise\.py .*$", text("README.md"), re.MULTILINE)
    assert "python3 promise.py demo" in commands
    assert "python3 promise.py test" in commands
    assert "\npython3 promise.py test\n" in text(".ci/run")


def test_readme_names_every_top_level_file() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in tracked()}
    named = {name.split("/")[0] for name in re.findall(r"`([^`\n]+)`", text("README.md"))}
    assert sorted(names - named) == []


def test_readme_explains_every_command() -> None:
    explained = set(re.findall(r"^\| `promise (\w+)", text("README.md"), re.MULTILINE))
    assert explained == set(command_line.COMMANDS)


def test_documented_manifest_is_valid_and_every_field_is_explained() -> None:
    page = text("docs/file-formats.md")
    example = json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL).group(1))
    Manifest.of(example)
    assert [key for key in example if f"`{key}`" not in page and f"`{key}[]" not in page] == []
