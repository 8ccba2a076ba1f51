"""The processes of the proof: agent, setter and a kubelet's PodResources per server, and the `capstan power` replicas.

Who calls it: `site`. All belong to the control plane's supervisor, which ends them by id on every way out.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

import grpc

from rig import gate, process
from rig.nvml.state import State
from rig.proof import scene
from rig.proof.scene import Server
from rig.simulator import resources

CAPSTAN = (sys.executable, "-m", "capstan")
KEY = "a shared secret"
OPERATOR = "operator"
BEHIND_PORT = 9809  # of an agent with a gate before its own port
_MOVED = re.compile(r"domain (\S+): (\w+) -> (\w+) \((\w+)\)")


@dataclass(frozen=True, slots=True)
class Moved:
    """A transition that a leader logged; `time` is wall time as it wrote it."""

    time: str
    domain: str
    before: str
    after: str
    reason: str


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are: files, the namespace of ours, that of the tenants, kubeconfigs."""

    folder: Path
    library: Path
    namespace: str
    tenants: str
    kubeconfig: Path


@dataclass(frozen=True, slots=True)
class Network:
    """What an agent's network goes through: calls of power to it, and its own to the API server."""

    calls: gate.Gate
    api: gate.Gate


class Servers:
    """What runs on the servers."""

    def __init__(self, places: Places, supervisor: process.Supervisor, standing: tuple[Server, ...]) -> None:
        self._places = places
        self._supervisor = supervisor
        self._standing = {server.name: server for server in standing}
        self._kubelets: list[grpc.Server] = []
        self.states = {server.name: State.create(self._at(server) / "nvml.state", server.uuids) for server in standing}
        (places.folder / "key").write_text(KEY, encoding="utf-8")

    def start(self, *, gates: gate.Gates | None) -> dict[str, Network]:
        """Start everything; return what each agent's network goes through, where gates are given."""
        found = {}
        for server in self._standing.values():
            self._kubelets.append(_kubelet(self._at(server) / "pods.sock", self._places.tenants, server))
            self._supervisor.start(f"setter-{server.name}", self._setter(server), env=self._env(server))
            port, kubeconfig = scene.AGENT_PORT, self._places.kubeconfig
            if gates is not None:
                to_it, _ = gates.serve((server.address, BEHIND_PORT), at=(server.address, port))
                port, kubeconfig = BEHIND_PORT, self._at(server) / "kubeconfig"
                found[server.name] = Network(to_it, gates.before_api(self._places.kubeconfig, kubeconfig))
            argv = self._agent(server, f"{server.address}:{port}", kubeconfig)
            self._supervisor.start(f"agent-{server.name}", argv, env=self._env(server))
        return found

    def close(self) -> None:
        """End what is not the supervisor's."""
        for kubelet in self._kubelets:
            kubelet.stop(None).wait()
        for server in self._standing.values():
            for kind in ("agent", "setter"):
                forget(self._supervisor, f"{kind}-{server.name}")

    def _at(self, server: Server) -> Path:
        return self._places.folder / server.name

    def _env(self, server: Server) -> dict[str, str]:
        at = self._at(server)
        return {"LD_LIBRARY_PATH": str(self._places.library.parent), "CAPSTAN_FAKE_NVML_STATE": str(at / "nvml.state")}

    def _setter(self, server: Server) -> tuple[str | Path, ...]:
        at = self._at(server)
        return (
            *CAPSTAN, "setter", f"--socket={at}/s.sock", f"--pod-resources-socket={at}/pods.sock",
            f"--state-dir={at}/setter", "--min-clock-mhz=210",
        )  # fmt: skip

    def _agent(self, server: Server, listen: str, kubeconfig: Path) -> tuple[str | Path, ...]:
        at = self._at(server)
        return (
            *CAPSTAN, "agent", f"--node={server.name}", f"--kubeconfig={kubeconfig}",
            f"--key-file={self._places.folder}/key", f"--listen={listen}", f"--setter-socket={at}/s.sock",
            f"--state-dir={at}/agent",
        )  # fmt: skip


class Replicas:
    """The `capstan power` processes, by identity."""

    def __init__(self, places: Places, supervisor: process.Supervisor, *, factor: float, prometheus_url: str) -> None:
        self._places = places
        self._supervisor = supervisor
        self._args = (f"--timer-factor={factor:g}", *([f"--prometheus-url={prometheus_url}"] if prometheus_url else []))
        self._count = 0

    def start(self) -> str:
        """Start one more replica and return its name."""
        self._count += 1
        name = f"power-{self._count}"
        argv = (
            *CAPSTAN, "power", f"--kubeconfig={self._places.kubeconfig}", f"--namespace={self._places.namespace}",
            f"--key-file={self._places.folder}/key", "--listen=127.0.0.1:0", f"--identity={name}", *self._args,
        )  # fmt: skip
        self._supervisor.start(name, argv)
        return name

    def start_operator(self, prometheus_url: str) -> None:
        """Start a `capstan operator`, which has no part in holding a budget."""
        argv = (
            *CAPSTAN, "operator", f"--kubeconfig={self._places.kubeconfig}", f"--namespace={self._places.namespace}",
            f"--prometheus-url={prometheus_url}", "--listen=127.0.0.1:0",
        )  # fmt: skip
        self._supervisor.start(OPERATOR, argv)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that run."""
        known = (f"power-{i + 1}" for i in range(self._count))
        return tuple(name for name in known if name in self._supervisor.children)

    def kill(self, name: str) -> None:
        """Kill -9."""
        self._supervisor.signal(name, signal.SIGKILL)
        forget(self._supervisor, name)

    def stop(self, name: str) -> None:
        """SIGTERM, as a rolling update does."""
        forget(self._supervisor, name)

    def close(self) -> None:
        """End all, and the operator."""
        for name in (*self.names, OPERATOR):
            forget(self._supervisor, name)

    def moved(self) -> list[Moved]:
        """Return all transitions that any of them logged, in order of time."""
        found = []
        for i in range(self._count):
            log = self._supervisor.folder / "log" / f"power-{i + 1}.log"
            found += [moved for line in _lines(log) if (moved := self.parsed(line)) is not None]
        return sorted(found, key=lambda moved: moved.time)

    @staticmethod
    def parsed(line: str) -> Moved | None:
        """Return what a line of a log says; None where it is no transition, or not whole yet."""
        if '"domain ' not in line or not line.startswith("{") or not line.endswith("}"):
            return None
        said = json.loads(line)
        found = _MOVED.fullmatch(str(said.get("message")))
        return None if found is None else Moved(str(said["time"]), *found.groups())


def forget(supervisor: process.Supervisor, name: str) -> None:
    """End a child, if it is there, and let nobody be alarmed by its absence."""
    if name in supervisor.children:
        supervisor.stop(name)
        del supervisor.children[name]


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []


def _kubelet(path: Path, namespace: str, server: Server) -> grpc.Server:
    """Answer PodResources with the pods of a server."""
    answer = b"".join(resources.listed(namespace, name, "main", [uuid]) for uuid, name in server.pods.items())
    handler = grpc.unary_unary_rpc_method_handler(_always(answer))
    made = grpc.server(futures.ThreadPoolExecutor(1))
    made.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(resources.SERVICE, {resources.METHOD: handler}),)
    )
    made.add_insecure_port(f"unix://{path}")
    made.start()
    return made


def _always(answer: bytes) -> Callable[[bytes, object], bytes]:
    def listing(_request: bytes, _context: object) -> bytes:
        return answer

    return listing
