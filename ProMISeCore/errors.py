"""What can go wrong, by who has to act. The command line prints these as one line and exits with 2."""

from __future__ import annotations


class PromiseError(Exception):
    """Any failure that the user can mend; its message says what was given, what was expected and what to do."""


class InputError(PromiseError):
    """The user's file, volume or argument cannot be used."""


class WeightsError(PromiseError):
    """A backbone, pack or checkpoint is missing, damaged, foreign or does not fit."""


class Cancelled(PromiseError):
    """The caller asked to stop; what was done so far is kept."""
