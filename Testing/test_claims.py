"""The experiment on the paper's claims: what is learned and what is not, cells that are kept, verdicts by the rule."""

from __future__ import annotations

import json

import claims
import numpy as np
import pytest
import sections
import torch
import verdicts
from cells import Cells
from claims_page import report
from evaluation import Truth
from learners import AUTO, NONE, TRUTH, Design, Learner, right_points, solve, teach, truth_points
from learning import Budget, Recipe
from small_cases import write_disc
from subjects import Subject, encode, patient, subject
from variants import COUNTS, VARIANTS
from verdicts import HOLDS, OPEN, REVERSED, Claim, judge

from ProMISeCore import pairs
from ProMISeCore.augment import Augment
from ProMISeCore.dataset import Task
from ProMISeCore.errors import InputError
from ProMISeCore.frame import Frame


@pytest.fixture
def discs(tmp_path):
    """A folder images/isic/{train,val} of pictures with one bright disc each, the shape of the shared data."""
    rows, columns = np.mgrid[:64, :64]
    for split, count in (("train", 6), ("val", 3)):
        folder = tmp_path / "data" / "images" / "isic" / split
        folder.mkdir(parents=True)
        for number in range(count):
            write_disc(folder, str(number), np.hypot(rows - 20 - 4 * number, columns - 30) < 14)
    return tmp_path / "data"


@pytest.fixture
def material(discs, tiny_sam, tmp_path):
    return encode(subject("skin", discs, "squeeze"), tiny_sam, tmp_path / "views", views=1, slices=4)


def test_a_subject_keeps_what_is_scored_apart(discs):
    about = subject("skin", discs)
    assert (len(about.learn), len(about.held), len(about.val)) == (5, 1, 3)
    assert not {p.image for p in about.learn} & {p.image for p in (*about.held, *about.val)}
    assert about.task.values == {"skin lesion": 1} and about.augment == Augment(upset=0.5)
    with pytest.raises(InputError, match="the data of heart are not in"):
        subject("heart", discs)


def test_few_patients_of_the_heart_keep_their_phases_together():
    cases = [pairs.Pair(f"patient{n}_frame{f}", f, f) for n in range(5) for f in ("01", "12")]
    about = Subject("heart", cases[:8], cases[8:], [], Task({"a": 1}, "axial", {}, "repeat", "corner"), Augment())
    for count in (1, 3):
        few = about.few(count, seed=0)
        learn, held = ({patient("heart", p.name) for p in part} for part in (few.learn, few.held))
        assert len(learn | held) == count and len(few.held) == 2
        assert learn == held if count == 1 else not learn & held
    with pytest.raises(InputError, match="there are 5"):
        about.few(6, seed=0)


def test_dice_is_of_whole_cases_on_their_own_grid_and_the_strongest_target_wins():
    masks = np.zeros((2, 2, 4, 4), bool)
    masks[0, 0, :, :2] = masks[0, 1, :, 2:] = True  # two targets side by side on the first slice
    truth = Truth([Frame(4, 4, 64)], [masks])
    logits = np.full((2, 2, 16, 16), -1.0)
    logits[0, 0] = 1.0  # everywhere, but weaker than the second on the right
    logits[0, 1, :, 8:] = 2.0
    assert truth.dice(logits).tolist() == [[1.0, 1.0]]
    logits[1, 1] = 1.0  # 16 false pixels on the second slice
    assert truth.dice(logits)[0, 1] == pytest.approx(2 * 8 / (8 + 24))


@pytest.mark.parametrize(
    ("design", "learned"),
    [
        (Design(TRUTH, ips=None), set()),
        (Design(AUTO, ips=None), {"apm"}),
        (Design(TRUTH), {"ips"}),
        (Design(AUTO, ips="static"), {"apm", "ips"}),
        (Design(AUTO, presence=True), {"apm", "ips", "presence"}),
        (Design(AUTO, ips=None, decoder=True), {"apm", "mask_decoder"}),
        (Design(NONE, ips=None, decoder=True), {"mask_decoder"}),
        (Design(AUTO, apm="resnet", count=2), {"apm", "ips"}),
    ],
)
def test_a_design_learns_its_parts_and_leaves_the_backbone(design, learned, tiny_sam, material):
    before = {key: value.clone() for key, value in tiny_sam.state_dict().items()}
    torch.manual_seed(0)
    learner = Learner(tiny_sam, design)
    asked = {
        key.split(".")[1 if key.startswith("sam.") else 2] for key, p in learner.named_parameters() if p.requires_grad
    }
    assert asked == learned and learner.learns == bool(learned)
    start = {key: p.clone() for key, p in learner.named_parameters() if p.requires_grad}
    if learner.learns:
        teach(learner, material, Recipe(Budget(steps=2), looks=1), lead=1)
        assert any(not torch.equal(p, start[key]) for key, p in learner.named_parameters() if key in start)
    assert all(torch.equal(value, before[key]) for key, value in tiny_sam.state_dict().items())
    solved = solve(learner, material.val, design.points, correct=design.points != NONE)
    assert solved.logits.shape == (3, 1, 16, 16)
    assert (solved.points is None) == (design.points == NONE) == (solved.corrected is None)


