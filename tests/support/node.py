"""A whole node for tests: setter and agent on the fake driver, a kubelet, and an API server for one NodeCap."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx

from rig.nvml import state
from support import agent, kubelet

UUIDS = ("GPU-aaaa", "GPU-bbbb")
NODE = "gpu-0"
KEY = "a shared secret"


def _line(kind: str, stored: dict[str, object]) -> bytes:
    """One watch event."""
    return json.dumps({"type": kind, "object": stored}).encode() + b"\n"


class Api:
    """Lists and watches NodeCaps; `put` changes the one that there is."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.version = 1
        self.stored: dict[str, object] | None = None
        self.watchers: list[queue.SimpleQueue[bytes]] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if "watch=true" in self.path:
                    api.stream(self)
                    return
                items = [] if api.stored is None else [api.stored]
                body = json.dumps({"metadata": {"resourceVersion": str(api.version)}, "items": items}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stream(self, handler: BaseHTTPRequestHandler) -> None:
        """Send events until the server ends."""
        mine: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        since = int(parse_qs(urlsplit(handler.path).query)["resourceVersion"][0])
        with self.lock:
            self.watchers.append(mine)
            if self.stored is not None and since < self.version:
                mine.put(_line("ADDED", self.stored))
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while line := mine.get():
            handler.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            handler.wfile.flush()

    def put(self, spec: dict[str, object]) -> None:
        """Write the node's NodeCap."""
        with self.lock:
            kind, self.version = "MODIFIED" if self.stored else "ADDED", self.version + 1
            self.stored = {
                "apiVersion": "capstan.dev/v1alpha1", "kind": "NodeCap",
                "metadata": {"name": NODE, "uid": "u", "generation": 1, "resourceVersion": str(self.version)},
                "spec": spec,
            }  # fmt: skip
            for watcher in self.watchers:
                watcher.put(_line(kind, self.stored))

    def close(self) -> None:
        """End every watch and the server."""
        for watcher in self.watchers:
            watcher.put(b"")
        self.server.shutdown()
        self.server.server_close()


class Node:
    """Two H100s with their processes. Sockets and files lie in `folder`.

    Its NodeCap comes from a server of its own, or from a real one where a kubeconfig is given. `hurried`: its
    processes wait a fifth of their time.
    """

    def __init__(
        self,
        library: Path,
        folder: Path,
        port: int,
        *,
        host: str = "127.0.0.1",
        kubeconfig: Path | None = None,
        hurried: bool = False,
    ) -> None:
        self._hurried = hurried
        self.gpus = state.State.create(folder / "nvml.state", UUIDS)
        self.api = Api()
        self.owners: dict[str, tuple[str, str]] = {UUIDS[0]: ("llm", "chat-1"), UUIDS[1]: ("llm", "batch-1")}
        self.sequence = 0
        self._folder, self._listen = folder, f"{host}:{port}"
        self._kubeconfig = kubeconfig or folder / "kubeconfig"
        self._env = agent.environment(library, folder / "nvml.state")
        self._stack = ExitStack()
        self._http = self._stack.enter_context(httpx.Client(base_url=f"http://{self._listen}", trust_env=False))
        self._kubelet = kubelet.serve(folder / "kubelet.sock", lambda: kubelet.pod_list(self.owners))
        (folder / "key").write_text(KEY)
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.api.server.server_port}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        users = [{"name": "u", "user": {"token": "t"}}]
        config = {"current-context": "c", "clusters": [cluster], "contexts": [context], "users": users}
        (folder / "kubeconfig").write_text(json.dumps(config))

    @property
    def socket(self) -> Path:
        """The setter's socket."""
        return self._folder / "s.sock"

    def start(self) -> None:
        """Start both at once, as a kubelet does, and wait for both."""
        self._begin_setter(3.0)
        self._begin_agent()
        agent.until(lambda: agent.listens(self.socket))
        agent.until(self._sampled)

    def setter(self, watchdog_s: float = 3.0) -> subprocess.Popen[bytes]:
        """Start a setter and wait until it listens."""
        made = self._begin_setter(watchdog_s)
        agent.until(lambda: agent.listens(self.socket))
        return made

    def agent(self) -> subprocess.Popen[bytes]:
        """Start an agent and wait until it has sampled."""
        made = self._begin_agent()
        agent.until(self._sampled)
        return made

    def _begin_setter(self, watchdog_s: float) -> subprocess.Popen[bytes]:
        args = (
            "setter", f"--socket={self.socket}", f"--pod-resources-socket={self._folder}/kubelet.sock",
            f"--state-dir={self._folder}/setter-kept", "--min-clock-mhz=210", f"--watchdog-seconds={watchdog_s}",
        )  # fmt: skip
        return self._stack.enter_context(agent.process(*args, env=self._env, hurried=self._hurried))

    def _begin_agent(self) -> subprocess.Popen[bytes]:
        args = (
            "agent", f"--node={NODE}", f"--kubeconfig={self._kubeconfig}", f"--key-file={self._folder}/key",
            f"--listen={self._listen}", f"--setter-socket={self.socket}", f"--state-dir={self._folder}/kept",
        )  # fmt: skip
        return self._stack.enter_context(agent.process(*args, env=self._env, hurried=self._hurried))

    def _sampled(self) -> bool:
        try:
            return "capstan_agent_sample_sequence" in self.metrics()
        except httpx.TransportError:
            return False

    def metrics(self) -> str:
        """What a scrape of the agent reads."""
        return self._http.get("/metrics").text

    def call(
        self, sequence: int, caps: dict[str, object], *, epoch: int = 1, lease_s: float = 30, key: str = KEY
    ) -> httpx.Response:
        """Make one lease call."""
        body = {"epoch": epoch, "sequence": sequence, "leaseSeconds": lease_s, "caps": caps}
        return self._http.post("/v1/lease", json=body, headers={"Authorization": f"Bearer {key}"})

    def grant(self, sequence: int, caps: dict[str, object], *, high: Sequence[str] = ("chat-1",)) -> None:
        """Write `spec.power` into our NodeCap, with a safe setting of 1110 MHz and 400 W."""
        power = {
            "epoch": 1, "sequence": sequence, "leaseSeconds": 4, "caps": caps,
            "highPods": [{"namespace": "llm", "name": name} for name in high],
            "safe": {"clockMegahertz": 1110, "powerLimitWatts": 400},
        }  # fmt: skip
        self.api.put({"power": power})

    def until_armed(self) -> None:
        """Wait until the agent acts on its first NodeCap: only an armed node has its board limits written."""
        agent.until(lambda: all(self.gpus.writes(i).limit > 0 for i in range(len(UUIDS))))

    def until_caps(self, *wanted: tuple[int | None, float], timeout_s: float = 8.0) -> None:
        """Wait until the driver holds (clock, limit) per GPU."""
        expected = [state.Caps(*caps) for caps in wanted]
        agent.until(lambda: [self.gpus.caps(i) for i in range(len(expected))] == expected, timeout_s)

    def stop_kubelet(self) -> None:
        """End PodResources."""
        self._kubelet.stop(None).wait()

    def close(self) -> None:
        """End everything."""
        self._stack.close()
        self.stop_kubelet()
        self.api.close()
        self.gpus.close()
