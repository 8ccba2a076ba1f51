"""The serving cycle on a cluster that remembers every write: what is written, what is not, and what is said."""

from __future__ import annotations

import pytest

from capstan.serving import manifest, ports
from capstan.serving.store import Kind
from support.serving import Stage, assistant, chat

CHAT = "llm/chat-tp4"
FRONT = ["apply Deployment/llm/chat-tp4", "apply Service/llm/chat", "apply PodDisruptionBudget/llm/chat"]
BUSY_RPS = 12.0  # more than one replica of four H100 carries within 2 s / 100 ms, so the plan is several


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def busy(stage: Stage, policy: manifest.Manifest | None = None) -> int:
    """Apply a policy under load and run until its replicas settle; return how many there are."""
    stage.telemetry.rps = BUSY_RPS
    stage.apply(chat() if policy is None else policy)
    await stage.tick(12)
    return stage.cluster.replicas(CHAT)


async def test_a_new_policy_becomes_a_deployment_a_service_and_a_budget(stage: Stage) -> None:
    stage.apply(chat())
    await stage.tick()
    assert stage.cluster.of("apply") == FRONT


async def test_load_is_met_through_scale_and_said_so(stage: Stage) -> None:
    replicas = await busy(stage)
    assert replicas > 1
    assert all(
        "replicas" not in manifest.mapping(w.document, "spec") for w in stage.cluster.writes if w.verb == "apply"
    )
    assert stage.condition("Ready")[:2] == ("True", "Applied")
    knobs = [d["knob"] for d in manifest.items(stage.cluster.statuses["llm/chat"], "decisions")]
    assert "replicas" in knobs
    assert any("Scaled llm/chat-tp4" in e.note for e in stage.cluster.events)


LEARNT_TICKS = 120
"""Ten minutes: by then what is learnt of decode times stands (here all of its quarter: engines hold what they hold)."""


async def test_a_settled_world_is_written_nothing(stage: Stage) -> None:
    await busy(stage)
    await stage.tick(LEARNT_TICKS)
    stage.cluster.writes.clear()
    await stage.tick(30)
    assert stage.cluster.of() == []


async def test_a_restarted_operator_applies_once_and_changes_nothing(stage: Stage) -> None:
    replicas = await busy(stage)
    stage.cluster.writes.clear()
    stage.cycle = stage.operator()
    await stage.tick(20)
    assert stage.cluster.of("apply", "scale") == [*FRONT]
    assert stage.cluster.replicas(CHAT) == replicas


# --- knobs and ownership ---------------------------------------------------------------------------


@pytest.mark.parametrize("between", ["Advise", "Off"])
async def test_act_advise_act_leaves_replicas_constant(stage: Stage, between: str) -> None:
    replicas = await busy(stage)
    stage.cluster.writes.clear()
    for knob in (between, "Act"):
        stage.apply(chat(knobs__replicas=knob))
        await stage.tick(5)
        assert stage.cluster.replicas(CHAT) == replicas
    assert stage.cluster.of("scale") == []


async def test_an_advising_knob_publishes_a_plan_and_leaves_replicas_to_their_owner(stage: Stage) -> None:
    replicas = await busy(stage, chat(knobs__replicas="Advise"))
    assert replicas == 1
    plan = manifest.items(stage.cluster.statuses["llm/chat"], "plan", "pools")
    assert (manifest.number(plan[0], "replicas") or 0) > 1
    assert stage.condition("ControllerConflict")[0] == "False"


async def test_an_hpa_on_an_acting_knob_is_reported_and_not_fought_and_clocks_go_on(stage: Stage) -> None:
    stage.cluster.autoscaler("chat-tp4")
    assert await busy(stage) == 1
    status, reason, message = stage.condition("ControllerConflict")
    assert (status, reason) == ("True", "ControllerConflict")
    assert "llm/hpa-chat-tp4" in message
    assert stage.cluster.of("scale") == []

    stage.telemetry.rps = 0.5
    await stage.tick(40)
    assert any(key == "apply NodeCap/gpu-0" for key in stage.cluster.of("apply"))

    del stage.cluster.objects["HorizontalPodAutoscaler/llm/hpa-chat-tp4"]
    stage.telemetry.rps = BUSY_RPS
    await stage.tick(8)
    assert stage.condition("ControllerConflict")[0] == "False"
    assert stage.cluster.replicas(CHAT) > 1


