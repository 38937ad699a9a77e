"""What a file of weights could hold that is no weights."""

from __future__ import annotations

import os
from pathlib import Path


class Hostile:
    """Unpickled, it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)
