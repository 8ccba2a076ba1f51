"""The documents that serving applies: the engine contract of DESIGN 3, and nothing that is not ours."""

from __future__ import annotations

import pytest

from capstan.serving import manifest, names, objects
from support.serving import chat


def owner(**spec: object) -> objects.Owner:
    raw = chat(**spec)
    return objects.owner({**raw, "metadata": {**manifest.mapping(raw, "metadata"), "uid": "u1"}})


def container(document: manifest.Manifest) -> manifest.Manifest:
    return manifest.items(document, "spec", "template", "spec", "containers")[0]


def test_no_document_ever_holds_replicas() -> None:
    """Dropping the field from a later apply would take a Deployment to 1, so it never enters one."""
    assert "replicas" not in manifest.mapping(objects.deployment(owner(), pool="all", tp=4), "spec")


def test_the_engine_gets_its_degree_and_as_many_gpus_and_keeps_the_rest() -> None:
    made = container(objects.deployment(owner(), pool="all", tp=4))
    assert manifest.items(made, "env")[0] == {"name": "CAPSTAN_TENSOR_PARALLEL", "value": "4"}
    assert manifest.mapping(made, "resources", "limits") == {"nvidia.com/gpu": "4"}
    assert made["image"] == "vllm/vllm-openai:v0.33.0"
    assert manifest.mapping(made, "readinessProbe", "httpGet")["path"] == "/health"


def test_a_tenants_own_gpu_request_and_degree_give_way_and_its_memory_request_stays() -> None:
    given = {
        "name": "engine",
        "image": "i",
        "env": [{"name": "CAPSTAN_TENSOR_PARALLEL", "value": "1"}, {"name": "HF_HOME", "value": "/cache"}],
        "resources": {"requests": {"nvidia.com/gpu": "8", "memory": "64Gi"}, "limits": {"memory": "64Gi"}},
    }
    made = container(objects.deployment(owner(engine__template__spec__containers=[given]), pool="all", tp=2))
    assert [e["name"] for e in manifest.items(made, "env")] == ["CAPSTAN_TENSOR_PARALLEL", "HF_HOME"]
    assert manifest.mapping(made, "resources") == {
        "limits": {"memory": "64Gi", "nvidia.com/gpu": "2"},
        "requests": {"memory": "64Gi"},
    }


def test_only_the_named_container_is_the_engine() -> None:
    pair = [{"name": "proxy", "image": "p"}, {"name": "engine", "image": "e"}]
    document = objects.deployment(owner(engine__template__spec__containers=pair), pool="all", tp=4)
    proxy, engine = manifest.items(document, "spec", "template", "spec", "containers")
    assert proxy == {"name": "proxy", "image": "p"}
    assert "env" in engine


def test_a_pod_drains_before_it_dies_unless_its_owner_says_how() -> None:
    spec = manifest.mapping(objects.deployment(owner(), pool="all", tp=4), "spec", "template", "spec")
    assert spec["terminationGracePeriodSeconds"] == objects.GRACE_SECONDS
    assert manifest.mapping(container({"spec": {"template": {"spec": spec}}}), "lifecycle") == {
        "preStop": {"sleep": {"seconds": objects.PRE_STOP_SECONDS}}
    }
    own = owner(engine__template__spec__terminationGracePeriodSeconds=30)
    kept = objects.deployment(own, pool="all", tp=4)
    assert manifest.mapping(kept, "spec", "template", "spec")["terminationGracePeriodSeconds"] == 30


@pytest.mark.parametrize(("grace_s", "sleep_s"), [(600, 5), (5, 4), (2, 1), (1, None), (0, None)], ids=lambda v: f"{v}")
def test_the_drain_fits_into_whatever_grace_a_tenant_gives(grace_s: int, sleep_s: int | None) -> None:
    """The API server refuses a sleep that is not shorter than the grace period."""
    own = owner(engine__template__spec__terminationGracePeriodSeconds=grace_s)
    lifecycle = manifest.mapping(container(objects.deployment(own, pool="all", tp=4)), "lifecycle")
    assert manifest.number(lifecycle, "preStop", "sleep", "seconds") == sleep_s


def test_labels_select_the_pool_and_pods_carry_their_state() -> None:
    document = objects.deployment(owner(), pool="all", tp=4)
    selector = manifest.mapping(document, "spec", "selector", "matchLabels")
    labels = manifest.strings(document, "spec", "template", "metadata", "labels")
    assert selector == {names.POLICY_LABEL: "chat", names.POOL_LABEL: "all", names.TP_LABEL: "4"}
    assert selector.items() <= labels.items()
    assert labels[names.STATE_LABEL] == "active"
    assert labels["app.kubernetes.io/name"] == "chat"


@pytest.mark.parametrize(
    "document",
    [
        objects.deployment(owner(), pool="all", tp=4),
        objects.service(owner()),
        objects.disruption_budget(owner()),
    ],
    ids=["deployment", "service", "disruption-budget"],
)
def test_everything_goes_with_its_policy(document: manifest.Manifest) -> None:
    reference = manifest.items(document, "metadata", "ownerReferences")[0]
    assert (reference["kind"], reference["uid"], reference["controller"]) == ("ServingPolicy", "u1", True)


def test_the_hash_changes_with_the_content_and_with_nothing_else() -> None:
    def hash_of(by: objects.Owner) -> str:
        document = objects.deployment(by, pool="all", tp=4)
        return manifest.strings(document, "metadata", "annotations")[names.HASH_ANNOTATION]

    assert hash_of(owner()) == hash_of(owner(knobs__replicas="Advise", slo__ttftMilliseconds=500))
    assert hash_of(owner()) != hash_of(owner(engine__template__spec__nodeSelector={"pool": "h100"}))


@pytest.mark.parametrize(
    ("args", "passes"),
    [
        (["--tensor-parallel-size=$(CAPSTAN_TENSOR_PARALLEL)"], True),
        (["-tp", "$(CAPSTAN_TENSOR_PARALLEL)"], True),
        (["--tensor-parallel-size=4"], False),
        ([], False),
    ],
    ids=["as-documented", "short-flag", "fixed", "no-flag"],
)
def test_whether_a_template_can_hold_more_than_one_degree(args: list[str], passes: bool) -> None:
    engine = {"template": {"spec": {"containers": [{"name": "engine", "image": "i", "args": args}]}}}
    assert objects.passes_tensor_parallel(engine) is passes
