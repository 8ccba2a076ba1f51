"""The only kopf code: events of our own kinds go into the store; a supervisor calls kopf again when it raises.

Who calls it: `app.operator`, on the leader only. Three traps of kopf 1.45 shape it:

- Timers, daemons and change handlers write finalizers or annotations; `on.event` writes nothing.
- An ERROR event in a watch ends `kopf.operator()`, and in ending it cancels every task of its event loop that is
  younger than itself, whoever made it, and takes over SIGTERM on a main thread. So it gets a thread and a loop of
  its own, and events cross over by `call_soon_threadsafe`.
- With `scanning.disabled` it looks for our kinds once, at start: the caller waits for the CRDs first.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Coroutine
from typing import Protocol

import kopf

from capstan.serving import manifest
from capstan.serving.manifest import Manifest
from capstan.serving.store import Kind, Store

GROUP, VERSION = "capstan.dev", "v1alpha1"
PREFIX = "serving.capstan.dev"
BACKOFF_FIRST_S, BACKOFF_MAX_S = 1.0, 30.0
STEADY_S = 60.0  # a run of at least this long was healthy: the back-off starts over
STOP_S = 2.0  # a rolling update hands over in 3 s (DESIGN 6); kopf's own patience would be 5 s

_log = logging.getLogger(__name__)


class Deliver(Protocol):
    """Takes one event; called on kopf's thread."""

    def __call__(self, kind: Kind, event_type: str | None, raw: Manifest) -> None:
        """Hand over an object; `event_type` is None for one that was listed."""


def registry(deliver: Deliver, login: Callable[[], kopf.ConnectionInfo]) -> kopf.OperatorRegistry:
    """Return handlers for our kinds, `on.event` only, and a login that asks for nothing but `login`."""
    made = kopf.OperatorRegistry()

    @kopf.on.login(registry=made, id="login")
    def _login(**_: object) -> kopf.ConnectionInfo:
        return login()

    for kind in Kind:
        kopf.on.event(GROUP, VERSION, kind.value, registry=made, id=f"see-{kind.value}")(_handler(kind, deliver))
    return made


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings for a listener that writes nothing, scans nothing and elects nobody."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.peering.standalone = True
    made.scanning.disabled = True
    made.process.ultimate_exiting_timeout = None  # a SIGKILL ten minutes after a watch error would be ours
    # Nothing of ours makes kopf write these; should a later handler do so, they carry our name.
    made.persistence.finalizer = f"{PREFIX}/finalizer"
    made.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=PREFIX)
    made.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=PREFIX)
    return made


class Listener:
    """Runs kopf on a thread, again and again until stopped.

    Args:
        store: Where events go, on the loop that calls `run`.
        login: Returns fresh credentials; called on kopf's thread.
        restarted: Called with the error each time that kopf ended by itself (a counter).
    """

    def __init__(
        self, store: Store, login: Callable[[], kopf.ConnectionInfo], restarted: Callable[[BaseException | None], None]
    ) -> None:
        self._store = store
        self._login = login
        self._restarted = restarted

    async def run(self) -> None:
        """Listen until cancelled; when kopf raises, wait (doubling, jittered) and call it again."""
        backoff_s = BACKOFF_FIRST_S
        loop = asyncio.get_running_loop()
        while True:
            self._store.restarted()
            started_s = loop.time()
            error = await _Session(self._store, self._login).run()
            self._restarted(error)
            _log.warning("the watch of our kinds ended and starts again in %.0f s: %s", backoff_s, error)
            if loop.time() - started_s > STEADY_S:
                backoff_s = BACKOFF_FIRST_S
            await asyncio.sleep(backoff_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)


class _Session:
    """One call of `kopf.operator()` on a thread and loop of its own."""

    def __init__(self, store: Store, login: Callable[[], kopf.ConnectionInfo]) -> None:
        self._store = store
        self._login = login
        self._main = asyncio.get_running_loop()
        self._ended: asyncio.Future[BaseException | None] = self._main.create_future()
        self._stop: Callable[[], None] | None = None

    async def run(self) -> BaseException | None:
        """Return the error that ended kopf; when cancelled, stop kopf and wait for it a little."""
        threading.Thread(target=self._thread, name="kopf", daemon=True).start()
        try:
            return await asyncio.shield(self._ended)
        except asyncio.CancelledError:
            if self._stop is not None:
                self._stop()
            await asyncio.wait([self._ended], timeout=STOP_S)
            raise

    def _thread(self) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._serve())
        except Exception as raised:  # noqa: BLE001 - whatever ends kopf is counted and kopf is called again
            error = raised
        self._call(self._end, error)

    async def _serve(self) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        # Asked by a flag, not cancelled: a cancelled kopf leaves its connections open.
        self._stop = lambda: _threadsafe(loop, stop.set)
        made = registry(self._deliver, self._login)
        await kopf.operator(registry=made, settings=settings(), standalone=True, clusterwide=True, stop_flag=stop)

    def _end(self, error: BaseException | None) -> None:
        if not self._ended.done():
            self._ended.set_result(error)

    def _deliver(self, kind: Kind, event_type: str | None, raw: Manifest) -> None:
        if event_type == "DELETED":
            self._call(self._store.drop, kind, manifest.key(raw))
        else:
            self._call(self._store.put, kind, raw)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        _threadsafe(self._main, function, *args)


def _threadsafe(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: object) -> None:
    """Call on another loop; one that is closed has no more use for it."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *args)


def _handler(kind: Kind, deliver: Deliver) -> Callable[..., Coroutine[None, None, None]]:
    """Return a handler for one kind. Managed fields are dropped: nobody reads them, and they are half the bytes."""

    async def handle(*, event: dict[str, object], **_: object) -> None:
        raw = dict(manifest.mapping(event, "object"))
        raw["metadata"] = {k: v for k, v in manifest.mapping(raw, "metadata").items() if k != "managedFields"}
        event_type = event.get("type")
        deliver(kind, event_type if isinstance(event_type, str) else None, raw)

    return handle
