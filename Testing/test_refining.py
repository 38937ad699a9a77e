"""Training refiners: they learn last and alone, from known pixels, and are kept as they were best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from refined_cases import parts_of, stirred, training, views

from ProMISeCore.dataset import Views
from ProMISeCore.material import Material
from ProMISeCore.refiner import Refiner
from ProMISeCore.refining import Refining
from ProMISeCore.settings import Settings
from ProMISeCore.training import Training


def test_it_learns_last_and_alone(tiny_model: Callable, tmp_path: Path) -> None:
    model, material = tiny_model(("a",), refiner=8), views()
    learner = training(model, material, material, tmp_path / "t.pt", refine=0.5)
    new, begun = parts_of(model, refiners=True), parts_of(model, refiners=False)
    for learner.progress.step in range(5):
        learner.step("a")
    learner.progress.step = 5
    others = parts_of(model, refiners=False)
    assert all(torch.equal(value, new[key]) for key, value in parts_of(model, refiners=True).items())
    assert not any(torch.equal(value, begun[key]) for key, value in others.items() if "lin" in key)
    progress = learner.run()
    assert progress.refining_from == 0.5 and progress.step == 10
    assert all(torch.equal(value, others[key]) for key, value in parts_of(model, refiners=False).items())
    assert not all(torch.equal(value, new[key]) for key, value in parts_of(model, refiners=True).items())


def test_it_finds_what_the_embedding_does_not_tell(tiny_model: Callable, tmp_path: Path) -> None:
    """The embedding is noise, so APM and IPS cannot know where the square is; the picture shows it."""
    model, material, rest = tiny_model(("a",), refiner=8), views(12), views(20)
    parts = ("embedding", "masks", "case", "known", "plain", "slice", "pictures")
    held = replace(rest, **{name: getattr(rest, name)[12:] for name in parts})
    learner = training(model, material, held, tmp_path / "t.pt", steps=60, every=10, refine=0.9)
    before = learner.look_before()["a"]
    assert before < 0.6 and learner.run().best["a"] > 0.9


def test_interrupted_while_refining_it_goes_on_to_the_same_weights(tiny_model: Callable, tmp_path: Path) -> None:
    material = views()
    whole, part = tiny_model(("a",), refiner=8), tiny_model(("a",), refiner=8)
    training(whole, material, material, tmp_path / "whole.pt").run()
    first = training(part, material, material, tmp_path / "part.pt")
    first.run(stop=lambda: first.progress.step == 8)
    assert first.progress.refining_from == 0.6
    resumed = tiny_model(("a",), refiner=8)
    assert training(resumed, material, material, tmp_path / "part.pt").run().step == 10
    assert all(torch.equal(value, whole.tensors()[key]) for key, value in resumed.tensors().items())


def test_a_training_that_goes_on_keeps_the_refiner_that_was_best_before_it_stopped(
    tiny_model: Callable, tmp_path: Path
) -> None:
    """Dice at the looks: before, at the refiners' start, after the first step, and after the others, resumed."""
    material, kept, settings = views(), [], {"steps": 4, "every": 1, "refine": 1.0}
    one, other = tiny_model(("a",), refiner=8), tiny_model(("a",), refiner=8)
    first = training(one, material, material, tmp_path / "t.pt", **settings)
    shown = iter([0.5, 0.5, 0.9, 0.1, 0.1])
    first._held_dice = lambda name: next(shown)
    first.look_before()
    store = first._store
    first._store = lambda: kept.append(parts_of(one, refiners=True)) or store()
    first.run(stop=lambda: first.progress.step == 2)
    resumed = training(other, material, material, tmp_path / "t.pt", **settings)
    resumed._held_dice = lambda name: 0.1
    assert resumed.run().best == {"a": 0.9}
    assert all(torch.equal(value, kept[0][key]) for key, value in parts_of(other, refiners=True).items())


