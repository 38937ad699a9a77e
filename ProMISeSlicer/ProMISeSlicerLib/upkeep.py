"""What lies on disk, and whether the installation is whole. No torch is loaded, except by `check`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from slicer.i18n import tr as _

from . import environment

_LEAST_FREE = 2e9  # bytes


def home() -> str:
    """The folder of downloaded backbones, the user's packs and the cache."""
    return str(Path(os.environ.get("PROMISE_HOME") or Path.home() / ".promise"))


def useHome(folder: str) -> None:
    """Take another folder for this session of the application; "" leaves it."""
    if folder:
        os.environ["PROMISE_HOME"] = folder


def cacheSize() -> tuple[int, int]:
    """Bytes and number of slices in the cache."""
    return environment.core("cache").Cache().size()


def clearCache() -> int:
    """Remove every cached slice; how many there were."""
    return environment.core("cache").Cache().clear()


def _downloaded() -> list:
    """Backbones in the home folder; the embedded one is not among them."""
    backbones = environment.core("backbones")
    return [each for each in backbones.installed() if backbones.location(each).parent == backbones.folder()]


def downloadedModels() -> tuple[list[str], int]:
    """Names of the downloaded backbones, and their bytes."""
    backbones, found = environment.core("backbones"), _downloaded()
    return [each.name for each in found], sum(backbones.location(each).stat().st_size for each in found)


def removeModels() -> int:
    """Delete the downloaded backbones; bytes freed."""
    return sum(environment.core("backbones").remove(each.name) for each in _downloaded())


def check(device: str = "auto") -> list[tuple[bool, str]]:
    """(is fine, what was found and how to mend it) for everything that segmenting needs. Loads torch if it is there."""
    found = [_core()]
    for requirement in environment.REQUIREMENTS:
        there = environment.isThere(requirement.name)
        found.append((there, requirement.what if there else _missing(requirement)))
    if found[0][0]:
        found += [_packs(), _writable(), _space()]
        if environment.isThere("torch"):
            found.append(_device(device))
    return found


def _missing(requirement) -> str:
    return _("{what} is missing ({size}): {how}").format(
        what=requirement.what, size=requirement.size, how=requirement.how
    )


def _core() -> tuple[bool, str]:
    try:
        return True, _("ProMISeCore {version}").format(version=environment.core().__version__)
    except (environment.MissingError, ImportError) as error:
        return False, str(error)


def _packs() -> tuple[bool, str]:
    names = [pack.path.stem for pack in environment.core("packs").installed()]
    if names:
        return True, _("Packs: {names}").format(names=", ".join(names))
    folder = Path(home()) / "packs"
    return False, _("No pack is installed: reinstall the extension, or put one into {folder}").format(folder=folder)


def _nearest() -> Path:
    """The home folder, or what exists of the way to it."""
    folder = Path(home())
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _writable() -> tuple[bool, str]:
    if os.access(_nearest(), os.W_OK):
        return True, _("The folder {folder} can be written").format(folder=home())
    return False, _("The folder {folder} cannot be written: choose another one above").format(folder=home())


def _space() -> tuple[bool, str]:
    free = shutil.disk_usage(_nearest()).free
    text = _("{size:.0f} GB are free for the cache").format(size=free / 1e9)
    return (True, text) if free > _LEAST_FREE else (False, text + _(": clear the cache, or choose another folder"))


def _device(name: str) -> tuple[bool, str]:
    """Chooses the device and computes on it."""
    try:
        import torch

        device = environment.core("devices").choose(name)
        torch.ones(8, device=device).sum().item()
    except (environment.core("errors").PromiseError, ImportError, OSError, RuntimeError) as error:
        return False, _("The device {name} does not compute ({error}): choose cpu above").format(name=name, error=error)
    return True, _("PyTorch {version} computes on {device}").format(version=torch.__version__, device=device)
