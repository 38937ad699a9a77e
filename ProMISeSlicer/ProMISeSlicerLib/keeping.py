"""My packs: the versions of each, going back to one, a file for another computer, and deleting."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from . import catalogue, environment, folders, lesson, packfile

_NUMBER, _DICE, _CASES, _USE = range(4)


class KeepingSection:
    """host: the module's widget, of which `choice`, `teach`, `updateButtons`, `say` and `reporting` are used."""

    def __init__(self, ui, host) -> None:
        self.ui, self.host, self._versions = ui, host, []
        ui.ownVersionTree.setColumnCount(4)
        ui.ownVersionTree.setHeaderLabels([_("Version"), _("Held-out Dice"), _("Cases"), _("In use")])
        ui.ownPackComboBox.connect("currentIndexChanged(int)", self.onPack)
        ui.ownVersionTree.connect("itemSelectionChanged()", self.updateButtons)
        ui.ownRollBackButton.connect("clicked(bool)", self.onRollBack)
        ui.ownExportButton.connect("clicked(bool)", self.onExport)
        ui.ownImportButton.connect("clicked(bool)", self.onImport)
        ui.ownDeleteButton.connect("clicked(bool)", self.onDelete)
        self.fill()

    @property
    def name(self) -> str:
        return self.ui.ownPackComboBox.currentText

    @property
    def chosen(self):
        """The selected version, or None."""
        tree = self.ui.ownVersionTree
        items = tree.selectedItems()
        return self._versions[tree.indexOfTopLevelItem(items[0])] if items else None

    def fill(self, name: str = "") -> None:
        """List the packs there are now. name: the one to choose, "" for the one that was."""
        combo, wanted = self.ui.ownPackComboBox, name or self.name
        with self.host.reporting(_("Your packs could not be listed")):
            names = [pack.path.stem for pack in folders.ownPacks()]
            combo.blockSignals(True)
            combo.clear()
            for each in names:
                combo.addItem(each)
            combo.setCurrentIndex(names.index(wanted) if wanted in names else min(0, len(names) - 1))
            combo.blockSignals(False)
        self.onPack()

    def onPack(self, index: int = 0) -> None:
        tree = self.ui.ownVersionTree
        tree.clear()
        self._versions = []
        if self.name:
            with self.host.reporting(_("The versions could not be listed")):
                self._versions = environment.core("versions").listing(self.name)
        for version in self._versions:
            tree.addTopLevelItem(self._item(version))
        for row, version in enumerate(self._versions):
            if version.present:
                tree.setCurrentItem(tree.topLevelItem(row))
        self.updateButtons()

    def _item(self, version):
        item = qt.QTreeWidgetItem()
        item.setText(_NUMBER, str(version.number))
        item.setText(_DICE, catalogue.figure(catalogue.meanDice(version.manifest)))
        item.setText(_CASES, str(version.manifest.training.get("cases", "–")))
        item.setText(_USE, "✓" if version.present else "")
        for column in range(4):
            item.setToolTip(column, catalogue.card(version.manifest))
        return item

    def updateButtons(self) -> None:
        version = self.chosen
        self.ui.ownRollBackButton.enabled = version is not None and not version.present
        self.ui.ownExportButton.enabled = version is not None
        self.ui.ownDeleteButton.enabled = bool(self.name)

    def onRollBack(self) -> None:
        number, name = self.chosen.number, self.name
        with self.host.reporting(_("That version could not be put to use")):
            environment.core("versions").roll_back(name, number)
            self._tell(_("{name} is version {number} again.").format(name=name, number=number), name)
        self.refresh()

    def onExport(self) -> None:
        proposed = f"{self.name}.safetensors"  # where it is imported, it is called as its file
        place = qt.QFileDialog.getSaveFileName(self.ui.ownVersionTree, _("Export a version"), proposed, _PACK_FILES)
        if place:
            with self.host.reporting(_("The version could not be exported")):
                place = Path(place.removesuffix(".safetensors") + ".safetensors")
                with environment.core("whole_file").replacing(place) as part:
                    shutil.copyfile(self.chosen.path, part)
                self.host.say(_("Exported to {place}.").format(place=place))

    def onImport(self) -> None:
        place = qt.QFileDialog.getOpenFileName(self.ui.ownVersionTree, _("Import a pack"), "", _PACK_FILES)
        if place:
            with self.host.reporting(_("The pack could not be imported")):
                self._import(Path(place))

    def _import(self, file: Path) -> None:
        name, number = _found(file)
        if name:
            self.host.say(_("That file is here already: version {number} of {name}.").format(name=name, number=number))
        else:
            name = environment.core("inventory").install_pack(file).stem
            self._tell(_("Imported {name}.").format(name=name), name)
        self.refresh(name)

    def onDelete(self) -> None:
        name = self.name
        question = _("Delete the pack {name}, all its versions, and the folder that it was taught in?")
        if not slicer.util.confirmOkCancelDisplay(question.format(name=name)):
            return
        with self.host.reporting(_("The pack could not be deleted")):
            if self.host.teach.isRunning and self.host.teach.tuition.lesson.name == name:
                raise RuntimeError(_("it is being taught; stop that first"))
            lesson.checkFree(name)
            copy = folders.copyOf(name)
            environment.core("versions").remove(name)
            if copy is not None:
                copy.unlink(missing_ok=True)
            lesson.remove(name)
            self.host.say(_("Deleted {name}.").format(name=name))
        self.refresh()

    def _tell(self, news: str, name: str) -> None:
        """What has become of a pack; also where its copy in a folder of one's own, or the session, is another."""
        self.host.say(news)
        with self.host.reporting(_("{news} Your folder of packs did not take a copy").format(news=news)):
            folders.publish(name)
        self.host.choice.fill()
        self.host.say(self.host.choice.withVersion(self.ui.statusLabel.text))

    def refresh(self, name: str = "") -> None:
        """Packs are others: here, in the gallery and among those to go on from."""
        self.host.choice.fill()
        self.fill(name)
        self.host.teach.refresh()
        self.host.updateButtons()  # the chosen one may have gone


def _found(file: Path) -> tuple[str, int]:
    """Name and number of the version that has the bytes of a file, whatever that is called; "", 0 where none has."""
    for pack in folders.ownPacks():
        for version in packfile.versionsOf(pack.path.stem):
            if filecmp.cmp(version.path, file, shallow=False):
                return pack.path.stem, version.number
    return "", 0


_PACK_FILES = "ProMISe (*.safetensors)"
