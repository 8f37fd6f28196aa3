"""Downloads models into a folder: a job or an init container of the chart. Standard library only.

    download_models.py models.json /models           download what is missing
    download_models.py --wait models.json /models    only wait until it is all there

models.json is a list of {"url", "path", "sha256"}. URLs are http(s)://…, hf://OWNER/REPO/FILE[@REVISION] and
s3://BUCKET/KEY. For hf:// the sha256 may be left out: then it is the one that the hub itself names
(X-Linked-Etag). A file has its name only when its SHA-256 is right; what was broken off goes on where it
stopped; a second run at the same time waits for the first. At the end SHA256SUMS lists all files, for the
node cache.

HF_TOKEN and HF_ENDPOINT are used for hf://; with HF_HUB_OFFLINE=1 nothing is fetched from there.
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL are used for
s3://; without a key the bucket must be public. HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE work as for every
program.
"""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import hashlib
import hmac
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

ATTEMPTS = 5
CHUNK = 1 << 20
EMPTY = hashlib.sha256(b"").hexdigest()
_SHA = re.compile(r"[0-9a-f]{64}")
_HF = re.compile(r"hf://([^/@]+/[^/@]+)/([^@]+?)(?:@([^@]+))?")


class Model(NamedTuple):
    """One line of models.json."""

    url: str
    path: str
    sha256: str


class RefusedError(Exception):
    """Trying again would not help; the message says what to change."""


class BrokenOffError(Exception):
    """Trying again may help."""


def say(text: str) -> None:
    print(f"download-models: {text}", flush=True)


def models(text: str) -> list[Model]:
    """Return the list in models.json.

    Raises:
        RefusedError: An entry is not what it should be, or two have one path.
    """
    found: list[Model] = []
    for number, given in enumerate(json.loads(text), 1):
        url, path, sha256 = (str(given.get(key, "")) for key in Model._fields)
        parts = path.split("/")
        if not path or path.startswith("/") or {"", ".", ".."} & set(parts) or parts[0].startswith("."):
            raise RefusedError(f"download {number}: path {path!r} is not a file below the models folder")
        if not _SHA.fullmatch(sha256) and (sha256 or not url.startswith("hf://")):
            raise RefusedError(f"{path}: sha256 {sha256!r} is not 64 hexadecimal digits")
        if urlsplit(url).scheme not in ("http", "https", "hf", "s3"):
            raise RefusedError(f"{path}: url {url!r} is not http(s)://, hf:// or s3://")
        if any(one.path == path for one in found):
            raise RefusedError(f"{path}: it is in the list twice")
        found.append(Model(url, path, sha256))
    return found


def request(model: Model, start: int, env: Mapping[str, str]) -> Request:
    """Return the request for the bytes from `start` on.

    Raises:
        RefusedError: The URL cannot be used as things are.
    """
    scheme = urlsplit(model.url).scheme
    headers = {"User-Agent": "comfyui-preload", **({"Range": f"bytes={start}-"} if start else {})}
    if scheme == "hf":
        parts = _HF.fullmatch(model.url)
        if not parts:
            raise RefusedError(f"{model.path}: {model.url!r} is not hf://OWNER/REPO/FILE[@REVISION]")
        if env.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise RefusedError(f"{model.path}: HF_HUB_OFFLINE is set and the file is not there")
        host = env.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        url = f"{host}/{quote(parts[1])}/resolve/{quote(parts[3] or 'main', safe='')}/{quote(parts[2])}"
        if token := env.get("HF_TOKEN"):
            headers["Authorization"] = f"Bearer {token.strip()}"
        return Request(url, headers=headers)
    if scheme == "s3":
        return _s3(model, headers, env)
    return Request(model.url, headers=headers)


