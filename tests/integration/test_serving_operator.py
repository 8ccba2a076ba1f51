"""The serving loop on a real API server, deployment controller, scheduler and kopf; only Prometheus is a fake.

Each test has a namespace of its own and sees only the policies in it: the store is fed by kopf from the whole
cluster, and other tests' policies are dropped at the door.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from capstan import decide
from capstan.adapters.kube import config
from capstan.adapters.kube.client import KubeClient
from capstan.app import operator as process
from capstan.app.cluster import Api, Caches
from capstan.replay import verify
from capstan.serving import handlers, history, manifest, recorder
from capstan.serving.cycle import Cycle, Ports
from capstan.serving.store import Bell, Kind, Store
from rig import objects
from support import api, rig
from support.serving import FakeMeter, FakeTelemetry, chat

READY_S = 40.0  # two busy cores: controllers, scheduler and KWOK take their turns
SETTINGS = decide.Settings(cluster_period_s=5, pool_period_s=5, instance_period_s=0.5, lookback_s=5)
BUSY_RPS = 12.0


@pytest.fixture(autouse=True)
def kopfs_sockets() -> Iterator[None]:
    """Collect the sockets that kopf leaves to the collector, here and not in a later test (warnings are errors)."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class Now:
    """The real clock, with the attribute that the fake telemetry reads."""

    @property
    def t_s(self) -> float:
        return time.time()

    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()


class OwnStore(Store):
    """A store that sees one namespace's policies."""

    namespace = ""

    def put(self, kind: Kind, raw: manifest.Manifest) -> None:
        if kind is not Kind.POLICY or manifest.text(raw, "metadata", "namespace") == self.namespace:
            super().put(kind, raw)


class Live:
    """An operator in this process, and kubectl beside it."""

    def __init__(self, server: rig.ApiServer, namespace: str, record: Path) -> None:
        self.record = record
        self.server, self.namespace = server, namespace
        self.writes: list[str] = []
        self.where = config.load(server.kubeconfig)
        self.client = KubeClient(self.where, component="test", wrote=lambda *w: self.writes.append(" ".join(w)))
        self.bell = Bell()
        self.caches = Caches(self.client, self.bell.ring)
        self.store = OwnStore(self.bell, time.monotonic)
        self.store.namespace = namespace
        self.telemetry = FakeTelemetry(self.caches, Now())  # type: ignore[arg-type]  # duck-typed: a snapshot and a clock
        self.telemetry.namespace = namespace
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        world = Api(self.client)
        journal = recorder.Journal(self.record, writer="live")
        ports = Ports(self.caches, self.telemetry, world, world, FakeMeter(), journal, Now(), history.Nothing())
        listener = handlers.Listener(self.store, lambda: process.login(self.where), lambda _: None)
        self.tasks = [asyncio.create_task(self.caches.run()), asyncio.create_task(listener.run())]
        await asyncio.wait_for(self.caches.synced(), READY_S)
        self.tasks.append(asyncio.create_task(Cycle(self.store, ports, SETTINGS).run(self.bell)))

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.client.close()

    async def until(self, holds: Callable[[], object], what: str, timeout_s: float = READY_S) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not await asyncio.to_thread(holds):
            broken = [t.exception() for t in self.tasks if t.done()]
            assert not broken, broken
            assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s: {what}"
            await asyncio.sleep(0.2)

    async def until_observed(self, generation: int) -> None:
        """Wait until the status of the chat policy speaks of a generation of its spec."""
        await self.until(
            lambda: self.get("servingpolicy chat")["status"]["observedGeneration"] == generation,
            f"generation {generation} is observed",
        )

    async def until_gone(self, what: str) -> None:
        """Wait until no object of a kind is left, the API server's own Service apart."""

        def gone() -> bool:
            return not [o for o in self.get(what)["items"] if o["metadata"]["name"] != "kubernetes"]

        await self.until(gone, f"no {what} is left")

    def apply(self, raw: manifest.Manifest) -> None:
        self.server.control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(raw))

    def get(self, what: str, *, quiet: bool = True) -> dict[str, Any]:
        done = self.server.control_plane.kubectl(
            "-n", self.namespace, "get", *what.split(), "-o", "json", "--show-managed-fields", check=not quiet
        )
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def replicas(self, name: str = "chat-tp4") -> int | None:
        return manifest.number(self.get(f"deployment {name}"), "spec", "replicas")

    def condition(self, kind: str, name: str = "chat") -> tuple[str, str]:
        found = manifest.items(self.get(f"servingpolicy {name}"), "status", "conditions")
        return next(((str(c["status"]), str(c["reason"])) for c in found if c["type"] == kind), ("", ""))

    async def settle(self) -> int:
        """Wait until the policy is Ready with more than one replica; return how many."""
        await self.until(lambda: (self.replicas() or 0) > 1, "several replicas are asked for")
        await self.until(lambda: self.condition("Ready") == ("True", "Applied"), "the plan is Ready")
        await self.until(lambda: self.condition("Progressing")[0] == "False", "nothing moves any more")
        return self.replicas() or 0


