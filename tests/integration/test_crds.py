"""The CRDs on the real API server: accepted strictly, established, and behaving as the models say."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import yaml

from capstan.api import convert, crdgen, status, v1alpha1
from capstan.api.meta import Resource
from capstan.model.plan import Effect, PolicyDecision, PoolPlan
from capstan.model.reasons import Reason
from capstan.powercap import domains
from support import api, rig
from support.rig import ApiServer

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OURS = "/apis/capstan.dev/v1alpha1"
STRICT = {"fieldValidation": "Strict"}


def name(kind: type[Resource]) -> str:
    return f"{kind.NAMES.plural}.capstan.dev"


@pytest.mark.parametrize("kind", v1alpha1.KINDS, ids=name)
def test_a_crd_is_accepted_strictly_and_established(api_server: ApiServer, kind: type[Resource]) -> None:
    """Strict: an unknown keyword of a schema is an error and not a silent loss; CEL within its cost budget."""
    client = api_server.control_plane.client
    answer = client.patch(
        f"{CRDS}/{name(kind)}",
        params={**STRICT, "fieldManager": "test-crds", "force": "true", "dryRun": "All"},
        headers={"Content-Type": "application/apply-patch+yaml"},
        content=yaml.safe_dump(crdgen.definition(kind)).encode(),
    )
    assert answer.is_success, answer.text
    conditions = client.get(f"{CRDS}/{name(kind)}").json()["status"]["conditions"]
    held = {c["type"] for c in conditions if c["status"] == "True"}
    assert held == {"NamesAccepted", "Established"}, "nothing more: NonStructuralSchema would stand here"


@pytest.mark.parametrize("kind", v1alpha1.KINDS, ids=name)
def test_kubectl_gets_the_columns(api_server: ApiServer, kind: type[Resource]) -> None:
    def table() -> httpx.Response:
        accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        return api_server.control_plane.client.get(f"{OURS}/{kind.NAMES.plural}", headers=accept)

    # A kind that was established a moment ago answers 429, "storage is (re)initializing".
    rig.eventually(lambda: table().is_success, f"a list of {kind.NAMES.plural}")
    answer = table()
    columns = [column["name"] for column in answer.json()["columnDefinitions"]]
    assert columns == ["Name", *(column.name for column in kind.COLUMNS)]


@pytest.fixture
def chat(api_server: ApiServer, namespace: str) -> str:
    """The path of a chat policy on the server."""
    manifest = api.changed(api.chat(), {"metadata.namespace": namespace, "spec.knobs": api.DROP})
    path = f"{OURS}/{api.PLURALS['ServingPolicy'].format(namespace=namespace)}"
    answer = api_server.control_plane.client.post(path, params=STRICT, json=manifest)
    assert answer.is_success, answer.text
    return f"{path}/chat"


def test_what_is_left_out_gets_the_models_defaults(api_server: ApiServer, chat: str) -> None:
    """The object as the server completed it and the manifest as it was written mean the same policy."""
    live = api_server.control_plane.client.get(chat).json()
    assert live["spec"]["knobs"] == {"replicas": "Advise", "tensorParallel": "Advise", "clock": "Advise"}
    edges = {"promptTokens": [256, 1024], "outputTokens": [100, 350]}
    assert live["spec"]["pools"] == {"scheme": "Single", "classes": edges}
    assert live["spec"]["objective"] == "Joules"
    assert "profileNames" not in live["spec"], "an empty list says nothing and is not written into objects"
    written = api.changed(api.chat(), {"spec.knobs": api.DROP, "metadata.namespace": live["metadata"]["namespace"]})
    assert convert.policy(live) == convert.policy(written)


def test_a_null_is_the_same_as_leaving_out(api_server: ApiServer, chat: str) -> None:
    answer = api_server.control_plane.client.patch(
        chat,
        params=STRICT,
        headers={"Content-Type": "application/merge-patch+json"},
        json={"spec": {"powerBudgetWatts": None, "bounds": {"maxGPUs": None}}},
    )
    assert answer.is_success, answer.text
    assert convert.policy(answer.json()).power_budget_w is None


def test_the_status_that_we_build_is_the_status_that_is_kept(api_server: ApiServer, chat: str) -> None:
    """A field that the schema lacks would be pruned, and would be written again every cycle."""
    now_s = 1_795_000_000.0
    pools = (PoolPlan("all", 4, 3, 1410.0),)
    decision = PolicyDecision(
        policy="llm/chat",
        pools=pools,
        expected=Effect(5210.4, 1.234, 0.31, 0.042),
        replicas_reason=Reason.FORECAST_PEAK,
        clock_reason=Reason.LEAST_ENERGY,
    )
    built = status.serving_status(decision, generation=1, applied=pools, observed=Effect(power_w=5100.0))
    ready = status.condition("Ready", holds=True, reason="Applied", message="", generation=1, now_s=now_s)
    change = {"time": status.rfc3339(now_s), "knob": "replicas", "from": "2", "to": "3", "reason": "ForecastPeak"}
    target = {"name": "chat-tp4", "originalReplicas": 2}
    whole = {**built, "conditions": [ready], "decisions": [change], "targets": [target]}
    assert put_status(api_server, chat, whole) == whole


def test_writing_status_cannot_change_spec(api_server: ApiServer, chat: str) -> None:
    client = api_server.control_plane.client
    live = client.get(chat).json()
    live["spec"]["bounds"]["maxReplicas"] = 99
    answer = client.put(f"{chat}/status", params=STRICT, json=live)
    assert answer.is_success, answer.text
    assert client.get(chat).json()["spec"]["bounds"]["maxReplicas"] == 12


def test_a_domains_status_is_kept(api_server: ApiServer) -> None:
    client = api_server.control_plane.client
    manifest = api.changed(api.rack(), {"metadata.name": "rack-of-test-crds"})
    path = f"{OURS}/powerdomains/rack-of-test-crds"
    answer = client.post(f"{OURS}/powerdomains", params=STRICT, json=manifest)
    assert answer.is_success, answer.text
    step = domains.Step(
        level=domains.Level.LOW_DEEP,
        caps=domains.ClassCaps(low_mhz=1560.0),
        memory=domains.DomainMemory(),
        measured_w=41_000.2,
        projected_w=41_000.2,
        utilisation_ratio=1.025,
        headroom_w=-1_000.2,
        reason=Reason.ABOVE_HIGH_THRESHOLD,
    )
    built = status.domain_status(
        step, status.DomainFigures(40_000.0, 24, 38_000.0, 39_000.0, 43_400.0, ("a",)), generation=1
    )
    capping = status.condition(
        "Capping", holds=True, reason="AboveHighThreshold", message="", generation=1, now_s=1_795_000_000.0
    )
    whole = {**built, "conditions": [capping]}
    try:
        assert whole["headroomWatts"] == -1001, "a shortfall is rounded up"
        assert put_status(api_server, path, whole) == whole
    finally:
        client.delete(path)


def put_status(server: ApiServer, path: str, value: dict[str, object]) -> dict[str, Any]:
    """Write a status as we do and return what the server kept of it."""
    live = server.control_plane.client.get(path).json()
    answer = server.control_plane.client.put(f"{path}/status", params=STRICT, json={**live, "status": value})
    assert answer.is_success, answer.text
    kept = answer.json()["status"]
    assert isinstance(kept, dict)
    return kept
