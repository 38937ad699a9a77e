"""A Segment Anything model of any backbone: built from parts, loaded strictly, frozen, asked for features and masks.

Kirillov et al. 2023 (arXiv 2304.02643); the prompt encoder, mask decoder and ViT are segment_anything's own modules.
What the method needs beside them, block features and shifted mask tokens, is an argument; nothing is patched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ProMISeCore import backbones, checkpoint
from ProMISeCore.errors import InputError, WeightsError
from ProMISeCore.fast_decoder import FastDecoder
from ProMISeCore.segment_anything_parts import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
from ProMISeCore.tiny import TinyEncoder
from ProMISeCore.tiny_vit import TinyViT

_WIDTH = 256  # of embeddings and tokens
_LISTED = 6  # keys shown per kind of disagreement
_POSITION = "image_encoder.pos_embed"
_PROBLEMS = ("missing", "unexpected", "of another shape", "of another type of number")
_LEARNED = ("apm", "ips", "ffn.")  # what the method's own parts are called in the authors' checkpoints


@dataclass(frozen=True)
class _Architecture:
    """How to build an encoder for a frame side, and the tensor by whose name and shape it is recognised."""

    encoder: Callable[[int], nn.Module]
    side: int
    depth: int
    width: int
    sign: tuple[str, int]  # key, and first dimension


def _vit(width: int, depth: int, heads: int, global_blocks: tuple[int, ...]) -> _Architecture:
    """SAM's ViT, the four numbers in which B, L and H differ (segment_anything/build_sam.py)."""

    def encoder(side: int) -> nn.Module:
        return ImageEncoderViT(
            img_size=side, patch_size=backbones.STRIDE, embed_dim=width, depth=depth, num_heads=heads, mlp_ratio=4,
            out_chans=_WIDTH, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6), use_rel_pos=True,
            window_size=14, global_attn_indexes=global_blocks,
        )  # fmt: skip

    return _Architecture(encoder, 1024, depth, width, ("image_encoder.patch_embed.proj.weight", width))


