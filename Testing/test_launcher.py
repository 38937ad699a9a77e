"""promise.py, the launcher: what it would install where, without a network and without installing anything."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "promise.py"


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch):
    """A fresh copy of the launcher that cannot start any program."""
    spec = importlib.util.spec_from_file_location("launcher", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def refuse(*arguments: object, **keywords: object) -> None:
        raise AssertionError(f"a test of the launcher would have started {arguments}")

    for name in ("call", "run"):
        monkeypatch.setattr(module.subprocess, name, refuse)
    monkeypatch.setattr(module.os, "execv", refuse)
    return module


@pytest.fixture
def installs(launcher, monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Replaces the installation by a record of (requirement, extras) that leaves the interpreter's file behind."""
    record: list[tuple] = []

    def install(folder: Path, requirement: str, extras: list) -> None:
        python = launcher.environment_python(folder)
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        record.append((requirement, extras))

    monkeypatch.setattr(launcher, "install", install)
    return record


def test_source_parses_on_old_pythons_and_needs_only_the_standard_library() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 6))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert {name.split(".")[0] for name in imported} <= set(sys.stdlib_module_names) - {"__future__"}


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 6, 15), (3, 9, 18)])
def test_old_python_is_refused_with_both_versions(launcher, version: tuple) -> None:
    with pytest.raises(launcher.Failure, match=rf"3\.10 or newer, this is Python {version[0]}\.{version[1]} \(py\)"):
        launcher.check_python(version, "py")


@pytest.mark.parametrize("version", [(3, 10, 0), (3, 13, 1), (4, 0, 0)])
def test_new_python_is_accepted(launcher, version: tuple) -> None:
    launcher.check_python(version, "py")


def test_environment_is_beside_the_launcher_or_where_the_variable_says(launcher, tmp_path: Path) -> None:
    assert launcher.environment_folder({}) == SOURCE.parent / ".venv"
    assert launcher.environment_folder({"PROMISE_VENV": " "}) == SOURCE.parent / ".venv"
    assert launcher.environment_folder({"PROMISE_VENV": str(tmp_path)}) == tmp_path
    assert launcher.environment_folder({"PROMISE_VENV": "~/env"}) == Path.home() / "env"
    assert launcher.environment_folder({"PROMISE_VENV": "env"}).is_absolute()


def test_interpreter_of_each_system(launcher) -> None:
    assert launcher.environment_python(Path("e"), "posix") == Path("e/bin/python")
    assert launcher.environment_python(Path("e"), "nt") == Path("e/Scripts/python.exe")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "torch==2.13.0"),
        ("", "torch==2.13.0"),
        ("2.9.1", "torch==2.9.1"),
        (">=2.6,<3", "torch>=2.6,<3"),
        ("torch==2.9.1", "torch==2.9.1"),
        ("wheels/torch-2.9.1-cp312.whl", "wheels/torch-2.9.1-cp312.whl"),
        ("system", ""),
    ],
)
def test_pytorch_asked_for(launcher, given: str | None, expected: str) -> None:
    assert launcher.torch_requirement({} if given is None else {"PROMISE_TORCH": given}) == expected


def test_stamp_is_believed_only_when_whole_and_of_the_same_installation(launcher, tmp_path: Path) -> None:
    stamp = tmp_path / launcher.STAMP
    assert launcher.installed_extras(stamp, "a") is None
    launcher.write_stamp(stamp, "a", ["test"])
    assert launcher.installed_extras(stamp, "a") == ["test"]
    assert launcher.installed_extras(stamp, "b") is None
    assert [path.name for path in tmp_path.iterdir()] == [launcher.STAMP]
    for broken in ("", "{", "[]", '{"key": "a"}', '{"key": "a", "extras": null}'):
        stamp.write_text(broken, encoding="utf-8")
        assert launcher.installed_extras(stamp, "a") is None


def test_key_depends_on_place_project_and_pytorch(launcher, tmp_path: Path) -> None:
    keys = set()
    for folder, project, torch in (("a", "1", "t"), ("b", "1", "t"), ("a", "2", "t"), ("a", "1", "u")):
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        (root / "pyproject.toml").write_text(project, encoding="utf-8")
        keys.add(launcher.stamp_key(root, torch))
    assert len(keys) == 4


def test_second_start_installs_nothing(launcher, installs: list, tmp_path: Path) -> None:
    python = launcher.ensure(tmp_path, {}, [])
    assert python == launcher.environment_python(tmp_path)
    launcher.ensure(tmp_path, {}, [])
    assert installs == [("torch==2.13.0", [])]


def test_extras_add_up(launcher, installs: list, tmp_path: Path) -> None:
    launcher.ensure(tmp_path, {}, [])
    launcher.ensure(tmp_path, {}, ["test"])
    launcher.ensure(tmp_path, {}, [])
    launcher.ensure(tmp_path, {}, ["mrml"])
    assert [extras for _, extras in installs] == [[], ["test"], ["mrml", "test"]]


def test_another_pytorch_or_a_lost_interpreter_installs_again(launcher, installs: list, tmp_path: Path) -> None:
    launcher.ensure(tmp_path, {}, [])
    launcher.ensure(tmp_path, {"PROMISE_TORCH": "2.9.1"}, [])
    launcher.environment_python(tmp_path).unlink()
    launcher.ensure(tmp_path, {"PROMISE_TORCH": "2.9.1"}, [])
    assert [requirement for requirement, _ in installs] == ["torch==2.13.0", "torch==2.9.1", "torch==2.9.1"]


