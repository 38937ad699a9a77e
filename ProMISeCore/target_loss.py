"""What a target's APM, IPS and presence are trained by: the mask, the points' places, and the mask after clicks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ProMISeCore import simulate
from ProMISeCore.decoding import Decoding
from ProMISeCore.material import Material
from ProMISeCore.pretrain import mask_loss
from ProMISeCore.promise import Encoded, Output
from ProMISeCore.settings import Settings

_MOST_CLICKS = 3  # simulated at once
_KEPT_POINTS = 0.75  # share of the automatic points beside such clicks


class TargetLoss:
    """Losses of a model's targets on rows of the material. generator: of the simulated clicks."""

    def __init__(self, decoding: Decoding, material: Material, settings: Settings, generator: torch.Generator) -> None:
        self._decoding, self._material, self._settings = decoding, material, settings
        self._model, self._device, self._generator = decoding.model, decoding.device, generator

    def __call__(self, name: str, rows: np.ndarray) -> Tensor:
        """Of a target on some rows."""
        encoded, masks = self._decoding.encoded(self._material.views, rows, name, refined=False)
        known = self._known(rows, name)
        output = self._decoding.solve(encoded, name, refined=False)
        there = masks.flatten(1).any(1)
        weight = self.weight(there)
        unknown = None if known is None else known[:, None]
        loss = (mask_loss(output.logits[:, :1].float(), masks[:, None], unknown)[:, 0] * weight).mean()
        if output.points is not None and self._settings.guide and there.any():
            places = self._material.places[name][rows].to(self._device)[there]
            points = output.points[there] / self._model.sam.side
            loss = loss + self._settings.guide * F.smooth_l1_loss(points, places, beta=0.02)
        if output.presence is not None:
            certain = there if known is None else there | known.flatten(1).all(1)
            presence = F.binary_cross_entropy(
                output.presence.float().clamp(1e-6, 1 - 1e-6),
                there.float(),
                weight=None if known is None else certain.float(),
            )
            loss = loss + self._settings.presence * presence
        if self._settings.corrections and self._model.targets[name].ips is not None:
            corrected = (self._corrected(encoded, name, output, masks, known) * weight[::2]).mean()
            loss = loss + self._settings.corrections * corrected
        return loss

    def weight(self, there: Tensor) -> Tensor:
        """Of the mask loss (B,), less where the target is not there."""
        return torch.where(there, 1.0, self._settings.empty_weight)

    def _known(self, rows: np.ndarray, name: str) -> Tensor | None:
        """Where something is known of a target on training rows (B, s, s) bool; None where everything is."""
        known = self._material.views.take_known(rows, self._decoding.names.index(name))
        return None if known is None else known.to(self._device)

    def draw(self, name: str, rows: np.ndarray, generator: torch.Generator) -> Tensor:
        """Logits (B, 2, s, s) of the method's mask on training rows, automatic and after clicks, for the refiners."""
        self._model.targets[name].eval()
        encoded, masks = self._decoding.encoded(self._material.views, rows, name, refined=False)
        known = self._known(rows, name)
        output = self._decoding.solve(encoded, name, refined=False)
        clicked = self._after_clicks(encoded, name, output, masks, known, generator)
        return torch.cat([output.logits[:, :1], clicked], 1)

    def _corrected(self, encoded: Encoded, name: str, output: Output, masks: Tensor, known: Tensor | None) -> Tensor:
        """The mask loss of every second row after clicks in the error that is left, so that the shifted tokens go on
        doing what a user asks."""
        encoded = Encoded(encoded.embedding[::2], [features[::2] for features in encoded.features])
        masks, known = masks[::2], None if known is None else known[::2]
        points, labels = (None if part is None else part[::2] for part in (output.points, output.labels))
        output = Output(output.logits[::2], output.iou[::2], points, labels)
        logits = self._after_clicks(encoded, name, output, masks, known, self._generator).float()
        return mask_loss(logits, masks[:, None], None if known is None else known[:, None])[:, 0]

    def _after_clicks(
        self,
        encoded: Encoded,
        name: str,
        output: Output,
        masks: Tensor,
        known: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """Logits (B, 1, s, s) after clicks in the error that is left. Some automatic points are gone, as when a user
        deletes them; none is moved by this."""
        found = output.logits.detach()[:, 0] > 0
        if known is not None:
            found = torch.where(known, found, masks)  # nobody clicks where nothing is known
        points, labels = simulate.corrections(masks.cpu(), found.cpu(), _MOST_CLICKS, generator)
        if output.points is not None:
            kept = torch.rand(output.labels.shape, generator=generator) < _KEPT_POINTS
            automatic = torch.where(kept.to(self._device), output.labels, -1)
            points = torch.cat([output.points.detach(), points.to(self._device)], 1)
            labels = torch.cat([automatic, labels.to(self._device)], 1)
        points, labels = points.to(self._device), labels.to(self._device)
        return self._decoding.solve(encoded, name, points, labels, refined=False).logits[:, :1]
