"""`capstan power` against a real API server, with a real setter and agent on the fake driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from rig import gate
from support import agent, node
from support.rig import ApiServer, eventually

AGENT_PORT = 9808
RACK = "capstan.node-restriction.kubernetes.io/rack"


@pytest.fixture
def address() -> str:
    """A loopback address of this test run's own: a demo beside it has its agents on other ones."""
    return f"127.91.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"


@pytest.fixture
def server(
    api_server: ApiServer, namespace: str, address: str, tmp_path: Path, nvml_library: Path
) -> Iterator[node.Node]:
    """A GPU node that no other test's pods are scheduled on, with its agent's pod, setter and agent."""
    kubectl = api_server.control_plane.kubectl
    room = {"cpu": "8", "memory": "64Gi", "pods": "10", "nvidia.com/gpu": "2"}
    of_ours = {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": node.NODE, "labels": {RACK: namespace}},
        "spec": {"taints": [{"key": "only", "value": "power", "effect": "NoSchedule"}]},
        "status": {"capacity": room, "allocatable": room, "addresses": [{"type": "InternalIP", "address": address}]},
    }  # fmt: skip
    labels = {"app.kubernetes.io/name": "capstan", "app.kubernetes.io/component": "agent"}
    agent_pod = {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "agent", "namespace": namespace, "labels": labels},
        "spec": {"nodeName": node.NODE, "hostNetwork": True, "containers": [{"name": "agent", "image": "capstan"}]},
    }  # fmt: skip
    kubectl("create", "-f", "-", stdin=json.dumps(of_ours))
    kubectl("create", "-f", "-", stdin=json.dumps(agent_pod))
    made = node.Node(nvml_library, tmp_path, AGENT_PORT, host=address, kubeconfig=api_server.kubeconfig)
    made.setter()
    made.agent()
    yield made
    made.close()
    free = '{"metadata":{"finalizers":[]}}'  # nobody is left to let it go
    kubectl("patch", "powerdomain", "rack-7", "--type=merge", "-p", free, check=False)
    kubectl("delete", "nodecaps,powerdomains,powerledgers", "--all")
    kubectl("delete", "node", node.NODE)


def domain(rack: str, budget_w: int, **more: object) -> str:
    """A rack of that one node. 2 GPUs at 700 W and 500 W beside them: (1400 x 1.05 + 500) / 0.94 = 2,096 W at worst."""
    spec = {
        "type": "Rack",
        "nodeSelector": {"matchLabels": {RACK: rack}},
        "budgetWatts": budget_w,
        "nonGPUWattsPerNode": {"typical": 400, "worstCase": 500},
        "powerSupplyEfficiencyPercent": 94,
        "mode": "Act",
        **more,
    }
    return json.dumps(
        {"apiVersion": "capstan.dev/v1alpha1", "kind": "PowerDomain", "metadata": {"name": "rack-7"}, "spec": spec}
    )


