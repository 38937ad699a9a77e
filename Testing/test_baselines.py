"""Baselines and the size of APM: all ways share cases and budget, the tables say what was measured."""

from __future__ import annotations

import apm_size
import baselines
import numpy as np
import pytest
import SimpleITK as sitk
import torch

pytest.importorskip("monai", reason='MONAI is not installed: pip install -e ".[experiments]"')


@pytest.fixture
def hippocampi(tmp_path, tiny_sam):
    """Five small volumes of two targets in the shared data's folders, a polyp set of six pictures; and a backbone."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        folder = tmp_path / "data" / "volumes" / "hippocampus" / split
        folder.mkdir(parents=True)
        for number in range(count):
            label = np.zeros((12, 14, 16), np.uint8)
            label[3:9, 4:10, 3 + number : 8], label[3:9, 4:10, 8:13] = 1, 2
            image = (60 * label + generator.integers(0, 9, label.shape)).astype(np.int16)
            for name, array in (("image", image), ("label", label)):
                sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / f"h{number}_{name}.nii.gz"))
    torch.save(tiny_sam.state_dict(), tmp_path / "b.pth")
    return tmp_path


def test_every_way_is_measured_on_the_same_cases_and_told(hippocampi, monkeypatch, capsys):
    command = ["baselines.py", "--data", str(hippocampi / "data"), "--workspace", str(hippocampi / "w"), "--side", "64"]
    command += ["--backbone", str(hippocampi / "b.pth"), "--subjects", "hippocampus", "--patients", "1", "all"]
    command += ["--minutes", "0.02", "--views", "1", "--slices", "2", "--unet-side", "32"]
    monkeypatch.setattr("sys.argv", command)
    baselines.main()
    text = capsys.readouterr().out
    assert [text.count(f"| {title} |") for title in baselines.WAYS.values()] == [2, 2, 2]
    assert "anterior hippocampus" in text and "| hippocampus | all (3 cases) |" in text
    _, found = baselines.collect(hippocampi / "w")
    for count, ways in found["hippocampus"].items():
        assert set(ways) == {"pack", "decoder", "unet"}
        for (result,) in ways.values():
            assert result["cases"] == {"learn": 1 if count == "1" else 2, "held": 1, "val": 2}
            assert np.array(result["dice"]).shape == (2, 2)


def _result(dice, best=0.5):
    fitted = {"steps": 10, "cpu_seconds": 60.0, "best": best, "looks": [(5, 0.5), (10, 0.4)]}
    cases = {"learn": 8, "held": 1, "val": 2}
    return {"dice": dice, "targets": ["a", "b"], "cases": cases, "parameters": 2_000_000, "fitted": fitted}


def test_figures_are_means_over_cases_and_spread_over_seeds():
    seeds = [_result([[0.8, 0.6], [1.0, 0.6]]), _result([[0.6, 0.5], [0.8, 0.5]])]
    assert baselines._figures(seeds, 1) == [
        "2",
        "a 80.0 ± 14.1, b 55.0 ± 7.1",
        "67.5 ± 10.6",
        "2.00 M",
        "10",
        "0.9 min",
    ]
    found = {"heart": {"all": {"unet": seeds}, "2": {"unet": seeds[:1]}}}
    rows = baselines._rows(found, 1)
    labelled, dice = [row[1] for row in rows[1:]], [row[4] for row in rows[1:]]
    assert labelled == ["2"] * 3 + ["all (9 cases)"] * 3
    assert dice == ["not measured yet"] * 2 + ["a 90.0, b 60.0"] + ["not measured yet"] * 2 + [
        "a 80.0 ± 14.1, b 55.0 ± 7.1"
    ]


@pytest.mark.parametrize("text", ["0", "-1", "some"])
def test_numbers_of_patients_are_checked(text):
    with pytest.raises(Exception, match="no number of patients"):
        baselines._count(text)


def test_lite_is_judged_against_resnet_seed_by_seed():
    shared = {"backbone": "tiny", "fingerprint": "0" * 64, "side": 64, "lead": 1, "steps": 2, "blocks": False}
    found = {}
    for seed, (large, small) in enumerate([(0.80, 0.80), (0.70, 0.69), (0.60, 0.60)]):
        found[f"polyp.resnet.seed{seed}"] = {"dice": [large], "parameters": 21_000_000}
        found[f"polyp.lite-16.seed{seed}"] = {"dice": [small], "parameters": 6_000}
        found[f"polyp.lite-32.seed{seed}"] = {"dice": [small - 0.02], "parameters": 12_000}
    text = apm_size.report(shared, found)
    assert "| polyp | `lite 16` | 6 k | 3 | 69.7 ± 10.0 | -0.3 ± 0.6 | yes |" in text
    assert "| polyp | `lite 32` | 12 k | 3 | 67.7 ± 10.0 | -2.3 ± 0.6 | no |" in text
    assert "| polyp | `resnet` | 21.00 M | 3 | 70.0 ± 10.0 | – | – |" in text
    assert "since it has no block features" in text
    two = {key: result for key, result in found.items() if not key.endswith("seed2")}
    assert "open: fewer than 3 seeds" in apm_size.report(shared, two)


def test_the_paper_s_resnet_reads_blocks_where_there_are_some_and_the_embedding_where_not(tiny_sam):
    from learners import Design, EmbeddingResnet, Learner

    small = Learner(tiny_sam, Design(apm="lite 16")).targets[0].apm
    large = Learner(tiny_sam, Design(apm="resnet")).targets[0].apm
    assert isinstance(large, EmbeddingResnet) and large.blocks == ()
    count = {apm: sum(p.numel() for p in apm.parameters()) for apm in (small, large)}
    assert count[large] > 1000 * count[small]
    points = large.eval()(torch.zeros(2, 256, 4, 4))
    assert points.shape == (2, 8, 2) and ((points > 0) & (points < 1)).all()
