"""Files from the page and to it. Names that come from the page never become paths; all lies in a private folder."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from aiohttp import web
from ProMISeSlicerLib.failing import SessionError

from ProMISeCore.errors import InputError

from . import loading, saving

_BLOCK = 1 << 20


class Files:
    """folder: a private one; limit: bytes of the largest upload; app: what is told of what came."""

    def __init__(self, folder: str, limit: int, app) -> None:
        self.folder, self.limit, self._app = Path(folder), limit, app

    def install(self, app: web.Application) -> None:
        app.router.add_post("/upload", self._upload)
        app.router.add_get("/save/{name}", self._save)

    async def _upload(self, request: web.Request) -> web.Response:
        """One file as the request's body, its name in X-Name. Only the ending of the name is used, if it is known."""
        page, name = self._app, unquote(request.headers.get("X-Name", ""))
        try:
            kind = loading.kindOf(name)
            title = loading.title(name)
            with self._place(kind.ending) as path:
                await self._receive(request, path)
                self._load(kind, path, title)
        except (InputError, SessionError) as error:
            with page.state:
                page.say(str(error), "error")
            return web.json_response({"error": str(error)}, status=422)
        finally:
            page.study.onNews()
        return web.json_response({})

    def _load(self, kind: loading.Kind, path: Path, title: str) -> None:
        """Errors speak of the file by the name that it has for the user."""
        page = self._app
        with page.state:
            try:
                kind.load(page.study, path, title)
            except InputError as error:
                raise InputError(
                    re.sub(rf"{re.escape(str(self.folder))}\S*", title + kind.ending, str(error))
                ) from error
            page.say(f"{title} is open." if kind.isVolume else f"{title}{kind.ending} is loaded.")

    async def _receive(self, request: web.Request, path: Path) -> None:
        if (request.content_length or 0) > self.limit:
            self._tooLarge()
        received = 0
        with path.open("wb") as file:
            async for block in request.content.iter_chunked(_BLOCK):
                received += len(block)
                if received > self.limit:
                    self._tooLarge()
                file.write(block)

    def _tooLarge(self) -> None:
        raise InputError(
            f"that file has more than {self.limit / 1e6:.0f} MB; crop it, or start promise view with the file's path "
            "or a larger --max-upload"
        )

    async def _save(self, request: web.Request) -> web.StreamResponse:
        """The study as one of saving.KINDS."""
        page, name = self._app, request.match_info["name"]
        try:
            if name not in saving.KINDS:
                raise InputError(f"there is nothing called {name!r} to save")
            kind = saving.KINDS[name]
            with self._place(kind.ending) as path:
                kind.write(page.study, path)
                data = path.read_bytes()
        except (InputError, SessionError) as error:
            with page.state:
                page.say(str(error), "error")
            return web.json_response({"error": str(error)}, status=422)
        fileName = saving.plain(page.study.volumeNode.GetName()) + kind.ending
        with page.state:
            page.say(f"Saved as {fileName}.")
        return web.Response(
            body=data,
            content_type="application/octet-stream",
            headers={"Content-Disposition": f'attachment; filename="{fileName}"'},
        )

    @contextlib.contextmanager
    def _place(self, ending: str) -> Iterator[Path]:
        """A path in the private folder for one file, gone afterwards."""
        path = self.folder / (secrets.token_hex(8) + ending)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)
