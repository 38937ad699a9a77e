"""The ways of segmenting that the paper compares, and a few beside them."""

from __future__ import annotations

from dataclasses import dataclass

from learners import AUTO, TRUTH, Design

COUNTS = (1, 2, 4, 8, 16)
COUNT = 8  # where the number of points is not what is asked
#: The `val` set that is scored, of those that a subject has: Kvasir-SEG's, as in the paper.
SCORED = {"polyp": "kvasir", "skin": "isic"}


@dataclass(frozen=True)
class Variant:
    """One way of the paper, or beside it: its title, its design but for the number of points, and those numbers."""

    title: str
    design: Design
    counts: tuple[int, ...] = (COUNT,)


VARIANTS = {
    "sam-truth": Variant("SAM, ground-truth points, nothing trained", Design(TRUTH, ips=None), COUNTS),
    "apm": Variant("APM only", Design(AUTO, ips=None), COUNTS),
    "ips-truth": Variant("IPS, ground-truth points", Design(TRUTH)),
    "apm-ips": Variant("APM + IPS", Design(AUTO), COUNTS),
    "apm-static": Variant("APM + IPS without PaE", Design(AUTO, ips="static")),
    "apm-decoder": Variant("APM + decoder fine-tuned instead of IPS", Design(AUTO, ips=None, decoder=True)),
}
