"""What neighbouring slices say too: automatic answers averaged along the slice axis, as far as the pack wants that.

Every slice is solved for itself. Where slices are thin against what is in them, one of them alone has a hole or a
flicker that its neighbours do not have; the mean of their logits, a Gaussian's weights along the axis, is nearer the
truth. Points, predicted IoU and presence stay the slice's own.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ProMISeCore.answers import Answer, Answers
from ProMISeCore.embedder import Embedder

_REACH = 2.0  # sigmas beyond which a slice has no say
_SURE = 8.0  # logits beyond the cut: more counts as this, or one slice would outvote all others


class Between:
    """Answers of a stack's slices, each averaged with its neighbours'; with reach 0 each its own, untouched.

    count: slices of the stack, spacing_mm apart; sigma_mm: of the Gaussian, 0 for off; cut: the logit of a mask's edge.
    """

    def __init__(
        self, answers: Answers, embedder: Embedder, count: int, spacing_mm: float, sigma_mm: float, cut: float
    ) -> None:
        self._answers, self._embedder, self._count, self._cut = answers, embedder, count, cut
        #: Slices to either side that have a say, where the stack has them.
        self.reach = min(count - 1, math.floor(_REACH * sigma_mm / spacing_mm + 1e-6))
        away_mm = spacing_mm * np.arange(self.reach + 1)
        self._weights = np.exp(-((away_mm / sigma_mm) ** 2) / 2) if self.reach else np.ones(1)
        self._recent: OrderedDict[int, dict[str, Answer]] = OrderedDict()

    @property
    def held(self) -> int:
        """How many slices stay in memory: those that the next batch of a pass, to both sides, shares with the last."""
        return min(self._count, 4 * self.reach + 2 + self._embedder.batch) if self.reach else 0

    def get(self, ns: Sequence[int], stop: Callable[[], bool] = lambda: False) -> list[dict[str, Answer]] | None:
        """All targets' answers on slices `ns`: what is not known is computed, a batch at a time.

        `stop` is asked before every batch and at least once; None where it says so. What is computed by then is kept.
        """
        wanted = dict.fromkeys([*ns, *(m for n in ns for m in self.around(n))])
        known = {m: self._known(m) for m in wanted}
        missing, batch = [m for m in wanted if known[m] is None], self._embedder.batch
        for start in range(0, max(1, len(missing)), batch):
            if stop():
                return None
            part = missing[start : start + batch]
            for m, answers in zip(part, self._answers.solve(part), strict=True):
                known[m] = answers
                self._keep(m, answers)
        return [self.averaged(n, known) for n in ns]

    def around(self, n: int) -> range:
        """The slices that have a say on slice n, itself among them."""
        return range(max(0, n - self.reach), min(self._count, n + self.reach + 1))

    def averaged(self, n: int, known: Mapping[int, dict[str, Answer]]) -> dict[str, Answer]:
        """All targets' answers on slice n from those of the slices around it."""
        if not self.reach:
            return known[n]
        near = self.around(n)
        weights = self._weights[[abs(m - n) for m in near]]
        weights = (weights / weights.sum()).astype(np.float32)
        return {
            name: replace(answer, logits=self._mean([known[m][name].logits for m in near], weights))
            for name, answer in known[n].items()
        }

    def _known(self, n: int) -> dict[str, Answer] | None:
        answers = self._recent.get(n) or self._answers.get(n)
        if answers is not None:
            self._keep(n, answers)
        return answers

    def _keep(self, n: int, answers: dict[str, Answer]) -> None:
        self._recent[n] = answers
        self._recent.move_to_end(n)
        while len(self._recent) > self.held:
            self._recent.popitem(last=False)

    def _mean(self, logits: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
        """Summed up in the order of the slices, so that it is the same to the last bit in any pass."""
        mean = np.zeros(logits[0].shape, np.float32)
        for one, weight in zip(logits, weights, strict=True):
            mean += weight * np.clip(one.astype(np.float32), self._cut - _SURE, self._cut + _SURE)
        return mean
