"""What a person should know about the cases before anything is taught from them."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence, Set

import numpy as np

from ProMISeCore import held_out, modality, pairs, truth
from ProMISeCore.case import Case
from ProMISeCore.estimate import Estimate
from ProMISeCore.terminal import duration

_LEAST_PIXELS = 4  # of a mask
_LARGE_SIDE = 1024  # of frames: beyond, a slice takes seconds to encode on a processor
_HIDDEN = 0.5  # share of a case's voxels
_NAMED = 5  # cases at most


def found(
    cases: Sequence[Case], targets: Collection[str], rule: str, known: Collection[str]
) -> Iterator[tuple[str | None, str]]:
    """The case, None for all together, and one sentence. rule: as of `truth.read`; known: targets of the pack to go on
    from."""
    yield from _copies(cases)
    for name in targets if cases and rule == "auto" else ():
        yield from _abrupt_ends(cases, name)
        yield from _hidden(cases, name)
    yield from _kept_targets(targets, known)


def _copies(cases: Sequence[Case]) -> Iterator[tuple[str | None, str]]:
    seen: dict[str, str] = {}
    alike = Counter(case.look for case in cases)
    for case in [case for case in cases if alike[case.look] > 1]:
        other = seen.setdefault(case.image_content, case.pair.name)
        if other != case.pair.name:
            yield (
                case.pair.name,
                f"it is the same image as {other}: unless two people have segmented it, leave one of them out",
            )


def _abrupt_ends(cases: Sequence[Case], target: str) -> Iterator[tuple[str | None, str]]:
    """A block of slices amid a volume may be all that somebody has looked at."""
    abrupt = [case for case in cases if case.states[target].abrupt and not truth.is_told(case.pair.label)]
    if abrupt:
        yield (
            None,
            f"{target!r} begins and ends abruptly, or is missing in between, in {len(abrupt)} of {len(cases)} cases "
            f"({named(abrupt)}): the slices beyond count as being without it; if nobody has looked at them, let "
            "slices without a segment be unknown (--unlabelled-slices unknown)",
        )


def _hidden(cases: Sequence[Case], target: str) -> Iterator[tuple[str | None, str]]:
    """What is taken for unknown teaches nothing: what looks like the target is found there, too."""
    labelled = [case for case in cases if case.states[target].state == "labelled"]
    sparse = [case for case in labelled if case.states[target].unknown_share > _HIDDEN]
    hidden = [case for case in sparse if not truth.is_told(case.pair.label)]
    if hidden:
        most = max(case.states[target].unknown_share for case in hidden)
        yield (
            None,
            f"{target!r} seems to be segmented on some slices only in {len(hidden)} of {len(cases)} cases "
            f"({named(hidden)}): up to {most:.0%} of their voxels count as unknown and teach nothing; if somebody has "
            "looked at all slices, let those without a segment be background (--unlabelled-slices background)",
        )


def strays(files: pairs.Sorted) -> Iterator[str]:
    """Segmentations that are named for no image, where some image has none."""
    if files.strays and files.unlabelled:
        yield (
            f"no image is called as {listed(path.name for path in files.strays)} says, and no segmentation as "
            f"{listed(path.name for path in files.unlabelled)}: these are not used; {pairs.NAMING}"
        )


def automatic(found: Sequence[pairs.Pair]) -> Iterator[str]:
    """Segmentations that are nobody's work."""
    own = [pair.name for pair in found if truth.is_automatic(pair.label)]
    if own:
        yield (
            f"{len(own)} of {len(found)} segmentations are what promise segment has found, and nobody has saved them "
            f"since ({listed(own)}): they are a pack's own answers and no truth; correct and save them in 3D Slicer, "
            "or leave them out"
        )


def named(cases: Sequence[Case]) -> str:
    """A few names of them, for a sentence."""
    return listed(case.pair.name for case in cases)


def listed(names: Iterable[str]) -> str:
    """The first few of them."""
    every = list(names)
    return ", ".join(every[:_NAMED]) + ", …" * (len(every) > _NAMED)