def test_ground_truth_points_lie_where_their_labels_say():
    masks = torch.zeros(4, 16, 16, dtype=torch.bool)
    masks[:, 3:9, 5:7] = True
    points = truth_points(masks, [1, 1, 1, 0, 0], torch.Generator().manual_seed(0))
    assert right_points(points.numpy(), [1, 1, 1, 0, 0], masks.numpy()) == (1.0, 1.0)
    assert right_points(points.flip(1).numpy(), [1, 1, 1, 0, 0], masks.numpy())[0] < 0.5
    alone = truth_points(masks, [1], torch.Generator().manual_seed(0))
    assert np.isnan(right_points(alone.numpy(), [1], masks.numpy())[1])


def test_points_are_positive_first_as_published():
    assert Design(count=1).labels == [1] and Design(count=4).labels == [1, 1, 0, 0] and Design(NONE).labels == []


def test_a_rerun_computes_only_what_is_missing_and_other_settings_are_refused(tmp_path):
    cells = Cells(tmp_path, {"steps": 3})
    assert cells.run("a", lambda: {"dice": [1.0]}) == {"dice": [1.0]}
    assert cells.run("a", lambda: pytest.fail("computed again")) == {"dice": [1.0]}
    with pytest.raises(ZeroDivisionError):
        cells.run("b", lambda: {"dice": 1 / 0})
    assert cells.get("b") is None and [path.name for path in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(InputError, match="another steps"):
        Cells(tmp_path, {"steps": 4}).get("a")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match="no cell"):
        cells.get("a")


@pytest.mark.parametrize(
    ("points", "least", "answer"),
    [
        ([1.0, 0.6, 2.0], 0.5, HOLDS),
        ([1.0, -0.1, 9.0], 0.5, OPEN),  # not in every seed
        ([0.2, 0.3, 0.4], 0.5, OPEN),  # too little
        ([4.0, 4.5, 4.9], 5.0, OPEN),  # better, not far
        ([-0.6, -2.0, -1.0], 5.0, REVERSED),
        ([9.0, 9.0], 0.5, f"{OPEN} (2 of 3 seeds)"),
    ],
)
def test_a_verdict_follows_the_rule(points, least, answer):
    assert judge(Claim("x", lambda results: dict(enumerate(points)), least), {}).answer == answer


def _cells(scores):
    """Results of all variants; `scores`: variant → Dice of every seed."""

    def cell(dice: float) -> dict:
        plain = {"parameters": 10, "points_right": [0.9, None], "corrected": [dice]}
        return plain | {"dice": [dice], "with_truth": plain | {"dice": [dice - 0.1]}}

    return {
        name: {n: {f"seed{seed}": cell(dice) for seed, dice in enumerate(of)} for n in VARIANTS[name].counts}
        for name, of in scores.items()
    }


def test_the_page_tells_which_claims_hold_and_what_is_not_measured():
    scores = {name: [0.5, 0.5, 0.5] for name in VARIANTS if name != "apm-static"} | {"apm-ips": [0.8, 0.81, 0.79]}
    shared = {"backbone": "tiny", "fingerprint": "0" * 64, "side": 64, "most": 6, "views": 1, "steps": 2, "lead": 1}
    text = report(shared, {"skin": _cells(scores)}, "pictures/claims.svg")
    assert "| APM + IPS far above APM alone | holds: +30.0 ± 1.0 |" in text
    assert "| PaE above static shifts | not measured yet |" in text
    assert (
        "| APM + IPS better with its own points than evaluated with ground-truth points | holds: +10.0 ± 0.0 |" in text
    )
    assert "| APM + IPS | 8 | 10 | 80.0 ± 1.0 | 80.0 ± 1.0 | 90 % / – |" in text


def test_a_seed_that_only_one_of_two_variants_has_does_not_count():
    results = _cells({name: [0.5, 0.5, 0.5] for name in VARIANTS} | {"apm-ips": [0.9, 0.6, 0.6, 0.6]})
    del results["apm"][8]["seed0"]
    verdict = judge(verdicts.claims(8, COUNTS)[0], results)
    assert (verdict.seeds, round(verdict.mean, 6)) == (2, 10)  # of seeds 1 and 2


def test_a_section_is_replaced_and_the_rest_stays(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A\n<!-- x -->\nold\n<!-- /x -->\nafter\n")
    sections.write(page, "x", sections.table([["a", "b"], ["1", "2"]]))
    assert page.read_text() == "# A\n<!-- x -->\n| a | b |\n|---|---|\n| 1 | 2 |\n<!-- /x -->\nafter\n"
    with pytest.raises(InputError, match="no section y"):
        sections.write(page, "y", "")


def test_the_command_computes_every_cell_once_and_prints_the_section(discs, tiny_sam, tmp_path, monkeypatch, capsys):
    torch.save(tiny_sam.state_dict(), tmp_path / "b.pth")
    command = ["claims.py", "--data", str(discs), "--workspace", str(tmp_path / "w"), "--subjects", "skin"]
    command += ["--seeds", "1", "--backbone", str(tmp_path / "b.pth"), "--side", "64", "--steps", "1", "--lead", "1"]
    monkeypatch.setattr("sys.argv", [*command, "--views", "1"])
    claims.main()
    assert "open (1 of 3 seeds): " in capsys.readouterr().out
    written = sorted((tmp_path / "w" / "cells").glob("*.json"))
    assert len(written) == sum(len(variant.counts) for variant in VARIANTS.values()) == 2 + 3 * len(COUNTS) + 1
    assert len(json.loads(written[0].read_text())["result"]["dice"]) == 3
    stamps = [path.stat().st_mtime_ns for path in written]
    claims.main()
    assert [path.stat().st_mtime_ns for path in written] == stamps
