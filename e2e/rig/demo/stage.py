"""Builds up everything that the demo runs on, step by step on screen, and takes all of it down again.

Each step is one method, in the order in which `play` calls them; the processes belong to the control plane's
supervisor, which ends them in reverse order on every way out.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import httpx
import yaml

from capstan.forecast.calendar import DAY_S
from capstan.replay.nodes import Node
from rig import binaries, components, objects, prometheus
from rig.controlplane import PROGRAMS, ControlPlane
from rig.nvml import build as nvml
from rig.simulator.sd import AGENT_PORT
from rig.simulator.server import ENGINE_PORT

ROOT = Path(__file__).resolve().parents[3]
PROFILES = ROOT / "policies" / "profiles"
NEEDED = (*PROGRAMS, "prometheus", "helm")
NAMESPACE = "capstan-system"
RELEASE = "capstan"
SCRAPE_S = 2
WATCHDOG_S = 3  # contract: silence of 3 s while a cap is armed
WAIT_S = 60
READY_S = 90.0  # start-up is shortened to seconds; a machine that does other things at once needs longer
GPU_PRESENT = "nvidia.com/gpu.present"  # what GPU feature discovery sets, and the chart's agent selects
AGENT_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/component%3Dagent"
KEY_SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/capstan-agent-key"
POD_PREFIX = components.POD_CIDR.rpartition(".0/")[0]
CAPSTAN = (sys.executable, "-m", "capstan")

Say = Callable[[str], None]


@dataclass(slots=True)
class Stage:
    """A running rig with Capstan on it (or not).

    Attributes:
        control: The control plane; its folder holds everything.
        out: Where the demo's output goes.
        say: Prints one line of the story.
        prometheus_url: Set once it runs.
        operator_port: Where the operator's `/metrics` and `/readyz` are.
    """

    control: ControlPlane
    out: Path
    say: Say
    prometheus_url: str = ""
    operator_port: int = 0
    power_port: int = 0
    _operator: tuple[str, ...] = field(default=())

    @property
    def folder(self) -> Path:
        """Where the rig's own files are."""
        return self.control.folder

    @property
    def client(self) -> httpx.Client:
        """The cluster administrator's HTTP client."""
        return self.control.client

    # --- the cluster -------------------------------------------------------------------------------

    def nodes(self, nodes: Sequence[Node]) -> None:
        """Create the scenario's GPU nodes and wait until they are Ready."""
        for number, node in enumerate(nodes, start=1):
            labels = {**dict(node.labels), GPU_PRESENT: "true"}
            spec = objects.NodeSpec(gpus=node.gpus, product=node.gpu_product, labels=labels)
            body = objects.node(node.name, spec, address=f"127.88.{number >> 8}.{number & 255}")
            self.client.post("/api/v1/nodes", json=body).raise_for_status()
        wanted = {node.name for node in nodes}
        self.wait(lambda: objects.ready_nodes(self.client) >= wanted, "nodes Ready")
        self.say(f"  {len(nodes)} nodes, {sum(node.gpus for node in nodes)} simulated GPUs ({nodes[0].gpu_product})")

    def crds(self) -> None:
        """Apply our CustomResourceDefinitions, and wait until each kind answers.

        The API server opens the storage of a kind at the first request for it, and answers 429 until it is open.
        """
        names = self.control.apply_crds(ROOT / "crds")
        kinds = [f"/apis/capstan.dev/v1alpha1/{name.partition('.')[0]}" for name in names]
        self.wait(lambda: all([objects.answers(self.client, kind) for kind in kinds]), "our kinds served")  # noqa: C419 - ask for all at once
        self.say(f"  custom resources: {', '.join(name.partition('.')[0] for name in names)}")

    def simulator(self) -> None:
        """Start the serving simulator and the Prometheus that finds its targets through it."""
        self.operator_port, self.power_port = components.free_ports(2)
        argv = [sys.executable, "-m", "rig.simulator", f"--kubeconfig={self.control.kubeconfig_of('simulator')}",
                f"--dir={self.folder}", f"--profiles={PROFILES}",
                f"--extra-target=capstan-operator=127.0.0.1:{self.operator_port}",
                f"--extra-target=capstan-power=127.0.0.1:{self.power_port}"]  # fmt: skip
        self.control.supervisor.start("simulator", argv, env=self._python_path())
        announced = self.folder / "simulator.json"
        self.wait(announced.exists, "simulator")
        sd_url = json.loads(announced.read_text())["sd"]
        job = prometheus.Job("rig", sd_url=sd_url, honor_labels=True)
        self.prometheus_url = self.control.start_prometheus(prometheus.Config((job,), scrape_s=SCRAPE_S))
        self.say(f"  serving simulator, Prometheus (every {SCRAPE_S} s) on {self.prometheus_url}")

    def chart(self) -> None:
        """Install the chart with the real Helm: service accounts, least rights, the agents' DaemonSet, the key.

        Its Deployments get no replicas, because the two controllers run as processes of this machine.
        """
        helm = self.control.programs["helm"]
        settings = ("operator.replicas=0", "power.replicas=0", f"operator.prometheusUrl={self.prometheus_url}")
        argv = [str(helm.path), "install", RELEASE, str(ROOT / "charts" / "capstan"), f"--namespace={NAMESPACE}",
                "--create-namespace", "--skip-crds", *(f"--set={setting}" for setting in settings)]  # fmt: skip
        env = {"KUBECONFIG": str(self.control.kubeconfig), "HOME": str(self.folder), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"helm install: {done.stderr.strip()}")
        self.say(f"  $ helm install {RELEASE} charts/capstan --namespace {NAMESPACE}   (Helm {helm.version})")

    # --- Capstan's processes -----------------------------------------------------------------------

    def agents(self, nodes: Sequence[Node]) -> None:
        """Start a setter and an agent per node, each on the address of its DaemonSet pod."""
        library = nvml.build(self.folder / "lib")
        self._write_key()
        self.wait(lambda: len(self._agent_ips()) == len(nodes), "agent pods running")
        kubeconfig = self.control.service_account_kubeconfig(NAMESPACE, "capstan-agent")
        for node, ip in self._agent_ips().items():
            at = self.folder / "nodes" / node
            (at / "state").mkdir(parents=True, exist_ok=True)
            env = {"LD_LIBRARY_PATH": str(library.parent), "CAPSTAN_FAKE_NVML_STATE": str(at / "nvml.state")}
            setter = [*CAPSTAN, "setter", f"--socket={at / 'setter.sock'}", "--min-clock-mhz=210",
                      f"--state-dir={at / 'setter'}",
                      f"--pod-resources-socket={at / 'pod-resources.sock'}",
                      f"--watchdog-seconds={WATCHDOG_S}"]  # fmt: skip
            agent = [*CAPSTAN, "agent", f"--node={node}", f"--kubeconfig={kubeconfig}", f"--key-file={self._key_file}",
                     f"--listen={ip}:{AGENT_PORT}", f"--setter-socket={at / 'setter.sock'}",
                     f"--state-dir={at / 'state'}"]  # fmt: skip
            self.control.supervisor.start(f"setter-{node}", setter, env=env)
            self.control.supervisor.start(f"agent-{node}", agent, env=env)
        for node, ip in self._agent_ips().items():
            self.wait(partial(_answers, f"http://{ip}:{AGENT_PORT}/healthz"), f"agent of {node}")
        self.say(f"  {len(nodes)} setters and {len(nodes)} agents, one pair per node (NVML: the rig's fake library)")

    def start_controllers(
        self, periods: str, *, rate_window_s: float, day_s: float = DAY_S, with_power: bool = True
    ) -> None:
        """Start `capstan operator` and, unless told otherwise, `capstan power`."""
        self._operator = (
            *CAPSTAN,
            "operator",
            f"--kubeconfig={self.control.service_account_kubeconfig(NAMESPACE, 'capstan-operator')}",
            f"--namespace={NAMESPACE}",
            f"--prometheus-url={self.prometheus_url}",
            f"--periods={periods}",
            f"--rate-window={rate_window_s:g}",
            f"--day={day_s:g}",
            f"--listen=127.0.0.1:{self.operator_port}",
            f"--record={self.out / 'decisions.jsonl'}",
        )
        self.start_operator()
        self.say(f"  capstan operator, periods {periods} s (replicas, tensor parallelism, clocks)")
        if with_power:
            self._start_power()

    def _start_power(self) -> None:
        argv = [
            *CAPSTAN,
            "power",
            f"--kubeconfig={self.control.service_account_kubeconfig(NAMESPACE, 'capstan-power')}",
            f"--namespace={NAMESPACE}",
            "--identity=rig-power",
            f"--key-file={self._key_file}",
            "--tick-seconds=1",
            f"--listen=127.0.0.1:{self.power_port}",
        ]
        self.control.supervisor.start("power", argv)
        self.say("  capstan power, every second; both with their ServiceAccounts' rights and no more")

    def forget(self, name: str) -> None:
        """End a process that is no longer needed, so that nobody is alarmed by its absence."""
        self.control.supervisor.stop(name)
        del self.control.supervisor.children[name]

    def start_operator(self) -> None:
        """Start the operator, or a new one where the last was killed."""
        self.control.supervisor.start("operator", [*self._operator, f"--identity=rig-{time.time_ns()}"])

    @property
    def operator_pid(self) -> int | None:
        """Process id of the living operator."""
        child = self.control.supervisor.children.get("operator")
        return child.pid if child is not None and child.alive else None

    # --- objects -----------------------------------------------------------------------------------

    def apply(self, documents: Sequence[Mapping[str, object]], name: str) -> None:
        """`kubectl apply -f` some documents, shown on screen; they are left in the output folder."""
        path = self.out / name
        path.write_text(yaml.safe_dump_all(documents, sort_keys=False))
        self.say(f"  $ kubectl apply -f {name}")
        for line in self.control.kubectl("apply", "-f", str(path)).stdout.splitlines():
            self.say(f"    {line}")

    def patch(self, kind: str, name: str, patch: Mapping[str, object], *options: str) -> None:
        """`kubectl patch` one object, shown on screen."""
        text = json.dumps(patch)
        self.say(f"  $ kubectl patch {kind} {name} {' '.join(options)} --type=merge -p '{text}'".replace("  --", " --"))
        self.control.kubectl("patch", kind, name, *options, "--type=merge", "-p", text)

    def wait(self, ready: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
        """Wait for something; a process that ended meanwhile is an error that carries its last lines."""
        self.control.supervisor.wait_until(ready, what, timeout_s)

    def pods_ready(self, wanted: Mapping[str, int]) -> bool:
        """Return whether every policy (`namespace/name`) has its count of Ready pods."""
        return all(self._ready(policy) >= count for policy, count in wanted.items())

    def _ready(self, policy: str) -> int:
        namespace, _, name = policy.partition("/")
        path = f"/api/v1/namespaces/{namespace}/pods"
        pods = self.client.get(path, params={"labelSelector": f"capstan.dev/policy={name}"}).json()["items"]
        conditions = [pod["status"].get("conditions", ()) for pod in pods]
        return sum(any(c["type"] == "Ready" and c["status"] == "True" for c in cs) for cs in conditions)

    def _agent_ips(self) -> dict[str, str]:
        """Return the address of each node's agent pod."""
        pods = self.client.get(AGENT_PODS).json()["items"]
        return {p["spec"]["nodeName"]: p["status"]["podIP"] for p in pods if p["status"].get("podIP")}

    @property
    def _key_file(self) -> Path:
        return self.folder / "agent.key"

    def _write_key(self) -> None:
        """Take the key that the chart made out of its Secret, as the kubelet would mount it."""
        secret = cast(Mapping[str, Mapping[str, str]], self.client.get(KEY_SECRET).raise_for_status().json())
        self._key_file.touch(mode=0o600)
        self._key_file.write_bytes(base64.b64decode(secret["data"]["key"]))

    def _python_path(self) -> dict[str, str]:
        return {"PYTHONPATH": str(ROOT / "e2e")}


def programs() -> dict[str, binaries.Binary]:
    """Find or build every program.

    Raises:
        binaries.NotAvailable: Something cannot be had; one line says what to install.
    """
    return binaries.find(NEEDED)


def open_stage(folder: Path, out: Path, say: Say, programs: Mapping[str, binaries.Binary]) -> Stage:
    """Start the control plane.

    Raises:
        process.ChildError: A component did not come up.
        RuntimeError: Another rig has the pods' addresses.
    """
    _nobody_else()
    server = programs["kube-apiserver"]
    control = ControlPlane(folder, programs=programs).start()
    say(f"  control plane: kube-apiserver {server.version} ({server.source}), etcd, controllers, scheduler, KWOK")
    return Stage(control, out, say)


def _nobody_else() -> None:
    """Refuse to start beside a rig whose pods listen: two rigs would share the addresses of their pods.

    Raises:
        RuntimeError: One of the first addresses is taken.
    """
    for number in range(1, 9):
        for port in (ENGINE_PORT, AGENT_PORT):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what ended a moment ago does not count
                try:
                    probe.bind((f"{POD_PREFIX}.{number}", port))
                except OSError:
                    raise RuntimeError(
                        f"{POD_PREFIX}.{number}:{port} is taken: another demo, bench or test with pods runs on this "
                        "machine; let it end first"
                    ) from None


def close(folder: Path, stage: Stage | None, out: Path) -> None:
    """Stop everything and remove the folder; the logs of all processes stay beside the output."""
    if stage is not None:
        stage.control.stop()
    if (folder / "log").is_dir():
        shutil.rmtree(out / "log", ignore_errors=True)
        shutil.copytree(folder / "log", out / "log")
    shutil.rmtree(folder, ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        return False
