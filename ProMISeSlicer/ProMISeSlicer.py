"""3D Slicer module: segment a volume with a pack, then correct the result by its control points. Wiring only."""

import enum
import logging
import sys
from contextlib import contextmanager
from typing import Annotated

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

HOMEPAGE = "https://github.com/OWNER/SlicerProMISe"


class ProMISeSlicer(ScriptedLoadableModule):
    """What the application knows about the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("ProMISe")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "Markups"]
        self.parent.contributors = ["ProMISeSlicer Maintainers (OWNER)"]
        self.parent.helpText = _(
            "Segments a volume with one click and shows the control points it used. Move them, and the segment follows."
            ' See the <a href="{url}#readme">documentation</a>. Research use only, not for clinical use;'
            " the embedded weights are for non-commercial research only."
        ).format(url=HOMEPAGE)
        self.parent.acknowledgementText = _(
            "Implements ProMISe (J. Wang et al., arXiv:2403.04164) on Segment Anything (A. Kirillov et al., 2023)."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    from ProMISeSlicerLib import samples

    samples.register(lambda: ProMISeSlicerLogic().addPhantom())


class SliceDirection(enum.Enum):
    """Value: the `axis` of Session, "" for the pack's own."""

    PACK = ""
    AXIAL = "axial"
    SAGITTAL = "sagittal"
    CORONAL = "coronal"

    def label(self):
        names = {"": _("as the pack was trained"), "axial": _("axial"), "sagittal": _("sagittal"),
                 "coronal": _("coronal")}  # fmt: skip
        return names[self.value]


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

    pack: name of a pack, "" for one that suits; target: name of one of its targets; propagateCount: slices to a side,
    0 until unsure.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    pack: str = ""
    slices: SliceDirection = SliceDirection.PACK
    target: str = ""
    propagateCount: Annotated[int, WithinRange(0, 999)] = 3
    propagateDirection: PropagateDirection = PropagateDirection.BOTH


class ProMISeSlicerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: the life cycle; the session, packs, Correct, Review and Settings have a class each in the library.

    Nothing is computed here, installed by opening, or polled: a timer runs while the session is busy.
    """

    def __init__(self, parent=None):
        self.logic = self.sitting = self.parameterNode = self._guiTag = None
        self._buttons = ()  # the sections with buttons, once all are there: what fails before is told all the same
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
        self.setupSections(uiWidget)
        self.observeScene()
        self.initializeParameterNode()

    def setupSections(self, panel):
        from ProMISeSlicerLib.choosing import PackSection
        from ProMISeSlicerLib.correcting import CorrectionSection
        from ProMISeSlicerLib.installing import Installation
        from ProMISeSlicerLib.keeping import KeepingSection
        from ProMISeSlicerLib.ranking import RankSection
        from ProMISeSlicerLib.reviewing import ReviewSection
        from ProMISeSlicerLib.running import RunSection
        from ProMISeSlicerLib.settings import SettingsSection
        from ProMISeSlicerLib.shortcuts import Shortcuts
        from ProMISeSlicerLib.sitting import Sitting
        from ProMISeSlicerLib.teaching import TeachSection

        self.sitting = Sitting(self)
        self.installation = Installation(self)
        self.correction = CorrectionSection(self.ui, self)
        self.review = ReviewSection(self.ui, self)
        self.settings = SettingsSection(self.ui, self)
        self.choice = PackSection(self.ui, self)
        self.run = RunSection(self.ui, self)
        self.keeping = KeepingSection(self.ui, self)
        self.teach = TeachSection(self.ui, self)
        self.rank = RankSection(self.ui, self)
        self.shortcuts = Shortcuts(self.ui, panel)
        self._buttons = (self.run, self.correction, self.rank)

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
        self.installation.cancel()
        self.unwatchViews()
        self.sitting.close()
        self.setParameterNode(None)
        self.removeObservers()
        self.teach.letGo()
        self.rank.letGo()

    def enter(self):
        self.initializeParameterNode()
        self.teach.refresh()
        self.watchViews()
        if slicer.app.layoutManager():
            slicer.app.layoutManager().connect("layoutChanged(int)", self.watchViews)

    def exit(self):
        """Another module is opened: a running pass goes on, placing points and the shortcuts end."""
        self.correction.stopPlacing()
        self.unwatchViews()
        self.setParameterNode(None)

    def watchViews(self, layout=None):
        """While the module is open: shortcuts work in the views, and the panel follows the slice that they show."""
        self.removeObservers(self.review.onSliceShown)
        for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self.review.onSliceShown)
        self.shortcuts.enable()
        self.review.onSliceShown()

    def unwatchViews(self):
        if slicer.app.layoutManager():
            slicer.app.layoutManager().disconnect("layoutChanged(int)", self.watchViews)
        self.removeObservers(self.review.onSliceShown)
        self.shortcuts.disable()

    def onReload(self):
        """For developers: the libraries are loaded again with the module, which stays open."""
        self.cleanup()
        for name in [name for name in sys.modules if name.split(".")[0] in ("ProMISeSlicerLib", "ProMISeCore")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)
        if self.parent.isEntered:
            slicer.modules.ProMISeSlicerWidget.enter()  # the new one; reloading calls its setup() alone

    def onSceneStartClose(self, caller, event):
        self.sitting.forget()
        self.rank.forget()
        self.setParameterNode(None)
        self.teach.forgetScene()

    def onSceneChanged(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()
        self.teach.restore()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller, event, node=None):
        self.sitting.lose(node)
        self.teach.onNodeRemoved(node)
        self.rank.onNodeRemoved(node)

    # Parameters

    def initializeParameterNode(self):
        """Show what the scene holds; a session that was saved with it goes on."""
        from ProMISeSlicerLib import choosing

        node = self.logic.getParameterNode()
        if not node.inputVolume:
            node.inputVolume = choosing.volumeToBeginWith()
            node.segmentation = self.sitting.segmentationFor(node.inputVolume, node.segmentation)
        self.setParameterNode(node)
        self.sitting.reconcile(again=True)
        self.choice.show()
        self.updateButtons()

    def setParameterNode(self, parameterNode):
        if self.parameterNode:
            self.parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
        self.parameterNode = parameterNode
        if parameterNode:
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
            self.showSession()

    def onParametersChanged(self, caller=None, event=None):
        self.sitting.reconcile()
        self.choice.show()
        self.updateButtons()

    # Session

    @property
    def session(self):
        """The one that the panel shows, or None."""
        return self.sitting.session

    def showSession(self):
        self.choice.show()
        self.correction.refresh()
        self.review.refresh()

    def ask(self, action):
        """Let the session do something, then show what came of it."""
        with self.reporting(_("That did not work")):
            action(self.session)
            self.review.refresh()
            self.run.onSessionChanged()

    def sliceOnScreen(self):
        return self.logic.sliceOnScreen(self.session) if self.session else None

    # Display

    def updateButtons(self):
        """A button is enabled exactly when it can do something."""
        for section in self._buttons:
            section.updateButtons()

    def onSettingsChanged(self):
        """Device or folders are others: the session goes on with them."""
        self.choice.fill()
        self.sitting.renew()
        self.teach.refresh()
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
        from ProMISeSlicerLib import folders

        return folders.packs()

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

    def makeEngine(self, pack):
        from ProMISeSlicerLib import folders, packfile, preferences, resuming
        from ProMISeSlicerLib.engine import CoreEngine

        if self.engine:
            return self.engine()
        backbone = folders.backboneFile(pack.manifest.backbone.name)
        cache, limit = folders.folder("cache"), preferences.cacheLimit()
        file, sha256 = resuming.lastingFile(pack), packfile.packFile(pack).sha256
        return CoreEngine(file, preferences.device(), cache, limit, backbone, sha256)

    def makeSession(self, volumeNode, pack, segmentationNode=None, axis=None):
        """A session that segments this volume with this pack; a new segmentation where none is given.

        axis: "axial", "sagittal" or "coronal", None for the slices that the pack was trained on.
        """
        from ProMISeSlicerLib.session import Session

        return Session(volumeNode, pack, segmentationNode, self.makeEngine(pack), axis)

    def savedSession(self, volumeNode, segmentationNode, pack=""):
        """The node of the session that was saved with these nodes, one with the named pack first; or None."""
        from ProMISeSlicerLib import resuming

        return resuming.saved(volumeNode, segmentationNode, pack)

    def segmentationOf(self, volumeNode, axis=None, last=None):
        """The segmentation that a session on this volume has worked in, or None: the one with the node ID `last`, else
        that of the session that was last at work.

        axis: of its slices, as for `makeSession` or "" for the pack's own; None for whatever they were.
        """
        from ProMISeSlicerLib import resuming

        return resuming.segmentationOf(volumeNode, axis, last)

    def resumeSession(self, node):
        """A saved session, and its pack. Raises SessionError where its pack or volume is not there."""
        from ProMISeSlicerLib import resuming

        return resuming.resume(node, self.packs(), self.makeEngine)

    # Scene

    def sliceOnScreen(self, session):
        """Slice of the session that a view shows in its own plane; None where no view is parallel to the slices."""
        from ProMISeSlicerLib import views

        return views.sliceShown(session.planes, session.volumeNode)

    def alignViews(self, session, evenAcross=False):
        """Where no view is parallel to the session's slices, turn the nearest one that shows the volume to them.

        evenAcross: also one of another orientation, as where it is the only one.
        """
        from ProMISeSlicerLib import views

        views.align(session.planes, session.volumeNode, evenAcross)

    def is3DShown(self, segmentationNode):
        surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
        return bool(segmentationNode and segmentationNode.GetSegmentation().ContainsRepresentation(surface))

    def show3D(self, segmentationNode, shown):
        """Surfaces on demand: they are slow to keep up to date while prompts change."""
        if shown:
            with slicer.util.WaitCursor():
                segmentationNode.CreateClosedSurfaceRepresentation()
        else:
            segmentationNode.RemoveClosedSurfaceRepresentation()

    def addPhantom(self):
        """The generated heart phantom as a volume node, selected and shown like one that was loaded."""
        from ProMISeSlicerLib import environment, views

        heart = environment.core("phantom").heart()
        node = slicer.util.addVolumeFromArray(heart.voxels, ijkToRAS=heart.affine, name="ProMISeHeartPhantom")
        views.select(node)
        return node


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
