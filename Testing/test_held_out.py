"""Which cases are drawn to be held out."""

from __future__ import annotations

from pathlib import Path

import pytest

from ProMISeCore.case import Case, State
from ProMISeCore.held_out import drawn
from ProMISeCore.pairs import Pair


def case(name: str, labelled: str) -> Case:
    """Of the targets "a" and "b", those are segmented whose letters are given."""
    states = {target: State("labelled" if target in labelled else "unknown") for target in "ab"}
    return Case(Pair(name, Path(name), Path(name)), states=states)


@pytest.mark.parametrize("seed", range(20))
def test_cases_in_which_all_targets_are_segmented_come_first(seed: int) -> None:
    cases = [case("part 0", "a"), case("whole 0", "ab"), case("part 1", "b"), case("part 2", "a")]
    cases += [case("whole 1", "ab"), case("part 3", "b")]
    (chosen,) = drawn(cases, 2, frozenset(), None, seed)
    assert chosen.pair.name in ("whole 0", "whole 1")
