"""The backbone against segment_anything's own forward passes on the same weights, and the files it is loaded from."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hostile import Hostile
from safetensors.torch import save_file
from torch import Tensor

from ProMISeCore import sam as sam_file
from ProMISeCore.errors import InputError, WeightsError
from ProMISeCore.sam import Sam, build, load
from ProMISeCore.segment_anything_parts import ImageEncoderViT

ROOT = Path(__file__).resolve().parent.parent
SIDE, GRID = 64, 4


def scattered(sam: Sam, seed: int = 0) -> Sam:
    """Random weights large enough that every part of the decoder matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sam.parameters():
            spread = 1 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.1
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return sam


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def tiny() -> Sam:
    torch.manual_seed(0)
    return scattered(build("tiny", SIDE)).freeze()


@pytest.fixture
def small_vit(monkeypatch: pytest.MonkeyPatch) -> str:
    """A ViT of three narrow blocks, the second global, known as vit_b during the test; usual frame side 128."""
    small = sam_file._vit(48, 3, 3, (1,))
    object.__setattr__(small, "side", 128)
    monkeypatch.setitem(sam_file.ARCHITECTURES, "vit_b", small)
    return "vit_b"


def embeddings(count: int) -> Tensor:
    return torch.randn(count, 256, GRID, GRID, generator=torch.Generator().manual_seed(1))


POINTS = torch.tensor([[[3.0, 40.0], [60.0, 1.5], [20.0, 20.0]], [[9.0, 9.0], [33.0, 12.0], [0.0, 0.0]]])
LABELS = torch.tensor([[1, 0, 1], [0, 1, -1]])
BOX = torch.tensor([[4.0, 6.0, 50.0, 40.0], [0.0, 0.0, 63.0, 63.0]])
MASK = torch.linspace(-10, 10, 2 * 16 * 16).reshape(2, 1, 16, 16)
PROMPTS = {
    "points": {"points": POINTS, "labels": LABELS},
    "box": {"box": BOX},
    "box and points": {"points": POINTS, "labels": LABELS, "box": BOX},
    "mask": {"mask": MASK},
    "all": {"points": POINTS, "labels": LABELS, "box": BOX, "mask": MASK},
}


