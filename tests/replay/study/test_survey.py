"""What is chosen from a study, and the frontier: nothing on it is beaten, everything off it is."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.model.profile import ClockResponse
from capstan.replay.study import surface, survey
from capstan.replay.study.survey import TPOT, TTFT, Choice
from support import study as made

KIND = made.kind()


def choices(*goals: tuple[float, float, float]) -> tuple[Choice, ...]:
    """Choices of these (joules, TTFT, TPOT)."""
    sheet = made.sheet()
    return tuple(Choice(sheet, made.cell(j_per_output_token=j, ttft_s=a, tpot_s=b)) for j, a, b in goals)


GOALS = st.lists(st.tuples(*[st.integers(1, 6).map(float)] * 3), max_size=25)


@settings(max_examples=60)
@given(GOALS)
def test_efficient_choices_are_those_that_nothing_beats(goals: list[tuple[float, float, float]]) -> None:
    """Checked one against one: `a` beats `b` where it is nowhere worse and somewhere better."""
    kept = survey.efficient(choices(*goals))
    for one, flag in zip(goals, kept, strict=True):
        beaten = any(all(a <= b for a, b in zip(other, one, strict=True)) and other != one for other in goals)
        assert flag is not beaten


@given(GOALS, st.sampled_from((TTFT, TPOT)))
def test_a_frontier_falls_and_dominates_everything(goals: list[tuple[float, float, float]], latency: int) -> None:
    found = survey.frontier(choices(*goals), latency)
    pairs = [(one.latencies_s[latency], one.cell.j_per_output_token) for one in found]
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in itertools.pairwise(pairs))
    for goal in goals:
        assert any(late <= goal[1 + latency] and joules <= goal[0] for late, joules in pairs)


def test_the_best_is_the_least_energy_inside_the_slo() -> None:
    sheet = made.sheet(
        KIND,
        batches={
            1.0: made.line([9, 8, 7, 6, 5]),
            2.0: made.line([4, 3, 2, 1, 0.5], stress_ratio=0.95),  # keeps the limit, not the margin of it
        },
        edge=made.line([4.5, 4.2, 4.4, None, None], stress_ratio=0.9000001),
    )
    best = made.view(sheet).best(KIND)
    assert best is not None
    assert best.cell.j_per_output_token == 4.2


def test_where_nothing_keeps_the_slo_the_closest_is_known() -> None:
    sheet = made.sheet(KIND, batches={1.0: made.line([9, 8, 7, 6, 5], stress_ratio=3.0)})
    near = made.sheet(KIND, tp=8, batches={2.0: made.line([9, 9, 9, 9, 9], stress_ratio=2.0)})
    view = made.view(sheet, near)
    assert view.best(KIND) is None
    closest = view.closest(KIND)
    assert closest is not None
    assert closest.tp == 8
    assert all(view.at_load(KIND, load) is None for load in range(len(surface.LOADS)))


def test_a_study_looks_at_every_class_tp_and_response_once() -> None:
    told: list[float] = []
    kinds = (made.kind("SS", prompt_tokens=100, output_tokens=50), made.kind("LL", prompt_tokens=2000))
    found = survey.survey(
        (made.engine(8), made.engine(4)), kinds, responses=tuple(ClockResponse), margin=0.9, told=told.append
    )
    assert told == [0.25, 0.5, 0.75, 1.0]
    assert [view.response for view in found.views] == list(ClockResponse)
    for view in found.views:
        assert view.tps == (4, 8)
        assert view.kinds == kinds
        assert [sheet.profile.tp for sheet in view.of(kinds[1])] == [4, 8]
    assert found.nominal.response is ClockResponse.NOMINAL


def test_one_response_is_its_own_nominal() -> None:
    only = made.view(made.sheet(KIND), response=ClockResponse.HIGH)
    assert made.study(only).nominal is only


@pytest.mark.parametrize("load", range(len(surface.LOADS)), ids=[f"{share:.0%}" for share in surface.LOADS])
def test_loads_are_shares_of_what_the_strongest_tp_carries(load: int) -> None:
    engines = (made.engine(2, kv_tokens=20_000), made.engine(4))
    found = survey.survey(engines, (KIND,), responses=(ClockResponse.NOMINAL,), margin=0.9)
    weak, strong = found.nominal.sheets
    assert strong.edge[0] is not None
    assert weak.edge[0] is not None
    assert strong.edge[0].arrival_rps > weak.edge[0].arrival_rps
    there = strong.loads[load][0]
    assert there is not None
    assert there.arrival_rps == pytest.approx(surface.LOADS[load] * strong.edge[0].arrival_rps)
