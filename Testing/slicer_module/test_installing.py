"""While something is installed or downloaded, in the test double: nothing else begins, and a download can be ended."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

import pytest

BUTTONS = ("segmentButton", "rankButton", "teachButton", "teachCheckButton")


@pytest.fixture
def installs(monkeypatch) -> Callable[[Callable], None]:
    """`installs(meanwhile)`: PyTorch is missing until an installer that calls meanwhile() has had it."""
    import slicer
    from ProMISeSlicerLib import environment

    lacking = [environment.REQUIREMENTS[0]]
    monkeypatch.setattr(slicer.app, "testingEnabled", lambda: False)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    monkeypatch.setattr(environment, "missing", lambda: list(lacking))

    def make(meanwhile: Callable[[], None]) -> None:
        def install(self, **how) -> bool:
            meanwhile()
            lacking.clear()
            return True

        module = types.ModuleType("PyTorchUtils")
        module.PyTorchUtilsLogic = type("PyTorchUtilsLogic", (), {"installTorch": install})
        monkeypatch.setitem(sys.modules, "PyTorchUtils", module)

    return make


def test_nothing_else_begins_while_something_is_installed(school, installs) -> None:
    import slicer

    panel, seen = school(), []

    def meanwhile() -> None:
        seen.append((panel.status, {name: getattr(panel.ui, name).enabled for name in BUTTONS}))
        for name in BUTTONS:
            getattr(panel.ui, name).click()
        slicer.app.processEvents()

    installs(meanwhile)
    slicer.util.addVolumeFromArray(slicer.util.arrayFromVolume(panel.widget.parameterNode.inputVolume), name="other")
    assert all(getattr(panel.ui, name).enabled for name in BUTTONS)
    panel.click("teachCheckButton")
    ((status, enabled),) = seen
    assert status.startswith("Installing PyTorch: this takes some minutes") and not any(enabled.values())
    panel.settle(lambda: not panel.widget.teach.isRunning)
    assert panel.status == "Checked; see below." and all(getattr(panel.ui, name).enabled for name in BUTTONS)


def test_an_installation_that_fails_leaves_the_buttons_live(opened, installs) -> None:
    panel = opened(engine=None)

    def fail() -> None:
        raise RuntimeError("the disk is full")

    installs(fail)
    panel.click("segmentButton")
    assert "the disk is full" in panel.status and panel.ui.segmentButton.enabled


def test_segmenting_does_not_begin_where_the_user_has_left_the_module_meanwhile(opened, installs) -> None:
    panel = opened(engine=None)
    installs(panel.widget.exit)
    panel.click("segmentButton")
    assert panel.widget.session is None and "⚠" not in panel.status


def test_the_missing_extension_is_told_before_anything_is_asked(opened, installs, monkeypatch) -> None:
    import slicer

    asked = []
    panel = opened(engine=None)
    installs(lambda: None)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: asked.append(text))
    panel.click("segmentButton")
    assert asked == [] and "install it from the Extensions Manager" in panel.status


def test_a_download_is_cancelled_and_no_second_one_begins(opened, monkeypatch) -> None:
    import slicer
    from ProMISeSlicerLib import environment, installing

    from ProMISeCore import downloading

    panel, pieces = opened(engine=None), []

    def fetch(url, part, size, progress) -> None:
        assert not pieces, "a second download would write into the same file"
        for piece in range(1, 9):
            pieces.append(panel.ui.segmentButton.enabled)
            progress(piece * 1_000_000, 8_000_000)
            if piece == 3:
                panel.click("cancelButton")

    need = environment.Requirement("backbone:mobile_sam", "MobileSAM", "40 MB", "download")
    monkeypatch.setattr(installing, "missing", lambda pack: [need])
    monkeypatch.setattr(downloading, "fetch", fetch)
    monkeypatch.setattr(slicer.app, "testingEnabled", lambda: False)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    panel.click("segmentButton")
    assert pieces == [False] * 4 and panel.status.startswith("Cancelled.") and panel.widget.session is None
    assert panel.ui.segmentButton.enabled and not panel.ui.cancelButton.enabled