def original(sam: Sam, embedding: Tensor, prompts: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """segment_anything's own pass for one image (1, 256, G, G): all prompts of the batch, all four tokens."""
    points = (prompts["points"], prompts["labels"]) if "points" in prompts else None
    sparse, dense = sam.prompt_encoder(points, prompts.get("box"), prompts.get("mask"))
    return sam.mask_decoder.predict_masks(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    return a.shape == b.shape and bool(((a - b).abs() <= tolerance).all())


@pytest.mark.parametrize("kind", PROMPTS)
def test_one_embedding_many_prompts_as_segment_anything(tiny: Sam, kind: str) -> None:
    logits, iou = tiny.decode_tokens(embeddings(1), **PROMPTS[kind])
    expected, expected_iou = original(tiny, embeddings(1), PROMPTS[kind])
    assert expected.std() > 0.1 and not close(expected[:1], expected[1:], 0.01)  # the prompts matter
    assert close(logits, expected) and close(iou, expected_iou)


@pytest.mark.parametrize("kind", PROMPTS)
def test_many_embeddings_one_prompt_each(tiny: Sam, kind: str) -> None:
    logits, iou = tiny.decode(embeddings(2), **PROMPTS[kind])
    for n in range(2):
        one = {name: x[n : n + 1] for name, x in PROMPTS[kind].items()}
        expected, expected_iou = original(tiny, embeddings(2)[n : n + 1], one)
        assert close(logits[n : n + 1], expected[:, 1:]) and close(iou[n : n + 1], expected_iou[:, 1:])


def test_no_prompt(tiny: Sam) -> None:
    logits, iou = tiny.decode_tokens(embeddings(2))
    expected, expected_iou = original(tiny, embeddings(2)[1:], {})
    assert close(logits[1:], expected) and close(iou[1:], expected_iou)


def test_a_single_prompt_is_repeated_over_embeddings(tiny: Sam) -> None:
    once = tiny.decode(embeddings(2), POINTS[:1], LABELS[:1])[0]
    twice = tiny.decode(embeddings(2), POINTS[:1].repeat(2, 1, 1), LABELS[:1].repeat(2, 1))[0]
    assert close(once, twice)


def test_shift_is_added_to_the_mask_tokens(tiny: Sam) -> None:
    shift = 0.5 * torch.randn(1, 4, 256, generator=torch.Generator().manual_seed(2))
    before = tiny.fingerprint()
    logits, iou = tiny.decode_tokens(embeddings(1), **PROMPTS["points"], shift=shift)
    assert tiny.fingerprint() == before == hex_of(tiny.state_dict())
    moved = build("tiny", SIDE).freeze()
    moved.load_state_dict(tiny.state_dict())
    moved.mask_decoder.mask_tokens.weight += shift[0]
    expected, expected_iou = original(moved, embeddings(1), PROMPTS["points"])
    assert close(logits, expected) and close(iou, expected_iou)
    assert not close(logits, original(tiny, embeddings(1), PROMPTS["points"])[0], 0.01)


def test_gradients_reach_what_is_learned_and_not_the_backbone(tiny: Sam) -> None:
    points, shift = POINTS.clone().requires_grad_(), torch.zeros(2, 4, 256, requires_grad=True)
    embedding = embeddings(2).requires_grad_()
    tiny.decode(embedding, points, LABELS, shift=shift)[0].square().sum().backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in (points, shift, embedding))
    assert all(parameter.grad is None for parameter in tiny.parameters())


def test_an_unfrozen_backbone_learns() -> None:
    sam = build("tiny", SIDE)
    assert sam.training and all(parameter.requires_grad for parameter in sam.parameters())
    sam.decode(sam.encode(torch.randn(1, 3, SIDE, SIDE)), POINTS[:1], LABELS[:1])[0].sum().backward()
    learned = sam.mask_decoder.mask_tokens.weight, sam.image_encoder.stem.weight
    assert all(weight.grad.abs().sum() > 0 for weight in learned)


def test_decoding_first_in_inference_mode_does_not_spoil_training() -> None:
    sam = build("tiny", SIDE).freeze()
    with torch.inference_mode():
        sam.decode(embeddings(1))
    shift = torch.zeros(1, 4, 256, requires_grad=True)
    sam.decode(embeddings(1), shift=shift)[0].sum().backward()
    assert shift.grad.abs().sum() > 0


def test_prompts_keep_their_precision_under_autocast(tiny: Sam) -> None:
    expected = tiny._embed_prompts(POINTS, LABELS, BOX, None)[0]
    seen = []
    hook = tiny.prompt_encoder.register_forward_hook(lambda module, given, result: seen.append(result[0]))
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = tiny.decode(embeddings(1).bfloat16(), POINTS, LABELS, BOX)
    hook.remove()
    assert close(seen[0], expected, 1e-6) and logits.dtype == torch.float32


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"points": POINTS}, "labels"),
        ({"points": POINTS, "labels": LABELS[:, :2]}, r"\(2, 2\)"),
        ({"box": BOX[0]}, r"\(B, 4\)"),
        ({"mask": MASK[:, :, 1:]}, r"\(B, 1, 16, 16\)"),
        ({"points": POINTS, "labels": LABELS, "box": BOX[:1].repeat(3, 1)}, "box 3"),
        ({"shift": torch.zeros(3, 4, 256), "box": BOX}, "prompts 2, shift 3"),
    ],
)
def test_prompts_that_do_not_fit(tiny: Sam, given: dict[str, Tensor], words: str) -> None:
    with pytest.raises(InputError, match=words):
        tiny.decode(embeddings(1), **given)


def test_images_and_embeddings_that_do_not_fit(tiny: Sam) -> None:
    with pytest.raises(InputError, match=r"expects \(B, 3, 64, 64\)"):
        tiny.encode(torch.zeros(1, 3, 64, 80))
    with pytest.raises(InputError, match=r"expects \(B, 256, 4, 4\)"):
        tiny.decode(torch.zeros(1, 256, 5, 5))


