"""The method in one module: encode, place points, shift the mask tokens, decode. All of SAM stays frozen.

Wang et al. 2024 (arXiv 2403.04164), with any number of targets on one embedding and prompts of a person beside APM's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ProMISeCore import packs
from ProMISeCore.apm import ApmCross, ApmLite, ApmResnet
from ProMISeCore.errors import InputError, WeightsError
from ProMISeCore.ips import Ips, IpsStatic
from ProMISeCore.manifest import Manifest, TargetInfo
from ProMISeCore.presence import Presence
from ProMISeCore.refiner import Refiner, expected_iou, seen
from ProMISeCore.sam import Sam

_LISTED = 6  # keys shown per kind of disagreement
_REFINERS = "refiners"  # what a pack's keys of them begin with


@dataclass
class Encoded:
    """What is kept of B frames: embedding (B, 256, G, G); features (B, E, G, G) after `Promise.blocks`; picture
    (B, 3, S/2, S/2), `refiner.seen` of the frames, where a target has a refiner."""

    embedding: Tensor
    features: list[Tensor] = field(default_factory=list)
    picture: Tensor | None = None


@dataclass
class Output:
    """Masks of one target on B frames; None for what there is not.

    logits (B, 3, S/4, S/4) of mask tokens 1, 2, 3, of which the method's mask is the first, and their predicted iou
    (B, 3); points (B, N, 2) x, y in frame pixels that were used, with labels (B, N) 1 target, 0 background; shift
    (B, 4, 256) that was added to the mask tokens; presence (B,), the probability that the target is there.
    """

    logits: Tensor
    iou: Tensor
    points: Tensor | None = None
    labels: Tensor | None = None
    shift: Tensor | None = None
    presence: Tensor | None = None


class Target(nn.Module):
    """What is learned for one target; any part may be None. point_labels (N,): of APM's points, 1 or 0."""

    def __init__(
        self,
        apm: ApmLite | ApmResnet | ApmCross | None,
        ips: Ips | IpsStatic | None,
        presence: Presence | None,
        point_labels: Tensor,
    ) -> None:
        super().__init__()
        self.apm, self.ips, self.presence = apm, ips, presence
        self.register_buffer("point_labels", point_labels, persistent=False)

    @classmethod
    def of(cls, info: TargetInfo, sam: Sam) -> Target:
        """New weights as the manifest describes them. Raises WeightsError where they do not fit the backbone."""
        labels = torch.tensor(list(info.point_labels), dtype=torch.long)
        presence = None if info.presence is None else Presence(info.presence["width"])
        return cls(_apm(info, sam), _ips(info), presence, labels)


def _apm(info: TargetInfo, sam: Sam) -> nn.Module | None:
    if info.apm is None:
        return None
    kind, count = info.apm["kind"], info.apm["count"]
    if kind == "lite":
        return ApmLite(count, info.apm["width"])
    if not sam.depth:
        raise WeightsError(
            f"the APM {kind!r} of {info.name!r} reads features of encoder blocks, but {sam.name} has none; "
            "use a ViT backbone, or the APM 'lite'"
        )
    return {"resnet": ApmResnet, "cross": ApmCross}[kind](sam.embed_width, count, sam.depth)


def _ips(info: TargetInfo) -> nn.Module | None:
    if info.ips is None:
        return None
    return Ips(info.ips["hidden"]) if info.ips["kind"] == "pae" else IpsStatic()


