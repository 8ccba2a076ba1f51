"""Capstan, installed and serving on the real node: what the tests may look at and do.

Who calls it: `e2e/test_real_kubelet.py`. Everything that it made in the cluster is gone after `close`; the cluster is
the caller's.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from rig.nvml import build
from rig.nvml.state import Caps, State
from rig.proof.monitor import Monitor
from rig.proof.plant import Change, Plant
from rig.realnode import scene
from rig.realnode.cluster import NODE, ROOT, CallError, Cluster, Document

READY_S = 120.0
POLL_S = 0.2
STEADY_S = 3.0  # three turns of the agent
MIB = 1 << 20
AGENT_PORT = 9808
QUIET, FULL = 0.1, 1.0  # loads: far below every threshold; the boards at 700 W
NO_PROMETHEUS = "http://prometheus-server.monitoring.svc:80"  # the chart's default; nobody has that name here
STOCK = Caps(None, scene.BOARD_W)


class BrokenError(RuntimeError):
    """Something that was waited for did not come true; the message says what."""


class Site:
    """A context manager."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._made = contextlib.ExitStack()
        self.state: State
        self.plant: Plant

    def __enter__(self) -> Site:
        with self._made as stack:
            self._drive(stack)
            self.cluster.build(f"{scene.IMAGE}:{scene.TAG}")
            stack.callback(self._remove)
            self._install()
            self._made = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()

    # --- look ----------------------------------------------------------------------------------------

    def wait(self, holds: Callable[[], bool], what: str, timeout_s: float = READY_S) -> float:
        """Wait until something is true; return how long it took. Raises BrokenError."""
        began_s = time.monotonic()
        while not holds():
            if time.monotonic() - began_s > timeout_s:
                raise BrokenError(f"expected within {timeout_s:g} s: {what}; boards: {self.boards()}")
            time.sleep(POLL_S)
        return time.monotonic() - began_s

    def boards(self) -> dict[str, Caps]:
        """Return what every board is set to, by uuid, as the driver has it."""
        return {uuid: self.state.caps(index) for index, uuid in enumerate(self.state.uuids)}

    def rests_at(self, wanted: Mapping[str, Caps]) -> bool:
        """Return whether every board is set to what is wanted of it, and none was set to anything else lately.

        An agent sets one board after the other: a look in between may find by chance what was never meant.
        """
        return self.boards() == wanted and not self.changes(wanted, time.monotonic() - STEADY_S)

    def pods(self, namespace: str, component: str = "") -> list[Document]:
        """Return the pods of a namespace that nobody deleted; of one component of ours."""
        chosen = [f"--selector=app.kubernetes.io/component={component}"] if component else []
        items = self.cluster.read("pods", "-n", namespace, *chosen)["items"]
        return [item for item in items if "deletionTimestamp" not in item["metadata"]]

    def pod(self, component: str) -> str:
        """Return the name of a pod of one component of ours."""
        return str(self.pods(scene.SYSTEM, component)[0]["metadata"]["name"])

    def engines(self, policy: str) -> list[str]:
        """Return the names of a policy's pods."""
        labelled = f"--selector=capstan.dev/policy={policy}"
        items = self.cluster.read("pods", "-n", scene.TENANTS, labelled)["items"]
        return [str(item["metadata"]["name"]) for item in items]

    def engine(self, policy: str) -> str:
        """Return the name of a policy's one pod."""
        (name,) = self.engines(policy)
        return name

    def held(self, policy: str) -> frozenset[str]:
        """Return the boards that the kubelet gave a policy's pod: what its container was told at its start."""
        code = "import os; print(os.environ['NVIDIA_VISIBLE_DEVICES'])"
        return frozenset(self.cluster.inside(scene.TENANTS, self.engine(policy), "engine", code).strip().split(","))

    def ask_setter(self, verb: str) -> Mapping[str, Any]:
        """Ask the setter's socket as the agent's own user does."""
        code = (
            "import json, socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/capstan/setter.sock'); "
            f"s.sendall(json.dumps({{'verb': '{verb}'}}).encode() + b'\\n'); print(s.makefile().readline())"
        )
        found: Mapping[str, Any] = json.loads(self.cluster.inside(scene.SYSTEM, self.pod("agent"), "agent", code))
        return found

    def answers(self) -> bool:
        """Return whether there is an agent's pod whose setter answers; not while either is on its way."""
        try:
            return self.ask_setter("devices")["ok"] is True
        except (CallError, LookupError, ValueError):
            return False

    def condition(self, kind: str) -> tuple[str, str, str]:
        """Return status, reason and message of a condition of the rack; empty where there is none."""
        found = self.cluster.read("powerdomain", scene.RACK).get("status", {}).get("conditions", ())
        return next(((c["status"], c["reason"], c["message"]) for c in found if c["type"] == kind), ("", "", ""))

    def mapped(self, pod: str) -> set[str]:
        """Return the boards' numbers under a tenant's pod, as the agent's `/metrics` has them at its pod's address."""
        address = self.pods(scene.SYSTEM, "agent")[0]["status"]["podIP"]
        page = httpx.get(f"http://{address}:{AGENT_PORT}/metrics", timeout=5).raise_for_status().text
        labels = f'namespace="{scene.TENANTS}",node="{NODE}",pod="{pod}"'
        return set(
            re.findall(rf'^capstan_agent_gpu_power_watts{{gpu="(\d+)",{re.escape(labels)}}}', page, re.MULTILINE)
        )

    def safe(self) -> Caps:
        """Return the safe setting that the node's NodeCap names."""
        found = self.cluster.read("nodecap", NODE)["spec"]["power"]["safe"]
        return Caps(found["clockMegahertz"], found["powerLimitWatts"])

    def memory(self) -> list[tuple[str, float, float]]:
        """Return each container of ours with the MiB that the kubelet counts and those of its limit."""
        limits = {
            (pod["metadata"]["name"], c["name"]): float(c["resources"]["limits"]["memory"].removesuffix("Mi"))
            for pod in self.pods(scene.SYSTEM)
            for c in pod["spec"]["containers"]
        }
        summary = json.loads(self.cluster.kubectl("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/stats/summary"))
        used = {
            (pod["podRef"]["name"], c["name"]): c["memory"]["workingSetBytes"] / MIB
            for pod in summary["pods"]
            for c in pod["containers"]
        }
        return [(" ".join(key), used[key], limit) for key, limit in limits.items()]

    def changes(self, boards: Iterable[str], since_s: float) -> list[Change]:
        """Return what some boards were set to since a monotonic time, tenths of a second apart."""
        indices = {self.state.uuids.index(uuid) for uuid in boards}
        return [change for change in tuple(self.plant.changes) if change.at_s >= since_s and change.gpu in indices]

    def restarts(self, container: str) -> int:
        """Return how often the kubelet started a container of the agent's pod again."""
        return int(self._container(container)["restartCount"])

    def _container(self, name: str) -> Document:
        found: list[Document] = self.pods(scene.SYSTEM, "agent")[0]["status"]["containerStatuses"]
        return next(one for one in found if one["name"] == name)

    # --- do ------------------------------------------------------------------------------------------

    def mode(self, mode: str) -> None:
        """Ask the rack to arm, or release it."""
        patch = json.dumps({"spec": {"mode": mode}})
        self.cluster.kubectl("patch", "powerdomain", scene.RACK, "--type=merge", "-p", patch)

    def upgrade(self) -> None:
        """Run `helm upgrade` with the same chart and values."""
        self._helm("upgrade")

    def scale(self, deployment: str, replicas: int) -> None:
        """Start or end processes of ours."""
        self.cluster.kubectl("scale", "-n", scene.SYSTEM, f"deployment/{deployment}", f"--replicas={replicas}")

    def kill(self, container: str) -> None:
        """Kill -9 the first process of a container of the agent's pod, from outside."""
        identity = str(self._container(container)["containerID"]).rpartition("/")[2]
        held = (path for path in Path("/proc").glob("[0-9]*/cgroup") if identity in _text(path))
        os.kill(min(int(path.parent.name) for path in held), signal.SIGKILL)

    def apply(self, *documents: Mapping[str, Any], manager: str = "kubectl") -> None:
        """Apply objects server-side."""
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        self.cluster.kubectl("apply", "--server-side", f"--field-manager={manager}", "-f", "-", stdin=listed)

    def _drive(self, stack: contextlib.ExitStack) -> None:
        """Put the fake driver where the pods find it, and let its boards draw."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="driver-")))
        folder.chmod(0o755)  # the agent is not root
        build.build(folder)
        self.state = State.create(folder / "nvml.state", scene.uuids())
        stack.callback(self.state.close)
        self._folder = folder
        rack = {scene.RACK: (NODE,)}
        self.plant = stack.enter_context(Plant({NODE: self.state}, Monitor(rack), Monitor(rack)))
        self.plant.load(QUIET)

    def _install(self) -> None:
        cluster = self.cluster
        cluster.kubectl("label", "node", NODE, "--overwrite", *(f"{k}={v}" for k, v in scene.LABELS.items()))
        self.apply(*scene.namespaces())
        self._helm("install")
        cluster.kubectl("apply", "-f", str(ROOT / "policies" / "profiles"))
        self.apply(*scene.policies(), scene.domain())

    def _helm(self, verb: str) -> None:
        chosen, chart = self._folder / "values.json", str(ROOT / "charts" / "capstan")
        chosen.write_text(json.dumps(scene.values(str(self._folder), NO_PROMETHEUS)), encoding="utf-8")
        self.cluster.helm(verb, "capstan", chart, "-n", scene.SYSTEM, "-f", str(chosen), "--wait", "--timeout=150s")

    def _remove(self) -> None:
        """Release first, delete policies while the operator lives, then the release and the namespaces."""
        steps = (
            lambda: self.mode("Advise"),
            lambda: self.cluster.kubectl("delete", "servingpolicy", "-n", scene.TENANTS, "--all", "--timeout=60s"),
            lambda: self.cluster.kubectl("delete", "powerdomain", "--all", "--timeout=60s"),
            lambda: self.cluster.helm("uninstall", "capstan", "-n", scene.SYSTEM, "--wait", "--timeout=60s"),
            lambda: self.cluster.kubectl("delete", "namespace", scene.TENANTS, scene.SYSTEM, "--timeout=90s"),
            lambda: self.cluster.kubectl("delete", "nodecap", "--all", "--timeout=30s"),
        )
        for step in steps:
            with contextlib.suppress(CallError):
                step()


def _text(path: Path) -> str:
    """Return a file of a process; empty where that ended meanwhile."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
