"""`capstan agent` and `capstan setter`: the two processes of a node.

The setter is root and has neither network nor token; the agent has both and no privilege.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click

from capstan.adapters import errors, http, nvml, podresources
from capstan.adapters import metrics as exposition
from capstan.adapters.agents import AgentCalls, number
from capstan.adapters.kube import config, resources
from capstan.adapters.kube.client import KubeClient, Scope
from capstan.adapters.kube.reflector import Reflector
from capstan.adapters.nvml.device import NvmlError
from capstan.agent import client, cycle, lease, setter
from capstan.agent.ports import Failed, PlannedClock, Pod
from capstan.api import errors as api_errors
from capstan.api import manifests, nodecap, v1alpha1
from capstan.app import logs, settings
from capstan.model.gpu import GpuSample
from capstan.powercap.domains import ClassCaps, SafeSetting

STALLED_S = 10.0
WATCH_S = 0.25  # how often the setter's watchdog looks
OLD_S = 5.0  # a sample older than this is not what the node draws

_log = logging.getLogger(__name__)


class Driver:
    """Implements `agent.ports.Gpus` and `Driver` over NVML."""

    def __init__(self, driver: nvml.Nvml) -> None:
        self._driver = driver

    def sample(self) -> tuple[GpuSample, ...]:
        """Return every GPU of the node."""
        return self._driver.sample()

    def cap_clock(self, uuid: str, clock_mhz: float) -> float:
        """Cap the SM clock."""
        try:
            return self._driver.cap_clock(uuid, clock_mhz)
        except NvmlError as error:
            raise Failed(error.word, str(error)) from error

    def reset_clock(self, uuid: str) -> None:
        """Lift the cap."""
        try:
            self._driver.reset_clock(uuid)
        except NvmlError as error:
            raise Failed(error.word, str(error)) from error

    def limit_power(self, uuid: str, limit_w: float | None) -> float:
        """Set the board limit."""
        try:
            return self._driver.limit_power(uuid, limit_w)
        except NvmlError as error:
            raise Failed(error.word, str(error)) from error

    def uuids(self) -> tuple[str, ...]:
        """Return all GPUs."""
        return self._driver.uuids()


class Kubelet:
    """Implements `agent.ports.PodDevices`."""

    def __init__(self, found: podresources.PodResources) -> None:
        self._found = found

    def owners(self) -> Mapping[str, Pod]:
        """Return the pod of every GPU uuid that one holds."""
        try:
            return {uuid: Pod(*owner) for uuid, owner in self._found.owners().items()}
        except errors.AdapterError as error:
            raise Failed("PodResources", str(error)) from error


class SafeFile:
    """The safe setting in the state folder: a restarted agent starts in it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "safe.json"

    def write(self, safe: SafeSetting) -> None:
        """Keep it, whole or not at all. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".part")
        partial.write_text(json.dumps(asdict(safe)), encoding="utf-8")
        partial.replace(self._path)

    def read(self) -> SafeSetting | None:
        """Return what was kept; None where there is nothing that can be read."""
        try:
            return _kept(json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, errors.Malformed) as problem:
            _log.warning("the kept safe setting cannot be read, starting without: %s", problem)
            return None


def _kept(document: object) -> SafeSetting:
    """Read a safe setting. Raises Malformed."""
    if not isinstance(document, dict):
        raise errors.Malformed("no object")
    return SafeSetting(number(document, "clock_mhz"), number(document, "power_limit_w"))


class Agent:
    """Everything that `capstan agent` runs."""

    def __init__(self, *, node: str, client_: KubeClient, calls_key: Path, folder: Path, socket: Path) -> None:
        self._node = node
        self._key = AgentCalls(calls_key).key
        self._metrics = exposition.Metrics("agent")
        self._setter = client.SetterClient(socket)
        kept = SafeFile(folder)
        self._cycle = cycle.Cycle(Driver(nvml.open_driver()), self._setter, time.monotonic, kept.write)
        self._cycle.lease = lease.Lease(safe=kept.read())
        ours = Scope(fields=f"metadata.name={node}")
        self._caps = Reflector(client_, resources.NODE_CAPS, dict, scope=ours, changed=self._granted)
        self._client = client_
        self._booked_j: dict[str, float] = {}

    async def run(self, listen: settings.Address) -> int:
        """Run until SIGTERM."""
        stop = asyncio.Event()
        for number_ in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number_, stop.set)
        more: dict[tuple[str, str], http.Handler] = {
            ("POST", "/v1/lease"): self._renew,
            ("GET", "/metrics"): self._scrape,
        }
        routes = exposition.routes(self._metrics, healthy=self._healthy, ready=lambda: True, more=more)
        server = await http.serve(listen.host, listen.port, routes)
        tasks = [asyncio.create_task(part) for part in (stop.wait(), self._caps.run(), self._cycle.run())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            return 0
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            server.close()
            await self._setter.close()
            await self._client.close()

    def _granted(self) -> None:
        """Take our NodeCap as the cache has it now."""
        raw = self._caps.items.get(self._node)
        try:
            grant, plan = _parsed(raw)
        except api_errors.Invalid as invalid:
            _log.warning("our NodeCap is not valid, keeping the one before: %s", invalid)
            return
        self._cycle.grant(grant, plan)

    async def _renew(self, request: http.Request) -> http.Response:
        """Answer one lease call."""
        try:
            known = self._key()
        except errors.AdapterError as problem:
            return http.Response.text(503, f"{problem}\n")
        if request.bearer is None or not hmac.compare_digest(request.bearer.encode(), known.encode()):
            return http.Response.text(401, "wrong key\n")
        try:
            self._cycle.renew(_renewal(json.loads(request.body)))
        except lease.Outdated as outdated:
            return http.Response.text(409, f"{outdated}\n")
        except (ValueError, RecursionError, errors.Malformed) as problem:
            return http.Response.text(400, f"{problem}\n")
        return http.Response.json(200, self._report())

    def _report(self) -> dict[str, object]:
        shown, held = self._cycle.shown, self._cycle.lease
        return {
            "node": self._node,
            "epoch": held.epoch,
            "sequence": held.sequence,
            "sampleSequence": shown.sequence,
            "ageSeconds": round(time.monotonic() - shown.sampled_s, 3) if shown.sequence else OLD_S + 1,
            "safe": lease.in_safe_setting(held, time.monotonic()),
            "gpus": [self._gpu(gpu) for gpu in shown.gpus],
        }

    def _gpu(self, gpu: GpuSample) -> dict[str, object]:
        pod = (self._cycle.shown.owners or {}).get(gpu.uuid)
        set_to = (self._cycle.shown.applied or {}).get(gpu.uuid, cycle.NOTHING)
        return {
            "index": gpu.index,
            "uuid": gpu.uuid,
            "namespace": pod.namespace if pod else "",
            "pod": pod.name if pod else "",
            "powerWatts": gpu.power_w,
            "smClockMegahertz": gpu.sm_clock_mhz,
            "powerLimitWatts": gpu.limit_w,
            "clockCapMegahertz": set_to.clock_mhz,
            "maxPowerWatts": gpu.max_limit_w,
            "minPowerWatts": gpu.min_limit_w,
        }

    async def _scrape(self, _: http.Request) -> http.Response:
        self._publish()
        return http.Response(200, self._metrics.exposition(), exposition.CONTENT_TYPE)

    def _publish(self) -> None:
        """Set the metrics from the newest sample."""
        put, node, shown, now_s = self._metrics.set, self._node, self._cycle.shown, time.monotonic()
        self._metrics.clear(
            "capstan_agent_gpu_power_watts", "capstan_agent_gpu_sm_clock_megahertz",
            "capstan_agent_gpu_clock_cap_megahertz", "capstan_agent_gpu_power_limit_watts",
        )  # fmt: skip
        for gpu in shown.gpus:
            index, pod = str(gpu.index), (shown.owners or {}).get(gpu.uuid, Pod("", ""))
            put("capstan_agent_gpu_power_watts", gpu.power_w, node, index, pod.namespace, pod.name)
            put("capstan_agent_gpu_sm_clock_megahertz", gpu.sm_clock_mhz, node, index)
            put("capstan_agent_gpu_power_limit_watts", gpu.limit_w, node, index)
            self._book(gpu)
            cap_mhz = (shown.applied or {}).get(gpu.uuid, cycle.NOTHING).clock_mhz
            if cap_mhz is not None:
                put("capstan_agent_gpu_clock_cap_megahertz", cap_mhz, node, index)
        put("capstan_agent_sample_sequence", float(shown.sequence), node)
        if shown.sequence:
            put("capstan_agent_sample_age_seconds", now_s - shown.sampled_s, node)
        put("capstan_agent_lease_remaining_seconds", lease.remaining_s(self._cycle.lease, now_s), node)
        put("capstan_agent_safe_setting", float(lease.in_safe_setting(self._cycle.lease, now_s)), node)

    def _book(self, gpu: GpuSample) -> None:
        """Count joules since our start; a counter that fell belongs to a driver that was loaded anew."""
        if gpu.energy_j is None:
            return
        before_j = self._booked_j.get(gpu.uuid, gpu.energy_j)
        self._booked_j[gpu.uuid] = gpu.energy_j
        grown_j = gpu.energy_j - before_j if gpu.energy_j >= before_j else gpu.energy_j
        self._metrics.add("capstan_agent_energy_joules_total", grown_j, self._node, str(gpu.index))

    def _healthy(self) -> bool:
        shown = self._cycle.shown
        return shown.sequence == 0 or time.monotonic() - shown.sampled_s < STALLED_S


def _renewal(body: object) -> lease.Renewal:
    """Read a lease call. Raises Malformed."""
    if not isinstance(body, dict):
        raise errors.Malformed("a lease call is a JSON object")
    wanted = body.get("caps")
    if not isinstance(wanted, dict):
        raise errors.Malformed("caps: give an object, empty for no cap")
    return lease.Renewal(
        epoch=int(number(body, "epoch")),
        sequence=int(number(body, "sequence")),
        lease_s=min(number(body, "leaseSeconds"), 60.0),
        caps=ClassCaps(
            low_mhz=number(wanted, "lowMegahertz") if "lowMegahertz" in wanted else None,
            high_mhz=number(wanted, "highMegahertz") if "highMegahertz" in wanted else None,
            power_limit_w=number(wanted, "powerLimitWatts") if "powerLimitWatts" in wanted else None,
        ),
    )


def _parsed(raw: Mapping[str, object] | None) -> tuple[lease.Granted | None, tuple[PlannedClock, ...] | None]:
    """Read our NodeCap. Raises Invalid."""
    if raw is None:
        return None, None
    spec = manifests.parse(v1alpha1.NodeCap, raw).spec
    plan = None
    if spec.plan is not None:
        plan = tuple(PlannedClock(Pod(p.namespace, p.name), float(p.clock_megahertz)) for p in spec.plan.pods)
    return (None if spec.power is None else _grant(spec.power)), plan


def _grant(power: nodecap.Power) -> lease.Granted:
    caps = power.caps
    return lease.Granted(
        epoch=power.epoch,
        sequence=power.sequence,
        caps=ClassCaps(_float(caps.low_megahertz), _float(caps.high_megahertz), _float(caps.power_limit_watts)),
        high_pods=frozenset(Pod(pod.namespace, pod.name) for pod in power.high_pods),
        safe=SafeSetting(float(power.safe.clock_megahertz), float(power.safe.power_limit_watts)),
    )


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)


async def _serve_setter(made: setter.Setter, socket: Path) -> int:
    stop = asyncio.Event()
    for number_ in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number_, stop.set)
    server = await made.serve(socket)
    while not stop.is_set():
        made.watch()
        try:
            async with asyncio.timeout(WATCH_S):  # 3.11's wait_for may lose a cancellation
                await stop.wait()
        except TimeoutError:
            continue
    server.close()
    return 0


FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--node", required=True, help="Our node's name.")
@click.option("--kubeconfig", type=FILE, help="Default: KUBECONFIG, then the pod's ServiceAccount.")
@click.option("--key-file", type=FILE, required=True, help="The key shared with `capstan power`.")
@click.option("--listen", type=settings.ADDRESS, default="0.0.0.0:9808", show_default=True, help="/metrics, /v1/lease.")
@click.option("--setter-socket", type=FILE, default="/run/capstan/setter.sock", show_default=True, help="The setter's.")
@click.option("--state-dir", type=FOLDER, default="/var/lib/capstan", show_default=True, help="Keeps the safe setting.")
def agent_command(*, node: str, kubeconfig: Path | None, key_file: Path, listen: settings.Address,
                  setter_socket: Path, state_dir: Path) -> None:  # fmt: skip
    """Report a node's watts and hold its caps under a lease (non-root)."""
    logs.configure()
    try:
        client_ = KubeClient(config.load(kubeconfig), component="agent")
        made = Agent(node=node, client_=client_, calls_key=key_file, folder=state_dir, socket=setter_socket)
        sys.exit(asyncio.run(made.run(listen)))
    except errors.AdapterError as problem:
        raise click.ClickException(str(problem)) from problem


