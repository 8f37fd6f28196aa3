"""Plays the kubelet for one pod with one container.

A real process, probed and ended by the numbers of a rendered manifest.

What it does is what Kubernetes documents of the container life cycle: each probe has its own beat; readiness
and liveness begin when the startup probe has succeeded; a process that ends, or is killed by a probe, is
started again (at once: there is no back-off here); a deleted pod leaves the endpoints, sleeps `preStop`, gets
SIGTERM, and SIGKILL when its grace period is over. `lag` is what a cluster adds: for so long load balancers
still send to a pod that has left the endpoints.

`pace` shortens every number of the manifest but the time-outs of single probes: 0.2 makes 10 seconds 2.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, final
from urllib.error import HTTPError
from urllib.request import urlopen


class Process(Protocol):
    """A container: what ComfyServer is."""

    @property
    def pid(self) -> int | None: ...
    @property
    def exit_code(self) -> int | None: ...
    @property
    def log(self) -> str: ...
    def start(self) -> None: ...


class Event(NamedTuple):
    """What happened, in seconds since the beginning."""

    at: float
    what: str


@final
class Kubelet:
    """One pod: from creation to deletion."""

    def __init__(
        self,
        pod: Mapping[str, Any],
        process: Process,
        ports: Mapping[str, int],
        *,
        pace: float = 1.0,
        lag: float = 0.0,
    ) -> None:
        """`ports`: where the named ports of the container really are."""
        (self._container,) = pod["containers"]  # sidecars among the init containers are not played
        self._grace: float = pod["terminationGracePeriodSeconds"] * pace
        self._process = process
        self._ports = ports
        self._pace = pace
        self._lag = lag
        self._began = time.monotonic()
        self._ready = False
        self._unready_since = -1e9
        self._deleted = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._sync, name="kubelet", daemon=True)
        self.events: list[Event] = []
        self.restarts = 0

    def __enter__(self) -> Kubelet:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Not a deletion: the test is over."""
        self._abandoned.set()
        self._thread.join()

    @property
    def gets_traffic(self) -> bool:
        """In the endpoints, or so lately that load balancers do not know better."""
        return self._ready or time.monotonic() - self._unready_since < self._lag

    @property
    def story(self) -> list[str]:
        """What happened, without the times."""
        return [event.what for event in self.events]

    def delete(self) -> None:
        """What `kubectl delete pod`, an eviction and a rollout do. Returns at once."""
        self._deleted.set()

    def join(self, deadline: float) -> None:
        """Wait for the end of a deleted pod."""
        self._thread.join(deadline)
        if self._thread.is_alive():
            raise TimeoutError(f"the pod is still there: {self.events}")

    def happened(self, what: str) -> float | None:
        """When something that begins with these words first happened."""
        return next((event.at for event in self.events if event.what.startswith(what)), None)

    def wait(self, what: str, deadline: float) -> float:
        """Wait for it, and say when it happened."""
        end = time.monotonic() + deadline
        while (at := self.happened(what)) is None:
            if time.monotonic() > end:
                raise TimeoutError(f"no {what!r} within {deadline:g} s: {self.events}")
            time.sleep(0.01)
        return at

    # -- the loop over containers -------------------------------------------------------------------

    def _sync(self) -> None:
        while not self._deleted.is_set():
            self._process.start()
            self._note("container started")
            stop, verdicts = threading.Event(), queue.SimpleQueue[str]()
            probes = threading.Thread(target=self._probe_all, args=(stop, verdicts), daemon=True)
            probes.start()
            reason = self._watch(verdicts)
            stop.set()
            if self._abandoned.is_set():
                break
            self._be_ready(ready=False)
            if reason:
                self._end(reason)
            probes.join()
            self._note(f"container ended with {self._process.exit_code}: {self._last_words()}")
            self.restarts += not self._deleted.is_set()

    def _watch(self, verdicts: queue.SimpleQueue[str]) -> str:
        """Why to end it; empty if it ended by itself, or nobody wants to know any more."""
        while self._runs() and not self._abandoned.is_set():
            if self._deleted.is_set():
                return "the pod is deleted"
            with contextlib.suppress(queue.Empty):
                return verdicts.get(timeout=0.01)
        return ""

    def _end(self, reason: str) -> None:
        self._note(f"ending it: {reason}")
        deadline = time.monotonic() + self._grace
        hook = self._container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        self._wait_for_end(time.monotonic() + hook * self._pace)
        for number, until in ((signal.SIGTERM, deadline), (signal.SIGKILL, time.monotonic() + 3600)):
            if self._runs() and self._process.pid:
                self._note(number.name)
                os.kill(self._process.pid, number)
                self._wait_for_end(until)

    def _wait_for_end(self, until: float) -> None:
        while self._runs() and time.monotonic() < until and not self._abandoned.is_set():
            time.sleep(0.01)

    # -- probes -------------------------------------------------------------------------------------

    def _probe_all(self, stop: threading.Event, verdicts: queue.SimpleQueue[str]) -> None:
        if not self._until_started(stop, verdicts):
            return
        self._note("startup probe succeeded")
        alive = threading.Thread(target=self._until_dead, args=(stop, verdicts), daemon=True)
        alive.start()
        self._follow_readiness(stop)
        alive.join()

    def _until_started(self, stop: threading.Event, verdicts: queue.SimpleQueue[str]) -> bool:
        for failures, said in enumerate(self._answers("startupProbe", stop), 1):
            if not said:
                return True
            if failures >= self._container["startupProbe"].get("failureThreshold", 3):
                verdicts.put(f"startup probe failed: {said}")
                break
        return False

    def _until_dead(self, stop: threading.Event, verdicts: queue.SimpleQueue[str]) -> None:
        failures = 0
        for said in self._answers("livenessProbe", stop):
            failures = failures + 1 if said else 0
            if failures >= self._container["livenessProbe"].get("failureThreshold", 3):
                verdicts.put(f"liveness probe failed: {said}")
                return

    def _follow_readiness(self, stop: threading.Event) -> None:
        failures = 0
        for said in self._answers("readinessProbe", stop):
            failures = failures + 1 if said else 0
            if not stop.is_set() and (
                not failures or failures >= self._container["readinessProbe"].get("failureThreshold", 3)
            ):
                self._be_ready(ready=not failures)

    def _answers(self, kind: str, stop: threading.Event) -> Any:
        """One after each period: empty if it is a success, else what is wrong."""
        probe = self._container[kind]
        beat = time.monotonic()
        while not stop.is_set():
            yield self._ask(probe["httpGet"], probe.get("timeoutSeconds", 1))
            beat += probe.get("periodSeconds", 10) * self._pace
            stop.wait(max(0.0, beat - time.monotonic()))

    def _ask(self, what: Mapping[str, Any], timeout: float) -> str:
        try:
            with urlopen(f"http://127.0.0.1:{self._ports[what['port']]}{what['path']}", timeout=timeout):
                return ""
        except HTTPError as error:
            error.close()
            return f"HTTP {error.code}"
        except OSError as error:
            return str(getattr(error, "reason", None) or error)

    # -- what is known of it ------------------------------------------------------------------------

    def _runs(self) -> bool:
        return self._process.exit_code is None

    def _last_words(self) -> str:
        """FallbackToLogsOnError: the end of the log is the message of a container that failed."""
        policy = self._container.get("terminationMessagePolicy")
        return (
            self._process.log[-2048:] if policy == "FallbackToLogsOnError" and self._process.exit_code else ""
        )

    def _be_ready(self, *, ready: bool) -> None:
        if ready != self._ready:
            self._ready = ready
            self._unready_since = time.monotonic()
            self._note("in the endpoints" if ready else "out of the endpoints")

    def _note(self, what: str) -> None:
        self.events.append(Event(time.monotonic() - self._began, what))
