"""The joined engine: ticks that change nothing, moves of tp, start-up and drain in joules, and where a run ends."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from capstan.model import power
from capstan.replay import engine
from capstan.replay.runs import Requests, Run, ServiceSeries
from capstan.replay.seen import Want
from support import small
from support.small import KEY, STARTUP_S, TP4, Scripted

IDLE_W = {profile.tp: power.idle_w(profile) * profile.tp for profile in small.BOTH}
QUIET = Requests(np.array([0.0, 200.0]), np.array([10, 10]), np.array([2, 2]))
"""Two tiny requests with 200 s of nothing between them: what stands there is all that draws."""

Rows = list[tuple[float, int]]


def play(trace: Requests | None = None, script: dict[float, Want] | None = None, **fleet: int) -> Run:
    return engine.run(small.scenario(trace, **fleet), Scripted(script or {}))


def changes(series: ServiceSeries, column: str) -> Rows:
    """The column as (time, value) where its value changes."""
    values = getattr(series, column)
    at = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
    return [(float(series.t_s[i]), int(values[i])) for i in at]


# --- time --------------------------------------------------------------------------------------------


def test_any_tick_period_gives_the_same_finish_times_to_the_bit() -> None:
    """A tick every 5, 4, 2.5, 1 and 0.5 s; joules are sums in another order, equal to rounding."""
    first = engine.run(small.scenario(), Scripted({}, period_s=5.0)).services[0]
    assert np.isfinite(first.outcomes.finish_s).all()
    for period_s in (60.0, 4.0, 2.5, 1.0, 0.5):
        other = engine.run(small.scenario(), Scripted({}, period_s=period_s)).services[0]
        for column in ("first_s", "finish_s", "max_tbt_s"):
            np.testing.assert_array_equal(getattr(other.outcomes, column), getattr(first.outcomes, column))
        assert other.energy.total_j == pytest.approx(first.energy.total_j, rel=1e-9)


def test_the_same_wants_at_the_same_moments_are_the_same_run_whatever_the_tick() -> None:
    """Scaled out at 20 s and capped at 40 s: moments that are ticks of all three periods."""
    script = {20.0: Want(KEY, 4, 3), 40.0: Want(KEY, 4, 2, clock_cap_mhz=1200.0)}
    runs = [engine.run(small.scenario(), Scripted(script, period_s=p)).services[0] for p in (5.0, 2.0, 1.0)]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.outcomes.finish_s, runs[0].outcomes.finish_s)
        assert (run.reconfigurations, run.clock_changes) == (2, 1)


def test_a_system_is_asked_every_period_and_never_at_time_zero() -> None:
    system = Scripted({}, period_s=60.0)
    run = engine.run(small.scenario(QUIET), system)
    assert [seen.now_s for seen in system.looks] == [60.0, 120.0, 180.0]
    assert np.diff(run.services[0].series.t_s).max() <= engine.LONGEST_TICK_S, "queues are noted more often"


def test_the_run_ends_with_its_last_completion_and_later_joules_are_nobodys() -> None:
    run = play(QUIET)
    service = run.services[0]
    assert run.duration_s == service.outcomes.finish_s[-1] == service.series.t_s[-1]
    assert 200.0 < run.duration_s < 200.2
    assert service.gpu_seconds == pytest.approx(4 * run.duration_s)
    assert run.energy_unassigned_j == pytest.approx(12 * TP4.draw.unloaded_w * run.duration_s), "16 GPUs, 4 with a pod"
    assert service.energy.idle_j == pytest.approx(IDLE_W[4] * 200.0, rel=0.01)


def test_who_has_not_finished_when_the_drain_is_over_never_does() -> None:
    """One replica and ten times what it carries: cut off at the end of the drain, refused to nobody's benefit."""
    swamped = dataclasses.replace(small.scenario(small.requests(2000, 40.0)), drain_s=10.0)
    run = engine.run(swamped, Scripted({}))
    finish_s = run.services[0].outcomes.finish_s
    assert run.duration_s == 5.0 * math.ceil((swamped.duration_s + 10.0) / 5.0), "whole ticks"
    assert 0 < np.isnan(finish_s).sum() < 2000
    assert np.nanmax(finish_s) <= run.duration_s


# --- joules ------------------------------------------------------------------------------------------

MOVES = {
    "stands still": {},
    "out and in": {20.0: Want(KEY, 4, 4), 70.0: Want(KEY, 4, 1)},
    "another tp and back": {20.0: Want(KEY, 8, 1), 60.0: Want(KEY, 4, 1)},
    "cancelled while it starts": {20.0: Want(KEY, 4, 4), 30.0: Want(KEY, 4, 1)},
    "capped": {20.0: Want(KEY, 4, 1, clock_cap_mhz=900.0), 50.0: Want(KEY, 4, 2)},
}


