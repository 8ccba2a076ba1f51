"""`capstan operator`: caches, Lease, kopf and the serving cycle, put together.

A standby keeps its caches and answers `/readyz`; the leader runs kopf and the cycle. SIGTERM releases the Lease and
exits 0 within seconds; who loses the Lease exits 1, because nothing in a process can be trusted to have noticed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from pathlib import Path

import click
import kopf

from capstan.adapters import errors, http
from capstan.adapters import metrics as exposition
from capstan.adapters.kube import config, resources
from capstan.adapters.kube.client import KubeClient
from capstan.adapters.kube.lease import LeaderLease
from capstan.adapters.prometheus.client import Prometheus, Source
from capstan.adapters.prometheus.past import Pasts
from capstan.adapters.prometheus.vllm import Telemetry
from capstan.app import logs, parts, settings
from capstan.app.cluster import Api, Caches
from capstan.app.meter import Meter
from capstan.forecast import calendar
from capstan.serving import handlers, recorder
from capstan.serving.cycle import Cycle, Ports
from capstan.serving.garbage import Garbage
from capstan.serving.store import Bell, Store

LEASE = "capstan-operator"
STALLED_S = 60.0  # a leader whose cycle has not ended for so long is not healthy: the slowest one takes ~30 s
CRD_RETRY_S = 5.0

_log = logging.getLogger(__name__)


class Wall:
    """Implements `serving.ports.Clock`."""

    def now_s(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic_s(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()


class Process:
    """One operator process: everything it holds, and its life from standby to leader to exit."""

    def __init__(self, given: settings.Operator) -> None:
        self._given = given
        self._metrics = exposition.Metrics("operator")
        self._where = config.load(given.kubeconfig)
        self._client = KubeClient(self._where, component="operator", wrote=self._count_write)
        self._prometheus = Prometheus(
            Source(given.prometheus_url, given.prometheus_token_file, given.prometheus_ca_file)
        )
        self._bell = Bell()
        self._caches = Caches(self._client, self._bell.ring)
        self._lease = LeaderLease(self._client, given.namespace, LEASE, given.identity)
        self._store = Store(self._bell, time.monotonic)
        self._meter = Meter(self._metrics)
        self._led_since_s: float | None = None
        self._cycled_s: float | None = None
        self._garbage = Garbage()

    async def run(self) -> int:
        """Run until SIGTERM (0) or until the Lease is lost (1)."""
        routes = exposition.routes(self._metrics, healthy=self._healthy, ready=lambda: self._caches.ready)
        server = await http.serve(self._given.listen.host, self._given.listen.port, routes)
        self._metrics.set("capstan_leader", 0, "operator")
        try:
            return await parts.until_stopped(self._caches.run(), self._lead())
        finally:
            await self._lease.release()
            server.close()
            await self._prometheus.close()
            await self._client.close()

    async def _lead(self) -> None:
        """Wait for our kinds, the caches and the Lease; then serve until the Lease is lost."""
        await self._our_kinds()
        await self._caches.synced()
        await self._lease.acquire()
        _log.info("leader since now, epoch %d", self._lease.epoch)
        self._metrics.set("capstan_leader", 1, "operator")
        self._led_since_s = time.monotonic()
        await parts.first(self._lease.keep(), self._listen(), self._cycle())
        _log.error("the Lease is lost: exiting, so that only one operator acts")

    async def _our_kinds(self) -> None:
        """Wait until the API server serves our kinds: kopf looks for them only once."""
        while True:
            try:
                for kind in (resources.POLICIES, resources.PROFILES, resources.DOMAINS, resources.NODE_CAPS):
                    await self._client.list(kind)
            except errors.AdapterError as problem:
                _log.warning(
                    "cannot list our kinds, trying again: %s (apply crds/ and grant get, list, watch)", problem
                )
                await asyncio.sleep(CRD_RETRY_S)
            else:
                return

    async def _listen(self) -> None:
        await handlers.Listener(self._store, lambda: login(self._where), self._kopf_ended).run()

    async def _cycle(self) -> None:
        given, api = self._given, Api(self._client)
        pasts = Pasts(self._prometheus, step_s=given.periods.pool_s)
        ports = Ports(
            cluster=self._caches,
            telemetry=Telemetry(self._prometheus, window_s=given.rate_window_s),
            writer=api,
            reporter=api,
            meter=self._meter,
            recorder=recorder.Nothing()
            if given.record is None
            else recorder.Journal(given.record, writer=given.identity),
            clock=Wall(),
            history=pasts,
        )
        decision = given.periods.decision(rate_window_s=given.rate_window_s, day_s=given.day_s)
        cycle = Cycle(self._store, ports, decision, cycled=self._cycle_ended)
        await parts.first(cycle.run(self._bell), pasts.run())

    def _kopf_ended(self, _: BaseException | None) -> None:
        self._metrics.add("capstan_kopf_restarts_total", 1)

    def _cycle_ended(self) -> None:
        self._cycled_s = time.monotonic()
        self._garbage.sweep(self._cycled_s)

    def _count_write(self, verb: str, resource: str) -> None:
        self._metrics.add("capstan_api_writes_total", 1, verb, resource)

    def _healthy(self) -> bool:
        """Return whether the loop turns; a standby is healthy by answering."""
        if self._led_since_s is None:
            return True
        return time.monotonic() - (self._cycled_s or self._led_since_s) < STALLED_S


def login(where: config.Config) -> kopf.ConnectionInfo:
    """Return the same cluster and identity for kopf, with the token of now."""
    return kopf.ConnectionInfo(
        server=where.url,
        ca_data=where.ca,
        insecure=where.insecure,
        token=where.bearer(),
        certificate_path=where.client_cert,
        private_key_path=where.client_key,
    )


def _identity() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--kubeconfig", type=FILE, help="Default: KUBECONFIG, then the pod's ServiceAccount.")
@click.option("--namespace", default="capstan-system", show_default=True, help="Where our Lease lives.")
@click.option("--identity", default=_identity, help="Unique per process.  [default: host name and process id]")
@click.option("--prometheus-url", required=True, help="For example http://prometheus.monitoring:9090.")
@click.option("--prometheus-token-file", type=FILE, help="Bearer token, read again for every call.")
@click.option("--prometheus-ca-file", type=FILE, help="CA of the Prometheus' certificate.")
@click.option(
    "--periods",
    type=settings.PERIODS,
    default="1800,300,5",
    show_default=True,
    help="Seconds between decisions: replicas, tp mix, clock.",
)
@click.option(
    "--rate-window",
    type=click.FloatRange(min=1.0),
    default=settings.RATE_WINDOW_S,
    show_default=True,
    help="Seconds over which Prometheus' rates are taken: at least four scrapes.",
)
@click.option(
    "--day",
    type=click.FloatRange(min=60.0),
    default=calendar.DAY_S,
    show_default=True,
    help="Seconds after which the load's daily pattern repeats; another day than 86400 is for rehearsals in fast time.",
)
@click.option(
    "--listen", type=settings.ADDRESS, default="0.0.0.0:8080", show_default=True, help="/metrics, /healthz, /readyz."
)
@click.option("--record", type=FILE, help="Append every cycle to this file (JSON lines, bounded).")
def command(*, rate_window: float, day: float, **given: object) -> None:
    """Watch ServingPolicies; decide replicas and clocks; actuate what their knobs allow."""
    logs.configure()
    parsed = settings.Operator.model_validate({**given, "rate_window_s": rate_window, "day_s": day})
    try:
        sys.exit(asyncio.run(Process(parsed).run()))
    except errors.AdapterError as problem:
        raise click.ClickException(str(problem)) from problem
