"""What segmenting with a pack still needs, and getting it once the user has agreed. Called from a button only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import slicer
from slicer.i18n import tr as _

from . import environment, folders

_OLDEST_TORCH = ">=2.2"


class Cancelled(Exception):
    """The user does not want a download any more."""


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


class Installation:
    """Getting what is missing, one thing at a time: Slicer's installers turn the event loop, so every button is live.

    host: the module's widget, of which `teach`, `resourcePath`, `updateButtons` and `say` are used.
    """

    def __init__(self, host) -> None:
        self.host = host
        self.isRunning = self.isDownloading = self._isCancelled = False

    @property
    def reason(self) -> str:
        """Why nothing that needs it can begin meanwhile, or ""."""
        return _("Something is being installed.") if self.isRunning else ""

    def ensure(self, needs: Sequence[environment.Requirement]) -> bool:
        """One question that lists everything with sizes, then `install`; False when the user declines or cancels.

        Raises RuntimeError where something cannot be had, and in testing mode, where nothing is ever installed.
        """
        if not needs or self.isRunning:
            return not needs
        listed = "\n".join(f"• {need.what} ({need.size})" for need in needs)
        if slicer.app.testingEnabled():
            raise RuntimeError(_("missing, and not installed while testing:\n{listed}").format(listed=listed))
        if any(need.name == "torch" for need in needs):
            _findTorchUtils()
        question = _("Segmenting needs the following, to be installed once:\n{listed}\nInstall it now?")
        if not slicer.util.confirmOkCancelDisplay(question.format(listed=listed)):
            self.host.say(_("Nothing was installed. Segmenting needs:\n{listed}").format(listed=listed))
            return False
        return self._get(needs)

    def cancel(self) -> None:
        """A download ends with its next piece, and goes on from there another time; a package is installed whole."""
        self._isCancelled = self.isRunning

    def _get(self, needs: Sequence[environment.Requirement]) -> bool:
        self.isRunning, self._isCancelled = True, False
        names = ", ".join(need.what for need in needs)
        self.host.say(_("Installing {names}: this takes some minutes…").format(names=names))
        self._show()
        slicer.app.processEvents()  # the message is on screen before the window stops answering
        try:
            install(needs, self.host.resourcePath("requirements.txt"), self._progress)
        except Cancelled:
            self.host.say(_("Cancelled. What was downloaded is kept; the next time goes on from there."))
        finally:
            self.isRunning = self.isDownloading = False
            self._show()
            self.host.teach.refresh()  # there may be one more backbone
        return not self._isCancelled

    def _progress(self, name: str, done: int, total: int | None) -> None:
        if not self.isDownloading:
            self.isDownloading = True
            self._show()
        self.host.say(_("Downloading {name}: {size:.0f} MB").format(name=name, size=done / 1e6))
        slicer.app.processEvents()
        if self._isCancelled:
            raise Cancelled

    def _show(self) -> None:
        self.host.updateButtons()
        self.host.teach.updateButtons()


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


def _findTorchUtils() -> None:
    """Raises RuntimeError where the PyTorch extension is missing."""
    if not environment.isThere("PyTorchUtils"):
        raise RuntimeError(
            _("the PyTorch extension is missing; install it from the Extensions Manager and restart Slicer")
        )


def _installTorch() -> None:
    _findTorchUtils()
    import PyTorchUtils

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
