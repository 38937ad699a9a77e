"""How long steps last, where the computer may have slept during one."""

from __future__ import annotations

_SLEPT_STEP, _SLEPT_LOOK = (10.0, 10), (60.0, 50)  # longer than so many seconds and usual steps: the computer slept
_MOST_SLEPT = 2  # times in a row: what lasts is no sleep, but a computer that has become slow


class Stopwatch:
    """Knows how long a step usually takes."""

    def __init__(self) -> None:
        self._usual = 0.0  # seconds of a step
        self._slept = {True: 0, False: 0}  # steps, and what is between them, in a row

    def lasted(self, seconds: float, is_step: bool = True) -> float:
        """Seconds of a step, or of what is between steps: a step's usual time where the computer has slept."""
        least, steps = _SLEPT_STEP if is_step else _SLEPT_LOOK
        slept = bool(self._usual) and seconds > max(least, steps * self._usual)
        self._slept[is_step] = self._slept[is_step] + 1 if slept else 0
        if 0 < self._slept[is_step] <= _MOST_SLEPT:
            return self._usual
        if is_step:
            self._usual = seconds if not self._usual else 0.9 * self._usual + 0.1 * seconds
        return seconds
