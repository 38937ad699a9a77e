"""The curve of a teaching."""

from __future__ import annotations

from scene_cases import settle


def test_the_curve_does_not_keep_the_panel_wide(school) -> None:
    import slicer

    panel = school()
    top = panel.widget.parent
    top.resize(900, 900)
    top.show()
    panel.click("teachButton")
    settle(panel)
    slicer.app.processEvents()
    label = panel.ui.teachCurveLabel
    label.visible = True
    panel.widget.teach.view.show(panel.widget.teach.tuition)
    slicer.app.processEvents()
    wide = label.width
    top.resize(500, 900)
    slicer.app.processEvents()
    assert wide > 700 and label.width < 500 and top.width == 500
    panel.widget.teach.view.show(panel.widget.teach.tuition)
    assert label.pixmap.width() == round(label.width * label.devicePixelRatioF()), "painted anew at that width"


def test_the_curve_is_where_the_figures_are(module) -> None:
    """Dice 1 on the upper line, 0.5 in the middle, in the target's colour; a gap where it is not known."""
    import qt
    from ProMISeSlicerLib.course import Look
    from ProMISeSlicerLib.curve import Curve

    label = qt.QLabel()
    label.setFixedSize(342, 142)  # 300 × 100 for the curve itself
    dice = [1.0, 1.0, None, 0.5, 0.5]
    Curve(label).show([Look(n, float(n), None, {"a": value}) for n, value in enumerate(dice)], {"a": (0.2, 0.6, 1.0)})
    picture = label.pixmap.toImage()

    def isLine(seconds: float, value: float) -> bool:
        colour = picture.pixelColor(round(34 + 75 * seconds), round(122 - 100 * value))
        return max(abs(a - b) for a, b in zip(colour.getRgb()[:3], (51, 153, 255), strict=True)) < 40

    assert isLine(0.5, 1.0) and isLine(3.5, 0.5)
    assert not isLine(0.5, 0.5) and not isLine(2.5, 0.75) and not isLine(1.5, 1.0)