@pytest.mark.parametrize("script", MOVES.values(), ids=MOVES)
def test_energy_is_the_integral_of_power_and_the_sum_of_its_parts(script: dict[float, Want]) -> None:
    run = play(script=script)
    service = run.services[0]
    spans_s = np.diff(service.series.t_s, prepend=0.0)
    parts = service.energy
    assert float((service.series.gpus_w * spans_s).sum()) == pytest.approx(parts.total_j, rel=1e-6)
    assert min(parts.serving_j, parts.idle_j, parts.transition_j) >= 0
    assert np.isfinite(service.outcomes.finish_s).all(), "every request ends once, whatever moves"
    gpu_s = float((service.series.gpus * spans_s).sum())
    ticks_gpu_s = 5.0 * 4 * sum(int(n) for n in np.maximum(-np.diff(service.series.gpus), 0) // 4)
    assert service.gpu_seconds == pytest.approx(gpu_s, abs=ticks_gpu_s + 1e-6), "up to a tick for each that drained"
    free_w = TP4.draw.unloaded_w
    assert run.energy_unassigned_j == pytest.approx((16 * run.duration_s - service.gpu_seconds) * free_w, rel=1e-6)


def test_starting_replicas_draw_loaded_idle_watts_that_are_booked_as_transition() -> None:
    """Three more replicas from 20 s on, Ready at 50 s: 3 x 460 W x 30 s, and nothing else is transition."""
    run = play(QUIET, {20.0: Want(KEY, 4, 4)})
    service = run.services[0]
    assert service.energy.transition_j == pytest.approx(3 * IDLE_W[4] * STARTUP_S)
    assert changes(service.series, "replicas_starting") == [(5.0, 0), (25.0, 3), (50.0, 0)]
    assert changes(service.series, "replicas_ready") == [(5.0, 1), (50.0, 4)]


def test_a_start_that_is_cancelled_costs_its_ten_seconds_and_gives_its_gpus_back_at_once() -> None:
    """Three replicas from 20 to 30 s: 3 x 4 GPUs x 10 s beside the one that stands all the time."""
    run = play(QUIET, {20.0: Want(KEY, 4, 4), 30.0: Want(KEY, 4, 1)})
    service = run.services[0]
    assert service.energy.transition_j == pytest.approx(3 * IDLE_W[4] * 10.0)
    assert service.gpu_seconds == pytest.approx(4 * run.duration_s + 3 * 4 * 10.0)
    free_gpu_s = 16 * run.duration_s - service.gpu_seconds
    assert run.energy_unassigned_j == pytest.approx(free_gpu_s * TP4.draw.unloaded_w)


def test_instant_replicas_start_for_nothing() -> None:
    run = engine.run(small.scenario(QUIET), Scripted({20.0: Want(KEY, 4, 4)}), instant=True)
    assert run.services[0].energy.transition_j == 0
    assert changes(run.services[0].series, "replicas_ready") == [(5.0, 1), (25.0, 4)]


# --- another tp --------------------------------------------------------------------------------------


def test_a_new_tp_is_ready_before_the_old_one_drains() -> None:
    """From tp 4 to tp 8 on a fleet with room: both stand from 20 to 50 s, and a ready replica stands all the time."""
    run = play(script={20.0: Want(KEY, 8, 1)})
    series = run.services[0].series
    assert int(series.replicas_ready.min()) >= 1
    assert changes(series, "gpus")[:2] == [(5.0, 4), (25.0, 12)]
    started = series.t_s[series.replicas_draining > 0]
    assert started.min() >= 20.0 + STARTUP_S, "the old one serves until the new one is Ready"
    assert series.gpus[-1] == 8
    assert run.services[0].outcomes.finish_s[-1] > 0
    assert run.services[0].reconfigurations == 1


def test_each_ready_replica_of_the_new_tp_lets_its_share_of_the_old_ones_go() -> None:
    """Two of tp 4 become two of tp 4 x 2 = 8 on three servers: never fewer than two ready."""
    run = play(script={20.0: Want(KEY, 8, 2)}, replicas=2, servers=3)
    series = run.services[0].series
    assert int(series.replicas_ready.min()) >= 2
    assert (series.tp[-1], series.replicas_ready[-1], series.gpus[-1]) == (8, 2, 16)


def test_without_room_old_replicas_go_first_and_the_pool_is_full_again() -> None:
    """Four of tp 4 fill two servers: tp 8 needs a whole server, so two must drain before one can start."""
    run = play(script={20.0: Want(KEY, 8, 2)}, replicas=4)
    series = run.services[0].series
    draining = series.t_s[series.replicas_draining > 0]
    starting = series.t_s[(series.gpus > 0) & (series.replicas_starting > 0)]
    assert draining.min() <= 30.0, "nothing new could start, so room is made at once"
    assert starting.size
    assert int(series.gpus.max()) <= 16, "never more GPUs than the fleet has"
    assert (series.tp[-1], series.replicas_ready[-1], series.gpus[-1]) == (8, 2, 16)
    assert np.isfinite(run.services[0].outcomes.finish_s).all()


def test_a_count_beyond_the_fleet_stays_pending_and_draws_nothing() -> None:
    run = play(QUIET, {20.0: Want(KEY, 8, 5)}, tp=8)
    series = run.services[0].series
    assert (series.replicas_ready[-1], series.replicas_starting[-1], series.gpus[-1]) == (2, 3, 16)
    assert run.services[0].energy.transition_j == pytest.approx(IDLE_W[8] * STARTUP_S), "one found room, three did not"


def test_the_bigger_engine_serves_faster() -> None:
    four, eight = (play(tp=tp).services[0].outcomes for tp in (4, 8))
    assert np.median(eight.finish_s - eight.requests.arrival_s) < np.median(four.finish_s - four.requests.arrival_s)