def test_stopped_before_anything_is_drawn_the_rest_is_kept(tiny_model: Callable, tmp_path: Path) -> None:
    material, asked = views(), []
    learner = training(tiny_model(("a",), refiner=8), material, material, tmp_path / "t.pt")

    def stop() -> bool:
        asked.append(learner.progress.refining_from)
        return asked[-1] is not None  # as the refiners' part begins

    learner.run(stop=stop)
    assert learner.progress.step == 6 and not learner._refining.ready and (tmp_path / "t.pt").exists()
    again = training(tiny_model(("a",), refiner=8), material, material, tmp_path / "t.pt")
    assert again.run().step == 10 and again._refining.ready


def test_a_target_that_stops_improving_leaves_the_time_to_its_refiner(tiny_model: Callable, tmp_path: Path) -> None:
    material, settings = views(), {"steps": 40, "every": 1, "patience": 1}
    learner = training(tiny_model(("a",), refiner=8), material, material, tmp_path / "t.pt", **settings)
    learner._look = lambda names: learner.progress.best.update(dict.fromkeys(names, 1.0)) or {}  # never better again
    progress = learner.run()
    assert progress.refining_from is not None and progress.refining_from < 0.2 and progress.step < 40


@pytest.mark.parametrize("held", [None, "nothing known"])
def test_where_nothing_tells_which_was_best_the_last_counts(
    tiny_model: Callable, tmp_path: Path, held: str | None
) -> None:
    model, material = tiny_model(("a",), refiner=8), views()
    told = held and replace(material, known=np.zeros_like(material.known))
    before = {key: value.clone() for key, value in model.tensors().items()}
    learner = training(model, material, told, tmp_path / "t.pt")
    begun = []
    draw = learner._refining._draw
    learner._refining._draw = lambda *given: begun.append(parts_of(model, refiners=False)) or draw(*given)
    assert learner.run().refining_from is not None
    unchanged = [key for key, value in model.tensors().items() if torch.equal(value, before[key])]
    assert not [key for key in unchanged if ".read." in key or ".lin" in key]
    decoders = parts_of(model, refiners=False)  # what was learned before is neither undone nor learned further
    assert all(torch.equal(value, begun[0][key]) for key, value in decoders.items())


def test_what_encoding_took_is_not_taken_from_the_decoder(tiny_model: Callable, tmp_path: Path) -> None:
    """Half of six seconds is gone; a step lasts 0.1 s by this clock: 30 % of the rest is the decoder's."""
    material, now = views(), [0.0]

    def clock() -> float:
        return now[0]

    settings = Settings(minutes=0.1, batch=4, patience=None, refine=0.7)
    labels = {"a": (1, 1, 0, 0)}
    learner = Training(
        tiny_model(("a",), refiner=8), Material(material, labels), material, settings, tmp_path / "t.pt", 3.0, clock
    )
    step, rates = learner.step, []

    def timed(name: str) -> float:
        rates.append((learner._is_refining(name), learner._budget.rate(learner.progress, True)))
        now[0] += 0.1
        loss = step(name)
        assert learner.optimizer.param_groups[0]["lr"] == rates[-1][1]
        return loss

    learner.step = timed
    progress = learner.run()
    decoder = [rate for refining, rate in rates if not refining]
    assert progress.begun == 0.5 and progress.refining_from == pytest.approx(0.65, abs=0.02)
    assert len(decoder) in (9, 10) and len(rates) - len(decoder) in (20, 21, 22)


def test_a_pause_while_the_decoder_is_asked_takes_nothing_of_the_budget(tiny_model: Callable, tmp_path: Path) -> None:
    material, now = views(), [0.0]
    learner = training(tiny_model(("a",), refiner=8), material, material, tmp_path / "t.pt")
    learner._clock = lambda: now[0]

    def pause() -> bool:
        now[0] += 3600
        return False

    assert learner._begin_refining(pause) and learner.progress.seconds == 0


def test_targets_without_one_go_on_to_the_end(tiny_model: Callable, tmp_path: Path) -> None:
    refiners = ({"width": 8, "patch": 1, "targets": ["a"]},)
    mixed = tiny_model(("a", "b"), refiners=refiners)
    material = views()
    doubled = replace(material, masks=material.masks.repeat(2, 1), known=material.known.repeat(2, 1))
    learner, steps = training(mixed, doubled, doubled, tmp_path / "t.pt"), {"a": [], "b": []}
    descend = learner._descend
    learner._descend = lambda name, part, loss: steps[name].append(part) or descend(name, part, loss)
    learner.run()
    assert steps == {
        "a": [mixed.targets["a"]] * 6 + [mixed.refiners[0]] * 8,
        "b": [mixed.targets["b"]] * 10,
    }


