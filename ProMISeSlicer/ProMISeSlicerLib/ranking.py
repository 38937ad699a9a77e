"""Which case next: volumes without a segmentation, the one that a pack is least sure of first."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from . import cases, environment, folders, installing, preferences
from .child import Child
from .course import number
from .exporting import Exporter

_VOLUME, _UNSURE, _WHY = range(3)


class RankSection:
    """host: the module's widget, of which `choice`, `teach`, `installation`, `parameterNode`, `say` and `reporting` are
    used. The volumes' copies are deleted when the child process has ended.
    """

    def __init__(self, ui, host) -> None:
        self.ui, self.host = ui, host
        self._child, self._folder, self._steps, self._pack = None, None, iter(()), None
        self._output, self._volumes, self._files, self._problems = [], {}, [], []
        self._timer = qt.QTimer()
        self._timer.setInterval(0)  # one volume, then the window's turn
        self._timer.connect("timeout()", self._write)
        ui.nextCaseTree.setColumnCount(3)
        ui.nextCaseTree.setHeaderLabels([_("Volume"), _("Unsure"), _("Why")])
        ui.rankButton.connect("clicked(bool)", self.onRank)
        ui.rankStopButton.connect("clicked(bool)", self.onCancel)
        ui.nextCaseTree.connect("itemClicked(QTreeWidgetItem*,int)", self.onClicked)
        ui.nextCaseCollapsibleButton.connect("contentsCollapsed(bool)", self.updateButtons)
        self.updateButtons()

    @property
    def isRunning(self) -> bool:
        return self._timer.active or (self._child is not None and self._child.isRunning)

    def updateButtons(self, value=None) -> None:
        pack = self.host.choice.chosen()
        canBegin = pack is not None and not self.isRunning
        self.ui.rankButton.enabled = canBegin and not self.host.installation.isRunning
        self.ui.rankStopButton.enabled = self.isRunning

    def onRank(self) -> None:
        with self.host.reporting(_("The volumes could not be compared")):
            nodes = cases.unlabelled(self.host.teach.table.cases)
            if not nodes:
                self.host.say(_("Every volume of this scene has a segmentation: load one without."))
                return
            self._pack = self.host.choice.chosen()  # another may be chosen, or none, while volumes are written
            if not self.host.installation.ensure(installing.missing(self._pack)):
                return
            self._output, self._volumes, self._files, self._problems = [], {}, [], []
            self.ui.nextCaseTree.clear()
            self._folder = Path(tempfile.mkdtemp(prefix="ProMISe-"))
            exporter = Exporter(self._folder)
            self._steps = ((node, exporter.writeVolume(node)) for node in nodes if node.GetScene() is not None)
            self._timer.start()
            self.host.say(_("Looking at {count} volumes…").format(count=len(nodes)))
        self.updateButtons()

    def _write(self) -> None:
        """One volume."""
        with self.host.reporting(_("The volumes could not be compared")):
            try:
                node, exported = next(self._steps)
            except StopIteration:
                self._timer.stop()
                self._launch()
                return
            except environment.core("errors").PromiseError:
                self._timer.stop()
                self._clear()
                raise
            if exported.problem:
                self._problems.append(exported.problem)
            elif exported.name not in self._volumes:
                self._volumes[exported.name] = node
                self._files += map(str, exported.files)

    def _launch(self) -> None:
        if not self._files:
            problems = "; ".join(self._problems) or _("The volumes have left the scene; nothing was compared.")
            self.host.say(" ".join([f"⚠ {problems}", *self._clear()]))
        else:
            backbone = folders.backbonePlace(self._pack.manifest.backbone.name)
            self._child = Child(self._output.append, self._ended, self.host.teach.command)
            given = [
                "--pack",
                str(self._pack.path),
                "--backbone",
                backbone,
                "--device",
                preferences.device(),
                "--json",
                "--listen",
            ]
            self._child.start(["rank", *given, "--images", *self._files])
        self.updateButtons()

    def onCancel(self) -> None:
        self._timer.stop()
        if self._child is not None and self._child.isRunning:
            self.host.say(_("Ending…"))
            self._child.kill()
        else:
            self.host.say(" ".join([_("Cancelled; nothing was compared."), *self._clear()]))
        self.updateButtons()

    def forget(self) -> None:
        """The scene is closed: the IDs of its volumes will be those of others."""
        if self.isRunning:
            self.onCancel()
        self._volumes, self._steps = {}, iter(())
        self.ui.nextCaseTree.clear()

    def onNodeRemoved(self, node) -> None:
        """It is not kept alive."""
        self._volumes = {name: each for name, each in self._volumes.items() if each is not node}

    def letGo(self) -> None:
        """The application ends, or the module is loaded again."""
        self._timer.stop()
        if self._child is not None:
            self._child.kill()
            self._child.letGo()
        self._clear()

    def _clear(self) -> list[str]:
        """The copies are nobody's any more, once the child has ended. Says so where they could not be removed."""
        folder, self._folder = self._folder, None
        if folder is None:
            return []
        try:
            shutil.rmtree(folder)
        except OSError as error:
            logging.warning("ProMISe: copies of volumes were not removed: %s", error)
            text = _("⚠ Copies of the volumes could not be removed; delete the folder {folder}.")
            return [text.format(folder=folder)]
        return []

    def _ended(self, code: int | None, errors: str) -> None:
        left = self._clear()
        if code is None:
            self.host.say(_("Cancelled, or the child process was killed; nothing was compared."))
        elif code:
            self.host.say(f"⚠ {errors.strip().splitlines()[-1] if errors.strip() else code}")
        else:
            with self.host.reporting(_("What the child process found cannot be read")):
                self.show(json.loads("\n".join(self._output)))
        if left:
            self.host.say(" ".join([self.ui.statusLabel.text, *left]))
        self.updateButtons()

    def show(self, ranked: Sequence[dict]) -> None:
        """ranked: as `promise rank --json` prints it, the worst first."""
        for entry in ranked:
            node = self._volumes.get(entry.get("case"))
            if node is None:  # has left the scene meanwhile
                continue
            item = qt.QTreeWidgetItem()
            unsure = number(entry.get("uncertainty"))
            item.setText(_VOLUME, node.GetName())
            item.setText(_UNSURE, "–" if unsure is None else f"{unsure:.2f}")
            item.setText(_WHY, str(entry.get("why") or "").replace(entry["case"], node.GetName()))
            item.setData(_VOLUME, qt.Qt.UserRole, entry["case"])
            self.ui.nextCaseTree.addTopLevelItem(item)
        told = _("The volume at the top is the one to segment and correct next. Click to show it.")
        self.host.say(" ".join([told, *(f"⚠ {problem}" for problem in self._problems)]))

    def onClicked(self, item, column: int) -> None:
        """Show the volume, and select it above."""
        node = self._volumes.get(item.data(_VOLUME, qt.Qt.UserRole))
        if node is None or self.host.parameterNode is None:
            self.host.say(_("That volume is no longer in the scene."))
            return
        slicer.util.setSliceViewerLayers(background=node, fit=True)
        self.host.parameterNode.inputVolume = node
