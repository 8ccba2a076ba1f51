"""The rig behaves as a cluster does where Capstan looks: placement, start-up, addresses, deletion, rights, audit."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from rig import components, objects, pki, process
from rig.controlplane import ControlPlane
from support import rig

ENGINE = {"capstan.dev/policy": "chat"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of this module's own, since tests here kill its parts; two nodes of 8 GPUs."""
    with rig.control_plane(tmp_path_factory.mktemp("rig")) as control_plane:
        control_plane.nodes(2)
        yield control_plane


def deployment(name: str, *, replicas: int = 2, gpus: int = 2, startup: str | None = None, engine: bool = False) -> str:
    """A Deployment of one-container pods that ask for GPUs; `engine`: the simulator is their kubelet."""
    template = {
        "metadata": {
            "labels": {"app": name} | (ENGINE if engine else {}),
            "annotations": {"rig.capstan.dev/startup": startup} if startup else {},
        },
        "spec": {
            "terminationGracePeriodSeconds": 60,
            "containers": [{"name": "engine", "image": "engine", "resources": {"limits": {"nvidia.com/gpu": gpus}}}],
        },
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return yaml.safe_dump({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec})


def pods(cluster: ControlPlane, app: str) -> list[dict[str, Any]]:
    """The pods of a Deployment."""
    answer = cluster.client.get("/api/v1/namespaces/default/pods", params={"labelSelector": f"app={app}"})
    return list(answer.json()["items"])


def condition(pod: dict[str, Any], kind: str) -> dict[str, Any]:
    """One condition of a pod; empty where it has none."""
    return next((c for c in pod["status"].get("conditions", []) if c["type"] == kind), {})


def ready(pod: dict[str, Any]) -> bool:
    """Whether a pod is Ready."""
    return condition(pod, "Ready").get("status") == "True"


def run(cluster: ControlPlane, manifest: str, app: str) -> list[dict[str, Any]]:
    """Apply a Deployment and return its pods once all of them are Ready."""
    cluster.kubectl("apply", "-f", "-", stdin=manifest)
    wanted = yaml.safe_load(manifest)["spec"]["replicas"]
    rig.eventually(lambda: sum(map(ready, pods(cluster, app))) == wanted, f"{wanted} Ready pods of {app}")
    return pods(cluster, app)


def seconds_between(earlier: str, later: str) -> float:
    """Seconds between two API times."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


@pytest.mark.integration
def test_engines_come_ready_after_their_start_up_with_addresses_of_their_own(cluster: ControlPlane) -> None:
    """Deployment controller and scheduler are real; KWOK starts the pods."""
    engines = run(cluster, deployment("slow", gpus=4, startup="3s"), "slow")
    for pod in engines:
        assert pod["status"]["podIP"].startswith("127.89.")
        assert pod["spec"]["nodeName"] in {"gpu-0", "gpu-1"}
        began, became = pod["status"]["startTime"], condition(pod, "Ready")["lastTransitionTime"]
        assert 2 <= seconds_between(began, became) <= 6  # both are cut to whole seconds
    others = run(cluster, deployment("quick"), "quick")
    addresses = [pod["status"]["podIP"] for pod in engines + others]
    assert len(set(addresses)) == 4
    cluster.kubectl("delete", "deployment", "slow", "quick")


@pytest.mark.integration
def test_a_node_without_free_gpus_leaves_pods_pending(cluster: ControlPlane) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=deployment("big", replicas=3, gpus=8))
    rig.eventually(lambda: sum(map(ready, pods(cluster, "big"))) == 2, "two of three pods Ready")
    rig.eventually(
        lambda: any(
            "Insufficient nvidia.com/gpu" in condition(p, "PodScheduled").get("message", "")
            for p in pods(cluster, "big")
        ),
        "the third told why it waits",
    )
    cluster.kubectl("delete", "deployment", "big")
    rig.eventually(lambda: not pods(cluster, "big"), "the pods' end")


@pytest.mark.integration
def test_a_deleted_engine_drains_until_its_kubelet_removes_it_while_a_plain_pod_vanishes(cluster: ControlPlane) -> None:
    """The serving simulator is the engines' kubelet: grace 0 is its word that the last request is done."""
    run(cluster, deployment("engine", engine=True), "engine")
    run(cluster, deployment("plain"), "plain")
    cluster.kubectl("delete", "deployment", "engine", "plain")
    rig.eventually(lambda: not pods(cluster, "plain"), "the plain pods' end")
    rig.eventually(lambda: all("deletionTimestamp" in p["metadata"] for p in pods(cluster, "engine")), "their deletion")
    draining = pods(cluster, "engine")
    assert len(draining) == 2
    assert all(ready(pod) for pod in draining)
    for pod in draining:
        cluster.client.request(
            "DELETE", f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}", json={"gracePeriodSeconds": 0}
        )
    rig.eventually(lambda: not pods(cluster, "engine"), "the engines' end")


@pytest.mark.integration
def test_an_engine_that_nobody_removes_is_killed_at_the_end_of_its_grace(cluster: ControlPlane) -> None:
    (pod, _) = run(cluster, deployment("stuck", engine=True), "stuck")
    cluster.kubectl("delete", "deployment", "stuck", "--cascade=orphan")
    cluster.kubectl("delete", "replicaset", "-l", "app=stuck", "--cascade=orphan")
    cluster.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=2", "--wait=false")
    rig.eventually(lambda: len(pods(cluster, "stuck")) == 1, "the end of the pod")
    cluster.kubectl("delete", "pod", "-l", "app=stuck", "--force", "--grace-period=0")