def test_with_refining_alone_a_base_does_not_become_worse(tiny_model: Callable, tmp_path: Path) -> None:
    model, material = tiny_model(("a",), refiner=8), views()
    learner = training(model, material, material, tmp_path / "t.pt", refine=1.0)
    shown = iter([0.8, *[0.1] * 9])
    learner.case_dice = lambda *_: {0: next(shown)}
    before = {key: value.clone() for key, value in model.tensors().items()}
    assert learner.run().best == {"a": 0.8}
    assert all(torch.equal(value, before[key]) for key, value in model.tensors().items())


def test_without_one_all_of_the_budget_is_for_the_others(tiny_model: Callable, tmp_path: Path) -> None:
    learner = training(tiny_model(("a",)), views(), None, tmp_path / "t.pt")
    before = {key: value.clone() for key, value in learner.model.tensors().items()}
    progress = learner.run(stop=lambda: learner.progress.step == 9)
    assert progress.refining_from is None and progress.step == 9
    last = {key: value.clone() for key, value in learner.model.tensors().items()}
    learner.run()
    changed = learner.model.tensors()
    learned = [key for key in last if "lin" in key]
    assert not any(torch.equal(changed[key], last[key]) or torch.equal(last[key], before[key]) for key in learned)


def refining_of(material: Views, *groups: tuple[Refiner, list[str]], draw: Callable) -> Refining:
    """With all drawn; the views' targets are called a, b, …"""
    names = [name for _, served in groups for name in served]
    refining = Refining(material, groups, names, 0, draw)
    assert refining.prepare(lambda: False)
    return refining


def of_two(material: Views) -> Views:
    """The same with a second target where the first one is not."""
    both = np.concatenate([material.masks, ~material.masks], 1)
    return replace(material, masks=both, known=np.ones_like(both))


def test_unknown_pixels_have_no_say(tiny_model: Callable) -> None:
    material, refiner = views(), Refiner()
    known, found = np.zeros_like(material.known), []
    known[:, :, :9] = True
    for beyond in (False, True):
        labelled = replace(material, masks=material.masks | (~known & beyond), known=known)
        refining = refining_of(labelled, (refiner, ["a"]), draw=lambda name, rows, _: torch.ones(len(rows), 2, 16, 16))
        generator = torch.Generator().manual_seed(3)
        found.append(refining.loss("a", np.arange(4), generator, torch.device("cpu"))[0].tolist())
    assert found[0] == found[1]


def test_what_the_decoder_says_is_kept_to_an_eighth(tiny_model: Callable) -> None:
    logits = torch.tensor([-99.0, -1.06, 0.0, 0.07, 3.0, 99.0])
    refining = Refining(
        replace(views(6), masks=np.zeros((6, 1, 1, 1), bool)),
        [(Refiner(), ["a"])],
        ["a"],
        0,
        lambda name, rows, generator: logits[rows].view(-1, 1, 1, 1).expand(-1, 2, 1, 1),
    )
    assert not refining.ready and refining.prepare(lambda: False, batch=4) and refining.ready
    assert refining._drawn["a"][:, 1, 0, 0].tolist() == [-126, -8, 0, 1, 24, 126]


