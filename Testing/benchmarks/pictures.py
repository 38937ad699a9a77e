"""The pictures of README and tutorial, from real runs of the `heart` pack on the generated phantom.

    python Testing/benchmarks/pictures.py [--out docs/pictures]

Slices are drawn by Slicer's own MRML slice views, offscreen; the panel by Qt widgets that stand in for Slicer's. None
is a screenshot of the Slicer application. Needs slicer-core, PySide6 and PyTorch in one environment.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT, ROOT / "Testing" / "slicer_lib", ROOT / "Testing" / "slicer_module", ROOT / "ProMISeSlicer"):
    sys.path.insert(0, str(folder))

TARGET, SLICE = "left ventricle", 5


def save(path: Path, picture: np.ndarray) -> None:
    """Write rows × columns × RGB, as a JPEG of quality 75."""
    sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(picture), isVector=True), str(path), True, 75)
    print(path, f"{path.stat().st_size / 1000:.0f} kB")


class Camera:
    """A slice view on the phantom that also draws the volume itself, which in Slicer the application's widget does."""

    def __init__(self, volumeNode, size: int) -> None:
        import slicer
        import vtk
        from offscreen import SliceView

        grey = slicer.vtkMRMLColorTableNode()
        grey.SetTypeToGrey()
        display = volumeNode.GetDisplayNode()
        display.SetAndObserveColorNodeID(slicer.mrmlScene.AddNode(grey).GetID())
        display.SetAutoWindowLevel(True)
        self.view = SliceView(volumeNode, size)
        mapper, actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        mapper.SetInputConnection(self.view.logic.GetImageDataConnection())
        actor.SetMapper(mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        self.view.renderer.AddViewProp(actor)
        self.vtk = vtk

    def shot(self, ras) -> np.ndarray:
        from vtk.util.numpy_support import vtk_to_numpy

        self.view.show(ras)
        self.view.window.Render()
        grab = self.vtk.vtkWindowToImageFilter()
        grab.SetInput(self.view.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        width, height, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 3)[::-1].copy()


def settle(session) -> None:
    session.pump(0)
    while session.isBusy:
        session.pump()


def slices(out: Path, cacheFolder: str) -> None:
    """automatic.jpg, corrected.jpg and propagated.jpg."""
    import slicer
    from desks import startScene
    from ProMISeSlicerLib import mrml
    from ProMISeSlicerLib.engine import CoreEngine
    from ProMISeSlicerLib.session import Session

    from ProMISeCore import packs, phantom

    startScene()
    heart, pack = phantom.heart(), packs.find("heart")
    node = slicer.util.addVolumeFromArray(np.ascontiguousarray(heart.voxels), heart.affine, "ProMISeHeartPhantom")
    assert np.allclose(mrml.affineOf(node), heart.affine)
    session = Session(node, pack, engine=CoreEngine(pack, "cpu", cacheFolder))
    session.segment(SLICE)
    settle(session)
    display = session.segmentationNode.GetDisplayNode()
    display.SetOpacity2DFill(0.25)
    for name in session.targets:
        for prompts in session.promptNodes(name):
            prompts.GetDisplayNode().SetVisibility(name == TARGET)
    camera, centre = Camera(node, 560), session.sliceCenter(SLICE)
    save(out / "automatic.jpg", camera.shot(centre))
    edge = np.argwhere(session.target(TARGET).mask(SLICE))
    row, column = edge[np.lexsort((edge[:, 0], edge[:, 1]))[-1]]
    place = session.source.world([[SLICE, row, column - 3]])[0]
    session.addPoint(TARGET, place, False)
    settle(session)
    save(out / "corrected.jpg", camera.shot(centre))
    session.propagate(TARGET, SLICE, count=2)
    settle(session)
    shots = [camera.shot(session.sliceCenter(n))[140:420, 140:420] for n in range(SLICE - 2, SLICE + 3)]
    save(out / "propagated.jpg", np.concatenate(shots, axis=1))
    session.close()


def panel(out: Path) -> None:
    """panel.png: the module on Qt widgets that stand in for Slicer's, after a pass and a correction."""
    import slicer_double

    file = ROOT / "ProMISeSlicer" / "ProMISeSlicer.py"
    with tempfile.TemporaryDirectory() as folder, slicer_double.running(file, Path(folder)) as module:
        import qt
        import slicer
        from slicer_double import pythonqt

        pythonqt.application().setStyle("Fusion")
        module.ProMISeSlicerLogic().addPhantom()
        parent = slicer.qMRMLWidget()
        parent.setLayout(qt.QVBoxLayout())
        parent.setMRMLScene(slicer.mrmlScene)
        widget = module.ProMISeSlicerWidget(parent)
        widget.setup()
        widget.enter()
        parent.resize(440, 900)
        parent.show()
        _run(slicer, widget, lambda: widget.ui.segmentButton.click())
        session = widget.session
        centre = session.sliceCenter(4)
        _run(slicer, widget, lambda: session.addPoint(session.targets[0], (centre[0] + 8, *centre[1:]), True))
        session.lock(6)
        widget.review.goTo(4)
        widget.review.refresh()
        _run(slicer, widget, lambda: None)
        parent.grab().save(str(out / "panel.png"))
        widget.cleanup()
    print(out / "panel.png")


def _run(slicer, widget, action) -> None:
    """Do something and let the panel settle."""
    action()
    end = time.monotonic() + 0.3
    while widget.run.timer.active or time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.005)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--only", choices=("slices", "panel"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.only is None:  # each in a process of its own: the panel's stand-ins replace parts of `slicer`
        environment = dict(os.environ, QT_QPA_PLATFORM="offscreen")
        for part in ("slices", "panel"):
            subprocess.run(
                [sys.executable, __file__, "--out", arguments.out, "--only", part], check=True, env=environment
            )
        return
    with tempfile.TemporaryDirectory() as home:
        os.environ["PROMISE_HOME"] = home
        if arguments.only == "slices":
            slices(arguments.out, str(Path(home) / "cache"))
        else:
            panel(arguments.out)


if __name__ == "__main__":
    main()
