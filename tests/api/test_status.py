"""Status documents: whole numbers, safe rounding, nothing said of what is unknown."""

from __future__ import annotations

import pytest

from capstan.api import status, v1alpha1
from capstan.model.plan import Effect, PolicyDecision, PoolPlan
from capstan.model.reasons import Reason
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
        "pools": [],
    }


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
    built = status.domain_status(step, generation=2, capped_gpus=0, safe_sum_w=None)
    assert built == {
        "observedGeneration": 2,
        "projectedWatts": 40_000,
        "headroomWatts": 0,
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
