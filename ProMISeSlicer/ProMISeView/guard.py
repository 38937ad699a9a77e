"""Who may talk to the server: this page only, with the token where one is asked for, one person at a time."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_WEB = Path(__file__).with_name("web")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # without any, forms of our own pages would come from "null"
    "Cache-Control": "no-store",
    # trame's page compiles its templates, hence eval; nothing at all comes from other places
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self' ws: wss:; "
    "frame-ancestors 'none'; base-uri 'self'; form-action 'self'",
}
_BEAT_SECONDS = 5  # between signs of life to the page
_RESERVED_SECONDS = 10  # for the browser that takes over to load the page


def isLoopback(host: str) -> bool:
    """Whether only programs of this computer reach that address."""
    return host in LOOPBACK or host.startswith("127.")


class Guard:
    """hosts: names under which the server may be asked for; token: "" for none.

    Pages of other sites can make a browser send requests here, hence Host and Origin are looked at. Browsers are told
    apart by a cookie; the one that has the page open keeps others out until it leaves, or until they take over.
    """

    def __init__(self, token: str = "", hosts: tuple[str, ...] = LOOPBACK) -> None:
        self.token, self._hosts = token, hosts
        self._owner = self._page = ""
        self._reserved = 0.0  # monotonic seconds until which the owner is waited for
        self._open: dict[int, web.Request] = {}  # requests that last as long as the page is open

    @property
    def isInUse(self) -> bool:
        return bool(self._open) or time.monotonic() < self._reserved

    def install(self, app: web.Application) -> None:
        """Before the server starts."""
        app.middlewares.append(self._middleware())
        app.router.add_get("/alive", self._alive)
        app.router.add_post("/takeover", self._takeOver)
        app.on_shutdown.append(self._letGo)

    def _middleware(self):
        @web.middleware
        async def guarded(request: web.Request, handler):
            refusal = self._refusal(request)
            response = refusal if refusal is not None else await self._served(request, handler)
            if not response.prepared:
                response.headers.update(_HEADERS)
                self._remember(request, response)
            return response

        return guarded

    # What is refused

    def _refusal(self, request: web.Request) -> web.Response | None:
        if not self._isHere(request.host):
            return _page("refused.html", 421, "This address is not known here.")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            return _page("refused.html", 403, "A page of another site asked for this.")
        if request.method not in ("GET", "HEAD") and origin is None:
            return _page("refused.html", 403, "Only the page itself may send something.")
        if self.token and not self._hasToken(request):
            return _page("token.html", 401)
        if request.path != "/takeover" and self._isOthers(request):
            return _page("in-use.html", 409)
        return None

    def _isHere(self, host: str) -> bool:
        name = urlsplit(f"//{host}").hostname or ""
        return not self._hosts or name in self._hosts

    def _hasToken(self, request: web.Request) -> bool:
        given = request.query.get("token") or request.cookies.get(self._cookie(request, "token"), "")
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _isOthers(self, request: web.Request) -> bool:
        return self.isInUse and self._browser(request) != self._owner

    # Who it is

    @staticmethod
    def _cookie(request: web.Request, name: str) -> str:
        """Cookies do not tell ports apart, so their names do."""
        return f"promise-{name}-{urlsplit(f'//{request.host}').port or 80}"

    def _browser(self, request: web.Request) -> str:
        return request.cookies.get(self._cookie(request, "browser"), "")

    def _remember(self, request: web.Request, response: web.StreamResponse) -> None:
        options = {"httponly": True, "samesite": "Strict", "path": "/"}
        if not self._browser(request):
            response.set_cookie(self._cookie(request, "browser"), secrets.token_urlsafe(24), **options)
        if self.token and request.query.get("token") and self._hasToken(request):
            response.set_cookie(self._cookie(request, "token"), self.token, **options)

    async def _served(self, request: web.Request, handler) -> web.StreamResponse:
        if request.path not in ("/ws", "/alive"):
            return await handler(request)
        self._owner = self._browser(request)
        self._open[id(request)] = request
        try:
            return await handler(request)
        finally:
            self._open.pop(id(request), None)

    # Signs of life

    async def _alive(self, request: web.Request) -> web.StreamResponse:
        """Events for as long as the page is open; it sees by their end that the connection is lost.

        page: a number that each loaded page gives itself. The newest one counts; an older one is told to rest.
        """
        page, isNew = request.query.get("page", ""), request.query.get("again") != "1"
        if isNew:
            self._page = page
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **_HEADERS})
        await response.prepare(request)
        try:
            while request.transport is not None and not request.transport.is_closing():
                await response.write(b"event: elsewhere\ndata: \n\n" if page != self._page else b"data: here\n\n")
                await asyncio.sleep(_BEAT_SECONDS if page == self._page else 60)
        except ConnectionError:
            pass  # the page has gone
        return response

    async def _takeOver(self, request: web.Request) -> web.Response:
        """The browser that asks gets the page; the one that had it is told."""
        self._page, self._owner = "", self._browser(request)
        self._reserved = time.monotonic() + _RESERVED_SECONDS
        await self._letGo()
        raise web.HTTPSeeOther("/index.html")

    async def _letGo(self, app: web.Application | None = None) -> None:
        """Close what lasts as long as a page; the server would wait for it at its end."""
        for request in list(self._open.values()):
            if request.transport is not None:
                request.transport.close()
        self._open.clear()


def _page(name: str, status: int, text: str = "") -> web.Response:
    """A page of the folder `web`, its first line as the title, in the frame of all; with text where it says so."""
    title, _, content = (_WEB / name).read_text(encoding="utf-8").partition("\n")
    page = (_WEB / "frame.html").read_text(encoding="utf-8")
    for place, filling in (("title", title), ("content", content), ("text", text)):
        page = page.replace(f"{{{{{place}}}}}", filling)
    return web.Response(text=page, status=status, content_type="text/html")
