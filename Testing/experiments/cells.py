"""The cells of an experiment's grid, one JSON file each: a rerun computes only those that are not there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ProMISeCore.errors import InputError
from ProMISeCore.terminal import say
from ProMISeCore.whole_file import check_folder, replacing


class Cells:
    """Results by key in a folder. settings: what all of them share; results of other settings are refused.

    Raises InputError where the folder cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder, json.loads(json.dumps(settings))
        check_folder(folder)

    def get(self, key: str) -> dict[str, Any] | None:
        """A cell's result; None where it has not been computed. Raises InputError for a file of other settings."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            cell = json.loads(path.read_text(encoding="utf-8"))
            settings, result = cell["settings"], cell["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no cell of an experiment ({error}); remove it to compute it again") from error
        if settings != self.settings:
            other = sorted(k for k in {*settings, *self.settings} if settings.get(k) != self.settings.get(k))
            raise InputError(f"{path} was computed with another {', '.join(other)}; use another --workspace")
        return result

    def run(self, key: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """A cell's result, computed and kept unless it is there."""
        found = self.get(key)
        if found is not None:
            return found
        started, cpu = time.monotonic(), time.process_time()
        result = dict(compute())
        cost = {"seconds": round(time.monotonic() - started, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
        with replacing(self._path(key)) as part:
            cell = {"key": key, "settings": self.settings, "result": result, "cost": cost}
            part.write_text(json.dumps(cell) + "\n", encoding="utf-8")
        say(f"{key}: {result.get('summary', 'done')} in {cost['seconds']:.0f} s")
        return result

    @staticmethod
    def all(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Settings and results by key of a folder. Raises InputError where there are none, or of other settings."""
        keys = sorted(path.stem for path in folder.glob("*.json"))
        if not keys:
            raise InputError(f"there are no cells in {folder}; compute them with --data")
        settings = json.loads((folder / f"{keys[0]}.json").read_text(encoding="utf-8"))["settings"]
        cells = Cells(folder, settings)
        return settings, {key: cells.get(key) for key in keys}

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"
