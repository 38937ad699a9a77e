"""What is there to work with: ProMISeCore (installed, packaged or in the source tree), torch, other packages.

Nothing is imported before it is asked for, and nothing is ever installed here.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType


class MissingError(Exception):
    """Something that is needed is not there; the message says what, how large it is and how to get it."""


@dataclass(frozen=True)
class Requirement:
    """Something that must be there: its import name, what it is, and what getting it takes."""

    name: str
    what: str
    size: str
    how: str


REQUIREMENTS = (
    Requirement("torch", "PyTorch", "0.2 to 3 GB", "install the PyTorch extension, then PyTorch with PyTorch Utils"),
    Requirement("segment_anything", "Segment Anything", "0.1 MB", "let ProMISeSlicer install it on first use"),
    Requirement("scipy", "SciPy", "40 MB", "it comes with Slicer; reinstall Slicer"),
    Requirement("safetensors", "safetensors", "0.5 MB", "let ProMISeSlicer install it on first use"),
)


def sourceRoot() -> Path:
    """The folder that holds ProMISeCore when the module is used from a source checkout."""
    return Path(__file__).resolve().parent.parent.parent


def core(name: str = "") -> ModuleType:
    """ProMISeCore, or its module `name`. Raises MissingError where it is neither installed nor beside the module."""
    if importlib.util.find_spec("ProMISeCore") is None:
        root = sourceRoot()
        if not (root / "ProMISeCore" / "__init__.py").is_file():
            raise MissingError(
                f"ProMISeCore was found neither among Python's packages nor in {root}; "
                "reinstall the ProMISeSlicer extension, or use the module from a complete checkout"
            )
        sys.path.append(str(root))
        importlib.invalidate_caches()
    return importlib.import_module(f"ProMISeCore.{name}" if name else "ProMISeCore")


def isThere(name: str) -> bool:
    """Whether a package can be imported, without importing it."""
    if name in sys.modules:
        return sys.modules[name] is not None
    return importlib.util.find_spec(name) is not None


def missing() -> list[Requirement]:
    """What segmenting still needs; empty when all is there."""
    return [requirement for requirement in REQUIREMENTS if not isThere(requirement.name)]


def requireAll() -> None:
    """Raises MissingError that names everything that is missing, with sizes."""
    lacking = missing()
    if lacking:
        listed = "; ".join(f"{r.what} ({r.size}): {r.how}" for r in lacking)
        raise MissingError(f"segmenting needs what is not installed yet. {listed}")
