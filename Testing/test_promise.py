"""The method assembled: what comes out, from which prompts, and that SAM stays as it is."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import ProMISeCore
from ProMISeCore import packs, sam
from ProMISeCore.errors import InputError, WeightsError
from ProMISeCore.packs import BackboneInfo, Manifest, TargetInfo
from ProMISeCore.promise import Promise, Target

SIDE = 64
FULL = TargetInfo(
    "full",
    apm={"kind": "lite", "count": 4, "width": 16},
    ips={"kind": "pae", "hidden": 16},
    presence={"width": 8},
    point_labels=(1, 1, 0, 0),
)
ONLY_IPS = TargetInfo("only IPS", ips={"kind": "static"})
ONLY_APM = TargetInfo("only.APM", apm={"kind": "lite", "count": 1, "width": 8}, point_labels=(1,))
NOTHING = TargetInfo("nothing")


def manifest_for(backbone: sam.Sam, *targets: TargetInfo) -> Manifest:
    info = BackboneInfo(backbone.name, backbone.fingerprint(), backbone.side)
    return Manifest("test", info, targets, "MR", "axial", {"mode": "bytes"})


@pytest.fixture(scope="module")
def vit() -> sam.Sam:
    """A frozen ViT of 12 blocks, 24 channels wide, for frames of 64 pixels."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sam.ARCHITECTURES, "vit_xs", sam._vit(24, 12, 1, (2, 5, 8, 11)))
        return sam.build("vit_xs", SIDE).freeze()


@pytest.fixture
def model(tiny_sam: sam.Sam) -> Promise:
    torch.manual_seed(1)
    made = Promise(tiny_sam, manifest_for(tiny_sam, FULL, ONLY_IPS, ONLY_APM, NOTHING)).eval()
    nn.init.normal_(made.targets["only IPS"].ips.shift)
    return made


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


# What comes out


def test_outputs_of_a_target_with_everything(model: Promise, images: torch.Tensor) -> None:
    out = model(images)
    assert out.points.shape == (2, 4, 2) and out.labels.tolist() == [[1, 1, 0, 0]] * 2
    assert (out.points > 0).all() and (out.points < SIDE).all()
    assert out.shift.shape == (2, 4, 256)
    assert out.logits.shape == (2, 3, 16, 16) and out.iou.shape == (2, 3)
    assert out.presence.shape == (2,) and ((out.presence > 0) & (out.presence < 1)).all()


@pytest.mark.parametrize(
    ("target", "present"),
    [("full", "points labels shift presence"), ("only IPS", "shift"), ("only.APM", "points labels"), ("nothing", "")],
)
def test_what_a_target_does_not_have_is_none(model: Promise, images: torch.Tensor, target: str, present: str) -> None:
    out = model(images, target=target)
    found = [name for name in ("points", "labels", "shift", "presence") if getattr(out, name) is not None]
    assert found == present.split() and out.logits.shape == (2, 3, 16, 16)


def test_forward_is_encode_place_shift_decode(model: Promise, images: torch.Tensor) -> None:
    target, frozen = model.targets["full"], model.sam
    out = model(images, "full")
    embedding = frozen.encode(images)
    points = SIDE * target.apm(embedding, [])
    labels = torch.tensor([[1, 1, 0, 0]] * 2)
    logits, iou = frozen.decode(embedding, points, labels, shift=target.ips(embedding))
    assert torch.equal(out.points, points) and torch.equal(out.shift, target.ips(embedding))
    assert torch.equal(out.logits, logits) and torch.equal(out.iou, iou)
    assert not torch.allclose(out.logits, frozen.decode(embedding, points, labels)[0]), "the shift does something"


def test_the_first_target_is_the_default_and_another_differs(model: Promise, images: torch.Tensor) -> None:
    assert torch.equal(model(images).logits, model(images, target="full").logits)
    assert not torch.allclose(model(images).logits, model(images, target="only IPS").logits)