@click.command()
@click.option(
    "--socket", type=FILE, default="/run/capstan/setter.sock", show_default=True, help="Where the agent asks."
)
@click.option("--pod-resources-socket", type=FILE, default="/pod-resources/kubelet.sock", show_default=True,
              help="The kubelet's.")  # fmt: skip
@click.option("--min-clock-mhz", type=click.FloatRange(min=1), default=210.0, show_default=True, help="Nothing below.")
@click.option(
    "--watchdog-seconds",
    type=click.FloatRange(min=0.1, max=3),
    default=setter.WATCHDOG_S,
    show_default=True,
    help="Silence of the agent after which the safe setting is applied.",
)
@click.option("--peer-uid", type=int, multiple=True, help="Uids that may connect, besides root and our own.")
def setter_command(
    *,
    socket: Path,
    pod_resources_socket: Path,
    min_clock_mhz: float,
    watchdog_seconds: float,
    peer_uid: tuple[int, ...],
) -> None:
    """Write a node's GPU clocks and limits (root); the agent asks for them on a Unix socket."""
    logs.configure()
    try:
        limits = setter.Limits(min_clock_mhz, frozenset(peer_uid), watchdog_seconds)
        kubelet = Kubelet(podresources.PodResources(pod_resources_socket))
        made = setter.Setter(Driver(nvml.open_driver()), kubelet, limits, time.monotonic)
        sys.exit(asyncio.run(_serve_setter(made, socket)))
    except errors.AdapterError as problem:
        raise click.ClickException(str(problem)) from problem
