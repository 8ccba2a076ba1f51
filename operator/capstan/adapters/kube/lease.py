"""Leader election by a Lease, so that a rolling update hands over in 3 s and a paused leader does no harm.

Who calls it: `app.operator`, `app.power`. Time is monotonic; the server's clock and ours are never compared: another
holder's Lease counts as expired when *we* have seen it unchanged for its duration. Connection errors are retries until
the deadline; after it we are no longer leader, whatever the Lease says. Why our own: the official client's election
dies on a connection error, never releases and keeps no `leaseTransitions` (our epoch).
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from capstan.adapters import errors
from capstan.adapters.kube import resources
from capstan.adapters.kube.client import KubeClient
from capstan.adapters.kube.wire import Manifest

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """Lease times in seconds.

    The leader gives up `margin_s` before anybody else may take over, and notices at most one `attempt_s` later.
    """

    duration_s: int = 15  # client-go's default
    renew_s: float = 2.0
    margin_s: float = 5.0
    attempt_s: float = 3.0  # a server that takes the connection and says nothing must not outlast the margin

    def __post_init__(self) -> None:
        if not 0 < self.attempt_s < self.margin_s < self.duration_s:
            raise ValueError("a Lease needs attempt_s < margin_s < duration_s, or two may lead at once")


class LeaderLease:
    """One candidate for one Lease.

    Args:
        client: The API server.
        namespace: Where the Lease lives.
        name: Its name.
        identity: Ours; unique per process.
        timing: Durations.
        now_s: Monotonic clock (a test's own).
    """

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        identity: str,
        *,
        timing: Timing = Timing(),
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.epoch = 0
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._timing = timing
        self._now_s = now_s
        self._renewed_s: float | None = None
        self._seen: tuple[str, float] | None = None  # another holder's resourceVersion, and since when it stands
        self._problem = ""

    @property
    def is_leader(self) -> bool:
        """Whether we hold the Lease and renewed it in time."""
        return self._left_s() > 0

    def _left_s(self) -> float:
        """Return for how long we may still act as the leader."""
        if self._renewed_s is None:
            return 0.0
        return self._renewed_s + self._timing.duration_s - self._timing.margin_s - self._now_s()

    async def acquire(self) -> None:
        """Return when we are the leader."""
        pause_s = self._timing.renew_s / 2
        while True:
            if await self._attempt():
                return
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret

    async def keep(self) -> None:
        """Renew until the Lease is lost, then return; the caller exits, or contends for it with `acquire`."""
        while (left_s := self._left_s()) > 0:
            await asyncio.sleep(min(self._timing.renew_s, left_s))
            await self._attempt()
        self._renewed_s = None  # to lead again is a new term, with an epoch of its own

    async def release(self) -> None:
        """Empty the holder, so that a standby takes over at its next look; best effort."""
        held, self._renewed_s = self.is_leader, None
        if not held:
            return
        try:
            async with asyncio.timeout(self._timing.attempt_s):
                lease = await self._get()
                if lease is not None and _spec(lease).get("holderIdentity") == self._identity:
                    _spec(lease).update({"holderIdentity": "", "leaseDurationSeconds": 1})
                    await self._client.replace(lease)
        except (errors.AdapterError, TimeoutError) as problem:
            _log.warning("lease %s was not released, a standby waits for its end: %s", self._name, problem)

    async def _attempt(self) -> bool:
        """Take or renew the Lease once; return whether it is ours now."""
        asked_s = self._now_s()
        try:
            async with asyncio.timeout(self._timing.attempt_s):
                epoch = await self._take()
        except errors.Conflict:
            return self.is_leader  # somebody was faster, or our own renewal crossed: look again
        except errors.AdapterError as problem:
            self._say(str(problem))
            return self.is_leader
        except TimeoutError:
            self._say(f"no answer within {self._timing.attempt_s:g} s")
            return self.is_leader
        self._problem = ""
        self._renewed_s = None if epoch is None else asked_s
        self.epoch = self.epoch if epoch is None else epoch
        return epoch is not None

    async def _take(self) -> int | None:
        """Write ourselves into the Lease if we may; return its epoch, None while it is another's."""
        lease = await self._get()
        if lease is None:
            await self._client.create(self._document())
            return 0
        if not self._may_take(lease):
            return None
        epoch = self._claim(lease)
        await self._client.replace(lease)
        return epoch

    def _say(self, problem: str) -> None:
        """Log a problem; the same one again is only for those who debug."""
        _log.log(logging.DEBUG if problem == self._problem else logging.WARNING, "lease %s: %s", self._name, problem)
        self._problem = problem

    async def _get(self) -> Manifest | None:
        try:
            return await self._client.get(resources.LEASES, self._name, self._namespace)
        except errors.NotFound:
            return None

    def _may_take(self, lease: Manifest) -> bool:
        """Return whether the Lease is ours, free, or unchanged for its whole duration."""
        spec = _spec(lease)
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self._identity):
            return True
        version = str(_meta(lease).get("resourceVersion", ""))
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, self._now_s())
            return False
        duration_s = spec.get("leaseDurationSeconds")
        limit_s = float(duration_s) if isinstance(duration_s, int) else float(self._timing.duration_s)
        return self._now_s() - self._seen[1] > limit_s

    def _claim(self, lease: Manifest) -> int:
        """Write ourselves into a Lease; return its epoch: leaseTransitions rises with every new holder."""
        spec = _spec(lease)
        count = spec.get("leaseTransitions")
        epoch = count if isinstance(count, int) else 0
        now = _timestamp()
        if spec.get("holderIdentity") != self._identity or self._renewed_s is None:
            epoch += 1
            spec["acquireTime"] = now
        spec.update(
            {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": self._timing.duration_s,
                "leaseTransitions": epoch,
                "renewTime": now,
            }
        )
        return epoch

    def _document(self) -> Manifest:
        now = _timestamp()
        return {
            "apiVersion": resources.LEASES.api_version,
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": self._timing.duration_s,
                "leaseTransitions": 0,
                "acquireTime": now,
                "renewTime": now,
            },
        }


def _timestamp() -> str:
    """Return wall time for people: no decision rests on it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _spec(lease: Manifest) -> dict[str, object]:
    spec = lease.setdefault("spec", {})
    if not isinstance(spec, dict):
        raise errors.Malformed("a Lease without a spec")
    return spec


def _meta(lease: Manifest) -> dict[str, object]:
    meta = lease.get("metadata")
    return meta if isinstance(meta, dict) else {}
