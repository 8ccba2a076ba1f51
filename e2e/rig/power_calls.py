"""What the 1 s call of `capstan power` to its agents costs: many agents played by one process.

Who calls it: `python -m rig power calls`. The caller runs what `capstan power` runs: the lease body is built, sent,
answered, parsed to a report; its CPU seconds count. The agents' side is a separate process and is not counted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import resource
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import click

from capstan.adapters import agents, http
from capstan.app.power.agents import Agents
from capstan.power import ports
from capstan.powercap.domains import ClassCaps

GPUS = 8
LEASE_S = 4


@dataclass(frozen=True, slots=True)
class Figures:
    """One run: what a second of calls costs the caller."""

    agents: int
    seconds: int
    cpu_s: float
    slowest_s: float
    answered: int

    @property
    def cores(self) -> float:
        """CPU seconds per second."""
        return self.cpu_s / self.seconds


def measured(count: int, seconds: int) -> Figures:
    """Call `count` agents once a second, for some seconds, and return what it cost."""
    with tempfile.TemporaryDirectory() as folder, _fleet(folder_key := Path(folder) / "key", count) as port:
        return asyncio.run(_calling(folder_key, port, count, seconds))


async def _calling(key: Path, port: int, count: int, seconds: int) -> Figures:
    client = agents.AgentCalls(key)
    caller = Agents(client)
    calls = tuple(
        ports.LeaseCall(f"gpu-{i}", f"127.0.{i // 250}.{i % 250 + 1}:{port}", 3, 7, LEASE_S, ClassCaps(low_mhz=1560))
        for i in range(count)
    )
    await caller.renew(calls)  # the first connections are not the price of every second
    before_s, slowest_s, answered = _cpu_s(), 0.0, 0
    due_s = time.monotonic()
    for _ in range(seconds):
        began_s = time.monotonic()
        answered += len(await caller.renew(calls))
        slowest_s = max(slowest_s, time.monotonic() - began_s)
        due_s += 1.0
        await asyncio.sleep(max(due_s - time.monotonic(), 0.0))
    used_s = _cpu_s() - before_s
    await client.close()
    return Figures(count, seconds, used_s, slowest_s, answered)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def _fleet(key: Path, count: int) -> Iterator[int]:
    """Play `count` agents on loopback addresses in a process of their own; yields their port."""
    key.write_text(secrets.token_hex(16), encoding="utf-8")
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    playing = context.Process(target=_play, args=(theirs, count), daemon=True)
    playing.start()
    try:
        yield int(ours.recv())
    finally:
        playing.terminate()
        playing.join()


def _play(told: Connection, count: int) -> None:
    asyncio.run(_serve(told, count))


async def _serve(told: Connection, count: int) -> None:
    port = _free_port()

    def agent(node: str) -> http.Handler:
        async def answer(request: http.Request) -> http.Response:
            return http.Response.json(200, _report(node, json.loads(request.body)))

        return answer

    for i in range(count):
        await http.serve(f"127.0.{i // 250}.{i % 250 + 1}", port, {("POST", "/v1/lease"): agent(f"gpu-{i}")})
    told.send(port)
    await asyncio.Event().wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _report(node: str, asked: dict[str, object]) -> dict[str, object]:
    """Return what an agent of eight GPUs answers."""
    gpus = [
        {
            "index": i, "uuid": f"GPU-{node}-{i}", "namespace": "llm", "pod": f"chat-{node}", "powerWatts": 431.25,
            "smClockMegahertz": 1545.0, "powerLimitWatts": 700.0, "enforcedLimitWatts": 700.0,
            "clockCapMegahertz": 1560.0, "maxPowerWatts": 700.0, "minPowerWatts": 200.0,
            "clockVerified": True, "limitVerified": True,
        }
        for i in range(GPUS)
    ]  # fmt: skip
    return {
        "node": node, "epoch": asked["epoch"], "sequence": asked["sequence"], "sampleSequence": 1,
        "ageSeconds": 0.4, "safe": False, "gpus": gpus,
    }  # fmt: skip


@click.command()
@click.option("--agents", "count", type=click.IntRange(1, 5000), default=500, show_default=True)
@click.option("--seconds", type=click.IntRange(1, 600), default=10, show_default=True)
def command(*, count: int, seconds: int) -> None:
    """Call many agents once a second and print what it costs the caller."""
    logging.disable(logging.WARNING)  # who did not answer is in the figure
    try:
        found = measured(count, seconds)
    finally:
        logging.disable(logging.NOTSET)
    click.echo(
        f"{found.agents} agents of {GPUS} GPUs, {found.seconds} s: {found.cores:.3f} core, "
        f"{found.answered / (found.agents * found.seconds):.1%} answered, slowest second {found.slowest_s:.3f} s, "
        f"{found.agents / found.cores:.0f} agents per core"
    )
