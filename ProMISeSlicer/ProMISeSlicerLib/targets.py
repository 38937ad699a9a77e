"""All targets of a session, in its pack's order: made of what the scene has, and again where something was removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from . import hierarchy, mrml
from .base import plainRecords
from .heritage import Heritage
from .prompts import TargetPrompts, createNodes
from .segments import Segments
from .source import Source
from .state import SceneState, promptRoles
from .target import Target


class Targets(Mapping[str, Target]):
    """infos: the manifest's targets; state: the session's memory; quiet: as a Target's. Empty until `make`."""

    def __init__(
        self,
        infos: Sequence,
        state: SceneState,
        segments: Segments,
        source: Source,
        quiet: Callable[[], AbstractContextManager],
    ) -> None:
        self._infos, self._state, self._segments, self._source, self._quiet = infos, state, segments, source, quiet
        self._made: dict[str, Target] = {}

    def __getitem__(self, name: str) -> Target:
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    @property
    def promptNodes(self) -> list:
        """Every target's."""
        return [node for target in self.values() for node in target.prompts.nodes]

    def make(self, numbers: Sequence[int]) -> Heritage:
        """Take up these targets, by number in the pack, with what of them is in the scene; the rest is made."""
        heritage = Heritage(self._state, self._segments)
        made = [node for number in numbers for node in self._make(number, heritage)]
        hierarchy.gather(made, self.promptNodes, self._source.node)
        return heritage

    def lost(self) -> list[int]:
        """Numbers of those of which a prompt node or the segment was removed from the scene."""
        return [
            number
            for number, target in enumerate(self.values())
            if self._hasLostSegment(target) or any(node.GetScene() is None for node in target.prompts.nodes)
        ]

    def makeAgain(self, numbers: Sequence[int]) -> Heritage:
        """What was known of the slices of a segment that was removed has gone with it."""
        for target in [self[self._infos[number].name] for number in numbers]:
            if self._hasLostSegment(target):
                self._state.data["slices"].pop(target.name, None)
        return self.make(numbers)

    def plain(self) -> dict:
        """For the scene, as JSON."""
        return {
            "targets": [target.entry() for target in self.values()],
            "slices": {name: plainRecords(target.records, self._source.grid) for name, target in self.items()},
        }

    def _hasLostSegment(self, target: Target) -> bool:
        return self._segments.node.GetSegmentation().GetSegment(target.segmentId) is None

    def _make(self, number: int, heritage: Heritage) -> list:
        """Returns the prompt nodes that were not there before."""
        data = self._state.data
        name, color, terminology = mrml.describe(self._infos[number])
        known = data["targets"][number] if number < len(data["targets"]) else {}
        segmentId = self._segments.ensure(known.get("segment", ""), name, color, terminology)
        nodes, new = self._nodes(number, name, color)
        records, order = heritage.records(segmentId), known.get("points", ())
        prompts = TargetPrompts(*nodes)
        prompts.show()
        self._made[name] = Target(name, segmentId, prompts, records, self._segments, self._source, self._quiet, order)
        return new

    def _nodes(self, number: int, name: str, color: tuple[float, float, float]) -> tuple[list, list]:
        """Positive and negative control points and the ROI, and those of them that were made."""
        roles = promptRoles(number)
        found = [self._state.referred(role) for role in roles]
        nodes = found
        if None in found:
            made = createNodes(name, color, self._source.node)
            for there, spare in zip(found, made, strict=True):
                if there is not None:
                    spare.GetScene().RemoveNode(spare)
            nodes = [there or new for there, new in zip(found, made, strict=True)]
        for role, node in zip(roles, nodes, strict=True):
            self._state.refer(role, node)
        return nodes, [node for node in nodes if node not in found]
