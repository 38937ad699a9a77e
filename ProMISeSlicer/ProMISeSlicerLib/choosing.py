"""The list of packs, what the chosen one is, and whether it suits the chosen volume."""

from __future__ import annotations

from html import escape

import qt
import slicer
from slicer.i18n import tr as _

from . import catalogue, packfile, views

_NAME, _DICE, _IMAGE, _LICENCE = range(4)
_WARNING = "⚠ "


def volumeToBeginWith():
    """The volume that the user has selected elsewhere, or the scene's first one; None without one."""
    selection = slicer.app.applicationLogic().GetSelectionNode()
    active = slicer.mrmlScene.GetNodeByID(selection.GetActiveVolumeID() or "")
    if active is None or not active.IsA("vtkMRMLScalarVolumeNode") or active.IsA("vtkMRMLLabelMapVolumeNode"):
        return views.firstVolume()
    return active


class PackSection:
    """host: the module's widget, of which `logic`, `parameterNode`, `sitting`, `session` and `reporting` are used."""

    def __init__(self, ui, host) -> None:
        self.ui, self.host, self.packs = ui, host, []
        self._sha256: dict[object, str | None] = {}  # path of a listed pack → of its bytes, once it was asked for
        self._setUpTree(ui.packTree)
        ui.packTree.connect("itemSelectionChanged()", self.onSelected)
        self.fill()

    def _setUpTree(self, tree) -> None:
        tree.setColumnCount(4)
        tree.setHeaderLabels([_("Pack and targets"), _("Dice"), _("Image"), _("Licence")])
        header = tree.header()
        header.stretchLastSection = False
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(_NAME, qt.QHeaderView.Stretch)

    def fill(self) -> None:
        """List what is installed now."""
        with self.host.reporting(_("The packs could not be listed")):
            self.packs = catalogue.inOrder(self.host.logic.packs())
            self._sha256.clear()
        tree = self.ui.packTree
        tree.blockSignals(True)
        tree.clear()
        for pack in self.packs:
            tree.addTopLevelItem(self._item(pack.manifest))
        tree.blockSignals(False)
        self.show()

    def _item(self, manifest):
        """A pack, and its targets below it."""
        item = qt.QTreeWidgetItem()
        item.setText(_NAME, catalogue.name(manifest))
        item.setText(_DICE, catalogue.figure(catalogue.meanDice(manifest)))
        item.setText(_LICENCE, catalogue.licence(manifest))
        for target in manifest.targets:
            child = qt.QTreeWidgetItem()
            child.setText(_NAME, target.name)
            child.setText(_DICE, catalogue.figure(catalogue.dice(manifest, target.name)))
            item.addChild(child)
        return item

    @property
    def wanted(self) -> str:
        """Name of the pack in the scene, "" for any."""
        return self.host.parameterNode.pack if self.host.parameterNode else ""

    @property
    def volume(self):
        return self.host.parameterNode.inputVolume if self.host.parameterNode else None

    def chosen(self):
        """The wanted pack; if any will do, the first that suits the volume, best one made for just its kind of image.

        None where the wanted pack is not installed.
        """
        if self.wanted:
            return next((pack for pack in self.packs if pack.path.stem == self.wanted), None)
        fitting = [pack for pack in self.packs if not self.misfit(pack)]
        kind = catalogue.modalityOf(self.volume) if self.volume else ""
        fitting.sort(key=lambda pack: pack.manifest.modality != kind)
        return next(iter(fitting or self.packs), None)

    def misfit(self, pack) -> str:
        orientation = self.host.parameterNode.slices.value if self.host.parameterNode else ""
        return catalogue.misfit(pack.manifest, self.volume, orientation)

    def onSelected(self) -> None:
        """A pack, or one of its targets."""
        item = self.ui.packTree.currentItem()
        if item is None or not self.host.parameterNode:
            return
        pack = self.packs[self.ui.packTree.indexOfTopLevelItem(item.parent() or item)]
        if pack is not self.chosen():
            self.host.parameterNode.pack = pack.path.stem
        self.show()

    def show(self) -> None:
        """Which packs suit the volume, and what the chosen one is."""
        pack, tree = self.chosen(), self.ui.packTree
        warnings = [self.misfit(each) for each in self.packs]
        tree.blockSignals(True)
        for row, each in enumerate(self.packs):
            item = tree.topLevelItem(row)
            self._showItem(item, each, warnings[row])
            item.setExpanded(each is pack)
        tree.setCurrentItem(tree.topLevelItem(self.packs.index(pack)) if pack else None)
        tree.blockSignals(False)
        warning = warnings[self.packs.index(pack)] if pack else self.absent()
        warning = self.withVersion(warning)
        self.ui.packCardLabel.text = catalogue.card(pack.manifest) if pack else ""
        self.ui.packCardCollapsibleButton.enabled = bool(pack)
        self.ui.packWarningLabel.text = _WARNING + warning if warning else ""
        self.ui.packWarningLabel.visible = bool(warning)

    def _showItem(self, item, pack, warning: str) -> None:
        kind = catalogue.image(pack.manifest)
        item.setText(_IMAGE, _WARNING + kind if warning else kind)
        about = catalogue.card(pack.manifest) + (f"<br>{_WARNING}{escape(warning)}" if warning else "")
        for column in range(self.ui.packTree.columnCount):
            item.setToolTip(column, f"<b>{escape(catalogue.name(pack.manifest))}</b><br>{about}")

    @property
    def _successor(self):
        """The session's pack as it is listed, where that is another version than the session goes on with; else None.

        Also while another module is open, and nothing is chosen.
        """
        session, name = self.host.session, self.host.sitting.pack
        pack = next((pack for pack in self.packs if pack.path.stem == name), None)
        return pack if session is not None and pack is not None and self._isOther(pack, session) else None

    def _isOther(self, pack, session) -> bool:
        """By its bytes: weights may be others where all that is said of them is the same."""
        if pack.path not in self._sha256:
            self._sha256[pack.path] = packfile.packFile(pack).sha256
        found = self._sha256[pack.path], session.sha256
        return found[0] != found[1] if None not in found else pack.manifest != session.manifest

    @property
    def isOtherVersion(self) -> bool:
        """Whether the session goes on with another version of its pack than the one that is listed."""
        return self._successor is not None

    def otherVersion(self) -> str:
        """What to tell where that is so; else ""."""
        pack = self._successor
        if pack is None:
            return ""
        text = _(
            "What is open was begun with version {old} of this pack, which answers its points; the pack listed is"
            " another, version {new}: Segment again takes that, and your slices and prompts stay."
        )
        return text.format(old=self.host.session.manifest.version, new=pack.manifest.version)

    def withVersion(self, news: str) -> str:
        """News of a pack, and what they mean for the session."""
        return " ".join(filter(None, (news, self.otherVersion())))

    def absent(self) -> str:
        if not self.wanted:
            return _("No pack is installed; see Settings, Check installation.")
        return _("The pack {name} of this scene is not installed here; choose another one.").format(name=self.wanted)
