"""`capstan power`: the process that holds racks inside their budgets. No kopf, no Prometheus in its path.

Own Deployment, own Lease, own ServiceAccount: a bug in serving takes nothing from the breakers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click
import pydantic

from capstan.adapters import agents, errors, http
from capstan.adapters import metrics as exposition
from capstan.adapters.kube import config, resources
from capstan.adapters.kube.client import KubeClient, Scope
from capstan.adapters.kube.lease import LeaderLease
from capstan.adapters.kube.reflector import Reflector
from capstan.app import logs, settings
from capstan.model.reasons import Reason
from capstan.power import caps, cycle, ports, status
from capstan.powercap.domains import Level

LEASE = "capstan-power"
MANAGER = "capstan-power"
POLICY_LABEL = "capstan.dev/policy"
AGENT_LABELS = "app.kubernetes.io/name=capstan,app.kubernetes.io/component=agent"
AGENT_PORT = 9808
STALLED_S = 15.0  # a loop that has not turned for so long is restarted by the kubelet
STOP_S = 2.0

_log = logging.getLogger(__name__)


class Settings(pydantic.BaseModel, frozen=True):
    """`capstan power`."""

    kubeconfig: Path | None
    namespace: str
    identity: str
    key_file: Path
    tick_seconds: float = pydantic.Field(gt=0, le=2)  # promise P1 needs two looks within 5 s
    listen: settings.Address


class Caches:
    """Implements `power.ports.Cluster` with one list-and-watch per kind."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._domains = Reflector(client, resources.DOMAINS, dict)
        self._policies = Reflector(client, resources.POLICIES, dict)
        self._nodes = Reflector(client, resources.NODES, lambda raw: _labels(raw, gpus_only=True))
        self._namespaces = Reflector(client, resources.NAMESPACES, _labels)
        self._pods = Reflector(client, resources.PODS, _pod, scope=Scope(labels=POLICY_LABEL))
        agents_of = Scope(namespace=namespace, labels=AGENT_LABELS)
        self._agents = Reflector(client, resources.PODS, _agent, scope=agents_of)
        self._node_caps = Reflector(client, resources.NODE_CAPS, _node_power)

    def all(self) -> tuple[Reflector, ...]:  # type: ignore[type-arg]  # of seven kinds
        """Return every cache."""
        return (
            self._domains, self._policies, self._nodes, self._namespaces, self._pods, self._agents, self._node_caps,
        )  # fmt: skip

    @property
    def ready(self) -> bool:
        """Return whether every cache was filled once."""
        return all(reflector.synced.is_set() for reflector in self.all())

    async def synced(self) -> None:
        """Return when every cache was filled once."""
        await asyncio.gather(*(reflector.synced.wait() for reflector in self.all()))

    async def run(self) -> None:
        """Keep the caches until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self.all():
                group.create_task(reflector.run())

    def scene(self) -> ports.Scene:
        """Return what is cached now."""
        listening = dict(agent for agent in self._agents.items.values() if agent is not None)
        return ports.Scene(
            domains=tuple(raw for _, raw in sorted(self._domains.items.items())),
            policies=self._policies.items,
            nodes={
                name: ports.NodeSeen(name, labels, listening.get(name))
                for name, labels in self._nodes.items.items()
                if labels is not None
            },
            pods=tuple(pod for pod in self._pods.items.values() if pod is not None),
            namespaces={name: labels or {} for name, labels in self._namespaces.items.items()},
            node_powers={name: power for name, power in self._node_caps.items.items() if power is not None},
        )


class Agents:
    """Implements `power.ports.Agents`."""

    def __init__(self, calls: agents.AgentCalls) -> None:
        self._calls = calls
        self._said: dict[str, str] = {}

    async def renew(self, calls: tuple[ports.LeaseCall, ...]) -> Mapping[str, ports.AgentReport]:
        """Call all at once; who does not answer is absent."""
        answers = await asyncio.gather(*(self._one(call) for call in calls))
        return {report.node: report for report in answers if report is not None}

    async def _one(self, call: ports.LeaseCall) -> ports.AgentReport | None:
        body = {
            "epoch": call.epoch,
            "sequence": call.sequence,
            "leaseSeconds": call.lease_s,
            "caps": caps.caps_document(call.caps),
        }
        try:
            report = _report(await self._calls.renew(call.address, body))
            if report.node != call.node:
                raise errors.Malformed(f"agent {call.address} says that it is {report.node}, not {call.node}")
        except errors.AdapterError as problem:
            self._say(call.node, str(problem))
            return None
        self._say(call.node, "")
        return report

    def _say(self, node: str, problem: str) -> None:
        """Log a problem once, and its end."""
        if self._said.get(node, "") != problem:
            self._said[node] = problem
            _log.warning("node %s: %s", node, problem or "its agent answers again")


class Api:
    """Implements `power.ports.Writer`."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def node_cap(self, document: ports.Document) -> None:
        """Apply `spec.power`."""
        await self._apply(document)

    async def status(self, domain: ports.Document, made: ports.Document) -> None:
        """Replace a domain's status; the uid keeps a namesake from getting it."""
        meta = {key: _text(domain, "metadata", key) for key in ("name", "uid")}
        document: ports.Document = {
            "apiVersion": resources.DOMAINS.api_version, "kind": "PowerDomain", "metadata": meta, "status": made,
        }  # fmt: skip
        await self._apply(document, subresource="status")

    async def event(self, transition: ports.Transition) -> None:
        """Post an Event; those of cluster-scoped objects live in `default`."""
        about = {key: _text(transition.domain, "metadata", key) for key in ("name", "uid")}
        document: ports.Document = {
            "apiVersion": resources.EVENTS.api_version,
            "kind": "Event",
            "metadata": {"generateName": f"{about['name']}-", "namespace": "default"},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "capstan.dev/power",
            "reportingInstance": socket.gethostname(),
            "action": "Cap",
            "reason": transition.reason,
            "regarding": {"apiVersion": resources.DOMAINS.api_version, "kind": "PowerDomain", **about},
            "note": f"{transition.before} -> {transition.after}",
            "type": "Normal" if transition.after in (Level.NORMAL, Level.DISARMED) else "Warning",
        }
        try:
            await self._client.create(document)
        except errors.AdapterError as problem:
            raise ports.Refused(f"event: {problem}") from problem

    async def _apply(self, document: ports.Document, subresource: str | None = None) -> None:
        try:
            await self._client.apply(document, manager=MANAGER, subresource=subresource)
        except errors.AdapterError as problem:
            raise ports.Refused(f"{document['kind']}: {problem}") from problem


