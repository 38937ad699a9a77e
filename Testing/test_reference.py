"""The authors' checkpoints: exact on the published code's golden run, and refused where they do not fit."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hostile import Hostile
from torch import Tensor

import ProMISeCore
from ProMISeCore import packs, reference, sam
from ProMISeCore.apm import ApmCross, ApmResnet
from ProMISeCore.errors import WeightsError
from ProMISeCore.ips import Ips

WIDTH, SIDE = 24, 64
SAM = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
Tensors = dict[str, Tensor]


@pytest.fixture(autouse=True)
def small_vit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ViT of 12 blocks, 24 channels wide, is known as an architecture."""
    torch.set_num_threads(1)
    monkeypatch.setitem(sam.ARCHITECTURES, "vit_xs", sam._vit(WIDTH, 12, 1, (2, 5, 8, 11)))


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(sam.build("vit_xs", SIDE).state_dict(), tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


def save(path: Path, *parts: Tensors) -> Path:
    torch.save({key: value for part in parts for key, value in part.items()}, path)
    return path


def own_sam(backbone: Path) -> Tensors:
    return torch.load(backbone, weights_only=True)


def resnet(count: int = 4) -> Tensors:
    """An APM `resnet` under published names, with what nothing reads."""
    torch.manual_seed(1)
    convolutions = {"fusion.0": "fusion_conv1", "fusion.2": "fusion_conv2", "fusion.4": "fusion_conv3"}
    found = {}
    for key, value in ApmResnet(WIDTH, count).state_dict().items():
        name = f"apm_{key}" if key.startswith("resnet") else f"apm_feature_map.{convolutions[key[:8]]}.{key[9:]}"
        found[name] = value
    return found | {"apm_resnet.fc2.weight": torch.zeros(1024, 512), "apm_resnet.fc2.bias": torch.zeros(1024)}


def cross(count: int = 6) -> Tensors:
    """An APM `cross` under published names, with what nothing reads."""
    torch.manual_seed(2)
    parts = {"attention": "cross_attention", "mlp.0": "ffn.lin1", "mlp.2": "ffn.lin2"}
    levels = {"enlarge9": "deconv1", "enlarge6.0": "deconv2", "enlarge6.1": "deconv3"}
    steps = {"0": "deconv", "1": "conv", "2": "batchnorm"}
    parts |= {f"{ours}.{n}": f"{theirs}.{name}" for ours, theirs in levels.items() for n, name in steps.items()}
    found = {f"apm_cross.layers.{n}.norm2.weight": torch.ones(WIDTH) for n in range(3)}
    for key, value in ApmCross(WIDTH, count).state_dict().items():
        for ours, theirs in parts.items():
            key = key.replace(f"{ours}.", f"{theirs}.")
        found[key.replace("read.", "apm_cross_prompt.") if key.startswith("read.") else f"apm_cross.{key}"] = value
    return found


def ips(prefix: str = "ips_ffn.") -> Tensors:
    torch.manual_seed(3)
    return {f"{prefix}{key}": value for key, value in Ips().state_dict().items()}


def convert(path: Path, backbone: Path | None) -> packs.Manifest:
    """Import to out.safetensors beside the checkpoint."""
    return reference.import_checkpoint(path, backbone, path.parent / "out.safetensors")


# The published code


@pytest.fixture
def golden(shared: Path) -> ModuleType:
    """Deterministic weights with which the published code was run once: `state_dict(variant)`, `image(seed)`."""
    path = shared / "reference" / "golden.py"
    if not (path.is_file() and (path.parent / "golden_apm_ips.npz").is_file()):
        pytest.skip("the published code's golden run is not beside the repository")
    spec = importlib.util.spec_from_file_location("golden", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_outputs_equal_the_published_codes(golden: ModuleType, tmp_path: Path) -> None:
    tensors = golden.state_dict("apm_ips")
    save(tmp_path / "APM_IPS.pt", tensors)
    save(tmp_path / "sam_vit_b_01ec64.pth", {key: value for key, value in tensors.items() if key.startswith(SAM)})
    manifest = convert(tmp_path / "APM_IPS.pt", tmp_path / "sam_vit_b_01ec64.pth")
    assert manifest.backbone.name == "sam_vit_b"
    model = ProMISeCore.load(tmp_path / "out.safetensors", tmp_path / "sam_vit_b_01ec64.pth")
    with torch.inference_mode():
        out = model(golden.image(7))
    with np.load(golden.HERE / "golden_apm_ips.npz") as expected:
        np.testing.assert_allclose(out.points[0], expected["prompts"], atol=0.01, rtol=0)
        np.testing.assert_allclose(out.shift[0], expected["tokens"], atol=1e-4, rtol=0)
        np.testing.assert_allclose(out.logits[0].sigmoid(), expected["prob"], atol=1e-4, rtol=0)
        np.testing.assert_allclose(out.iou[0], expected["iou"], atol=1e-4, rtol=0)
    assert out.labels.tolist() == [[1] * 8 + [0] * 8]


@pytest.mark.parametrize("variant", ["apm", "apm_ips", "apm_ips_cross"])
def test_every_published_tensor_is_known_and_fits(golden: ModuleType, variant: str) -> None:
    published = golden.json.loads((golden.HERE / "keys_promise.json").read_text())[variant]
    with torch.device("meta"):
        learned = {key: torch.empty(shape) for key, shape in published.items() if not key.startswith(SAM)}
        own = {"cross": ApmCross, "ips": ApmResnet, "apm": ApmResnet}[variant.rpartition("_")[2]]().state_dict()
        own = {f"0.apm.{key}": value for key, value in own.items() if value.is_floating_point()}
        if "ips" in variant:
            own |= {f"0.ips.{key}": value for key, value in Ips().state_dict().items()}
        frozen = sam.Sam("vit_b").state_dict()
    renamed = reference._renamed(learned, Path("x"))
    assert {key: value.shape for key, value in renamed.items()} == {key: value.shape for key, value in own.items()}
    theirs = {key: tuple(shape) for key, shape in published.items() if key.startswith(SAM)}
    assert theirs == {key: tuple(value.shape) for key, value in frozen.items()}


# Variants


@pytest.mark.parametrize(
    ("parts", "apm", "count", "kind"),
    [
        ([resnet], "resnet", 4, None),
        ([resnet, ips], "resnet", 4, "pae"),
        ([cross], "cross", 6, None),
        ([cross, ips], "cross", 6, "pae"),
        ([ips], None, 0, "pae"),
    ],
    ids=["APM_resnet", "APM_IPS_resnet", "APM_cross", "APM_IPS_cross", "IPS_GT"],
)
def test_variants_are_recognised_and_run(backbone: Path, tmp_path: Path, parts, apm, count: int, kind) -> None:
    save(tmp_path / "x.pt", own_sam(backbone), *(part() for part in parts))
    manifest = convert(tmp_path / "x.pt", backbone)
    (target,) = manifest.targets
    assert (target.apm and target.apm["kind"], target.ips and target.ips["kind"]) == (apm, kind)
    assert list(target.point_labels) == [1] * (count // 2) + [0] * (count // 2)
    model = ProMISeCore.load(tmp_path / "out.safetensors", backbone)
    assert model.blocks == ((12, 9, 6) if apm else ())
    with torch.inference_mode():
        out = model(torch.zeros(2, 3, SIDE, SIDE))
    assert (out.points.shape == (2, count, 2)) if apm else out.points is None
    assert (out.shift.shape == (2, 4, 256)) if kind else out.shift is None
    assert out.presence is None and out.logits.shape == (2, 3, 16, 16)


def test_the_tensors_reach_their_places(backbone: Path, tmp_path: Path) -> None:
    given = cross() | ips()
    save(tmp_path / "x.pt", own_sam(backbone), given)
    convert(tmp_path / "x.pt", backbone)
    found = packs.tensors(tmp_path / "out.safetensors")
    for published, ours in {
        "apm_cross.deconv1.deconv.weight": "0.apm.enlarge9.0.weight",
        "apm_cross.deconv2.conv.bias": "0.apm.enlarge6.0.1.bias",
        "apm_cross.deconv3.batchnorm.running_var": "0.apm.enlarge6.1.2.running_var",
        "apm_cross.layers.1.cross_attention.in_proj_weight": "0.apm.layers.1.attention.in_proj_weight",
        "apm_cross.layers.2.ffn.lin2.weight": "0.apm.layers.2.mlp.2.weight",
        "apm_cross.layers.0.norm3.bias": "0.apm.layers.0.norm3.bias",
        "apm_cross_prompt.weight": "0.apm.read.weight",
        "ips_ffn.lin1.bias": "0.ips.lin1.bias",
    }.items():
        assert torch.equal(found[ours], given[published]), ours
    assert not any(key.startswith(SAM) or "norm2" in key for key in found)


def test_published_settings_are_in_the_manifest(backbone: Path, tmp_path: Path) -> None:
    manifest = convert(save(tmp_path / "APM_IPS.pt", own_sam(backbone), resnet(5)), backbone)
    assert (manifest.orientation, manifest.window, manifest.channels) == ("image", {"mode": "bytes"}, "repeat")
    assert (manifest.padding, manifest.opening, manifest.threshold) == ("squeeze", 5, 0.5)
    assert (manifest.modality, manifest.name, manifest.title) == ("RGB", "out", "APM_IPS")
    assert manifest.targets[0].point_labels == (1, 1, 1, 0, 0) and manifest.targets[0].presence is None
    assert manifest == packs.read_manifest(tmp_path / "out.safetensors")


def test_old_names_give_the_same_pack(backbone: Path, tmp_path: Path) -> None:
    found = []
    for name in ("ips_ffn.", "ffn."):
        convert(save(tmp_path / "x.pt", own_sam(backbone), resnet(), ips(name)), backbone)
        found.append(packs.tensors(tmp_path / "out.safetensors"))
    new, old = found
    assert new.keys() == old.keys() and all(torch.equal(new[key], old[key]) for key in new)


@pytest.mark.parametrize("shape", [(4, 256), (1, 4, 256), (1024,)])
@pytest.mark.parametrize("name", ["ips_token.weight", "learnable_token", "mask_shift"])
def test_a_learned_tensor_is_ips_without_pae(backbone: Path, tmp_path: Path, name: str, shape: tuple) -> None:
    save(tmp_path / "x.pt", own_sam(backbone), {name: torch.arange(1024.0).reshape(shape)})
    assert convert(tmp_path / "x.pt", backbone).targets[0].ips == {"kind": "static"}
    with torch.inference_mode():
        out = ProMISeCore.load(tmp_path / "out.safetensors", backbone)(torch.zeros(1, 3, SIDE, SIDE))
    assert out.shift[0, 1, 2] == 258


# How checkpoints are stored


@pytest.mark.parametrize("wrapper", ["model", "state_dict"])
def test_wrapped_checkpoints_are_unwrapped(backbone: Path, tmp_path: Path, wrapper: str) -> None:
    tensors = {f"module.{key}": value for key, value in (own_sam(backbone) | ips()).items()}
    torch.save({wrapper: tensors, "optimizer": {"step": 3}, "epoch": 197}, tmp_path / "x.pt")
    assert convert(tmp_path / "x.pt", backbone).targets[0].ips == {"kind": "pae", "hidden": 1024}


def test_half_precision_checkpoints_are_compared_in_half_precision(backbone: Path, tmp_path: Path) -> None:
    halves = {key: value.half() if value.is_floating_point() else value for key, value in own_sam(backbone).items()}
    save(tmp_path / "x.pt", halves, ips())
    assert convert(tmp_path / "x.pt", backbone).targets[0].ips is not None


def test_a_checkpoint_of_the_learned_parts_alone_needs_a_backbone(backbone: Path, tmp_path: Path) -> None:
    save(tmp_path / "x.pt", ips())
    with pytest.raises(WeightsError, match="holds nothing of SAM; say with --backbone"):
        convert(tmp_path / "x.pt", None)
    assert convert(tmp_path / "x.pt", backbone).targets[0].ips is not None


def test_without_a_backbone_the_checkpoints_own_is_taken(backbone: Path, tmp_path: Path) -> None:
    save(tmp_path / "x.pt", own_sam(backbone), ips())
    assert convert(tmp_path / "x.pt", None).backbone == convert(tmp_path / "x.pt", backbone).backbone
    assert ProMISeCore.load(tmp_path / "out.safetensors", backbone).manifest.backbone.side == SIDE


# What is refused


def test_another_sam_is_refused_and_the_difference_named(backbone: Path, tmp_path: Path) -> None:
    changed = own_sam(backbone)
    changed["mask_decoder.iou_token.weight"] = changed["mask_decoder.iou_token.weight"] + 1e-3
    save(tmp_path / "x.pt", changed, ips())
    with pytest.raises(
        WeightsError, match=r"another SAM than .*sam.pth: 1 of its .* differ \(mask_decoder.iou_token.w"
    ):
        convert(tmp_path / "x.pt", backbone)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_pack_does_not_run_on_another_backbone(backbone: Path, tmp_path: Path) -> None:
    save(tmp_path / "x.pt", own_sam(backbone), ips())
    convert(tmp_path / "x.pt", backbone)
    torch.manual_seed(9)
    torch.save(sam.build("vit_xs", SIDE).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="was made for the backbone vit_xs with fingerprint"):
        ProMISeCore.load(tmp_path / "out.safetensors", tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({}, "neither APM nor IPS.*use --backbone"),
        ({"adapter.weight": torch.zeros(2)}, "1 tensors that no published variant has .adapter.weight"),
        (ips() | {"ips_token.weight": torch.zeros(4, 256)}, "no published variant has .ips_token.weight"),
        (resnet() | cross(), "two APMs, resnet and cross"),
        ({"apm_cross_prompt.weight": torch.zeros(2, WIDTH)}, "an incomplete APM"),
        ({"ips_ffn.lin1.weight": torch.zeros(8, 256)}, "3 missing .0.ips.lin1.bias"),
        (ips() | {"ips_ffn.lin2.weight": torch.zeros(512, 1024)}, r"0.ips.lin2.weight is \(512, 1024\), not \(1024"),
        ({key: value for key, value in resnet().items() if "layer3.2" not in key}, "missing .0.apm.resnet.layer3.2"),
    ],
    ids=["plain SAM", "foreign", "two IPS", "two APMs", "half an APM", "half an IPS", "other tokens", "a hole"],
)
def test_what_is_no_published_checkpoint_is_refused(backbone: Path, tmp_path: Path, extra: Tensors, message) -> None:
    save(tmp_path / "x.pt", own_sam(backbone), extra)
    with pytest.raises(WeightsError, match=message):
        convert(tmp_path / "x.pt", backbone)
    assert not (tmp_path / "out.safetensors").exists()


def test_code_in_a_checkpoint_does_not_run(backbone: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"model": own_sam(backbone) | ips(), "x": Hostile(trace)}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="could run code"):
        convert(tmp_path / "x.pt", backbone)
    assert not trace.exists()
