"""Held-out cases judge first and are learned from then; cases that a pack knows already do not judge the next one."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from small_cases import NAME, events, four, tensors, volume, workspace, write

from ProMISeCore import learned, packs, versions
from ProMISeCore.__main__ import main
from ProMISeCore.at_last import divided
from ProMISeCore.augment import Augment
from ProMISeCore.commands import Commands
from ProMISeCore.dataset import Plan, Task
from ProMISeCore.errors import InputError
from ProMISeCore.pairs import content, find
from ProMISeCore.settings import Settings
from ProMISeCore.survey import Survey
from ProMISeCore.teaching import Order, Teaching
from ProMISeCore.training import Training
from ProMISeCore.wish import Wish

SIZES = {"slices": 6, "views": 2}


Events = list[tuple[str, dict]]
Weights = dict[str, torch.Tensor]


def run(backbone: Path, cases: Path, steps: int, stop=lambda told: False, **wish) -> Events:
    """The events of a teaching; stop(events) is asked before each step."""
    told: Events = []

    class Asked(Commands):
        def stop(self) -> bool:
            return stop(told)

    made = Wish(NAME, backbone=str(backbone), side=64, minutes=None, **SIZES, **wish)
    order = Order(workspace(), Settings(steps=steps, batch=4, every=2, patience=None), "cpu")
    survey = Survey([str(cases)], None, made)
    Teaching(survey, order, lambda event, **values: told.append((event, values)), Asked(None)).run()
    return told


@pytest.fixture
def teach(tiny_sam, cases: Path, tmp_path: Path) -> Callable[..., Events]:
    """`teach(steps, stop=…, **wish)` → the events."""
    torch.save(tiny_sam.state_dict(), tmp_path / "b.pth")
    return partial(run, tmp_path / "b.pth", cases)


def when_smoothing_is_chosen(patch: pytest.MonkeyPatch) -> list[Weights]:
    """A list that grows by the weights that there are then."""
    chosen, smoothing = [], Teaching._smoothing

    def watched(self, judged: Training) -> float:
        chosen.append({key: value.clone() for key, value in judged.model.tensors().items()})
        return smoothing(self, judged)

    patch.setattr(Teaching, "_smoothing", watched)
    return chosen


class Judged(NamedTuple):
    told: Events
    tensors: Weights
    chosen: Weights  # when smoothing was chosen


@pytest.fixture(scope="module")
def judged(tiny_sam, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """What six steps come to whose held-out cases only judge, the first part of eight that learn from all."""
    folder = tmp_path_factory.mktemp("judged")
    torch.save(tiny_sam.state_dict(), folder / "b.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMISE_HOME", str(folder / "home"))
        chosen = when_smoothing_is_chosen(patch)
        told = run(folder / "b.pth", four(folder / "Fälle"), 6, judge_only=True)
        return Judged(told, tensors(), chosen[0])


def looks(told: Events) -> list[dict]:
    return [values for event, values in told if event == "look"]


def is_at_last(told: Events) -> bool:
    return any("learned from now, too" in values["message"] for event, values in told if event == "notice")


def test_a_quarter_of_the_budget_is_for_all_cases() -> None:
    first, last = divided(Settings(steps=100, rate=1e-3, refine=0.7))
    assert (first.steps, last.steps) == (75, 25) and first.minutes is last.minutes is None
    assert (first.rate, first.refine) == (1e-3, 0.7) and (last.rate, last.refine) == (pytest.approx(3e-4), 1.0)
    first, last = divided(Settings(minutes=10))
    assert (first.minutes, last.minutes) == (7.5, 2.5)
    assert [part.steps for part in divided(Settings(steps=2))] == [1, 1]


def test_held_out_cases_are_learned_from_when_their_scores_are_known(teach, judged: Judged) -> None:
    told, alone = teach(8), judged.told
    (done,) = [values for event, values in told if event == "done"]
    assert is_at_last(told) and not is_at_last(alone)
    assert [look["step"] for look in looks(told)] == [2, 4, 6, 8] and done["step"] == 8 and not done["stopped"]
    assert [look["share"] for look in looks(told)] == [0.25, 0.5, 0.75, 1.0]
    assert [look["dice"]["Scheibe"] is None for look in looks(told)] == [False, False, False, True]
    assert done["table"] == alone[-1][1]["table"], "scores are of before"
    assert done["learned_held_out"] and not alone[-1][1]["learned_held_out"]
    assert not all(torch.equal(value, judged.tensors[key]) for key, value in tensors().items())
    scores = packs.read_manifest(packs.find(NAME)).scores
    assert scores[0]["data"] == "held-out cases of the user's own, before they were learned from, too"


def test_all_that_is_learned_at_last_is_of_all_cases(teach, monkeypatch) -> None:
    from ProMISeCore import teaching

    seen = []

    class Watched(teaching.Training):
        def step(self, name: str) -> float:
            cases = len(set(self.material.views.case))
            seen.append((cases, self.held is not None, self._is_refining(name)))
            return super().step(name)

    monkeypatch.setattr(teaching, "Training", Watched)
    teach(8)
    assert {cases for cases, held, _ in seen if held} == {3} and {cases for cases, held, _ in seen if not held} == {4}
    assert [held for _, held, _ in seen] == 6 * [True] + 2 * [False]
    refining = [is_refining for _, held, is_refining in seen if not held]
    kept = bool(packs.read_manifest(packs.find(NAME)).refiners)
    assert refining == 2 * [kept], "a refiner that helps learns alone, else APM and IPS do"


def test_a_stop_at_last_keeps_what_was_best_on_the_held_out_cases_and_the_next_run_goes_on(
    teach, judged: Judged
) -> None:
    told = teach(8, stop=lambda told: is_at_last(told) and len(looks(told)) == 3)
    assert told[-1][1]["stopped"] and told[-1][1]["version"] == 1
    assert all(torch.equal(value, judged.tensors[key]) for key, value in tensors().items())
    assert len(list(workspace().glob("training-*.pt"))) == 2
    assert "before they were" not in packs.read_manifest(packs.find(NAME)).scores[0]["data"]
    (first, *_) = looks(teach(8))
    assert first["step"] > 6, "nothing of the judged part is done again"
    went_on = tensors()
    teach(8)
    assert all(torch.equal(value, went_on[key]) for key, value in tensors().items())
    assert not list(workspace().glob("training-*.pt"))


def not_asked_before_training(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("ProMISeCore.case_encoder.CaseEncoder._obey", lambda self: None)
    patch.setattr("ProMISeCore.teach._counted", lambda teller, commands, is_check, cases, what: iter(cases))


def test_going_on_from_a_pack_is_gone_on_with_after_a_stop_has_made_it_another(cases, command, capsys) -> None:
    """`--base X --name X` names the stopped result the second time."""
    assert main(command(cases)) == 0
    continued = command(cases, "--base", NAME, steps=8)
    with pytest.MonkeyPatch.context() as patch:
        asked = iter([False] * 3 + [True] * 100)
        patch.setattr(Commands, "stop", lambda self: next(asked))
        not_asked_before_training(patch)
        assert main(continued) == 0
    stopped = json.loads((workspace() / "stopped.json").read_text())
    assert list(stopped) == [content(packs.find(NAME))]
    assert len(list(workspace().glob("training-*.pt"))) == 1
    capsys.readouterr()
    assert main(continued) == 0
    assert "of a training that was interrupted" in capsys.readouterr().err
    went_on = tensors()
    assert packs.read_manifest(packs.find(NAME)).training["data"].endswith("version 1")
    versions.roll_back(NAME, 1)
    assert main(continued) == 0
    assert all(torch.equal(value, went_on[key]) for key, value in tensors().items())


def test_a_teaching_between_is_not_forgotten(cases, command, capsys, monkeypatch) -> None:
    """A stopped teaching of 8 steps, one of 16 from what it left, and 8 steps again: from the second."""
    assert main(command(cases)) == 0
    stop = Commands.stop
    not_asked_before_training(monkeypatch)
    for steps in (8, 16):
        asked = iter([False] * 3 + [True] * 100)
        monkeypatch.setattr(Commands, "stop", lambda self, asked=asked: next(asked))
        assert main(command(cases, "--base", NAME, steps=steps)) == 0
    monkeypatch.setattr(Commands, "stop", stop)
    capsys.readouterr()
    assert main(command(cases, "--base", NAME, steps=8)) == 0
    assert "of a training that was interrupted" not in capsys.readouterr().err
    assert packs.read_manifest(packs.find(NAME)).training["data"].endswith("version 3")


def test_a_training_that_no_longer_improves_has_not_been_stopped(teach, monkeypatch) -> None:
    monkeypatch.setattr(Training, "_running", lambda self, name: self.progress.step < 3)
    done = teach(8)[-1][1]
    assert not done["stopped"] and done["learned_held_out"]
    assert not list(workspace().glob("training-*.pt"))


def test_what_is_left_is_cleared_but_what_packs_have_learned_from(tmp_path) -> None:
    for name in ("learned.json", "stopped.json", "training-1.pt"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "views-1").mkdir()
    (tmp_path / "views-1" / "embedding.npy").write_bytes(b"1")
    learned.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["learned.json"]
    (tmp_path / "learned.json").unlink()
    learned.clear(tmp_path)
    assert not tmp_path.exists()


def test_a_budget_of_one_step_and_nothing_held_out_are_one_training(teach) -> None:
    assert not is_at_last(teach(1)) and not is_at_last(teach(4, held_out=()))


def test_the_only_case_is_learned_whole_at_last(tmp_path, command, capsys) -> None:
    voxels, mask = volume(0)
    write(tmp_path / "one", "only", voxels, {"Scheibe": mask})
    assert main(command(tmp_path / "one")) == 0
    (score,) = packs.read_manifest(packs.find(NAME)).scores
    assert score["data"] == "slices held out of the cases learned from, before they were learned from, too"
    rows = [int(path.read_text()) for path in workspace().glob("views-*/encoded.txt")]
    assert sorted(rows) == [4, 8], "two slices of six judge, in the first of two views; all six are learned in two"


def test_a_case_that_the_base_knows_does_not_judge_again(cases, command, capsys) -> None:
    assert main(command(cases)) == 0
    voxels, mask = volume(8)
    write(cases, "neu", voxels, {"Scheibe": mask})
    capsys.readouterr()
    assert main(command(cases, "--base", NAME, "--check", "--events")) == 0
    report = events(capsys)[0]["report"]
    assert report["proposal"]["held_out"] == ["neu"] and not report["problems"]
    assert main(command(cases, "--base", NAME, "--held-out", "Fall 1", "--check", "--events")) == 0
    (problem,) = events(capsys)[0]["report"]["problems"]
    assert "has learned from 1 of 1 held-out cases (Fall 1): scores will be too good" in problem["what"]


def test_what_a_case_only_judged_may_judge_again(cases, command, capsys) -> None:
    assert main(command(cases, "--judge-only", "--held-out", "Fall 2")) == 0
    capsys.readouterr()
    assert main(command(cases, "--base", NAME, "--check", "--events")) == 0
    assert events(capsys)[0]["report"]["proposal"]["held_out"] == ["Fall 2"]


def test_what_was_learned_is_kept_without_names_and_handed_on(cases, tmp_path) -> None:
    images = sorted(cases.glob("*[0-9].nrrd"))
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    one.write_bytes(b"one")
    two.write_bytes(b"two")
    assert learned.by(one, tmp_path) == frozenset()
    learned.remember(one, map(content, images[:2]), tmp_path)
    learned.remember(two, {*map(content, images[2:3]), *learned.by(one, tmp_path)}, tmp_path)
    assert learned.by(one, tmp_path) == {content(image) for image in images[:2]}
    assert learned.by(two, tmp_path) == {content(image) for image in images[:3]}
    assert "Fall" not in (tmp_path / "learned.json").read_text(encoding="utf-8")


def test_a_pack_of_the_same_name_knows_what_the_one_before_has_learned_from(cases, command, capsys) -> None:
    assert main(command(cases)) == 0
    old = {path: path.read_bytes() for path in cases.iterdir()}
    for path in old:
        path.unlink()
    for number in (8, 9):
        voxels, mask = volume(number)
        write(cases, f"neu {number}", voxels, {"Scheibe": mask})
    assert main(command(cases, "--base", NAME)) == 0
    for path, data in old.items():
        path.write_bytes(data)
    capsys.readouterr()
    voxels, mask = volume(10)
    write(cases, "neuer", voxels, {"Scheibe": mask})
    assert main(command(cases, "--base", NAME, "--check", "--events")) == 0
    assert events(capsys)[0]["report"]["proposal"]["held_out"] == ["neuer"]


def test_views_of_targets_in_another_order_are_others(tiny_sam, cases) -> None:
    """Masks are stored in the targets' order; a new case that lists its segments otherwise swapped their labels."""
    window = {"mode": "percentile", "low": 0.5, "high": 99.5}
    tasks = [Task(dict.fromkeys(names), "axial", window, "neighbours", "corner") for names in (("a", "b"), ("b", "a"))]
    one, other = (Plan(find([str(cases)]), task, [(0, 1, 0)], 0).key(tiny_sam, (), Augment()) for task in tasks)
    assert one != other