def test_interrupted_installation_is_taken_up_again(launcher, installs: list, tmp_path: Path, monkeypatch) -> None:
    finish = launcher.install

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launcher, "install", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launcher.ensure(tmp_path, {}, [])
    monkeypatch.setattr(launcher, "install", finish)
    launcher.ensure(tmp_path, {}, [])
    assert len(installs) == 1


def test_foreign_folder_is_left_alone(launcher, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(launcher.Failure, match="is no Python environment; move it away or set PROMISE_VENV"):
        launcher.make_environment(tmp_path, system_packages=False)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_python_without_ensurepip_names_the_debian_package(launcher, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(launcher, "find_spec", lambda name: None)
    with pytest.raises(launcher.Failure, match=r"apt-get install python3\.\d+-venv"):
        launcher.make_environment(tmp_path / "new", system_packages=False)


@pytest.mark.parametrize("ours", [True, False])
def test_only_an_environment_of_ours_is_cleared(launcher, tmp_path: Path, monkeypatch, ours: bool) -> None:
    (tmp_path / "pyvenv.cfg").touch()
    if ours:
        (tmp_path / launcher.STAMP).touch()
    commands: list[list[str]] = []

    def run(command: list, **keywords: object) -> object:
        commands.append(command)
        return launcher.subprocess.CompletedProcess(command, 0, stdout="")

    monkeypatch.setattr(launcher.subprocess, "run", run)
    launcher.make_environment(tmp_path, system_packages=False)
    assert ("--clear" in commands[0]) is ours


def test_pytorch_is_installed_before_the_package(launcher, tmp_path: Path, monkeypatch) -> None:
    wanted: list[str] = []
    monkeypatch.setattr(launcher, "runs", lambda command: True)
    monkeypatch.setattr(launcher, "pip_install", lambda python, arguments, remedy: wanted.append(arguments[-1]))
    launcher.install(tmp_path, "torch==2.13.0", ["test"])
    assert wanted == ["torch==2.13.0", f"{SOURCE.parent}[test]"]


def test_system_pytorch_that_is_missing_is_an_error(launcher, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(launcher, "runs", lambda command: "import torch" not in command)
    with pytest.raises(launcher.Failure, match="PROMISE_TORCH=system"):
        launcher.install(tmp_path, "", [])


def test_failing_pip_is_one_line_and_exit_code_2(launcher, tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.setattr(launcher.subprocess, "call", lambda *arguments, **keywords: 1)
    monkeypatch.setattr(launcher, "make_environment", lambda folder, system_packages: None)
    monkeypatch.setenv("PROMISE_VENV", str(tmp_path))
    monkeypatch.delenv("PROMISE_TORCH", raising=False)
    assert launcher.main(["demo"]) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("promise: pip could not install torch==2.13.0") and "PROMISE_TORCH" in last
    assert not (tmp_path / launcher.STAMP).exists()


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_installs_nothing(launcher, arguments: list, capsys) -> None:
    assert launcher.main(arguments) == 0
    assert "promise.py demo" in capsys.readouterr().out


def test_tests_go_on_without_slicers_libraries_where_pip_has_none(
    launcher, tmp_path: Path, monkeypatch, capsys
) -> None:
    asked: list[list[str]] = []

    def install(folder: Path, requirement: str, extras: list) -> None:
        asked.append(sorted(extras))
        if "mrml" in extras:
            raise launcher.Failure("pip could not install slicer-core.")

    monkeypatch.setattr(launcher, "install", install)
    python = launcher.ensure_for_tests(tmp_path, {})
    assert python == launcher.environment_python(tmp_path) and asked == [["browser", "mrml", "test", "view"], ["test"]]
    assert "slicer-core" in capsys.readouterr().err


def test_commands_go_to_the_core_unchanged(launcher, installs: list, tmp_path: Path, monkeypatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(launcher, "run_core", lambda python, arguments: started.append([str(python), *arguments]) or 7)
    monkeypatch.setenv("PROMISE_VENV", str(tmp_path))
    assert launcher.main(["segment", "my scan.nii.gz", "--pack", "heart"]) == 7
    assert started == [[str(launcher.environment_python(tmp_path)), "segment", "my scan.nii.gz", "--pack", "heart"]]


@pytest.mark.parametrize(("lint", "tests", "expected"), [(0, 0, 0), (1, 0, 1), (0, 5, 5), (1, 2, 2)])
def test_tests_run_ruff_and_pytest_in_the_checkout(launcher, monkeypatch, lint: int, tests: int, expected: int) -> None:
    calls: list[tuple] = []
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)

    def call(command: list, cwd: str, env: dict | None = None) -> int:
        assert command[2] == "ruff" or env["QT_QPA_PLATFORM"] == "offscreen"
        calls.append((command[2], command[3:], cwd))
        return lint if command[2] == "ruff" else tests

    monkeypatch.setattr(launcher.subprocess, "call", call)
    assert launcher.run_tests(Path("python"), ["-x", "-q"]) == expected
    root = str(SOURCE.parent)
    assert calls == [("ruff", ["check", "--quiet", "."], root), ("pytest", ["-x", "-q"], root)]
