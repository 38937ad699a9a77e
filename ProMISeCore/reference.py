"""The authors' published checkpoints become packs.

Such a checkpoint (github.com/xinkunwang111/ProMISe) holds all of SAM and, beside it, one APM (`apm_feature_map` with
`apm_resnet`, or `apm_cross` with `apm_cross_prompt`), IPS with PaE (`ips_ffn`, in older files `ffn`) or one learned
tensor for IPS without, or both. Only what was learned goes into the pack; SAM is compared with the backbone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ProMISeCore import backbones, checkpoint, packs, sam
from ProMISeCore.errors import WeightsError
from ProMISeCore.manifest import BackboneInfo, Manifest, TargetInfo
from ProMISeCore.promise import Promise

_SAM = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
_TOKENS = (4, 256)  # mask tokens and their width
_LISTED = 4  # keys shown in a message
#: Published name → ours, within a target.
_NAMES = (
    (r"apm_feature_map\.fusion_conv1\.", "apm.fusion.0."),
    (r"apm_feature_map\.fusion_conv2\.", "apm.fusion.2."),
    (r"apm_feature_map\.fusion_conv3\.", "apm.fusion.4."),
    (r"apm_resnet\.", "apm.resnet."),
    (r"apm_cross\.layers\.(\d+)\.cross_attention\.", r"apm.layers.\1.attention."),
    (r"apm_cross\.layers\.(\d+)\.ffn\.lin1\.", r"apm.layers.\1.mlp.0."),
    (r"apm_cross\.layers\.(\d+)\.ffn\.lin2\.", r"apm.layers.\1.mlp.2."),
    (r"apm_cross\.deconv1\.", "apm.enlarge9."),
    (r"apm_cross\.deconv2\.", "apm.enlarge6.0."),
    (r"apm_cross\.deconv3\.", "apm.enlarge6.1."),
    (r"apm_cross_prompt\.", "apm.read."),
    (r"apm_cross\.", "apm."),
    (r"(?:ips_)?ffn\.", "ips."),
)
_ENLARGE = (("deconv", "0"), ("conv", "1"), ("batchnorm", "2"))
#: In checkpoints, and read by nothing in the published code's forward pass.
_UNUSED = re.compile(r"apm_resnet\.fc2\.|apm_cross\.layers\.\d+\.norm2\.|.*num_batches_tracked$|pixel_(?:mean|std)$")
#: The published code names no tensor for IPS without PaE; what may be called so.
_STATIC = re.compile(r"ips|token|shift|offset|pattern", re.IGNORECASE)


def import_checkpoint(
    path: str | Path, backbone: str | Path | None, out: str | Path, target: str = "target"
) -> Manifest:
    """Write the pack `out` from a checkpoint of the authors, with their settings, and return its manifest.

    backbone: name or file of the SAM it stands on; None: the checkpoint's own SAM. target: what it segments.
    Raises WeightsError for files that cannot be read, are no such checkpoint, or stand on another SAM.
    """
    path, out = Path(path), Path(out)
    found = checkpoint.read(path)
    own = {key: value for key, value in found.items() if key.startswith(_SAM)}
    frozen = _backbone(own, backbone, path)
    learned = _renamed({key: value for key, value in found.items() if key not in own}, path)
    manifest = _manifest(learned, frozen, path, out, target)
    model = Promise(frozen, manifest).load_tensors(learned, str(path))
    packs.save(out, model.manifest, model.tensors())
    return model.manifest


def _backbone(own: Mapping[str, Tensor], backbone: str | Path | None, path: Path) -> sam.Sam:
    """The backbone given, if the checkpoint's SAM is the same; else the checkpoint's SAM."""
    if backbone is None:
        if not own:
            raise WeightsError(f"{path} holds nothing of SAM; say with --backbone which SAM it was trained on")
        return sam.from_tensors(own, path)
    frozen = sam.load(backbone)
    expected = frozen.state_dict()
    differ = [key for key in sorted(own) if key not in expected or not _same(own[key], expected[key])]
    if differ:
        raise WeightsError(
            f"{path} stands on another SAM than {backbone}: {len(differ)} of its {len(own)} SAM tensors differ "
            f"({_some(differ)}); give the SAM that it was trained on, or none to take its own"
        )
    return frozen


def _same(one: Tensor, other: Tensor) -> bool:
    """Equal in the checkpoint's precision."""
    return one.shape == other.shape and torch.equal(one, other.to(one.dtype))


