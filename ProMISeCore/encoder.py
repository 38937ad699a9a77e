"""A backbone's encoder the quickest way that keeps its results, and the plain way where asked or where that fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from ProMISeCore import devices
from ProMISeCore.fast_tiny_vit import FastTinyViT
from ProMISeCore.fast_vit import FastViT
from ProMISeCore.sam import Sam

#: Frames (B, 3, S, S) and blocks to embedding (B, 256, G, G) and the outputs (B, E, G, G) of those blocks.
Encode = Callable[[Tensor, Sequence[int]], tuple[Tensor, list[Tensor]]]
_FAST: Mapping[str, Callable[[nn.Module, torch.dtype], Encode]] = {
    "vit_b": FastViT, "vit_l": FastViT, "vit_h": FastViT, "mobile_sam": FastTinyViT,
}  # fmt: skip


class Encoder:
    """The frozen encoder of a backbone, on the device where that is when this is made.

    exact: float32 and segment_anything's own order of operations, no matter what is quicker; say: called once if the
    quick way fails, after which the plain one goes on.
    """

    def __init__(self, sam: Sam, exact: bool = False, say: Callable[[str], None] = lambda message: None) -> None:
        self._sam, self._say = sam, say
        self._fast = None if exact else _FAST.get(sam.architecture)
        device = next(sam.parameters()).device
        self._dtype = torch.float32 if exact else devices.encoder_dtype(device, sam.architecture)
        self._made: Encode | None = None

    @property
    def precision(self) -> str:
        """Of its products: "float32" or "bfloat16"."""
        return str(self._dtype).removeprefix("torch.")

    @property
    def way(self) -> str:
        """What results depend on in their last digits, for the cache: the precision, and "fast" before it."""
        return self.precision if self._fast is None else f"fast {self.precision}"

    @torch.inference_mode()
    def __call__(self, images: Tensor, blocks: Sequence[int] = ()) -> tuple[Tensor, list[Tensor]]:
        """As `Sam.encode_with_features`, without gradients. Raises WeightsError for blocks that are not there."""
        if self._fast is None:
            return self._plainly(images, blocks)
        self._sam.check_blocks(blocks)
        checked = self._sam.checked_images(images)
        try:
            self._made = self._made or self._fast(self._sam.image_encoder, self._dtype)
            result = self._made(checked, blocks)
            if torch.isfinite(result[0]).all():
                return result
            reason = "it gave values that are not numbers"
        except (RuntimeError, NotImplementedError) as error:
            if devices.is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
        self._fast, self._made, self._dtype = None, None, torch.float32
        self._say(f"the quick way to encode failed ({reason}): going on with the plain one, which is slower")
        return self._plainly(images, blocks)

    def _plainly(self, images: Tensor, blocks: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        exact = self._dtype == torch.float32
        with nullcontext() if exact else torch.autocast(images.device.type, self._dtype):
            return self._sam.encode_with_features(images, blocks)
