"""`python -m rig agent-cost`: what an agent and its setter take on a node of eight GPUs, memory and CPU, as processes.

Figures are printed, never judged. Around the two processes: the fake driver, a kubelet's PodResources with one pod per
GPU, an API server that lists and watches one NodeCap, a lease call every second and a scrape every 15 s. They run
without the packages that the image does not have (httpx imports rich where it finds it).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import grpc
import httpx

from rig.demo import figures
from rig.demo.stage import ROOT
from rig.nvml import build, state
from rig.simulator import resources

WARM_S = 10.0  # imports, the first list, joining
SCRAPE_EVERY = 15  # lease calls, one a second: Prometheus' usual interval
NOT_IN_THE_IMAGE = ("rich", "pygments")
MAIN = f"import sys; sys.modules.update(dict.fromkeys({NOT_IN_THE_IMAGE!r})); from capstan.__main__ import main; main()"
KEY, NODE = "a shared secret", "gpu-0"
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Cost:
    """One process: memory at the end, CPU over the time in between."""

    name: str
    rss_bytes: int
    private_bytes: int
    cpu_ratio: float

    def told(self) -> str:
        """Return one line."""
        return (
            f"  {self.name:7} {self.rss_bytes / MIB:6.1f} MiB resident ({self.private_bytes / MIB:.1f} its own), "
            f"{self.cpu_ratio:.2%} of a core"
        )


@click.command("agent-cost")
@click.option("--gpus", type=click.IntRange(1, state.MAX_GPUS), default=8, show_default=True)
@click.option("--seconds", "length_s", type=click.FloatRange(min=1), default=60.0, show_default=True)
def command(gpus: int, length_s: float) -> None:
    """Print memory and CPU of an agent and its setter on a fake node."""
    click.echo(f"machine: {figures.machine()}; commit {figures.commit(ROOT)}")
    with tempfile.TemporaryDirectory(prefix="capstan-cost-") as folder:
        costs = asyncio.run(measured(Path(folder), gpus, length_s))
    click.echo(f"{gpus} GPUs, a sample and a lease call a second, {length_s:.0f} s:")
    for cost in costs:
        click.echo(cost.told())


async def measured(folder: Path, gpus: int, length_s: float) -> list[Cost]:
    """Run the node and return what setter and agent took."""
    library = build.build(folder / "lib")
    boards = state.State.create(folder / "nvml.state", [f"GPU-{index:04d}" for index in range(gpus)])
    kubelet = await _kubelet(folder / "kubelet.sock", boards.uuids)
    api = await asyncio.start_server(_api, "127.0.0.1", 0)
    _write_files(folder, api.sockets[0].getsockname()[1])
    env = {**os.environ, "LD_LIBRARY_PATH": str(library.parent), "CAPSTAN_FAKE_NVML_STATE": str(folder / "nvml.state")}
    port = _free_port()
    setter = await _start("setter", _setter_args(folder), env, folder)
    agent = await _start("agent", _agent_args(folder, port), env, folder)
    processes = {"agent": agent, "setter": setter}
    try:
        await _play(boards, port, WARM_S)
        before_s = {name: _cpu_s(process.pid) for name, process in processes.items()}
        began_s = time.monotonic()
        await _play(boards, port, length_s)
        elapsed_s = time.monotonic() - began_s
        return [
            Cost(name, *_memory(process.pid), (_cpu_s(process.pid) - before_s[name]) / elapsed_s)
            for name, process in processes.items()
        ]
    finally:
        for process in processes.values():
            process.kill()
            await process.wait()
        await kubelet.stop(None)
        api.close()
        boards.close()


async def _play(boards: state.State, port: int, length_s: float) -> None:
    """Let the node live: watts, lease calls, scrapes. The agent may take a while to answer for the first time."""
    url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {KEY}"}
    end_s = time.monotonic() + length_s
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        for turn in range(10**6):
            if time.monotonic() >= end_s:
                return
            for index in range(len(boards.uuids)):
                boards.report(index, power_w=300 + turn % 7, energy_j=300 * time.monotonic(), sm_clock_mhz=1560)
            body = {"epoch": 1, "sequence": 1, "leaseSeconds": 4, "caps": {"lowMegahertz": 1560}}
            try:
                await http.post("/v1/lease", json=body, headers=headers)
                if turn % SCRAPE_EVERY == 0:
                    await http.get("/metrics")
            except httpx.TransportError as problem:
                if length_s > WARM_S:
                    raise RuntimeError(f"the agent does not answer: {problem}") from problem
            await asyncio.sleep(1)


async def _start(name: str, args: Sequence[str], env: dict[str, str], folder: Path) -> asyncio.subprocess.Process:
    with (folder / f"{name}.log").open("wb") as log:
        return await asyncio.create_subprocess_exec(sys.executable, "-c", MAIN, name, *args, env=env, stderr=log)


def _setter_args(folder: Path) -> tuple[str, ...]:
    return (
        f"--socket={folder / 's.sock'}", f"--pod-resources-socket={folder / 'kubelet.sock'}",
        f"--state-dir={folder / 'setter'}", "--min-clock-mhz=210",
    )  # fmt: skip


def _agent_args(folder: Path, port: int) -> tuple[str, ...]:
    return (
        f"--node={NODE}", f"--kubeconfig={folder / 'kubeconfig'}", f"--key-file={folder / 'key'}",
        f"--listen=127.0.0.1:{port}", f"--setter-socket={folder / 's.sock'}", f"--state-dir={folder / 'agent'}",
    )  # fmt: skip


def _write_files(folder: Path, port: int) -> None:
    (folder / "key").write_text(KEY)
    config = {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(config))


async def _kubelet(path: Path, uuids: Sequence[str]) -> grpc.aio.Server:
    """Answer PodResources with one pod per GPU."""
    answer = b"".join(resources.listed("llm", f"chat-{index}", "engine", [uuid]) for index, uuid in enumerate(uuids))

    async def listing(_request: bytes, _context: object) -> bytes:
        return answer

    server = grpc.aio.server()
    handlers = {resources.METHOD: grpc.unary_unary_rpc_method_handler(listing)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(resources.SERVICE, handlers),))
    server.add_insecure_port(f"unix://{path}")
    await server.start()
    return server


async def _api(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a list with one NodeCap, and a watch with silence until its peer leaves."""
    try:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode():
            if "watch=true" in head:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                await reader.read()
                return
            body = json.dumps({"metadata": {"resourceVersion": "1"}, "items": [_node_cap()]}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
            writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    except (ConnectionError, asyncio.IncompleteReadError):
        return
    finally:
        writer.close()


def _node_cap() -> dict[str, object]:
    caps = {"lowMegahertz": 1560, "highMegahertz": 1830}
    safe = {"clockMegahertz": 1110, "powerLimitWatts": 400}
    power = {"epoch": 1, "sequence": 1, "leaseSeconds": 4, "caps": caps, "highPods": [], "safe": safe}
    return {
        "apiVersion": "capstan.dev/v1alpha1", "kind": "NodeCap",
        "metadata": {"name": NODE, "resourceVersion": "1"}, "spec": {"power": power},
    }  # fmt: skip


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _memory(pid: int) -> tuple[int, int]:
    """Return resident bytes, and those of them that no other process shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return kib["Rss"] * 1024, (kib["Private_Clean"] + kib["Private_Dirty"]) * 1024


def _cpu_s(pid: int) -> float:
    """Return CPU seconds of a process so far (proc(5): fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
