"""The plant's second: equal compiled and plain, and physics that no controller can talk away."""

from __future__ import annotations

import numpy as np
import pytest

from capstan.replay.plantlab import layout, tables
from capstan.replay.plantlab.world import World
from support import plants

EXACT = {"gain_error_percent": 0, "ripple_per_mille": 0, "stuck_per_mille": 0}


def played(world: World, seconds: int) -> World:
    for _ in range(seconds):
        world.advance()
    return world


def test_compiled_and_plain_are_equal_to_the_last_bit() -> None:
    """Two servers for two seconds, with limits that bind and a lock that takes effect on the way."""
    found = []
    for compile_it in (True, False):
        world = plants.world(plants.small(1), rps=20, seconds=2, compile_it=compile_it)
        world.boards["limit_w"] = 400
        world.boards["next_cap_ratio"], world.boards["next_cap_s"] = 0.5, 1.2
        found.append(played(world, 2))
    compiled, plain = found
    assert np.array_equal(compiled.ac_w, plain.ac_w)
    for name in ("boards", "servers", "requests"):
        assert getattr(compiled, name).tobytes() == getattr(plain, name).tobytes(), name
    assert compiled.boards["cap_ratio"].max() == 0.5, "the lock took effect"


def test_a_row_is_the_sum_of_its_racks() -> None:
    world = played(plants.world(plants.small(), rps=6, seconds=5), 5)
    assert world.ac_w[:, 0] == pytest.approx(world.ac_w[:, 1:].sum(axis=1))


def test_an_idle_server_draws_what_the_scenario_says() -> None:
    """8 x 110 W and 2,032 W DC are 14.7 % of 19.8 kW: supplies at 91.9 %, so 3,169 W AC."""
    of = plants.small(1, **EXACT)
    world = played(plants.world(of, rps=1e-6, seconds=2), 2)
    assert world.newest_w()[1] == pytest.approx((8 * 110 + 2032) / 0.9188, rel=1e-3)


@pytest.mark.parametrize("rps", [3, 9])
def test_a_lower_limit_never_raises_mean_watts(rps: float) -> None:
    means = []
    for limit_w in (250, 350, 450, 550, 700):
        world = plants.world(plants.small(2), rps=rps, seconds=20)
        world.boards["limit_w"] = limit_w
        means.append(played(world, 20).ac_w[:, 0].mean())
    assert means == sorted(means)


@pytest.mark.parametrize("rps", [3, 9])
def test_a_lower_clock_never_raises_peak_watts_and_never_shortens_work(rps: float) -> None:
    peaks, slowdowns = [], []
    for cap_ratio in (0.3, 0.5, 0.8, 1.0):
        world = plants.world(plants.small(2, **EXACT), rps=rps, seconds=10)
        world.boards["cap_ratio"] = cap_ratio
        played(world, 10)
        peaks.append(world.ac_w[:, 0].max())
        slowdowns.append(world.servers["busy_s"].sum() / world.servers["ideal_s"].sum())
    assert peaks == sorted(peaks)
    assert slowdowns == sorted(slowdowns, reverse=True)
    assert slowdowns[-1] == pytest.approx(1.0)


def test_a_board_holds_its_limit_by_its_own_sensor_over_a_second_and_lets_spikes_through() -> None:
    """DESIGN 7.2. True watts are the limit over the gain; a spike from idle passes for a loop of the limiter."""
    of = plants.small(1, stuck_per_mille=0, ripple_per_mille=0)
    world = plants.world(of, rps=12, seconds=20)
    world.boards["limit_w"] = 400
    readings = []
    for _ in range(20):
        world.advance()
        readings.append(world.servers["read_w"].copy() / of.gpus)
    bins = world.ac_w[:, 1]
    assert np.max(readings[3:]) <= 400 * 1.03, "a second's mean: the limit, and what d allows for"
    assert bins.max() > bins[30:].mean() * 1.02


def test_a_sensor_that_reads_low_lets_its_board_draw_more() -> None:
    low = plants.NO_FAULTS.model_copy(update={"sensor_error_percent": 5})
    means = []
    for faults in (plants.NO_FAULTS, low):
        world = plants.world(plants.small(2, **EXACT), rps=9, seconds=20, faults=faults)
        world.boards["limit_w"] = 350
        means.append(played(world, 20).ac_w[50:, 0].mean())
    assert 1.01 < means[1] / means[0] < 1.06


def test_a_stuck_board_runs_on_under_a_lock_and_obeys_a_limit() -> None:
    of = plants.small(1, stuck_per_mille=1000)
    free, locked, limited = (plants.world(of, rps=9, seconds=10) for _ in range(3))
    locked.boards["cap_ratio"] = 0.3
    limited.boards["limit_w"] = 300
    draws_w = [played(world, 10).ac_w[:, 0].mean() for world in (free, locked, limited)]
    assert draws_w[1] == draws_w[0]
    assert draws_w[2] < 0.8 * draws_w[0]


def test_requests_are_served_or_refused_or_still_there() -> None:
    world = played(plants.world(plants.small(1), rps=60, seconds=40), 40)
    patience_s = world.scene.spec.load.patience_seconds
    assert (world.servers["refused"] > 0).all(), "60 prompts a second are more than a server can do"
    assert (world.servers["queued_s"] <= patience_s + 1).all()
    waiting = [world.requests["left_s"][s["head"] : s["tail"]].sum() for s in world.servers]
    assert world.servers["queued_s"] == pytest.approx(waiting, abs=1e-6)


def test_a_prompt_moves_a_server_by_kilowatts_within_a_slice() -> None:
    """DESIGN 7.2: 8 GPUs by ~3 kW within ms: 700 W less 110 W idle is 4.7 kW, less 315 W decoding 3.1 kW."""
    profile = plants.whole().profile
    decoding_w, _ = tables.decoding(profile, 1000)
    jump_w = 8 * (tables.prefill_w(profile)[-1] - decoding_w[0][-1])
    assert 2_500 < jump_w < 3_500


def test_tables_span_the_grid_and_rise_with_the_clock() -> None:
    profile = plants.whole().profile
    for table in (tables.prefill_w(profile), *tables.decoding(profile, 1000)[0]):
        assert len(table) == layout.CLOCK_POINTS
        assert (np.diff(table) >= -1e-9).all()
    assert tables.prefill_slowdown(profile)[-1] == 1.0
