"""The kernel against its two oracles: itself uncompiled, to the last bit, and the step-by-step world of `support`."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capstan.model import latency, power
from capstan.replay import kernel
from capstan.replay.kernel import compiling, layout
from capstan.replay.kernel.entries import MODULES
from capstan.replay.runs import Floats, Requests
from support import builders, worlds

PROFILE = builders.profile()
seeds = st.integers(0, 10**6)


def relative(found: Floats, wanted: Floats) -> float:
    """Return the largest relative difference; what is never must be never in both."""
    assert (np.isnan(found) == np.isnan(wanted)).all()
    both = ~np.isnan(wanted)
    return float(np.max(np.abs(found[both] / wanted[both] - 1), initial=0.0))


def bits(world: kernel.World) -> tuple[bytes, ...]:
    """Return everything that a run leaves."""
    columns = (world.first_s, world.finish_s, world.max_tbt_s, world.finished, world.bins_j(), world.energy_j())
    return tuple(column.tobytes() for column in columns)


def times(world: kernel.World) -> tuple[bytes, ...]:
    return bits(world)[:3]


def poisson(count: int, rate_rps: float, *, seed: int = 3) -> Requests:
    rng = np.random.default_rng(seed)
    return Requests(
        np.cumsum(rng.exponential(1 / rate_rps, count)), rng.integers(1, 2500, count), rng.integers(1, 400, count)
    )


# --- the step-by-step world --------------------------------------------------------------------------


@given(seeds)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_any_world_is_the_step_by_step_world(seed: int) -> None:
    """Tiny caches, few seats, caps, limits, drains; tables, weights, spill, urgency, hand-over: equal to 1e-9."""
    script = worlds.random_script(seed)
    naive, fast = script.naive(), script.world(compile_it=True)
    gone = worlds.play(script, naive)
    assert sorted(worlds.play(script, fast, tick_s=1.7, check=True)) == sorted(gone)
    done = ~np.isnan(naive.finish_s)
    assert relative(fast.first_s, naive.first_s) <= 1e-9
    assert relative(fast.finish_s, naive.finish_s) <= 1e-9
    assert relative(fast.max_tbt_s[done], naive.max_tbt_s[done]) <= 1e-9
    totals = fast.totals()
    assert (totals.serving_j, totals.idle_j, totals.transition_j) == pytest.approx(naive.energy(), rel=1e-6, abs=1e-3)
    assert (fast.refused, fast.unfinished) == (naive.refused, naive.unfinished)
    assert fast.spilled.tolist() == naive.spilled
    assert (fast.squashed, fast.handed) == (naive.given_up, naive.handed)
    assert sorted(fast.finished[: fast.finished_count].tolist()) == np.flatnonzero(done).tolist()
    assert max(naive.ends) <= 1


def test_the_random_worlds_reach_what_they_are_for() -> None:
    """Of 60 fixed seeds some preempt, some refuse, some scale: else the test above would test nothing."""
    played = []
    for seed in range(60):
        script = worlds.random_script(seed)
        fast = script.world(compile_it=True)
        played.append((fast, worlds.play(script, fast)))
    assert sum(fast.preemptions for fast, _ in played) > 100
    assert any(len(gone) > 1 for _, gone in played)
    assert sum(int(fast.spilled.sum()) for fast, _ in played) > 50
    assert sum(fast.handed for fast, _ in played) > 100
    assert sum(fast.squashed for fast, _ in played) > 50
    assert any(fast.unrouted for fast, _ in played)  # a pool's last replica was drained
    assert sum(fast.finished_count for fast, _ in played) > 1000


def test_a_seconds_joules_are_those_of_the_steps_in_it() -> None:
    """Within 1 W, in a long leap whose board runs into its limit on the way, beside short ones."""
    early_w, late_w = (power.mixed_w(PROFILE, 24, 24 * context, 0, 0, 0, 1.0) for context in (400, 1700))
    limit_w = (early_w + late_w) / 2
    hot = dataclasses.replace(PROFILE, draw=dataclasses.replace(PROFILE.draw, limit_w=limit_w))
    arrivals = np.concatenate((np.zeros(24), np.arange(1, 9) * 4.0))
    trace = Requests(arrivals, np.full(32, 300), np.where(arrivals > 0, 30, 1500))
    script = worlds.Script(
        trace, np.zeros(32, dtype=np.int64), (hot,), (worlds.Event(0.0, "create", 0),), pools=1, slots=1
    )
    naive, fast = script.naive(), script.world(compile_it=True)
    worlds.play(script, fast)
    naive.create(0, now_s=0.0, ready_s=0.0)
    wanted_j, before_j = [], 0.0
    for second in range(1, 80):
        naive.advance(float(second))
        wanted_j.append(sum(naive.energy()) - before_j)
        before_j += wanted_j[-1]
    found_j = fast.bins_j()[:79]
    assert max(wanted_j) == pytest.approx(limit_w * 4, rel=1e-9)  # the limit is met, so the kink is there
    assert min(wanted_j[2:30]) < (limit_w - 2) * 4
    assert np.abs(found_j - np.array(wanted_j)).max() <= 1.0
    assert found_j.sum() == pytest.approx(sum(wanted_j), rel=1e-6)


# --- the same source, uncompiled ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 5, 60])
def test_compiled_and_plain_are_equal_to_the_last_bit(seed: int) -> None:
    script = worlds.random_script(seed)
    runs = []
    for compile_it in (True, False):
        world = script.world(compile_it=compile_it)
        worlds.play(script, world, tick_s=2.5)
        runs.append(bits(world))
    assert runs[0] == runs[1]


def test_a_busy_service_is_equal_to_the_last_bit_too() -> None:
    runs = []
    for compile_it in (True, False):
        world = kernel.World(poisson(1000, 8.0), (PROFILE,), slots=4, end_s=400.0, compile_it=compile_it)
        for _ in range(4):
            world.create(0, now_s=0.0, ready_s=0.0)
        world.advance(60.0)
        world.cap(1, 60.0, 0.6, 400.0)
        world.advance(400.0)
        assert world.unfinished == 0
        runs.append(bits(world))
    assert runs[0] == runs[1]


# --- watching, repeating -----------------------------------------------------------------------------


@given(seeds, st.floats(0.05, 20.0))
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
def test_watching_does_not_change_the_world(seed: int, tick_s: float) -> None:
    """Times are equal to the last bit for any tick; joules to the rounding of an integral."""
    script = worlds.random_script(seed, requests=40)
    watched, alone = script.world(compile_it=True), script.world(compile_it=True)
    worlds.play(script, watched, tick_s=tick_s, check=True)
    worlds.play(script, alone)
    assert times(watched) == times(alone)
    assert watched.energy_j() == pytest.approx(alone.energy_j(), rel=1e-7)


def test_the_same_run_gives_the_same_bytes() -> None:
    runs = [script.world(compile_it=True) for script in [worlds.random_script(11)] * 2]
    for world in runs:
        worlds.play(worlds.random_script(11), world, tick_s=5.0)
    assert bits(runs[0]) == bits(runs[1])


def test_what_one_advance_adds_to_the_finished_lies_within_its_time() -> None:
    """Telemetry's windows are slices of the log."""
    world = kernel.World(poisson(500, 6.0), (PROFILE,), slots=3, end_s=300.0, compile_it=True)
    for _ in range(3):
        world.create(0, now_s=0.0, ready_s=0.0)
    before = 0
    for tick in range(1, 100):
        world.advance(tick * 2.0)
        new_s = world.finish_s[world.finished[before : world.finished_count]]
        assert ((new_s > (tick - 1) * 2.0) & (new_s <= tick * 2.0)).all()
        before = world.finished_count
    assert before == 500


