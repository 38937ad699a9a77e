"""3D Slicer module: segment a volume with a pack, then correct the result by its control points. Wiring only."""

import enum
import logging
import os
import sys
from contextlib import contextmanager
from typing import Annotated

import qt
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

PUMP_MS = 30
HOMEPAGE = "https://github.com/OWNER/SlicerProMISe"


class ProMISeSlicer(ScriptedLoadableModule):
    """What the application knows about the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("ProMISe")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "Markups"]
        self.parent.contributors = ["ProMISeSlicer maintainers"]
        self.parent.helpText = _(
            "Segments a volume with one click and shows the control points it used. Move them, and the segment follows."
            ' See the <a href="{url}#readme">documentation</a>. Research use only, not for clinical use.'
        ).format(url=HOMEPAGE)
        self.parent.acknowledgementText = _(
            "Implements ProMISe (J. Wang et al., arXiv:2403.04164) on Segment Anything (A. Kirillov et al., 2023)."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """A generated phantom, which needs no network; categories have titles from Slicer 5.12 on."""
    import SampleData

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):
        logic.registerCustomSampleDataCategory("ProMISe", title=_("ProMISe"))
    logic.registerCustomSampleDataSource(
        category="ProMISe",
        sampleName="ProMISeHeartPhantom",
        thumbnailFileName=os.path.join(os.path.dirname(__file__), "Resources", "Icons", "ProMISeSlicer.png"),
        customDownloader=lambda source=None: [ProMISeSlicerLogic().addPhantom()],
    )


class PropagateDirection(enum.Enum):
    """Value: the `direction` of Session.propagate."""

    BOTH = 0
    UP = 1
    DOWN = -1

    def label(self):
        return {0: _("both sides"), 1: _("next slices"), -1: _("previous slices")}[self.value]


@parameterNodeWrapper
class ProMISeSlicerParameterNode:
    """Everything about a study that the panel shows; saved with the scene.

    pack: name of a pack; target: name of one of its targets; propagateCount: slices to a side, 0 until unsure.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    pack: str = ""
    target: str = ""
    propagateCount: Annotated[int, WithinRange(0, 999)] = 3
    propagateDirection: PropagateDirection = PropagateDirection.BOTH


class ProMISeSlicerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: volume, pack, Segment and progress; Prompts, Review and Settings have a class each in the library.

    Nothing is computed here, installed by opening, or polled: a timer runs while the session is busy.
    """

    def __init__(self, parent=None):
        self.logic = self.session = self.parameterNode = self._guiTag = None
        VTKObservationMixin.__init__(self)
        ScriptedLoadableModuleWidget.__init__(self, parent)  # last: without a parent it calls setup()

    # Life cycle

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/ProMISeSlicer.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = ProMISeSlicerLogic()
        self.timer = qt.QTimer()
        self.timer.setInterval(PUMP_MS)
        self.timer.connect("timeout()", self.onPump)
        self.setupSections()
        self.addShortcuts(uiWidget)
        self.observeScene()
        self.initializeParameterNode()

    def setupSections(self):
        from ProMISeSlicerLib.choosing import PackSection
        from ProMISeSlicerLib.correcting import CorrectionSection
        from ProMISeSlicerLib.settings import SettingsSection

        self.ui.segmentButton.connect("clicked(bool)", self.onSegment)
        self.ui.cancelButton.connect("clicked(bool)", self.onCancel)
        self.ui.show3DButton.connect("clicked(bool)", self.onShow3D)
        self.correction = CorrectionSection(self.ui, self)
        self.settings = SettingsSection(self.ui, self)
        self.choice = PackSection(self.ui, self)

    def addShortcuts(self, panel):
        """They work while the keyboard focus is in the panel, nowhere else."""
        buttons = {"P": "positive", "N": "negative", "U": "undo", "Shift+U": "redo", "L": "lock", "W": "nextWorst"}
        for keys, name in buttons.items():
            shortcut = qt.QShortcut(qt.QKeySequence(keys), panel)
            shortcut.context = qt.Qt.WidgetWithChildrenShortcut
            shortcut.connect("activated()", getattr(self.ui, name + "Button").click)

    def observeScene(self):
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneChanged)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneChanged)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved)
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        selection = slicer.app.applicationLogic().GetSelectionNode()
        self.addObserver(interaction, interaction.InteractionModeChangedEvent, self.correction.onInteractionMode)
        self.addObserver(selection, selection.ActivePlaceNodeIDChangedEvent, self.correction.onInteractionMode)

    def cleanup(self):
        """The module is reloaded, or the application ends."""
        self.setSession(None)
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        """Another module is opened: a running pass goes on, placing points ends."""
        self.correction.stopPlacing()
        self.setParameterNode(None)

    def onReload(self):
        """For developers: the libraries are loaded again with the module."""
        self.cleanup()
        for name in [name for name in sys.modules if name.split(".")[0] in ("ProMISeSlicerLib", "ProMISeCore")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event):
        self.setSession(None)
        self.setParameterNode(None)

    def onSceneChanged(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller, event, node=None):
        if self.session and node in (self.session.volumeNode, self.session.segmentationNode):
            self.setSession(None)
            self.say(_("{name} was removed, so segmenting it has ended.").format(name=node.GetName()))

    # Parameters

    def initializeParameterNode(self):
        """Show what the scene holds; a session that was saved with it goes on."""
        from ProMISeSlicerLib import views

        self.setParameterNode(self.logic.getParameterNode())
        if not self.parameterNode.inputVolume:
            self.parameterNode.inputVolume = views.firstVolume()
        self.resumeSession()

    def setParameterNode(self, parameterNode):
        if self.parameterNode:
            self.parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
        self.parameterNode = parameterNode
        if parameterNode:
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
            self.correction.refresh()
            self.onParametersChanged()

    def onParametersChanged(self, caller=None, event=None):
        """Another volume, segmentation or pack: a session of the former ones ends, its results stay."""
        node = self.parameterNode
        if self.session and node:
            if self.session.volumeNode is not node.inputVolume:
                self.setSession(None)
                node.segmentation = None
            elif self.session.segmentationNode is not node.segmentation:
                self.setSession(None)
        self.choice.show()
        self.updateButtons()

    # Session

    def setSession(self, session):
        """Show another session, or none; the one before ends, its results stay."""
        self.timer.stop()
        before, self.session = self.session, session
        if before:
            self.correction.stopPlacing()
            before.close()
        if session:
            session.onActivity = self.onSessionChanged
        self.ui.progressBar.visible = False
        if self.parameterNode:
            self.correction.refresh()
            self.updateButtons()

    def onSessionChanged(self):
        """The session has something to do: a button was clicked, a control point was moved."""
        self.session.currentSlice = self.sliceOnScreen()
        if not self.timer.active:
            if self.session.isBusy:
                self.timer.start()
            self.updateButtons()

    def onPump(self):
        """Take in what is done, show how far it is, and stop when nothing is left to do."""
        with self.reporting(_("Segmenting failed")):
            self.showProgress(*self.session.pump())
        if not (self.session and self.session.isBusy):
            self.timer.stop()
            self.ui.progressBar.visible = False
            if self.parameterNode:
                self.correction.showStates()
            self.updateButtons()

    def onSegment(self):
        with self.reporting(_("Segmenting could not start")):
            if not self.ensureInstalled():
                return
            node = self.parameterNode
            if not self.session:
                session = self.logic.makeSession(node.inputVolume, self.choice.chosen(), node.segmentation)
                node.segmentation, node.pack = session.segmentationNode, self.choice.chosen().path.stem
                self.setSession(session)
            self.ui.show3DButton.checked = False
            self.say(_("Getting ready…"))
            self.session.segment(self.sliceOnScreen())
            self.onSessionChanged()

    def onCancel(self):
        with self.reporting(_("Cancelling failed")):
            self.session.cancel()
            self.onPump()

    def onShow3D(self, checked):
        with self.reporting(_("The surfaces could not be made")):
            self.logic.show3D(self.parameterNode.segmentation, checked)

    def resumeSession(self):
        """Go on with the session that the selected segmentation was saved with, if any."""
        node = self.parameterNode.segmentation
        if not self.session and node and self.logic.hasSession(node):
            with self.reporting(_("The saved session cannot go on")):
                self.setSession(self.logic.resumeSession(node))

    def sliceOnScreen(self):
        return self.logic.sliceOnScreen(self.session)

    def ensureInstalled(self):
        """Ask once for what is missing, with sizes, and install it; False when the user declines."""
        from ProMISeSlicerLib import installing

        needs = self.logic.missing(self.choice.chosen())
        return not needs or installing.askAndInstall(needs, self.resourcePath("requirements.txt"), self.say)

    # Display

    def updateButtons(self):
        """A button is enabled exactly when it can do something; the main one says why it cannot."""
        session, node = self.session, self.parameterNode
        busy = bool(session and session.isBusy)
        reason = self.logic.whyNot(node.inputVolume if node else None, self.choice.chosen())
        self.ui.segmentButton.enabled = not reason and not busy
        self.ui.segmentButton.toolTip = reason or _("Segment all slices, the one on screen first.")
        self.ui.cancelButton.enabled = busy
        self.ui.show3DButton.enabled = bool(node and node.segmentation) and not busy
        self.correction.updateButtons()

    def showProgress(self, done, total, secondsLeft):
        """done and total: slices of the pass; left open where it was cancelled."""
        busy, open_ = self.session.isBusy, done < total
        self.ui.progressBar.visible = busy and open_
        self.ui.progressBar.maximum = max(total, 1)
        self.ui.progressBar.value = done
        if busy and secondsLeft is not None:
            self.say(_("{done} of {total} slices, about {seconds:.0f} s left").format(
                done=done, total=total, seconds=secondsLeft))
        elif not busy:
            cancelled = _("Cancelled. {done} of {total} slices are done and stay; Segment goes on from there.")
            self.say(self.session.hint or (cancelled.format(done=done, total=total) if open_ else _("Done.")))

    def onSettingsChanged(self):
        """Device, folder or models are others: the next Segment starts with them."""
        self.setSession(None)
        self.choice.fill()
        self.updateButtons()

    def say(self, text):
        """The one place for news and errors; no pop-ups."""
        self.ui.statusLabel.text = text

    @contextmanager
    def reporting(self, failure):
        """One message in the panel for whatever goes wrong; the details go to the log."""
        try:
            yield
        except Exception as error:
            logging.exception(failure)
            self.say(f"⚠ {failure}: {error}")
            self.updateButtons()


class ProMISeSlicerLogic(ScriptedLoadableModuleLogic):
    """The doors to the session, the packs and the views, for scripts too. It raises, and never talks to the user.

    engine: makes what computes, None for ProMISeCore; tests give a fake one.

        logic = ProMISeSlicerLogic()
        session = logic.makeSession(volumeNode, logic.packs()[0])
        session.segment()
        while session.isBusy:
            session.pump()
    """

    engine = None

    def getParameterNode(self):
        return ProMISeSlicerParameterNode(super().getParameterNode())

    # Packs

    def packs(self):
        """Installed packs, each with `path` and `manifest`."""
        from ProMISeSlicerLib import environment

        return environment.core("packs").installed()

    def whyNot(self, volumeNode, pack):
        """What has to be chosen before segmenting, or ""."""
        if not volumeNode:
            return _("Load and select a volume first.")
        return "" if pack else _("Select an installed pack first.")

    def missing(self, pack):
        """What has to be installed before segmenting: `name`, `what`, `size`; empty with an engine of one's own."""
        from ProMISeSlicerLib import installing

        return [] if self.engine else installing.missing(pack)

    # Session

    def makeEngine(self, packPath):
        from ProMISeSlicerLib import settings
        from ProMISeSlicerLib.engine import CoreEngine

        if self.engine:
            return self.engine()
        return CoreEngine(packPath, settings.device(), cacheBytes=settings.cacheLimit())

    def makeSession(self, volumeNode, pack, segmentationNode=None):
        """A session that segments this volume with this pack; a new segmentation where none is given."""
        from ProMISeSlicerLib.session import Session

        return Session(volumeNode, pack.path, segmentationNode, engine=self.makeEngine(pack.path))

    def hasSession(self, node):
        from ProMISeSlicerLib import state

        return state.findSession(node) is not None

    def resumeSession(self, node):
        """The session saved with a segmentation. Raises SessionError where its pack or volume is not there."""
        from ProMISeSlicerLib import state
        from ProMISeSlicerLib.session import Session

        name = state.SceneState(state.findSession(node)).data["pack"]["manifest"]["name"]
        pack = next((pack for pack in self.packs() if pack.manifest.name == name), None)
        if pack is None:
            return Session.fromScene(node, self.engine and self.engine())  # says what is missing
        return Session.fromScene(node, self.makeEngine(pack.path), pack.path)

    # Scene

    def sliceOnScreen(self, session):
        """Slice of the session nearest to the middle of the view that shows such slices best; None without views."""
        from ProMISeSlicerLib import views

        ras = views.onScreen(session.sliceCenter(0), session.sliceCenter(len(session.grid) - 1))
        return None if ras is None else session.sliceAt(ras)

    def show3D(self, segmentationNode, shown):
        """Surfaces on demand: they are slow to keep up to date while prompts change."""
        if shown:
            segmentationNode.CreateClosedSurfaceRepresentation()
        else:
            segmentationNode.RemoveClosedSurfaceRepresentation()

    def addPhantom(self):
        """The generated heart phantom as a volume node."""
        from ProMISeSlicerLib import environment

        volume = environment.core("phantom").heart()
        return slicer.util.addVolumeFromArray(volume.voxels, ijkToRAS=volume.affine, name="ProMISeHeartPhantom")


class ProMISeSlicerTest(ScriptedLoadableModuleTest):
    """Self-tests, run in Slicer by Reload and Test and by ctest; what they do is in ProMISeSlicerLib/selftest.py."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def check(self, name):
        from ProMISeSlicerLib import selftest

        getattr(selftest, name)(self)

    def test_packs(self):
        self.check("packsAreDescribed")

    def test_fakeEngine(self):
        self.check("segmentCorrectUndoAndCancel")

    def test_defaultModel(self):
        self.check("segmentThePhantom")