async def test_a_paused_policy_is_left_as_it_is_clock_caps_included(stage: Stage) -> None:
    stage.apply(chat())
    await stage.tick(6)
    caps = stage.cluster.snapshot().node_plans["gpu-0"].pods
    assert caps
    stage.apply(chat(paused=True))
    stage.telemetry.rps = BUSY_RPS
    await stage.tick()
    stage.cluster.writes.clear()
    await stage.tick(10)
    assert stage.cluster.of() == []
    assert stage.cluster.snapshot().node_plans["gpu-0"].pods == caps
    assert stage.condition("Paused")[:2] == ("True", "Paused")


# --- bad data --------------------------------------------------------------------------------------


async def test_without_a_profile_it_serves_the_minimum_at_full_clock_and_says_which_is_nearest(stage: Stage) -> None:
    stage.telemetry.rps = BUSY_RPS
    stage.apply(chat(model="acme/unknown-7b", bounds__minReplicas=2))
    await stage.tick(10)
    assert stage.cluster.replicas(CHAT) == 2
    assert "apply NodeCap/gpu-0" not in stage.cluster.of("apply")
    status, reason, message = stage.condition("ProfileReady")
    assert (status, reason) == ("False", "ProfileMissing")
    assert "nearest is llama-3.1-70b-h100-sxm5-80gb-tp4, which differs in model" in message


def _down(stage: Stage) -> None:
    stage.telemetry.error = "Prometheus cannot be reached: refused"


def _empty(stage: Stage) -> None:
    stage.telemetry.silent = {p.name for p in stage.cluster.snapshot().pods}


def _stale(stage: Stage) -> None:
    stage.telemetry.age_s = 300.0


@pytest.mark.parametrize(
    ("blind", "reason"),
    [(_down, "SourceDown"), (_empty, "LabelMismatch"), (_stale, "StaleData")],
    ids=["prometheus-is-down", "no-series-for-our-pods-or-only-nan", "scrapes-stopped"],
)
async def test_blind_it_removes_nothing_and_gives_up_its_caps(stage: Stage, blind: object, reason: str) -> None:
    """P3: less load than before, but nobody can see it; a cycle that could see would shrink."""
    replicas = await busy(stage)
    stage.telemetry.rps = 0.5
    await stage.tick(40)
    seeing = stage.cluster.replicas(CHAT)
    assert seeing < replicas
    assert stage.cluster.snapshot().node_plans["gpu-0"].pods

    assert callable(blind)
    blind(stage)
    await stage.tick(30)
    assert stage.cluster.replicas(CHAT) == seeing
    assert stage.cluster.snapshot().node_plans["gpu-0"].pods == ()
    assert stage.condition("MetricsAvailable")[:2] == ("False", reason)


async def test_blind_before_the_load_falls_it_keeps_every_replica(stage: Stage) -> None:
    replicas = await busy(stage)
    _down(stage)
    await stage.tick(40)
    assert stage.cluster.replicas(CHAT) == replicas


async def test_the_join_self_test_names_the_pods_that_are_ready_and_not_in_the_metrics(stage: Stage) -> None:
    await busy(stage)
    stage.telemetry.silent = {"chat-tp4-1"}
    await stage.tick(10)
    status, reason, message = stage.condition("MetricsAvailable")
    assert (status, reason) == ("False", "LabelMismatch")
    assert "chat-tp4-1" in message
    assert "chat-tp4-0" not in message


async def test_the_floor_holds_whatever_the_plan_says(stage: Stage) -> None:
    """P4: minReplicas is above what the load needs."""
    await busy(stage, chat(bounds__minReplicas=3))
    stage.telemetry.rps = 0.2
    await stage.tick(60)
    assert stage.cluster.replicas(CHAT) == 3


# --- refusals --------------------------------------------------------------------------------------


async def test_an_invalid_template_is_said_in_the_servers_words_and_leaves_nothing_behind(stage: Stage) -> None:
    said = 'Deployment.apps "chat-tp4" is invalid: spec.template.spec.containers[0].image: Required value'
    stage.cluster.refuse["dry-run Deployment/llm/chat-tp4"] = ports.Refused(ports.Refusal.REJECTED, said)
    stage.apply(chat())
    await stage.tick(5)
    assert stage.cluster.of("apply") == []
    assert stage.condition("EngineReady") == ("False", "InvalidTemplate", said)
    assert stage.condition("Ready")[:2] == ("False", "InvalidTemplate")

    stage.cluster.refuse.clear()
    stage.apply(chat(knobs__clock="Off"))  # the template itself did not change, so it rests for a minute
    await stage.tick(12)
    assert stage.cluster.of("apply") == FRONT


