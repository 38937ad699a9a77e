"""How much of its budget a training has used: steps, minutes, and passes over few slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from small_views import training, views

from ProMISeCore.budget import Budget
from ProMISeCore.material import Material
from ProMISeCore.progress import Progress
from ProMISeCore.settings import Settings
from ProMISeCore.training import Training

TIMED = Settings(minutes=10, passes=120, batch=12)


def test_steps_count_alone_where_they_are_the_budget() -> None:
    budget = Budget(Settings(steps=1000, passes=1, batch=12), slices=10)
    assert budget.share(Progress(step=250, seconds=1e6)) == 0.25
    assert not budget.is_learned_out(Progress(step=1000))


@pytest.mark.parametrize(("slices", "steps"), [(38, 380), (190, 1900), (3, 150)])
def test_a_slice_is_learned_from_120_times_at_most(slices: int, steps: int) -> None:
    """38 slices × 120 in batches of 12; of three slices 150 steps, so that anything is learned."""
    budget = Budget(TIMED, slices)
    assert budget.share(Progress(step=steps // 2, seconds=30)) == 0.5
    assert budget.share(Progress(step=steps // 2, seconds=480)) == 0.8, "what comes first"
    out, late = Progress(step=steps, seconds=60), Progress(step=steps - 1, seconds=600)
    assert budget.share(out) == budget.share(late) == 1
    assert budget.is_learned_out(out) and not budget.is_learned_out(late)


def test_without_passes_or_slices_the_clock_counts_alone() -> None:
    for budget in (Budget(replace(TIMED, passes=None), 38), Budget(TIMED, 0)):
        assert budget.share(Progress(step=10**6, seconds=150)) == 0.25


def test_decoders_and_refiners_have_passes_of_their_own() -> None:
    """A quarter of the time went to encoding; of the rest the first 15 % are the decoders'. Two refined targets see
    four batches in a step: 8 × 120 passes over 48 slices are 960 steps."""
    budget = Budget(TIMED, slices=48, served=[2])
    progress = Progress(seconds=150, begun=0.25)
    assert budget.share(progress) == 0.25
    assert budget.decoders_end(progress) == pytest.approx(0.25 + 0.15 * 0.75)
    progress.step = 240
    assert budget.share(progress) == pytest.approx(0.25 + 0.15 * 0.75 / 2) and budget.decoders_share(progress) == 0.5
    progress.step = 480
    assert budget.decoders_share(progress) == 1
    progress.refining_from, progress.refining_step = budget.share(progress), 480
    progress.step = 480 + 480
    assert budget.share(progress) == pytest.approx((1 + progress.refining_from) / 2)
    progress.step = 480 + 960
    assert budget.is_learned_out(progress)


def test_the_rate_warms_up_and_falls_to_a_hundredth_whatever_ends_the_budget() -> None:
    for budget, half, end in (
        (Budget(TIMED, 38), Progress(step=190, seconds=1), Progress(step=380, seconds=1)),
        (Budget(TIMED, 38), Progress(step=100, seconds=300), Progress(step=100, seconds=600)),
    ):
        assert budget.rate(Progress(step=24), is_refined=False) == pytest.approx(0.5 * 1e-3, rel=0.02)
        assert budget.rate(half, is_refined=False) == pytest.approx(0.505e-3)
        assert budget.rate(end, is_refined=False) == pytest.approx(1e-5)
    refining = Progress(step=300, seconds=400, refining_from=0.5, refining_step=200)
    assert Budget(TIMED, 1000, [1]).rate(refining, is_refined=True) > 2e-3


def test_looks_are_forty_at_most_and_five_seconds_apart() -> None:
    budget, last = Budget(TIMED, 38), Progress(step=100, seconds=100)
    assert budget.is_time_to_look(Progress(step=110, seconds=105), last, 60.0)
    assert not budget.is_time_to_look(Progress(step=110, seconds=104), last, 60.0), "too soon"
    assert not budget.is_time_to_look(Progress(step=101, seconds=106), last, 60.0), "too little was done"
    assert budget.is_time_to_look(Progress(step=101, seconds=180), last, 60.0), "a fortieth of the time"
    assert budget.is_time_to_look(Progress(step=380, seconds=101), last, 60.0), "the end"
    assert budget.is_time_to_look(Progress(step=110, seconds=100.4), last, 0.1), "on a quick computer"


def test_a_refiner_of_few_targets_gets_its_passes_beside_one_of_many() -> None:
    """What is kept of a base has a refiner of its own."""
    alone, beside = (Budget(TIMED, 100, served) for served in ([1], [2, 1]))
    progress = Progress(step=4000, seconds=60, refining_from=0.2, refining_step=1000)
    assert alone.share(progress) == beside.share(progress) == pytest.approx(0.2 + 0.8 * 3000 / 4000)


def test_targets_without_refiners_learn_no_longer_beside_those_with() -> None:
    budget = Budget(TIMED, 100, [1])
    refining = Progress(step=999, seconds=60, refining_from=0.15, refining_step=500)
    assert not budget.is_over(refining) and budget.rate(refining, is_refined=False) < 2e-5
    refining.step = 1000
    assert budget.is_over(refining) and budget.share(refining) < 1


def doubts_of(learner: Training, place: Callable[[], float]) -> list[float]:
    """Where the learner, to whom a step takes 8 ms and all else no time, will have doubted labels."""
    now, found, step, doubt = [0.0], [], learner.step, learner.doubt

    def timed(name: str) -> float:
        now[0] += 0.008
        return step(name)

    def noted() -> list:
        before = learner.progress.doubts
        suspects = doubt()
        found.extend([place()] * (learner.progress.doubts - before))
        return suspects

    learner.step, learner.doubt, learner._clock = timed, noted, lambda: now[0]
    return found


def test_on_a_quick_computer_looks_and_doubts_come_as_often(tiny_model, tmp_path) -> None:
    """A step takes 8 ms by this clock: all is over after 1.2 s."""
    material, looks = views(), []
    learner = training(tiny_model(("a",)), material, material, tmp_path / "t.pt", minutes=10.0, passes=1.0)
    doubted = doubts_of(learner, lambda: learner.share)
    learner.run(looks.append)
    assert learner.progress.step == 150 and learner.learned_out
    assert doubted == pytest.approx([0.3, 0.5, 0.7], abs=0.01) and 25 <= len(looks) <= 30


def test_nothing_is_doubted_before_it_was_learned_from(tiny_model, tmp_path) -> None:
    """Encoding took half of the time: a step of 8 ms in 1.2 s, of which 0.6 s are over."""
    model = tiny_model(("a",))
    material = Material(views(), {info.name: info.point_labels for info in model.manifest.targets})
    learner = Training(model, material, None, Settings(batch=4, minutes=0.02), tmp_path / "t.pt", spent=0.6)
    doubted = doubts_of(learner, lambda: learner.progress.step)
    learner.run()
    assert learner.progress.step == 75 and doubted == [23, 38, 53]
    assert learner.progress.seconds == pytest.approx(1.2) and learner.seconds == pytest.approx(0.6)
