"""An objective reaches the plan: dearer GPUs, never more of them; joules alone where nothing else was said."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan import decide
from capstan.model import fleet, plan
from capstan.model.objective import Series, Tariffs
from capstan.model.policy import Bounds, Knob, Knobs, Objective
from capstan.model.sample import Fresh
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import fleets, mix
from capstan.optimize.case import Settings
from capstan.units import JOULES_PER_KWH, SECONDS_PER_HOUR
from support.builders import CHAT, H100, policy
from support.small import BOTH, TP4

LOAD = Workload(0.0, 1155, 211)
QUESTION = mix.Question((TP4,), LOAD, Slo(2.0, 0.1), 0.0, 40, None, 0.9)

loads = st.floats(1.0, 20.0)
dear_w = st.floats(0.0, 1e6)


def answered(rps: float, per_gpu_w: float, *, peak: float = 1.3) -> mix.Answer:
    question = dataclasses.replace(QUESTION, load=LOAD.at(rps), peak_rps=peak * rps, per_gpu_w=per_gpu_w)
    found = mix.cheapest(question)
    assert found is not None
    return found


@settings(max_examples=25)
@given(loads, dear_w, dear_w)
def test_dearer_gpus_are_never_more_gpus(rps: float, one_w: float, two_w: float) -> None:
    cheap, dear = sorted((one_w, two_w))
    assert fleets.gpus(answered(rps, dear).fleet) <= fleets.gpus(answered(rps, cheap).fleet)


@settings(max_examples=25)
@given(loads, dear_w)
def test_whoever_counts_gpus_draws_no_less_than_whoever_counts_joules(rps: float, per_gpu_w: float) -> None:
    least, found = answered(rps, 0.0), answered(rps, per_gpu_w)
    assert found.cost_w - per_gpu_w * fleets.gpus(found.fleet) >= least.cost_w * (1 - 1e-9)


# --- through the whole decision ----------------------------------------------------------------------

CLEAN = Series((0.0,), (30 / JOULES_PER_KWH,))
TARIFFS = Tariffs(None, 11.06 / SECONDS_PER_HOUR, CLEAN, 20 / SECONDS_PER_HOUR)
SUBJECT = policy(
    bounds=Bounds(1, 40, tensor_parallel=(4, 8)),
    knobs=Knobs(replicas=Knob.ACT, tensor_parallel=Knob.ACT, clock=Knob.ACT),
)


def planned(kind: Objective, tariffs: Tariffs = TARIFFS, *, rps: float = 6.0, tp8: int = 2) -> plan.PolicyDecision:
    """The plan for replicas of 8 GPUs, half an hour after they were first looked at: whatever pays may be done."""
    seen = fleet.ServiceObserved(
        policy=CHAT,
        pools=(fleet.PoolObserved("all", 8, desired=tp8, ready=tp8),),
        arrival_rps=Fresh(rps, 1.0),
        prompt_tokens=Fresh(1155.0, 1.0),
        output_tokens=Fresh(211.0, 1.0),
        waiting=Fresh(0.0, 1.0),
        gpu_product=H100,
    )
    subject, made, memory = dataclasses.replace(SUBJECT, objective=kind), Settings(tariffs=tariffs), plan.Memory()
    for now_s in (1000.0, 2900.0):
        found = decide.decide(fleet.Observed(now_s, (seen,)), (subject,), BOTH, memory, made)
        memory = found.memory
    return found.policies[0]


def gpus(decision: plan.PolicyDecision) -> int:
    return sum(entry.tp * entry.replicas for entry in decision.pools)


@pytest.mark.parametrize("kind", [Objective.COST, Objective.CARBON])
def test_without_tariffs_every_objective_plans_as_joules_do(kind: Objective) -> None:
    assert planned(kind, Tariffs()) == planned(Objective.JOULES)


def test_a_constant_intensity_without_an_embodied_share_plans_as_joules_do() -> None:
    assert planned(Objective.CARBON, Tariffs(intensity=CLEAN)) == planned(Objective.JOULES)


def test_where_gpus_are_dear_the_same_load_gets_fewer_of_them() -> None:
    """Eight a second: two of tp 8 draw least; three of tp 4 carry them, too, on 12 GPUs at a higher clock."""
    assert gpus(planned(Objective.JOULES, rps=8.0)) == 16
    assert gpus(planned(Objective.COST, rps=8.0)) == 12


def test_watts_of_a_gpu_are_those_of_the_plan_s_own_hour() -> None:
    """Clean from 1,000 s to 1,060 s and dirty before: 20 g of 30 g per kWh are 667 W, of 300 g 66.7 W."""
    grid = Series((0.0, 1000.0), (300 / JOULES_PER_KWH, 30 / JOULES_PER_KWH))
    made = Settings(cluster_period_s=60, tariffs=dataclasses.replace(TARIFFS, intensity=grid))
    assert made.gpu_w(Objective.CARBON, 1000.0) == pytest.approx(666.7, rel=1e-3)
    assert made.gpu_w(Objective.CARBON, 900.0) == pytest.approx(66.67, rel=1e-3)
    assert made.gpu_w(Objective.JOULES, 1000.0) == 0.0
