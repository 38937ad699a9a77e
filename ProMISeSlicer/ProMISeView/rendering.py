"""Whether VTK can draw here, and how. Without OpenGL libraries it ends the process, hence another one tries first."""

from __future__ import annotations

import os
import subprocess
import sys

WINDOW = "vtkEGLRenderWindow"  # draws without a display
_PROBE = (
    "import vtkmodules.vtkRenderingOpenGL2, vtkmodules.vtkRenderingCore as core\n"
    "window = core.vtkRenderWindow(); window.OffScreenRenderingOn(); window.AddRenderer(core.vtkRenderer())\n"
    "window.Render()"
)
_SECONDS = 60
REMEDY = (
    "install OpenGL's software libraries; on Debian and Ubuntu: sudo apt-get install libegl1 libgl1 libgl1-mesa-dri; "
    "on Fedora: sudo dnf install mesa-libEGL mesa-libGL mesa-dri-drivers"
)


def prepare() -> None:
    """What has to be set before VTK and PyTorch are imported; a choice of the user's stays.

    On Linux, windows that need no display. Computing threads that wait for each other do not keep a core busy: it is
    the one that the views are drawn on.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.platform.startswith("linux"):
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", WINDOW)


def whyNot(command: tuple[str, ...] = (sys.executable, "-c", _PROBE)) -> str:
    """What keeps VTK from drawing and what to install, or "". command: what tries it, in another process."""
    prepare()
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return f"drawing a picture took more than {_SECONDS} s; {REMEDY}"
    if done.returncode == 0:
        return ""
    said = done.stderr.strip().splitlines()
    reason = said[-1] if said else f"the attempt ended with {done.returncode}"
    return f"VTK cannot draw on this machine ({reason}); {REMEDY}"