def signed(url: str, headers: Mapping[str, str], env: Mapping[str, str], now: dt.datetime) -> dict[str, str]:
    """Return the headers of a GET with AWS Signature Version 4."""
    stamp, region = (
        now.strftime("%Y%m%dT%H%M%SZ"),
        env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1",
    )
    parts = urlsplit(url)
    sent = {**headers, "Host": parts.netloc, "X-Amz-Date": stamp, "X-Amz-Content-Sha256": EMPTY}
    if token := env.get("AWS_SESSION_TOKEN"):
        sent["X-Amz-Security-Token"] = token
    names = sorted(
        name for name in map(str.lower, sent) if name in ("host", "range") or name.startswith("x-amz-")
    )
    values = {name.lower(): value.strip() for name, value in sent.items()}
    listed = ";".join(names)
    canonical = "\n".join(
        ["GET", parts.path, parts.query, *(f"{name}:{values[name]}" for name in names), "", listed, EMPTY]
    )
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{env['AWS_SECRET_ACCESS_KEY']}".encode()
    for word in (stamp[:8], region, "s3", "aws4_request", text):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    credential = f"{env['AWS_ACCESS_KEY_ID']}/{scope}"
    sent["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={listed}, Signature={key.hex()}"
    )
    return sent


def _s3(model: Model, headers: Mapping[str, str], env: Mapping[str, str]) -> Request:
    bucket, _, key = model.url.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise RefusedError(f"{model.path}: {model.url!r} is not s3://BUCKET/KEY")
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1"
    host = (
        env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or f"https://s3.{region}.amazonaws.com"
    ).rstrip("/")
    url = f"{host}/{quote(bucket, safe='')}/{quote(key, safe='/-_.~')}"
    if env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
        headers = signed(url, headers, env, dt.datetime.now(dt.timezone.utc))
    return Request(url, headers=dict(headers))


