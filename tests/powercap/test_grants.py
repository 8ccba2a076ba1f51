"""Grants: the formula of DESIGN 4, its inverse, the first division, and who gets watts when some are short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.powercap import grants
from capstan.powercap.grants import Member

ROW, RACK_A, RACK_B = "row", "rack-a", "rack-b"


def member(node: str, *, high: bool = False, rack: str = RACK_A, **changes: float) -> Member:
    """Eight H100 behind supplies of 94 %, 4 kW for the rest: floor 6,229 W, ceiling 10,836 W."""
    limits = {"min_limit_w": 200.0, "max_limit_w": 700.0} | changes
    return Member(node, (rack, ROW), 8, 4000.0, 0.94, limits["min_limit_w"], limits["max_limit_w"], high)


# (0.94 x 8,000 x 0.97 - 4,000) / (8 x 1.05) = 3,294.4 / 8.4 = 392.19
@pytest.mark.parametrize(
    ("granted_w", "limit_w"),
    [
        pytest.param(8_000, 392.19, id="the formula by hand"),
        pytest.param(6_229.43, 200.0, id="the floor: 8.4 x 200 + 4,000 = 5,680 W DC over 0.9118"),
        pytest.param(20_000, 700.0, id="never above what boards accept"),
        pytest.param(4_000, -42.0, id="less than the rest of the server draws: no limit can hold it"),
    ],
)
def test_a_limit_keeps_the_node_inside_its_grant(granted_w: float, limit_w: float) -> None:
    assert grants.limit_w(member("n"), granted_w) == pytest.approx(limit_w, abs=0.1)


@given(st.floats(200, 700))
def test_the_inverse_gives_the_least_grant_for_a_limit(limit_w: float) -> None:
    one = member("n")
    assert grants.limit_w(one, grants.grant_w(one, limit_w)) == pytest.approx(limit_w)
    assert grants.joins(one, grants.grant_w(one, limit_w))


@given(st.floats(200, 700), st.floats(-0.05, 0.05), st.floats(0, 4000))
def test_worst_boards_stay_inside_the_grant_with_its_margin_to_spare(
    limit_w: float, gain: float, rest_w: float
) -> None:
    """True AC watts of a node: each board at its limit over what its sensor makes of it, and the rest of the server."""
    drawn_w = (8 * limit_w / (1 - abs(gain)) * (1 - 0.05) * 1.05 + rest_w) / 0.94
    assert (
        drawn_w <= grants.grant_w(member("n"), limit_w) * (1 - grants.TRANSIENT_RATIO) * 1.003
    )  # 1 / 0.95 is not 1.05


def test_a_node_whose_limit_would_be_below_the_boards_minimum_does_not_join() -> None:
    assert not grants.joins(member("n"), 6_200)
    assert grants.joins(member("n"), 6_230)


def test_the_first_division_gives_floors_by_priority_then_the_same_to_all() -> None:
    """13 kW hold two floors of 6,229 W: the High node and the first Low one; what is left is halved."""
    nodes = [member("low-1"), member("low-2"), member("high-1", high=True)]
    found = grants.initial(nodes, {ROW: 13_000, RACK_A: 20_000})
    assert set(found) == {"high-1", "low-1"}
    assert found["high-1"] == found["low-1"] == pytest.approx(6_500)


def test_every_ancestor_bounds_the_first_division() -> None:
    nodes = [member("a-1"), member("a-2"), member("b-1", rack=RACK_B)]
    found = grants.initial(nodes, {ROW: 30_000, RACK_A: 14_000, RACK_B: 10_000})
    assert found == pytest.approx({"a-1": 7_000, "a-2": 7_000, "b-1": 10_000})


def test_nobody_short_means_nobody_moves() -> None:
    nodes = [member("a"), member("b")]
    now = {"a": 9_000.0, "b": 7_000.0}
    asks = {"a": 6_500.0, "b": 7_100.0}  # 1.4 % short is noise
    assert grants.allocate(nodes, {ROW: 20_000, RACK_A: 20_000}, now, asks) == now


def test_air_is_given_first_and_only_as_much_as_is_asked_for() -> None:
    """20 kW are out; `a` asks for 1 kW more, `idle` could give 2, `busy` has none to spare."""
    nodes = [member("a"), member("busy"), member("idle")]
    now = {"a": 6_500.0, "busy": 6_500.0, "idle": 9_000.0}
    asks = {"a": 7_500.0, "busy": 6_500.0, "idle": 7_000.0}
    found = grants.allocate(nodes, {ROW: 22_000, RACK_A: 22_000}, now, asks)
    assert found == pytest.approx({"a": 7_500, "busy": 6_500, "idle": 8_000})


def test_low_priority_gives_down_to_its_floor_and_no_further() -> None:
    nodes = [member("high", high=True), member("low")]
    now = {"high": 7_000.0, "low": 7_000.0}
    found = grants.allocate(nodes, {ROW: 14_000, RACK_A: 14_000}, now, {"high": 10_000.0, "low": 9_000.0})
    assert found["low"] == pytest.approx(nodes[1].floor_w)
    assert found["high"] == pytest.approx(14_000 - nodes[1].floor_w)


def test_watts_do_not_leave_a_rack_whose_sibling_is_full() -> None:
    """Rack A has 1 kW left over, but `b` may not have it: its own rack is full."""
    nodes = [member("a", rack=RACK_A), member("b", rack=RACK_B, high=True)]
    now = {"a": 7_000.0, "b": 7_000.0}
    found = grants.allocate(nodes, {ROW: 20_000, RACK_A: 9_000, RACK_B: 7_000}, now, {"a": 6_500.0, "b": 9_000.0})
    assert found["b"] == pytest.approx(7_000)


def test_grants_that_no_longer_fit_are_lowered_though_nobody_is_short() -> None:
    nodes = [member("high", high=True), member("low")]
    now = {"high": 9_000.0, "low": 9_000.0}
    found = grants.allocate(nodes, {ROW: 15_000, RACK_A: 15_000}, now, {"high": 8_000.0, "low": 6_400.0})
    assert sum(found.values()) <= 15_000 + 1e-6
    assert found["high"] >= 8_000


@pytest.mark.parametrize(
    ("boards_w", "asked_limit_w"),
    [
        pytest.param(390, 392.19 * 1.15, id="held by its limit: asks for 15 % more"),
        pytest.param(300, 330, id="free: a tenth above its busiest second"),
        pytest.param(100, 200, id="idle: the floor"),
    ],
)
def test_a_node_asks_by_what_it_drew(boards_w: float, asked_limit_w: float) -> None:
    one = member("n")
    assert grants.limit_w(one, grants.ask_w(one, 8_000, boards_w)) == pytest.approx(asked_limit_w, rel=1e-3)


def test_a_free_node_that_gets_what_it_asks_for_stays_free() -> None:
    """No shuffling: at its new limit it does not count as held by it."""
    one = member("n")
    first_w = grants.ask_w(one, 9_000, 300)
    assert grants.ask_w(one, first_w, 300) == pytest.approx(first_w)


WATTS = st.floats(6_300, 10_800)


@given(
    st.lists(st.tuples(WATTS, WATTS, st.booleans(), st.booleans()), min_size=1, max_size=8),
    st.floats(0.6, 1.5),
    st.floats(0.6, 1.5),
)
def test_no_domain_is_ever_given_more_than_its_budget_above_the_floors(
    rows: list[tuple[float, float, bool, bool]], row_share: float, rack_share: float
) -> None:
    nodes = [member(f"n{i}", high=high, rack=RACK_A if a else RACK_B) for i, (_, _, high, a) in enumerate(rows)]
    now = {node.node: watts for node, (watts, *_) in zip(nodes, rows, strict=True)}
    asks = {node.node: watts for node, (_, watts, *_) in zip(nodes, rows, strict=True)}
    budgets = {ROW: row_share * sum(now.values())}
    budgets |= {r: rack_share * sum(now[n.node] for n in nodes if r in n.domains) for r in (RACK_A, RACK_B)}
    found = grants.allocate(nodes, budgets, now, asks)
    for domain, budget_w in budgets.items():
        inside = [node for node in nodes if domain in node.domains]
        floors_w = sum(node.floor_w for node in inside)
        assert sum(found[node.node] for node in inside) <= max(budget_w, floors_w) + 1e-3
    assert all(found[node.node] >= node.floor_w - 1e-6 for node in nodes)
