"""Answer GET requests on ComfyUI's port and on the early probe: a table of pure functions of a snapshot.

Takes no lock, touches no disk or device, and imports prometheus_client only when metrics are requested; no
aiohttp.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote, unquote_plus

from comfy_preload.api import access
from comfy_preload.api import json_bodies as body
from comfy_preload.core.error_table import ERRORS
from comfy_preload.core.errors import Problem, problem, unknown_model
from comfy_preload.core.state.evidence import MAX_PROMPTS
from comfy_preload.core.state.snapshot import Snapshot

JSON = "application/json; charset=utf-8"
PREFIX = "/api"
"""ComfyUI also registers each route under it (`PromptServer.add_routes`, server.py 0.3.75)."""
MAX_LOCATED = 16
"""At most this many models per request."""
MAX_WORD = 100
"""At most this many characters of an unknown name are repeated and compared with known names, which takes
time."""


@dataclass(frozen=True)
class Answer:
    """A response, independent of the server that sends it."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class FleetView(Protocol):
    """The state of the other replicas (`registry/fleet.py`)."""

    @property
    def connected(self) -> bool:
        """Whether Redis answered the last time."""
        ...

    @property
    def guarded(self) -> bool:
        """Whether it is shown only with the token."""
        ...

    def listing(self) -> dict[str, Any]:
        """Return the body of `/preload/replicas`."""
        ...

    def locate(self, wanted: Sequence[Collection[str]]) -> dict[str, Any]:
        """Return the body of `/preload/locate` for models, each given by its possible names."""
        ...


@dataclass(frozen=True)
class Headers:
    """The headers of a request that an answer depends on."""

    accept: str = ""
    authorization: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Asked:
    """The input of a handler: the snapshot and the request."""

    now: Snapshot
    query: str
    fleet: FleetView | None
    headers: Headers


NO_HEADERS = Headers()


def answer(
    path: str, query: str, now: Snapshot, fleet: FleetView | None = None, headers: Headers = NO_HEADERS
) -> Answer:
    """Answer a GET request. `path` and `query` are percent-encoded; the path may begin with `/api`."""
    parts = [unquote(part) for part in path.split("/")]  # split before decoding: a name may contain `%2F`
    if parts[1:2] == [PREFIX[1:]]:
        del parts[1]
    for pattern, question in QUESTIONS.items():
        names = _match(pattern.split("/"), parts)
        if names is not None:
            return question(Asked(now, query, fleet, headers), *names)
    return error(problem("path_unknown", found=_word(path), expected=", ".join(QUESTIONS)))


