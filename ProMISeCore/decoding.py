"""A model's answers on cached views, and how right they are."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ProMISeCore.dataset import Views
from ProMISeCore.promise import Encoded, Output, Promise


class Decoding:
    """What a model says of rows of cached views: its backbone is not needed any more, but for the decoder."""

    def __init__(self, model: Promise) -> None:
        self.model, self.names = model, list(model.targets)
        self.device = next(model.sam.parameters()).device

    def encoded(self, views: Views, rows: np.ndarray, name: str, refined: bool = True) -> tuple[Encoded, Tensor]:
        """Rows as the model takes them, and a target's masks (B, s, s) bool on them. refined: with their pictures."""
        embedding, features, masks = views.take(rows)
        seen = views.take_pictures(rows) if refined and self.model.refines else None
        encoded = Encoded(
            embedding.to(self.device),
            [f.to(self.device) for f in features],
            None if seen is None else seen.to(self.device),
        )
        return encoded, masks[:, self.names.index(name)].to(self.device)

    def solve(
        self,
        encoded: Encoded,
        name: str,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        refined: bool = True,
    ) -> Output:
        """The model's answer, in bfloat16 where the device has it; points (B, N, 2) in the frame."""
        kind = self.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind in ("cpu", "cuda")):
            return self.model.solve(encoded, name, points, labels, refined=refined)

    @torch.no_grad()
    def case_dice(self, views: Views, rows: np.ndarray, name: str, batch: int = 32) -> dict[int, float]:
        """Dice of a target over some rows, pooled per case, unknown pixels left out; no entry for unknown cases."""
        target, number = self.model.targets[name].eval(), self.names.index(name)
        self.model.refiners.eval()
        overlap, total, known_rows = (np.zeros(views.case.max() + 1) for _ in range(3))
        least = self.model.manifest.presence_threshold
        for first in range(0, len(rows), batch):
            chosen = rows[first : first + batch]
            encoded, masks = self.encoded(views, chosen, name)
            output = self.solve(encoded, name)
            found = output.logits[:, 0] > 0
            if output.presence is not None:
                found &= (output.presence >= least)[:, None, None]
            known = views.take_known(chosen, number)
            if known is not None:
                found &= known.to(self.device)
            some = np.ones(len(chosen)) if known is None else known.flatten(1).any(1).numpy()
            np.add.at(known_rows, views.case[chosen], some)
            np.add.at(overlap, views.case[chosen], 2 * (found & masks).flatten(1).sum(1).cpu().numpy())
            np.add.at(total, views.case[chosen], (found.flatten(1).sum(1) + masks.flatten(1).sum(1)).cpu().numpy())
        target.train()
        cases = np.flatnonzero(known_rows)
        return {int(case): float(overlap[case] / total[case]) if total[case] else 1.0 for case in cases}
