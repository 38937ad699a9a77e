"""Who may talk to the server: other sites, other hosts, people without the token and second browsers may not."""

from __future__ import annotations

import asyncio
import importlib.util
import socket

import pytest

if importlib.util.find_spec("aiohttp") is None:
    pytest.skip("aiohttp is not installed; pip install -e .[view]", allow_module_level=True)

from aiohttp import ClientSession, CookieJar, web  # noqa: E402
from ProMISeView.guard import LOOPBACK, Guard, isLoopback  # noqa: E402

TOKEN = "a-token-of-this-test"


def talk(conversation, token: str = "", hosts=LOOPBACK) -> None:
    """Serve a guarded page and a long-lived /ws, and hold a conversation(session, address, port)."""

    async def held() -> None:
        guard, app, port = Guard(token, hosts), web.Application(), _freePort()

        async def page(request):
            return web.Response(text="the page")

        async def lasting(request):
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"open")
            await asyncio.sleep(20)
            return response

        guard.install(app)
        app.router.add_get("/index.html", page)
        app.router.add_post("/upload", page)
        app.router.add_get("/ws", lasting)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, shutdown_timeout=0.1).start()
        try:
            async with browser() as session:
                await conversation(session, f"http://127.0.0.1:{port}", port)
        finally:
            await runner.cleanup()

    asyncio.run(held())


def browser() -> ClientSession:
    return ClientSession(cookie_jar=CookieJar(unsafe=True))


def _freePort() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


async def status(session, url: str, method: str = "GET", **headers) -> int:
    async with session.request(method, url, headers={k.title(): v for k, v in headers.items()}) as answer:
        return answer.status


def test_the_page_itself_is_served_with_strict_headers() -> None:
    async def conversation(session, address, port):
        async with session.get(f"{address}/index.html") as answer:
            assert answer.status == 200 and await answer.text() == "the page"
            assert answer.headers["X-Frame-Options"] == "DENY" and "nosniff" in answer.headers["X-Content-Type-Options"]
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            cookie = answer.headers["Set-Cookie"]
            assert "HttpOnly" in cookie and "SameSite=Strict" in cookie

    talk(conversation)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::2]", ""])
def test_names_of_other_hosts_are_refused(host: str) -> None:
    async def conversation(session, address, port):
        assert await status(session, f"{address}/index.html", host=host) == 421

    talk(conversation)


def test_pages_of_other_sites_reach_nothing() -> None:
    async def conversation(session, address, port):
        for origin in ("https://evil.example", "null", f"http://localhost:{port + 1}"):
            assert await status(session, f"{address}/ws", origin=origin) == 403
            assert await status(session, f"{address}/upload", "POST", origin=origin) == 403
        assert await status(session, f"{address}/upload", "POST") == 403
        assert await status(session, f"{address}/upload", "POST", origin=address) == 200

    talk(conversation)


def test_the_token_is_asked_for_once() -> None:
    async def conversation(session, address, port):
        for path in ("index.html", "ws", "index.html?token=wrong", "index.html?token="):
            assert await status(session, f"{address}/{path}") == 401
        assert await status(session, f"{address}/index.html?token={TOKEN}") == 200
        assert await status(session, f"{address}/index.html") == 200, "the browser remembers it"
        async with browser() as other:
            assert await status(other, f"{address}/index.html") == 401

    talk(conversation, TOKEN, ())


def test_a_second_browser_waits_or_takes_over() -> None:
    async def conversation(session, address, port):
        await status(session, f"{address}/index.html")
        async with browser() as other:
            assert await status(other, f"{address}/index.html") == 200, "nobody is there yet"
            first = await session.get(f"{address}/ws")
            for path in ("index.html", "ws"):
                async with other.get(f"{address}/{path}") as answer:
                    assert answer.status == 409 and "Another browser" in await answer.text()
            assert await status(session, f"{address}/index.html") == 200, "the first one may reload"
            assert await status(other, f"{address}/takeover", "POST", origin=address) == 200
            assert await status(other, f"{address}/index.html") == 200
            second = await other.get(f"{address}/ws")
            assert await status(session, f"{address}/index.html") == 409
            first.close()
            second.close()

    talk(conversation)


def test_pages_of_refusals_are_whole_and_say_what_to_do() -> None:
    async def conversation(session, address, port):
        async with session.get(f"{address}/index.html?token=wrong") as answer:
            page = await answer.text()
        assert "<title>ProMISe: This page asks for its token</title>" in page and "<h1>This page asks" in page
        assert "?token=…" in page and page.startswith("<!doctype html>") and page.endswith("</html>\n")
        async with session.get(f"{address}/index.html", headers={"Host": "elsewhere"}) as answer:
            other = await answer.text()
        assert "<p>This address is not known here.</p>" in other and not any("{{" in each for each in (page, other))

    talk(conversation, TOKEN)


def test_loopback_addresses() -> None:
    assert [isLoopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "192.168.1.7", "::")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