ARCHITECTURES: Mapping[str, _Architecture] = {
    "vit_b": _vit(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": _vit(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": _vit(1280, 32, 16, (7, 15, 23, 31)),
    "mobile_sam": _Architecture(lambda side: TinyViT(), 1024, 0, 0, ("image_encoder.patch_embed.seq.0.c.weight", 32)),
    "tiny": _Architecture(lambda side: TinyEncoder(), 512, 0, 0, ("image_encoder.stem.weight", 32)),
}


class Sam(nn.Module):
    """Encoder, prompt encoder and mask decoder under segment_anything's names.

    name: of the backbone ("sam_vit_b", "tiny", …); a file that is in no table has its architecture's.
    architecture: "vit_b" | "vit_l" | "vit_h" | "mobile_sam" | "tiny".
    exact: masks are decoded by segment_anything's own modules as they are, not by `fast_decoder`'s same sums.
    side, grid: S and G = S/16. depth, embed_width: number and width of blocks whose features can be asked for, or 0.
    """

    def __init__(self, architecture: str, side: int | None = None) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise WeightsError(f"unknown architecture {architecture!r}; known are {', '.join(ARCHITECTURES)}")
        parts = ARCHITECTURES[architecture]
        self.name = self.architecture = architecture
        self.side = backbones.checked_side(parts.side if side is None else side)
        self.grid = self.side // backbones.STRIDE
        self.depth, self.embed_width = parts.depth, parts.width
        self.image_encoder = parts.encoder(self.side)
        self.prompt_encoder = PromptEncoder(_WIDTH, (self.grid, self.grid), (self.side, self.side), mask_in_chans=16)
        self.mask_decoder = MaskDecoder(
            transformer_dim=_WIDTH,
            transformer=TwoWayTransformer(depth=2, embedding_dim=_WIDTH, mlp_dim=2048, num_heads=8),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        )
        self.frozen = self.exact = False
        self._unresampled: dict[str, Tensor] = {}  # as in the file, where another frame side changed them
        self._fingerprint: str | None = None
        self._decoder: tuple[object, FastDecoder] | None = None

    def encode(self, images: Tensor) -> Tensor:
        """Normalised frames (B, 3, S, S) to embedding (B, 256, G, G)."""
        return self.image_encoder(self.checked_images(images))

    def encode_with_features(self, images: Tensor, blocks: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """The embedding, and the outputs (B, E, G, G) of those ViT blocks, counted from 1, in the order asked for.

        Raises WeightsError for blocks that the encoder does not have; the compact encoders have none.
        """
        self.check_blocks(blocks)
        if not blocks:
            return self.encode(images), []
        encoder, wanted = self.image_encoder, {}
        x = encoder.patch_embed(self.checked_images(images)) + encoder.pos_embed  # (B, G, G, E)
        for number, block in enumerate(encoder.blocks, start=1):
            x = block(x)
            if number in blocks:
                wanted[number] = x.permute(0, 3, 1, 2)
        return encoder.neck(x.permute(0, 3, 1, 2)), [wanted[number] for number in blocks]

    def check_blocks(self, blocks: Sequence[int]) -> None:
        """Raise WeightsError where the encoder does not have those blocks, counted from 1."""
        absent = [block for block in blocks if not 1 <= block <= self.depth]
        if absent:
            has = f"1 to {self.depth}" if self.depth else "none"
            raise WeightsError(
                f"features of encoder blocks {absent} were asked for, but the backbone {self.name} has {has}; "
                "use the backbone that the pack or APM was made for"
            )

    def decode(
        self,
        embedding: Tensor,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        box: Tensor | None = None,
        mask: Tensor | None = None,
        shift: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, 3, S/4, S/4) of mask tokens 1, 2, 3 and their predicted IoU (B, 3), SAM's "multimask" output.

        embedding (B, 256, G, G); points (B, n, 2) x, y in frame pixels with labels (B, n): 1 target, 0 background,
        −1 nothing; box (B, 4) x, y, x, y in frame pixels; mask (B, 1, S/4, S/4) logits; shift (B, 4, 256) is added to
        the mask tokens. Any may be absent; a batch of 1 is repeated over the others'. Raises InputError for shapes that
        do not fit.
        """
        logits, iou = self.decode_tokens(embedding, points, labels, box, mask, shift)
        return logits[:, 1:], iou[:, 1:]

    def decode_tokens(
        self,
        embedding: Tensor,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        box: Tensor | None = None,
        mask: Tensor | None = None,
        shift: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `decode`, all four mask tokens: logits (B, 4, S/4, S/4) and IoU (B, 4). Token 0 is SAM's single mask."""
        decoder = self.mask_decoder
        with _full_precision(decoder.iou_token.weight.device):
            sparse, dense = self._embed_prompts(points, labels, box, mask)
        embedding = self._checked_embedding(embedding)
        tokens = decoder.mask_tokens.weight.unsqueeze(0)  # (1, 4, 256)
        if shift is not None:
            tokens = tokens + self._placed(shift)
        batch = _common_batch(embedding=embedding, prompts=sparse, shift=tokens)
        queries = [decoder.iou_token.weight.expand(batch, -1, -1), *(_repeat(x, batch) for x in (tokens, sparse))]
        source = _repeat(embedding + dense, batch)
        solve = self._plain_decoder if self.exact else self._fast_decoder()
        logits, iou = solve(source, torch.cat(queries, dim=1))
        return logits.float(), iou.float()

    def _plain_decoder(self, source: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """As segment_anything's `MaskDecoder.predict_masks`, for tokens that may have been shifted."""
        decoder, position = self.mask_decoder, self.prompt_encoder.get_dense_pe()
        hidden, pixels = decoder.transformer(source, _repeat(position, len(source)), queries)
        upscaled = decoder.output_upscaling(pixels.transpose(1, 2).reshape(source.shape))
        networks = decoder.output_hypernetworks_mlps
        kernels = torch.stack([network(hidden[:, 1 + i]) for i, network in enumerate(networks)], dim=1)
        logits = torch.einsum("bkc,bchw->bkhw", kernels, upscaled)
        return logits, decoder.iou_prediction_head(hidden[:, 0])

    def _fast_decoder(self) -> FastDecoder:
        """What depends on nothing but weights is kept between calls once these are frozen, in full precision: whether
        a training in half precision or a result was first must not show in the other."""
        device = self.mask_decoder.iou_token.weight.device
        key, graded = (self.grid, device), not self.frozen and torch.is_grad_enabled()
        if not self.frozen or self._decoder is None or self._decoder[0] != key:
            exactly = torch.autocast(device.type, enabled=False)
            with torch.inference_mode(False), torch.set_grad_enabled(graded), exactly:
                self._decoder = (key, FastDecoder(self.mask_decoder, self.prompt_encoder.get_dense_pe()))
        return self._decoder[1]

    def _embed_prompts(
        self, points: Tensor | None, labels: Tensor | None, box: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Sparse (B, n, 256) and dense (B or 1, 256, G, G) embeddings; points without a box get SAM's padding point."""
        if (points is None) != (labels is None):
            raise InputError("points and labels go together: give both or neither")
        if points is not None:
            points, labels = self._placed(points), self._placed(labels)
            if points.shape != (*labels.shape, 2) or labels.ndim != 2:
                raise InputError(
                    f"points are {tuple(points.shape)} and labels {tuple(labels.shape)}; expected (B, n, 2) and (B, n)"
                )
        box = None if box is None else self._placed(box)
        mask = None if mask is None else self._placed(mask)
        if box is not None and (box.ndim != 2 or box.shape[1] != 4):
            raise InputError(f"the box is {tuple(box.shape)}; expected (B, 4): x, y, x, y")
        low = 4 * self.grid
        if mask is not None and (mask.ndim != 4 or mask.shape[1:] != (1, low, low)):
            raise InputError(f"the mask prompt is {tuple(mask.shape)}; expected (B, 1, {low}, {low})")
        given = {"points": points, "labels": labels, "box": box, "mask": mask}
        batch = _common_batch(**{name: x for name, x in given.items() if x is not None})
        points, labels, box, mask = (None if x is None else _repeat(x, batch) for x in given.values())
        return self.prompt_encoder(None if points is None else (points, labels), box, mask)

    def _placed(self, x: Tensor) -> Tensor:
        """The tensor with the parameters' device and precision."""
        weight = self.mask_decoder.iou_token.weight
        return torch.as_tensor(x).to(weight.device, weight.dtype)

    def checked_images(self, images: Tensor) -> Tensor:
        """Frames with the parameters' device and precision. Raises InputError for shapes other than (B, 3, S, S)."""
        if images.ndim != 4 or images.shape[1:] != (3, self.side, self.side):
            raise InputError(f"images are {tuple(images.shape)}; {self.name} expects (B, 3, {self.side}, {self.side})")
        return self._placed(images)

    def _checked_embedding(self, embedding: Tensor) -> Tensor:
        if embedding.ndim != 4 or embedding.shape[1:] != (_WIDTH, self.grid, self.grid):
            expected = f"(B, {_WIDTH}, {self.grid}, {self.grid})"
            raise InputError(f"the embedding is {tuple(embedding.shape)}; {self.name} expects {expected}")
        return self._placed(embedding)

    def freeze(self) -> Sam:
        """No gradients, evaluation mode; a later `train()` of whatever holds this backbone leaves it so."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> Sam:
        return super().train(mode and not self.frozen)

    def load_state_dict(self, *arguments, **options):
        self._fingerprint, self._decoder, self._unresampled = None, None, {}
        return super().load_state_dict(*arguments, **options)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over key, shape and float32 bytes of all tensors in the order of their keys.

        It names the weights: it does not depend on the file's format or precision of storage beyond the values, nor on
        the frame side. Kept once the weights are frozen.
        """
        if self._fingerprint is not None:
            return self._fingerprint
        digest = hashlib.sha256()
        tensors = self.state_dict() | self._unresampled
        for key in sorted(tensors):
            values = tensors[key].detach().to("cpu", torch.float32).contiguous()
            digest.update(f"{key} {tuple(values.shape)}\n".encode())
            if values.numel():
                digest.update(memoryview(values.reshape(-1).numpy()).cast("B"))
        if self.frozen:
            self._fingerprint = digest.hexdigest()
        return digest.hexdigest()


def build(architecture: str, side: int | None = None) -> Sam:
    """A backbone with random weights for frames of `side` pixels (a multiple of 16, at least 64; None: the usual one).

    Raises WeightsError for an unknown architecture, InputError for another side.
    """
    return Sam(architecture, side)


def load(name_or_path: str | Path, device: str | torch.device = "cpu", side: int | None = None) -> Sam:
    """A frozen backbone by its name in `backbones.TABLE`, or from a file (.pth, .pt, .safetensors).

    The architecture is recognised from the tensors. `side` None is the frame side of the weights; another one resamples
    ViT's positions: absolute bicubic, relative linear. Raises WeightsError with everything that does not fit.
    """
    path = backbones.find(name_or_path)
    return from_tensors(checkpoint.read(path), path, device, side)


def from_tensors(
    tensors: Mapping[str, Tensor], path: Path, device: str | torch.device = "cpu", side: int | None = None
) -> Sam:
    """A frozen backbone from tensors that were read from `path`, as `load`."""
    architecture = recognise(tensors, path)
    with torch.device("meta"):
        sam = Sam(architecture, _side_of(tensors) if side is None else side)
    fitted = _fit(tensors, sam)
    _check(fitted, sam, path)
    placed = {key: _stored(value, device) for key, value in fitted.items()}
    sam.load_state_dict(placed, assign=True)
    sam._unresampled = {key: _stored(tensors[key], "cpu") for key in fitted if fitted[key] is not tensors[key]}
    sam.name = backbones.name_of(path) or architecture
    return sam.freeze()


def recognise(tensors: Mapping[str, Tensor], path: str | Path = "the checkpoint") -> str:
    """The architecture of a checkpoint by the names and shapes of its first layer.

    Raises WeightsError where it is none of `ARCHITECTURES`.
    """
    for name, architecture in ARCHITECTURES.items():
        key, width = architecture.sign
        if key in tensors and tensors[key].ndim == 4 and tensors[key].shape[0] == width:
            return name
    raise WeightsError(
        f"{path} is no backbone that is known here ({', '.join(ARCHITECTURES)}): it holds {len(tensors)} tensors "
        f"such as {_some(sorted(tensors))}; expected segment_anything's or MobileSAM's tensors (image_encoder.…, "
        "prompt_encoder.…, mask_decoder.…)"
    )


def _stored(tensor: Tensor, device: str | torch.device) -> Tensor:
    """An own copy on the device; floating-point numbers of any precision become float32."""
    return tensor.to(device, torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True).contiguous()


def _side_of(tensors: Mapping[str, Tensor]) -> int | None:
    """The frame side of a ViT's absolute positions (1, G, G, E); the other encoders' weights fit any side."""
    position = tensors.get(_POSITION)
    return position.shape[1] * backbones.STRIDE if position is not None and position.ndim == 4 else None


def _fit(tensors: Mapping[str, Tensor], sam: Sam) -> dict[str, Tensor]:
    """The same tensors, with a ViT's positions resampled where they are for another frame side.

    Absolute positions: bicubic. Relative ones of the global blocks: linear, as segment_anything's `get_rel_pos` does.
    """
    side = _side_of(tensors)
    if side is None or side == sam.side or not sam.depth:
        return dict(tensors)
    fitted, old, new = dict(tensors), 2 * side // backbones.STRIDE - 1, 2 * sam.grid - 1
    for key, value in tensors.items():
        if key == _POSITION:
            channels_first = value.float().permute(0, 3, 1, 2)
            resampled = F.interpolate(channels_first, (sam.grid, sam.grid), mode="bicubic", align_corners=False)
            fitted[key] = resampled.permute(0, 2, 3, 1)
        elif key.endswith(("attn.rel_pos_h", "attn.rel_pos_w")) and value.shape[0] == old:
            fitted[key] = F.interpolate(value.float().T.unsqueeze(0), new, mode="linear")[0].T
    return fitted


def _check(tensors: Mapping[str, Tensor], sam: Sam, path: Path) -> None:
    """Raise one WeightsError that names every kind of disagreement between the file and the architecture."""
    own = sam.state_dict()
    missing, unexpected = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    both = sorted(own.keys() & tensors.keys())
    other = [
        f"{key} is {tuple(tensors[key].shape)}, not {tuple(own[key].shape)}"
        for key in both if tensors[key].shape != own[key].shape
    ]  # fmt: skip
    integer = [key for key in both if tensors[key].is_floating_point() != own[key].is_floating_point()]
    problems = [
        f"{len(found)} {what} ({_some(found)})"
        for what, found in zip(_PROBLEMS, (missing, unexpected, other, integer), strict=True)
        if found
    ]
    if not problems:
        return
    advice = "download it again or use the original file"
    if any(key.startswith(_LEARNED) for key in unexpected):
        advice = "this looks like a ProMISe checkpoint: turn it into a pack with promise import"
    raise WeightsError(
        f"{path} does not fit {sam.architecture} at frame side {sam.side}: tensors {'; '.join(problems)}; {advice}"
    )


def _some(items: Sequence[str]) -> str:
    rest = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f", … and {rest} more" if rest > 0 else "")


def _common_batch(**tensors: Tensor) -> int:
    """The batch size that all share once those of 1 are repeated; 1 for none. Raises InputError."""
    sizes = {name: x.shape[0] for name, x in tensors.items()}
    batches = set(sizes.values()) - {1}
    if len(batches) > 1:
        given = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise InputError(f"batches differ ({given}); expected the same, or 1, for each")
    return batches.pop() if batches else 1


def _repeat(x: Tensor, batch: int) -> Tensor:
    return x if x.shape[0] == batch else x.expand(batch, *x.shape[1:])


def _full_precision(device: torch.device) -> AbstractContextManager:
    """No autocast: sines of pixel positions are wrong by whole pixels in half precision."""
    return torch.autocast(device.type, enabled=False) if device.type in ("cuda", "cpu", "mps") else nullcontext()