class Promise(nn.Module):
    """A frozen backbone and the targets of a pack.

    manifest: of the pack; targets: name → Target in the manifest's order, new ones unless given. blocks: encoder blocks
    whose features the APMs read; refiners: those of the manifest, in its order, which need `Encoded.picture`. Raises
    WeightsError where the backbone is not the manifest's.
    """

    def __init__(self, sam: Sam, manifest: Manifest, targets: Mapping[str, Target] | None = None) -> None:
        super().__init__()
        self.sam, self.manifest = sam.freeze(), manifest.check()
        check_backbone(sam, manifest)
        names = [info.name for info in manifest.targets]
        if targets is None:
            targets = {info.name: Target.of(info, sam) for info in manifest.targets}
        elif list(targets) != names:
            raise WeightsError(f"the targets are {', '.join(targets)}; the manifest's are {', '.join(names)}")
        device = next(sam.parameters()).device
        self._parts = nn.ModuleList(targets.values()).to(device)
        self.refiners = _refiners(manifest).to(device)
        read = [block for target in self._parts if target.apm is not None for block in target.apm.blocks]
        self.blocks: tuple[int, ...] = tuple(dict.fromkeys(read))

    @property
    def refines(self) -> bool:
        """Whether a target has a refiner."""
        return len(self.refiners) > 0

    @property
    def targets(self) -> dict[str, Target]:
        """Name → Target, in the manifest's order."""
        return dict(zip((info.name for info in self.manifest.targets), self._parts, strict=True))

    def forward(self, images: Tensor, target: str | None = None) -> Output:
        """Frames (B, 3, S, S), float, normalised as SAM's, to masks of a target (the first unless named)."""
        return self.solve(self.encode(images), target)

    def encode(self, images: Tensor) -> Encoded:
        """What any target needs of frames (B, 3, S, S). Raises InputError for other shapes or types."""
        if not isinstance(images, Tensor) or not images.is_floating_point():
            given = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise InputError(f"images are {given}; expected a tensor of floats, (pixel − mean) / deviation as SAM's")
        return Encoded(*self.sam.encode_with_features(images, self.blocks), seen(images) if self.refines else None)

    def solve(
        self,
        encoded: Encoded,
        target: str | None = None,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        box: Tensor | None = None,
        mask: Tensor | None = None,
        refined: bool = True,
    ) -> Output:
        """Masks of a target (the first unless named), from the prompts given, or from APM's points where none are.

        Prompts as `Sam.decode` takes them. The tokens are shifted in either case. refined: whether a refiner, where
        the target has one, redraws the method's mask; never where a box or a mask is given, which may be of something
        else. Raises InputError.
        """
        target = self.manifest.targets[0].name if target is None else target
        chosen, embedding = self._chosen(target), encoded.embedding
        if points is labels is box is mask is None and chosen.apm is not None:
            features = [encoded.features[self.blocks.index(block)] for block in chosen.apm.blocks]
            points = chosen.apm(embedding, features) * self.sam.side
            labels = chosen.point_labels.expand(len(points), -1)
        shift = None if chosen.ips is None else chosen.ips(embedding)
        logits, iou = self.sam.decode(embedding, points, labels, box, mask, shift)
        presence = None if chosen.presence is None else chosen.presence(embedding).sigmoid()
        number = self.refiner_of(target)
        if refined and number is not None and box is mask is None:
            logits, iou = self._refined(number, target, encoded.picture, logits, iou)
        if points is not None:
            points, labels = points.expand(len(logits), -1, -1), labels.expand(len(logits), -1)
        return Output(logits, iou, points, labels, shift, presence)

    def refiner_of(self, target: str) -> int | None:
        """The number of the refiner that redraws a target's masks."""
        served = (number for number, info in enumerate(self.manifest.refiners) if target in info["targets"])
        return next(served, None)

    def _refined(
        self, number: int, target: str, picture: Tensor | None, logits: Tensor, iou: Tensor
    ) -> tuple[Tensor, Tensor]:
        if picture is None:
            raise InputError("the target has a refiner, and there is no picture for it; use Promise.encode")
        channel = self.manifest.refiners[number]["targets"].index(target)
        first = self.refiners[number].redrawn(picture, logits[:, :1], channel)
        logits, sure = torch.cat([first, logits[:, 1:].float()], 1), expected_iou(first)
        return logits, torch.cat([sure, iou[:, 1:].float()], 1)

    def _chosen(self, name: str) -> Target:
        if name not in self.targets:
            raise InputError(f"the pack has no target {name!r}; it has {', '.join(self.targets)}")
        return self.targets[name]

    def without_idle_refiners(self) -> Promise:
        """This model; refiners that add nothing are gone, from the manifest, too."""
        infos = zip(self.manifest.refiners, self.refiners, strict=True)
        kept = [(info, refiner) for info, refiner in infos if not refiner.is_idle]
        self.manifest = replace(self.manifest, refiners=tuple(info for info, _ in kept))
        self.refiners = nn.ModuleList(refiner for _, refiner in kept)
        return self

    def tensors(self) -> dict[str, Tensor]:
        """What a pack holds: `<number of the target>.apm.…`, `.ips.…`, `.presence.…`, `refiners.<number>.…`. Nothing
        of SAM.

        Batch normalisation's counts of batches are left out: they are not used.
        """
        return _tensors(self._parts, self.refiners)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the backbone's fingerprint and, of every target, its points' labels and its tensors."""
        digest = hashlib.sha256(self.sam.fingerprint().encode())
        for number, target in enumerate(self._parts):
            digest.update(f"{number} {target.point_labels.tolist()}".encode())
        for key, value in sorted(self.tensors().items()):
            digest.update(f"{key} {tuple(value.shape)}\n".encode())
            digest.update(memoryview(value.detach().float().cpu().contiguous().reshape(-1).numpy()).cast("B"))
        return digest.hexdigest()

    def load_tensors(self, tensors: Mapping[str, Tensor], source: str = "the pack") -> Promise:
        """Take a pack's tensors. Raises one WeightsError for all that does not fit the manifest."""
        own = {key: tuple(tensor.shape) for key, tensor in self.tensors().items()}
        _compare(own, {key: tuple(tensor.shape) for key, tensor in tensors.items()}, source, self.manifest)
        parts = {key: value for key, value in tensors.items() if not key.startswith(f"{_REFINERS}.")}
        self._parts.load_state_dict(self._parts.state_dict() | parts)
        self.refiners.load_state_dict(packs.part_of(tensors, f"{_REFINERS}."))
        return self