async def test_a_refused_edit_leaves_what_serves_serving_and_growing(stage: Stage) -> None:
    stage.apply(chat())
    await stage.tick(3)
    stage.cluster.refuse["dry-run Deployment/llm/chat-tp4"] = ports.Refused(ports.Refusal.REJECTED, "no such class")
    stage.apply(chat(engine__template__spec__runtimeClassName="gone"))
    stage.telemetry.rps = BUSY_RPS
    await stage.tick(8)
    assert stage.condition("EngineReady") == ("False", "InvalidTemplate", "no such class")
    assert stage.cluster.replicas(CHAT) > 1


async def test_a_template_with_one_tp_may_not_be_given_two(stage: Stage) -> None:
    fixed = ["--model=m", "--tensor-parallel-size=4"]
    containers = [{"name": "engine", "image": "vllm/vllm-openai:v0.33.0", "args": fixed}]
    stage.apply(chat(bounds__tensorParallel=[4, 8], engine__template__spec__containers=containers))
    await stage.tick()
    assert stage.cluster.of("apply") == []
    assert stage.condition("EngineReady")[:2] == ("False", "TensorParallelFixed")


async def test_one_policys_refusal_is_not_the_others(stage: Stage) -> None:
    denied = ports.Refused(ports.Refusal.DENIED, "services is forbidden")
    stage.cluster.refuse["apply Service/llm/broken"] = denied
    stage.apply(chat("broken"))
    stage.apply(chat())
    await stage.tick(5)
    assert stage.condition("EngineReady", "llm/broken")[:2] == ("False", "APIDenied")
    assert stage.condition("Ready")[:2] == ("True", "Applied")
    # Tried once, then left in peace for a minute.
    assert [r.reason for done in stage.meter.reports for r in done.refusals] == ["APIDenied"]


async def test_an_unreadable_spec_is_one_clear_message_and_nothing_is_torn_down(stage: Stage) -> None:
    await busy(stage)
    replicas = stage.cluster.replicas(CHAT)
    stage.apply(chat(slo__ttftMilliseconds="2s"))
    await stage.tick(3)
    status, reason, message = stage.condition("Ready")
    assert (status, reason) == ("False", "InvalidSpec")
    assert message.startswith("spec.slo.ttftMilliseconds: ")
    assert stage.cluster.replicas(CHAT) == replicas


async def test_a_scale_on_an_old_version_is_tried_again_and_not_reported(stage: Stage) -> None:
    stage.telemetry.rps = BUSY_RPS
    stage.cluster.refuse["scale Deployment/llm/chat-tp4"] = ports.Refused(ports.Refusal.CONFLICT, "modified")
    stage.apply(chat())
    done = await stage.tick(8)
    assert done.refusals == ()
    assert stage.cluster.replicas(CHAT) == 1
    stage.cluster.refuse.clear()
    await stage.tick(8)
    assert stage.cluster.replicas(CHAT) > 1


async def test_a_rival_that_takes_our_fields_gets_fewer_and_fewer_answers(stage: Stage) -> None:
    """P6: 10 minutes of a controller that undoes every write; 5 + 10 + 20 … s apart makes 6 answers, not 120."""
    stage.apply(chat())
    await stage.tick(3)
    stage.cluster.writes.clear()
    for _ in range(120):
        raw = stage.cluster.objects["Deployment/llm/chat-tp4"]
        meta = {**manifest.mapping(raw, "metadata"), "managedFields": []}
        stage.cluster.put({**raw, "metadata": meta})
        await stage.tick()
    assert 5 <= len([w for w in stage.cluster.of("apply") if "Deployment" in w]) <= 7


async def test_a_node_cap_that_somebody_deleted_comes_back_with_a_higher_number(stage: Stage) -> None:
    stage.apply(chat())
    await stage.tick(6)
    before = stage.cluster.snapshot().node_plans["gpu-0"]
    del stage.cluster.objects["NodeCap/gpu-0"]
    await stage.tick(3)
    after = stage.cluster.snapshot().node_plans["gpu-0"]
    assert after.pods == before.pods
    assert after.sequence > before.sequence


# --- release ---------------------------------------------------------------------------------------


async def test_deleting_a_policy_in_the_middle_of_a_scale_up_ends_its_writes_and_its_caps(stage: Stage) -> None:
    stage.apply(chat())
    await stage.tick(6)
    assert stage.cluster.snapshot().node_plans["gpu-0"].pods
    stage.telemetry.rps = BUSY_RPS
    await stage.tick(2, ready=False)
    stage.store.drop(Kind.POLICY, "llm/chat")
    stage.cluster.writes.clear()
    await stage.tick(3)
    assert stage.cluster.of("scale", "status") == []
    assert stage.cluster.snapshot().node_plans["gpu-0"].pods == ()


