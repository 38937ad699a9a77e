"""What a teaching has learned, as the next version of its pack."""

from __future__ import annotations

import textwrap
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ProMISeCore import learned, packs, versions
from ProMISeCore.errors import InputError, PromiseError, WeightsError
from ProMISeCore.kept import Kept
from ProMISeCore.manifest import Manifest
from ProMISeCore.outcome import Outcome
from ProMISeCore.survey import Survey

_LONGEST_DATA = 1000  # characters of what the base says that it was taught from


@dataclass(frozen=True)
class NewVersion:
    """Of the pack `name`, from the cases of a survey. command: as the model card shall give it; workspace: where the
    pack is left if its own folder does not take it.

    origin: what the teaching began from; kept: targets of the base that are not taught, None without a base.
    """

    name: str
    survey: Survey
    command: str
    workspace: Path
    origin: learned.Origin
    kept: Kept | None

    def keep(self, outcome: Outcome, images: Collection[str]) -> versions.Version:
        """Write it, and make it the present one. images: as `remember` takes them, for what has to lie elsewhere.

        Raises WeightsError, with the place where the pack lies instead.
        """
        model = outcome.stages[-1].model.without_idle_refiners()
        manifest, tensors = self._described(model.manifest, outcome), model.tensors()
        if self.kept is not None:
            manifest, tensors = self.kept.beside(manifest), self.kept.tensors_beside(manifest, tensors)
        try:
            return versions.add(self.name, manifest, tensors)
        except (PromiseError, OSError) as error:
            place = self.workspace / f"{self.name}{packs.SUFFIX}"
            packs.save(place, manifest, tensors, half=True)
            with suppress(InputError, OSError):  # the pack is what counts
                self.remember(place, images, outcome)
            raise WeightsError(
                f"{error}; the pack was taught and lies in {place}: promise packs --install it once that is mended"
            ) from error

    def remember(self, pack: Path, images: Collection[str], outcome: Outcome) -> None:
        """Of which images it was taught and, if it goes on, from what. Raises InputError, OSError."""
        learned.remember(pack, {*images} | self.survey.wish.seen, self.workspace)
        if not outcome.ended:
            learned.remember_origin(pack, self.origin, self.workspace)

    def _described(self, manifest: Manifest, outcome: Outcome) -> Manifest:
        """The manifest with what its pack was taught from, and what that has come to."""
        count, data = len(self.survey.usable), self._data()
        training = {
            "data": data,
            "cases": count,
            "licence": manifest.licence,
            "command": self.command,
            "seconds": round(outcome.seconds, 1),
        }
        return replace(
            manifest,
            scores=tuple(outcome.scores),
            smoothing_mm=outcome.smoothing,
            description=f"Taught from {data}.",
            training=training,
        )

    def _data(self) -> str:
        count, origin = len(self.survey.usable), self.origin
        data = f"{count} {'case' if count == 1 else 'cases'} of the user's own"
        if not {*origin.targets}.isdisjoint(self.survey.targets):
            data += f", continued from {origin.called}"
        if self.kept is not None and self.kept.names:
            before = textwrap.shorten(origin.data, _LONGEST_DATA, placeholder=" …")
            data += f"; {', '.join(self.kept.names)} as in {origin.called} ({before})"
        return data
