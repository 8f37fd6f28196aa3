"""models.download: resumed, checked, whole or not at all. The real script against real HTTP servers."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.scripts import FILES, load

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it runs in Linux containers")

BODY = bytes(range(256)) * 8192
"""2 MiB."""
SUM = hashlib.sha256(BODY).hexdigest()
script: Any = load("download_models")


class Store(ThreadingHTTPServer):
    """An HTTP server with one file at every path: ranges, redirects, faults."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.body = BODY
        self.statuses: list[int] = []
        """Of the next answers, before good ones."""
        self.tear_at: list[int] = []
        """End the next responses after this number of bytes."""
        self.redirect = ""
        self.ranges = True
        self.etag = ""
        self.seen: list[tuple[str, dict[str, str]]] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Store)
        server.seen.append((self.path, dict(self.headers)))
        if server.statuses:
            self.send_response(server.statuses.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.send_header("X-Linked-Etag", f'"{server.etag}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        asked = self.headers.get("Range") if server.ranges else None
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(server.body):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(server.body) - start))
        self.end_headers()
        data = server.body[start:]
        if server.tear_at:
            self.wfile.write(data[: server.tear_at.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — its name in the standard library
        pass


@pytest.fixture
def store() -> Iterator[Store]:
    one = Store()
    yield one
    one.shutdown()
    one.server_close()


@pytest.fixture
def other() -> Iterator[Store]:
    one = Store()
    yield one
    one.shutdown()
    one.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def wanted(url: str, path: str = "vae/模型 '一'.safetensors", sha256: str = SUM) -> list[Any]:
    return script.models(json.dumps([{"url": url, "path": path, "sha256": sha256}]))


def fetched(models: list[Any], folder: Path, **env: str) -> None:
    script.run(models, folder, env, pause=0.0)


def test_once(store: Store, folder: Path) -> None:
    """The file, its line for the node cache, and nothing more to do the next time."""
    models = wanted(f"{store.url}/a")
    fetched(models, folder)
    fetched(models, folder)

    assert BODY == (folder / models[0].path).read_bytes()
    assert 1 == len(store.seen)
    assert (
        0 == subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=False).returncode
    )


def test_it_was_there_already(store: Store, folder: Path) -> None:
    """A right file that somebody copied is read, not downloaded."""
    (folder / "a.pt").write_bytes(BODY)
    fetched(wanted(f"{store.url}/a", "a.pt"), folder)

    assert [] == store.seen
    assert "a.pt" in (folder / "SHA256SUMS").read_text(encoding="utf-8")


@pytest.mark.parametrize("ranges", [True, False])
def test_torn_downloads_go_on(store: Store, folder: Path, ranges: bool) -> None:  # noqa: FBT001 — a parameter of the test
    """Where the server knows ranges only what is missing is fetched; else from the beginning."""
    store.tear_at, store.ranges = [1_000_000, 500_000], ranges
    fetched(wanted(f"{store.url}/a", "a.pt"), folder)

    assert BODY == (folder / "a.pt").read_bytes()
    expected = [None, "bytes=1000000-", "bytes=1500000-" if ranges else "bytes=500000-"]
    assert expected == [headers.get("Range") for _, headers in store.seen]


def test_killed(store: Store, folder: Path) -> None:
    """A run that was killed goes on where it stopped, and the file never has its name before it is whole."""
    (folder / ".downloads").mkdir()
    (folder / ".downloads" / SUM).write_bytes(BODY[:-1])
    fetched(wanted(f"{store.url}/a", "a.pt"), folder)
    (folder / ".downloads" / SUM).write_bytes(BODY)
    (folder / "a.pt").unlink()
    fetched(wanted(f"{store.url}/a", "a.pt"), folder)

    assert BODY == (folder / "a.pt").read_bytes()
    assert [f"bytes={len(BODY) - 1}-", f"bytes={len(BODY)}-"] == [
        headers["Range"] for _, headers in store.seen
    ]


@pytest.mark.parametrize("statuses", [[503], [429, 500], [408, 502, 504]])
def test_a_server_in_trouble_is_asked_again(store: Store, folder: Path, statuses: list[int]) -> None:
    store.statuses = list(statuses)
    fetched(wanted(f"{store.url}/a", "a.pt"), folder)

    assert len(statuses) + 1 == len(store.seen)


@pytest.mark.parametrize(
    ("statuses", "words"),
    [
        ([404], "HTTP 404"),
        ([401], "set HF_TOKEN or the AWS keys"),
        ([403], "the token has no access"),
        ([500] * 5, "HTTP 500"),
    ],
)
def test_refused(store: Store, folder: Path, statuses: list[int], words: str) -> None:
    store.statuses = list(statuses)
    with pytest.raises(script.RefusedError, match=words):
        fetched(wanted(f"{store.url}/a", "a.pt"), folder)

    assert not (folder / "a.pt").exists()


def test_another_file(store: Store, folder: Path) -> None:
    """What does not match is fetched once more, then refused; nothing of it stays."""
    store.body = BODY[::-1]
    with pytest.raises(script.RefusedError, match="does not match its sha256"):
        fetched(wanted(f"{store.url}/a", "a.pt"), folder)

    assert 2 == len(store.seen)
    assert [".downloads"] == [file.name for file in folder.iterdir()]
    assert ["lock"] == [file.name for file in (folder / ".downloads").iterdir()]


def test_nobody_answers(folder: Path) -> None:
    with pytest.raises(script.RefusedError, match="refused"):
        fetched(wanted("http://127.0.0.1:1/a", "a.pt"), folder)


def test_hub(store: Store, other: Store, folder: Path) -> None:
    """hf://: the hub's path, the token for the hub and not for its storage, the hub's own checksum."""
    store.redirect, store.etag = f"{other.url}/blob", SUM
    models = wanted("hf://me/sd 1.5/folder/模型.safetensors@v1/x", "a.pt", "")
    fetched(models, folder, HF_TOKEN="secret\n", HF_ENDPOINT=f"{store.url}/")  # noqa: S106 — not a token
    fetched(models, folder, HF_HUB_OFFLINE="1")

    assert ["/me/sd 1.5/resolve/v1%2Fx/folder/%E6%A8%A1%E5%9E%8B.safetensors"] == [
        path.replace("%20", " ") for path, _ in store.seen
    ]
    assert "Bearer secret" == store.seen[0][1]["Authorization"]
    assert "Authorization" not in other.seen[0][1]
    assert SUM in (folder / "SHA256SUMS").read_text(encoding="utf-8")


def test_hub_without_a_checksum(store: Store, folder: Path) -> None:
    with pytest.raises(script.RefusedError, match="give sha256"):
        fetched(wanted("hf://me/repo/a.pt", "a.pt", ""), folder, HF_ENDPOINT=store.url)


def test_hub_offline(folder: Path) -> None:
    with pytest.raises(script.RefusedError, match="HF_HUB_OFFLINE is set"):
        fetched(wanted("hf://me/repo/a.pt", "a.pt"), folder, HF_HUB_OFFLINE="1")


def test_s3(store: Store, folder: Path) -> None:
    """s3://: signed with a key, open without; a key with blanks and Chinese characters is one path."""
    env = {"AWS_ENDPOINT_URL": store.url, "AWS_REGION": "eu-central-1"}
    fetched(wanted("s3://bucket/a b/模型.pt", "a.pt"), folder, **env)
    env |= {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK"}
    fetched(wanted("s3://bucket/c.pt", "c.pt"), folder, **env)

    assert "/bucket/a%20b/%E6%A8%A1%E5%9E%8B.pt" == store.seen[0][0]
    assert "Authorization" not in store.seen[0][1]
    assert store.seen[1][1]["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AK/")
    assert "/eu-central-1/s3/aws4_request" in store.seen[1][1]["Authorization"]


def test_signature() -> None:
    """The example "GET object" of AWS's documentation of Signature Version 4, with its signature."""
    env = {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    }
    when = dt.datetime(2013, 5, 24, tzinfo=dt.timezone.utc)
    sent = script.signed("https://examplebucket.s3.amazonaws.com/test.txt", {"Range": "bytes=0-9"}, env, when)

    signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    assert signature == sent["Authorization"].rpartition("Signature=")[2]


@pytest.mark.parametrize(
    "given",
    [
        {"url": "ftp://x/a", "path": "a", "sha256": SUM},
        {"url": "http://x/a", "path": "../a", "sha256": SUM},
        {"url": "http://x/a", "path": "/a", "sha256": SUM},
        {"url": "http://x/a", "path": "a/../../b", "sha256": SUM},
        {"url": "http://x/a", "path": ".downloads/a", "sha256": SUM},
        {"url": "http://x/a", "path": "", "sha256": SUM},
        {"url": "http://x/a", "path": "a", "sha256": ""},
        {"url": "http://x/a", "path": "a", "sha256": SUM.upper()},
        {"path": "a", "sha256": SUM},
    ],
    ids=str,
)
def test_bad_lines(given: dict[str, str]) -> None:
    with pytest.raises(script.RefusedError):
        script.models(json.dumps([given]))


def test_one_path_twice() -> None:
    line = {"url": "http://x/a", "path": "a", "sha256": SUM}
    with pytest.raises(script.RefusedError, match="in the list twice"):
        script.models(json.dumps([line, line]))


def test_full_disk(store: Store, tmp_path: Path) -> None:
    """A claim that is full: said before a byte is fetched, with both sizes."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        with pytest.raises(script.RefusedError, match=f"the volume is full: {len(BODY)} bytes to come"):
            fetched(wanted(f"{store.url}/a", "a.pt"), small)
    finally:
        subprocess.run(["umount", str(small)], check=True)


@contextmanager
def ran(folder: Path, models: list[dict[str, str]], *words: str) -> Iterator[subprocess.Popen[str]]:
    """The script as a process of its own."""
    (folder.parent / "models.json").write_text(json.dumps(models), encoding="utf-8")
    command = [sys.executable, str(FILES / "download_models.py"), *words]
    command += [str(folder.parent / "models.json"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_two_at_once(store: Store, folder: Path) -> None:
    """Pods that start together.

    One downloads, the other waits for it; a third only waits until it is all there.
    """
    line = {"url": f"{store.url}/a", "path": "a.pt", "sha256": SUM}
    with ran(folder, [line], "--wait") as waiting:
        assert waiting.stdout
        assert "waiting for 1 files: a.pt" in waiting.stdout.readline()
        with ran(folder, [line]) as one, ran(folder, [line]) as two:
            assert [0, 0] == [one.wait(60), two.wait(60)]
        assert 0 == waiting.wait(30)

    assert 1 == len(store.seen)


def test_last_words(store: Store, folder: Path) -> None:
    """An end with 1 and one line that says why: that is the container's termination message."""
    with ran(folder, [{"url": f"{store.url}/a", "path": "a.pt", "sha256": "0" * 63}]) as process:
        said, _ = process.communicate(timeout=60)

    assert 1 == process.returncode
    assert f"download-models: a.pt: sha256 '{'0' * 63}' is not 64 hexadecimal digits\n" == said


def test_empty_list(folder: Path) -> None:
    """Nothing to do is done, on an empty claim and on one that cannot be written to."""
    with ran(folder, []) as process:
        assert 0 == process.wait(30)