def test_the_next_event_is_where_something_changes() -> None:
    world = kernel.World(poisson(20, 2.0), (PROFILE,), slots=1, end_s=60.0, compile_it=True)
    world.create(0, now_s=0.0, ready_s=0.0)
    while world.unfinished:
        next_s = world.next_event_s
        assert next_s > world.now_s
        world.advance(next_s)
    assert world.next_event_s == math.inf


# --- the compiler's cache ----------------------------------------------------------------------------


def test_the_cache_folder_changes_with_any_compiled_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSTAN_KERNEL_CACHE", str(tmp_path))
    whole, part = compiling.cache_folder(MODULES), compiling.cache_folder(MODULES[:-1])
    assert whole is not None
    assert whole.parent == tmp_path
    assert whole != part
    assert compiling.cache_folder(MODULES) == whole


def test_a_read_only_file_system_costs_a_compile_and_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CAPSTAN_KERNEL_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match="compiles anew each time"):
        entries = compiling.compiled(MODULES[:1], ("decode_step_s",))
    compiled_s = entries["decode_step_s"](kernel.parameters(PROFILE)[0], 3.0, 900.0, 1.0)
    assert compiled_s == latency.decode_step_s(PROFILE, 3.0, 900.0, 1.0)


# --- memory --------------------------------------------------------------------------------------------


def test_tables_cost_at_most_64_bytes_per_request() -> None:
    """The issue's budget: working record, three outcomes and the log."""
    assert layout.REQUEST.itemsize + 3 * 8 + 8 <= 64
