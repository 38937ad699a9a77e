"""What a survey has found, told to programs and to people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ProMISeCore.survey import Survey
from ProMISeCore.terminal import amount, duration, table


class SurveyReport:
    """Of one survey. workspace: where what it takes would be kept."""

    def __init__(self, survey: Survey, workspace: Path) -> None:
        self._survey, self._estimate = survey, survey.estimate(workspace)

    def entries(self) -> dict[str, Any]:
        """As docs/teach.md describes it, for JSON."""
        survey = self._survey
        return {
            "name": survey.wish.name,
            "backbone": survey.wish.backbone,
            "ready": survey.ready,
            "cases": [case.entry() for case in survey.cases],
            "targets": [self._target_entry(name) for name in survey.targets],
            "unlabelled": [str(path.resolve()) for path in survey.unlabelled],
            "problems": survey.problems,
            "proposal": {
                "orientation": survey.orientation,
                "window": survey.window,
                "channels": survey.channels,
                "side": survey.side,
                "held_out": [case.pair.name for case in survey.held],
                "within": survey.within,
            },
            "estimate": self._estimate,
        }

    def _target_entry(self, name: str) -> dict[str, Any]:
        survey = self._survey
        states = {case.pair.name: case.states[name] for case in survey.usable}
        labelled = [state for state in states.values() if state.state == "labelled"]
        return {
            "name": name,
            "value": survey.targets[name],
            "color": list(survey.colours[name]),
            "cases": len(labelled),
            "slices": sum(state.slices for state in labelled),
            "voxels": sum(state.voxels for state in labelled),
            "missing": [case for case, state in states.items() if state.state == "unknown"],
            "empty": [case for case, state in states.items() if state.state == "empty"],
        }

    def text(self) -> str:
        """For people."""
        survey = self._survey
        told = [_told(problem) for problem in sorted(survey.problems, key=lambda problem: problem["severity"])]
        told += [f"{len(survey.unlabelled)} images without labels"] * bool(survey.unlabelled)
        return "\n".join([self._table(), *told, self._proposed(), self._estimated()])

    def _table(self) -> str:
        targets = self._survey.targets
        rows = [["case", "use", "size", "spacing mm", "stored", "intensities", *targets]]
        for case in self._survey.cases:
            low, high = case.intensities
            size = " × ".join(map(str, case.shape[::-1]))
            spacing = " × ".join(f"{one:g}" for one in case.spacing)
            states = [case.states[name].words() if name in case.states else "–" for name in targets]
            rows.append([case.pair.name, case.use, size, spacing, case.orientation, f"{low:g} … {high:g}", *states])
        return table(rows)

    def _proposed(self) -> str:
        survey = self._survey
        held = ", ".join(case.pair.name for case in survey.held) or "none"
        window = " ".join(map(str, survey.window.values()))
        frames = f", frame side {survey.side}" if survey.side else ""
        within = " (slices)" if survey.within else ""
        return f"proposed: {survey.orientation} slices{frames}, window {window}, held out {held}{within}"

    def _estimated(self) -> str:
        found = self._estimate
        disk, free, memory = (amount(found[f"{name}_bytes"]) for name in ("disk", "free", "memory"))
        encode = f"encoding {found['views']} views {duration(found['encode_seconds'])}"
        train = "" if found["train_seconds"] is None else f", training {duration(found['train_seconds'])} at most"
        lacking = " (not enough)" if found["disk_bytes"] > found["free_bytes"] else ""
        return f"estimated: {encode}{train}, disk {disk} of {free} free{lacking}, memory {memory}"


def _told(problem: Mapping[str, str | None]) -> str:
    if problem["severity"] == "warning":
        return f"{problem['case'] or 'all'}: {problem['what']}"
    return f"{problem['case']} is left out: {problem['what']}" if problem["case"] else f"not ready: {problem['what']}"
