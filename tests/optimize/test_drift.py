"""When measurements have left the profile: the margin is spent for ten minutes, and nothing else is short."""

from __future__ import annotations

import dataclasses

import pytest

from capstan import decide
from capstan.model import fleet, plan
from capstan.model.policy import Bounds, Policy
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Sample
from capstan.optimize import case, drift
from support.builders import CHAT, H100, policy, profile

PERIODS = decide.Settings(cluster_period_s=60, pool_period_s=60, lookback_s=60, rate_window_s=30)
ROOMY = policy(bounds=Bounds(1, 40, tensor_parallel=(4,)))


def after(
    minutes: float, *, stress_ratio: float | None, subject: Policy = ROOMY, rps: float = 2.0, starting: int = 0
) -> plan.Decision:
    """Return the decision after some minutes of a stress that no plan changes."""
    stress: Sample[float] = fleet.NO_DATA if stress_ratio is None else Fresh(stress_ratio, 1.0)
    memory, now_s = plan.Memory(), 1000.0
    for _ in range(int(minutes * 12) + 1):
        replicas = memory.of(CHAT).of("all").fleet or ((4, 2),)
        ready = replicas[0][1]
        seen = fleet.ServiceObserved(
            CHAT,
            (fleet.PoolObserved("all", 4, desired=ready, ready=ready, starting=starting),),
            arrival_rps=Fresh(rps, 1.0),
            prompt_tokens=Fresh(1155.0, 1.0),
            output_tokens=Fresh(211.0, 1.0),
            waiting=Fresh(0.0, 1.0),
            stress_ratio=stress,
            gpu_product=H100,
        )
        look = fleet.Observed(now_s, (seen,))
        found = decide.decide(look, (subject,), (profile(startup_s=15),), memory, PERIODS)
        memory, now_s = found.memory, now_s + 5.0
    return found


@pytest.mark.parametrize(
    ("minutes", "stress_ratio", "drifted"),
    [
        pytest.param(9.0, 1.5, False, id="broken for nine minutes: it may still be learnt"),
        pytest.param(13.0, 1.5, True, id="spent after a minute or two, and ten minutes more"),
        pytest.param(30.0, 0.95, False, id="near the limits is where a plan wants to be"),
        pytest.param(30.0, 0.2, False, id="room says nothing of the profile: the load may only be light"),
        pytest.param(30.0, None, None, id="no latencies were seen: not known"),
    ],
)
def test_drift_is_told_after_ten_minutes_at_the_tight_end(
    minutes: float, stress_ratio: float | None, drifted: bool | None
) -> None:
    assert after(minutes, stress_ratio=stress_ratio).policies[0].profile_drifted is drifted


def test_too_few_replicas_are_no_fault_of_the_profile() -> None:
    """One replica is allowed where five are needed: latencies are bad, and the reason says why."""
    found = after(30.0, stress_ratio=3.0, subject=policy(bounds=Bounds(1, 1, tensor_parallel=(4,))), rps=25.0)
    assert found.policies[0].replicas_reason in drift.EXCUSES
    assert found.policies[0].profile_drifted is False
    assert found.memory.of(CHAT).of("all").bias_spent_since_s is None


def test_nor_are_replicas_that_start() -> None:
    assert after(30.0, stress_ratio=3.0, starting=1).policies[0].profile_drifted is False


def test_it_ends_with_the_first_room_that_is_found() -> None:
    """The margin loosens at once by a step: it is no longer at its end."""
    spent = after(13.0, stress_ratio=1.5).memory.of(CHAT).of("all")
    assert spent.bias_spent_since_s is not None
    tightest = PERIODS.slo_margin_ratio * (1 - case.MOST_BIAS_RATIO)
    assert spent.margin_ratio == pytest.approx(tightest)
    loosened = dataclasses.replace(spent, margin_ratio=tightest * case.LOOSER_RATIO)
    made = case.Case(
        1000.0, ROOMY, ROOMY.slo, "all", (), fleet.ServiceObserved(CHAT, ()), (), (profile(),), loosened, PERIODS
    )
    assert drift.spent_since_s(made, Reason.NO_CHANGE_NEEDED) is None
