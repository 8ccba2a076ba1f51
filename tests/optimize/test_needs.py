"""The GPUs that a policy needs: under the load that is there, and to be ready; more at once, less after a while."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import fleet, plan
from capstan.model.policy import Bounds, Knob, Knobs
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing
from capstan.optimize import needs
from capstan.optimize.case import Case, Settings
from support.builders import policy
from support.strategies import BOTH, service

NOW_S, HOLD_S = 5000.0, 1800.0
ROOMY = policy(bounds=Bounds(1, 12, tensor_parallel=(4, 8)), knobs=Knobs(Knob.ACT, Knob.ACT, Knob.ACT))


def case(rate_rps: float, standing: plan.Fleet = ((4, 2),), **changes: Any) -> Case:
    """A pool under a load that has stood still for a quarter of an hour."""
    known = tuple((NOW_S - 5.0 * back, rate_rps) for back in reversed(range(180)))
    memory = plan.PoolMemory(
        "all", known, (1155.0, 211.0, 0.9), fleet=standing, fleet_since_s=NOW_S - 3600, reshaped_at_s=NOW_S
    )
    base = Case(
        now_s=NOW_S,
        policy=ROOMY,
        slo=ROOMY.slo,
        pool="all",
        classes=(),
        seen=service((), rate=rate_rps),
        pools=tuple(fleet.PoolObserved("all", tp, count, count) for tp, count in standing),
        profiles=BOTH,
        memory=memory,
        settings=Settings(cluster_period_s=HOLD_S),
    )
    return dataclasses.replace(base, **changes)


def gpus(found: plan.Needs) -> tuple[int, int]:
    return found.serving.gpus, found.ready.gpus


KEPT = policy(bounds=ROOMY.bounds, knobs=Knobs(Knob.OFF, Knob.ACT, Knob.ACT))
FEW = policy(bounds=Bounds(1, 12, max_gpus=8, tensor_parallel=(4, 8)), knobs=ROOMY.knobs)


@pytest.mark.parametrize(
    ("one", "found"),
    [
        (case(1.0), (4, 4)),
        (case(5.0), (8, 8)),
        (case(5.0, ((8, 2),)), (8, 8)),
        (case(5.0, foreseen_rps=20.0), (8, 16)),
        (case(12.0, most_gpus=4), (12, 12)),
        (case(12.0, policy=FEW), (8, 8)),
        (case(1.0, ((4, 5),), policy=KEPT), (20, 20)),
        (case(1.0, ((4, 5),), seen=service((), rate=Missing(Reason.NO_DATA))), (20, 20)),
        (case(1.0, seen=service((), rate=1.0, waiting=Fresh(100.0, 1.0))), (12, 4)),
    ],
    ids=[
        "one replica of 4.9 rps carries 1.1", "and two carry 5.2", "of eight GPUs one carries it",
        "a peak that history tells of is no load yet", "what the fleet has left does not matter",
        "what the bounds allow does", "replicas that are not ours to move", "blind, what stands",
        "requests wait: one more than serve",
    ],
)  # fmt: skip
def test_what_a_pool_needs(one: Case, found: tuple[int, int]) -> None:
    assert gpus(needs.of([one], None)) == found


def test_pools_need_what_they_need_together() -> None:
    assert gpus(needs.of([case(5.0), case(12.0, foreseen_rps=20.0)], None)) == (20, 24)


@given(st.integers(0, 40), st.floats(0.0, 4 * HOLD_S))
def test_it_needs_more_at_once_and_less_once_that_has_lasted(before: int, ago_s: float) -> None:
    """What it needed last counts for as long as replicas stand, then what it needs now."""
    last = plan.Need(before, NOW_S - ago_s)
    found = needs.of([case(5.0)], plan.Needs(last, last))
    stands = before > 8 and ago_s < HOLD_S
    assert found.serving == (last if stands else plan.Need(8, NOW_S))


@given(st.lists(st.sampled_from((1.0, 4.5, 5.2, 9.0)), min_size=2, max_size=30))
def test_under_a_load_that_wavers_it_only_rises_within_a_hold(rates_rps: list[float]) -> None:
    known: plan.Needs | None = None
    seen: list[int] = []
    for rate_rps in rates_rps:
        known = needs.of([case(rate_rps)], known)
        seen.append(known.serving.gpus)
    assert seen == sorted(seen)
