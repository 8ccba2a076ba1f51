"""Status documents: whole numbers, safe rounding, nothing said of what is unknown."""

from __future__ import annotations

import dataclasses

import pytest

from capstan.api import status, v1alpha1
from capstan.model.classes import Edges
from capstan.model.plan import Effect, PolicyDecision, PoolPlan, PowerPlan
from capstan.model.reasons import Reason
from capstan.model.workload import Phase
from capstan.powercap import domains
from support import api

NOW_S = 1_795_000_000.4  # 2026-11-18T11:06:40Z


def decision(*pools: PoolPlan) -> PolicyDecision:
    return PolicyDecision("llm/chat", pools, Effect(), Reason.FORECAST_PEAK, Reason.LEAST_ENERGY)


@pytest.mark.parametrize(
    ("pools", "word"),
    [
        pytest.param((PoolPlan("all", 4, 3, 1410.0),), "3xtp4@1410MHz", id="capped"),
        pytest.param((PoolPlan("all", 4, 3),), "3xtp4", id="full-clock"),
        pytest.param((PoolPlan("a", 4, 1), PoolPlan("b", 8, 2, 1980.0)), "1xtp4 2xtp8@1980MHz", id="two-pools"),
        pytest.param(
            (PoolPlan("sm", 4, 3, 1410.0, (0, 1, 2, 3, 4, 5)), PoolPlan("l", 8, 2, None, (6, 7, 8))),
            "sm:3xtp4@1410MHz l:2xtp8",
            id="class-pools",
        ),
        pytest.param(
            (PoolPlan("prefill", 8, 2, phase=Phase.PREFILL), PoolPlan("decode", 4, 1, 720.0, phase=Phase.DECODE)),
            "prefill:2xtp8 decode:1xtp4@720MHz",
            id="phases-apart",
        ),
        pytest.param((), "-", id="no-plan"),
    ],
)
def test_a_plan_in_a_word(pools: tuple[PoolPlan, ...], word: str) -> None:
    assert status.summary(pools) == word


def test_figures_are_whole_numbers_and_the_unknown_is_left_out() -> None:
    assert status.effect(Effect(power_w=5210.6, j_per_output_token=1.2344, ttft_s=0.3104)) == {
        "powerWatts": 5211,
        "millijoulesPerOutputToken": 1234,
        "ttftMilliseconds": 310,
    }
    assert status.effect(Effect()) == {}


def test_a_reason_stands_beside_every_plan() -> None:
    built = status.serving_status(decision(), generation=7, applied=(), observed=Effect())
    assert built["observedGeneration"] == 7
    assert built["plan"] == {
        "summary": "-",
        "replicasReason": "ForecastPeak",
        "clockReason": "LeastEnergy",
        "tensorParallelReason": "NoChangeNeeded",
        "pools": [],
    }
    assert "advice" not in built


def test_what_is_shed_is_said_in_percent_of_the_plan() -> None:
    capped = dataclasses.replace(decision(PoolPlan("all", 4, 3)), power=PowerPlan(shed_ratio=0.15))
    built = status.serving_status(capped, generation=7, applied=(), observed=Effect())
    assert built["plan"]["shedPercent"] == 15  # type: ignore[index]  # a status is JSON


def advised() -> PolicyDecision:
    """One pool as planned; by class it would be two, for 900 W less."""
    pools = (PoolPlan("sm", 4, 2, 1410.0, (0, 1, 2, 3, 4, 5)), PoolPlan("l", 8, 1, None, (6, 7, 8)))
    return dataclasses.replace(
        decision(PoolPlan("all", 4, 4)),
        advice=pools,
        advice_reason=Reason.LEAST_ENERGY,
        advice_expected=Effect(power_w=7100.0),
        tp_reason=Reason.ADVISE_ONLY,
    )


