"""`capstan setter`: the process of a node that is root, and has neither network nor token."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from capstan.adapters import errors, nvml, podresources
from capstan.agent import limits, listen, setter
from capstan.app import logs, node, parts

LOOK_S = 0.25  # how often the watchdog looks

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
MEGAHERTZ = WATTS = click.FloatRange(min=1)


async def _run(made: setter.Setter, allowed: limits.Limits, path: Path) -> int:
    """Serve and watch until SIGTERM (0); a look that ends by itself is a bug (1)."""
    await made.discover()
    server = await listen.Socket(made.answer, allowed.peer_uids).serve(path)
    try:
        return await parts.until_stopped(*(_often(look) for look in (made.watch, made.discover)))
    finally:
        server.close()


async def _often(look: Callable[[], Awaitable[None]]) -> None:
    while True:
        await look()
        await asyncio.sleep(LOOK_S)


@click.command()
@click.option(
    "--socket", type=FILE, default="/run/capstan/setter.sock", show_default=True, help="Where the agent asks."
)
@click.option("--pod-resources-socket", type=FILE, default="/pod-resources/kubelet.sock", show_default=True,
              help="The kubelet's.")  # fmt: skip
@click.option("--state-dir", type=FOLDER, default="/var/lib/capstan-setter", show_default=True,
              help="Keeps what is set and the safe setting; no other process may write there.")  # fmt: skip
@click.option("--min-clock-mhz", type=MEGAHERTZ, default=210.0, show_default=True, help="No clock cap below.")
@click.option("--max-clock-mhz", type=MEGAHERTZ, default=math.inf, show_default=True,
              help="No clock above, on release neither.")  # fmt: skip
@click.option("--min-limit-watts", type=WATTS, default=1.0, show_default=True,
              help="No board limit below; the board has a lowest of its own.")  # fmt: skip
@click.option("--max-limit-watts", type=WATTS, default=math.inf, show_default=True,
              help="No board limit above, on release neither.")  # fmt: skip
@click.option(
    "--watchdog-seconds",
    type=click.FloatRange(min=0.1, max=3),
    default=limits.WATCHDOG_S,
    show_default=True,
    help="Silence of the agent after which the safe setting is applied.",
)
@click.option("--peer-uid", type=int, multiple=True, help="Uids that may connect, besides root and our own.")
def setter_command(
    *, socket: Path, pod_resources_socket: Path, state_dir: Path, peer_uid: tuple[int, ...], **allowed: float
) -> None:
    """Write a node's GPU clocks and limits (root); the agent asks for them on a Unix socket."""
    logs.configure()
    try:
        within = limits.Limits(
            min_clock_mhz=allowed["min_clock_mhz"],
            max_clock_mhz=allowed["max_clock_mhz"],
            min_limit_w=allowed["min_limit_watts"],
            max_limit_w=allowed["max_limit_watts"],
            peer_uids=frozenset(peer_uid),
            watchdog_s=allowed["watchdog_seconds"],
        )
        driver = nvml.open_driver()
        kubelet = node.Kubelet(podresources.PodResources(pod_resources_socket).owners, driver.physical)
        made = setter.Setter(node.Driver(driver), kubelet, node.SetterFile(state_dir), within, time.monotonic)
        sys.exit(asyncio.run(_run(made, within, socket)))
    except (errors.AdapterError, ValueError) as problem:
        raise click.ClickException(str(problem)) from problem
