"""Errors of a session: one kind for whoever shows them, with the words of whatever explains itself."""

from __future__ import annotations

from contextlib import contextmanager

from . import environment, mrml
from .state import FormatError


class SessionError(Exception):
    """Something cannot be done; the message says what was given, what was expected and what to do."""


@contextmanager
def teaching():
    """Errors that explain themselves become SessionErrors."""
    try:
        yield
    except Exception as error:
        if not _explains(error):
            raise
        raise SessionError(str(error)) from error


def explained(error: Exception) -> str:
    """What to tell of an error, whether it explains itself or not."""
    if _explains(error):
        return str(error)
    return f"segmenting failed ({type(error).__name__}: {error}); the error log says where"


def _explains(error: Exception) -> bool:
    if isinstance(error, (SessionError, mrml.GeometryError, environment.MissingError, FormatError)):
        return True
    return isinstance(error, environment.core("errors").PromiseError)
