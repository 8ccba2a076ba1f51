"""What a clock does to a server: nothing at full clock, more the lower it is, and as much as in the row of requests."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from capstan.model import latency
from capstan.replay.plan import clocked, planned, scaling
from capstan.replay.plan.clocked import Request
from capstan.replay.row import play, score, servers, systems
from support import fits, rows

LOW, HIGH = (clocked.of(rows.PROFILE, requests) for requests in clocked.services(0.5))
ROW = rows.row(count=8, seconds=36_000, budget_w=60_000)


def test_at_full_clock_nothing_is_saved_and_nobody_waits() -> None:
    for each in (LOW, HIGH):
        assert each.kept(None) == 1.0
        assert each.slowdown_ratio[:, -1].tolist() == [0.0, 0.0]


def test_a_lower_clock_keeps_fewer_watts_and_takes_longer() -> None:
    """Down to where the servers no longer keep up; from there on there is no end."""
    for each in (LOW, HIGH):
        keeps_up = np.asarray(np.isfinite(each.slowdown_ratio).all(axis=0))
        assert (np.diff(each.slowdown_ratio[:, keeps_up]) <= 0).all()
        assert (np.diff(each.kept_ratio[keeps_up]) >= 0).all()
        assert not keeps_up[0]
        assert (np.diff(keeps_up.astype(int)) >= 0).all()


@functools.cache
def free_row() -> play.Played:
    return play.play(ROW, systems.UNCAPPED)


@pytest.mark.parametrize("mhz", [1275, 1110, 900])
def test_slowdowns_are_those_of_the_row_of_requests(mhz: float) -> None:
    """The formula against eight servers for ten hours at a constant clock, service by service, within 15 % of it."""
    free, held = free_row(), play.play(ROW, rows.always(mhz))
    found = [*LOW.slowdown_ratio[:, LOW.index(mhz)], *HIGH.slowdown_ratio[:, HIGH.index(mhz)]]
    for number, slowdown in enumerate(found):
        which = [i == number for i in range(len(rows.SERVICES))]
        slow, fast = (score.quantile_s(one.tally, servers.E2E, which, 0.5) for one in (held, free))
        assert slow / fast - 1 == pytest.approx(slowdown, rel=0.15, abs=0.004), rows.SERVICES[number].name


def test_prompts_wait_for_prompts_before_them_and_the_more_the_slower_they_are() -> None:
    """A fifth of the time goes into prompts of summaries: the first token is later by more than its own prefill."""
    x = 1110 / rows.PROFILE.clocks.max_mhz
    alone = latency.prefill_step_s(rows.PROFILE, 5120, x) / latency.prefill_step_s(rows.PROFILE, 5120, 1.0) - 1
    assert LOW.ttft_slowdown_ratio[0, LOW.index(1110)] > alone + 0.02


def test_the_median_request_counts_services_by_their_requests() -> None:
    """Summaries are the shorter and so the more frequent half of low priority: their slowdown is the median."""
    assert LOW.requests_ratio[0] > 0.5
    at = LOW.index(1110)
    assert LOW.median_slowdown_ratio[at] == LOW.slowdown_ratio[0, at] > LOW.slowdown_ratio[1, at]


def test_no_service_is_never_slowed() -> None:
    nobody = clocked.of(rows.PROFILE, ())
    assert (nobody.kept_ratio == 1).all()
    assert not nobody.slowdown_ratio.any()


def test_a_request_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="KV cache of 58,295 tokens does not hold one request of 99999"):
        clocked.of(rows.PROFILE, (Request(99_999, 1),))


def test_the_slow_mean_passes_over_what_was_not_heard() -> None:
    """Three seconds around each: of 3, gap, 9 the middle one is 6, and the first two of 3, gap are 3."""
    assert scaling.slow(np.array([3.0, np.nan, 9.0]), 2).tolist() == [3.0, 6.0, 9.0]


def test_servers_that_know_nothing_of_each_other_add_up_as_their_root() -> None:
    """Four times the servers: four times the mean, twice the deviation around it; together, four times both."""
    watts = 1000 + np.random.default_rng(1).normal(0, 10, 50_000)
    slow_w = scaling.slow(watts)
    apart = scaling.grown(watts, slow_w, 4.0, correlated=False)
    together = scaling.grown(watts, slow_w, 4.0, correlated=True)
    assert apart.mean() == pytest.approx(4000, rel=1e-3)
    assert np.std(apart - 4 * slow_w) == pytest.approx(2 * np.std(watts - slow_w))
    assert np.array_equal(together, 4 * watts)
    assert scaling.grown(watts, slow_w, 1.0, correlated=False) == pytest.approx(watts)


def test_quantiles_of_slowdown_are_over_work() -> None:
    """A tenth of the work is slowed by 20 %, half of it by 5 %, the rest not."""
    slowdown, work_j = np.array([[0.2, 0.05, 0.0]]), np.array([[1.0, 5.0, 4.0]])
    assert [planned.quantile_ratio(slowdown, work_j, share) for share in (0.3, 0.5, 0.89, 0.95)] == [0, 0.05, 0.05, 0.2]
    assert planned.quantile_ratio(slowdown, np.zeros((1, 3)), 0.5) == 0


def test_a_server_that_idles_draws_what_no_clock_changes() -> None:
    """(2,600 + 8 x 80) / 0.94 W."""
    assert fits.SERVER.always_w(fits.DOMAIN) == pytest.approx(3446.8, abs=0.1)
