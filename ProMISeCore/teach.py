"""`promise teach`: a pack from a few segmented cases, in minutes, for people and for programs (docs/teach.md)."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ProMISeCore import backbones, learned, packs, versions
from ProMISeCore.case import Case
from ProMISeCore.commands import Commands
from ProMISeCore.errors import Cancelled, InputError, PromiseError
from ProMISeCore.settings import PASSES
from ProMISeCore.survey import Survey
from ProMISeCore.survey_report import SurveyReport
from ProMISeCore.terminal import duration, progress, say, table
from ProMISeCore.truth import RULES
from ProMISeCore.volumes import AXES
from ProMISeCore.windows import parsed
from ProMISeCore.wish import Wish

_TOLD_EVERY = 0.2  # seconds
_MOST_PASSES = 100_000  # which no minutes are enough for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `promise teach`."""
    parser.add_argument("--images", nargs="+", required=True, metavar="PATH", help="folders, patterns or files")
    parser.add_argument("--labels", nargs="+", metavar="PATH", help="likewise; default: beside the images")
    parser.add_argument("--name", required=True, help="the pack's name")
    parser.add_argument("--targets", nargs="+", metavar="NAME[=VALUE]", help="segments to learn; default: all")
    parser.add_argument("--backbone", default="tiny", help="name or file (default: %(default)s)")
    parser.add_argument("--side", type=int, help="frame side, a multiple of 16: larger sees finer detail and is slower")
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="time at most, for all of it (default: %(default)s)"
    )
    parser.add_argument("--passes", type=float, default=PASSES, help="of every slice at most (default: %(default)g)")
    parser.add_argument("--steps", type=int, help="instead of --minutes: a budget that can be repeated exactly")
    parser.add_argument("--held-out", nargs="+", metavar="CASE", help="cases not learned from, their share, or none")
    parser.add_argument(
        "--judge-only", action="store_true", help="held-out cases are not learned from in the end either"
    )
    parser.add_argument("--base", metavar="PACK", help="go on from this pack")
    parser.add_argument("--drop", nargs="+", default=[], metavar="NAME", help="its targets that are not to be kept")
    parser.add_argument("--start", default="auto", metavar="PACK", help="auto, none, or a pack to begin from")
    parser.add_argument("--unlabelled-slices", choices=RULES, default="auto", help="default: %(default)s")
    parser.add_argument("--orientation", choices=AXES, help="of volumes' slices; default: proposed")
    parser.add_argument("--window", metavar="MODE[:LOW:HIGH]", help="percentile:0.5:99.5, fixed:-160:240 or bytes")
    parser.add_argument("--channels", choices=("repeat", "neighbours"))
    parser.add_argument("--slices", type=int, help="of every case at most (default: what the time allows)")
    parser.add_argument("--views", type=int, help="of every slice (default: what the time allows)")
    parser.add_argument("--batch", type=int, default=12, help="slices in a step (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate (default: %(default)s)")
    parser.add_argument("--every", type=int, default=50, help="steps between looks, with --steps")
    parser.add_argument("--workspace", type=Path, metavar="DIR", help="cached views, checkpoints; default: by name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--check", action="store_true", help="say what was found and what it will take, and stop")
    parser.add_argument("--events", action="store_true", help="JSON lines on stdout, commands on stdin")


def run(arguments: argparse.Namespace) -> None:
    """Check, and teach. With --events every failure is told there, too."""
    teller = Events() if arguments.events else Words()
    try:
        _run(arguments, teller)
    except (PromiseError, OSError, MemoryError) as error:
        teller.tell("failed", message=" ".join(str(error).split()) or "there is not enough memory")
        raise