def _renamed(learned: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The learned tensors under the names of a pack's first target, float32. Raises WeightsError for others."""
    used = {key: value.float() for key, value in learned.items() if not _UNUSED.match(key)}
    renamed = {key: name for key in used if (name := _name(key))}
    others = [key for key in used if key not in renamed]
    static = [key for key in others if _STATIC.search(key) and used[key].numel() == _TOKENS[0] * _TOKENS[1]]
    if len(static) == 1 and not any(name.startswith("ips.") for name in renamed.values()):
        renamed[static[0]], used[static[0]] = "ips.shift", used[static[0]].reshape(_TOKENS)
    unknown = [key for key in used if key not in renamed]
    if unknown:
        raise WeightsError(
            f"{path} holds {len(unknown)} tensors that no published variant has ({_some(unknown)}); "
            "expected APM, IPS or both beside SAM"
        )
    if not renamed:
        raise WeightsError(
            f"{path} holds neither APM nor IPS, there is nothing to import; a SAM alone is a backbone: use --backbone"
        )
    return {f"0.{name}": used[key] for key, name in renamed.items()}


def _name(key: str) -> str | None:
    """Ours for a published name; None for an unknown one."""
    for pattern, ours in _NAMES:
        name, count = re.subn(f"^{pattern}", ours, key)
        if count:
            if name.startswith("apm.enlarge"):
                for published, place in _ENLARGE:
                    name = name.replace(f".{published}.", f".{place}.")
            return name
    return None


def _manifest(learned: Mapping[str, Tensor], frozen: sam.Sam, path: Path, out: Path, target: str) -> Manifest:
    """The published settings: squeezed RGB pictures, opening 5×5, the first half of the points positive."""
    apm, ips = _apm(learned, path), _ips(learned)
    count = apm["count"] if apm else 0
    positive = (count + 1) // 2
    info = TargetInfo(target, apm=apm, ips=ips, point_labels=[1] * positive + [0] * (count - positive))
    return Manifest(
        name=packs.name_of(out),
        title=path.stem,
        description=f"Imported from the authors' checkpoint {path.name}.",
        licence="as the checkpoint's (ProMISe's code is MIT)",
        modality="RGB",
        backbone=BackboneInfo(_backbone_name(frozen), frozen.fingerprint(), frozen.side),
        targets=(info,),
        orientation="image",
        window={"mode": "bytes"},
        channels="repeat",
        padding="squeeze",
        opening=5,
        exclusive=False,
        intended_use="Research use only, not for clinical use.",
        training={"data": "see the checkpoint", "cases": 0, "licence": "", "command": "promise import", "seconds": 0},
    )


def _apm(learned: Mapping[str, Tensor], path: Path) -> dict[str, Any] | None:
    found = []
    if "0.apm.resnet.fc.weight" in learned:
        found.append({"kind": "resnet", "count": len(learned["0.apm.resnet.fc.weight"]) // 2})
    if "0.apm.query_feat.weight" in learned:
        found.append({"kind": "cross", "count": len(learned["0.apm.query_feat.weight"])})
    parts = [key for key in learned if key.startswith("0.apm.")]
    if len(found) > 1 or (parts and not found):
        what = "two APMs, resnet and cross" if found else f"an incomplete APM ({_some(parts)})"
        raise WeightsError(f"{path} holds {what}; expected the whole of one, as published")
    return found[0] if found else None


def _ips(learned: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if "0.ips.lin1.weight" in learned:
        return {"kind": "pae", "hidden": len(learned["0.ips.lin1.weight"])}
    return {"kind": "static"} if "0.ips.shift" in learned else None


def _backbone_name(frozen: sam.Sam) -> str:
    """Its name in the table of backbones; of a file that is in none, the first one of its architecture."""
    if frozen.name in backbones.TABLE:
        return frozen.name
    return next((b.name for b in backbones.TABLE.values() if b.architecture == frozen.architecture), frozen.name)


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_LISTED]) + (", …" if len(keys) > _LISTED else "")