class Listening(Refiner):
    """Keeps what it is told."""

    def forward(self, picture: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        self.picture, self.told = picture, logits
        return super().forward(picture, logits)


def test_the_decoder_is_told_on_half_of_the_slices_and_beside_the_truth() -> None:
    material, refiner = views(64), Listening()
    exact = torch.where(torch.from_numpy(material.masks), 8.0, -8.0).expand(-1, 2, -1, -1)
    refining = refining_of(material, (refiner, ["a"]), draw=lambda name, rows, generator: exact[rows])
    refining.loss("a", np.arange(64), torch.Generator().manual_seed(1), torch.device("cpu"))
    told = refiner.told.flatten(1).amax(1) > 1
    assert 20 <= told.sum() <= 44
    grey = torch.nn.functional.avg_pool2d(refiner.picture.mean(1, keepdim=True), 2)
    middle = (grey.flatten(1).amax(1) + grey.flatten(1).quantile(0.5, 1)) / 2
    differing = ((refiner.told > 0) != (grey > middle.view(-1, 1, 1, 1)))[told].flatten(1).float().mean(1)
    assert 0.01 < differing.median() < 0.1  # of 14 % that the squares take


def test_all_targets_of_a_refiner_learn_from_a_slice_and_one_is_told() -> None:
    material, refiner = of_two(views(64)), Listening(2)
    said = {"a": 3.0, "b": -3.0}
    draw = lambda name, rows, generator: torch.full((len(rows), 2, 16, 16), said[name])  # noqa: E731
    refining = refining_of(material, (refiner, ["a", "b"]), draw=draw)
    for name, mine, other in (("a", 0, 1), ("b", 1, 0)):
        loss, there = refining.loss(name, np.arange(64), torch.Generator().manual_seed(1), torch.device("cpu"))
        assert loss.shape == (64, 2) and there.all() and not torch.allclose(loss[:, 0], loss[:, 1])
        assert not refiner.told[:, other].any() and 20 <= (refiner.told[:, mine].flatten(1).any(1)).sum() <= 44
        middle = refiner.told[:, mine, 8, 8]
        assert torch.allclose(middle[middle != 0], torch.tensor(said[name]))


def test_of_a_target_that_is_distrusted_in_a_case_nothing_is_learned_with_the_others(
    tiny_model: Callable, tmp_path: Path
) -> None:
    found = []
    for wrong in (False, True):
        model, material = tiny_model(("a", "b"), refiner=8), of_two(views())
        stirred(model.refiners)
        if wrong:
            material.masks[material.case == 0, 1] ^= True
        learner = training(model, material, None, tmp_path / "t.pt", refine=1.0)
        learner.material.distrusted = {1: {0}}
        learner._refining._draw = lambda name, rows, generator: torch.ones(len(rows), 2, 16, 16)
        assert learner._refining.prepare(lambda: False)
        rows = np.flatnonzero(material.case == 0)
        learner.generator.manual_seed(0)
        found.append(learner._refining_loss("a", rows).item())
    assert found[0] == found[1]


def test_a_refiner_is_kept_as_it_is_best_for_all_of_its_targets(tiny_model: Callable, tmp_path: Path) -> None:
    """Dice of a and b at the looks: before, at the refiners' start, and twice while they learn."""
    model, material = tiny_model(("a", "b"), refiner=8), of_two(views())
    shown = {"a": iter([0.5, 0.5, 0.9, 0.6]), "b": iter([0.5, 0.5, 0.2, 0.6])}
    learner = training(model, material, material, tmp_path / "t.pt", steps=2, every=1, refine=1.0)
    learner._held_dice = lambda name: next(shown[name])
    learner.look_before()
    kept = []
    store = learner._store
    learner._store = lambda: kept.append(parts_of(model, refiners=True)) or store()
    progress = learner.run()
    assert progress.best == {"a": 0.6, "b": 0.6} and progress.best_step == {"a": 2, "b": 2}
    assert all(torch.equal(value, kept[-1][key]) for key, value in parts_of(model, refiners=True).items())


def test_what_was_best_for_one_target_and_bad_for_the_other_is_not_kept(tiny_model: Callable, tmp_path: Path) -> None:
    model, material = tiny_model(("a", "b"), refiner=8), of_two(views())
    shown = {"a": iter([0.5, 0.5, 0.9]), "b": iter([0.5, 0.5, 0.0])}
    learner = training(model, material, material, tmp_path / "t.pt", steps=1, every=1, refine=1.0)
    learner._held_dice = lambda name: next(shown[name])
    new = parts_of(model, refiners=True)
    learner.look_before()
    assert learner.run().best == {"a": 0.5, "b": 0.5}
    assert all(torch.equal(value, new[key]) for key, value in parts_of(model, refiners=True).items())