def _run(arguments: argparse.Namespace, teller: Events | Words) -> None:
    if sys.platform == "win32":  # where a read that waits on a pipe may block the loading of libraries
        import torch  # noqa: F401
    commands = Commands(0 if arguments.events else None, teller.tell)  # from the beginning: a check may take long, too
    base = None if arguments.base is None else packs.find(arguments.base)
    wish = _wish(arguments)
    if base is None and wish.dropped:
        raise InputError("--drop is of the targets of a pack to go on from; give that as --base, or leave --drop out")
    folder = packs.workspaces() / wish.name if arguments.workspace is None else arguments.workspace
    if base is not None:
        wish = _going_on(wish, base, folder)
    starts = _starts(arguments.start, arguments.backbone)
    survey = Survey(arguments.images, arguments.labels, wish, partial(_counted, teller, commands, arguments.check))
    survey.check_workspace(folder)
    if arguments.check or arguments.events:
        report = SurveyReport(survey, folder)
        teller.tell("checked", report=report.entries(), text=report.text())
    if arguments.check:
        if not survey.ready:
            raise InputError(survey.why_not)
        return
    from ProMISeCore.settings import Settings
    from ProMISeCore.teaching import Order, Teaching

    settings = Settings(
        steps=arguments.steps or Settings.steps,
        minutes=wish.minutes,
        passes=arguments.passes,
        batch=arguments.batch,
        rate=arguments.rate,
        every=arguments.every,
        patience=None,
        seed=wish.seed,
    )
    budget = f"--minutes {wish.minutes:g}" if wish.minutes else f"--steps {settings.steps}"
    if wish.minutes and arguments.passes != PASSES:
        budget += f" --passes {arguments.passes:g}"
    order = Order(
        folder,
        settings,
        arguments.device,
        base,
        starts,
        f"promise teach --seed {wish.seed} {budget}",
    )
    Teaching(survey, order, teller.tell, commands).run()


def _counted(
    teller: Events | Words, commands: Commands, is_check: bool, cases: Sequence[Case], what: str
) -> Iterator[Case]:
    """The cases, while somebody sees how far reading is. Raises Cancelled where that is asked for, KeyboardInterrupt
    where the asking program has gone; a check still ends with its report, as for a script without a stdin."""
    for case in teller.counted(cases, what):
        if commands.stop() and not commands.gone:
            raise Cancelled("stopped while the cases were read: nothing was learned yet")
        if commands.gone and not is_check:
            raise KeyboardInterrupt
        yield case


def _wish(arguments: argparse.Namespace) -> Wish:
    """Refuse what cannot be meant before anything is read."""
    for name in ("slices", "views", "steps", "batch", "every"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}; expected 1 or more")
    if not 0 <= arguments.seed < 2**32:
        raise InputError(f"--seed is {arguments.seed}; expected a whole number from 0 to {2**32 - 1}")
    if not 0 < arguments.minutes < 10_000 or not 0 < arguments.rate < 1:
        raise InputError(
            f"--minutes is {arguments.minutes:g}, --rate {arguments.rate:g}; expected more than 0 minutes, 0 < rate < 1"
        )
    if not 0 < arguments.passes <= _MOST_PASSES:
        raise InputError(f"--passes is {arguments.passes:g}; expected more than 0, at most {_MOST_PASSES}")
    if not (arguments.check and arguments.backbone in backbones.TABLE):  # which the check warns of
        backbones.find(arguments.backbone)
    if arguments.side is not None:
        backbones.checked_side(arguments.side)
    return Wish(
        name=versions.checked_name(arguments.name),
        targets=None if arguments.targets is None else _targets(arguments.targets),
        backbone=arguments.backbone,
        side=arguments.side,
        minutes=None if arguments.steps else arguments.minutes,
        held_out=_held_out(arguments.held_out),
        orientation=arguments.orientation,
        window=None if arguments.window is None else parsed(arguments.window),
        channels=arguments.channels,
        unlabelled=arguments.unlabelled_slices,
        slices=arguments.slices,
        views=arguments.views,
        seed=arguments.seed,
        judge_only=arguments.judge_only,
        dropped=tuple(dict.fromkeys(name.strip() for name in arguments.drop)),
    )


