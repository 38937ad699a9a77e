"""Unknown is not background: not for the loss, the score, or what is learned; wrong labels are named."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from small_cases import NAME, volume, write
from small_views import half_known, training, views

from ProMISeCore import packs, simulate
from ProMISeCore.__main__ import main
from ProMISeCore.augment import Augment
from ProMISeCore.dataset import LabelledStack, Task, changed, joined
from ProMISeCore.doubt import fitted, foreign, is_foreign, outliers
from ProMISeCore.pairs import find
from ProMISeCore.pretrain import mask_loss
from ProMISeCore.promise import Output
from ProMISeCore.survey import Survey
from ProMISeCore.training import Training
from ProMISeCore.truth import UNKNOWN


def everywhere(count: int) -> Output:
    """What a decoder says that finds the target in every pixel."""
    return Output(torch.full((count, 3, 16, 16), 9.0), torch.ones(count, 3))


def test_unknown_pixels_change_neither_loss_nor_gradient() -> None:
    logits = torch.linspace(-3, 3, 16).reshape(1, 1, 4, 4)
    known = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    known[..., :2] = True
    masks = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    masks[..., 1] = True
    found = []
    for beyond in (False, True):
        masks[..., 2:] = beyond
        free = logits.clone().requires_grad_()
        loss = mask_loss(free, masks, known)
        loss.sum().backward()
        assert (free.grad[~known] == 0).all() and (free.grad[known] != 0).all()
        found.append((loss.detach(), free.grad))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert torch.allclose(mask_loss(logits, masks, torch.ones_like(known)), mask_loss(logits, masks))


def test_unknown_pixels_do_not_count_in_the_score(tiny_model, tmp_path) -> None:
    held = views()
    learner = training(tiny_model(("a",)), held, held, tmp_path / "t.pt")
    whole = learner.case_dice(held, np.arange(8), "a")
    held.known[:2], held.masks[:2] = False, False
    part = learner.case_dice(held, np.arange(8), "a")
    assert set(whole) == {0, 1, 2, 3} and set(part) == {1, 2, 3}
    assert all(part[case] == whole[case] for case in part)


def test_what_is_found_in_unknown_pixels_does_not_count_in_the_score(tiny_model, tmp_path) -> None:
    material = half_known()
    material.masks[:] = material.known
    learner = training(tiny_model(("a",)), material, None, tmp_path / "t.pt")
    learner._decoding.solve = lambda *_: everywhere(8)
    assert learner.case_dice(material, np.arange(8), "a") == {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}


def test_targets_that_are_said_to_be_absent_count_as_not_found_in_the_score(tiny_model, tmp_path) -> None:
    """The threshold is never reached: wrong where the square is there, right in the cases without it."""
    material = views()
    material.masks[4:] = False
    learner = training(tiny_model(("a",), presence_threshold=1.0), material, None, tmp_path / "t.pt")
    assert learner.case_dice(material, np.arange(8), "a") == {0: 0.0, 1: 0.0, 2: 1.0, 3: 1.0}


def test_where_the_target_may_lie_in_unknown_pixels_presence_is_not_learned(tiny_model, tmp_path) -> None:
    material, found = half_known(), []
    material.masks[:] = False
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        checkpoint, changes = tmp_path / f"{weight}.pt", {"presence": weight, "corrections": 0}
        learner = training(tiny_model(("a",)), material, None, checkpoint, **changes)
        found.append(float(learner._loss("a", np.arange(8)).detach()))
    assert found[0] == found[1]


def test_nobody_clicks_in_unknown_pixels(tiny_model, tmp_path, monkeypatch) -> None:
    """All is found, the mask is known to end in column 8 of 16: frame column 32."""
    material, asked = half_known(), []
    material.masks[..., 8:] = False
    learner = training(tiny_model(("a",)), material, None, tmp_path / "t.pt")
    loss, corrections = learner._loss, simulate.corrections
    monkeypatch.setattr(simulate, "corrections", lambda *given: asked.append(corrections(*given)) or asked[-1])
    encoded, masks = learner._decoding.encoded(material, np.arange(8), "a")
    known, generator = loss._known(np.arange(8), "a"), torch.Generator().manual_seed(0)
    loss._after_clicks(encoded, "a", everywhere(8), masks, known, generator)
    ((points, labels),) = asked
    assert (points[..., 0][labels >= 0] < 32).all() and (labels == 0).any()


def test_rows_of_which_nothing_is_known_are_never_drawn(tiny_model, tmp_path) -> None:
    material = views()
    material.known[[1, 6]], material.masks[[1, 6]] = False, False
    learner = training(tiny_model(("a",)), material, None, tmp_path / "t.pt")
    drawn = np.concatenate([learner.material.rows(0, learner.settings, learner.generator) for _ in range(50)])
    assert set(drawn.tolist()) == {0, 2, 3, 4, 5, 7}


@pytest.mark.parametrize("augment", [None, Augment(keep=0.0)])
def test_of_a_target_that_a_case_lacks_nothing_is_known_beside_its_content_either(tmp_path, augment) -> None:
    """Content of 32 × 40 leaves a fifth of the frame free; that counted as known background, and the case as right."""
    voxels, mask = volume(0)
    write(tmp_path / "c", "one", voxels, {"Scheibe": mask})
    (pair,) = find([str(tmp_path / "c")])
    window = {"mode": "percentile", "low": 0.5, "high": 99.5}
    stack = LabelledStack(pair, Task({"Scheibe": None, "Rand": None}, "axial", window, "neighbours", "corner"), 64)
    _, labels = changed(stack.sample(2), augment, torch.Generator().manual_seed(0))
    assert (labels[1] == UNKNOWN).all() and set(labels[0].unique().tolist()) == {0, 1}


@pytest.mark.parametrize(("rule", "succeeds"), [("auto", True), ("background", False)])
def test_every_third_slice_teaches_and_the_others_are_not_background(
    tmp_path, command, monkeypatch, rule, succeeds
) -> None:
    """Dark slices with a disc are segmented, the grey ones between them, with a disc too, are not; in the case that is
    scored all are grey. Whoever takes untouched slices as background learns that a disc on grey is none.
    """
    monkeypatch.setattr(Survey, "small", property(lambda self: False))  # a refiner sees too many greys to mind them
    grey = 70
    for number in range(3):
        voxels, mask = volume(number, 9)
        segmented = np.isin(np.arange(9), [] if number == 0 else [1, 4, 7])[:, None, None]
        voxels[~np.broadcast_to(segmented, mask.shape) & ~mask] += grey
        folder = tmp_path / ("new" if number == 0 else "sparse")
        write(folder, f"c{number}", voxels, {"Scheibe": mask if number == 0 else mask & segmented})
    options = ["--held-out", "none", "--unlabelled-slices", rule, "--rate", "0.01", "--channels", "repeat"]
    options += ["--window", "fixed:0:255"]  # or each volume would be brought to the same greys
    options += ["--backbone", "tiny", "--side", "128"]  # the embedded one, which sees the disc
    assert main(command(tmp_path / "sparse", *options, steps=40)) == 0
    report = tmp_path / "scores.json"
    scoring = ["evaluate", "--pack", NAME, "--images", str(tmp_path / "new"), "--json", str(report), "--no-cache"]
    assert main([*scoring, "--backbone", "tiny", "--device", "cpu"]) == 0
    dice = json.loads(report.read_text())["mean"]["Scheibe"]["dice"]
    assert (dice > 0.5) == succeeds, dice


def test_a_target_that_some_cases_lack_is_learned_from_the_others(tmp_path, command, capsys) -> None:
    for number in range(3):
        voxels, mask = volume(number)
        both = {"Scheibe": mask, "Rand": ~mask} if number != 1 else {"Scheibe": mask}
        write(tmp_path / "some", f"c{number}", voxels, both)
    assert main(command(tmp_path / "some", "--held-out", "c0")) == 0
    assert "'Rand' is not known in 1 cases: c1" in capsys.readouterr().err
    manifest = packs.read_manifest(packs.find(NAME))
    assert [(score["target"], score["cases"]) for score in manifest.scores] == [("Scheibe", 1), ("Rand", 1)]


def test_that_most_of_a_volume_is_taken_for_unknown_is_told(tmp_path, command, capsys) -> None:
    for number in range(2):
        voxels, mask = volume(number, 9)
        mask[np.isin(np.arange(9), [1, 4, 7], invert=True)] = False
        write(tmp_path / "some", f"c{number}", voxels, {"Scheibe": mask})
    for rule, told in (("auto", True), ("background", False)):
        assert main(command(tmp_path / "some", "--check", "--unlabelled-slices", rule)) == 0
        out = capsys.readouterr().out
        assert (
            "on some slices only in 2 of 2 cases (c0, c1): up to 67% of their voxels count as unknown" in out
        ) == told


def test_outliers_are_far_below_the_median() -> None:
    assert outliers({0: 0.9, 1: 0.88, 2: 0.2, 3: 0.91, 4: 0.86}) == [(2, 0.2, 0.88)]
    assert outliers({0: 0.9, 1: 0.88, 2: 0.46, 3: 0.91}) == []  # hard, and more than half of the median
    assert outliers({0: 0.9, 1: 0.88, 2: 0.43, 3: 0.91}) == [(2, 0.43, 0.89)]
    assert outliers({0: 0.9, 1: 0.1, 2: 0.9}) == []  # three cases cannot tell
    assert outliers({0: 0.4, 1: 0.0, 2: 0.4, 3: 0.4, 4: 0.4}) == []  # hardly anything is learned yet


def test_a_doubted_case_is_not_learned_from_any_more_and_a_resumed_training_knows(tiny_model, tmp_path, monkeypatch):
    material = views(16, 8)
    learner = training(tiny_model(("a",)), material, None, tmp_path / "t.pt")
    monkeypatch.setattr(Training, "case_dice", lambda *_: dict.fromkeys(range(8), 0.9) | {5: 0.1})
    looks = []
    learner.run(looks.append)
    assert [suspect["case"] for look in looks for suspect in look.suspects] == [5]
    resumed = training(tiny_model(("a",)), material, None, tmp_path / "t.pt")
    drawn = np.concatenate([resumed.material.rows(0, resumed.settings, resumed.generator) for _ in range(50)])
    assert not set(drawn.tolist()) & {10, 11} and len(set(drawn.tolist())) == 14


def test_at_most_a_quarter_of_the_cases_is_doubted_the_worst_first(tiny_model, tmp_path) -> None:
    learner = training(tiny_model(("a",)), views(16, 8), None, tmp_path / "t.pt")
    learner.case_dice = lambda *_: dict.fromkeys(range(8), 0.9) | {1: 0.1, 4: 0.0, 6: 0.05}
    looks = []
    learner.run(looks.append)
    assert [suspect["case"] for look in looks for suspect in look.suspects] == [4, 6]


def test_a_case_without_the_target_is_not_doubted(tiny_model, tmp_path, monkeypatch) -> None:
    """One wrong pixel makes its Dice 0, and it is what there is most to learn from."""
    material, held = views(16, 8), views(4, 2, seed=1)
    for empty in (material, held):
        empty.masks[empty.case == 1] = False
    learner = training(tiny_model(("a",)), material, held, tmp_path / "t.pt")
    monkeypatch.setattr(
        Training, "case_dice", lambda _, what, *__: dict.fromkeys(range(8 if what is material else 2), 0.9) | {1: 0.0}
    )
    looks = []
    learner.run(looks.append)
    assert not any(look.suspects for look in looks) and not learner.material.distrusted[0]


def test_a_target_that_no_held_out_slice_holds_is_taught_and_has_no_score(tiny_model, tmp_path) -> None:
    """Finding nothing was right there, so that the first state stayed the best."""
    material, held, model = views(), views(4, 2, seed=1), tiny_model(("a",))
    held.masks[:] = False
    learner = training(model, material, held, tmp_path / "t.pt")
    assert learner.look_before() == {"a": None}
    first = {key: value.clone() for key, value in model.tensors().items()}
    learner.run()
    assert not all(torch.equal(value, first[key]) for key, value in model.tensors().items())
    assert learner.held_dice("a") == {}
    held.masks[0] = views().masks[0]
    assert set(training(model, material, held, tmp_path / "other.pt").held_dice("a")) == {0, 1}, (
        "beside one that has it"
    )


def test_that_no_held_out_case_holds_a_target_is_told(tmp_path, command, capsys) -> None:
    for number in range(3):
        voxels, mask = volume(number)
        edge = ~mask if number else np.zeros_like(mask)
        write(tmp_path / "some", f"c{number}", voxels, {"Scheibe": mask, "Rand": edge})
    assert main(command(tmp_path / "some", "--held-out", "c0", "--check")) == 0
    assert "no held-out case holds 'Rand': it is taught without a score" in capsys.readouterr().out


def test_held_out_cases_are_foreign_where_next_to_nothing_is_found() -> None:
    assert fitted({0: 0.9, 1: 0.8, 2: 0.7}) == 0.8
    assert fitted({0: 0.9, 1: 0.8}) is None and fitted({0: 0.3, 1: 0.2, 2: 0.4}) is None
    assert foreign({0: 0.7, 1: 0.1, 2: 0.0, 3: 0.21}, 0.8) == [(2, 0.0, 0.8), (1, 0.1, 0.8)]
    assert is_foreign({0: 0.0}, 0.8) and is_foreign({0: 0.1, 1: 0.2}, 0.8)
    assert not is_foreign({0: 0.0, 1: 0.7}, 0.8) and not is_foreign({}, 0.8)


@pytest.mark.parametrize(("held", "suspects", "judges"), [({0: 0.02}, [0], False), ({0: 0.02, 1: 0.8}, [0], True)])
def test_held_out_labels_that_are_wrong_do_not_choose_the_state(
    tiny_model, tmp_path, monkeypatch, held, suspects, judges
) -> None:
    material, judge, model = views(16, 8), views(4, len(held), seed=1), tiny_model(("a",))
    monkeypatch.setattr(
        Training, "case_dice", lambda _, what, *__: held if what is judge else dict.fromkeys(range(8), 0.9)
    )
    learner = training(model, material, judge, tmp_path / "t.pt")
    learner.look_before()
    first = {key: value.clone() for key, value in model.tensors().items()}
    looks = []
    learner.run(looks.append)
    found = [suspect for look in looks for suspect in look.suspects]
    assert [suspect["case"] for suspect in found] == suspects and all(suspect["held"] for suspect in found)
    assert looks[-1].dice["a"] == (0.41 if judges else None)
    isFirst = all(torch.equal(value, first[key]) for key, value in model.tensors().items())
    assert isFirst == judges, "what does not get better is not kept, unless nothing judges"
    resumed = training(tiny_model(("a",)), material, judge, tmp_path / "t.pt")
    assert resumed.progress.unjudged == ([] if judges else ["a"]) and not any(resumed.material.distrusted.values())


def test_a_computer_that_slept_has_not_used_its_minutes(tiny_model, tmp_path) -> None:
    times = iter(np.cumsum([*[0.0, 1.0] * 3, 0, 36_000, *[0.0, 1.0] * 900]).tolist())
    material = views()
    learner = training(tiny_model(("a",)), material, None, tmp_path / "t.pt", minutes=0.2)
    learner._clock = lambda: next(times)
    learner.progress.doubts = 3  # which have looks of their own
    progress = learner.run()
    assert progress.step == 9 and 11 < progress.seconds < 14  # and two looks, of which the last is at the end


def test_a_computer_that_slept_during_a_look_has_not_used_its_minutes_either(tiny_model, tmp_path) -> None:
    now, asleep = [0.0], [36_000.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    def report(look) -> None:
        now[0] += asleep.pop() if asleep else 0.0

    learner = training(tiny_model(("a",)), views(), None, tmp_path / "t.pt", minutes=0.5)
    learner._clock = clock
    progress = learner.run(report)
    assert not asleep and 30 <= progress.seconds < 34


def test_a_short_sleep_within_a_step_is_no_use_of_minutes(tiny_model, tmp_path) -> None:
    learner = training(tiny_model(("a",)), views(), None, tmp_path / "t.pt", minutes=0.5)
    assert [learner._watch.lasted(seconds) for seconds in (1.0, 1.0, 9.0)] == [1.0, 1.0, 9.0]
    usual = learner._watch._usual
    assert learner._watch.lasted(70.0) == usual and learner._watch.lasted(50.0, is_step=False) == 50.0
    assert learner._watch.lasted(70.0) == usual and learner._watch.lasted(70.0) == 70.0, "what lasts is no sleep"


def test_a_training_without_finite_gradients_ends_with_a_reason(tiny_model, tmp_path, monkeypatch) -> None:
    from ProMISeCore.errors import WeightsError

    learner = training(tiny_model(("a",)), views(), None, tmp_path / "t.pt", steps=100)
    parameter = next(learner.model.targets["a"].parameters())
    monkeypatch.setattr(learner, "_loss", lambda *_: parameter.sum() * float("nan"))
    with pytest.raises(WeightsError, match="not finite, 21 steps in a row"):
        learner.run()


def test_joined_views_are_read_row_by_row() -> None:
    one, two = views(4, 2, seed=1), views(6, 3, seed=2)
    both = joined([one, two])
    assert both.case.tolist() == [0] * 4 + [1] * 6
    rows = np.array([9, 0, 4, 3])
    expected = [two.embedding[5], one.embedding[0], two.embedding[0], one.embedding[3]]
    assert np.array_equal(both.embedding[rows], expected)