def _refiners(manifest: Manifest) -> nn.ModuleList:
    """New ones as the manifest describes them."""
    return nn.ModuleList(Refiner(len(one["targets"]), one["width"], one["patch"]) for one in manifest.refiners)


def _tensors(parts: nn.ModuleList, refiners: nn.ModuleList) -> dict[str, Tensor]:
    state = parts.state_dict() | refiners.state_dict(prefix=f"{_REFINERS}.")
    return {key: value for key, value in state.items() if value.is_floating_point()}


def check_shapes(shapes: Mapping[str, tuple[int, ...]], sam: Sam, manifest: Manifest, source: str) -> None:
    """Raise WeightsError where a pack's tensors are not what its manifest needs, before memory is taken for that."""
    with torch.device("meta"):
        parts = nn.ModuleList(Target.of(info, sam) for info in manifest.targets)
        refiners = _refiners(manifest)
    own = {key: tuple(value.shape) for key, value in _tensors(parts, refiners).items()}
    _compare(own, shapes, source, manifest)


def _compare(
    own: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]], source: str, manifest: Manifest
) -> None:
    problems = {
        "missing": sorted(own.keys() - given.keys()),
        "unexpected": sorted(given.keys() - own.keys()),
        "of another shape": [
            f"{key} is {given[key]}, not {own[key]}"
            for key in sorted(own.keys() & given.keys()) if given[key] != own[key]
        ],
    }  # fmt: skip
    told = [f"{len(keys)} {what} ({_some(keys)})" for what, keys in problems.items() if keys]
    if told:
        raise WeightsError(f"{source} does not hold what {manifest.name!r} needs: tensors {'; '.join(told)}")


def check_backbone(sam: Sam, manifest: Manifest) -> None:
    """Raise WeightsError where a pack was not made for this backbone at its frame side."""
    expected = manifest.backbone
    if sam.fingerprint() != expected.fingerprint:
        raise WeightsError(
            f"the pack {manifest.name!r} was made for the backbone {expected.name} with fingerprint "
            f"{expected.fingerprint[:12]}…, got {sam.name} with {sam.fingerprint()[:12]}…; use the backbone it was "
            "made for, or train the pack again on this one"
        )
    if sam.side != expected.side:
        raise WeightsError(
            f"the pack {manifest.name!r} was made for frames of side {expected.side}, the backbone was loaded for "
            f"{sam.side}; load it with side={expected.side}"
        )


def _some(keys: list[str]) -> str:
    rest = len(keys) - _LISTED
    return ", ".join(keys[:_LISTED]) + (f", … and {rest} more" if rest > 0 else "")
