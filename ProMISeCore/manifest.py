"""What a pack says about itself: everything needed to use its weights rightly, or to refuse to."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ProMISeCore.errors import WeightsError

FORMAT = 1
ORIENTATIONS = ("axial", "sagittal", "coronal", "image")
CHANNELS = ("repeat", "neighbours")
PADDINGS = ("corner", "squeeze")
#: Keys that may be missing, and are where they say nothing: packs from before them stay as they are.
_OPTIONAL = ("smoothing_mm", "refiners", "overlaps")
MOST_SMOOTHING = 10  # mm
_LONGEST = 20_000  # characters of a text
LONGEST_WORD = 200
MOST_TARGETS = 64
_HUGE = 1e300
_SHORTENED = reprlib.Repr()
_SHORTENED.maxstring = _SHORTENED.maxlong = _SHORTENED.maxother = 60
_TRAINING = ("data", "cases", "licence", "command", "seconds")
_SCORE = ("data", "cases", "target", "dice", "iou")
#: kind → its settings with their least and largest value.
_APM = {
    "lite": {"count": (1, 256), "width": (8, 1024)},
    "resnet": {"count": (1, 256)},
    "cross": {"count": (1, 256)},
}
_IPS = {"pae": {"hidden": (1, 8192)}, "static": {}}


@dataclass(frozen=True)
class BackboneInfo:
    """The frozen SAM a pack was trained on. fingerprint: `Sam.fingerprint()`; side: S, frame pixels."""

    name: str
    fingerprint: str
    side: int


@dataclass(frozen=True)
class TargetInfo:
    """One thing that a pack segments. color: red, green, blue 0…1; terminology: Slicer's entry (`~SCT^…`) or "".

    apm: {"kind": "lite", "count", "width"} | {"kind": "resnet" | "cross", "count"} | None.
    ips: {"kind": "pae", "hidden"} | {"kind": "static"} | None. presence: {"width"} | None.
    point_labels: 1 foreground, 0 background, one per point of the APM; empty without an APM.
    """

    name: str
    color: Sequence[float] = (0.8, 0.3, 0.3)
    terminology: str = ""
    apm: Mapping[str, Any] | None = None
    ips: Mapping[str, Any] | None = None
    presence: Mapping[str, Any] | None = None
    point_labels: Sequence[int] = ()


@dataclass(frozen=True)
class Manifest:
    """A pack's description, checked when a pack is read or saved, and by `check()`. See docs/file-formats.md.

    window: {"mode": "percentile" | "fixed", "low", "high"} | {"mode": "bytes"}. opening: pixels, 0 for none.
    smoothing_mm: how far along the slice axis neighbouring slices have a say (a sigma, mm), 0 for not at all.
    refiners: {"width", "patch", "targets"} each, names of the targets that one redraws; a target has one or none.
    exclusive: targets never overlap, but for pairs of names in `overlaps`; see `rivals`.
    """

    name: str
    backbone: BackboneInfo
    targets: Sequence[TargetInfo]
    modality: str
    orientation: str
    window: Mapping[str, Any]
    format: int = FORMAT
    title: str = ""
    description: str = ""
    version: str = "1.0.0"
    licence: str = ""
    channels: str = "repeat"
    padding: str = "corner"
    threshold: float = 0.5
    presence_threshold: float = 0.5
    opening: int = 0
    largest_component: bool = False
    exclusive: bool = True
    intended_use: str = ""
    training: Mapping[str, Any] = field(
        default_factory=lambda: {"data": "", "cases": 0, "licence": "", "command": "", "seconds": 0}
    )
    scores: Sequence[Mapping[str, Any]] = ()
    smoothing_mm: float = 0.0
    refiners: Sequence[Mapping[str, Any]] = ()
    overlaps: Sequence[Sequence[str]] = ()

    @classmethod
    def of(cls, entries: Any, source: str = "the manifest") -> Manifest:
        """A manifest from parsed JSON. Raises WeightsError that names every problem."""
        problems = _Checker().manifest(entries)
        if problems:
            raise WeightsError(f"{source} cannot be used: {'; '.join(problems)}")
        backbone = BackboneInfo(**entries["backbone"])
        targets = tuple(
            TargetInfo(**target | {key: tuple(target[key]) for key in ("color", "point_labels")})
            for target in entries["targets"]
        )
        lists = {key: tuple(entries.get(key, ())) for key in ("scores", "refiners")}
        overlaps = tuple(map(tuple, entries.get("overlaps", ())))
        return cls(**entries | lists | {"backbone": backbone, "targets": targets, "overlaps": overlaps})

    def entries(self) -> dict[str, Any]:
        """As JSON takes it; `Manifest.of(m.entries())` is `m` again."""
        entries = asdict(self)
        for target in entries["targets"]:
            target["color"], target["point_labels"] = list(target["color"]), list(target["point_labels"])
        lists = {key: list(entries[key]) for key in ("targets", "scores", "refiners")}
        lists["overlaps"] = [list(pair) for pair in self.overlaps]
        return {key: value for key, value in (entries | lists).items() if value or key not in _OPTIONAL}

    def check(self, source: str = "the manifest") -> Manifest:
        """This manifest, as it reads back. Raises WeightsError that names every problem."""
        return Manifest.of(self.entries(), source)

    def rivals(self, target: str) -> tuple[str, ...]:
        """The targets that a target never overlaps: of their masks at a pixel the one with the highest logit stays.
        None of a name that is not a target's."""
        beside = {name for pair in self.overlaps if target in pair for name in pair}
        names = [info.name for info in self.targets]
        others = [name for name in names if name != target] if self.exclusive and target in names else []
        return tuple(name for name in others if name not in beside)


