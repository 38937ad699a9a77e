"""The button Align views, and what the buttons for the slice on screen say while no view shows one slice only."""

from __future__ import annotations

from slicer.i18n import tr as _

from . import views

_OF_A_SLICE = ("delete", "propagate", "lock", "release")


class Alignment:
    """host: the module's widget, of which `session`, `logic`, `correction` and `reporting` are used."""

    def __init__(self, ui, host) -> None:
        self.ui, self.host, self.isMissing = ui, host, False
        buttons = [getattr(ui, name + "Button") for name in _OF_A_SLICE]
        self._toolTips = [(button, button.toolTip) for button in buttons]
        ui.alignButton.visible = False
        ui.alignButton.connect("clicked(bool)", self.onAlign)

    @property
    def reason(self) -> str:
        """Why nothing can be done with the slice on screen."""
        text = _("No slice view lies in the planes of {name}'s slices; each cuts through several. Align views first.")
        return text.format(name=self.host.session.volumeNode.GetName())

    def show(self, isMissing: bool) -> None:
        """isMissing: there are slices, and no view is parallel to them."""
        was, self.isMissing = self.isMissing, isMissing
        if was != isMissing:
            self.ui.alignButton.visible = isMissing
            for button, toolTip in self._toolTips:
                button.toolTip = self.reason if isMissing else toolTip
            self.host.correction.updateButtons()

    def bring(self) -> None:
        """The volume of the session to the views, where none shows it, and one of them to the planes of its slices."""
        session = self.host.session
        if not views.isShown(session.volumeNode):
            views.show(session.volumeNode)
        self.host.logic.alignViews(session)

    def onAlign(self) -> None:
        with self.host.reporting(_("The views could not be aligned")):
            self.bring()
            self.host.review.onSliceShown()
