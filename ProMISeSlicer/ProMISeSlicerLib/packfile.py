"""The pack of a session: found by name or file, known again by its SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from . import environment
from .failing import SessionError, teaching


class PackFile(NamedTuple):
    """A manifest; the pack's file and its SHA-256 are None for a manifest alone."""

    manifest: Any
    path: Path | None
    sha256: str | None

    def entries(self) -> dict[str, Any]:
        """What a scene records of it."""
        file = None if self.path is None else self.path.name
        return {"manifest": self.manifest.entries(), "sha256": self.sha256, "file": file}


def packFile(pack) -> PackFile:
    """pack: a pack's name or file, a `ProMISeCore.packs.Pack`, or a manifest. Raises SessionError."""
    if hasattr(pack, "targets"):
        return PackFile(pack, None, None)
    if hasattr(pack, "manifest"):
        path = Path(pack.path)
        return PackFile(pack.manifest, path, _sha256(path) if path.is_file() else None)
    path = find(pack)
    with teaching():
        return PackFile(environment.core("packs").read_manifest(path), path, _sha256(path))


def find(name) -> Path:
    """The file of an installed pack. Raises SessionError."""
    with teaching():
        return Path(environment.core("packs").find(name))


def versionsOf(name: str) -> list:
    """Of a pack of one's own; none of a file that was put there by hand with a name that versions cannot have."""
    try:
        return environment.core("versions").listing(name)
    except environment.core("errors").PromiseError:
        return []


def recordedPack(recorded: Mapping[str, Any], sceneName: str, pack=None, findable: bool = True):
    """The pack that a scene was made with. pack: a file of it, where it is not installed.

    Without `findable`, the manifest in the scene is enough. Raises SessionError for a missing or another version.
    """
    name, sha256 = recorded["manifest"]["name"], recorded.get("sha256")
    if pack is None and not findable:
        pack = environment.core("manifest").Manifest.of(recorded["manifest"], sceneName)
    elif pack is None:
        try:
            pack = find(name)
        except SessionError as error:
            version, known = recorded["manifest"].get("version", "?"), f"SHA-256 {sha256[:12]}…" if sha256 else "a test"
            raise SessionError(
                f"this scene was made with the pack {name!r}, version {version} ({known}), which is not here: {error}. "
                "Segments and prompts stay as they are; to re-solve, put that pack's file into the pack folder"
            ) from error
    found = packFile(pack)
    if None not in (found.sha256, sha256) and found.sha256 != sha256:
        raise SessionError(
            f"the pack {name!r} is another version than the one this scene was made with "
            f"(SHA-256 {found.sha256[:12]}…, recorded {sha256[:12]}…); install that one, or start anew"
        )
    return pack


def checkSame(path, sha256: str) -> None:
    """Raises SessionError where a pack's file is gone, or another than it was when its session began."""
    if not Path(path).is_file() or _sha256(Path(path)) != sha256:
        raise SessionError(
            f"the pack's file {path} was replaced or removed after this session began with it "
            f"(SHA-256 {sha256[:12]}…); press Segment again to go on with the one that is there now"
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
