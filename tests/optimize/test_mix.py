"""The mix of degrees: an integer programme proposes, closed forms decide; compared with looking at every fleet."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import fleets, mix
from support.builders import profile
from support.planned import with_tp

TP4 = profile()
BOTH = (TP4, with_tp(TP4, 8))
CHAT = Slo(2.0, 0.1)


def question(rate_rps: float = 6.0, **changes: Any) -> mix.Question:
    """Six conversations a second, up to eight replicas on 48 GPUs."""
    base = mix.Question(BOTH, Workload(rate_rps, 1155, 211), CHAT, 1.2 * rate_rps, 8, 48, 0.9)
    return dataclasses.replace(base, **changes)


def carrying(asked: mix.Question) -> list[mix.Answer]:
    """Every fleet inside the limits that carries the peak, with its watts."""
    each = mix.capacities_rps(asked)
    counts = range(asked.most_replicas + 1)
    every = (fleets.of({4: n, 8: m}) for n, m in itertools.product(counts, counts))
    fit = (f for f in every if f and mix.allowed(asked, f) and fleets.covers(f, asked.least))
    able = [f for f in fit if fleets.capacity_rps(f, each) >= asked.peak_rps - 1e-9]
    return [mix.Answer(f, mix.cost_w(asked, f, each)) for f in able]


@pytest.mark.parametrize("rate_rps", [0.5, 3.0, 6.0, 11.0], ids=["one replica", "a few", "more", "near the limit"])
def test_the_answer_is_as_cheap_as_the_best_of_all_fleets(rate_rps: float) -> None:
    """To what the grid of loads and the solver's gap leave: eight loads a degree, half a percent; 3 % together."""
    asked = question(rate_rps, most_replicas=5)
    found, every = mix.cheapest(asked), carrying(asked)
    assert found is not None
    assert every
    assert found.cost_w <= min(answer.cost_w for answer in every) * 1.03


@settings(max_examples=12)
@given(
    st.floats(0.1, 20.0), st.integers(1, 8), st.sampled_from((None, 4, 8, 16, 30)), st.floats(0.0, 200.0),
    st.sampled_from(((), ((4, 1),), ((4, 1), (8, 1)))),
)  # fmt: skip
def test_an_answer_keeps_every_limit_and_carries_the_peak(
    rate_rps: float, replicas: int, gpus: int | None, per_gpu_w: float, least: tuple[tuple[int, int], ...]
) -> None:
    asked = question(rate_rps, most_replicas=replicas, most_gpus=gpus, per_gpu_w=per_gpu_w, least=least)
    found = mix.cheapest(asked)
    if found is None:
        return
    assert mix.allowed(asked, found.fleet)
    assert fleets.covers(found.fleet, least)
    assert fleets.capacity_rps(found.fleet, mix.capacities_rps(asked)) >= asked.peak_rps * (1 - 1e-6)


@settings(max_examples=8)
@given(st.floats(0.1, 15.0))
def test_an_answer_is_never_dearer_than_the_smallest_fleet_of_one_degree(rate_rps: float) -> None:
    asked = question(rate_rps)
    found, each = mix.cheapest(asked), mix.capacities_rps(asked)
    assert found is not None
    for tp, one_rps in each.items():
        count = -int(-asked.peak_rps // one_rps)
        if mix.allowed(asked, ((tp, count),)):
            assert found.cost_w <= mix.cost_w(asked, ((tp, count),), each) + 1e-9


def test_without_a_node_to_branch_there_is_an_answer_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mix, "NODES", 0)
    found = mix.cheapest(question())
    assert found is not None
    assert mix.allowed(question(), found.fleet)


def test_the_same_question_has_the_same_answer() -> None:
    """What is decided again by `replay verify` must be equal to the bit."""
    assert [mix.cheapest(question(7.3)) for _ in range(3)] == [mix.cheapest(question(7.3))] * 3


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"most_replicas": 1, "most_gpus": 4, "load": Workload(40.0, 1155, 211), "peak_rps": 50.0}, "too little room"),
        ({"slo": Slo(0.01, 0.1)}, "a limit below the host's own time"),
        ({"most_gpus": 2}, "fewer GPUs than a replica has"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_fleet_carries_has_no_answer(changes: dict[str, Any], why: str) -> None:
    del why
    assert mix.cheapest(dataclasses.replace(question(), **changes)) is None


def test_a_gpu_that_costs_more_than_its_joules_is_used_less() -> None:
    """1 kW a GPU beside what it draws: of the fleets that carry the load the one with the fewest GPUs is cheapest."""
    cheap, dear = (mix.cheapest(question(10.0, per_gpu_w=watts)) for watts in (0.0, 1000.0))
    assert cheap is not None
    assert dear is not None
    assert fleets.gpus(dear.fleet) <= fleets.gpus(cheap.fleet)
    assert dear.cost_w >= cheap.cost_w + 1000.0 * fleets.gpus(dear.fleet) * 0.97


def test_shares_stress_all_replicas_alike() -> None:
    """A tp 4 of 2 rps and a tp 8 of 4 rps under 3 rps: half of what each carries, 1 and 2 (rounded up by 2 %)."""
    parts = mix.shares(BOTH, ((4, 1), (8, 1)), Workload(3.0, 1155, 211), {4: 2.0, 8: 4.0})
    assert [part.load.arrival_rps for part in parts] == [pytest.approx(1.0, rel=0.0201), pytest.approx(2.0, rel=0.0201)]
    assert mix.shares(BOTH, ((4, 1),), Workload(3.0, 1155, 211), {8: 4.0}) == ()
