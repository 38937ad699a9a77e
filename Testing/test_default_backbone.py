"""The recipe of the embedded backbone: its stages follow each other, and every command is one that `promise` takes."""

from __future__ import annotations

from pathlib import Path

import default_backbone
import pytest

from ProMISeCore.__main__ import _parser


def recipe(*options: str) -> list[list[str]]:
    arguments = default_backbone.parser().parse_args(["--data", "data", "--workspace", "work", *options])
    return list(default_backbone.commands(arguments))


def test_every_stage_starts_from_the_one_before():
    parsed = [_parser("pretrain").parse_args(command) for command in recipe()]
    assert [one.minutes for one in parsed] == [81, 48, 72] and [one.seed for one in parsed] == [0, 0, 3]
    assert parsed[0].init == Path("data/init/mobilenet_v2_imagenet.npz") and parsed[0].start is None
    assert [one.start for one in parsed[1:]] == [one.out for one in parsed[:-1]]
    assert len({one.workspace for one in parsed}) == 3, "checkpoints of their own"


@pytest.mark.parametrize(
    ("options", "minutes"), [(["--times", "0.5"], [40.5, 24, 36]), (["--times", "10"], [810, 480, 720])]
)
def test_an_accelerator_gets_other_minutes_and_more_workers(options, minutes):
    parsed = [
        _parser("pretrain").parse_args(command)
        for command in recipe(*options, "--workers", "12", "--out", "new.safetensors")
    ]
    assert [one.minutes for one in parsed] == minutes and {one.workers for one in parsed} == {12}
    assert parsed[-1].out == Path("new.safetensors") and parsed[0].out == Path("work/first/tiny.safetensors")
