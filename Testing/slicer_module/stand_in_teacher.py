"""Stands in for `python -m ProMISeCore teach` and `rank`: speaks the protocol of docs/teach.md, learns nothing.

    python stand_in_teacher.py FAULT teach|rank …

FAULT: none, crash (ends without a word after two looks), nan (figures that are none), refuse (says `failed`), deaf
(obeys no command), last (what is learned at last fails), chatter (prints what is no event), slow (a look every tenth of
a second, until stopped), encoding (looks at slices until stopped).
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
import time
from pathlib import Path

from ProMISeCore import packs, truth, versions

FAULT = sys.argv[1]
STEPS = 4


def tell(event: str, **more) -> None:
    print(json.dumps({"event": event, "seconds": 0.1, **more}, ensure_ascii=False), flush=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", nargs="+", type=Path)
    parser.add_argument("--targets", nargs="*", default=[])
    for name in ("name", "workspace", "device", "backbone", "minutes", "held-out", "base", "pack"):
        parser.add_argument(f"--{name}", default="")
    for name in ("check", "events", "json", "listen"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args(sys.argv[3:])


def found(arguments: argparse.Namespace) -> dict:
    """The report: what the segmentations beside the images hold."""
    cases, targets = [], {}
    wanted = [target.removesuffix("=") for target in arguments.targets]
    for place in arguments.images:
        for path in sorted(place.glob("*.seg.nrrd")) if place.is_dir() else [place]:
            if path.name.endswith(".seg.nrrd"):
                names = [name for name in truth.contents(path) if not wanted or name in wanted]
                case = path.name.removesuffix(".seg.nrrd")
                use = "held-out" if case == arguments.held_out else "learn"
                held = {name: {"state": "labelled", "voxels": 9, "slices": 3, "unknown_slices": 0} for name in names}
                files = {"image": str(path.with_name(f"{case}.nrrd").resolve()), "label": str(path.resolve())}
                cases.append({"case": case, "use": use, "targets": held, **files})
                for name in names:
                    targets.setdefault(name, []).append(case)
    return {
        "name": arguments.name,
        "ready": bool(cases),
        "cases": cases,
        "targets": [
            {"name": name, "value": None, "cases": len(those), "slices": 3 * len(those), "missing": [], "empty": []}
            for name, those in targets.items()
        ],
        "unlabelled": [],
        "problems": [] if cases else [{"case": None, "what": "there is no case", "severity": "error"}],
        "proposal": {"orientation": "axial", "window": {"mode": "percentile", "low": 0.5, "high": 99.5},
                     "channels": "repeat", "held_out": [cases[0]["case"]] if cases else [], "within": False},
        "estimate": {"views": 8, "encode_seconds": 31.0, "train_seconds": 569.0, "disk_bytes": 244000000,
                     "free_bytes": 81000000000, "memory_bytes": 900000000},
    }  # fmt: skip


class Commands:
    """Lines of stdin, as they come; None at its end."""

    def __init__(self) -> None:
        self.lines: queue.Queue = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            if line.strip() == "kill" and FAULT != "deaf":
                os._exit(137)
            self.lines.put(line.strip())
        self.lines.put(None)

    def obey(self, step: int) -> bool:
        """Whether to stop."""
        paused = False
        while paused or not self.lines.empty():
            word = self.lines.get()
            if word is None:
                sys.exit(130)
            if word == "stop" and FAULT != "deaf":
                return True
            if word in ("pause", "resume"):
                if (word == "pause") != paused:
                    tell("paused" if word == "pause" else "resumed", step=step)
                paused = word == "pause"
        return False


def learn(arguments: argparse.Namespace, report: dict) -> None:
    names = [target["name"] for target in report["targets"]]
    counter = Path(arguments.workspace) / "step.txt"
    start = int(counter.read_text()) if counter.is_file() else 0
    commands, step, stopped = Commands(), start, False
    tell("encoding", done=4, total=8, seconds_left=2.0)
    while FAULT == "encoding":
        if commands.obey(step):
            tell("failed", message="stopped while encoding: nothing was learned yet")
            sys.exit(2)
        time.sleep(0.02)
    tell("encoding", done=8, total=8, seconds_left=0.0)
    while step < STEPS or FAULT in ("slow", "deaf"):
        stopped = commands.obey(step)
        if stopped:
            break
        step += 1
        counter.write_text(str(step))
        figures = {name: float("nan") if FAULT == "nan" else 1 - 0.5**step for name in names}
        loss = {name: 0.5**step for name in names}
        tell("look", step=step, elapsed=float(step), share=min(step / STEPS, 1.0), loss=loss, dice=figures,
             best=figures, seconds_left=float(STEPS - step))  # fmt: skip
        if FAULT == "chatter":
            print("a library says hello, {not json}", flush=True)
        if FAULT == "crash" and step == 2:
            print("Segmentation fault", file=sys.stderr, flush=True)
            os._exit(11)
        time.sleep(0.1 if FAULT in ("slow", "deaf") else 0.01)
    tell("suspicious", case=report["cases"][-1]["case"], target=names[0], dice=0.1, typical=0.8, why="it differs")
    manifest = packs.Manifest(
        name=packs.name_of(Path(arguments.name)),
        title=arguments.name,
        backbone=packs.BackboneInfo("tiny", "0" * 64, 64),
        targets=tuple(packs.TargetInfo(name) for name in names),
        modality="MR",
        orientation="axial",
        window={"mode": "percentile", "low": 0.5, "high": 99.5},
        description=f"step {step}",
        scores=tuple({"data": "own", "cases": 1, "target": n, "dice": 0.9, "iou": 0.8} for n in names),
    )
    made = versions.add(arguments.name, manifest, {})
    counter.unlink()
    table = [{"target": name, "before": 0.1, "after": 0.9, "cases": 1, "slices": 3} for name in names]
    tell("done", pack=str(made.path), name=arguments.name, version=made.number, stopped=stopped, table=table,
         learned_held_out=not stopped and FAULT != "last", problem="no memory is left" if FAULT == "last" else None,
         suspicious=[], step=step, elapsed=1.0, held_out=[], within=False, manifest={})  # fmt: skip


def main() -> None:
    sys.stdout.reconfigure(encoding="utf-8")
    arguments = parsed()
    if sys.argv[2] == "rank":
        print(json.dumps([
            {"case": path.stem, "image": str(path), "uncertainty": 0.9 - 0.3 * number, "why": "slices disagree"}
            for number, path in enumerate(arguments.images)
        ]))  # fmt: skip
        return
    if FAULT == "refuse":
        tell("failed", message="the workspace is in use by another process (4711)")
        sys.exit(2)
    Path(arguments.workspace).mkdir(parents=True, exist_ok=True)
    report = found(arguments)
    tell("checking", what="images", done=0, total=len(report["cases"]))
    tell("checked", report=report)
    if not report["ready"]:
        tell("failed", message="there is no case")
        sys.exit(2)
    if not arguments.check:
        learn(arguments, report)


main()
