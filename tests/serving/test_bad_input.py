"""What a person may get wrong: one clear reason each, and capacity never falls."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from capstan.model.plan import Effect, PolicyDecision
from capstan.model.reasons import Reason
from capstan.serving import findings
from capstan.serving.conditions import Type
from support.serving import Stage, chat

Spec = dict[str, object]


@pytest.fixture
def stage() -> Stage:
    made = Stage()
    made.telemetry.rps = 8.0
    return made


async def grown(stage: Stage) -> int:
    """Let a plain policy meet the load; return its replicas."""
    stage.apply(chat())
    await stage.tick(8)
    return stage.cluster.replicas("llm/chat-tp4")


@pytest.mark.parametrize(
    ("spec", "condition", "reason", "says"),
    [
        pytest.param(
            {"bounds__tensorParallel": [4, 16]},
            "ProfileReady",
            "TensorParallelUnprofiled",
            "no ServingProfile for tp 16 of spec.bounds: left out",
            id="a degree without a profile",
        ),
        pytest.param(
            {"slo__tpotMilliseconds": 1},
            "SLOFeasible",
            "SLOInfeasible",
            "closest is tp 4 at full clock: TTFT",
            id="an SLO that no configuration meets",
        ),
        pytest.param(
            {"bounds__maxReplicas": 1, "bounds__maxGPUs": 4},
            "SLOFeasible",
            "SLOInfeasible",
            "replicas, the bounds leave 1; raise spec.bounds",
            id="a load that the bounds cannot carry",
        ),
        pytest.param(
            {"bounds__minReplicas": 13},
            "Ready",
            "InvalidSpec",
            "bounds.minReplicas: must not be above maxReplicas",
            id="bounds that exclude each other",
        ),
        pytest.param(
            {"bounds__minReplicas": 12, "bounds__maxGPUs": 16},
            "Ready",
            "InvalidSpec",
            "are more than maxGPUs",
            id="more replicas than GPUs",
        ),
        pytest.param({"bounds__minClockMegahertz": 5000}, "SLOFeasible", "Feasible", "", id="a clock that no GPU has"),
    ],
)
async def test_there_is_one_clear_reason(stage: Stage, spec: Spec, condition: str, reason: str, says: str) -> None:
    stage.telemetry.rps = 30.0
    stage.apply(chat(**spec))
    await stage.tick(8)
    _, found, message = stage.condition(condition)
    assert found == reason
    assert says in message


@pytest.mark.parametrize(
    "spec",
    [
        {"bounds__tensorParallel": [4, 16]},
        {"slo__tpotMilliseconds": 1},
        {"slo__promptTiers": [{"belowTokens": 100_000, "ttftMilliseconds": 1}]},
        {"bounds__minReplicas": 13},
        {"bounds__minReplicas": 12, "bounds__maxGPUs": 16},
        {"bounds__minClockMegahertz": 5000},
        {"objective": "Cost"},
        {"pools": {"scheme": "ByClass", "count": 9}},
        {"pools": {"scheme": "Disaggregated", "count": 2}},
        {"model": "nobody/knows"},
        {"profileNames": ["of-nothing"]},
    ],
    ids=str,
)
async def test_a_bad_edit_of_a_policy_that_serves_takes_no_capacity_away(stage: Stage, spec: Spec) -> None:
    before = await grown(stage)
    assert before > 1
    stage.apply(chat(**spec))
    await stage.tick(20)
    assert stage.cluster.replicas("llm/chat-tp4") >= before


async def test_where_no_configuration_meets_the_slo_it_serves_at_full_clock(stage: Stage) -> None:
    stage.apply(chat(slo__tpotMilliseconds=1))
    done = await stage.tick(8)
    (plan,) = done.news[0].decision.pools
    assert plan.clock_cap_mhz is None
    assert stage.condition("SLOFeasible")[:2] == ("False", "SLOInfeasible")


async def test_an_slo_that_is_met_again_says_so(stage: Stage) -> None:
    stage.apply(chat(slo__tpotMilliseconds=1))
    await stage.tick(6)
    stage.apply(chat())
    await stage.tick(6)
    assert stage.condition("SLOFeasible")[:2] == ("True", "Feasible")


async def test_while_nothing_is_known_feasibility_is_unknown_with_the_reason_of_the_hold(stage: Stage) -> None:
    stage.apply(chat())
    await stage.tick(2, ready=False)
    assert stage.condition("SLOFeasible")[:2] == ("Unknown", "Starting")


async def test_a_counter_that_goes_mad_or_away_removes_nothing(stage: Stage) -> None:
    """Load, then a window in which nothing was counted at all, then load again: three kinds of reading in a row."""
    before = await grown(stage)
    for rps in (0.0, 8.0):
        stage.telemetry.rps = rps
        await stage.tick(2)
        assert stage.cluster.replicas("llm/chat-tp4") >= before
    stage.telemetry.error = "Prometheus cannot be reached"
    await stage.tick(30)
    assert stage.cluster.replicas("llm/chat-tp4") >= before


def decided(**changes: Any) -> PolicyDecision:
    base = PolicyDecision("llm/chat", (), Effect(), Reason.FORECAST_PEAK, Reason.LEAST_ENERGY)
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"forecast_drifted": True}, [(Type.FORECAST_DRIFT, True, Reason.DRIFTED)]),
        ({"profile_drifted": False}, [(Type.PROFILE_DRIFT, False, Reason.NO_CHANGE_NEEDED)]),
    ],
    ids=["nobody knows", "a forecast that drifts", "a profile that holds"],
)
def test_drift_is_said_once_something_is_known_of_it(changes: Spec, said: list[tuple[Type, bool, Reason]]) -> None:
    found = findings.drifts(decided(**changes))
    assert [(c.type, c.holds, c.reason) for c in found] == said
    assert [c.bad for c in found] == [holds for _, holds, _ in said], "drift is news, and its absence is not"