class Meter:
    """Implements `power.cycle.Meter`."""

    def __init__(self, metrics: exposition.Metrics) -> None:
        self._metrics = metrics

    def tick(self, verdicts: tuple[status.Verdict, ...], answering: int, silent: int, seconds: float) -> None:
        """Publish one tick."""
        put = self._metrics.set
        self._metrics.clear(
            "capstan_domain_power_watts", "capstan_domain_budget_watts", "capstan_domain_headroom_watts",
            "capstan_domain_state", "capstan_capped_gpus",
        )  # fmt: skip
        for verdict in verdicts:
            name, step = verdict.declared.name, verdict.step
            put("capstan_domain_power_watts", step.measured_w, name, "agents")
            put("capstan_domain_power_watts", step.projected_w, name, "projected")
            put("capstan_domain_budget_watts", float(verdict.declared.parsed.spec.budget_watts), name)
            put("capstan_domain_headroom_watts", step.headroom_w, name)
            put("capstan_capped_gpus", float(verdict.capped_gpus), name, "all")
            for level in Level:
                put("capstan_domain_state", float(level is step.level), name, level.value)
        put("capstan_agents", float(answering), "answering")
        put("capstan_agents", float(silent), "silent")
        self._metrics.observe("capstan_cycle_seconds", seconds, "power")

    def moved(self, domain: str, before: Level, after: Level, reason: Reason) -> None:
        """Count a transition and say it once."""
        self._metrics.add("capstan_domain_transitions_total", 1, domain, before.value, after.value, reason.value)
        _log.info("domain %s: %s -> %s (%s)", domain, before.value, after.value, reason.value)


class Process:
    """Everything that `capstan power` runs."""

    def __init__(self, given: Settings) -> None:
        self._given = given
        self._metrics = exposition.Metrics("power")
        where = config.load(given.kubeconfig)
        self._client = KubeClient(where, component="power", wrote=self._count_write)
        self._caches = Caches(self._client, given.namespace)
        self._lease = LeaderLease(self._client, given.namespace, LEASE, given.identity)
        self._ticked_s: float | None = None

    async def run(self) -> int:
        """Run until SIGTERM (0) or until the Lease is lost (1)."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        routes = exposition.routes(self._metrics, healthy=self._healthy, ready=lambda: self._caches.ready)
        server = await http.serve(self._given.listen.host, self._given.listen.port, routes)
        self._metrics.set("capstan_leader", 0, "power")
        tasks = [asyncio.create_task(part) for part in (stop.wait(), self._caches.run(), self._lead())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # a bug raises here, and the process says so and exits
            return 0 if stop.is_set() else 1
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=STOP_S)
            await self._lease.release()
            server.close()
            await self._client.close()

    async def _lead(self) -> None:
        """Wait for the caches and the Lease; then tick until the Lease is lost."""
        await self._caches.synced()
        await self._lease.acquire()
        self._metrics.set("capstan_leader", 1, "power")
        _log.info("leader since now, epoch %d", self._lease.epoch)
        keeping = asyncio.create_task(self._lease.keep())
        try:
            await self._tick_until(keeping)
        finally:
            keeping.cancel()
        _log.error("the Lease is lost: exiting, so that only one controller acts")

    async def _tick_until(self, keeping: asyncio.Task[None]) -> None:
        calls = agents.AgentCalls(self._given.key_file, called=self._count_call)
        calls.key()  # a missing key is told at start, not as a silent fleet
        api = Api(self._client)
        wired = cycle.Ports(self._caches, Agents(calls), api, Meter(self._metrics), time.monotonic, time.time)
        loop = cycle.Loop(wired, epoch=self._lease.epoch)
        due_s = time.monotonic()
        while not keeping.done():
            await loop.tick()
            self._ticked_s = time.monotonic()
            due_s = max(due_s + self._given.tick_seconds, self._ticked_s)  # late ticks are not made up for
            await asyncio.sleep(due_s - time.monotonic())
        await calls.close()

    def _healthy(self) -> bool:
        """Return whether the loop turns; a standby is healthy by answering."""
        return self._ticked_s is None or time.monotonic() - self._ticked_s < STALLED_S

    def _count_write(self, verb: str, resource: str) -> None:
        self._metrics.add("capstan_api_writes_total", 1, verb, resource)

    def _count_call(self, seconds: float) -> None:
        self._metrics.observe("capstan_agent_call_seconds", seconds)


def _report(answer: Mapping[str, object]) -> ports.AgentReport:
    """Read an agent's answer. Raises Malformed."""
    listed = answer.get("gpus")
    if not isinstance(listed, list) or not all(isinstance(gpu, dict) for gpu in listed):
        raise errors.Malformed("the answer has no list of gpus")
    return ports.AgentReport(
        node=str(answer.get("node", "")),
        epoch=int(agents.number(answer, "epoch")),
        sequence=int(agents.number(answer, "sequence")),
        sample_sequence=int(agents.number(answer, "sampleSequence")),
        age_s=agents.number(answer, "ageSeconds"),
        safe=answer.get("safe") is True,
        gpus=tuple(_gpu(gpu) for gpu in listed),
    )


