"""Another version of a session's pack: what its session takes along from those before, prompts as well. No Qt."""

from __future__ import annotations

from collections.abc import Sequence

from .segments import Segments
from .state import SceneState, promptRoles, statesOn

_BEFORE_ALL = -1  # turn of a session that has not been at work: of other targets, all others know more


def takeAlong(state: SceneState, pack: str, targets: Sequence[str], segments: Segments) -> None:
    """Each target's prompts, and what is known of its slices, from the session of this pack that was at work with it
    last, if that is a later one than state's.

    pack: its name, which versions share. Prompts stay where they are if the slices are others now, as in a volume that
    was turned since, or if the target has prompts of its own here.
    """
    isNew, now = not state.data["targets"], segments.grid.plain()
    turn = _BEFORE_ALL if isNew else state.turn
    found = [
        each
        for each in statesOn(segments.volumeNode, segments.node)
        if each.turn > turn and each.packName == pack and each.data.get("grid") == now
    ]
    if not found or not (isNew or state.data.get("grid") == now):
        return
    if isNew:
        state.data.update(targets=[{"name": name, "segment": ""} for name in targets], grid=now, turn=turn)
    for number, name in enumerate(targets):
        last = next((each for each in found if name in _names(each)), None)
        if last is not None:
            _take(state, number, last, _names(last).index(name))


def _names(state: SceneState) -> list[str]:
    return [target["name"] for target in state.data["targets"]]


def _take(state: SceneState, number: int, last: SceneState, there: int) -> None:
    """number, there: of the target in the one and in the other."""
    nodes = {role: last.referred(other) for role, other in zip(promptRoles(number), promptRoles(there), strict=True)}
    if any(state.referred(role) not in (None, node) for role, node in nodes.items()):
        return
    for role, node in nodes.items():
        state.refer(role, node)
    entry = last.data["targets"][there]
    state.data["targets"][number] = entry
    state.data["slices"][entry["name"]] = last.data["slices"].get(entry["name"], {})
