"""Board limits on a row: whatever is drawn, grants never add up to more than the budget, nor does what they allow."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.powercap import grants
from capstan.replay.row import generate, limits, physics, play, score, systems
from capstan.replay.row.systems import Kind
from support import rows

COUNT = 4
BUDGETS_W = st.floats(21_000, 40_000)  # from just above the floors of four servers to more than they can draw
LOOKS = st.lists(st.lists(st.floats(2_000, 7_000), min_size=COUNT, max_size=COUNT), min_size=1, max_size=12)


def allowed_w(limit_w: float) -> float:
    """AC watts that a server may draw, at worst, with its boards 5 % over a limit."""
    server = rows.SERVER
    return (
        physics.GPUS * limit_w * (1 + grants.GAIN_ERROR_RATIO) + server.other_worst_w
    ) / server.supply_efficiency_ratio


@pytest.mark.parametrize("kind", [Kind.EVEN_LIMITS, Kind.STEERED_LIMITS, Kind.GRANTS])
@given(budget_w=BUDGETS_W, looks=LOOKS)
def test_what_limits_allow_never_adds_up_to_more_than_the_budget(
    kind: Kind, budget_w: float, looks: list[list[float]]
) -> None:
    one = rows.row(count=COUNT, budget_w=budget_w)
    setter = limits.of(kind, one, generate.demand(one.kind, COUNT, one.levels))
    limit_w = np.full(COUNT, np.inf)
    setter.first(limit_w)
    assert sum(map(allowed_w, limit_w)) <= budget_w + 1e-6
    for busy_w in looks:
        before_w = limit_w.copy()
        setter.again(limit_w, np.array(busy_w))
        both_w = np.maximum(before_w, limit_w)
        assert sum(map(allowed_w, both_w)) <= budget_w + 1e-6, "nobody is raised before a donor has come down"
        assert (limit_w >= rows.PROFILE.draw.min_limit_w).all()


@pytest.mark.parametrize(("name", "out"), [("guaranteed", 1), ("dps-like", 1), ("uniform-cap", 4)])
def test_a_server_without_a_grant_is_off_and_the_count_does_not_fit(name: str, out: int) -> None:
    """The least grants of four servers are 16.1 kW, of three 12.0: with 15 kW one is left out, of even parts all."""
    one = rows.row(count=COUNT, budget_w=15_000, seconds=600)
    floors_w = sum(member.floor_w for member in limits._members(one, generate.demand(one.kind, COUNT, one.levels)))
    assert 15_000 < floors_w < 15_000 * COUNT / (COUNT - 1)
    free, held = play.play(one, systems.UNCAPPED), play.play(one, systems.named((name,))[0])
    assert held.left_out == out
    assert np.array_equal(held.tally.arrived, free.tally.arrived), "it is asked for the same"
    assert held.refused > 0
    assert held.row_w.max() <= 15_000
    assert not score.of(held, free, rows.SERVICES, one.budget_w, 0).holds


def test_nobody_else_is_limited() -> None:
    one = rows.row()
    setter = limits.of(Kind.CLOCKS, one, generate.demand(one.kind, one.count, one.levels))
    limit_w = np.full(one.count, np.inf)
    setter.first(limit_w)
    setter.again(limit_w, np.full(one.count, 9_999.0))
    assert np.isinf(limit_w).all()
    assert setter.stranded_ratio == 0


@pytest.mark.parametrize("name", ["uniform-cap", "dps-like", "guaranteed"])
def test_a_played_row_with_limits_stays_inside_its_budget(name: str) -> None:
    """Without limits four busy servers draw more than 19 kW; with them no second does."""
    one = rows.row(budget_w=19_000, seconds=1200)
    one = dataclasses.replace(one, kind=dataclasses.replace(one.kind, load_ratio=0.9))
    assert play.play(one, systems.UNCAPPED).row_w.max() > 19_000
    held = play.play(one, systems.named((name,))[0])
    assert held.row_w.max() <= 19_000
    assert (held.brakes, held.over_j) == (0, 0.0)