def test_features_after_the_blocks_asked_for(small_vit: str) -> None:
    sam, images = build(small_vit), torch.randn(2, 3, 128, 128)
    outputs: list[Tensor] = []
    for block in sam.image_encoder.blocks:
        block.register_forward_hook(lambda module, given, result: outputs.append(result))
    expected = sam.image_encoder(images)
    embedding, (last, first) = sam.encode_with_features(images, (3, 1))
    assert close(embedding, expected, 1e-5) and close(sam.encode(images), expected, 1e-5)
    assert last.shape == (2, 48, 8, 8) and (sam.depth, sam.embed_width) == (3, 48)
    assert close(last, outputs[2].permute(0, 3, 1, 2), 1e-5) and close(first, outputs[0].permute(0, 3, 1, 2), 1e-5)


def test_blocks_that_are_not_there(small_vit: str) -> None:
    with pytest.raises(WeightsError, match=r"\[4\].*has 1 to 3"):
        build(small_vit).encode_with_features(torch.zeros(1, 3, 128, 128), (3, 4))


@pytest.mark.parametrize("architecture", ["tiny", "mobile_sam"])
def test_compact_encoders_have_no_block_features(architecture: str) -> None:
    sam, images = build(architecture, SIDE).freeze(), torch.randn(1, 3, SIDE, SIDE)
    embedding, features = sam.encode_with_features(images, ())
    assert features == [] and embedding.shape == (1, 256, GRID, GRID) and close(embedding, sam.encode(images))
    with pytest.raises(WeightsError, match="none"):
        sam.encode_with_features(images, (12, 9, 6))


def test_vit_b_is_segment_anythings(shared: Path) -> None:
    import json

    keys = json.loads((shared / "reference" / "keys_promise.json").read_text())["apm_ips"]
    parts = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
    with torch.device("meta"):
        ours = {key: list(value.shape) for key, value in build("vit_b").state_dict().items()}
    assert ours == {key: shape for key, shape in keys.items() if key.startswith(parts)}


@pytest.mark.parametrize(("architecture", "million"), [("vit_b", 93.7), ("vit_l", 312.3), ("vit_h", 641.1)])
def test_parameters_of_the_published_models(architecture: str, million: float) -> None:
    with torch.device("meta"):
        sam = build(architecture)
    assert sum(p.numel() for p in sam.parameters()) / 1e6 == pytest.approx(million, abs=0.06)
    assert sam.image_encoder.pos_embed.shape[1] == sam.grid == 64


@pytest.mark.parametrize("side", [0, 48, 100, -64, 64.0, True])
def test_frame_sides_that_cannot_be(side: int) -> None:
    with pytest.raises(InputError, match="multiple of 16"):
        build("tiny", side)


@pytest.mark.parametrize(("architecture", "side"), [("tiny", 80), ("mobile_sam", 112), ("vit_b", 208)])
def test_other_frame_sides(small_vit: str, architecture: str, side: int) -> None:
    sam = build(architecture, side).freeze()
    logits, iou = sam.decode(sam.encode(torch.randn(1, 3, side, side)), box=torch.tensor([[0.0, 0, side, side]]))
    assert logits.shape == (1, 3, side // 4, side // 4) and iou.shape == (1, 3) and logits.isfinite().all()


def test_unknown_architecture() -> None:
    with pytest.raises(WeightsError, match="vit_b, vit_l, vit_h, mobile_sam, tiny"):
        build("vit_g")


def test_frozen_stays_frozen() -> None:
    holder = torch.nn.Sequential(build("mobile_sam", SIDE).freeze())
    before = hex_of(holder[0].state_dict())
    holder.train()
    holder[0].encode(torch.randn(2, 3, SIDE, SIDE))  # batch norm would move its running statistics
    assert not any(module.training for module in holder[0].modules())
    assert hex_of(holder[0].state_dict()) == before


def hex_of(state: dict[str, Tensor]) -> str:
    """The fingerprint written out: key and shape as text, then the values as little-endian float32."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(f"{key} {tuple(value.shape)}\n".encode() + value.float().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same half-precision weights of `tiny` in every format that is read."""
    folder = tmp_path_factory.mktemp("weights")
    state = {key: value.half() for key, value in build("tiny").state_dict().items()}
    paths = {name: folder / name for name in ("a.safetensors", "b.pth", "c.pt", "d.pth", "e.pth")}
    save_file(state, str(paths["a.safetensors"]))
    torch.save(state, paths["b.pth"])
    full = {key: value.float() for key, value in state.items()}
    torch.save(full, paths["c.pt"], _use_new_zipfile_serialization=False)
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, paths["d.pth"])
    save_file(state, str(paths["e.pth"]))  # called otherwise
    return paths


