"""The module in the test double, with a fake engine and one made-up pack; skipped where a library is missing."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scene_cases import TEACHER, add_segmentation, add_volume, save_pack

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "ProMISeSlicer" / "ProMISeSlicer.py"
LIBRARIES = {"slicer_core": "slicer-core", "PySide6": "PySide6-Essentials"}


def missing() -> str:
    """Why the panel cannot be tested here, or ""."""
    absent = [wheel for name, wheel in LIBRARIES.items() if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(absent)}; pip install {' '.join(absent)}" if absent else ""


@pytest.fixture
def module(home: Path, tmp_path: Path) -> Iterator[ModuleType]:
    """ProMISeSlicer.py as Slicer loads it, in an empty scene, with the packs `fake` and `lung` installed."""
    if reason := missing():
        pytest.skip(reason)
    import slicer_double

    save_pack(home / "packs", "fake", "MR", ("disc", "ring"))
    save_pack(home / "packs", "lung", "CT", ("lung",))
    with slicer_double.running(MODULE, tmp_path / "settings") as loaded:
        yield loaded


@dataclass
class Panel:
    """The opened module: `widget`, its `ui`, and what a user does with them."""

    widget: object

    @property
    def ui(self):
        return self.widget.ui

    @property
    def status(self) -> str:
        return self.ui.statusLabel.text

    def mask(self, target: str, n: int) -> np.ndarray:
        """(H, W) bool of a slice of the segmentation."""
        session = self.widget.session
        return session.segments.read(session.segmentId(target), n)

    def show(self, n: int) -> None:
        """Scroll the red view to a slice."""
        import slicer

        red = slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode")
        red.SetSliceOffset(self.widget.session.sliceCenter(n)[2])

    def choose(self, pack: str) -> None:
        """Click on a pack in the list."""
        names = [each.path.stem for each in self.widget.choice.packs]
        self.ui.packTree.setCurrentItem(self.ui.packTree.topLevelItem(names.index(pack)))

    def click(self, name: str) -> None:
        """What a mouse click does; a disabled button cannot be clicked."""
        button = getattr(self.ui, name)
        assert button.enabled, f"{name} is disabled: {button.toolTip}"
        button.click()

    def settle(self, until: Callable[[], bool] | None = None, seconds: float = 20.0) -> None:
        """Run the event loop until nothing is left to do, or until it is as wanted."""
        import slicer

        until = until or (lambda: not self.widget.run.timer.active)
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, f"still busy after {seconds} s: {self.status}"
            slicer.app.processEvents()
            time.sleep(0.002)


@pytest.fixture
def volume(module: ModuleType):
    """12 axial slices of 32 × 40: a disc of value 100 inside a ring of value 200."""
    import slicer

    rows, columns = np.mgrid[:32, :40]
    radius = np.hypot(rows - 16, columns - 20)
    picture = np.where(radius < 5, 100, np.where(radius < 10, 200, 0)).astype(np.int16)
    return slicer.util.addVolumeFromArray(np.repeat(picture[None], 12, 0), name="scan")


@pytest.fixture
def opened(module: ModuleType, request: pytest.FixtureRequest) -> Iterator[Callable[..., Panel]]:
    """`opened(delay=0.0, volume=True, engine="fake")`: the module as a user opens it; engine None for the real one."""
    made = []

    def make(delay: float = 0.0, volume: bool = True, engine: str | None = "fake") -> Panel:
        import qt
        import slicer
        from ProMISeSlicerLib.fakeEngine import FakeEngine

        if volume:
            request.getfixturevalue("volume")
        parent = slicer.qMRMLWidget()
        parent.setLayout(qt.QVBoxLayout())
        parent.setMRMLScene(slicer.mrmlScene)
        parent.setProperty("isEntered", True)
        widget = module.ProMISeSlicerWidget(parent)
        module.ProMISeSlicerLogic.engine = staticmethod(lambda: FakeEngine(delay)) if engine else None
        widget.setup()
        widget.enter()
        made.append(widget)
        return Panel(widget)

    yield make
    for widget in made:
        widget.cleanup()


@pytest.fixture
def panel(opened: Callable[..., Panel]) -> Panel:
    """The module, opened on the volume."""
    return opened()


@pytest.fixture
def segmented(panel: Panel) -> Panel:
    """The panel after one click on Segment."""
    panel.click("segmentButton")
    panel.settle()
    return panel


@pytest.fixture
def school(opened: Callable[..., Panel]) -> Callable[..., Panel]:
    """`school(fault="none")`: the panel with two segmented volumes of awkward names, Teach opened."""
    import slicer

    def make(fault: str = "none", cases: int = 2) -> Panel:
        before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
        for number in range(cases):
            volume = add_volume(f"Müller, Jörg {number}", number)
            add_segmentation(volume, f"Läsion {number}", disc=100, ring=200)
        panel = opened(volume=False)
        teach = panel.widget.teach
        teach.command = (sys.executable, str(TEACHER), fault)
        panel.ui.teachCollapsibleButton.collapsed = False
        panel.ui.teachNameEdit.text = "Große Läsion"
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == before + cases
        return panel

    return make
