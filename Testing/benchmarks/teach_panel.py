"""The pictures of docs/teach-in-slicer.md: the section Teach during and after a real teaching on generated hearts.

    python Testing/benchmarks/teach_panel.py [--out docs/pictures] [--minutes 3]

The panel is drawn by Qt widgets that stand in for Slicer's; the child process, the curve and the pack are real.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT, ROOT / "Testing" / "slicer_module"):
    sys.path.insert(0, str(folder))

TARGETS = ("left ventricle", "myocardium")
CASES = 3
_DARK = {"Window": 0x2B2B2B, "Base": 0x1E1E1E, "AlternateBase": 0x262626, "Button": 0x3A3A3A}


def hearts() -> list[tuple]:
    """Volume and masks of a few hearts: the phantom, moved and of other contrast each time."""
    from ProMISeCore import phantom

    volume, masks = phantom.heart(), phantom.heart_masks()
    made = []
    for number in range(CASES):
        shift = (9 * number, -7 * number)
        voxels = np.roll(volume.voxels.astype(float), shift, (1, 2)) * (1 - 0.15 * number)
        moved = {name: np.roll(masks[name], shift, (1, 2)) for name in TARGETS}
        made.append((voxels.astype(np.int16), volume.affine, moved))
    return made


def fill_scene() -> None:
    import slicer
    from ProMISeSlicerLib import mrml

    for number, (voxels, affine, masks) in enumerate(hearts(), 1):
        node = slicer.util.addVolumeFromArray(voxels, affine, f"Heart {number}")
        segmentation = mrml.createSegmentation(node, f"Heart {number} by hand").GetSegmentation()
        for (name, mask), colour in zip(masks.items(), ((0.9, 0.2, 0.2), (0.2, 0.5, 0.9)), strict=True):
            id_ = segmentation.AddEmptySegment("", name, colour)
            node_ = slicer.util.getNode(f"Heart {number} by hand")
            slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node_, id_, node)


def make_dark(qt, application) -> None:
    palette = qt.QPalette()
    for role, colour in _DARK.items():
        palette.setColor(getattr(qt.QPalette, role), qt.QColor(colour))
    for role in ("WindowText", "Text", "ButtonText", "PlaceholderText", "ToolTipText"):
        palette.setColor(getattr(qt.QPalette, role), qt.QColor(0xDDDDDD))
    for role in ("Text", "ButtonText", "WindowText"):
        palette.setColor(qt.QPalette.Disabled, getattr(qt.QPalette, role), qt.QColor(0x777777))
    application.setPalette(palette)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--minutes", type=int, default=3)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    with tempfile.TemporaryDirectory() as home:
        os.environ["PROMISE_HOME"] = home
        record(arguments.out, arguments.minutes, Path(home))


def record(out: Path, minutes: int, home: Path) -> None:
    import slicer_double

    with slicer_double.running(ROOT / "ProMISeSlicer" / "ProMISeSlicer.py", home / "settings") as module:
        import qt
        import slicer
        from slicer_double import pythonqt

        application = pythonqt.application()
        application.setStyle("Fusion")
        light = application.palette()
        fill_scene()
        parent = slicer.qMRMLWidget()
        parent.setLayout(qt.QVBoxLayout())
        parent.setMRMLScene(slicer.mrmlScene)
        widget = module.ProMISeSlicerWidget(parent)
        widget.setup()
        widget.enter()
        for name in ("segment", "prompts", "review"):
            getattr(widget.ui, f"{name}CollapsibleButton").collapsed = True
        parent.resize(460, 900)
        parent.show()
        widget.ui.teachCollapsibleButton.collapsed = False
        widget.ui.teachNameEdit.text = "Left heart"
        widget.ui.teachMinutesSpinBox.value = minutes

        def wait(until, seconds: float = 1800) -> None:
            end = time.monotonic() + seconds
            while not until() and time.monotonic() < end:
                slicer.app.processEvents()
                time.sleep(0.01)

        widget.ui.teachButton.click()
        teach = widget.teach
        wait(lambda: not teach.isRunning or teach.tuition.course.share > 0.6)
        make_dark(qt, application)
        wait(lambda: False, 0.5)
        teach.onNews()
        wait(lambda: False, 0.5)
        parent.resize(460, 1300)  # by now there is a curve and a picture
        wait(lambda: False, 0.5)
        parent.grab().save(str(out / "teach-dark.png"))
        application.setPalette(light)
        wait(lambda: not teach.isRunning)
        widget.ui.ownPacksCollapsibleButton.collapsed = False
        wait(lambda: False, 0.5)
        parent.grab().save(str(out / "teach.jpg"))
        print(widget.ui.statusLabel.text)
        for look in teach.tuition.course.looks:
            print(look)
        widget.cleanup()


if __name__ == "__main__":
    main()