def too_small(cases: Sequence[Case], targets: Collection[str], side: int) -> Iterator[str]:
    """Targets of which a mask, which has a quarter of the frame's side, would show next to nothing."""
    for name in targets:
        shares = [case.states[name].share for case in cases if case.states[name].state == "labelled"]
        share = float(np.median(shares)) if shares else 1.0
        if share * (side // 4) ** 2 < _LEAST_PIXELS:
            larger = 16 * math.ceil(4 * math.sqrt(_LEAST_PIXELS / share) / 16)
            advice = f"--side {larger} sees it better, and takes longer"
            if larger > _LARGE_SIDE:
                advice = f"crop the images around it (a frame that sees it whole has a side of {larger})"
            yield (
                f"{name!r} is very small: with frames of {side} its masks have {share * (side // 4) ** 2:.1f} pixels "
                f"where it is largest; {advice}"
            )


def of_another_modality(cases: Sequence[Case], picture: bool) -> Iterator[str]:
    """A few of them that are, or are not, CT as the others."""
    is_ct = modality.is_ct(cases)
    few = [case for case in cases if case.is_ct != is_ct]
    if few:
        what = "show no air of a CT, as the others do" if is_ct else "hold a CT's values, unlike the others"
        fine = "if they are CT in HU, cropped, all is well; else " if is_ct else ""
        yield (
            f"{len(few)} of {len(cases)} cases {what} ({named(few)}): all are seen as {modality.of(cases, picture)} "
            f"is; {fine}leave them out, or convert them to the others' values"
        )


def flattering(cases: Sequence[Case], seen: Set[str]) -> Iterator[str]:
    """Held-out cases that are known already. seen: `pairs.content` of what the pack to go on from has learned from."""
    held = [case for case in cases if case.use in ("held-out", "both")]
    known = [case for case in held if case.image_content in seen] if seen else []
    if known:
        yield (
            f"the pack to go on from has learned from {len(known)} of {len(held)} held-out cases ({named(known)}): "
            "scores will be too good"
        )
    groups = held_out.groups(cases)
    learned = [group for group in groups if any(case.use == "learn" for case in group)]
    split = [case for group in learned for case in group if case.use == "held-out"]
    if split:
        yield (
            f"what {named(split)} shows is learned from, too, with another image or segmentation: hold out both or "
            "none, or scores will be too good"
        )


def slow_to_encode(estimate: Estimate, minutes: float | None) -> Iterator[str]:
    """Where encoding takes so much of the minutes that they are exceeded."""
    if minutes is not None and estimate.encode_seconds > 30 * minutes:
        whole = estimate.encode_seconds + estimate.train_seconds
        yield (
            f"on a processor encoding takes about {duration(estimate.encode_seconds)}, and learning gets half of the "
            f"{duration(60 * minutes)} all the same: {duration(whole)} together; give fewer --slices or --views, or a "
            "smaller --backbone"
        )


def _plain(name: str) -> str:
    """A name without what is easily overlooked: case, spaces, how an umlaut is written."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def _kept_targets(targets: Collection[str], known: Collection[str]) -> Iterator[tuple[str | None, str]]:
    kept = [name for name in known if name not in targets]
    if not kept or not targets:
        return
    for name in [name for name in targets if name not in known]:
        for other in [other for other in kept if _plain(other) == _plain(name)]:
            yield None, f"{name!r} and the pack's {other!r} are two targets; rename the segment if they are the same"
    if len(kept) < len(known):
        yield None, f"the pack to go on from also knows {', '.join(kept)}: the new version keeps that as it is"
    else:
        yield (
            None,
            f"none of the targets of the pack to go on from ({', '.join(kept)}) is taught: the new version keeps them"
            " as they are, and what is taught begins anew; if it is the same under another name, rename the segment, "
            f"or name a label map's value with --targets '{kept[0]}=1'",
        )