def _gpu(gpu: Mapping[str, object]) -> ports.GpuReport:
    return ports.GpuReport(
        index=int(agents.number(gpu, "index")),
        namespace=str(gpu.get("namespace") or ""),
        pod=str(gpu.get("pod") or ""),
        power_w=None if gpu.get("powerWatts") is None else agents.number(gpu, "powerWatts"),
        max_power_w=agents.number(gpu, "maxPowerWatts"),
        min_power_w=agents.number(gpu, "minPowerWatts"),
        clock_cap_mhz=None if gpu.get("clockCapMegahertz") is None else agents.number(gpu, "clockCapMegahertz"),
    )


def _mapping(raw: Mapping[str, object], *path: str) -> Mapping[str, object]:
    found: object = raw
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _text(raw: Mapping[str, object], *path: str) -> str:
    value = _mapping(raw, *path[:-1]).get(path[-1])
    return value if isinstance(value, str) else ""


def _labels(raw: Mapping[str, object], *, gpus_only: bool = False) -> dict[str, str] | None:
    """Return an object's labels; None for a node without GPUs, where that is asked."""
    if gpus_only and "nvidia.com/gpu" not in _mapping(raw, "status", "capacity"):
        return None
    return {key: str(value) for key, value in _mapping(raw, "metadata", "labels").items()}


def _pod(raw: Mapping[str, object]) -> ports.PodSeen | None:
    namespace, node = _text(raw, "metadata", "namespace"), _text(raw, "spec", "nodeName")
    policy = _text(raw, "metadata", "labels", POLICY_LABEL)
    return ports.PodSeen(namespace, _text(raw, "metadata", "name"), node, f"{namespace}/{policy}") if node else None


def _agent(raw: Mapping[str, object]) -> tuple[str, str] | None:
    """Return (node, address) of an agent pod that has both."""
    node, address = _text(raw, "spec", "nodeName"), _text(raw, "status", "podIP")
    leaving = _text(raw, "metadata", "deletionTimestamp")
    shown = f"[{address}]" if ":" in address else address
    return (node, f"{shown}:{AGENT_PORT}") if node and address and not leaving else None


def _node_power(raw: Mapping[str, object]) -> ports.NodePower | None:
    power = _mapping(raw, "spec", "power")
    epoch, sequence = power.get("epoch"), power.get("sequence")
    if not isinstance(epoch, int) or not isinstance(sequence, int):
        return None
    return ports.NodePower(epoch, sequence, dict(power))


FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--kubeconfig", type=FILE, help="Default: KUBECONFIG, then the pod's ServiceAccount.")
@click.option("--namespace", default="capstan-system", show_default=True, help="Where our Lease and the agents live.")
@click.option("--identity", default=lambda: f"{socket.gethostname()}-{os.getpid()}", help="Unique per process.")
@click.option("--key-file", type=FILE, required=True, help="The key shared with the agents, read again when needed.")
@click.option("--tick-seconds", type=click.FloatRange(min=0.1, max=2), default=1.0, show_default=True, help="Period.")
@click.option(
    "--listen", type=settings.ADDRESS, default="0.0.0.0:8081", show_default=True, help="/metrics, /healthz, /readyz."
)
def command(**given: object) -> None:
    """Watch PowerDomains; hear the agents every second; cap low priority first."""
    logs.configure()
    try:
        sys.exit(asyncio.run(Process(Settings.model_validate(given)).run()))
    except errors.AdapterError as problem:
        raise click.ClickException(str(problem)) from problem
