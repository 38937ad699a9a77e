"""What the slice views show: the volume that a person chooses, and one of them the slices of it in their own planes.

While none does, the buttons for the slice on screen say so, and the button Align views is there.
"""

from __future__ import annotations

from slicer.i18n import tr as _

from . import views

_OF_A_SLICE = ("delete", "propagate", "lock", "release")


class Alignment:
    """host: the module's widget, of which `session`, `logic`, `correction` and `reporting` are used."""

    def __init__(self, ui, host) -> None:
        self.ui, self.host, self._told = ui, host, ""
        buttons = [getattr(ui, name + "Button") for name in _OF_A_SLICE]
        self._toolTips = [(button, button.toolTip) for button in buttons]
        ui.alignButton.visible = False
        ui.alignButton.connect("clicked(bool)", self.onAlign)
        ui.inputVolumeSelector.connect("nodeActivated(vtkMRMLNode*)", self.onVolumeChosen)  # by a person only

    @property
    def reason(self) -> str:
        """Why nothing can be done with the slice on screen."""
        text = _("No slice view lies in the planes of {name}'s slices; each cuts through several. Align views first.")
        return text.format(name=self.host.session.volumeNode.GetName())

    def show(self, isMissing: bool) -> None:
        """isMissing: there are slices, and no view is parallel to them."""
        reason = self.reason if isMissing else ""
        if reason != self._told:
            self._told, self.ui.alignButton.visible = reason, isMissing
            for button, toolTip in self._toolTips:
                button.toolTip = reason or toolTip
            self.host.correction.updateButtons()

    def onVolumeChosen(self, volumeNode) -> None:
        """As Segment Editor does with its source volume; views that show it already stay as they are."""
        if volumeNode is not None and not views.isShown(volumeNode):
            views.show(volumeNode)

    def bring(self) -> None:
        """The volume of the session to the views, and one that is tilted against its slices to their planes."""
        self.onVolumeChosen(self.host.session.volumeNode)
        self.host.logic.alignViews(self.host.session)

    def onAlign(self) -> None:
        with self.host.reporting(_("The views could not be aligned")):
            self.onVolumeChosen(self.host.session.volumeNode)
            self.host.logic.alignViews(self.host.session, evenAcross=True)
            self.host.review.onSliceShown()
