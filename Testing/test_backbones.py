"""Backbone files from a server that fails in every way servers do, from local files, and gone again."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import pytest

from ProMISeCore import backbones, downloading
from ProMISeCore.backbones import TABLE, Backbone, download, find, folder, install, remove, verify
from ProMISeCore.errors import Cancelled, WeightsError

ROOT = Path(__file__).resolve().parent.parent
CONTENT = b"PK\3\4" + bytes(range(256)) * 12_000  # about three chunks


class Server(ThreadingHTTPServer):
    """Serves CONTENT under every path; how it misbehaves is set by the test."""

    content = CONTENT
    status = 200
    ranges = True
    cut: int | None = None  # bytes after which a connection is closed
    length = True
    asked: list[str | None]

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked).group(1)) if asked and server.ranges else 0
        total = len(server.content)
        if server.status != 200:
            return self.send_error(server.status)
        if asked and server.ranges and start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            return self.end_headers()
        self.send_response(206 if asked and server.ranges else 200)
        if asked and server.ranges:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if server.length:
            self.send_header("Content-Length", str(total - start))
        self.end_headers()
        body = server.content[start:]
        self.wfile.write(body if server.cut is None else body[: server.cut])

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def backbone(server: Server) -> Backbone:
    """An entry as in the table, for the file on the test's server."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    url = f"http://127.0.0.1:{server.server_port}/weights/small.pth"
    return Backbone("small", "vit_b", "small.pth", url, len(CONTENT), digest, "Apache-2.0", 1024, "")


def part() -> Path:
    return folder() / "small.pth.part"


def test_download_with_progress(server: Server, backbone: Backbone) -> None:
    seen: list[tuple[int, int | None]] = []
    path = download(backbone, progress=lambda have, total: seen.append((have, total)))
    assert path == folder() / "small.pth" and path.read_bytes() == CONTENT
    assert [entry.name for entry in folder().iterdir()] == ["small.pth"]
    assert len(seen) >= 3 and seen == sorted(seen) and seen[-1] == (len(CONTENT), len(CONTENT))


def test_what_is_there_is_not_fetched_again_unless_it_is_damaged(server: Server, backbone: Backbone) -> None:
    path = download(backbone)
    download(backbone)
    assert len(server.asked) == 1
    path.write_bytes(CONTENT[:-1] + b"x")
    assert download(backbone).read_bytes() == CONTENT and len(server.asked) == 2


def test_an_interrupted_download_is_resumed(server: Server, backbone: Backbone) -> None:
    server.cut = 1_500_000
    with pytest.raises(WeightsError, match=r"ended after 1,500,000 of 3,072,004 bytes.*goes on from there"):
        download(backbone)
    assert part().read_bytes() == CONTENT[:1_500_000] and not (folder() / "small.pth").exists()
    server.cut = None
    assert download(backbone).read_bytes() == CONTENT and not part().exists()
    assert server.asked == [None, "bytes=1500000-"]


@pytest.mark.parametrize("length", [True, False])
def test_a_server_that_sends_all_again(server: Server, backbone: Backbone, length: bool) -> None:
    folder().mkdir(parents=True)
    part().write_bytes(b"from another attempt")
    server.ranges, server.length = False, length
    assert download(backbone).read_bytes() == CONTENT and server.asked == ["bytes=20-"]


def test_a_connection_cut_without_a_length_is_noticed(server: Server, backbone: Backbone) -> None:
    server.cut, server.length = 1000, False
    with pytest.raises(WeightsError, match="ended after 1,000 of"):
        download(backbone)


def test_size_unknown_to_the_table_comes_from_the_server(server: Server, backbone: Backbone) -> None:
    backbone, server.cut = replace(backbone, size=None), 2_000_000
    with pytest.raises(WeightsError, match="2,000,000 of 3,072,004"):
        download(backbone)
    server.cut, seen = None, []
    assert download(backbone, lambda have, total: seen.append(total)).read_bytes() == CONTENT
    assert set(seen) == {len(CONTENT)}