def test_a_domain_is_armed_held_over_a_crash_capped_and_released(
    api_server: ApiServer, namespace: str, server: node.Node, tmp_path: Path
) -> None:
    kubectl = api_server.control_plane.kubectl

    def stored(kind: str, name: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(kubectl("get", kind, name, "-o", "json", "--show-managed-fields").stdout)
        return found

    def state() -> object:
        status = stored("powerdomain", "rack-7").get("status")
        return status["state"] if isinstance(status, dict) else None

    args = (
        "power", f"--kubeconfig={api_server.kubeconfig}", f"--namespace={namespace}", f"--key-file={tmp_path}/key",
        "--listen=127.0.0.1:0",
    )  # fmt: skip
    kubectl("apply", "--server-side", "-f", "-", stdin=domain(namespace, 4000))
    with agent.process(*args, "--identity=first", env=dict(os.environ)) as first:
        eventually(lambda: state() == "Normal", "the domain armed and Normal", timeout_s=60)
        server.until_armed()
        server.until_caps((None, 700), (None, 700))
        cap: dict[str, Any] = stored("nodecap", node.NODE)
        power = cap["spec"]["power"]
        assert power["safe"] == {"clockMegahertz": 1560, "powerLimitWatts": 700}  # not oversubscribed: the stock limit
        assert [f["manager"] for f in cap["metadata"]["managedFields"]] == ["capstan-power"]
        first.send_signal(signal.SIGKILL)
        killed_s = time.monotonic()
        server.until_caps((1560, 700), (1560, 700))
        assert time.monotonic() - killed_s < 8, "a 4 s lease and the agent's own second"
    kubectl("-n", namespace, "delete", "lease", "capstan-power")  # its 15 s are another test's matter
    with agent.process(*args, "--identity=second", env=dict(os.environ)):
        server.until_caps((None, 700), (None, 700), timeout_s=15)
        for index in range(2):
            server.gpus.report(index, power_w=690, energy_j=1, sm_clock_mhz=1300)
        kubectl("apply", "--server-side", "-f", "-", stdin=domain(namespace, 2400))
        cut_s = time.monotonic()
        server.until_caps((1560, 700), (1560, 700))  # (1380 + 400) / 0.94 = 1,894 W of 2,400 W: 78.9 %
        assert time.monotonic() - cut_s < 5, "promise P1 leaves 10 s from the crossing"
        eventually(lambda: state() in {"LowDeep", "HighCap"}, "the state in status", timeout_s=40)
        seen = kubectl("get", "events", "-A", "-o", "jsonpath={.items[*].note}{.items[*].message}").stdout
        assert "Normal -> LowDeep" in seen
        kubectl("delete", "powerdomain", "rack-7")
        server.until_caps((None, 700), (None, 700))


def test_a_crash_an_upgrade_and_an_api_outage_cap_nothing_and_delay_no_cap(
    api_server: ApiServer, namespace: str, server: node.Node, tmp_path: Path
) -> None:
    """Two GPUs at 500 W: (1000 + 400) / 0.94 = 1,489 W of 2,500 W, 59.6 %; at 690 W 1,894 W, 75.7 %: LowDeep."""
    kubectl = api_server.control_plane.kubectl

    def draw(watts: float) -> None:
        for index in range(2):
            server.gpus.report(index, power_w=watts, energy_j=1, sm_clock_mhz=1300)

    def holder() -> str:
        lease = kubectl("-n", namespace, "get", "lease", "capstan-power", "-o", "jsonpath={.spec.holderIdentity}")
        return lease.stdout

    def stays(seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s and not until():
            assert [server.gpus.caps(index).clock_cap_mhz for index in range(2)] == [None, None]
            time.sleep(0.05)

    def power(identity: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        return agent.process(
            "power", f"--kubeconfig={tmp_path}/gated", f"--namespace={namespace}", f"--key-file={tmp_path}/key",
            "--listen=127.0.0.1:0", f"--identity={identity}", env=dict(os.environ),
        )  # fmt: skip

    draw(500)
    kubectl("apply", "--server-side", "-f", "-", stdin=domain(namespace, 2500))
    with (
        gate.before(api_server.kubeconfig, tmp_path / "gated") as way,
        power("first") as first,
        power("second") as second,
    ):
        server.until_armed()
        leader, standby = (first, second) if holder() == "first" else (second, first)
        names = ("second", "third") if leader is first else ("first", "third")
        time.sleep(3)  # the standby's caches
        leader.send_signal(signal.SIGKILL)
        stays(30, until=lambda: holder() == names[0])
        assert holder() == names[0], "15 s of the dead one's Lease, and a look"
        with power("third"):
            time.sleep(3)
            standby.send_signal(signal.SIGTERM)
            began_s = time.monotonic()
            stays(5, until=lambda: holder() == "third")
            assert time.monotonic() - began_s < 4, "a Lease that is released is taken within 3 s"
            stays(3)
            way.shut()
            stays(14)  # nobody can renew a Lease for longer than 10 s
            draw(690)
            server.until_caps((1560, 700), (1560, 700))
            assert "capstan_agent_safe_setting{" in server.metrics()
            assert f'capstan_agent_safe_setting{{node="{node.NODE}"}} 0.0' in server.metrics()
            way.open()


def test_a_grant_is_in_the_boards_and_outlives_everybody(
    api_server: ApiServer, namespace: str, server: node.Node, tmp_path: Path
) -> None:
    """1,800 W: (0.94 x 1,800 x 0.97 - 500) / (2 x 1.05) = 543 W a board."""
    kubectl = api_server.control_plane.kubectl

    def entry() -> dict[str, object]:
        found = kubectl("get", "powerledger", "rack-7", "-o", "jsonpath={.spec.entries[0]}", check=False).stdout
        made: dict[str, object] = json.loads(found or "{}")
        return made

    def held(*limits_w: float) -> bool:
        return [server.gpus.caps(index).power_limit_w for index in range(2)] == list(limits_w)

    args = (
        "power", f"--kubeconfig={api_server.kubeconfig}", f"--namespace={namespace}", f"--key-file={tmp_path}/key",
        "--listen=127.0.0.1:0", "--identity=only",
    )  # fmt: skip
    kubectl("apply", "--server-side", "-f", "-", stdin=domain(namespace, 1800, strategy="Guaranteed"))
    with agent.process(*args, env=dict(os.environ)) as power:
        eventually(lambda: held(543, 543), "the grant's limit in both boards", timeout_s=60)
        eventually(lambda: entry().get("heldWatts") == 1800, "the nameplate freed, once the limit was read back")
        power.send_signal(signal.SIGKILL)
    time.sleep(5)  # its lease of 4 s is over
    assert held(543, 543), "grants do not expire"