class _Redirects(HTTPRedirectHandler):
    """Sends the token to the host that it is for and to no other.

    Storage behind a hub has signed URLs of its own.
    """

    def __init__(self) -> None:
        self.sha256 = ""
        """What the hub says of a file that it keeps elsewhere."""

    def redirect_request(  # noqa: PLR0917 — its signature in the standard library
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        self.sha256 = self.sha256 or str(headers.get("X-Linked-Etag", "")).strip('"')
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new and urlsplit(new.full_url).netloc != urlsplit(req.full_url).netloc:
            new.remove_header("Authorization")
        return new


def sum_of(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            total.update(chunk)
    return total.hexdigest()


def fetch(model: Model, part: Path, env: Mapping[str, str]) -> str:
    """Append to `part` what is missing of the file. Return its SHA-256 as the list or else the hub says it.

    Raises:
        RefusedError: The server will not give it, or there is no room.
        BrokenOffError: The connection ended early; what came is kept.
    """
    start = part.stat().st_size if part.exists() else 0
    redirects = _Redirects()
    try:
        with build_opener(redirects).open(request(model, start, env), timeout=60) as answer:
            if start and answer.status != 206:  # the server does not know ranges: from the beginning
                start = 0
            _store(model, answer, part, start)
    except HTTPError as error:
        if error.code != 416:  # then nothing is left to fetch, and the checksum decides
            raise _refused(model, error.code) from None
    except (OSError, HTTPException) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            part.unlink(missing_ok=True)
            raise RefusedError(f"{model.path}: the volume is full") from None
        raise BrokenOffError(str(getattr(error, "reason", None) or error or type(error).__name__)) from None
    sha256 = model.sha256 or redirects.sha256
    if not _SHA.fullmatch(sha256):
        raise RefusedError(f"{model.path}: the hub names no SHA-256 for it; give sha256")
    return sha256


def _store(model: Model, answer: Any, part: Path, start: int) -> None:
    length = answer.headers.get("Content-Length")
    needed, free = int(length or 0), shutil.disk_usage(part.parent).free
    if needed > free:
        raise RefusedError(f"{model.path}: the volume is full: {needed} bytes to come, {free} free")
    with part.open("ab" if start else "wb") as file:
        while chunk := answer.read(CHUNK):
            file.write(chunk)
        os.fsync(file.fileno())
    if length and part.stat().st_size != start + int(length):
        raise BrokenOffError(f"it ended after {part.stat().st_size} bytes")


def _refused(model: Model, status: int) -> Exception:
    if status in (408, 425, 429) or status >= 500:
        return BrokenOffError(f"HTTP {status}")
    hint = {401: "; set HF_TOKEN or the AWS keys in models.downloadSecret", 403: "; the token has no access"}
    return RefusedError(f"{model.path}: HTTP {status}{hint.get(status, '')}")


def download(model: Model, folder: Path, env: Mapping[str, str], pause: float = 2.0) -> str:
    """Bring one file to its place. Return its SHA-256.

    Raises:
        RefusedError: It cannot be had, or is not the file that the checksum is of.
    """
    target, part = folder / model.path, folder / ".downloads" / (model.sha256 or _name(model.url))
    target.parent.mkdir(parents=True, exist_ok=True)
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause * 2**attempt)
        try:
            sha256 = fetch(model, part, env)
        except BrokenOffError as error:
            reason = str(error)
            say(f"{model.path}: {reason}; trying again")
            continue
        if sum_of(part) == sha256:
            part.replace(target)
            say(f"{model.path}: downloaded")
            return sha256
        part.unlink()
        reason = "what came does not match its sha256"
        say(f"{model.path}: {reason}")
        if attempt:  # once may be a torn download, twice is another file
            break
    raise RefusedError(f"{model.path}: {reason}")


def missing(wanted: list[Model], folder: Path) -> list[Model]:
    """Return those that are not there, or whose checksum is not known to be right."""
    known = _listed(folder)
    return [
        one
        for one in wanted
        if not known.get(one.path)
        or known[one.path] != (one.sha256 or known[one.path])
        or not (folder / one.path).is_file()
    ]


def _name(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _listed(folder: Path) -> dict[str, str]:
    """SHA256SUMS, by path."""
    file = folder / "SHA256SUMS"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return {line[66:].removeprefix("./"): line[:64] for line in lines if len(line) > 66}


def _list(folder: Path, path: str, sha256: str) -> None:
    """Write the file into SHA256SUMS, in place of what stood there of its path."""
    known = {**_listed(folder), path: sha256}
    new = folder / ".downloads" / "SHA256SUMS"
    new.write_text("".join(f"{known[path]}  {path}\n" for path in sorted(known)), encoding="utf-8")
    new.replace(folder / "SHA256SUMS")


def run(wanted: list[Model], folder: Path, env: Mapping[str, str], pause: float = 2.0) -> None:
    """Download all that is missing.

    Raises:
        RefusedError: One cannot be had; those before it are there.
        OSError: The folder cannot be written to.
    """
    if not missing(wanted, folder):
        say("all files are there")
        return
    (folder / ".downloads").mkdir(exist_ok=True)
    with (folder / ".downloads" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for model in missing(wanted, folder):
            target = folder / model.path
            if model.sha256 and target.is_file() and sum_of(target) == model.sha256:
                _list(folder, model.path, model.sha256)
            else:
                _list(folder, model.path, download(model, folder, env, pause))
    say("all files are there")


def main() -> int:
    """Exit status 0: all there; 1: one cannot be had, and the last line says why."""
    words = [word for word in sys.argv[1:] if word != "--wait"]
    try:
        wanted = models(Path(words[0]).read_text(encoding="utf-8"))
        if "--wait" in sys.argv:
            while left := missing(wanted, Path(words[1])):
                say(f"waiting for {len(left)} files: {', '.join(one.path for one in left[:5])}")
                time.sleep(10)
        else:
            run(wanted, Path(words[1]), os.environ)
    except (RefusedError, OSError) as error:
        print(f"download-models: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