def test_prompts_given_replace_the_apms_and_keep_the_shift(model: Promise, images: torch.Tensor) -> None:
    encoded = model.encode(images)
    points, labels = torch.tensor([[[10.0, 20.0]]]), torch.tensor([[1]])
    automatic, prompted = model.solve(encoded), model.solve(encoded, points=points, labels=labels)
    assert torch.equal(prompted.points, points.expand(2, 1, 2)) and prompted.labels.tolist() == [[1], [1]]
    assert torch.equal(prompted.shift, automatic.shift)
    shift = model.targets["full"].ips(encoded.embedding)
    assert torch.equal(prompted.logits, model.sam.decode(encoded.embedding, points, labels, shift=shift)[0])


@pytest.mark.parametrize("prompt", ["box", "mask"])
def test_a_box_or_a_mask_alone_is_a_prompt(model: Promise, images: torch.Tensor, prompt: str) -> None:
    given = {"box": torch.tensor([[4.0, 8.0, 40.0, 50.0]]), "mask": torch.full((1, 1, 16, 16), 10.0)}[prompt]
    encoded = model.encode(images)
    out = model.solve(encoded, **{prompt: given})
    assert out.points is None and out.labels is None and out.shift is not None
    assert not torch.allclose(out.logits, model.solve(encoded).logits)


def test_features_are_read_only_where_an_apm_needs_them(vit: sam.Sam, images: torch.Tensor) -> None:
    torch.manual_seed(0)
    cross = TargetInfo("c", apm={"kind": "cross", "count": 3}, point_labels=(1, 1, 0))
    without, with_cross = Promise(vit, manifest_for(vit, FULL)), Promise(vit, manifest_for(vit, FULL, cross)).eval()
    assert without.blocks == () and without.encode(images).features == []
    assert with_cross.blocks == (12, 9, 6)
    encoded = with_cross.encode(images)
    assert [tuple(feature.shape) for feature in encoded.features] == [(2, 24, 4, 4)] * 3
    out = with_cross.solve(encoded, "c")
    assert out.points.shape == (2, 3, 2)
    shuffled = encoded.features[::-1]
    assert not torch.allclose(out.points, SIDE * with_cross.targets["c"].apm(encoded.embedding, shuffled))


# Bad input