def test_advice_names_its_pools_their_classes_and_what_it_should_cost() -> None:
    built = status.serving_status(advised(), generation=1, applied=(), observed=Effect())
    assert built["advice"] == {
        "summary": "sm:2xtp4@1410MHz l:1xtp8",
        "reason": "LeastEnergy",
        "pools": [
            {
                "name": "sm",
                "classes": ["SS", "SM", "SL", "MS", "MM", "ML"],
                "tensorParallel": 4,
                "replicas": 2,
                "clockMegahertz": 1410,
            },
            {"name": "l", "classes": ["LS", "LM", "LL"], "tensorParallel": 8, "replicas": 1},
        ],
        "expected": {"powerWatts": 7100},
    }
    plan = built["plan"]
    assert isinstance(plan, dict)
    assert plan["tensorParallelReason"] == "AdviseOnly"


def test_advice_of_every_class_alone_in_every_degree_fits_the_schema() -> None:
    """16 classes in 7 degrees each: what four buckets each way and all degrees could come to at most."""
    edges = Edges((2, 3, 4), (2, 3, 4))
    pools = tuple(
        PoolPlan(edges.pool_name((code,)), 1 << power, 1, 1980.0, (code,)) for code in range(16) for power in range(7)
    )
    wide = dataclasses.replace(advised(), advice=pools)
    built = status.serving_status(wide, generation=1, applied=(), observed=Effect(), edges=edges)
    v1alpha1.ServingPolicy.model_validate({**api.chat(), "status": built})


def test_what_we_build_is_what_the_model_describes() -> None:
    """A key that the schema lacks would be pruned by the API server."""
    built = status.serving_status(
        decision(PoolPlan("all", 4, 3, 1410.0)),
        generation=1,
        applied=(PoolPlan("all", 4, 2),),
        observed=Effect(1.0, 2.0, 3.0, 4.0),
    )
    ready = status.condition("Ready", holds=None, reason="NoData", message="m", generation=1, now_s=NOW_S)
    v1alpha1.ServingPolicy.model_validate({**api.chat(), "status": {**built, "conditions": [ready]}})


def test_power_is_rounded_to_the_safe_side() -> None:
    """Draws up, headroom down: 39,999.2 W of 40,000 leave 0 W, not 1."""
    step = domains.Step(
        level=domains.Level.NORMAL,
        caps=domains.NO_CAPS,
        memory=domains.DomainMemory(),
        measured_w=None,
        projected_w=39_999.2,
        utilisation_ratio=0.99998,
        headroom_w=0.8,
        reason=Reason.TELEMETRY_LOST,
    )
    built = status.domain_status(step, status.DomainFigures(10_000.0, 0), generation=2)
    assert built == {
        "observedGeneration": 2,
        "projectedWatts": 40_000,
        "headroomWatts": 0,
        "budgetInForceWatts": 10_000,
        "state": "Normal",
        "cappedGPUs": 0,
    }
    v1alpha1.PowerDomain.model_validate({**api.rack(), "status": built})


def test_a_transition_time_moves_only_with_the_status() -> None:
    def at(now_s: float, *, holds: bool, reason: str) -> status.Status:
        return status.condition("SLOMet", holds=holds, reason=reason, message="", generation=1, now_s=now_s)

    first = status.following([], [at(NOW_S, holds=True, reason="Met")])
    later = status.following(first, [at(NOW_S + 60, holds=True, reason="AtRisk")])
    assert later[0]["lastTransitionTime"] == "2026-11-18T11:06:40Z"
    assert later[0]["reason"] == "AtRisk"
    broken = status.following(later, [at(NOW_S + 120, holds=False, reason="Violated")])
    assert broken[0]["lastTransitionTime"] == "2026-11-18T11:08:40Z"


def test_a_long_message_is_cut() -> None:
    made = status.condition("Ready", holds=False, reason="APIRejected", message="x" * 5000, generation=1, now_s=NOW_S)
    assert len(str(made["message"])) == status.MESSAGE_CHARS
