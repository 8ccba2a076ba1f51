"""The simulator's process: watches, reconciles, meters, and serves dcgm-exporter's page and the `http_sd` list."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from rig.nvml.state import State
from rig.simulator import dcgm, exposition, files, pods, sd
from rig.simulator.api import Api, Mirror
from rig.simulator.fleet import Fleet
from rig.simulator.meter import TICK_S, Meter
from rig.simulator.pods import PodView
from rig.simulator.profiles import Profiles
from rig.simulator.resources import NodeResources
from rig.simulator.truth import Truth

log = logging.getLogger(__name__)

ANNOUNCEMENT = "simulator.json"
RESYNC_S = 2.0  # what failed (an address still taken, an API server away) is tried again at least this often


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    kubeconfig: Path
    folder: Path
    profiles: Profiles
    listen: str = "127.0.0.1"
    port: int = 0
    extra: tuple[sd.Group, ...] = ()


class Simulator:
    """Everything of one process; `run` returns when it is cancelled."""

    def __init__(self, options: Options, api: Api) -> None:
        self._options = options
        self._changed = asyncio.Event()
        self._nodes = Mirror(api, "/api/v1/nodes", self._changed.set)
        self._pods = Mirror(api, "/api/v1/pods", self._changed.set)
        self._fleet = Fleet(options.profiles, api)
        self._states: dict[str, State] = {}
        self._resources: dict[str, NodeResources] = {}

    async def run(self) -> None:
        """Run until cancelled; then servers, sockets and files are closed, and pods are left as they are."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._close)
            port = await self._listen(stack)
            truth = stack.enter_context((self._options.folder / "truth.jsonl").open("a"))
            meter = Meter(self._fleet, self._states, Truth(truth))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._nodes.run())
                tasks.create_task(self._pods.run())
                tasks.create_task(self._reconcile())
                tasks.create_task(_meter(meter))
                self._announce(port)

    async def _reconcile(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RESYNC_S):
                    await self._changed.wait()
            self._changed.clear()
            views = (pods.node_view(node) for node in self._nodes.objects.values())
            for node in self._fleet.see_nodes(view for view in views if view):
                await self._open(node.view.name)
            await self._fleet.reconcile(engine_pods(self._pods))
            for name, resources in self._resources.items():
                resources.show(self._fleet.tenants_of(name))

    async def _open(self, name: str) -> None:
        """Open the files and sockets of a node that is new."""
        node = self._fleet.nodes[name]
        self._states[name] = files.open_state(self._options.folder, node)
        self._resources[name] = NodeResources(files.socket_path(self._options.folder, name), node)
        await self._resources[name].start()
        log.info("node %s: %d GPUs", name, len(node.gpus))

    async def _close(self) -> None:
        await self._fleet.close()
        for resources in self._resources.values():
            await resources.stop()
        for state in self._states.values():
            state.close()

    async def _listen(self, stack: contextlib.AsyncExitStack) -> int:
        """Serve dcgm-exporter's page and the target list; returns the port."""
        app = web.Application()
        app.add_routes([web.get("/metrics", self._dcgm), web.get("/sd", self._sd), web.get("/healthz", _healthz)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, self._options.listen, self._options.port).start()
        return int(runner.addresses[0][1])

    def _announce(self, port: int) -> None:
        """Say on stdout and in `simulator.json` where everything is."""
        self._dcgm_target = f"{self._options.listen}:{port}"
        said = {"sd": f"http://{self._dcgm_target}/sd", "dcgm": self._dcgm_target}
        text = json.dumps(said)
        (self._options.folder / ANNOUNCEMENT).write_text(text + "\n")
        print(text, flush=True)

    async def _dcgm(self, _: web.Request) -> web.Response:
        body = exposition.page(dcgm.lines(self._fleet.rows()))
        return web.Response(body=body, headers={"Content-Type": exposition.CONTENT_TYPE})

    async def _sd(self, _: web.Request) -> web.Response:
        agent_ips = (pods.component_ip(pod, "agent") for pod in self._pods.objects.values())
        groups = [
            *(sd.engine(tenant.pod) for tenant in self._fleet.tenants.values() if tenant.server),
            *sd.agents(ip for ip in agent_ips if ip),
            sd.fixed("dcgm", self._dcgm_target),
            *self._options.extra,
        ]
        return web.json_response(groups)


def engine_pods(mirror: Mirror) -> dict[str, PodView]:
    """Return the engine pods that a mirror shows, by uid."""
    views = (pods.engine_pod(pod) for pod in mirror.objects.values())
    return {view.uid: view for view in views if view}


async def run(options: Options) -> None:
    """Run the simulator until cancelled."""
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / ANNOUNCEMENT).unlink(missing_ok=True)  # who waits for it must not find an earlier run's ports
    async with Api(options.kubeconfig) as api:
        await Simulator(options, api).run()


async def _meter(meter: Meter) -> None:
    """Tick at a fixed pace; a late tick is not made up for, the next one covers its time."""
    due_s = time.monotonic()
    while True:
        meter.tick(time.monotonic(), time.time())
        due_s = max(due_s + TICK_S, time.monotonic())
        await asyncio.sleep(due_s - time.monotonic())


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")
