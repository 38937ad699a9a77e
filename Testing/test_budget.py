"""How much of its budget a training has used: steps, minutes, and passes over few slices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ProMISeCore.budget import Budget
from ProMISeCore.progress import Progress
from ProMISeCore.settings import Settings

TIMED = Settings(minutes=10, passes=120, batch=12)


def test_steps_count_alone_where_they_are_the_budget() -> None:
    budget = Budget(Settings(steps=1000, passes=1, batch=12), slices=10, refined=0)
    assert budget.share(Progress(step=250, seconds=1e6)) == 0.25
    assert not budget.is_learned_out(Progress(step=1000))


@pytest.mark.parametrize(("slices", "steps"), [(38, 380), (190, 1900), (3, 150)])
def test_a_slice_is_learned_from_120_times_at_most(slices: int, steps: int) -> None:
    """38 slices × 120 in batches of 12; of three slices 150 steps, so that anything is learned."""
    budget = Budget(TIMED, slices, refined=0)
    assert budget.share(Progress(step=steps // 2, seconds=30)) == 0.5
    assert budget.share(Progress(step=steps // 2, seconds=480)) == 0.8, "what comes first"
    out, late = Progress(step=steps, seconds=60), Progress(step=steps - 1, seconds=600)
    assert budget.share(out) == budget.share(late) == 1
    assert budget.is_learned_out(out) and not budget.is_learned_out(late)


def test_without_passes_or_slices_the_clock_counts_alone() -> None:
    for budget in (Budget(replace(TIMED, passes=None), 38, 0), Budget(TIMED, 0, 0)):
        assert budget.share(Progress(step=10**6, seconds=150)) == 0.25


def test_decoders_and_refiners_have_passes_of_their_own() -> None:
    """A quarter of the time went to encoding; of the rest the first 15 % are the decoders'. Two refined targets see
    four batches in a step: 8 × 120 passes over 48 slices are 960 steps."""
    budget = Budget(TIMED, slices=48, refined=2)
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
        (Budget(TIMED, 38, 0), Progress(step=190, seconds=1), Progress(step=380, seconds=1)),
        (Budget(TIMED, 38, 0), Progress(step=100, seconds=300), Progress(step=100, seconds=600)),
    ):
        assert budget.rate(Progress(step=24), is_refined=False) == pytest.approx(0.5 * 1e-3, rel=0.02)
        assert budget.rate(half, is_refined=False) == pytest.approx(0.505e-3)
        assert budget.rate(end, is_refined=False) == pytest.approx(1e-5)
    refining = Progress(step=300, seconds=400, refining_from=0.5, refining_step=200)
    assert Budget(TIMED, 1000, 1).rate(refining, is_refined=True) > 2e-3


def test_looks_are_forty_at_most_and_five_seconds_apart() -> None:
    budget, last = Budget(TIMED, 38, 0), Progress(step=100, seconds=100)
    assert budget.is_time_to_look(Progress(step=110, seconds=105), last)
    assert not budget.is_time_to_look(Progress(step=110, seconds=104), last), "too soon"
    assert not budget.is_time_to_look(Progress(step=101, seconds=106), last), "too little was done"
    assert budget.is_time_to_look(Progress(step=101, seconds=180), last), "a fortieth of the time"
    assert budget.is_time_to_look(Progress(step=380, seconds=101), last), "the end"
