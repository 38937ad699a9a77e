"""How a budget is divided where held-out cases first judge, and are then learned from, too."""

from __future__ import annotations

from dataclasses import replace

from ProMISeCore.settings import Settings

SHARE = 0.25  # of the budget, in which all cases are learned from
_RATE = 0.3  # of the rate


def is_divisible(settings: Settings) -> bool:
    """Whether the budget is enough for two trainings."""
    return settings.minutes is not None or settings.steps > 1


def divided(settings: Settings) -> tuple[Settings, Settings]:
    """Of the training that is judged, and of the one that goes on from it: of refiners where there are some."""
    first = max(1, int((1 - SHARE) * settings.steps))
    minutes, passes = (None, None), settings.passes and SHARE * settings.passes
    if settings.minutes is not None:
        minutes = ((1 - SHARE) * settings.minutes, SHARE * settings.minutes)
    return (
        replace(settings, steps=first, minutes=minutes[0]),
        replace(
            settings,
            steps=settings.steps - first,
            minutes=minutes[1],
            passes=passes,
            rate=_RATE * settings.rate,
            refine=1.0,
        ),
    )