def test_a_case_that_alone_has_a_target_does_not_judge(cases, command, capsys) -> None:
    assert main(command(cases)) == 0
    voxels, mask = volume(8)
    write(cases, "neu", voxels, {"Scheibe": mask, "Kern": mask})
    capsys.readouterr()
    assert main(command(cases, "--base", NAME, "--check", "--events")) == 0
    report = events(capsys)[0]["report"]
    assert report["ready"] and report["proposal"]["held_out"] != ["neu"]


def test_what_fails_at_last_leaves_what_was_judged(teach, judged: Judged, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Teaching, "_last_training", lambda *_: (_ for _ in ()).throw(MemoryError()))
        told = teach(8)
    assert any("what the held-out cases have judged is kept" in values.get("message", "") for _, values in told)
    done = told[-1][1]
    assert not done["stopped"] and not done["learned_held_out"] and "not enough memory" in done["problem"]
    assert all(torch.equal(value, judged.tensors[key]) for key, value in tensors().items())
    told = teach(8)
    assert [look["step"] for look in looks(told)] == [8], "the same command does what is left"
    assert told[-1][1]["learned_held_out"] and told[-1][1]["problem"] is None


def test_a_disk_that_is_full_at_the_very_last_leaves_what_was_judged(teach, judged: Judged, monkeypatch) -> None:
    store = Training._store

    def full(self) -> None:
        if self.held is None and self.share >= 1:
            raise InputError("the disk is full")
        store(self)

    monkeypatch.setattr(Training, "_store", full)
    done = teach(8)[-1][1]
    assert done["problem"] == "the disk is full" and not done["learned_held_out"]
    assert all(torch.equal(value, judged.tensors[key]) for key, value in tensors().items())
    assert "before they were" not in packs.read_manifest(packs.find(NAME)).scores[0]["data"]


