"""The section Teach: cases, segments and a name become a pack, in a child process; and what was cut off goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from . import copies, environment, findings, folders, lesson, lessonNode, preferences
from .courseView import CourseView
from .gathering import CaseTable
from .heldOut import HeldOut
from .lesson import Lesson, asTarget, segmentOf
from .segmentList import SegmentList
from .tuition import Tuition

_NEW = 0  # first entry of the combo box of packs
_UNLABELLED = ("auto", "background", "unknown")  # what the entries of the one for slices without a target mean


class TeachSection:
    """host: the module's widget, of which `choice`, `keeping`, `installation`, `session`, `logic`, `parameterNode`,
    `say` and `reporting` are used. command: of the child process, see Child; tests put another one here. Nothing is
    polled.
    """

    command = None

    def __init__(self, ui, host) -> None:
        self.ui, self.host, self.tuition, self._reason = ui, host, None, ""
        self.view, self._packs = CourseView(ui), {}
        self._targets, self._folders = {}, []  # what a check has found, and in which folders
        self.segments = SegmentList(ui.teachTargetList, self.onEdited)
        self.table = CaseTable(ui.teachCaseTable, self.onChanged)
        self.heldOut = HeldOut(ui.teachHeldOutComboBox, self.onEdited)
        self._connect()
        with host.reporting(_("Copies of volumes that nobody needs any more could not be removed")):
            copies.sweep()
        self.refresh()
        with host.reporting(_("The cases of the scene could not be listed")):
            self.restore()

    def _connect(self) -> None:
        ui = self.ui
        for button, slot in (
            (ui.teachSceneButton, self.onScene),
            (ui.teachFolderButton, self.onFolder),
            (ui.teachForgetButton, self.onForget),
            (ui.teachCheckButton, self.onCheck),
            (ui.teachButton, self.onTeach),
            (ui.teachPauseButton, self.onPause),
            (ui.teachStopButton, self.onStop),
            (ui.teachResumeButton, self.onResume),
            (ui.teachDiscardButton, self.onDiscard),
        ):
            button.connect("clicked(bool)", slot)
        ui.teachNameEdit.connect("textChanged(QString)", self.onEdited)
        ui.teachBaseComboBox.connect("currentIndexChanged(int)", self.onBase)
        ui.teachMinutesSpinBox.connect("valueChanged(int)", self.onEdited)
        ui.teachUnlabelledComboBox.connect("currentIndexChanged(int)", self.onEdited)
        ui.teachCollapsibleButton.connect("contentsCollapsed(bool)", self.onCollapsed)

    # What is chosen

    @property
    def name(self) -> str:
        return lesson.packName(self.ui.teachNameEdit.text)

    @property
    def base(self) -> str:
        """The pack to go on from, "" for a new one."""
        combo = self.ui.teachBaseComboBox
        return combo.currentText if combo.currentIndex > _NEW else ""

    @property
    def unlabelled(self) -> str:
        """What a slice without a target means, as `promise teach` takes it."""
        return _UNLABELLED[self.ui.teachUnlabelledComboBox.currentIndex]

    @property
    def isRunning(self) -> bool:
        return self.tuition is not None and self.tuition.isRunning

    @property
    def isUnknown(self) -> bool:
        """Whether nobody knows yet what a folder has."""
        return bool(self.table.folders) and self.table.folders != self._folders

    def wanted(self) -> Lesson:
        """What the section asks for. Of folders all that they have, unless the user has chosen from that."""
        isAll = bool(self.table.folders) and self.segments.isWhole
        return Lesson(
            name=self.name,
            targets=[] if isAll else self.segments.chosen,
            backbone=folders.backbonePlace(self.ui.teachBackboneComboBox.currentText),
            minutes=float(self.ui.teachMinutesSpinBox.value),
            heldOut=self.heldOut.name,
            base=self.base,
            drop=self.segments.left,
            unlabelled=self.unlabelled,
            device=preferences.device(),
            folders=list(self.table.folders),
        )

    def whyNot(self) -> str:
        """What is missing before anything can be learned, or ""."""
        if self.isRunning:
            return _("A teaching is going on.")
        if self.host.installation.isRunning:
            return self.host.installation.reason
        if not self.table.used and not self.table.folders:
            return _("Add cases first: volumes with a segmentation, or a folder of such pairs.")
        if self.segments.isUnticked:
            return _("Tick a segment to learn.")
        return lesson.nameProblem(self.ui.teachNameEdit.text)

    # Shown

    def refresh(self) -> None:
        """Names of volumes and segments, own packs, backbones, unfinished teachings and buttons as they are now."""
        with self.host.reporting(_("The folder of teachings could not be read")):
            self.table.show(changed=False)
            self.fillBases()
            self.fillBackbones()
            self.fillTargets()
            self.fillUnfinished()
        self.updateButtons()

    def fillBackbones(self) -> None:
        """Those that are installed; a pack goes on with the one that it was taught with."""
        combo = self.ui.teachBackboneComboBox
        names = [name for name in environment.core("backbones").TABLE if _isInstalled(name)]
        _fill(combo, names)
        own = self._packs[self.base].manifest.backbone.name if self.base in self._packs else ""
        if own in names:
            combo.setCurrentIndex(names.index(own))

    def fillBases(self) -> None:
        self._packs = {pack.path.stem: pack for pack in folders.ownPacks()}
        _fill(self.ui.teachBaseComboBox, [_("nothing: a new pack"), *self._packs])

    def fillUnfinished(self) -> None:
        running = self.tuition.lesson.name if self.isRunning else ""
        names = [each.name for each in lesson.unfinished() if each.name != running]
        _fill(self.ui.teachUnfinishedComboBox, names)
        for widget in (self.ui.teachUnfinishedComboBox, self.ui.teachResumeButton, self.ui.teachDiscardButton):
            widget.visible = bool(names)

    def fillTargets(self) -> None:
        """The union of the segments' names, what a check found in folders, and of the pack to go on from the rest;
        ticks stay."""
        found: dict[str, int] = {}
        for case in self.table.used:
            for name in case.segments():
                target = asTarget(name)
                found[target] = found.get(target, 0) + 1
        targets = found | {name: cases for name, cases in self._checked().items() if name not in found}
        self.segments.show(targets, self._known(), self.base)
        self.heldOut.show(self.table.used, self.table.shown)

    def _checked(self) -> Mapping[str, int]:
        """What a check has found in the folders; of the scene, what is there now counts."""
        return self._targets if self.table.folders and not self.isUnknown else {}

    def _known(self) -> list[str]:
        """Targets of the pack to go on from; none where nobody knows yet what a folder has."""
        if self.base not in self._packs or self.isUnknown:
            return []
        return [info.name for info in self._packs[self.base].manifest.targets]

    def updateButtons(self) -> None:
        ui, reason, running = self.ui, self.whyNot(), self.isRunning
        for button in (ui.teachButton, ui.teachCheckButton):
            button.enabled = not reason
        continued = bool(self.base) and self.base == self.name
        ui.teachButton.text = _("Continue teaching") if continued else _("Teach")
        ui.teachButton.toolTip = reason or _("Learn from the cases, in a process of its own; go on working meanwhile.")
        ui.teachPauseButton.enabled = running and not self.tuition.check and not self.tuition.isWriting
        ui.teachPauseButton.checked = running and self.tuition.course.isPaused
        ui.teachPauseButton.text = _("Go on") if running and self.tuition.course.isPaused else _("Pause")
        ui.teachStopButton.enabled = running
        ui.teachStopButton.text = _("End at once") if running and self.tuition.isStopping else _("Stop")
        ui.teachDiscardButton.enabled = not running
        ui.teachResumeButton.enabled = not running and not self.host.installation.isRunning
        ui.teachForgetButton.enabled = bool(self.table.cases or self.table.folders)

    def onCollapsed(self, collapsed: bool) -> None:
        """Opened for the first time, it lists what the scene has."""
        if not collapsed:
            self.refresh()
            if not self.table.cases and not self.table.folders:
                self.onScene()

    # Cases

    def onScene(self) -> None:
        with self.host.reporting(_("The scene could not be listed")):
            added = self.table.addScene()
            asked = [case.segmentationNode.GetName() for case in self.table.pending]
            if asked:
                text = _("Whose segmentation {names} is, is not known: choose the volume in the list.")
                self.host.say(text.format(names=", ".join(asked)))
            elif untold := [case.segmentationNode.GetName() for case in self.table.untold]:
                text = _("ProMISe has made {names}; nothing here says which slices are yours.")
                text += " " + _(
                    "Once you have looked at all of them, choose all under Slices; till then none is learned."
                )
                self.host.say(text.format(names=", ".join(untold)))
            elif not added and not self.table.cases:
                self.host.say(_("No volume of this scene has a segmentation yet: segment one, then add it here."))

    def onFolder(self) -> None:
        caption = _("Folder with images and segmentations")
        self.table.addFolder(qt.QFileDialog.getExistingDirectory(self.ui.teachCaseTable, caption, ""))

    def onForget(self) -> None:
        self.table.forget()

    def onNodeRemoved(self, node) -> None:
        """A running teaching has files of its own and goes on."""
        lost = self.heldOut.lose(node, self.table.cases)
        self.table.forgetNode(node)
        if lost:
            text = _("{name} was held out and has left the scene: what is proposed is held out instead.")
            self.host.say(text.format(name=lost))

    def forgetScene(self) -> None:
        """It is closed, and what was found in its cases is not said of those of another; what is shown of a running
        teaching goes on. Ticks of what folders have stay, as these do."""
        self.table.forgetScene()
        self.heldOut.node = None
        self.segments.unticked &= set(self._checked())
        if not self.isRunning:
            self.view.forget()

    def restore(self) -> None:
        """Show what the scene was saved with; without that, no more than is still in the scene."""
        self.table.forgetAbsent()
        found, settings = lessonNode.read()
        if settings:
            self.table.cases, self.table.folders = [*found, *self.table.pending], list(settings["folders"])
            self.segments.unticked = set(settings["unticked"])
            self.segments.dropped = set(settings.get("dropped", ()))
            self.segments.named = dict(settings.get("named", {}))
            checked = settings.get("checked", {"folders": [], "targets": {}})
            self._folders, self._targets = list(checked["folders"]), dict(checked["targets"])
            self.heldOut.node = lessonNode.heldOut()
        self.table.show(changed=False)
        self.fillTargets()
        if settings:
            self._set(settings)
            if "heldOut" in settings:  # of an earlier version, which kept how the case is called
                self.heldOut.node = self.heldOut.called(settings["heldOut"])
            self.fillBackbones()
            self.fillTargets()  # of the pack to go on from, too
        self.updateButtons()

    def _set(self, settings: Mapping[str, Any]) -> None:
        """Without the scene being written meanwhile. A pack that is no longer there is none."""
        ui = self.ui
        widgets = (ui.teachNameEdit, ui.teachMinutesSpinBox, ui.teachUnlabelledComboBox, ui.teachBaseComboBox)
        for widget in widgets:
            widget.blockSignals(True)
        ui.teachNameEdit.text = settings["name"]
        ui.teachMinutesSpinBox.value = settings["minutes"]
        ui.teachUnlabelledComboBox.setCurrentIndex(_UNLABELLED.index(settings.get("unlabelled", "auto")))
        texts = [ui.teachBaseComboBox.itemText(index) for index in range(ui.teachBaseComboBox.count)]
        ui.teachBaseComboBox.setCurrentIndex(texts.index(settings["base"]) if settings.get("base") in texts else _NEW)
        for widget in widgets:
            widget.blockSignals(False)

    def onChanged(self) -> None:
        """Cases were added, removed or ticked."""
        self.fillTargets()
        self.onEdited()

    def onBase(self, index: int) -> None:
        """Going on with a pack keeps its name, so that it gets a new version."""
        if self.base:
            self.ui.teachNameEdit.text = self.base
        self.segments.dropped = set()
        self.fillBackbones()
        self.fillTargets()
        self.onEdited()

    def onEdited(self, value=None) -> None:
        self.updateButtons()
        if self.host.parameterNode is not None:
            self.save()

    def save(self) -> None:
        """In the scene, which may be done while another module is open."""
        ui = self.ui
        settings = {"name": ui.teachNameEdit.text, "minutes": ui.teachMinutesSpinBox.value, "base": self.base}
        settings |= {"folders": self.table.folders, "unticked": sorted(self.segments.unticked)}
        settings |= {"dropped": sorted(self.segments.dropped), "named": self.segments.named}
        settings |= {"unlabelled": self.unlabelled}
        settings |= {"checked": {"folders": self._folders, "targets": self._targets}}
        lessonNode.save(self.table.cases, settings, self.heldOut.node)

    # Teaching

    def onCheck(self) -> None:
        self._begin(_("The cases could not be checked"), check=True)

    def onTeach(self) -> None:
        self._begin(_("Teaching could not start"), check=False)

    def _begin(self, failure: str, check: bool) -> None:
        with self.host.reporting(failure):
            if not self.host.installation.ensure(environment.missing()):
                return
            self.refresh()  # segments may have been drawn or renamed meanwhile
            if reason := self.whyNot() or ("" if check else self._inTheWay()):
                self.host.say(reason)
                return
            tuition = Tuition(self._asked(check), self.onNews, self.onEnd, check, self.command)
            self._follow(tuition)
            self.table.ask()
            tuition.begin(self.table.used, list(map(segmentOf, self.segments.chosen)), self.table.shown)
            self.host.say(_("Checking the cases…") if check else _("Teaching {name}…").format(name=self.name))
            self.onNews()

    def _inTheWay(self) -> str:
        """Why the pack could not be listed once it is taught, or "": better said before the minutes than after them."""
        file = folders.somebodys(self.name)
        if file is None:
            return ""
        text = _("{file} is another pack, in your folder of packs: give yours another name, or move that file first.")
        return text.format(file=file)

    def _follow(self, tuition: Tuition) -> None:
        """It takes the place of the one before, of which only what its name goes on with stays."""
        if self.tuition is not None and self.tuition.lesson.name != tuition.lesson.name:
            self.tuition.clear()
        if self.tuition is None or self.tuition.lesson.shown != tuition.lesson.shown:
            self.table.forgetAsked()
        self.view.forget()
        self.tuition = tuition

    def _asked(self, check: bool) -> Lesson:
        """A check finds all that a folder has before anybody chooses from that."""
        wanted = self.wanted()
        if check and self.isUnknown:
            wanted.targets, wanted.drop = [], []
        return wanted

    def onPause(self, checked: bool) -> None:
        self.tuition.pause(checked)

    def onStop(self) -> None:
        self.tuition.stop()
        self.onNews()

    def onResume(self) -> None:
        with self.host.reporting(_("The teaching could not go on")):
            found = lesson.read(lesson.workspace(self.ui.teachUnfinishedComboBox.currentText))
            if found is None:
                self.host.say(_("Nothing is left of that teaching."))
            elif self.host.installation.ensure(environment.missing()):
                self._follow(Tuition(found, self.onNews, self.onEnd, command=self.command))
                self.tuition.resume()
                self.host.say(_("Teaching {name} goes on…").format(name=found.name))
        self.refresh()

    def onDiscard(self) -> None:
        name = self.ui.teachUnfinishedComboBox.currentText
        question = _("Delete what the teaching {name} has kept? Its packs stay.").format(name=name)
        if slicer.util.confirmOkCancelDisplay(question):
            with self.host.reporting(_("Not everything could be deleted")):
                lesson.checkFree(name)
                environment.core("learned").clear(lesson.workspace(name))
                self.host.say(_("Deleted."))
        self.refresh()

    def onNews(self) -> None:
        """The child has said something; labels that are set while nobody looks cost little."""
        course = self.tuition.course
        self.view.show(self.tuition)
        if course.notice:
            self.host.say(self.tuition.lesson.inWords(course.notice))
            course.notice = ""
        self.updateButtons()

    def onEnd(self) -> None:
        tuition = self.tuition
        with self.host.reporting(_("The end of the teaching could not be shown")):
            self.view.show(tuition)
            self._tell(tuition)
        if tuition.course.result is not None:
            self._welcome(lesson.packName(tuition.lesson.name))
        self.refresh()

    def _tell(self, tuition: Tuition) -> None:
        course, lesson_ = tuition.course, tuition.lesson
        if course.report is not None:
            found = findings.ofCases(lesson_, course, tuition.leftOut)
            self.table.tell(found, findings.details(lesson_, course))
            self._learn(lesson_, course.report)
            self.fillTargets()
            self.save()
        if tuition.problem:
            said = f"⚠ {lesson_.name}: {tuition.problem}"
        else:
            said = _("Checked; see below.") if tuition.check else findings.news(lesson_, course)
        self.host.say(f"{said} ⚠ {lesson_.inWords(course.notice)}" if course.notice else said)

    def _learn(self, lesson_: Lesson, report: Mapping[str, Any]) -> None:
        """What the folders have. Of a report on some segments, how many cases have these; the others have not gone.

        A report on other folders than those listed, as where another scene was opened meanwhile, is not of these.
        """
        if lesson_.folders != self.table.folders:
            return
        found = findings.inFolders(lesson_, report)
        if not lesson_.targets:
            self._folders, self._targets = list(lesson_.folders), found
        elif lesson_.folders == self._folders:
            named = self.segments.shown
            self._targets = {name: found.get(named(name), cases) for name, cases in self._targets.items()}

    def _welcome(self, name: str) -> None:
        """The new pack is in the list, and chosen where no session would end by it."""
        isListed = False
        with self.host.reporting(_("The pack was taught and is kept, but your folder of packs did not take a copy")):
            folders.publish(name)
            isListed = True
        self.host.choice.fill()
        self.host.say(self.host.choice.withVersion(self.ui.statusLabel.text))
        self.host.keeping.fill(name)
        if isListed and self.host.session is None:
            self.host.logic.getParameterNode().pack = name  # of the scene, also while another module is open

    def letGo(self) -> None:
        """The application ends, or the module is loaded again: the child makes a checkpoint."""
        if self.tuition is not None:
            self.tuition.letGo()


def _fill(combo, texts: list[str]) -> None:
    """Other entries; the chosen one stays where it is still there."""
    chosen = combo.currentText
    combo.blockSignals(True)
    combo.clear()
    for text in texts:
        combo.addItem(text)
    combo.setCurrentIndex(texts.index(chosen) if chosen in texts else 0)
    combo.blockSignals(False)


def _isInstalled(name: str) -> bool:
    path = folders.backboneFile(name)
    return path is not None and path.is_file()