def test_one_fingerprint_for_every_format(files: dict[str, Path]) -> None:
    loaded = {name: load(path) for name, path in files.items()}
    expected = hex_of(torch.load(files["b.pth"], weights_only=True))
    assert {name: sam.fingerprint() for name, sam in loaded.items()} == dict.fromkeys(files, expected)
    for sam in loaded.values():
        assert (sam.architecture, sam.side, sam.frozen, sam.training) == ("tiny", 512, True, False)
        assert {value.dtype for value in sam.state_dict().values()} == {torch.float32}
        assert not any(parameter.requires_grad for parameter in sam.parameters())


def test_loaded_weights_are_the_files(files: dict[str, Path]) -> None:
    sam, stored = load(files["b.pth"], side=96), torch.load(files["b.pth"], weights_only=True)
    assert all(torch.equal(value, stored[key].float()) for key, value in sam.state_dict().items())
    assert sam.encode(torch.randn(1, 3, 96, 96)).shape == (1, 256, 6, 6)


def test_fingerprint_depends_on_every_value() -> None:
    sam = build("tiny", SIDE)
    before = sam.fingerprint()
    with torch.no_grad():
        sam.mask_decoder.iou_prediction_head.layers[2].bias[3] += 1e-6
    assert sam.fingerprint() != before  # not frozen, so nothing is kept
    sam.freeze().fingerprint()
    sam.load_state_dict(build("tiny", SIDE).state_dict())
    assert sam.fingerprint() == hex_of(sam.state_dict())


def test_another_frame_side_resamples_positions(small_vit: str, tmp_path: Path) -> None:
    path = tmp_path / "vit.pth"
    torch.save(scattered(build(small_vit)).state_dict(), path)
    usual, other = load(path), load(path, side=320)
    assert usual.side == 128 and other.grid == 20 and other.fingerprint() == usual.fingerprint()
    assert other.image_encoder.pos_embed.shape == (1, 20, 20, 48)
    assert other.image_encoder.blocks[1].attn.rel_pos_h.shape == (39, 16)  # global: resampled
    assert torch.equal(other.image_encoder.blocks[0].attn.rel_pos_h, usual.image_encoder.blocks[0].attn.rel_pos_h)
    original = ImageEncoderViT(
        320, embed_dim=48, depth=3, num_heads=3, use_rel_pos=True, window_size=14, global_attn_indexes=(1,),
        norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6),
    )  # fmt: skip
    original.load_state_dict(other.image_encoder.state_dict())
    for name in ("rel_pos_h", "rel_pos_w"):  # segment_anything resamples these itself, in every pass
        setattr(original.blocks[1].attn, name, getattr(usual.image_encoder.blocks[1].attn, name))
    images = torch.randn(1, 3, 320, 320)
    assert close(other.encode(images), original(images), 1e-5)


def test_resampled_positions_are_smooth_between_the_old(small_vit: str, tmp_path: Path) -> None:
    sam = build(small_vit, 64)
    with torch.no_grad():
        sam.image_encoder.pos_embed[:] = torch.arange(4.0).view(1, 4, 1, 1)  # a ramp down the rows
    torch.save(sam.state_dict(), tmp_path / "vit.pth")
    resampled = load(tmp_path / "vit.pth", side=128).image_encoder.pos_embed
    half = [-0.1055, 0.1914, 0.6680, 1.2969]  # cubic convolution with a = −0.75 at −¼, ¼, ¾, 1¼, the ends repeated
    assert resampled[0, :4, 3, 7].tolist() == pytest.approx(half, abs=1e-4)
    assert torch.allclose(resampled + resampled.flip(1), torch.tensor(3.0))
    assert torch.allclose(resampled, resampled[:, :, :1, :1])  # nothing along the columns: rows stayed rows


def test_a_file_at_another_side_says_so_itself(small_vit: str, tmp_path: Path) -> None:
    torch.save(build(small_vit, 192).state_dict(), tmp_path / "vit.pth")
    assert load(tmp_path / "vit.pth").side == 192


