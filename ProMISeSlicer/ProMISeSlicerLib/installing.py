"""What segmenting with a pack still needs, and getting it once the user has agreed. Called from a button only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import slicer
from slicer.i18n import tr as _

from . import environment, folders

_OLDEST_TORCH = ">=2.2"


def missing(pack) -> list[environment.Requirement]:
    """Packages, and the pack's backbone if it has to be downloaded; each with its size."""
    return [*environment.missing(), *_backbone(pack)]


def _backbone(pack) -> list[environment.Requirement]:
    backbones, name = environment.core("backbones"), pack.manifest.backbone.name
    path = folders.backboneFile(name)
    if path is None or path.is_file() or path.parent == backbones.EMBEDDED:
        return []  # the engine says what is wrong with one that is unknown, or lost from the extension
    known = backbones.TABLE[name]
    size = f"{known.size / 1e6:.0f} MB" if known.size else _("size not stated")
    how = "download" if known.url else "local file"
    return [environment.Requirement(f"backbone:{name}", f"{known.summary} ({known.licence})", size, how)]


def askAndInstall(needs: Sequence[environment.Requirement], requirements: str, say: Callable[[str], None]) -> bool:
    """One question that lists everything with sizes, then `install`; False when the user declines.

    Raises RuntimeError in testing mode, where nothing is ever installed.
    """
    listed = "\n".join(f"• {need.what} ({need.size})" for need in needs)
    if slicer.app.testingEnabled():
        raise RuntimeError(_("missing, and not installed while testing:\n{listed}").format(listed=listed))
    question = _("Segmenting needs the following, to be installed once:\n{listed}\nInstall it now?")
    if not slicer.util.confirmOkCancelDisplay(question.format(listed=listed)):
        say(_("Nothing was installed. Segmenting needs:\n{listed}").format(listed=listed))
        return False

    def progress(name: str, done: int, total: int | None) -> None:
        say(_("Downloading {name}: {size:.0f} MB").format(name=name, size=done / 1e6))
        slicer.app.processEvents()

    install(needs, requirements, progress)
    return True


def install(
    needs: Sequence[environment.Requirement], requirements: str, progress: Callable[[str, int, int | None], None]
) -> None:
    """Get everything in `needs`. requirements: path of requirements.txt; progress(name, bytes done, bytes in all).

    Raises RuntimeError that says what to do when something cannot be had.
    """
    names = [need.name for need in needs]
    if "torch" in names:
        _installTorch()
    if any(name != "torch" and not name.startswith("backbone:") for name in names):
        _installPackages(requirements)
    for name in names:
        if name.startswith("backbone:"):
            _download(name.partition(":")[2], progress)


def _installTorch() -> None:
    try:
        import PyTorchUtils
    except ModuleNotFoundError as error:
        raise RuntimeError(
            _("the PyTorch extension is missing; install it from the Extensions Manager and restart Slicer")
        ) from error
    logic = PyTorchUtils.PyTorchUtilsLogic()
    if logic.installTorch(askConfirmation=False, torchVersionRequirement=_OLDEST_TORCH) is None:
        raise RuntimeError(_("PyTorch was not installed; try it in the module PyTorch Utils"))


def _installPackages(requirements: str) -> None:
    """With Slicer 5.12's installer where there is one."""
    try:
        from slicer import packaging
    except ImportError:
        with open(requirements, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
        for line in lines:
            if line and not line.startswith("#"):
                slicer.util.pip_install(line)
        return
    packaging.pip_ensure(packaging.load_requirements(requirements), prompt_install=False, requester="ProMISeSlicer")


def _download(name: str, progress: Callable[[str, int, int | None], None]) -> None:
    if environment.core("backbones").TABLE[name].url is None:
        text = _("the backbone {name} cannot be downloaded; get its file from its authors and put it to {path}")
        raise RuntimeError(text.format(name=name, path=folders.backboneFile(name)))
    folders.download(name, lambda done, total: progress(name, done, total))
