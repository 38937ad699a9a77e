"""A slice view without a window: Slicer's own displayable managers and widgets, driven by synthetic mouse events."""

from __future__ import annotations

import subprocess
import sys

MANAGERS = (
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
)
_PROBE = "import vtk; w = vtk.vtkRenderWindow(); w.OffScreenRenderingOn(); w.AddRenderer(vtk.vtkRenderer()); w.Render()"


def canRender() -> bool:
    """Whether there is something to render with; without, VTK ends the process, hence another one tries."""
    return subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=60).returncode == 0


class SliceView:
    """One axial view of size × size pixels on a volume; x to the right, y upwards."""

    def __init__(self, volumeNode, size: int = 400) -> None:
        import slicer
        import vtk

        scene, app = slicer.mrmlScene, slicer.app.applicationLogic()
        if app.GetSliceLogics() is None:
            app.SetSliceLogics(vtk.vtkCollection())
        self.window, self.renderer, overlay = vtk.vtkRenderWindow(), vtk.vtkRenderer(), vtk.vtkRenderer()
        self.window.SetOffScreenRendering(1)
        self.window.SetSize(size, size)
        overlay.SetLayer(1)  # markups look for a second layer
        self.window.SetNumberOfLayers(2)
        for renderer in (self.renderer, overlay):
            renderer.GetActiveCamera().ParallelProjectionOn()
            self.window.AddRenderer(renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.interactor.Initialize()
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(app)
        app.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(scene)
        self.node = self.logic.AddSliceNode("Red")
        self.node.SetOrientation("Axial")
        self.node.SetMappedInLayout(1)
        self._manage(slicer, app)
        self.style = slicer.vtkMRMLSliceViewInteractorStyle()
        self.style.SetSliceLogic(self.logic)
        self.style.SetDisplayableManagers(self.group)
        self.interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self.style.SetInteractor(self.interactor)
        self.logic.GetSliceCompositeNode().SetBackgroundVolumeID(volumeNode.GetID())
        self.logic.ResizeSliceNode(size, size)
        self.logic.FitSliceToBackground()

    def _manage(self, slicer, app) -> None:
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(app)
        for name in MANAGERS:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.SetRenderer(self.renderer)
        self.group.Initialize(factory, self.renderer)
        self.group.SetMRMLDisplayableNode(self.node)

    def close(self) -> None:
        self.window.Finalize()

    def show(self, ras) -> None:
        """Scroll to the slice of a world point."""
        self.node.JumpSliceByOffsetting(*map(float, ras))
        self.window.Render()

    def xy(self, ras) -> tuple[float, float]:
        import vtk

        matrix = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), matrix)
        return matrix.MultiplyPoint((*map(float, ras), 1))[:2]

    def ras(self, x: float, y: float) -> tuple[float, float, float]:
        return self.node.GetXYToRAS().MultiplyPoint((x, y, 0, 1))[:3]

    def mouse(self, event: str, x: float, y: float, key: str = "") -> None:
        self.interactor.SetEventInformation(round(x), round(y), 0, 0, chr(127) if key else chr(0), 0, key or None)
        self.interactor.InvokeEvent(event)

    def click(self, x: float, y: float) -> None:
        for event in ("MouseMoveEvent", "LeftButtonPressEvent", "LeftButtonReleaseEvent"):
            self.mouse(event, x, y)

    def press(self, x: float, y: float) -> None:
        self.mouse("MouseMoveEvent", x, y)
        self.window.Render()
        self.mouse("LeftButtonPressEvent", x, y)

    def move(self, x: float, y: float) -> None:
        self.mouse("MouseMoveEvent", x, y)

    def release(self, x: float, y: float) -> None:
        self.mouse("LeftButtonReleaseEvent", x, y)

    def drag(self, a, b, steps: int = 6) -> None:
        self.press(*a)
        for step in range(1, steps + 1):
            self.move(*[start + (end - start) * step / steps for start, end in zip(a, b, strict=True)])
        self.release(*b)

    def delete(self, x: float, y: float) -> None:
        self.move(x, y)
        self.window.Render()
        self.mouse("KeyPressEvent", x, y, "Delete")