@asynccontextmanager
async def live(server: rig.ApiServer, namespace: str) -> AsyncIterator[Live]:
    """An operator that runs and then stops; whatever it decided, decided again from its record, must be the same."""
    with tempfile.TemporaryDirectory() as folder:
        operator = Live(server, namespace, Path(folder) / "decisions.jsonl")
        await operator.start()
        try:
            yield operator
        finally:
            await operator.stop()
        verdict = verify.of_file(operator.record)
        assert verdict.equal == verdict.decisions > 0, verdict


@pytest.fixture(scope="module")
def gpus(api_server: rig.ApiServer) -> rig.ApiServer:
    """The API server with GPU nodes and the profile of the chat policy."""
    plane = api_server.control_plane
    plane.nodes(3, objects.NodeSpec(prefix="serving"))
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(api.profile()))
    return api_server


def policy(namespace: str, **spec: object) -> manifest.Manifest:
    """The chat policy in a test's namespace, small and quick to go: three nodes serve all tests."""
    bounded = chat(bounds__maxReplicas=4, **{"engine__template__spec__terminationGracePeriodSeconds": 1, **spec})
    return api.changed(dict(bounded), {"metadata.namespace": namespace})


def autoscaler(namespace: str) -> manifest.Manifest:
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat-tp4"}
    resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}
    spec = {
        "scaleTargetRef": ref,
        "minReplicas": 1,
        "maxReplicas": 9,
        "metrics": [{"type": "Resource", "resource": resource}],
    }
    meta = {"name": "chat", "namespace": namespace}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": meta, "spec": spec}


@pytest.mark.parametrize("hpa", [False, True], ids=["without-an-hpa", "with-an-hpa"])
async def test_the_knob_walks_act_advise_act_and_replicas_stand_still(
    gpus: rig.ApiServer, namespace: str, hpa: bool
) -> None:
    async with live(gpus, namespace) as operator:
        operator.telemetry.rps = BUSY_RPS
        operator.apply(policy(namespace))
        replicas = await operator.settle()
        if hpa:
            operator.apply(autoscaler(namespace))
            await operator.until(lambda: operator.condition("ControllerConflict")[0] == "True", "the conflict is said")
        for generation, knob in ((2, "Advise"), (3, "Act")):
            operator.apply(policy(namespace, knobs__replicas=knob))
            await operator.until_observed(generation)
            await asyncio.sleep(3)
            assert operator.replicas() == replicas
        expected = "True" if hpa else "False"
        await operator.until(lambda: operator.condition("ControllerConflict")[0] == expected, "the conflict is true")

        fields = operator.get("deployment chat-tp4")["metadata"]["managedFields"]
        ours = [f for f in fields if f["manager"] == "capstan-serving" and f["operation"] == "Apply"]
        assert len(ours) == 1
        assert "f:replicas" not in ours[0]["fieldsV1"]["f:spec"]


