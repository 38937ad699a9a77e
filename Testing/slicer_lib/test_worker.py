"""The worker: order, staleness, cancelling, failing, ending. Needs no Slicer."""

from __future__ import annotations

import threading
import time

import desks  # noqa: F401  puts the library on the path
import pytest
from ProMISeSlicerLib.worker import Worker


@pytest.fixture
def worker():
    made = Worker()
    yield made
    assert made.close()


def collected(worker: Worker, seconds: float = 5.0) -> list:
    found, end = [], time.monotonic() + seconds
    while worker.busy and time.monotonic() < end:
        worker.wait(0.05)
        found += worker.reports()
    assert not worker.busy
    return found


def test_prompts_go_before_the_next_step_of_a_pass(worker: Worker) -> None:
    started, go = threading.Event(), threading.Event()

    def steps():
        for n in range(3):
            started.set()
            go.wait(5)
            yield n

    worker.stream("pass", steps)
    started.wait(5)
    worker.submit("prompt", lambda: "answer")
    go.set()
    assert [(r.key, r.kind, r.value) for r in collected(worker)] == [
        ("pass", "value", 0), ("prompt", "value", "answer"), ("pass", "value", 1), ("pass", "value", 2),
        ("pass", "done", None),
    ]  # fmt: skip


def test_a_newer_job_takes_the_place_of_a_waiting_one(worker: Worker) -> None:
    started, go, ran = threading.Event(), threading.Event(), []
    worker.submit("block", lambda: started.set() or go.wait(5))
    assert started.wait(5)
    for value in range(5):
        worker.submit("drag", lambda value=value: ran.append(value) or value)
    go.set()
    assert [r.value for r in collected(worker) if r.key == "drag"] == [4] and ran == [4]


def test_cancelling_ends_a_pass_after_its_step_and_closes_it(worker: Worker) -> None:
    closed = threading.Event()

    def steps():
        try:
            while True:
                time.sleep(0.005)
                yield 1
        finally:
            closed.set()

    worker.stream("pass", steps)
    while not worker.hasReports:
        worker.wait(0.05)
    worker.cancel("pass")
    collected(worker)
    assert closed.wait(2) and not worker.busy


def test_an_error_is_reported_and_the_worker_goes_on(worker: Worker) -> None:
    def fails():
        yield 1
        raise ValueError("bad")

    worker.stream("pass", fails)
    assert [r.kind for r in collected(worker)] == ["value", "error"]
    worker.submit("again", lambda: 2)
    assert [r.value for r in collected(worker)] == [2]


def test_one_thread_serves_all_jobs_and_ends(worker: Worker) -> None:
    names = set()
    for n in range(5):
        worker.submit(n, lambda: names.add(threading.get_ident()))
    collected(worker)
    assert len(names) == 1 and worker.alive
    assert worker.close() and not worker.alive and worker.close()
    with pytest.raises(RuntimeError, match="closed"):
        worker.submit("late", lambda: 1)


def test_nothing_runs_while_there_is_nothing_to_do(worker: Worker) -> None:
    """Its thread does not wake up by itself: it waits, without an end, until somebody has a job."""
    waits, idle, wait = [], threading.Event(), worker._condition.wait

    def watched(seconds: float | None = None) -> bool:
        if threading.current_thread() is worker._thread:
            waits.append(seconds)
            idle.set()
        return wait(seconds)

    worker._condition.wait = watched
    for value in range(3):
        idle.clear()
        worker.submit("one", lambda value=value: value)
        assert [report.value for report in collected(worker)] == [value]
        assert idle.wait(5)
    assert set(waits) == {None}