def as_json(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
    """Return JSON that is not cached, and that browsers do not interpret as another type."""
    always = {"Content-Type": JSON, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Answer(status, json.dumps(content).encode(), {**always, **(headers or {})})


ALLOW = "GET, HEAD, OPTIONS"


def options() -> Answer:
    """Answer OPTIONS, which HAProxy asks by default: that this server answers, not that it is ready."""
    return Answer(200, b"", {"Allow": ALLOW})


def error(problem: Problem, headers: Mapping[str, str] | None = None, *, status: int = 0) -> Answer:
    """Answer with a problem. `status`: another one than that of its row in the table of errors."""
    return as_json(status or ERRORS[problem.code].status, body.refusal(problem), headers)


def unauthorized(problem: Problem, *, has_token: bool) -> Answer:
    """Answer with a refusal: 401 if a token would open, else the status of its row."""
    if not has_token:
        return error(problem)
    return error(problem, {"WWW-Authenticate": 'Bearer realm="comfy-preload"'}, status=401)


def _match(pattern: list[str], parts: list[str]) -> list[str] | None:
    """Return the values of the pattern's {names}, or None."""
    if len(pattern) != len(parts):
        return None
    names: list[str] = []
    for wanted, found in zip(pattern, parts, strict=True):
        if wanted.startswith("{") and found:
            names.append(found)
        elif found != wanted:
            return None
    return names


def _word(text: str) -> str:
    return text[:MAX_WORD]


def _known(now: Snapshot) -> list[str]:
    return [model.name for model in now.models[: body.MAX_FAILING]]


def _verdict(good: bool, content: Mapping[str, Any], now: Snapshot) -> Answer:  # noqa: FBT001 — the response's own flag
    return (
        as_json(200, content) if good else as_json(503, content, {"Retry-After": str(body.retry_after(now))})
    )


def _ready(asked: Asked) -> Answer:
    words = {word.partition("=")[0] for word in asked.query.split("&")}
    content = body.ready(asked.now, verbose="verbose" in words, stages="stages" in words)
    return _verdict(asked.now.serves, content, asked.now)


def _ready_model(asked: Asked, name: str) -> Answer:
    now = asked.now
    item = now.model(name)
    if item is None:
        wrong = unknown_model(_word(name), _known(now))
        return as_json(404, {"status": "unknown", **body.refusal(wrong), "models": _known(now)})
    return _verdict(item.state.loaded, body.model(item), now)


def _livez(asked: Asked) -> Answer:
    return as_json(200 if asked.now.alive else 503, body.alive(asked.now))


def _preload(asked: Asked) -> Answer:
    return as_json(200, body.everything(asked.now))


def _job(asked: Asked, job_id: str) -> Answer:
    item = next((job for job in asked.now.jobs if job.id == job_id), None)
    if item is None:
        return error(problem("job_unknown", found=_word(job_id)))
    return as_json(200, body.job(item))


def _explain(asked: Asked, prompt_id: str) -> Answer:
    item = next((one for one in asked.now.prompts if one.id == prompt_id), None)
    if item is None:
        return error(problem("prompt_unknown", found=_word(prompt_id), kept=MAX_PROMPTS))
    return as_json(200, body.prompt(item))


def _metrics(asked: Asked) -> Answer:
    try:
        from comfy_preload.api import metrics
    except ModuleNotFoundError as missing:
        if missing.name != "prometheus_client":
            raise
        return error(problem("metrics_unavailable"))
    connected = asked.fleet.connected if asked.fleet else None
    scrape = metrics.render(asked.now, connected, asked.headers.accept)
    return Answer(200, scrape.text, {"Content-Type": scrape.content_type, "Cache-Control": "no-store"})


def _shown(asked: Asked, content: Callable[[FleetView], dict[str, Any]]) -> Answer:
    """Answer about the fleet, if there is one and the request may see it. Only a guarded one reads a file."""
    if not asked.fleet:
        return error(problem("registry_off"))
    if asked.fleet.guarded:
        token = access.token_from(os.environ)
        if reason := access.fleet_refusal(asked.headers.authorization, token):
            return unauthorized(problem("fleet_refused", reason=reason), has_token=bool(token))
    return as_json(200, content(asked.fleet))


def _replicas(asked: Asked) -> Answer:
    return _shown(asked, lambda fleet: fleet.listing())


def _locate(asked: Asked) -> Answer:
    given = [word.partition("=")[2] for word in asked.query.split("&") if word.partition("=")[0] == "model"]
    # names may contain `+`, and some clients send it for a blank
    wanted = [{unquote(word), unquote_plus(word)} for word in given if word]
    if not 0 < len(wanted) <= MAX_LOCATED or len(wanted) < len(given):
        return error(problem("locate_unclear", found=len(wanted), expected=MAX_LOCATED))
    return _shown(asked, lambda fleet: fleet.locate(wanted))


def _kserve_live(asked: Asked) -> Answer:
    return as_json(200 if asked.now.alive else 503, {"live": asked.now.alive})


def _kserve_ready(asked: Asked) -> Answer:
    return _verdict(asked.now.serves, {"ready": asked.now.serves}, asked.now)


def _kserve_model(asked: Asked, name: str) -> Answer:
    now = asked.now
    item = now.model(name)
    if item is None:  # that protocol's own form of errors
        return as_json(404, {"error": unknown_model(_word(name), _known(now)).message})
    return _verdict(item.state.loaded, {"name": name, "ready": item.state.loaded}, now)


QUESTIONS: dict[str, Callable[..., Answer]] = {
    "/ready": _ready,
    "/ready/{name}": _ready_model,
    "/livez": _livez,
    "/preload": _preload,
    "/preload/jobs/{id}": _job,
    "/preload/explain/{id}": _explain,
    "/preload/metrics": _metrics,
    "/preload/replicas": _replicas,
    "/preload/locate": _locate,
    "/v2/health/live": _kserve_live,
    "/v2/health/ready": _kserve_ready,
    "/v2/models/{name}/ready": _kserve_model,
}
"""Every GET route. Handlers get the parts in braces decoded."""