def test_a_complete_part_is_only_verified(server: Server, backbone: Backbone) -> None:
    folder().mkdir(parents=True)
    part().write_bytes(CONTENT)
    assert download(backbone).read_bytes() == CONTENT and server.asked == []
    (folder() / "small.pth").rename(part())
    assert download(replace(backbone, size=None)).read_bytes() == CONTENT  # answered with 416: nothing is left to send
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_part_longer_than_the_file_is_dropped(server: Server, backbone: Backbone) -> None:
    folder().mkdir(parents=True)
    part().write_bytes(CONTENT + b"more")
    with pytest.raises(WeightsError, match="was removed, try again"):
        download(replace(backbone, size=None))
    assert not part().exists()
    part().write_bytes(CONTENT + b"more")
    assert download(backbone).read_bytes() == CONTENT


def test_wrong_content_is_removed(server: Server, backbone: Backbone) -> None:
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(WeightsError, match=r"SHA-256 is [0-9a-f]{64}, expected [0-9a-f]{64}; it was removed"):
        download(backbone)
    assert list(folder().iterdir()) == []


def test_more_than_expected_is_removed(server: Server, backbone: Backbone) -> None:
    server.content = CONTENT * 2
    with pytest.raises(WeightsError, match="more than the 3,072,004 bytes expected"):
        download(backbone)
    assert list(folder().iterdir()) == []


def test_less_than_expected_is_not_taken(server: Server, backbone: Backbone) -> None:
    server.content = CONTENT[:5000]
    with pytest.raises(WeightsError, match="ended after 5,000 of 3,072,004"):
        download(backbone)
    assert not (folder() / "small.pth").exists()


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_error_answers(server: Server, backbone: Backbone, status: int) -> None:
    server.status = status
    with pytest.raises(WeightsError, match=rf"answered {status}.*--install.*nothing was kept") as caught:
        download(backbone)
    assert "\n" not in str(caught.value) and list(folder().iterdir()) == []


def test_no_connection(backbone: Backbone) -> None:
    def offline(request, timeout):
        raise URLError("Name or service not known")

    with pytest.raises(WeightsError, match="Name or service not known"):
        download(backbone, opener=offline)


def test_a_stalled_connection_keeps_what_came(backbone: Backbone) -> None:
    class Stalled:
        status, headers = 200, {}
        chunks = [CONTENT[:4000]]

        def __enter__(self):
            return self

        def __exit__(self, *arguments) -> None:
            pass

        def geturl(self) -> str:
            return backbone.url

        def read(self, count: int) -> bytes:
            if not self.chunks:
                raise TimeoutError("timed out")
            return self.chunks.pop()

    with pytest.raises(WeightsError, match=r"timed out.*4,000 bytes are kept"):
        download(backbone, opener=lambda request, timeout: Stalled())
    assert part().read_bytes() == CONTENT[:4000]


def test_cancelled_by_the_progress(server: Server, backbone: Backbone) -> None:
    def stop(have: int, total: int | None) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        download(backbone, progress=stop)
    assert part().stat().st_size > 0
    assert download(backbone).read_bytes() == CONTENT and server.asked[1].startswith("bytes=")


def test_full_disk(server: Server, backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 71_000_000})
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda path: usage)
    assert download(backbone).is_file()  # 3 MB and 67 MB to spare: enough
    with pytest.raises(WeightsError, match=r"has 71 MB of free space.*make room or set PROMISE_HOME"):
        download(replace(backbone, file="other.pth", size=4_000_000))


def test_unwritable_folder(backbone: Backbone, home: Path) -> None:
    (home / "backbones").write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match="set PROMISE_HOME elsewhere"):
        download(backbone)


@pytest.mark.parametrize("url", ["http://example.org/small.pth", "file:///etc/hostname", "ftp://127.0.0.1/small.pth"])
def test_only_https(backbone: Backbone, url: str) -> None:
    def never(request, timeout):
        raise AssertionError("it was opened")

    with pytest.raises(WeightsError, match="only fetched over https"):
        download(replace(backbone, url=url), opener=never)


