"""Text files and child processes are read and written as UTF-8, not as the process's locale says.

Slicer's libraries, once loaded in a process, can make that locale ASCII; on Windows it is a code page.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for top in ("ProMISeCore", "ProMISeSlicer") for path in (ROOT / top).rglob("*.py"))
SOURCES.append(ROOT / "promise.py")
CHILDREN = {"run", "Popen", "check_output"}


def without_encoding(source: str) -> list[int]:
    """Lines of a program at which text is read or written in the locale's encoding."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if _is_text(call) and not _says_encoding(call)]


def _is_text(call: ast.Call) -> bool:
    """Whether the call reads or writes text; of methods called open, those that are given a mode or nothing."""
    called, given = call.func, {keyword.arg: keyword.value for keyword in call.keywords}
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    if name in ("read_text", "write_text"):
        return True
    if name in CHILDREN:
        return "text" in given or "universal_newlines" in given
    if name not in ("open", "fdopen"):
        return False
    is_method = name == "open" and isinstance(called, ast.Attribute)
    mode = given.get("mode") or next(iter(call.args[0 if is_method else 1 :]), ast.Constant("r"))
    return isinstance(mode, ast.Constant) and isinstance(mode.value, str) and "b" not in mode.value


def _says_encoding(call: ast.Call) -> bool:
    return any(keyword.arg == "encoding" and ast.unparse(keyword.value) == "'utf-8'" for keyword in call.keywords)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_text_is_utf_8(path: Path) -> None:
    lines = without_encoding(path.read_text(encoding="utf-8"))
    assert not lines, f'{path.name}: add encoding="utf-8" in line {", ".join(map(str, lines))}'


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("path.read_text()", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.write_text('ä', encoding='latin-1')", True),
        ("open(path)", True),
        ("open(path, 'rb')", False),
        ("open(path, mode='a', encoding='utf-8')", False),
        ("path.open()", True),
        ("path.open('a')", True),
        ("path.open('xb')", False),
        ("study.open(volume)", False),
        ("os.fdopen(handle, 'w')", True),
        ("subprocess.run(command, text=True)", True),
        ("subprocess.run(command, capture_output=True)", False),
    ],
)
def test_what_counts_as_text(line: str, told: bool) -> None:
    assert without_encoding(line) == [1] * told