class _Checker:
    """Collects what is wrong with a manifest, in words for its author."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def manifest(self, entries: Any) -> list[str]:
        if not isinstance(entries, dict):
            return [f"it is {_kind(entries)}; expected an object"]
        version = entries.get("format")
        if _is_whole(version) and version > FORMAT:
            return [f"it has format {_short(version)}, this version knows {FORMAT}: update promise-slicer"]
        expected = [f.name for f in fields(Manifest) if f.name not in _OPTIONAL]
        if not self._keys("", entries, expected, _OPTIONAL):
            return self.problems
        self._that(version == FORMAT and _is_whole(version), "format", version, str(FORMAT))
        for key in ("title", "description", "licence", "intended_use"):
            self._text(key, entries[key])
        for key in ("version", "modality"):
            self._word(key, entries[key])
        name = entries["name"]
        self._that(_is_name(name), "name", name, "up to 64 letters, digits and . _ - that start with a letter or digit")
        for key, allowed in (("orientation", ORIENTATIONS), ("channels", CHANNELS), ("padding", PADDINGS)):
            self._that(_among(entries[key], allowed), key, entries[key], " or ".join(allowed))
        for key in ("largest_component", "exclusive"):
            self._that(isinstance(entries[key], bool), key, entries[key], "true or false")
        threshold = entries["threshold"]
        self._that(_is_number(threshold) and 0 < threshold < 1, "threshold", threshold, "a number between 0 and 1")
        self._number("presence_threshold", entries["presence_threshold"], 0, 1)
        self._whole("opening", entries["opening"], 0, 31)
        self._number("smoothing_mm", entries.get("smoothing_mm", 0), 0, MOST_SMOOTHING)
        self._backbone(entries["backbone"])
        self._window(entries["window"])
        self._targets(entries["targets"])
        self._refiners(entries.get("refiners", []), entries["targets"])
        self._overlaps(entries.get("overlaps", []), entries["targets"], entries["exclusive"])
        self._training(entries["training"])
        self._scores(entries["scores"])
        return self.problems

    def _backbone(self, entries: Any) -> None:
        if self._keys("backbone", entries, [f.name for f in fields(BackboneInfo)]):
            self._word("backbone.name", entries["name"], least=1)
            print_ = entries["fingerprint"]
            is_hash = isinstance(print_, str) and re.fullmatch("[0-9a-f]{64}", print_) is not None
            self._that(is_hash, "backbone.fingerprint", print_, "64 hexadecimal digits")
            side = entries["side"]
            fits = _is_whole(side) and 64 <= side <= 4096 and side % 16 == 0
            self._that(fits, "backbone.side", side, "a multiple of 16 from 64 to 4096")

    def _window(self, window: Any) -> None:
        mode = window.get("mode") if isinstance(window, dict) else None
        if mode == "bytes":
            self._keys("window", window, ["mode"])
        elif mode in ("percentile", "fixed"):
            if not self._keys("window", window, ["mode", "low", "high"]):
                return
            low, high = window["low"], window["high"]
            fits = _is_number(low) and _is_number(high) and low < high
            if mode == "percentile":
                fits = fits and low >= 0 and high <= 100
            self._that(fits, "window", [low, high], "low < high" + (" from 0 to 100" if mode == "percentile" else ""))
        else:
            self._that(False, "window", window, 'an object with "mode" percentile, fixed or bytes')

    def _targets(self, targets: Any) -> None:
        if not isinstance(targets, list) or not 1 <= len(targets) <= MOST_TARGETS:
            self._that(False, "targets", targets, f"a list of 1 to {MOST_TARGETS}")
            return
        for number, target in enumerate(targets):
            self._target(f"targets[{number}]", target)
        names = [
            target["name"] for target in targets if isinstance(target, dict) and isinstance(target.get("name"), str)
        ]
        doubled = sorted({name for name in names if names.count(name) > 1})
        self._that(not doubled, "targets", doubled, "a different name for each")

    def _target(self, place: str, target: Any) -> None:
        if not self._keys(place, target, [f.name for f in fields(TargetInfo)]):
            return
        self._word(f"{place}.name", target["name"], least=1)
        self._text(f"{place}.terminology", target["terminology"])
        color = target["color"]
        fits = isinstance(color, list) and len(color) == 3 and all(_is_number(c) and 0 <= c <= 1 for c in color)
        self._that(fits, f"{place}.color", color, "three numbers from 0 to 1")
        self._part(f"{place}.apm", target["apm"], _APM)
        self._part(f"{place}.ips", target["ips"], _IPS)
        presence = target["presence"]
        if presence is not None and self._keys(f"{place}.presence", presence, ["width"]):
            self._whole(f"{place}.presence.width", presence["width"], 1, 1024)
        labels, apm = target["point_labels"], target["apm"]
        count = apm.get("count") if isinstance(apm, dict) else 0
        fits = isinstance(labels, list) and len(labels) == count and all(_is_whole(x) and x in (0, 1) for x in labels)
        self._that(fits, f"{place}.point_labels", labels, f"{count} times 0 or 1, one per point of the APM")

    def _refiners(self, refiners: Any, targets: Any) -> None:
        if not isinstance(refiners, list):
            self._that(False, "refiners", refiners, "a list")
            return
        names = _names(targets)
        for number, refiner in enumerate(refiners):
            place = f"refiners[{number}]"
            if not self._keys(place, refiner, ["width", "patch", "targets"]):
                continue
            self._wide(f"{place}.width", refiner["width"], 8, 256)
            self._that(
                _is_whole(refiner["patch"]) and refiner["patch"] in (1, 2), f"{place}.patch", refiner["patch"], "1 or 2"
            )
            served = refiner["targets"]
            fits = isinstance(served, list) and len(served) > 0
            fits = fits and all(name in names and served.count(name) == 1 for name in served)
            self._that(fits, f"{place}.targets", served, "names of targets, each in one refiner")
            names = [name for name in names if not fits or name not in served]

    def _overlaps(self, overlaps: Any, targets: Any, exclusive: Any) -> None:
        if not isinstance(overlaps, list):
            self._that(False, "overlaps", overlaps, "a list")
            return
        self._that(exclusive is True or not overlaps, "overlaps", overlaps, "none where exclusive is false")
        names = _names(targets)
        for number, pair in enumerate(overlaps):
            fits = isinstance(pair, list) and len(pair) == 2 and pair[0] != pair[1]
            fits = fits and all(name in names for name in pair)
            self._that(fits, f"overlaps[{number}]", pair, "names of two targets")

    def _part(self, place: str, part: Any, kinds: Mapping[str, Mapping[str, tuple[int, int]]]) -> None:
        if part is None:
            return
        kind = part.get("kind") if isinstance(part, dict) else None
        if not _among(kind, tuple(kinds)):
            self._that(False, place, part, f'null, or an object with "kind" {" or ".join(kinds)}')
        elif self._keys(place, part, ["kind", *kinds[kind]]):
            for key, (least, most) in kinds[kind].items():
                check = self._wide if key == "width" else self._whole
                check(f"{place}.{key}", part[key], least, most)

    def _training(self, training: Any) -> None:
        if self._keys("training", training, _TRAINING):
            for key in ("data", "licence", "command"):
                self._text(f"training.{key}", training[key])
            self._whole("training.cases", training["cases"], 0, 10**9)
            self._number("training.seconds", training["seconds"], 0, 1e9)

    def _scores(self, scores: Any) -> None:
        if not isinstance(scores, list):
            self._that(False, "scores", scores, "a list")
            return
        for number, score in enumerate(scores):
            place = f"scores[{number}]"
            if self._keys(place, score, _SCORE):
                self._text(f"{place}.data", score["data"])
                self._text(f"{place}.target", score["target"])
                self._whole(f"{place}.cases", score["cases"], 0, 10**9)
                self._number(f"{place}.dice", score["dice"], 0, 1)
                self._number(f"{place}.iou", score["iou"], 0, 1)

    def _keys(self, place: str, entries: Any, expected: Sequence[str], optional: Sequence[str] = ()) -> bool:
        """Whether it is an object with exactly these keys, and at most the optional ones."""
        if not isinstance(entries, dict):
            self._that(False, place, entries, "an object")
            return False
        missing = [key for key in expected if key not in entries]
        unknown = [key for key in entries if key not in (*expected, *optional)]
        where = f" of {place}" if place else ""
        if missing:
            self.problems.append(f"keys{where} are missing: {', '.join(missing)}")
        if unknown:
            self.problems.append(f"keys{where} are unknown: {', '.join(map(_short, unknown[:8]))}")
        return not missing and not unknown

    def _text(self, place: str, value: Any) -> None:
        """Nothing that moves a terminal's cursor or cannot be written to a file."""
        fits = isinstance(value, str) and len(value) <= _LONGEST and value.replace("\n", "").isprintable()
        self._that(fits, place, value, f"0 to {_LONGEST} printable characters")

    def _word(self, place: str, value: Any, least: int = 0) -> None:
        """A name: it stands in a line, such as of a table or an error."""
        fits = is_word(value) and len(value) >= least
        self._that(fits, place, value, f"{least} to {LONGEST_WORD} printable characters in one line")

    def _whole(self, place: str, value: Any, least: int, most: int) -> None:
        self._that(_is_whole(value) and least <= value <= most, place, value, f"a whole number from {least} to {most}")

    def _wide(self, place: str, value: Any, least: int, most: int) -> None:
        """Channels, in groups of 8 for their norm."""
        self._whole(place, value, least, most)
        if _is_whole(value):
            self._that(value % 8 == 0, place, value, "a multiple of 8")

    def _number(self, place: str, value: Any, least: float, most: float) -> None:
        self._that(_is_number(value) and least <= value <= most, place, value, f"a number from {least} to {most}")

    def _that(self, fits: bool, place: str, given: Any, expected: str) -> None:
        if not fits:
            self.problems.append(f"{place} is {_short(given)}, expected {expected}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """Finite; an integer too long for a float is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_HUGE < value < _HUGE


def is_word(value: Any) -> bool:
    """Whether it can stand in a line, such as of a table or an error."""
    return isinstance(value, str) and len(value) <= LONGEST_WORD and value.isprintable()


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value) is not None


def _among(value: Any, allowed: Sequence[str]) -> bool:
    return isinstance(value, str) and value in allowed


def _short(value: Any) -> str:
    return _SHORTENED.repr(value)


def _names(targets: Any) -> list[Any]:
    """Of what shall be a list of targets."""
    return [target.get("name") for target in targets if isinstance(target, dict)] if isinstance(targets, list) else []


def _kind(value: Any) -> str:
    return {list: "a list", str: "text", type(None): "null"}.get(type(value), "a number")