def _going_on(wish: Wish, base: Path, workspace: Path) -> Wish:
    """With what the pack to go on from says. What it has learned from may stand in its own workspace, too."""
    own = packs.workspaces() / versions.name_of(base)
    seen = frozenset().union(*(learned.by(base, place) for place in {workspace, own}))
    return replace(wish.as_seen_by(packs.read_manifest(base)), seen=seen)


def _targets(given: list[str]) -> dict[str, int | None]:
    """Name → value. "label 3" is what the report calls a label map's value; "NAME=" is a name that ends like LV=3."""
    found: dict[str, int | None] = {}
    for entry in given:
        name, equals, value = entry.rpartition("=")
        if equals and (value.isdecimal() or not value):
            number = int(value) if value else None
        else:
            name, numbered = entry, re.fullmatch(r"label (-?\d+)", entry.strip())
            number = int(numbered[1]) if numbered else None
        name = name.strip()
        is_again = name in found and (number is None) == (found[name] is None)  # LV and LV=3 are one
        if not name or is_again or number == 0:
            raise InputError(f"--targets got {entry!r}; give names of segments, with values for label maps: LV=3")
        found[name] = found.get(name) if number is None else number
    return found


def _held_out(given: list[str] | None) -> list[str] | float | None:
    """Names of cases, none, or a share: cases are called 001, too."""
    if given is None or given == ["none"]:
        return None if given is None else []
    try:
        share = float(given[0])
    except ValueError:
        return given
    return share if len(given) == 1 and 0 < share < 1 else given


def _starts(name: str, backbone: str) -> list[packs.Pack]:
    """Packs to begin from; of themselves only embedded ones, as the user's may have learned from held-out cases."""
    if name == "none":
        return []
    if name == "auto":
        return packs.embedded()
    pack = packs.read(packs.find(name))
    theirs = pack.manifest.backbone.name
    if theirs != backbone and {theirs, backbone} <= {*backbones.TABLE}:
        raise InputError(f"the backbone is {backbone}, the pack of --start was taught on {theirs}: choose that")
    return [pack]


class Events:
    """One JSON object per line on stdout."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def counted(self, cases: Sequence[Case], what: str) -> Iterator[Case]:
        """Each case; now and then, how many came before it."""
        told = -math.inf
        for done, case in enumerate(cases):
            if time.monotonic() - told >= _TOLD_EVERY:
                told = time.monotonic()
                self.tell("checking", what=what, done=done, total=len(cases))
            yield case

    def tell(self, event: str, **values: Any) -> None:
        """values: JSON; text: for people, not told."""
        values.pop("text", None)
        line = {"event": event, "seconds": round(time.monotonic() - self._start, 3), **values}
        try:
            sys.stdout.buffer.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # nobody listens any more; the end of stdin tells when to stop
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for the rest of the process)


class Words:
    """The same for people: results on stdout, the rest on stderr."""

    def counted(self, cases: Sequence[Case], what: str) -> Iterable[Case]:
        """With a bar where there is a terminal."""
        return progress(cases, len(cases), what, "case")

    def tell(self, event: str, **values: Any) -> None:
        if event == "checked":
            print(values["text"])
        elif event in ("notice", "suspicious"):
            say(values.get("message") or values["why"])
        elif event == "look":
            dice = ", ".join(f"{name} {value:.3f}" for name, value in values["dice"].items() if value is not None)
            left = duration(values["seconds_left"])
            say(f"step {values['step']}: held-out Dice {dice or 'none'}, {left} left")
        elif event == "done":
            cells = [
                [row["target"], *("–" if row[key] is None else f"{row[key]:.3f}" for key in ("before", "after"))]
                for row in values["table"]
            ]
            print(table([["target", "before", "after"], *cells]))
            if values["learned_held_out"]:
                print("(measured before the held-out cases were learned from, too)")
            print(f"{values['pack']}: version {values['version']}, {values['step']} steps")
