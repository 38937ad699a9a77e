"""Slicer's slice and 3D views without Qt: its displayable managers, widgets and interactor styles in a hidden window.

Display coordinates as VTK's: x to the right, y upwards from the lowest row of pixels, which is 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

_LEAST = 10  # pixels of a side


class Window:
    """onChange: called when the picture is no longer what the scene says; whoever shows it then asks for `pixels`."""

    factory: Callable
    managers: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.onChange: Callable[[], None] = lambda: None
        self.window, self.renderer = vtk.vtkRenderWindow(), vtk.vtkRenderer()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(300, 300)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.interactor.Initialize()
        self.interactor.EnableRenderOff()
        self._pixels = vtk.vtkUnsignedCharArray()

    def _manage(self, node) -> None:
        """Let Slicer's displayable managers draw what concerns this view node."""
        factory = type(self).factory()
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        for name in self.managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.SetRenderer(self.renderer)
        self.group.Initialize(factory, self.renderer)
        self.group.SetMRMLDisplayableNode(node)
        self.group.AddObserver("UpdateEvent", lambda *_: self.onChange())

    @property
    def size(self) -> tuple[int, int]:
        return self.window.GetSize()

    def resize(self, width: int, height: int) -> None:
        size = max(_LEAST, width), max(_LEAST, height)
        if size != tuple(self.size):
            self.interactor.UpdateSize(*size)
            self.window.SetSize(*size)
            self._resized()
            self.onChange()

    def _resized(self) -> None:
        """What else has to know."""

    def pixels(self) -> np.ndarray:
        """The picture as the scene is now, (height, width, 3) uint8, first row on top."""
        self.window.Render()
        width, height = self.size
        self.window.GetPixelData(0, 0, width - 1, height - 1, 0, self._pixels, 0)
        return np.ascontiguousarray(vtk_to_numpy(self._pixels).reshape(height, width, 3)[::-1])

    def close(self) -> None:
        self.window.Finalize()


