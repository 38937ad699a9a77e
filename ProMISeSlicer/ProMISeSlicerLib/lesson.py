"""One teaching: what is asked for, and its folder, which outlives the application. No Qt, no MRML."""

from __future__ import annotations

import json
import re
import shutil
import unicodedata
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import environment

_FILE, _EVENTS, _CASES = "lesson.json", "events.jsonl", "cases"
_SUFFIX = ".safetensors"  # of packs
FORMAT = 1


@dataclass
class Lesson:
    """name: of the pack. targets: names, or NAME=VALUE for label maps; none: all there are. files: images and labels.

    folders: of the user's own pairs; shown: case in the files → volume's name; base: pack to go on from, or "";
    drop: its targets that the new version shall not know.
    heldOut: case that judges before it is learned from, "" for the proposed ones; unlabelled: what a slice without a
    target means, as `--unlabelled-slices` takes it; state: running, stopped or done.
    more: further options of `promise teach`, for scripts.
    """

    name: str
    targets: list[str] = field(default_factory=list)
    backbone: str = "tiny"
    minutes: float = 10.0
    more: list[str] = field(default_factory=list)
    heldOut: str = ""
    base: str = ""
    drop: list[str] = field(default_factory=list)
    unlabelled: str = "auto"
    device: str = "auto"
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    shown: dict[str, str] = field(default_factory=dict)
    state: str = "running"
    format: int = FORMAT

    @property
    def workspace(self) -> Path:
        return workspace(self.name)

    @property
    def casesFolder(self) -> Path:
        """Where the scene's cases are written to."""
        return self.workspace / _CASES

    @property
    def eventsFile(self) -> Path:
        """What the child has said, for the curve after a restart."""
        return self.workspace / _EVENTS

    def arguments(self, check: bool = False) -> list[str]:
        """Of `promise`, see docs/teach.md."""
        made = ["teach", "--events", "--name", self.name, "--workspace", str(self.workspace), "--device", self.device]
        made += ["--images", *self.files, *self.folders, "--backbone", self.backbone, "--minutes", f"{self.minutes:g}"]
        made += ["--targets", *(_asArgument(_asWritten(one)) for one in self.targets)] if self.targets else []
        made += ["--held-out", self.heldOut] if self.heldOut else []
        made += ["--base", self.base] if self.base else []
        made += ["--drop", *map(_asArgument, self.drop)] if self.drop else []
        made += ["--unlabelled-slices", self.unlabelled] if self.unlabelled != "auto" else []
        return [*made, *self.more, *["--check"] * check]

    def caseName(self, name: str) -> str:
        """A case as the user knows it."""
        return self.shown.get(name, name)

    def inWords(self, text: str) -> str:
        """What the child says, its cases named as the user knows them; paths stay what they are."""
        for name, shown in self.shown.items():
            text = re.sub(rf"(?<![\w/\\]){re.escape(name)}(?![\w.])", lambda _, shown=shown: shown, text)
        return text

    def save(self) -> None:
        """Into the workspace, whole or not at all. Raises InputError where it cannot be written."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1)
        with environment.core("whole_file").replacing(self.workspace / _FILE) as part:
            part.write_text(text, encoding="utf-8")


def asTarget(name: str) -> str:
    """A segment's name as `--targets` takes it: T=1 would be the value 1 of a label map, T=1= is called so."""
    return f"{name}=" if segmentOf(name) != name else name


def segmentOf(target: str) -> str:
    """The name in what `--targets` takes: NAME, NAME=VALUE or NAME=."""
    name, equals, value = target.rpartition("=")
    return name if equals and (value.isdecimal() or not value) else target


def valueOf(target: str) -> int | None:
    """The value of a label map in what `--targets` takes; None for a segment."""
    value = target.rpartition("=")[2] if "=" in target else ""
    return int(value) if value.isdecimal() else None


def _asWritten(target: str) -> str:
    """As it is called in the files that the scene's cases are written to, where white space within a name is one."""
    return " ".join(target.split())


def _asArgument(target: str) -> str:
    """A name that begins like an option, as one of `promise teach`, which takes spaces around names away."""
    return f" {target}" if target.startswith("-") else target


def root() -> Path:
    """The folder of all teachings."""
    return environment.core("packs").workspaces()


def workspace(name: str) -> Path:
    return root() / name


def checkFree(name: str) -> None:
    """Raises InputError where another process, as another Slicer, is teaching under that name."""
    environment.core("lock").check_free(workspace(name), "stop that teaching where it runs")


def remove(name: str) -> None:
    """Delete a teaching's folder. Raises OSError that names it where something of it stays."""
    folder = workspace(name)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise OSError(f"{folder} could not be emptied and may hold copies of your volumes; delete that folder yourself")


def packName(text: str) -> str:
    """A name as the pack's files have it: what is pasted from a file's name ends in its suffix, and on macOS has its
    umlauts in pieces."""
    return unicodedata.normalize("NFC", text.strip()).removesuffix(_SUFFIX)


def nameProblem(name: str) -> str:
    """Why a pack cannot be called so, or ""."""
    if not packName(name):
        return "give the pack a name first"
    try:
        environment.core("versions").checked_name(packName(name))
    except environment.MissingError as error:
        return str(error)
    except environment.core("errors").InputError as error:
        return str(error)
    return ""


def read(folder: Path) -> Lesson | None:
    """The teaching of a workspace; None where there is none, or one of another version."""
    try:
        found = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return Lesson(**found) if found.get("format") == FORMAT else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def isKept(folder: Path) -> bool:
    """Whether a workspace holds a teaching, be it one of another version."""
    return (folder / _FILE).exists()


def unfinished() -> list[Lesson]:
    """Teachings that were stopped, or cut off by a crash, by name; without those that another process goes on with."""
    folders = sorted(root().iterdir()) if root().is_dir() else []
    found = [read(folder) for folder in folders if folder.is_dir()]
    return [lesson for lesson in found if lesson is not None and lesson.state != "done" and isFree(lesson.name)]


def isFree(name: str) -> bool:
    """Whether no other process, as another Slicer, is teaching under that name."""
    try:
        checkFree(name)
    except environment.core("errors").InputError:
        return False
    return True