def test_a_redirection_away_from_https(backbone: Backbone) -> None:
    class Redirected:
        def __enter__(self):
            return self

        def __exit__(self, *arguments) -> None:
            pass

        def geturl(self) -> str:
            return "http://example.org/small.pth"

    with pytest.raises(WeightsError, match="http://example.org/small.pth was refused"):
        download(backbone, opener=lambda request, timeout: Redirected())


def test_install_and_remove(backbone: Backbone, tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(CONTENT)
    path = install(backbone, tmp_path / "mine.pth")
    assert path.read_bytes() == CONTENT and (tmp_path / "mine.pth").exists()
    assert install(backbone, path) == path  # it is the file itself
    part().write_bytes(b"123")
    assert remove(backbone) == len(CONTENT) + 3 and list(folder().iterdir()) == []
    with pytest.raises(WeightsError, match="nothing to remove"):
        remove(backbone)


def test_install_refuses_another_file(backbone: Backbone, tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(CONTENT + b"!")
    with pytest.raises(WeightsError, match=r"other.pth is not small.pth as published: it has 3,072,005 bytes"):
        install(backbone, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="there is no file"):
        install(backbone, tmp_path / "absent.pth")
    assert list(folder().iterdir()) == [] and (tmp_path / "other.pth").exists()


def test_medsam_comes_from_a_file_only(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no download.*promise backbones --install medsam_vit_b medsam_vit_b.pth"):
        download("medsam_vit_b")
    (tmp_path / "page.pth").write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(WeightsError, match="does not start as a file of weights"):
        install("medsam_vit_b", tmp_path / "page.pth")
    (tmp_path / "file.pth").write_bytes(CONTENT)
    assert install("medsam_vit_b", tmp_path / "file.pth") == find("medsam_vit_b")
    assert "medsam_vit_b" in [entry.name for entry in backbones.installed()]


def test_verify(backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "small.pth"
    path.write_bytes(CONTENT)
    verify(path, backbone)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="it has 3,072,003 bytes, expected 3,072,004"):
        verify(path, backbone)


def test_find(tmp_path: Path, home: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(b"x")
    assert find(tmp_path / "mine.pth") == find(str(tmp_path / "mine.pth")) == tmp_path / "mine.pth"
    with pytest.raises(WeightsError, match=r"no backbone or file 'vit_x'.*sam_vit_b \(not installed\)"):
        find("vit_x")
    with pytest.raises(WeightsError, match="promise backbones --download sam_vit_h"):
        find("sam_vit_h")
    target = home / "backbones" / "sam_vit_h_4b8939.pth"
    target.parent.mkdir()
    target.write_bytes(b"x")
    assert find("sam_vit_h") == target


def test_the_embedded_backbone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(backbones, "EMBEDDED", tmp_path)
    with pytest.raises(WeightsError, match="embedded backbone is missing"):
        find("tiny")
    (tmp_path / "tiny.safetensors").write_bytes(b"x")
    assert find("tiny") == tmp_path / "tiny.safetensors"
    for refused in (lambda: remove("tiny"), lambda: install("tiny", tmp_path), lambda: download("tiny")):
        with pytest.raises(WeightsError, match="tiny"):
            refused()
    assert (tmp_path / "tiny.safetensors").exists()


def test_names_that_are_not_in_the_table() -> None:
    for call in (download, remove, lambda name: install(name, "x")):
        with pytest.raises(WeightsError, match="there is no backbone 'vit_x'; choose one of tiny"):
            call("vit_x")


def test_table() -> None:
    assert set(TABLE) == {"tiny", "mobile_sam", "sam_vit_b", "sam_vit_l", "sam_vit_h", "medsam_vit_b"}
    for name, backbone in TABLE.items():
        assert backbone.name == name and backbone.licence and backbone.summary and backbone.side % 16 == 0
        if backbone.url:
            assert backbone.url.startswith("https://") and backbone.url.endswith("/" + backbone.file)
            assert re.fullmatch("[0-9a-f]{64}", backbone.sha256)
    assert len({backbone.file for backbone in TABLE.values()}) == len(TABLE)


def test_needs_no_torch() -> None:
    code = "import sys, ProMISeCore.backbones; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0