class SliceWindow(Window):
    """One slice view. name: of its slice node; orientation: Axial, Coronal or Sagittal."""

    managers = (
        "vtkMRMLCrosshairDisplayableManager",
        "vtkMRMLModelSliceDisplayableManager",
        "vtkMRMLScalarBarDisplayableManager",
        "vtkMRMLSegmentationsDisplayableManager2D",
        "vtkMRMLMarkupsDisplayableManager",
    )

    @staticmethod
    def factory():
        return slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()

    def __init__(self, name: str, orientation: str) -> None:
        super().__init__()
        self.orientation = orientation
        overlay = vtk.vtkRenderer()  # markups look for a second layer
        overlay.SetLayer(1)
        self.window.SetNumberOfLayers(2)
        self.window.SetAlphaBitPlanes(1)
        self.window.AddRenderer(overlay)
        for renderer in (self.renderer, overlay):
            renderer.GetActiveCamera().ParallelProjectionOn()
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        slicer.app.applicationLogic().GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientation(orientation)
        self.node.SetMappedInLayout(1)
        self._manage(self.node)
        self.style = slicer.vtkMRMLSliceViewInteractorStyle()
        self.style.SetSliceLogic(self.logic)
        self.style.SetDisplayableManagers(self.group)
        self.interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self.style.SetInteractor(self.interactor)
        self._drawVolume()
        self._resized()

    def _drawVolume(self) -> None:
        """The volume itself, which in Slicer the application's widget draws."""
        self._mapper, self._actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor.SetMapper(self._mapper)
        self._actor.GetProperty().SetDisplayLocationToBackground()
        self.logic.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._follow())

    def _follow(self) -> None:
        image = self.logic.GetImageDataConnection()
        self._mapper.SetInputConnection(image)
        self._actor.SetVisibility(image is not None)
        if image is not None and not self.renderer.HasViewProp(self._actor):
            self.renderer.AddViewProp(self._actor)
        self.onChange()

    def _resized(self) -> None:
        self.logic.ResizeSliceNode(*self.size)

    def show(self, volumeNode) -> None:
        """A volume, whole, in the planes it was acquired in; None for nothing."""
        composite = self.logic.GetSliceCompositeNode()
        composite.SetBackgroundVolumeID(volumeNode.GetID() if volumeNode is not None else None)
        composite.SetLinkedControl(1)
        composite.SetHotLinkedControl(1)
        if volumeNode is not None:
            self.node.SetOrientation(self.orientation)
            self.node.RotateToVolumePlane(volumeNode)
            self.fit()

    def fit(self) -> None:
        """The whole slice in the view."""
        self.logic.FitSliceToBackground()
        self.logic.SnapSliceOffsetToIJK()

    def range(self) -> tuple[float, float, float]:
        """First and last slice offset and the step between slices, mm; (0, 0, 1) without a volume."""
        if self.logic.GetBackgroundLayer().GetVolumeNode() is None:
            return 0.0, 0.0, 1.0
        bounds = [0.0] * 6
        self.logic.GetLowestVolumeSliceBounds(bounds)
        step = self.logic.GetLowestVolumeSliceSpacing()[2]
        return bounds[4] + step / 2, bounds[5] - step / 2, step

    def turn(self, slices: int) -> None:
        """Scroll by a number of slices, to the first or last at most."""
        first, last, step = self.range()
        self.logic.SetSliceOffset(min(max(self.logic.GetSliceOffset() + slices * step, first), last))

    def ras(self, x: float, y: float) -> np.ndarray:
        """(3,) world mm of a pixel."""
        return np.array(self.node.GetXYToRAS().MultiplyPoint((x, y, 0, 1))[:3])

    def xy(self, ras) -> np.ndarray:
        """(2,) the pixel of a world point, fractional; the inverse of `ras`."""
        matrix = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), matrix)
        return np.array(matrix.MultiplyPoint((*map(float, ras), 1))[:2])

    def deletePointed(self) -> None:
        """Delete the control point under the mouse, as Slicer's Delete key does."""
        x, y = self.interactor.GetEventPosition()
        self.interactor.SetEventInformation(x, y, 0, 0, chr(127), 0, "Delete")
        self.interactor.InvokeEvent("KeyPressEvent")
        self.interactor.SetEventInformation(x, y, 0, 0, chr(0), 0, None)

    def sides(self) -> dict[str, str]:
        """Which way the patient lies: letters of R, L, A, P, S, I at the left, right, top and bottom."""
        matrix = slicer.util.arrayFromVTKMatrix(self.node.GetSliceToRAS())
        right, up = _letter(matrix[:3, 0]), _letter(matrix[:3, 1])
        opposite = dict(zip("RLAPSI", "LRPAIS", strict=True))
        return {"right": right, "left": opposite[right], "top": up, "bottom": opposite[up]}


class VolumeWindow(Window):
    """The 3D view: surfaces, control points, and the slices where they lie."""

    managers = (
        "vtkMRMLCameraDisplayableManager",
        "vtkMRMLViewDisplayableManager",
        "vtkMRMLModelDisplayableManager",
        "vtkMRMLSegmentationsDisplayableManager3D",
        "vtkMRMLMarkupsDisplayableManager",
    )

    @staticmethod
    def factory():
        return slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()

    def __init__(self, name: str = "1") -> None:
        super().__init__()
        app = slicer.app.applicationLogic()
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(app)
        app.GetViewLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.node = self.logic.AddViewNode(name)
        self.node.SetMappedInLayout(1)
        self.style = slicer.vtkMRMLThreeDViewInteractorStyle()
        self._manage(self.node)
        self.style.SetDisplayableManagers(self.group)
        self.style.SetInteractor(self.interactor)
        self.interactor.SetInteractorStyle(vtk.vtkInteractorStyle3D())

    def fit(self, bounds=None) -> None:
        """All that is there, or what is inside bounds (6 values, world mm), seen from the front."""
        manager = self.group.GetDisplayableManagerByClassName("vtkMRMLCameraDisplayableManager")
        self.renderer.ResetCamera(*([] if bounds is None else [bounds]))
        if manager.GetCameraNode() is not None:
            manager.GetCameraNode().RotateTo(slicer.vtkMRMLCameraNode.Anterior)
        self.renderer.ResetCameraClippingRange()
        self.onChange()


def _letter(direction: np.ndarray) -> str:
    axis = int(np.argmax(np.abs(direction)))
    return ("RAS" if direction[axis] > 0 else "LPI")[axis]