async def test_a_settled_policy_is_written_nothing(gpus: rig.ApiServer, namespace: str) -> None:
    async with live(gpus, namespace) as operator:
        operator.telemetry.rps = BUSY_RPS
        operator.apply(policy(namespace))
        await operator.settle()
        for name in ("service", "poddisruptionbudget"):
            assert operator.get(f"{name} chat")["metadata"]["ownerReferences"][0]["name"] == "chat"
        await asyncio.sleep(4)
        operator.writes.clear()
        await asyncio.sleep(6)
        assert operator.writes == []


async def test_somebody_who_takes_a_field_of_ours_gives_it_back(gpus: rig.ApiServer, namespace: str) -> None:
    async with live(gpus, namespace) as operator:
        operator.apply(policy(namespace))
        await operator.until(lambda: operator.condition("Ready")[0] == "True", "the policy serves")
        operator.server.control_plane.kubectl("-n", namespace, "set", "image", "deployment/chat-tp4", "engine=evil:1")
        await operator.until(
            lambda: (
                operator.get("deployment chat-tp4")["spec"]["template"]["spec"]["containers"][0]["image"]
                == "vllm/vllm-openai:v0.33.0"
            ),
            "the image is the template's again",
        )


async def test_deleting_a_policy_in_the_middle_of_a_scale_up_leaves_nothing(
    gpus: rig.ApiServer, namespace: str
) -> None:
    async with live(gpus, namespace) as operator:
        operator.apply(policy(namespace))
        await operator.until(lambda: operator.condition("Ready")[0] == "True", "one replica serves")
        await operator.until(lambda: clocked(operator), "its clock is planned")
        operator.telemetry.rps = BUSY_RPS
        await operator.until(lambda: (operator.replicas() or 0) > 1, "the scale-up began")
        operator.server.control_plane.kubectl("-n", namespace, "delete", "servingpolicy", "chat", "--wait=false")
        for what in ("servingpolicy", "deployment", "service", "poddisruptionbudget", "pod"):
            await operator.until_gone(what)
        await operator.until(lambda: not clocked(operator), "no clock plan names its pods")
        operator.writes.clear()
        await asyncio.sleep(2)
        assert operator.writes == []


def clocked(operator: Live) -> list[manifest.Manifest]:
    """Return the entries of all NodeCaps that name a pod of this namespace."""
    caps = manifest.items(operator.get("nodecaps"), "items")
    entries = (e for cap in caps for e in manifest.items(cap, "spec", "plan", "pods"))
    return [e for e in entries if e["namespace"] == operator.namespace]


async def test_an_invalid_template_is_told_in_the_servers_words(gpus: rig.ApiServer, namespace: str) -> None:
    async with live(gpus, namespace) as operator:
        bad = {"name": "engine", "image": "vllm/vllm-openai:v0.33.0", "ports": [{"containerPort": 99_999}]}
        operator.apply(policy(namespace, engine__template__spec__containers=[bad]))
        await operator.until(
            lambda: operator.condition("EngineReady") == ("False", "InvalidTemplate"), "the template is refused"
        )
        found = manifest.items(operator.get("servingpolicy chat"), "status", "conditions")
        message = next(str(c["message"]) for c in found if c["type"] == "EngineReady")
        assert "containerPort" in message
        assert operator.get("deployment chat-tp4") == {}
        assert operator.get("service chat") == {}