def test_smoothing_is_chosen_before_the_held_out_cases_are_learned_from(teach, judged: Judged, monkeypatch) -> None:
    chosen = when_smoothing_is_chosen(monkeypatch)
    teach(8)
    (found,) = chosen
    assert all(torch.equal(value, judged.chosen[key]) for key, value in found.items())


def test_cases_that_were_doubted_while_held_out_cases_judged_are_not_learned_from_at_last(teach, monkeypatch) -> None:
    """One that was learned from and the held-out one, which is number 3 of all."""
    last: list[dict[int, set[int]]] = []

    class Doubting(Training):
        def doubt(self) -> list[dict]:
            if self.held is None or self.progress.suspects:
                return []
            self.material.distrusted[0] = {1}
            wrong = {"target": "Scheibe", "dice": 0.1, "typical": 0.9}
            self.progress.suspects += [wrong | {"case": 1, "held": False}, wrong | {"case": 0, "held": True}]
            return self.progress.suspects

        def run(self, *given):
            if self.held is None:
                last.append({target: set(cases) for target, cases in self.material.distrusted.items()})
            return super().run(*given)

    monkeypatch.setattr("ProMISeCore.teaching.Training", Doubting)
    teach(8)
    assert last == [{0: {1, 3}}]


def test_a_record_that_cannot_be_read_is_told_before_anything_is_learned(teach) -> None:
    workspace().mkdir(parents=True)
    (workspace() / "learned.json").write_text("{")
    with pytest.raises(InputError, match="learned.json"):
        teach(8)
    assert not packs.folder().exists() or not list(packs.folder().glob("*"))


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"a": 1})])
def test_a_damaged_record_says_what_to_do(tmp_path, text: str) -> None:
    (tmp_path / "learned.json").write_text(text)
    (tmp_path / "p.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"learned\.json .*remove it"):
        learned.by(tmp_path / "p.safetensors", tmp_path)