async def test_a_target_is_scaled_only_when_its_original_and_the_finalizer_are_safe(stage: Stage) -> None:
    stage.cluster.target("assistant", replicas=2)
    stage.telemetry.rps = BUSY_RPS
    stage.apply(assistant())
    await stage.tick()
    targets = manifest.items(stage.cluster.statuses["llm/assistant"], "targets")
    assert [dict(t) for t in targets] == [{"name": "assistant", "originalReplicas": 2}]
    assert stage.cluster.of("apply", "scale") == ["apply ServingPolicy/llm/assistant"]
    assert stage.cluster.followed == {"llm"}
    await stage.tick(10)
    assert stage.cluster.replicas("llm/assistant") > 2
    assert "Deployment" not in " ".join(stage.cluster.of("apply"))


async def test_deleting_a_policy_gives_its_target_back_and_then_lets_go(stage: Stage) -> None:
    stage.cluster.target("assistant", replicas=2)
    stage.telemetry.rps = BUSY_RPS
    stage.apply(assistant())
    await stage.tick(12)
    assert stage.cluster.replicas("llm/assistant") > 2
    raw = stage.store.all(Kind.POLICY)[0]
    meta = {**manifest.mapping(raw, "metadata"), "deletionTimestamp": "2026-09-21T15:00:00Z"}
    stage.store.put(Kind.POLICY, {**raw, "metadata": meta})
    stage.cluster.writes.clear()
    await stage.cycle.once()
    assert stage.cluster.replicas("llm/assistant") == 2
    released = stage.cluster.objects["ServingPolicy/llm/assistant"]
    assert manifest.mapping(released, "metadata")["finalizers"] == []


async def test_a_target_that_is_not_there_is_named(stage: Stage) -> None:
    stage.apply(assistant())
    await stage.tick()
    status, reason, message = stage.condition("TargetFound", "llm/assistant")
    assert (status, reason) == ("False", "TargetNotFound")
    assert "llm/assistant" in message


# --- power and priority ----------------------------------------------------------------------------

DOMAIN = {
    "kind": "PowerDomain",
    "metadata": {"name": "rack-7", "uid": "rack", "generation": 1},
    "spec": {
        "mode": "Act",
        "nodeSelector": {"matchLabels": {"rack": "7"}},
        "highPriorityNamespaces": {"matchLabels": {"capstan.dev/high-priority": "true"}},
    },
    "status": {"state": "LowBase"},
}


async def test_high_priority_is_granted_by_the_domain_and_not_by_asking(stage: Stage) -> None:
    stage.store.put(Kind.DOMAIN, DOMAIN)
    stage.cluster.put({"kind": "Namespace", "metadata": {"name": "llm", "labels": {}}})
    stage.apply(chat(priority="High"))
    await stage.tick()
    assert stage.condition("PriorityGranted")[:2] == ("False", "HighNotAdmitted")
    labels = {"capstan.dev/high-priority": "true"}
    stage.cluster.put({"kind": "Namespace", "metadata": {"name": "llm", "labels": labels}})
    await stage.tick()
    assert stage.condition("PriorityGranted")[0] == "True"


async def test_a_capped_domain_takes_no_more_replicas(stage: Stage) -> None:
    stage.cluster.node(rack="7")
    stage.store.put(Kind.DOMAIN, DOMAIN)
    stage.apply(chat())
    await stage.tick(3)
    stage.telemetry.rps = BUSY_RPS
    await stage.tick(5)
    assert stage.cluster.replicas(CHAT) == 1
    status, reason, message = stage.condition("PowerConstrained")
    assert (status, reason) == ("True", "PowerLimited")
    assert "rack-7" in message


# --- scale-down ------------------------------------------------------------------------------------


async def test_a_scale_down_marks_the_idlest_pods_first_and_only_then(stage: Stage) -> None:
    await busy(stage)
    assert not any("Pod/" in key for key in stage.cluster.of("apply"))
    stage.telemetry.rps = 0.5
    stage.cluster.writes.clear()
    await stage.tick(40)
    marked = [w for w in stage.cluster.writes if w.key.startswith("Pod/")]
    assert marked
    assert all(
        "pod-deletion-cost" in next(iter(manifest.strings(w.document, "metadata", "annotations"))) for w in marked
    )
    assert stage.cluster.of("apply", "scale").index(f"scale {CHAT}") > 0
