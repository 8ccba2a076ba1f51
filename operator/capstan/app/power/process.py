"""The process: caches, Leases, the slow meters and the tick, each a task; none of them waits for another.

A process leads the shards whose Leases it holds and stands by for the rest. It does not end when it loses a Lease: with
the API server away nobody can lead, and whoever stands by keeps every node's lease and may tighten.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pydantic

from capstan.adapters import agents, http
from capstan.adapters import metrics as exposition
from capstan.adapters.kube import config
from capstan.adapters.kube.client import KubeClient
from capstan.adapters.kube.lease import LeaderLease
from capstan.adapters.prometheus.client import Prometheus, Source
from capstan.app import parts, settings
from capstan.app.power import readers
from capstan.app.power.agents import Agents
from capstan.app.power.api import Api
from capstan.app.power.caches import Caches
from capstan.app.power.figures import Figures
from capstan.app.power.ledgers import Ledgers
from capstan.power.cycle import Ports
from capstan.power.meters import SlowMeters
from capstan.power.site import Site
from capstan.powercap.domains import Timers

LEASE = "capstan-power"
STALLED_S = 15.0  # a loop that has not turned for so long is restarted by the kubelet
FAIR_S = 2.0  # a process waits so much longer for each shard that it leads: two that start together share

_log = logging.getLogger(__name__)


class Settings(pydantic.BaseModel, frozen=True):
    """`capstan power`."""

    kubeconfig: Path | None
    namespace: str
    identity: str
    key_file: Path
    shards: int = pydantic.Field(default=1, ge=1)
    prometheus_url: str = ""
    prometheus_token_file: Path | None = None
    prometheus_ca_file: Path | None = None
    tick_seconds: float = pydantic.Field(gt=0, le=2)  # promise P1 needs two looks within 5 s
    timer_factor: float = pydantic.Field(default=1.0, ge=1)  # more than 1: the rig's proof, never a cluster
    listen: settings.Address


def lease_name(shard: int, shards: int) -> str:
    """Return the name of a shard's Lease; a site of one shard keeps the plain one."""
    return LEASE if shards == 1 else f"{LEASE}-{shard}"


class Process:
    """Everything that `capstan power` runs."""

    def __init__(self, given: Settings) -> None:
        self._given = given
        self._metrics = exposition.Metrics("power")
        self._client = KubeClient(config.load(given.kubeconfig), component="power", wrote=self._count_write)
        self._caches = Caches(self._client, given.namespace)
        names = (lease_name(shard, given.shards) for shard in range(given.shards))
        self._leases = [LeaderLease(self._client, given.namespace, name, given.identity) for name in names]
        self._calls = agents.AgentCalls(given.key_file, called=self._count_call)
        self._calls.key()  # a missing key is told at start, not as a silent fleet
        self._prometheus = _prometheus(given)
        self._meters = SlowMeters(readers.reader(self._prometheus))
        wired = Ports(
            self._caches, Agents(self._calls), Api(self._client), self._meters, Figures(self._metrics),
            time.monotonic, time.time, Ledgers(self._client),
        )  # fmt: skip
        self._site = Site(wired, shards=given.shards, timers=Timers().over(given.timer_factor))
        self._ticked_s: float | None = None

    async def run(self) -> int:
        """Run until SIGTERM (0); a part that ends by itself is a bug (1)."""
        routes = exposition.routes(self._metrics, healthy=self._healthy, ready=lambda: self._caches.ready)
        server = await http.serve(self._given.listen.host, self._given.listen.port, routes)
        leases = (self._contend(shard) for shard in range(self._given.shards))
        try:
            return await parts.until_stopped(self._caches.run(), self._meters.run(), self._ticking(), *leases)
        finally:
            await asyncio.gather(*(lease.release() for lease in self._leases))
            server.close()
            await self._close()

    async def _close(self) -> None:
        await self._calls.close()
        await self._client.close()
        if self._prometheus is not None:
            await self._prometheus.close()

    async def _contend(self, shard: int) -> None:
        """Take a shard's Lease whenever it is free, and keep it."""
        lease = self._leases[shard]
        await self._caches.synced()
        while True:
            await asyncio.sleep(FAIR_S * len(self._site.led))
            await lease.acquire()
            await lease.keep()

    async def _ticking(self) -> None:
        await self._caches.synced()
        due_s = time.monotonic()
        while True:
            for shard, lease in enumerate(self._leases):
                self._stand(shard, lease)
            await self._site.tick()
            self._ticked_s = time.monotonic()
            due_s = max(due_s + self._given.tick_seconds, self._ticked_s)  # late ticks are not made up for
            await asyncio.sleep(due_s - time.monotonic())

    def _stand(self, shard: int, lease: LeaderLease) -> None:
        """Lead a shard while its Lease is ours: looked at before every tick, for the process may have been paused."""
        led = shard in self._site.led
        if lease.is_leader and not led:
            self._site.lead(shard, lease.epoch)
            _log.info("leader of shard %d since now, epoch %d", shard, lease.epoch)
        elif led and not lease.is_leader:
            self._site.follow(shard)
            _log.warning("the Lease of shard %d is lost: standing by, tightening only", shard)
        self._metrics.set("capstan_power_shard_leader", float(lease.is_leader), str(shard))
        self._metrics.set("capstan_leader", float(bool(self._site.led)), "power")

    def _healthy(self) -> bool:
        """Return whether the loop turns."""
        return self._ticked_s is None or time.monotonic() - self._ticked_s < STALLED_S

    def _count_write(self, verb: str, resource: str) -> None:
        self._metrics.add("capstan_api_writes_total", 1, verb, resource)

    def _count_call(self, seconds: float) -> None:
        self._metrics.observe("capstan_agent_call_seconds", seconds)


def _prometheus(given: Settings) -> Prometheus | None:
    if not given.prometheus_url:
        return None
    return Prometheus(Source(given.prometheus_url, given.prometheus_token_file, given.prometheus_ca_file))
