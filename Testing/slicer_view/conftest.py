"""Pages of `promise view`; skipped, with the reason, where a browser or a part of the server is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

#: How wslink tells that a page has gone while a picture was on its way to it; nothing is lost by that.
_GONE = "ClientConnectionResetError: Cannot write to closing transport"

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "ProMISeSlicer"))


@pytest.fixture(scope="session")
def chrome():
    import browsing

    reason = browsing.whyNot()
    if reason:
        pytest.skip(reason)
    with browsing.browser() as made:
        yield made


@pytest.fixture
def server(chrome, tmp_path):
    import browsing

    made = browsing.Server(tmp_path)
    yield made
    made.close()


@pytest.fixture
def desk(chrome, server):
    """A page; at the end, neither it nor the server has complained."""
    import browsing

    context = chrome.new_context(viewport={"width": 1280, "height": 720}, accept_downloads=True)
    made = browsing.Desk(server, context.new_page())
    yield made
    context.close()
    assert made.errors == []
    assert "ERR|" not in server.log, server.log
    assert [part for part in server.log.split("Traceback (most")[1:] if _GONE not in part] == []
