"""`capstan agent`: the process of a node that has network and token, and no privilege; `app.setter` is the other."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import sys
import time
from pathlib import Path

import click

from capstan.adapters import errors, http, nvml
from capstan.adapters import metrics as exposition
from capstan.adapters.agents import read_key
from capstan.adapters.kube import config, resources
from capstan.adapters.kube.client import KubeClient, Scope
from capstan.adapters.kube.reflector import Reflector
from capstan.agent import client, cycle, lease
from capstan.app import address, agentsays, logs, nodecaps, parts
from capstan.app import node as nodes

STALLED_S = 10.0

_log = logging.getLogger(__name__)


class Agent:
    """Everything that `capstan agent` runs."""

    def __init__(self, *, node: str, client_: KubeClient, calls_key: Path, folder: Path, socket: Path) -> None:
        self._node = node
        self._key_file = calls_key
        self._setter = client.SetterClient(socket)
        kept = nodes.AgentFile(folder)
        self._cycle = cycle.Cycle(nodes.Driver(nvml.open_driver()), self._setter, time.monotonic, kept.write)
        self._cycle.lease = kept.read()
        self._metrics = agentsays.Exposition(node)
        ours = Scope(fields=f"metadata.name={node}")
        self._caps = Reflector(client_, resources.NODE_CAPS, dict, scope=ours, changed=self._granted)
        self._client = client_

    async def run(self, listen: address.Address) -> int:
        """Run until SIGTERM (0); a part that ends by itself is a bug (1)."""
        more: dict[tuple[str, str], http.Handler] = {
            ("POST", "/v1/lease"): self._renew,
            ("GET", "/metrics"): self._scrape,
        }
        routes = exposition.routes(self._metrics.metrics, healthy=self._healthy, ready=self._ready, more=more)
        server = await http.serve(listen.host, listen.port, routes)
        try:
            return await parts.until_stopped(self._caps.run(), self._cycle.run())
        finally:
            server.close()
            await self._setter.close()
            await self._client.close()

    def _granted(self) -> None:
        """Take our NodeCap as the cache has it now."""
        try:
            grant, plan = nodecaps.node_cap(self._caps.items.get(self._node), self._node)
        except errors.Malformed as malformed:
            _log.warning("our NodeCap is not valid, keeping the one before: %s", malformed)
            return
        self._cycle.grant(grant, plan)

    async def _renew(self, request: http.Request) -> http.Response:
        """Answer one lease call."""
        try:
            known = read_key(self._key_file)
        except errors.AdapterError as problem:
            return http.Response.text(503, f"{problem}\n")
        if request.bearer is None or not hmac.compare_digest(request.bearer.encode(), known.encode()):
            return http.Response.text(401, "wrong key\n")
        try:
            self._cycle.renew(nodecaps.renewal(json.loads(request.body)))
        except lease.Outdated as outdated:
            return http.Response.text(409, f"{outdated}\n")
        except (ValueError, RecursionError, errors.Malformed) as problem:
            return http.Response.text(400, f"{problem}\n")
        return http.Response.json(200, agentsays.report(self._node, self._cycle.shown, self._cycle.lease, _now_s()))

    async def _scrape(self, _: http.Request) -> http.Response:
        page = self._metrics.page(self._cycle.shown, self._cycle.lease, _now_s())
        return http.Response(200, page, exposition.CONTENT_TYPE)

    def _ready(self) -> bool:
        """Return whether there was a sample: a rollout waits for it before it silences the next node."""
        return self._cycle.shown.sequence > 0

    def _healthy(self) -> bool:
        shown = self._cycle.shown
        return shown.sequence == 0 or _now_s() - shown.sampled_s < STALLED_S


def _now_s() -> float:
    return time.monotonic()


FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--node", required=True, help="Our node's name.")
@click.option("--kubeconfig", type=FILE, help="Default: KUBECONFIG, then the pod's ServiceAccount.")
@click.option("--key-file", type=FILE, required=True, help="The key shared with `capstan power`.")
@click.option("--listen", type=address.ADDRESS, default="0.0.0.0:9808", show_default=True, help="/metrics, /v1/lease.")
@click.option("--setter-socket", type=FILE, default="/run/capstan/setter.sock", show_default=True, help="The setter's.")
@click.option("--state-dir", type=FOLDER, default="/var/lib/capstan", show_default=True, help="Keeps the safe setting.")
def agent_command(*, node: str, kubeconfig: Path | None, key_file: Path, listen: address.Address,
                  setter_socket: Path, state_dir: Path) -> None:  # fmt: skip
    """Report a node's watts and hold its caps under a lease (non-root)."""
    logs.configure()
    try:
        client_ = KubeClient(config.load(kubeconfig), component="agent")
        made = Agent(node=node, client_=client_, calls_key=key_file, folder=state_dir, socket=setter_socket)
        sys.exit(asyncio.run(made.run(listen)))
    except errors.AdapterError as problem:
        raise click.ClickException(str(problem)) from problem
