"""What a child process that teaches has said so far, from its JSON lines (docs/teach.md). No Qt, no MRML."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Look(NamedTuple):
    """The pack at one moment: seconds of training, mean loss, held-out Dice by target; None for what is no number."""

    step: int
    elapsed: float
    loss: float | None
    dice: Mapping[str, float | None]

    @property
    def meanDice(self) -> float | None:
        """Over the targets that have one."""
        return _mean(self.dice.values())


class Course:
    """Fed line by line. A line that is no event is passed over: libraries print to stdout now and then.

    reading: what of the cases is read, as in `checking`; read, encoded: how many, of how many; report: of `checked`;
    result: the event `done`; failure: the message of `failed`; notices: all of them; notice: the newest one, until it
    was told; picture: path of the newest one.
    """

    def __init__(self) -> None:
        self.report: Mapping[str, Any] | None = None
        self.result: Mapping[str, Any] | None = None
        self.looks: list[Look] = []
        self.suspicious: list[Mapping[str, Any]] = []
        self.notices: list[str] = []
        self.failure = self.notice = self.picture = self.reading = ""
        self.isPaused, self.read, self.encoded, self.share = False, (0, 0), (0, 0), 0.0
        self.secondsLeft: float | None = None

    @property
    def colours(self) -> dict[str, list[float]]:
        """Target → red, green, blue 0…1, as in the pictures."""
        found = (self.report or {}).get("targets", ())
        return {target["name"]: target["color"] for target in found if target.get("color")}

    @property
    def isEncoded(self) -> bool:
        """Whether the child at work has all views: before, nothing becomes a pack where it is stopped."""
        return 0 < self.encoded[1] <= self.encoded[0]

    def note(self, text: str) -> None:
        """What the user is to be told, once however often it is said."""
        self.notice = text
        self.notices += [text] * (text not in self.notices)

    def take(self, line: str | bytes) -> str:
        """The kind of event that this line was, "" for none."""
        event = _event(line)
        if event is None:
            return ""
        if "seconds_left" in event:
            self.secondsLeft = number(event["seconds_left"])
        handle = getattr(self, "_take" + event["event"].capitalize(), None)
        if handle is not None:
            handle(event)
        return event["event"]

    def _takeChecking(self, event: Mapping[str, Any]) -> None:
        self.reading, self.read = str(event.get("what") or ""), _doneOf(event)

    def _takeChecked(self, event: Mapping[str, Any]) -> None:
        self.report = event.get("report") or {}

    def _takeEncoding(self, event: Mapping[str, Any]) -> None:
        self.encoded = _doneOf(event)

    def _takeLook(self, event: Mapping[str, Any]) -> None:
        step, elapsed = number(event.get("step")) or 0, number(event.get("elapsed")) or 0.0
        self.share = number(event.get("share")) or 0.0
        dice = {str(name): number(value) for name, value in (event.get("dice") or {}).items()}
        loss = _mean(number(value) for value in (event.get("loss") or {}).values())
        self.looks = [look for look in self.looks if look.step < step]  # after a crash, steps are taken again
        self.looks.append(Look(int(step), elapsed, loss, dice))

    def _takePicture(self, event: Mapping[str, Any]) -> None:
        self.picture = str(event.get("path") or "")

    def _takeSuspicious(self, event: Mapping[str, Any]) -> None:
        key = (event.get("case"), event.get("target"))
        self.suspicious = [each for each in self.suspicious if (each.get("case"), each.get("target")) != key]
        self.suspicious.append(event)

    def _takeNotice(self, event: Mapping[str, Any]) -> None:
        self.note(str(event.get("message") or ""))

    def _takePaused(self, event: Mapping[str, Any]) -> None:
        self.isPaused = True

    def _takeResumed(self, event: Mapping[str, Any]) -> None:
        self.isPaused = False

    def _takeDone(self, event: Mapping[str, Any]) -> None:
        self.result = event

    def _takeFailed(self, event: Mapping[str, Any]) -> None:
        self.failure = str(event.get("message") or "it gave no reason")


def number(value) -> float | None:
    """A finite number, or None: a child may say null or NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _doneOf(event: Mapping[str, Any]) -> tuple[int, int]:
    return int(number(event.get("done")) or 0), int(number(event.get("total")) or 0)


def _mean(values) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _event(line: str | bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:  # bytes that are no UTF-8, too
        return None
    return found if isinstance(found, dict) and isinstance(found.get("event"), str) else None
