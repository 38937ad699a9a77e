"""Images become embeddings once: from memory, from the cache on disk, or from the encoder, in batches that fit.

Embeddings pass through float16 before they are used, fresh or cached, so both give the same masks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ProMISeCore import devices
from ProMISeCore.cache import Cache, key
from ProMISeCore.encoder import Encoder
from ProMISeCore.errors import PromiseError, WeightsError
from ProMISeCore.promise import Encoded, Promise

#: Memory for embeddings of images seen last; 1,000 of the tiny backbone, 24 with the features of SAM ViT-B. Fewer where
#: a cache on disk has them too: reading one again takes milliseconds.
RECENT_BYTES, CACHED_BYTES = 512 * 2**20, 64 * 2**20
_HALF_MAX = 65504.0

Arrays = dict[str, np.ndarray]  # "embedding" (256, G, G) and, per block, "block<n>" (E, G, G); float16
Item = TypeVar("Item")
Result = TypeVar("Result")


class Embedder:
    """The encoder of a model on a device. The model is moved there.

    cache: None keeps the embeddings seen last in memory only; batch: images at once, else sized to the device's memory;
    exact: no quicker way than segment_anything's own in float32; say: called with what the user should know.
    """

    def __init__(
        self,
        model: Promise,
        device: str = "auto",
        cache: Cache | None = None,
        batch: int | None = None,
        exact: bool = False,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.model, self.cache, self._exact, self._say = model, cache, exact, say
        model.sam.exact = exact
        self.count = 0  # of images that the encoder has seen
        self._recent = _Recent(RECENT_BYTES if cache is None else CACHED_BYTES)
        self._fixed_batch = batch
        self._use(devices.choose(device))

    @property
    def precision(self) -> str:
        """Of the encoder: "float32" or "bfloat16"."""
        return self._encoder.precision

    @property
    def way(self) -> str:
        """The encoder's, for keys: what results depend on in their last digits."""
        return self._encoder.way

    def held(self, count: int, one: int) -> int:
        """Bytes of memory that the embeddings of `count` images of `one` byte size take at most."""
        return min(self._recent.capacity, count * one)

    def knows(self, n: int, image: Tensor) -> bool:
        """Whether image n, (3, S, S) normalised, needs no encoding."""
        return self._recent.get(n) is not None or (self.cache is not None and self._key(image) in self.cache)

    def embed(self, ns: Sequence[int], image: Callable[[int], Tensor]) -> list[Arrays]:
        """Embeddings of images `ns`; `image(n)` gives (3, S, S) normalised and is asked only where needed."""
        found, images = {n: self._recent.get(n) for n in ns}, {}
        for n in [n for n in ns if found[n] is None]:
            images[n] = image(n)
            if self.cache is not None:
                found[n] = self.cache.get(self._key(images[n]))
        missing = [n for n in ns if found[n] is None]
        for n, arrays in zip(missing, self.in_batches(self._encode, [images[n] for n in missing]), strict=True):
            found[n] = arrays
            if self.cache is not None:
                self.cache.put(self._key(images[n]), arrays)
        for n in ns:
            self._recent.put(n, found[n])
        return [found[n] for n in ns]

    def encoded(self, arrays: Sequence[Arrays], pictures: Sequence[Tensor] = ()) -> Encoded:
        """Embeddings as the model takes them: one batch, float32, on the device. pictures (3, S/2, S/2) of them, where
        the model refines."""
        tensors = [
            torch.from_numpy(np.stack([one[name] for one in arrays])).to(self.device).float() for name in arrays[0]
        ]
        return Encoded(tensors[0], tensors[1:], torch.stack(list(pictures)).to(self.device) if pictures else None)

    def in_batches(self, work: Callable[[list[Item]], list[Result]], items: Sequence[Item]) -> list[Result]:
        """`work` on the items a batch at a time; on smaller batches, then on the CPU, when memory runs out."""
        done: list[Result] = []
        while len(done) < len(items):
            try:
                done += work(list(items[len(done) : len(done) + self.batch]))
                continue
            except (MemoryError, RuntimeError) as error:
                if not devices.is_out_of_memory(error):
                    raise
            self._back_off()  # outside of the handler, whose traceback holds on to the memory
        return done

    def _use(self, device: torch.device) -> None:
        self.device = device
        self.model.to(device)
        self._encoder = Encoder(self.model.sam, self._exact, self._say)
        self.batch = self._fixed_batch or devices.first_batch(device, self.model.sam.architecture, self.model.sam.side)

    def _back_off(self) -> None:
        devices.release(self.device)
        if self.batch > 1:
            self.batch //= 2
            self._say(f"memory ran out on {self.device}: going on with {self.batch} slices at once")
        elif self.device.type != "cpu":
            self._say(f"memory ran out on {self.device} for a single slice: going on with the CPU, which is slower")
            self._fixed_batch = None
            self._use(torch.device("cpu"))
        else:
            raise PromiseError(
                f"there is not enough memory to segment one slice with {self.model.sam.name}; close other programs or "
                "use a pack on a smaller backbone"
            )

    def _key(self, image: Tensor) -> str:
        pixels = memoryview(image.numpy()).cast("B")
        return key(pixels, self.model.sam.fingerprint(), self.way, self.model.blocks)

    @torch.inference_mode()
    def _encode(self, images: list[Tensor]) -> list[Arrays]:
        embedding, features = self._encoder(torch.stack(images).to(self.device), self.model.blocks)
        self.count += len(images)
        names = ["embedding", *[f"block{block}" for block in self.model.blocks]]
        halves = [_half(tensor) for tensor in (embedding, *features)]
        return [{name: half[i] for name, half in zip(names, halves, strict=True)} for i in range(len(images))]


class _Recent:
    """Embeddings of the images seen last, at most `capacity` bytes (and at least one image)."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self._bytes = capacity, 0
        self._kept: OrderedDict[int, Arrays] = OrderedDict()

    def get(self, n: int) -> Arrays | None:
        if n in self._kept:
            self._kept.move_to_end(n)
        return self._kept.get(n)

    def put(self, n: int, arrays: Arrays) -> None:
        if n not in self._kept:
            self._bytes += size(arrays)
            self._kept[n] = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        self._kept.move_to_end(n)
        while self._bytes > self.capacity and len(self._kept) > 1:
            self._bytes -= size(self._kept.popitem(last=False)[1])


def size(arrays: Mapping[str, np.ndarray]) -> int:
    """Bytes of one image's embedding."""
    return sum(array.nbytes for array in arrays.values())


def _half(tensor: Tensor) -> np.ndarray:
    """As float16 on the host, values beyond its range clipped. WeightsError where there are NaN."""
    if torch.isnan(tensor).any():
        raise WeightsError("the backbone gave values that are not numbers; its file may be damaged: download it again")
    return tensor.float().clamp(-_HALF_MAX, _HALF_MAX).half().cpu().numpy()
