"""Training of packs: only APM, IPS and presence change, a killed run continues exactly, views are encoded once."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from small_cases import write_disc
from small_views import training

import ProMISeCore
from ProMISeCore import dataset, packs, pairs
from ProMISeCore.augment import Augment
from ProMISeCore.errors import InputError
from ProMISeCore.refiner import Refiner


@pytest.fixture
def discs(tmp_path):
    """Ten grey pictures of one bright disc each, the last three without; label 1 is the disc."""
    folder = tmp_path / "discs"
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :64]
    for number in range(10):
        row, column = generator.integers(14, 34), generator.integers(14, 50)
        disc = (np.hypot(rows - row, columns - column) < 9) & (number < 7)
        write_disc(folder, f"c{number}", disc, generator.integers(0, 20, disc.shape))
    return folder


TASK = dataset.Task({"a": 1}, "image", {"mode": "bytes"}, "repeat", "corner")


def _views(folder, sam, place, views=2):
    found = pairs.find([str(folder)])
    chosen = dataset.plan(found, TASK, sam.side, views, 4, seed=0)
    return dataset.Encoder(sam, (), Augment(), place).views(chosen, lambda steps, total: steps)


def test_views_hold_every_slice_plain_first_and_are_encoded_once(discs, tiny_sam, tmp_path, monkeypatch):
    views = _views(discs, tiny_sam, tmp_path)
    assert len(views) == 20 and views.masks.shape == (20, 1, 16, 16)
    assert views.masks[::2, 0].any((1, 2)).tolist() == [True] * 7 + [False] * 3
    assert not np.array_equal(views.embedding[0], views.embedding[1])

    def refuse(*_):
        raise AssertionError("encoded again")

    monkeypatch.setattr(type(tiny_sam), "encode", refuse)
    again = _views(discs, tiny_sam, tmp_path)
    assert np.array_equal(again.embedding, views.embedding) and np.array_equal(again.masks, views.masks)


def test_interrupted_encoding_continues_to_the_same_arrays(discs, tiny_sam, tmp_path):
    whole = _views(discs, tiny_sam, tmp_path / "whole")
    chosen = dataset.plan(pairs.find([str(discs)]), TASK, tiny_sam.side, 2, 4, seed=0)

    def kill(steps, total):
        yield next(iter(steps))

    encoder = dataset.Encoder(tiny_sam, (), Augment(), tmp_path / "killed")
    encoder.views(chosen, kill)
    resumed = encoder.views(chosen, lambda steps, total: steps)
    assert np.array_equal(resumed.embedding, whole.embedding) and np.array_equal(resumed.masks, whole.masks)


def test_a_step_changes_the_target_and_not_one_bit_of_sam(discs, tiny_model, tmp_path):
    model = tiny_model(("a",), orientation="image", window={"mode": "bytes"})
    before = {key: value.clone() for key, value in model.sam.state_dict().items()}
    learned = {key: value.clone() for key, value in model.tensors().items()}
    views = _views(discs, model.sam, tmp_path)
    training(model, views, views, tmp_path / "t.pt").step("a")
    assert all(torch.equal(value, before[key]) for key, value in model.sam.state_dict().items())
    changed = {key.split(".")[1] for key, value in model.tensors().items() if not torch.equal(value, learned[key])}
    assert changed == {"apm", "ips", "presence"}


def test_a_resumed_training_equals_an_uninterrupted_one(discs, tiny_model, tmp_path):
    views = _views(discs, tiny_model(("a",)).sam, tmp_path)
    whole = tiny_model(("a",))
    training(whole, views, views, tmp_path / "whole.pt").run(lambda line: None)
    first = training(tiny_model(("a",)), views, views, tmp_path / "part.pt")

    class Killed(Exception):
        pass

    def kill(line):
        first._store()
        raise Killed

    with pytest.raises(Killed):
        first.run(kill)
    resumed = tiny_model(("a",))
    progress = training(resumed, views, views, tmp_path / "part.pt").run(lambda line: None)
    assert progress.step == 6
    for key, value in resumed.tensors().items():
        assert torch.equal(value, whole.tensors()[key]), key


def test_a_checkpoint_from_an_accelerator_is_gone_on_with_without_one(discs, tiny_model, tmp_path, monkeypatch):
    views = _views(discs, tiny_model(("a",)).sam, tmp_path)
    first = training(tiny_model(("a",)), views, views, tmp_path / "c.pt")
    first.run()
    with monkeypatch.context() as patched:
        patched.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        first._store()
    resumed = training(tiny_model(("a",)), views, views, tmp_path / "c.pt")
    assert resumed.progress.step == 6 and resumed.states["a"].keys() == first.states["a"].keys()


def test_other_settings_do_not_continue_a_training(discs, tiny_model, tmp_path):
    views = _views(discs, tiny_model(("a",)).sam, tmp_path)
    training(tiny_model(("a",)), views, views, tmp_path / "t.pt").run(lambda line: None)
    with pytest.raises(InputError, match="another start, settings"):
        training(tiny_model(("a",)), views, views, tmp_path / "t.pt", rate=1e-4)


def test_loss_falls(discs, tiny_model, tmp_path):
    model = tiny_model(("a",))
    views = _views(discs, model.sam, tmp_path)
    learner = training(model, views, views, tmp_path / "t.pt", steps=40, rate=1e-2)

    def loss():  # of all rows, so that it does not depend on a draw
        with torch.no_grad():
            return float(learner._loss("a", np.arange(len(views))))

    before = loss()
    for learner.progress.step in range(40):
        learner.step("a")
    assert loss() < 0.9 * before


def test_gradients_that_overflow_leave_the_weights_alone(discs, tiny_model, tmp_path, monkeypatch):
    model = tiny_model(("a",))
    views = _views(discs, model.sam, tmp_path)
    learner = training(model, views, views, tmp_path / "t.pt")
    before = {key: value.clone() for key, value in model.tensors().items()}
    first = next(model.targets["a"].parameters())
    monkeypatch.setattr(learner, "_loss", lambda name, rows: first.sum() * float("inf"))
    learner.step("a")
    assert all(torch.equal(value, before[key]) for key, value in model.tensors().items())


def test_command_writes_a_pack_that_loads_and_says_what_it_is(discs, tiny_sam, tmp_path, capsys):
    from ProMISeCore.__main__ import main

    torch.save(tiny_sam.state_dict(), tmp_path / "b.pth")
    command = ["train", "--images", str(discs), "--targets", "disc=1", "--backbone", str(tmp_path / "b.pth")]
    command += ["--side", "64", "--out", str(tmp_path / "disc.safetensors")]
    command += ["--steps", "4", "--batch", "2", "--views", "1"]
    assert main(command) == 0
    assert "held-out Dice disc" in capsys.readouterr().out
    manifest = packs.read_manifest(tmp_path / "disc.safetensors")
    assert (manifest.name, manifest.modality, manifest.orientation) == ("disc", "RGB", "image")
    assert manifest.training["cases"] == 10 and manifest.training["seconds"] > 0
    model = ProMISeCore.load(tmp_path / "disc.safetensors", tmp_path / "b.pth")
    assert not any(key.startswith(("image_encoder", "mask_decoder", "prompt_encoder")) for key in model.tensors())


@pytest.fixture
def train(discs, tiny_sam, tmp_path, capsys):
    """`train("--option", …)`: exit code and what was said by a short training on the discs to disc.safetensors."""
    from ProMISeCore.__main__ import main

    torch.save(tiny_sam.state_dict(), tmp_path / "b.pth")

    def run(*options, images=discs):
        command = ["train", "--images", str(images), "--targets", "disc=1", "--backbone", str(tmp_path / "b.pth")]
        command += ["--side", "64", "--out", str(tmp_path / "disc.safetensors"), "--steps", "2", "--batch", "2"]
        code = main([*command, "--views", "1", "--device", "cpu", *options])
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def test_the_same_seed_makes_the_same_pack_and_another_seed_another(train, tmp_path):
    found = []
    for number, seed in enumerate("001"):
        out = tmp_path / f"disc{number}.safetensors"
        assert train("--seed", seed, "--out", str(out))[0] == 0
        found.append(packs.tensors(out))
    one, again, other = found
    assert all(torch.equal(again[key], value) for key, value in one.items())
    assert not all(torch.equal(other[key], value) for key, value in one.items())


def test_a_base_goes_on_from_a_pack_at_another_frame_side(train, tmp_path):
    assert train()[0] == 0
    base = packs.tensors(tmp_path / "disc.safetensors")
    (tmp_path / "disc.safetensors").rename(tmp_path / "base.safetensors")
    options = "--steps", "1", "--rate", "1e-9", "--side", "128", "--workspace", str(tmp_path / "again")
    assert train(*options, "--base", str(tmp_path / "base.safetensors"))[0] == 0
    found = packs.tensors(tmp_path / "disc.safetensors")
    learned = [key for key in base if not key.startswith("refiners.")]
    assert learned and all(torch.allclose(found[key], base[key], atol=1e-5) for key in learned)
    before, after = (packs.read_manifest(tmp_path / f"{name}.safetensors").training for name in ("base", "disc"))
    assert after["seconds"] >= before["seconds"] >= 0
    own = "promise train --seed 0 --steps 1 --views 1 --rate 1e-09 --side 128 --base …"
    assert after["command"] == f"{before['command']}, then {own}"
    code, said = train("--base", str(tmp_path / "base.safetensors"), "--targets", "circle=1")
    assert code == 2 and "a pack of disc" in said and "circle" in said
    code, said = train("--base", "heart")
    assert code == 2 and "--base got heart.safetensors" in said and "fingerprint" in said


def test_a_base_says_how_slices_are_seen(train, tmp_path):
    seen = ("--window", "percentile:2:98", "--channels", "neighbours", "--padding", "squeeze")
    assert train(*seen)[0] == 0
    (tmp_path / "disc.safetensors").rename(tmp_path / "base.safetensors")
    options = ("--base", str(tmp_path / "base.safetensors"), "--workspace", str(tmp_path / "again"))
    assert train(*options)[0] == 0
    found = packs.read_manifest(tmp_path / "disc.safetensors")
    assert dict(found.window) == {"mode": "percentile", "low": 2.0, "high": 98.0}
    assert (found.orientation, found.channels, found.padding) == ("image", "neighbours", "squeeze")
    (tmp_path / "disc.safetensors").unlink()
    for name, other in (("window", "bytes"), ("channels", "repeat"), ("padding", "corner"), ("orientation", "axial")):
        code, said = train(*options, f"--{name}", other)
        assert code == 2 and f"--{name} is " in said and "leave it out" in said
    assert not (tmp_path / "disc.safetensors").exists()
    assert train(*options, *seen)[0] == 0, "the same may be said again"


def test_a_base_for_slices_of_volumes_does_not_go_on_with_pictures(train, tmp_path):
    assert train("--orientation", "axial")[0] == 0
    (tmp_path / "disc.safetensors").rename(tmp_path / "base.safetensors")
    code, said = train("--base", str(tmp_path / "base.safetensors"), "--workspace", str(tmp_path / "again"))
    assert code == 2 and "a pack for axial slices" in said and "is a picture" in said


def test_the_refiners_of_a_base_are_gone_on_with(train, tmp_path):
    assert train()[0] == 0
    known = packs.read_manifest(tmp_path / "disc.safetensors")
    known = replace(known, refiners=({"width": 8, "patch": 2, "targets": ["disc"]},))
    learned = {f"refiners.0.{key}": value + 0.01 for key, value in Refiner(1, 8, 2).state_dict().items()}
    tensors = packs.tensors(tmp_path / "disc.safetensors") | learned
    packs.save(tmp_path / "base.safetensors", known, tensors, half=True)
    base = packs.tensors(tmp_path / "base.safetensors")
    options = ("--base", str(tmp_path / "base.safetensors"), "--workspace", str(tmp_path / "again"))
    (tmp_path / "disc.safetensors").unlink()
    assert train(*options, "--steps", "1", "--rate", "1e-9")[0] == 0
    found = packs.tensors(tmp_path / "disc.safetensors")
    assert packs.read_manifest(tmp_path / "disc.safetensors").refiners == known.refiners
    refiners = [key for key in base if key.startswith("refiners.0.")]
    assert refiners and all(torch.equal(found[key], base[key]) for key in refiners), "without --refine it only serves"
    code, said = train(*options, "--refine", "1", "--refiner", "16")
    assert code == 2 and "refiners of width 8, which are gone on with; leave --refiner out" in said


def test_a_checkpoint_of_another_start_does_not_continue(train, tmp_path):
    assert train()[0] == 0
    (tmp_path / "disc.safetensors").rename(tmp_path / "base.safetensors")
    code, said = train("--base", str(tmp_path / "base.safetensors"))
    assert code == 2 and "a training with another start" in said and not (tmp_path / "disc.safetensors").exists()


def test_any_file_name_makes_a_pack(train, tmp_path):
    out = tmp_path / "my päck.v2.safetensors"
    assert train("--out", str(out))[0] == 0
    assert packs.read_manifest(out).name == "my-p-ck.v2-c4b3f6ed"


def test_files_have_the_rights_that_the_user_wishes(train, tmp_path):
    before = os.umask(0o027)
    try:
        assert train()[0] == 0
    finally:
        os.umask(before)
    written = [tmp_path / "disc.safetensors", tmp_path / "disc.training" / "training.pt"]
    assert [oct(path.stat().st_mode & 0o777) for path in written] == ["0o640"] * 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--points", "4"], "another start, settings, targets or cases"),
        (["--targets", "spot=1"], "another start, settings, targets or cases"),
        (["--padding", "squeeze"], "another start, settings, targets or cases"),
        (["--seed", "3"], "another start, settings, targets or cases"),
    ],
)
def test_a_changed_command_does_not_continue_the_training_of_another(train, options, told):
    assert train()[0] == 0
    code, said = train(*options)
    assert code == 2 and told in said and "--workspace" in said


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut off", b"\x80\x02}q\x00."])
def test_a_damaged_checkpoint_is_told(train, tmp_path, damage):
    assert train()[0] == 0
    (tmp_path / "disc.training" / "training.pt").write_bytes(damage)
    code, said = train()
    assert code == 2 and "training.pt is damaged" in said


def test_another_frame_side_has_its_own_views(train, tmp_path):
    assert train()[0] == 0
    (tmp_path / "disc.training" / "training.pt").unlink()
    assert train("--side", "128")[0] == 0
    assert packs.read_manifest(tmp_path / "disc.safetensors").backbone.side == 128


def test_views_that_do_not_fit_on_the_disk_are_refused_before_they_are_written(train, monkeypatch, tmp_path):
    monkeypatch.setattr(dataset.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    code, said = train()
    assert code == 2 and "1.0 kB are free" in said and not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--out", "pack.bin"], "--out"),
        (["--steps", "0"], "--steps"),
        (["--views", "0"], "--views"),
        (["--held-out", "1.5"], "--held-out"),
        (["--rate", "nan"], "--rate"),
        (["--refine", "nan"], "--refine"),
        (["--refine", "1"], "--refine is 1; expected a share of the steps, 0 or more and below 1"),
        (["--refine", "0.5", "--refiner", "12"], "refiners[0].width is 12, expected a multiple of 8"),
        (["--targets", "disc=7"], "--targets"),
        (["--shifts", "nowhere"], "nowhere"),
        (["--base", "nothing"], "nothing"),
        (["--base", "heart", "--shifts", "file:key"], "two starts"),
        (["--card", "card.json"], "card"),
    ],
)
def test_what_would_fail_after_hours_is_refused_at_once(train, tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "card.json").write_text('{"colors": []}')
    code, said = train(*options)
    assert code == 2 and told in said.strip().splitlines()[-1]
    assert not list(tmp_path.glob("*.safetensors")) and not list(tmp_path.rglob("training.pt"))


def test_the_card_says_how_far_neighbouring_slices_have_a_say(train, tmp_path):
    card = tmp_path / "card.json"
    card.write_text('{"smoothing_mm": 11}')
    code, said = train("--card", str(card))
    assert code == 2 and "smoothing_mm is 11, expected a number from 0 to 10" in said
    assert not list(tmp_path.rglob("training.pt"))
    card.write_text('{"smoothing_mm": 1}')
    assert train("--card", str(card))[0] == 0
    assert packs.read_manifest(tmp_path / "disc.safetensors").smoothing_mm == 1


def test_a_label_map_that_lies_elsewhere_is_refused(train, tmp_path):
    folder = tmp_path / "volumes"
    folder.mkdir()
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 99, (4, 32, 32)).astype(np.int16))
    for number in range(2):
        sitk.WriteImage(image, str(folder / f"{number}_image.nii.gz"))
        label = sitk.Cast(image > 50, sitk.sitkUInt8)
        label.SetOrigin((0, 0, 30))
        sitk.WriteImage(label, str(folder / f"{number}_label.nii.gz"))
    code, said = train(images=folder)
    assert code == 2 and "elsewhere" in said


@pytest.mark.parametrize("targets", [["disc"], ["disc=x"], ["a=1", "a=2"], ["disc=0"]])
def test_unclear_targets_are_refused(discs, tmp_path, targets, capsys):
    from ProMISeCore.__main__ import main

    assert main(["train", "--images", str(discs), "--targets", *targets, "--out", str(tmp_path / "x.safetensors")]) == 2
    assert "--targets" in capsys.readouterr().err
