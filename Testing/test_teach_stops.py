"""`promise teach` that is ended from outside, at any moment: within a step, and the same command goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from small_cases import NAME, events, tensors, volume, workspace, write

from ProMISeCore import packs, versions
from ProMISeCore.__main__ import main
from ProMISeCore.commands import Commands
from ProMISeCore.segmenter import Segmenter
from ProMISeCore.training import Training

TRIED = "is tried on the held-out volumes"


def test_ctrl_c_in_the_middle_of_a_step_leaves_a_checkpoint_after_it(cases, command, monkeypatch, obeys_ctrl_c) -> None:
    assert main(command(cases, steps=15)) == 0
    whole, descend, steps = tensors(), Training._descend, []

    def interrupted(self, *given):
        steps.append(self.progress.step)
        if steps[-1] == 4 and steps.count(4) == 1:  # the fifth, which no look follows
            signal.raise_signal(signal.SIGINT)
        return descend(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_descend", interrupted)
        assert main(command(cases, steps=15)) == 130
    assert len(versions.listing(NAME)) == 1
    (checkpoint,) = workspace().glob("training-*.pt")
    assert torch.load(checkpoint, weights_only=True)["progress"]["step"] == 5
    assert main(command(cases, steps=15)) == 0
    assert all(torch.equal(value, whole[key]) for key, value in tensors().items())


@contextmanager
def stopped_in_the_trial(gone: bool) -> Iterator[list[str]]:
    """The program says stop, or is gone, once smoothing is tried; what is begun and asked from then on."""
    segment, seen = Segmenter.segment_volume, []

    def begin(self, **options):
        seen.append("begun")
        return segment(self, **options)

    def stop(self) -> bool:
        if seen:
            seen.append("asked")
            self.gone, self.stopped = gone, True
        return self.stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Segmenter, "segment_volume", begin)
        patch.setattr(Commands, "stop", stop)
        yield seen


@pytest.mark.parametrize("options", [[], ["--judge-only"]])
def test_a_stop_while_smoothing_is_tried_keeps_what_was_learned(cases, command, capsys, monkeypatch, options) -> None:
    monkeypatch.setattr("ProMISeCore.teach.Commands", lambda *_: Commands(None))
    with stopped_in_the_trial(gone=False) as seen:
        assert main(command(cases, *options, "--events")) == 0
    told = events(capsys)
    assert told[-1]["event"] == "done" and told[-1]["stopped"] and not told[-1]["learned_held_out"]
    assert any(TRIED in event.get("message", "") for event in told)
    assert seen == ["begun", "asked", "asked"], "before the first batch, and whether that was why it has ended"
    assert packs.read_manifest(packs.find(NAME)).smoothing_mm == 0
    assert main(command(cases, *options, "--events")) == 0
    again = events(capsys)
    assert any("going on from step" in event.get("message", "") for event in again) and not again[-1]["stopped"]
    assert again[-1]["table"] == told[-1]["table"] and not list(workspace().glob("training-*.pt"))


def test_the_end_of_stdin_while_smoothing_is_tried_leaves_no_pack(cases, command) -> None:
    with stopped_in_the_trial(gone=True):
        assert main(command(cases, "--judge-only")) == 130
    assert not packs.files(packs.folder()) and len(list(workspace().glob("training-*.pt"))) == 1


def test_smoothing_is_not_tried_after_a_stop(tmp_path, command, capsys, monkeypatch) -> None:
    for number in range(4):
        voxels, mask = volume(number)
        write(tmp_path / "thin", f"c{number}", voxels, {"Scheibe": mask}, thickness=1.2)
    monkeypatch.setattr(Segmenter, "segment_volume", lambda *_, **__: pytest.fail("tried"))
    look = Training._look

    def looked(self, names):
        stopped.append(self.progress.step > 0)
        return look(self, names)

    stopped: list[bool] = []
    monkeypatch.setattr(Training, "_look", looked)
    monkeypatch.setattr(Commands, "stop", lambda self: any(stopped))
    assert main(command(tmp_path / "thin")) == 0
    assert TRIED not in capsys.readouterr().err
    assert packs.read_manifest(packs.find(NAME)).smoothing_mm == 1.2, "as is usual for thin slices"


def test_targets_without_a_score_have_none_at_last_either(tmp_path, command, capsys, monkeypatch) -> None:
    for number in range(4):
        voxels, mask = volume(number)
        masks = {"Scheibe": mask, "Kern": mask & (np.arange(40) < 20)}
        write(tmp_path / "two", f"c{number}", voxels, masks if number else {"Scheibe": mask})
    monkeypatch.setattr("ProMISeCore.teach.Commands", lambda *_: Commands(None))
    assert main(command(tmp_path / "two", "--held-out", "c0", "--events", steps=8)) == 0
    looks = [event for event in events(capsys) if event["event"] == "look"]
    assert [look["step"] for look in looks] == [3, 6, 8] and looks[-1]["dice"] == {"Scheibe": None, "Kern": None}
    assert [look["best"]["Kern"] for look in looks] == [None] * 3
    assert looks[-1]["best"]["Scheibe"] == looks[-2]["best"]["Scheibe"] >= 0


@pytest.mark.parametrize(("gone", "code"), [(False, 2), (True, 130)])
def test_a_stop_between_encoding_and_the_first_step_teaches_nothing(
    cases, command, capsys, monkeypatch, gone, code
) -> None:
    """It made a version of what had not been taught."""
    assert main(command(cases)) == 0
    before, look = packs.find(NAME).read_bytes(), Training.look_before
    commands = Commands(None)
    monkeypatch.setattr("ProMISeCore.teach.Commands", lambda *_: commands)

    def look_and_stop(self):
        commands.gone, commands.stopped = gone, True
        return look(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "look_before", look_and_stop)
        capsys.readouterr()
        assert main(command(cases, "--seed", "1")) == code
    said = capsys.readouterr().err
    assert ("stopped before a step was taken; the same command goes on" in said) != gone
    assert packs.find(NAME).read_bytes() == before and len(versions.listing(NAME)) == 1


def test_a_stop_while_starts_are_tried_is_obeyed_before_the_next(cases, command, monkeypatch) -> None:
    commands, tried, dice = Commands(None), [], Training.case_dice
    monkeypatch.setattr("ProMISeCore.teach.Commands", lambda *_: commands)

    def candidates(training, found) -> list[tuple[str, dict]]:
        return [(name, training.model.targets["Scheibe"].state_dict()) for name in ("one", "two")]

    monkeypatch.setattr("ProMISeCore.start.candidates", candidates)

    def try_and_stop(self, *given):
        commands.stopped = True
        tried.append(given)
        return dice(self, *given)

    monkeypatch.setattr(Training, "case_dice", try_and_stop)
    assert main([*command(cases), "--start", "auto"]) == 2
    assert len(tried) == 1 and not list(packs.folder().rglob("*.safetensors"))


def test_going_on_in_the_last_quarter_says_from_which_step(cases, command, capsys, monkeypatch) -> None:
    run, last = Training.run, []

    def killed(self, *given):
        last.append(self)
        reached = run(self, *given) if len(last) == 1 else None
        if len(last) == 2:
            given[1].__self__.stopped = True
            self.step(self.names[0])
            self.progress.step += 1
            self._store()
            raise KeyboardInterrupt
        return reached

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run", killed)
        assert main(command(cases, steps=8)) == 130
    capsys.readouterr()
    assert main(command(cases, steps=8)) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "going on from step" in line]
    assert [line.split("step ")[1].split(" ")[0] for line in said] == ["6", "7"]