@pytest.mark.integration
def test_an_engine_that_never_served_goes_at_once(cluster: ControlPlane) -> None:
    manifest = deployment("young", startup="1000s", engine=True)
    cluster.kubectl("apply", "-f", "-", stdin=manifest)
    rig.eventually(lambda: sum("podIP" in pod["status"] for pod in pods(cluster, "young")) == 2, "two starting pods")
    cluster.kubectl("delete", "deployment", "young")
    rig.eventually(lambda: not pods(cluster, "young"), "the pods' end")


@pytest.mark.integration
def test_a_killed_kwok_comes_back_and_gives_no_address_twice(cluster: ControlPlane) -> None:
    before = run(cluster, deployment("before"), "before")
    run(cluster, deployment("sign-of-life"), "sign-of-life")
    cluster.supervisor.signal("kwok", signal.SIGKILL)
    cluster.supervisor.restart("kwok")
    cluster.kubectl("delete", "deployment", "sign-of-life")

    def deleted() -> bool:
        # A starting KWOK drops a deletion seen before its own older list of pods (v0.8.0); a change tells it again.
        cluster.kubectl(
            "annotate", "pod", "-l", "app=sign-of-life", f"told={time.monotonic()}", "--overwrite", check=False
        )
        return not pods(cluster, "sign-of-life")

    rig.eventually(deleted, "a KWOK that has read the pods that are there")
    after = run(cluster, deployment("after"), "after")
    assert len({pod["status"]["podIP"] for pod in before + after}) == 4
    cluster.kubectl("delete", "deployment", "before", "after")


@pytest.mark.integration
def test_a_service_account_may_do_what_rbac_says_and_nothing_else(cluster: ControlPlane) -> None:
    config = cluster.service_account_kubeconfig("llm", "reader")
    cluster.kubectl("create", "clusterrolebinding", "reader", "--clusterrole=view", "--serviceaccount=llm:reader")
    user = yaml.safe_load(config.read_text())["users"][0]["user"]
    reader = {"Authorization": f"Bearer {user['token']}"}
    rig.eventually(
        lambda: cluster.client.get("/api/v1/namespaces/llm/pods", headers=reader).is_success, "the binding's effect"
    )
    assert cluster.client.get("/api/v1/nodes", headers=reader).status_code == httpx.codes.FORBIDDEN
    assert config.stat().st_mode & 0o077 == 0


@pytest.mark.integration
def test_a_node_cannot_move_itself_to_another_rack(cluster: ControlPlane) -> None:
    """NodeRestriction guards the prefix under which the rack label lives."""
    answer = cluster.kubectl(
        "label", "node", "gpu-0", f"{objects.RACK_LABEL}=9", "--overwrite",
        "--as=system:node:gpu-0", "--as-group=system:nodes", check=False,
    )  # fmt: skip
    assert "is not allowed to modify labels" in answer.stderr


@pytest.mark.integration
def test_the_audit_log_holds_writes_with_their_user_and_no_reads(cluster: ControlPlane) -> None:
    cluster.kubectl("create", "configmap", "audited")
    cluster.kubectl("get", "configmap", "audited")
    events = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
    ours = [e for e in events if e["objectRef"].get("name") == "audited"]
    assert [(e["verb"], e["user"]["username"], e["responseStatus"]["code"]) for e in ours] == [("create", "admin", 201)]
    assert not {e["verb"] for e in events} & {"get", "list", "watch"}


@pytest.mark.integration
def test_a_component_that_cannot_start_is_named_and_nothing_stays_behind(tmp_path: Path) -> None:
    broken = rig.control_plane(tmp_path)
    broken.programs["kube-apiserver"] = broken.programs["etcd"]  # knows none of the API server's flags
    with pytest.raises(process.ChildError, match=r"kube-apiserver ended; .*kube-apiserver.log ends with:\n"):
        broken.start()
    assert list((tmp_path / "pids").iterdir()) == []


def test_a_folder_that_is_not_a_rigs_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "precious.key").touch()
    with pytest.raises(process.ChildError, match="pki is not a rig's; choose another folder"):
        ControlPlane(tmp_path, programs={}).start()
    assert (tmp_path / "pki" / "precious.key").exists()


def test_free_ports_are_free_and_differ() -> None:
    ports = components.free_ports(50)
    assert len(set(ports)) == 50
    assert set(ports) <= set(components.PORTS)


def test_an_authority_is_taken_only_from_a_whole_chain(tmp_path: Path) -> None:
    """The API server writes leaf and authority into one file; a reader may come in between."""
    one, two = (f"-----BEGIN CERTIFICATE-----\n{body}\n{pki.PEM_END}" for body in ("LEAF", "AUTHORITY"))
    chain, authority = tmp_path / "apiserver.crt", tmp_path / "ca.crt"
    assert not pki.split_authority(chain, authority)
    chain.write_text(one)
    assert not pki.split_authority(chain, authority)
    chain.write_text(one + two)
    assert pki.split_authority(chain, authority)
    assert authority.read_text() == two
