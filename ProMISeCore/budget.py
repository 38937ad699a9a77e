"""How much of its budget a training has used, and what follows: its learning rate, its parts, and when to look."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ProMISeCore.progress import Progress
from ProMISeCore.settings import Settings

#: Batches of a refiner in a step, which then takes about as long as a step of the decoder's.
REFINED_AT_ONCE = 2
_FASTER = 3.0  # the refiners' learning rate, in rates
_REFINED_PASSES = 8.0  # of refiners, in passes: their pictures are bent anew in every step
_LEAST_STEPS = 150  # however few slices there are
_WARM = 50  # steps
_LOOKS, _BETWEEN, _LOOKED = 40, 5.0, 4  # in a time budget at most; between two: seconds, or times what one takes


class Budget:
    """Steps, or minutes in which every slice is learned from `settings.passes` times at most: more of that only learns
    these slices by heart, and on a quick computer a few minutes are enough for it.

    slices: how many there are to learn from; served: of each refiner, whose part comes last, how many targets it has.
    """

    def __init__(self, settings: Settings, slices: int, served: Sequence[int] = ()) -> None:
        self._settings, self._slices, self._refined = settings, slices, bool(served)
        batches = settings.passes * slices / settings.batch if settings.passes and slices else math.inf
        self._steps = max(_LEAST_STEPS, batches)  # of the decoder's part
        self._refining_steps = max(_LEAST_STEPS, _REFINED_PASSES * batches / (REFINED_AT_ONCE * min(served, default=1)))

    def share(self, progress: Progress) -> float:
        """How much is used, 0…1."""
        settings = self._settings
        if settings.minutes is None:
            return min(1.0, progress.step / settings.steps)
        return min(1.0, max(self._elapsed(progress), self._passed(progress)))

    def is_over(self, progress: Progress) -> bool:
        """Whether targets without a refiner have learned enough beside those with one, whose part is still going on."""
        return self._settings.minutes is not None and self._alone(progress) >= 1

    def passes(self, progress: Progress) -> float:
        """How often every slice was learned from, by anything but refiners."""
        steps = progress.step if progress.refining_from is None else progress.refining_step
        return steps * self._settings.batch / self._slices

    def is_learned_out(self, progress: Progress) -> bool:
        """Whether there was time left, but nothing to learn."""
        is_timed = self._settings.minutes is not None
        return is_timed and self._elapsed(progress) < 1 <= self._passed(progress)

    def decoders_end(self, progress: Progress) -> float:
        """The share at which targets with refiners stop to learn anything else; 1 where none has."""
        return 1 - self._settings.refine * (1 - progress.begun) if self._refined else 1.0

    def decoders_share(self, progress: Progress) -> float:
        """How much of what is not the refiners' is used, 0…1."""
        begun, end = progress.begun, self.decoders_end(progress)
        return min(1.0, (self.share(progress) - begun) / (end - begun)) if end > begun else 1.0

    def rate(self, progress: Progress, is_refined: bool) -> float:
        """The learning rate of a step; is_refined: of a target that has a refiner, or of that."""
        factor = min(1.0, (progress.step + 1) / _WARM)
        if is_refined and progress.refining_from is not None:
            begun, factor = progress.refining_from, _FASTER
            part = (self.share(progress) - begun) / (1 - begun)
        else:
            part = self.decoders_share(progress) if is_refined else self._alone(progress)
        return self._settings.rate * factor * (0.01 + 0.495 * (1 + math.cos(math.pi * min(1.0, part))))

    def is_time_to_look(self, progress: Progress, last: Progress, cost: float) -> bool:
        """last: at the look before, which took so many seconds."""
        share = self.share(progress)
        if share >= 1:
            return True
        if self._settings.minutes is None:
            return progress.step % self._settings.every == 0
        waited = progress.seconds - last.seconds >= min(_BETWEEN, _LOOKED * cost)
        return waited and share - self.share(last) >= 1 / _LOOKS

    def _alone(self, progress: Progress) -> float:
        """The share where there were no refiners."""
        if self._settings.minutes is None:
            return self.share(progress)
        passed = progress.begun + (1 - progress.begun) * progress.step / self._steps
        return min(1.0, max(self._elapsed(progress), passed))

    def _elapsed(self, progress: Progress) -> float:
        return progress.seconds / 60 / self._settings.minutes

    def _passed(self, progress: Progress) -> float:
        """The share that the steps are of those that bring something."""
        if progress.refining_from is None:
            begun, end = progress.begun, self.decoders_end(progress)
            return begun + (end - begun) * progress.step / self._steps
        begun, steps = progress.refining_from, progress.step - progress.refining_step
        return begun + (1 - begun) * steps / self._refining_steps
