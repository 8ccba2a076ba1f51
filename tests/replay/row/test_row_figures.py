"""What a row's figures are: services, rises and quantiles by hand, and the keys of its report."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from capstan.powercap.domains import Level
from capstan.replay.row import experiment, measure, play, report, score, servers, systems, workloads
from capstan.replay.row.experiment import Combination
from support import rows

SHARES = st.floats(0, 1)


@given(SHARES, st.integers(1, 120))
def test_services_keep_their_shares_at_every_count_and_adding_servers_moves_none(low: float, count: int) -> None:
    """Nobody is further than one server from its share, and the first servers of a larger row are the smaller row."""
    mix = workloads.mix(low)
    chosen = workloads.of_server(mix, count)
    assert workloads.of_server(mix, count + 7)[:count] == chosen
    assert sum(one.share_ratio for one in mix if one.low) == pytest.approx(low, abs=1e-6)
    for number, one in enumerate(mix):
        assert abs(chosen.count(number) - one.share_ratio * count) < 1 + 1e-6


def test_polcas_mix_is_a_quarter_a_half_and_a_quarter_with_half_of_chat_low() -> None:
    shares = {one.name: one.share_ratio for one in workloads.mix(0.5)}
    assert shares == {"summarize-low": 0.25, "chat-low": 0.25, "chat-high": 0.25, "search-high": 0.25}


def test_rises_of_a_hand_made_row() -> None:
    """1000 W, then 1090 within 2 s, then 1200 within 40 s of the start; the budget is 2 kW."""
    row_w = np.concatenate([np.full(200, 1000.0), [1045.0], np.full(37, 1090.0), np.full(200, 1200.0)])
    found = measure.of(row_w, 2000.0)
    assert found.peak_ratio == 0.6
    assert found.fast_rise_ratio == pytest.approx(1200 / 1090 - 1)
    assert found.slow_rise_ratio == pytest.approx(0.2)
    assert found.mean_ratio == pytest.approx(row_w.mean() / 2000)
    assert found.quiet_ratio == 0.5


@given(st.lists(st.floats(0.01, 5000), min_size=50, max_size=150), st.sampled_from([0.5, 0.9, 0.99]))
def test_quantiles_of_the_histogram_are_those_of_the_sorted_latencies(latencies: list[float], share: float) -> None:
    """A bin is 0.07 % wide: the quantile lies between its sorted neighbours, give or take two bins."""
    tally = play.empty(2)
    for latency_s in latencies:
        servers.note(tally, servers.E2E, 1, latency_s, 0.0)
    found = score.quantile_s(tally, servers.E2E, [True, True], share)
    ordered = np.sort(latencies)
    place = share * len(ordered)
    low, high = ordered[max(int(place) - 1, 0)], ordered[min(int(place) + 1, len(ordered) - 1)]
    assert low / servers.BIN_RATIO**2 <= found <= high * servers.BIN_RATIO**2
    assert score.quantile_s(tally, servers.E2E, [True, False], share) == 0, "of a service without a request"


@pytest.mark.parametrize("brakes", [0, 1, 5, 50, 5000])
def test_the_bound_on_brakes_is_half_of_a_chi_square_quantile(brakes: int) -> None:
    """None seen: 3.0 (the rule of three)."""
    exact = stats.chi2.ppf(0.95, 2 * (brakes + 1)) / 2
    assert score.most_brakes(brakes) == pytest.approx(exact, rel=0.01)
    assert score.most_brakes(0) == pytest.approx(3.0, abs=0.05)


def test_a_score_holds_only_without_brake_joules_and_slowdown() -> None:
    one = rows.row(seconds=1200, budget_w=40_000)
    free = play.play(one, systems.UNCAPPED)
    kept = score.of(free, free, rows.SERVICES, one.budget_w, 0)
    assert kept.holds
    assert kept.holds_ours
    worse = (
        dataclasses.replace(kept, brakes=1),
        dataclasses.replace(kept, overbudget_j=1.0),
        dataclasses.replace(kept, left_out=1),
        dataclasses.replace(kept, refused=1),
        dataclasses.replace(kept, low=score.Slowdown(0.05, 0.0, 0.0)),
        dataclasses.replace(kept, high=score.Slowdown(0.0, 0.05, 0.0)),
    )
    assert not any(each.holds for each in worse)


def test_a_score_tells_what_was_played() -> None:
    """Four servers without caps and 15 kW: every figure is the run's own, shares of levels add up to one."""
    one = rows.row(budget_w=15_000)
    free = play.play(one, systems.UNCAPPED)
    found = score.of(free, free, rows.SERVICES, one.budget_w, 0)
    assert found.overbudget_j == free.over_j > 0
    assert (found.longest_excursion_s, found.over_s) == (free.excursion_s, free.over_s)
    assert (found.energy_j, found.brakes) == (free.energy_j, 0)
    assert found.peak_ratio == free.row_w.max() / 15_000 > 1
    assert found.state_ratio == ((Level.NORMAL, 1.0),)
    assert not found.holds


def test_the_report_holds_the_keys_that_were_asked_for() -> None:
    """domains.<name>: servers, states, brakes, joules above, longest excursion, and slowdowns by priority."""
    world = Combination(0.5, 0.5)
    one = rows.row(count=4, seconds=1200, budget_w=18_000)
    free, polca = (play.play(one, system) for system in (systems.UNCAPPED, rows.POLCA))
    found_score = score.of(polca, free, rows.SERVICES, one.budget_w, 0)
    measured = measure.of(free.row_w, one.budget_w)
    cell = experiment.Cell(world, 1, 4, rows.POLCA, found_score)
    piece = experiment.Piece(world, 1, 4, measured, measured, {"polca": 0.05}, None, (cell,), {})
    asked = experiment.Asked(rows.PROFILE, rows.SERVER, one.budget_w, 4, 0.79, 0.5, 1, 1, (rows.POLCA,))
    document = json.loads(json.dumps(report.document(report.Found("test", "row-1", asked, (piece,))), allow_nan=False))
    run = document["combinations"][0]["systems"]["polca"]["runs"][0]["domains"]["row-1"]
    for key in ("servers", "brakes", "overbudget_j", "longest_excursion_s"):
        assert run[key] >= 0, key
    assert sum(run["state_ratio"].values()) == pytest.approx(1)
    for key in ("slowdown_p50_ratio", "slowdown_p99_ratio"):
        assert set(run[key]) == {"low", "high"}