def test_an_unknown_target_is_answered_with_those_there_are(model: Promise, images: torch.Tensor) -> None:
    with pytest.raises(InputError, match="no target 'spleen'; it has full, only IPS, only.APM, nothing"):
        model(images, target="spleen")


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((1, 3, 32, 32), torch.float32, r"\(1, 3, 32, 32\); tiny expects \(B, 3, 64, 64\)"),
        ((1, 1, SIDE, SIDE), torch.float32, r"expects \(B, 3, 64, 64\)"),
        ((3, SIDE, SIDE), torch.float32, r"expects \(B, 3, 64, 64\)"),
        ((1, 3, SIDE, SIDE), torch.uint8, "images are torch.uint8; expected a tensor of floats"),
    ],
)
def test_wrong_images_are_refused(model: Promise, shape: tuple, dtype: torch.dtype, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model(torch.zeros(shape, dtype=dtype))


def test_an_array_is_no_tensor(model: Promise, images: torch.Tensor) -> None:
    with pytest.raises(InputError, match="images are ndarray; expected a tensor of floats"):
        model(images.numpy())


def test_points_without_labels_are_refused(model: Promise, images: torch.Tensor) -> None:
    with pytest.raises(InputError, match="points and labels go together"):
        model.solve(model.encode(images), points=torch.zeros(1, 1, 2))
    with pytest.raises(InputError, match="points and labels go together"):
        model.solve(model.encode(images), labels=torch.zeros(1, 1))


def test_another_backbone_is_refused(tiny_sam: sam.Sam) -> None:
    manifest = manifest_for(tiny_sam, FULL)
    torch.manual_seed(5)
    with pytest.raises(WeightsError, match=f"fingerprint {tiny_sam.fingerprint()[:12]}…, got tiny .*use the backbone"):
        Promise(sam.build("tiny", SIDE), manifest)


def test_another_side_is_refused(tiny_sam: sam.Sam) -> None:
    larger = sam.build("tiny", 96)
    larger.load_state_dict(tiny_sam.state_dict())
    with pytest.raises(WeightsError, match="frames of side 64, the backbone was loaded for 96; load it with side=64"):
        Promise(larger, manifest_for(tiny_sam, FULL))


def test_an_apm_of_block_features_needs_a_vit(tiny_sam: sam.Sam) -> None:
    resnet = TargetInfo("r", apm={"kind": "resnet", "count": 2}, point_labels=(1, 0))
    with pytest.raises(WeightsError, match="'resnet' of 'r' reads features of encoder blocks, but tiny has none"):
        Promise(tiny_sam, manifest_for(tiny_sam, resnet))


def test_a_bad_manifest_is_refused_before_training(tiny_sam: sam.Sam) -> None:
    with pytest.raises(WeightsError, match="threshold is 2"):
        Promise(tiny_sam, replace(manifest_for(tiny_sam, FULL), threshold=2))


def test_targets_given_must_be_the_manifests(tiny_sam: sam.Sam) -> None:
    manifest = manifest_for(tiny_sam, FULL)
    with pytest.raises(WeightsError, match="the targets are a; the manifest's are full"):
        Promise(tiny_sam, manifest, {"a": Target.of(FULL, tiny_sam)})
    given = Target.of(FULL, tiny_sam)
    assert Promise(tiny_sam, manifest, {"full": given}).targets["full"] is given


# Frozen


def bits(module: nn.Module) -> dict[str, str]:
    return {
        key: hashlib.sha256(value.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
        for key, value in module.state_dict().items()
    }


@pytest.mark.parametrize("kind", ["lite", "resnet", "cross"])
def test_a_training_step_leaves_sam_bit_identical(vit: sam.Sam, images: torch.Tensor, kind: str) -> None:
    torch.manual_seed(0)
    width = {"width": 16} if kind == "lite" else {}
    info = replace(FULL, apm={"kind": kind, "count": 4} | width)
    model = Promise(vit, manifest_for(vit, info)).train()
    assert not any(module.training for module in model.sam.modules())
    assert not any(parameter.requires_grad for parameter in model.sam.parameters())
    before, learned = bits(model.sam), {key: value.clone() for key, value in model.tensors().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    out = model(images)
    (out.logits.square().mean() + out.presence.sum()).backward()
    optimizer.step()
    assert bits(model.sam) == before
    assert all(parameter.grad is None for parameter in model.sam.parameters())
    moved = {key.split(".")[1] for key, value in model.tensors().items() if not torch.equal(value, learned[key])}
    assert moved == {"apm", "ips", "presence"}


def test_the_whole_apm_learns_from_the_mask_alone(vit: sam.Sam, images: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = Promise(vit, manifest_for(vit, FULL)).train()
    model(images).logits.square().mean().backward()
    apm = model.targets["full"].apm
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in apm.parameters())
    assert apm.read.weight.grad.abs().sum() > 0


def test_a_pack_holds_nothing_of_sam(model: Promise, tmp_path: Path) -> None:
    packs.save(tmp_path / "a.safetensors", model.manifest, model.tensors())
    shapes = packs.read(tmp_path / "a.safetensors").shapes
    assert {key.split(".")[1] for key in shapes} == {"apm", "ips", "presence"}
    assert {key.split(".")[0] for key in shapes} == {"0", "1", "2"}
    size = sum(parameter.numel() for target in model.targets.values() for parameter in target.parameters())
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == size < 50_000


# Packs


@pytest.fixture
def files(model: Promise, tmp_path: Path) -> tuple[Path, Path]:
    """The model's pack and its backbone as files."""
    packs.save(tmp_path / "a.safetensors", model.manifest, model.tensors())
    save_file(model.sam.state_dict(), tmp_path / "backbone.safetensors")
    return tmp_path / "a.safetensors", tmp_path / "backbone.safetensors"


def test_a_loaded_pack_gives_the_same_masks(model: Promise, images: torch.Tensor, files: tuple[Path, Path]) -> None:
    pack, backbone = files
    loaded = ProMISeCore.load(pack=str(pack), backbone=str(backbone), device="cpu")
    assert not loaded.training and loaded.sam.side == SIDE
    for target in model.targets:
        found, expected = loaded(images, target=target).logits, model(images, target=target).logits
        assert torch.allclose(found, expected, atol=1e-3)  # where memory lies changes a convolution's last digits


def test_load_takes_auto_as_device(files: tuple[Path, Path]) -> None:
    loaded = ProMISeCore.load(*files, device="auto")
    devices = {tensor.device.type for tensor in loaded.state_dict().values()}
    assert len(devices) == 1
    with pytest.raises(InputError, match="unknown device 'gpu'"):
        ProMISeCore.load(*files, device="gpu")


def test_a_pack_of_an_unknown_backbone_asks_for_its_file(model: Promise, tmp_path: Path) -> None:
    info = replace(model.manifest.backbone, name="../my_sam")
    packs.save(tmp_path / "a.safetensors", replace(model.manifest, backbone=info), model.tensors())
    with pytest.raises(WeightsError, match="backbone called '../my_sam', which is none of tiny, .*give its file"):
        ProMISeCore.load(tmp_path / "a.safetensors")


def test_a_manifest_that_asks_for_more_than_the_file_holds_takes_no_memory(
    model: Promise, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy = replace(model.manifest.targets[0], ips={"kind": "pae", "hidden": 8192})
    packs.save(tmp_path / "g.safetensors", replace(model.manifest, targets=[greedy]), {"0.ips.x": torch.zeros(1)})
    monkeypatch.setattr(Promise, "__init__", lambda *_: pytest.fail("the networks were made"))
    with pytest.raises(WeightsError, match="g.safetensors does not hold what 'test' needs"):
        ProMISeCore.load(tmp_path / "g.safetensors", files[1])


def test_tensors_that_do_not_fit_are_listed_in_one_message(model: Promise) -> None:
    tensors = model.tensors()
    del tensors["0.apm.read.bias"]
    tensors |= {"7.apm.x": torch.zeros(1), "1.ips.shift": torch.zeros(4, 128)}
    with pytest.raises(WeightsError) as caught:
        model.load_tensors(tensors, "my.safetensors")
    text = str(caught.value)
    assert text.startswith("my.safetensors does not hold what 'test' needs")
    assert "1 missing (0.apm.read.bias)" in text and "1 unexpected (7.apm.x)" in text
    assert "1.ips.shift is (4, 128), not (4, 256)" in text


def test_batch_norm_statistics_come_back(vit: sam.Sam, images: torch.Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    info = TargetInfo("c", apm={"kind": "cross", "count": 3}, point_labels=(1, 1, 0))
    model = Promise(vit, manifest_for(vit, info)).train()
    model(images)  # moves the running mean
    packs.save(tmp_path / "a.safetensors", model.eval().manifest, model.tensors())
    again = Promise(vit, packs.read_manifest(tmp_path / "a.safetensors"))
    again.load_tensors(packs.tensors(tmp_path / "a.safetensors")).eval()
    assert torch.equal(again(images).points, model(images).points)
    assert model.tensors()["0.apm.enlarge9.2.running_mean"].abs().sum() > 0


def test_load_backbone_gives_a_frozen_sam(files: tuple[Path, Path]) -> None:
    backbone = ProMISeCore.load_backbone(files[1], device="cpu", side=96)
    assert backbone.side == 96 and backbone.frozen and not backbone.training
    logits, iou = backbone.decode(backbone.encode(torch.zeros(1, 3, 96, 96)))
    assert logits.shape == (1, 3, 24, 24) and iou.shape == (1, 3)
