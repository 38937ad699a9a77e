"""What lies on disk, and whether the installation is whole. No torch is loaded, except by `check`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from slicer.i18n import tr as _

from . import environment, folders

_LEAST_FREE = 2e9  # bytes
_OLDEST_TORCH = (2, 2)


def _cache():
    return environment.core("cache").Cache(folders.folder("cache"))


def cacheSize() -> tuple[int, int]:
    """Bytes and number of slices in the cache."""
    return _cache().size()


def clearCache() -> int:
    """Remove every cached slice; how many there were."""
    return _cache().clear()


def downloadedModels() -> tuple[list[str], int]:
    """Names of the downloaded backbones' files, and their bytes; the embedded one is not among them."""
    found = folders.downloaded()
    return [path.name for path in found], sum(path.stat().st_size for path in found)


def removeModels() -> int:
    """Delete the downloaded backbones; bytes freed."""
    freed = 0
    for path in folders.downloaded():
        size = path.stat().st_size
        path.unlink()
        freed += size
    return freed


def check(device: str = "auto") -> list[tuple[bool, str]]:
    """(is fine, what was found and how to mend it) for everything that segmenting needs. Loads torch if it is there."""
    found = [_core()]
    for requirement in environment.REQUIREMENTS:
        there = environment.isThere(requirement.name)
        found.append((there, requirement.what if there else _missing(requirement)))
    if found[0][0]:
        found += [_packs(), *_backbones(), *[_writable(kind) for kind in folders.KINDS], _space()]
        if environment.isThere("torch"):
            found += [_torchVersion(), _device(device)]
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
    names = [pack.path.stem for pack in folders.packs()]
    if names:
        return True, _("Packs: {names}").format(names=", ".join(names))
    return False, _("No pack is installed: reinstall the extension, or put one into {folder}").format(
        folder=folders.folder("pack")
    )


def _backbones() -> list[tuple[bool, str]]:
    """Those that the packs need; one that can be downloaded is no fault."""
    table, found = environment.core("backbones").TABLE, []
    for name in sorted({pack.manifest.backbone.name for pack in folders.packs()}):
        path = folders.backboneFile(name)
        if path is not None and path.is_file():
            found.append((True, _("Backbone {name} is there").format(name=name)))
        elif path is not None and table[name].url:
            found.append((True, _("Backbone {name} will be downloaded when it is needed").format(name=name)))
        else:
            where = path or folders.folder("backbone")
            text = _("Backbone {name} is missing: reinstall the extension, or put its file to {where}")
            found.append((False, text.format(name=name, where=where)))
    return found


def _nearest(folder: Path) -> Path:
    """The folder, or what exists of the way to it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _writable(kind: str) -> tuple[bool, str]:
    folder = folders.folder(kind)
    if os.access(_nearest(folder), os.W_OK):
        return True, _("The folder {folder} can be written").format(folder=folder)
    return False, _("The folder {folder} cannot be written: choose another one above").format(folder=folder)


def _space() -> tuple[bool, str]:
    free = shutil.disk_usage(_nearest(folders.folder("cache"))).free
    text = _("{size:.0f} GB are free for the cache").format(size=free / 1e9)
    return (True, text) if free > _LEAST_FREE else (False, text + _(": clear the cache, or choose another folder"))


def _torchVersion() -> tuple[bool, str]:
    """Read from the package's description: a broken installation must not end the check."""
    from importlib import metadata

    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return False, _("PyTorch is incomplete: reinstall it with the module PyTorch Utils")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers >= _OLDEST_TORCH:
        return True, _("PyTorch {version}").format(version=version)
    oldest = ".".join(map(str, _OLDEST_TORCH))
    return False, _("PyTorch {version} is older than {oldest}: reinstall it with the module PyTorch Utils").format(
        version=version, oldest=oldest
    )


def _device(name: str) -> tuple[bool, str]:
    """Chooses the device and computes on it."""
    try:
        import torch

        device = environment.core("devices").choose(name)
        torch.ones(8, device=device).sum().item()
    except (environment.core("errors").PromiseError, ImportError, OSError, RuntimeError) as error:
        return False, _("The device {name} does not compute ({error}): choose cpu above").format(name=name, error=error)
    return True, _("PyTorch computes on {device}").format(device=device)