async def test_a_target_is_scaled_and_given_back(gpus: rig.ApiServer, namespace: str) -> None:
    async with live(gpus, namespace) as operator:
        labels = {"app": "assistant"}
        container = {"name": "engine", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "4"}}}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        meta = {"name": "assistant", "namespace": namespace}
        operator.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec})
        ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "assistant"}
        operator.telemetry.rps = BUSY_RPS * 2
        operator.apply(policy(namespace, engine=api.DROP, targets=[{"scaleTargetRef": ref, "tensorParallel": 4}]))
        await operator.until(lambda: (operator.replicas("assistant") or 0) > 2, "the target is scaled up")
        before = operator.get("servingpolicy chat")
        assert before["metadata"]["finalizers"] == ["capstan.dev/release-targets"]
        assert before["status"]["targets"] == [{"name": "assistant", "originalReplicas": 2}]
        operator.server.control_plane.kubectl("-n", namespace, "delete", "servingpolicy", "chat", "--wait=false")
        await operator.until(lambda: operator.get("servingpolicy chat") == {}, "the policy is let go")
        assert operator.replicas("assistant") == 2


# --- the process -----------------------------------------------------------------------------------


def start(server: rig.ApiServer, namespace: str, identity: str, log: Path) -> subprocess.Popen[bytes]:
    argv = [
        sys.executable,
        "-m",
        "capstan",
        "operator",
        f"--kubeconfig={server.kubeconfig}",
        f"--namespace={namespace}",
    ]
    argv += [
        f"--identity={identity}",
        "--prometheus-url=http://127.0.0.1:9",
        "--periods=5,5,0.5",
        "--listen=127.0.0.1:0",
    ]
    with log.open("wb") as file:
        return subprocess.Popen(argv, stderr=file, env={**os.environ, "LOGNAME": "capstan"})


def test_sigterm_hands_the_lease_over_at_once_and_a_killed_operator_loses_nothing(
    gpus: rig.ApiServer, namespace: str, tmp_path: Path
) -> None:
    """And with Prometheus unreachable it serves the minimum and says so."""
    kubectl = gpus.control_plane.kubectl
    name = f"one-{namespace}"

    def get(*what: str) -> dict[str, Any]:
        done = kubectl("-n", namespace, "get", *what, "-o", "json", check=False)
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def holder() -> object:
        return manifest.mapping(get("lease", "capstan-operator"), "spec").get("holderIdentity")

    kubectl("apply", "-f", "-", stdin=json.dumps(policy(namespace, bounds__minReplicas=2)))
    first = start(gpus, namespace, name, tmp_path / "first.log")
    second = third = None
    try:
        rig.eventually(lambda: holder() == name, "the first operator leads", READY_S)
        second = start(gpus, namespace, f"two-{namespace}", tmp_path / "second.log")
        rig.eventually(
            lambda: manifest.number(get("deployment", "chat-tp4"), "spec", "replicas") == 2,
            "the minimum is asked for",
            READY_S,
        )
        rig.eventually(
            lambda: any(
                (c["type"], c["reason"]) == ("MetricsAvailable", "SourceDown")
                for c in manifest.items(get("servingpolicy", "chat"), "status", "conditions")
            ),
            "Prometheus is said to be down",
            READY_S,
        )
        started_s = time.monotonic()
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=10) == 0, (tmp_path / "first.log").read_text()
        assert time.monotonic() - started_s < 5
        rig.eventually(lambda: holder() == f"two-{namespace}", "the second operator leads", READY_S)

        second.kill()
        second.wait()
        version = get("deployment", "chat-tp4")["metadata"]["generation"]
        third = start(gpus, namespace, f"two-{namespace}", tmp_path / "third.log")
        rig.eventually(lambda: '"event":"cycle"' in (tmp_path / "third.log").read_text(), "a successor cycles", READY_S)
        time.sleep(2)
        assert get("deployment", "chat-tp4")["metadata"]["generation"] == version, "a restart changes nothing"
    finally:
        for child in (first, second, third):
            if child is not None and child.poll() is None:
                child.kill()
                child.wait()
    lines = [json.loads(line) for line in (tmp_path / "first.log").read_text().splitlines()]
    assert any(line.get("event") == "cycle" for line in lines)
