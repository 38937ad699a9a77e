"""MobileSAM's encoder: names and shapes of its file, numbers of its authors' code, attention written out by hand."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ProMISeCore.sam import build, load
from ProMISeCore.tiny_vit import TinyViT, _TinyViTBlock, _WindowAttention


def waves(key: str, shape: tuple[int, ...]) -> Tensor:
    """Numbers in −1…1 that depend on the name alone, the same on every machine."""
    start = zlib.crc32(key.encode()) % 1000
    values = np.sin(start + 1.7 * np.arange(int(np.prod(shape)), dtype=np.float64) ** 1.1)
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def fill(encoder: nn.Module) -> None:
    """Weights under which every part of the encoder changes the result."""
    for key, value in encoder.state_dict().items():
        wave = waves(key, tuple(value.shape))
        if key.endswith("num_batches_tracked"):
            continue
        if key.endswith("running_var"):
            value.copy_(1 + 0.3 * wave)
        elif key.endswith("attention_biases"):
            value.copy_(2 * wave)
        elif value.ndim == 1:
            value.copy_((1 if key.endswith("weight") else 0) + 0.3 * wave)
        else:
            value.copy_(2 * wave / value[0].numel() ** 0.5)


@pytest.fixture(scope="module")
def encoder() -> TinyViT:
    encoder = TinyViT().eval()
    fill(encoder)
    return encoder


def test_keys_and_shapes_of_the_published_file(shared: Path) -> None:
    published = json.loads((shared / "reference" / "keys_mobile_sam.json").read_text())
    with torch.device("meta"):
        ours = build("mobile_sam").state_dict()
    assert {key: [list(value.shape), str(value.dtype)] for key, value in ours.items()} == published


def test_loads_what_has_the_published_keys(tmp_path: Path) -> None:
    state = build("mobile_sam").state_dict()
    assert state["image_encoder.head.weight"].shape == (1000, 320)  # the unused classifier is in the file
    torch.save(state, tmp_path / "mobile_sam.pt")
    sam = load(tmp_path / "mobile_sam.pt")
    assert (sam.name, sam.architecture, sam.side, sam.grid) == ("mobile_sam", "mobile_sam", 1024, 64)
    assert sam.image_encoder.patch_embed.seq[0].bn.num_batches_tracked.dtype == torch.int64


#: What mobile_sam/modeling/tiny_vit_sam.py of ChaoningZhang/MobileSAM (34bbbfd) gives with `fill` and `waves("image")`:
#: four channels of the embedding of a frame of side 128 at its four corners, and the mean magnitude of all.
GOLDEN = np.array(
    [
        [[-0.7637, -0.2524], [-1.9215, -0.5389]],
        [[-0.7444, 0.2559], [-0.5221, 0.1211]],
        [[-0.0195, 0.1490], [-0.3481, -0.3901]],
        [[-0.0472, -1.2189], [1.0013, -1.2170]],
    ]
)
GOLDEN_MEAN = 0.727166


def test_numbers_of_the_authors_code(encoder: TinyViT) -> None:
    with torch.no_grad():
        embedding = encoder(waves("image", (1, 3, 128, 128)))
    assert embedding.shape == (1, 256, 8, 8)
    assert embedding[0, ::64, ::7, ::7].numpy() == pytest.approx(GOLDEN, abs=2e-4)
    assert embedding.abs().mean().item() == pytest.approx(GOLDEN_MEAN, abs=1e-5)


@pytest.mark.parametrize(("side", "grid"), [(16, 1), (64, 4), (112, 7), (240, 15)])
def test_any_multiple_of_16(encoder: TinyViT, side: int, grid: int) -> None:
    with torch.no_grad():
        assert encoder(torch.randn(2, 3, side, side)).shape == (2, 256, grid, grid)


def test_images_of_a_batch_do_not_mix(encoder: TinyViT) -> None:
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together, alone = encoder(images), torch.cat([encoder(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-4)


def test_biases_are_of_row_and_column_distance() -> None:
    attention = _WindowAttention(8, 2, 3)
    with torch.no_grad():
        attention.attention_biases[0] = torch.tensor([0.0, 1, 2, 10, 11, 12, 20, 21, 22])  # 10 · rows + columns
    bias = attention.spread_biases()[0, 0]
    assert bias[0].tolist() == [0, 1, 2, 10, 11, 12, 20, 21, 22]  # from the corner
    assert bias[4].tolist() == [11, 10, 11, 1, 0, 1, 11, 10, 11]  # from the middle
    assert torch.equal(bias, bias.T)


def test_attention_written_out() -> None:
    attention = _WindowAttention(8, 2, 3).eval()
    fill(attention)
    x = waves("x", (2, 9, 8))
    with torch.no_grad():
        per_head = attention.qkv(attention.norm(x)).view(2, 9, 2, 12)
        heads = []
        for head in range(2):
            q, k, v = per_head[:, :, head].split(4, dim=-1)
            weights = (q @ k.transpose(1, 2) / 2 + attention.spread_biases()[0, head]).softmax(-1)
            heads.append(weights @ v)
        assert torch.allclose(attention(x), attention.proj(torch.cat(heads, dim=-1)), atol=1e-5)


def test_windows_see_only_themselves_and_the_padding() -> None:
    block = _TinyViTBlock(8, 2, 3).eval()
    fill(block)
    x = waves("x", (1, 5, 5, 8))  # windows of rows 0–2 and 3–5, the last row of zeros
    with torch.no_grad():
        out = block._attend(x)
        changed = x.clone()
        changed[0, 4, 4, 0] += 1
        difference = (block._attend(changed) - out).abs().sum(-1)[0] > 1e-6
        corner = torch.zeros(1, 3, 3, 8)
        corner[0, :2, :2] = x[0, 3:, 3:]
        expected = block.attn(corner.view(1, 9, 8)).view(3, 3, 8)[:2, :2]
    assert difference.nonzero().tolist() == [[3, 3], [3, 4], [4, 3], [4, 4]]
    assert torch.allclose(out[0, 3:, 3:], expected, atol=1e-6)
