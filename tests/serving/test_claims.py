"""Two policies for one target: the older acts, the other only advises and says why; and nobody's capacity falls."""

from __future__ import annotations

import pytest

from capstan.serving import claims, manifest
from capstan.serving.manifest import Manifest
from capstan.serving.store import Kind
from support import api
from support.serving import Stage, assistant, chat

ACTS = {"knobs": {"replicas": "Act", "clock": "Act"}}
OLD, NEW = "2026-09-01T00:00:00Z", "2026-09-02T00:00:00Z"


def policy(name: str, created: str | None = OLD, target: str = "assistant", **spec: object) -> Manifest:
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
    changes: dict[str, object] = {
        "metadata.name": name,
        "spec.targets": [{"scaleTargetRef": ref, "tensorParallel": 4}],
    }
    if created is not None:
        changes["metadata.creationTimestamp"] = created
    return api.changed(dict(assistant(**{**ACTS, **spec})), changes)


@pytest.fixture
def stage() -> Stage:
    made = Stage()
    made.cluster.target("assistant", 1)
    made.cluster.reconcile()
    made.telemetry.rps = 12.0
    return made


def test_the_oldest_owns_a_target_and_the_name_decides_between_twins() -> None:
    found = claims.owners([policy("b"), policy("a"), policy("z", NEW, "other"), policy("c", None, "other")])
    assert found == {"llm/assistant": "llm/a", "llm/other": "llm/z"}


def test_the_same_name_in_another_namespace_is_another_workload() -> None:
    elsewhere = api.changed(dict(policy("a")), {"metadata.namespace": "other"})
    assert set(claims.owners([policy("b", NEW), elsewhere])) == {"llm/assistant", "other/assistant"}


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
async def test_the_younger_advises_and_says_whose_the_target_is(stage: Stage, order: tuple[str, str]) -> None:
    created = {"first": OLD, "second": NEW}
    for name in order:
        stage.apply(policy(name, created[name]))
    await stage.tick(6)
    assert stage.condition("TargetFound", "llm/first")[:2] == ("True", "Found")
    status, reason, message = stage.condition("TargetFound", "llm/second")
    assert (status, reason) == ("False", "TargetTaken")
    assert "llm/assistant is a target of llm/first, too" in message
    assert stage.condition("Ready", "llm/second")[:2] == ("False", "TargetTaken")
    assert stage.cluster.replicas("llm/assistant") > 1, "the older one scales it"
    finalizers = [w for w in stage.cluster.of("apply") if "ServingPolicy" in w]
    assert finalizers == ["apply ServingPolicy/llm/first"]


async def test_two_wishes_never_fight_over_a_count_or_a_clock(stage: Stage) -> None:
    """One may have twelve replicas, the other at most one: the count follows the older alone, cycle after cycle."""
    stage.apply(policy("first", OLD))
    stage.apply(policy("second", NEW, bounds__maxReplicas=1))
    await stage.tick(20)
    counts = [manifest.number(w.document, "replicas") or 0 for w in stage.cluster.writes if w.verb == "scale"]
    assert counts, "the older one acts"
    assert counts == sorted(counts), "one wish, so no count goes down again under a constant load"
    owners = {
        manifest.number(w.document, "spec", "plan", "sequence") for w in stage.cluster.writes if "NodeCap" in w.key
    }
    assert len(owners) <= 2, "one clock for the pods, not two that take turns"


async def test_when_the_older_is_gone_the_younger_takes_over(stage: Stage) -> None:
    stage.apply(policy("first", OLD))
    stage.apply(policy("second", NEW))
    await stage.tick(4)
    stage.store.drop(Kind.POLICY, "llm/first")
    await stage.tick(3)
    assert stage.condition("TargetFound", "llm/second")[:2] == ("True", "Found")


async def test_a_deleted_policy_gives_back_nothing_that_another_acts_on_by_now(stage: Stage) -> None:
    """The younger one scaled one replica up; an older one then names the target, and the younger one is deleted."""
    stage.apply(policy("second", NEW))
    await stage.tick(6)
    grown = stage.cluster.replicas("llm/assistant")
    assert grown > 1
    stage.apply(policy("first", OLD))
    await stage.tick(2)
    raw = next(p for p in stage.store.all(Kind.POLICY) if manifest.key(p) == "llm/second")
    leaving = {**manifest.mapping(raw, "metadata"), "deletionTimestamp": "2026-09-21T15:00:00Z"}
    stage.store.put(Kind.POLICY, {**raw, "metadata": leaving})
    await stage.tick()
    assert stage.cluster.replicas("llm/assistant") == grown
    let_go = stage.cluster.objects["ServingPolicy/llm/second"]
    assert manifest.mapping(let_go, "metadata")["finalizers"] == []


async def test_a_workload_that_another_policy_made_is_nobodys_target(stage: Stage) -> None:
    stage.apply(chat())
    await stage.tick(3)
    stage.apply(policy("thief", NEW, "chat-tp4"))
    await stage.tick(2)
    status, reason, message = stage.condition("TargetFound", "llm/thief")
    assert (status, reason) == ("False", "TargetTaken")
    assert "spec.engine" in message


async def test_an_older_policy_that_cannot_be_read_keeps_its_target(stage: Stage) -> None:
    stage.apply(policy("first", OLD))
    stage.apply(policy("second", NEW))
    await stage.tick(3)
    before = stage.cluster.replicas("llm/assistant")
    stage.apply(policy("first", OLD, slo__ttftMilliseconds="soon"))
    await stage.tick(3)
    assert stage.condition("TargetFound", "llm/second")[1] == "TargetTaken"
    assert stage.cluster.replicas("llm/assistant") == before


async def test_a_target_that_disappears_in_mid_change_is_named_and_the_others_go_on(stage: Stage) -> None:
    """Its Deployment is deleted between a scale-up and the pods that it asked for."""
    stage.apply(policy("first", OLD))
    await stage.tick(3, ready=False)
    for key in [k for k in stage.cluster.objects if k.startswith(("Deployment/llm/assistant", "Pod/llm/assistant"))]:
        del stage.cluster.objects[key]
    stage.cluster.target("other", 2)
    stage.apply(policy("beside", NEW, "other"))
    done = await stage.tick(3)
    status, reason, message = stage.condition("TargetFound", "llm/first")
    assert (status, reason) == ("False", "TargetNotFound")
    assert "llm/assistant" in message
    assert stage.condition("TargetFound", "llm/beside")[:2] == ("True", "Found")
    assert done.refusals == ()
    stage.cluster.target("assistant", 3)
    stage.cluster.reconcile()
    await stage.tick(3)
    assert stage.condition("TargetFound", "llm/first")[:2] == ("True", "Found")
    assert stage.cluster.replicas("llm/assistant") >= 3