def test_everything_that_does_not_fit_in_one_message(tmp_path: Path) -> None:
    state = build("tiny").state_dict()
    del state["mask_decoder.iou_token.weight"], state["prompt_encoder.no_mask_embed.weight"]
    state |= {"extra.weight": torch.zeros(1), "mask_decoder.mask_tokens.weight": torch.zeros(3, 256)}
    state["image_encoder.stem.bias"] = torch.zeros(32, dtype=torch.int64)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(WeightsError) as caught:
        load(tmp_path / "odd.pth")
    message = str(caught.value)
    assert "2 missing (mask_decoder.iou_token.weight, prompt_encoder.no_mask_embed.weight)" in message
    assert "1 unexpected (extra.weight)" in message and "\n" not in message
    assert "1 of another type of number (image_encoder.stem.bias)" in message
    assert "1 of another shape (mask_decoder.mask_tokens.weight is (3, 256), not (4, 256))" in message


def test_long_lists_are_cut(tmp_path: Path) -> None:
    state = {key: value for key, value in build("tiny").state_dict().items() if not key.startswith("mask_decoder")}
    torch.save(state, tmp_path / "encoder.pth")
    with pytest.raises(WeightsError, match=r"\d+ missing \(.*, … and \d+ more\)") as caught:
        load(tmp_path / "encoder.pth")
    assert len(str(caught.value)) < 1000


def test_a_promise_checkpoint_is_pointed_to_import(tmp_path: Path) -> None:
    torch.save(build("tiny").state_dict() | {"apm_resnet.fc.weight": torch.zeros(32, 512)}, tmp_path / "APM.pt")
    with pytest.raises(WeightsError, match="promise import"):
        load(tmp_path / "APM.pt")


def test_foreign_tensors(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "foreign.pth")
    with pytest.raises(WeightsError, match=r"no backbone that is known.*1 tensors such as conv.weight"):
        load(tmp_path / "foreign.pth")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("new", [True, False])
def test_code_in_a_file_is_not_run(tmp_path: Path, new: bool) -> None:
    path, trace = tmp_path / "hostile.pth", tmp_path / "trace"
    torch.save({"weight": torch.zeros(1), "x": Hostile(trace)}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(WeightsError, match="could run code hidden in it"):
        load(path)
    path.write_bytes(pickle.dumps(Hostile(trace), 2))
    with pytest.raises(WeightsError):
        load(path)
    assert not trace.exists()


def test_files_that_are_no_weights(tmp_path: Path, files: dict[str, Path]) -> None:
    contents = {
        "empty.pth": b"", "text.pth": b"404: Not Found\n", "text.safetensors": b"404: Not Found\n",
        "nul.pth": bytes(999),
        "page.pth": b"<!DOCTYPE html><html><body>Sign in</body></html>", "short.safetensors": b"\1",
        "long.safetensors": (2**62).to_bytes(8, "little") + b"{}",
    }  # fmt: skip
    for name, path in files.items():
        whole = path.read_bytes()
        parts = {"start": whole[:40], "half": whole[: len(whole) // 2], "most": whole[:-1000]}
        contents |= {f"{part} {name}": content for part, content in parts.items()}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match="again") as caught:
            load(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is a folder"):
        load(tmp_path)
    with pytest.raises(WeightsError, match="there is no backbone or file"):
        load(tmp_path / "nothing.pth")
    with pytest.raises(WeightsError, match="promise backbones --download sam_vit_b"):
        load("sam_vit_b")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="holds a list"):
        load(tmp_path / "list.pth")
    torch.save({"weight": torch.zeros(2), "note": "x"}, tmp_path / "note.pth")
    with pytest.raises(WeightsError, match="no tensors: note"):
        load(tmp_path / "note.pth")


WITHOUT_TORCHVISION = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torchvision", "cv2", "matplotlib"):
            raise ImportError(f"operator {name}::nms does not exist")

sys.meta_path.insert(0, Blocker())
import ProMISeCore.sam
import torch
assert "segment_anything" not in sys.modules and not any(name.startswith("torchvision") for name in sys.modules)
sam = ProMISeCore.sam.build("tiny", 64).freeze()
print(tuple(sam.decode(sam.encode(torch.zeros(1, 3, 64, 64)))[0].shape))
"""


def test_runs_without_torchvision() -> None:
    command = [sys.executable, "-c", WITHOUT_TORCHVISION]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 3, 16, 16)"
