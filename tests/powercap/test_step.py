"""The machine of one domain, told as histories: (seconds, share of the budget) in, levels out."""

from __future__ import annotations

import dataclasses
import math

import pytest

from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing, Stale
from capstan.powercap.domains import (
    NO_CAPS,
    ClassCaps,
    Domain,
    DomainMemory,
    Level,
    NodeSample,
    SafeSetting,
    Step,
    Timers,
)
from support import power
from support.power import step

ARMED = DomainMemory(level=Level.NORMAL)


def lived(history: list[tuple[float, float]], *, rack: Domain | None = None) -> list[Step]:
    """The steps of a domain through (seconds, share of the budget) points, one tick each."""
    domain, memory, steps = rack or power.domain(), ARMED, []
    for now_s, ratio in history:
        steps.append(step(domain, power.drawing(ratio, of=domain), memory, now_s))
        memory = steps[-1].memory
    return steps


def held(ratio: float, *, start_s: int, until_s: int) -> list[tuple[float, float]]:
    """One tick a second at a constant share of the budget, both ends included."""
    return [(float(second), ratio) for second in range(start_s, until_s + 1)]


@pytest.mark.parametrize(
    ("ratio", "level", "caps", "reason"),
    [
        (0.61, Level.NORMAL, NO_CAPS, Reason.BELOW_THRESHOLDS),
        (0.62, Level.LOW_BASE, ClassCaps(low_mhz=1785), Reason.ABOVE_LOW_THRESHOLD),
        (0.72, Level.LOW_DEEP, ClassCaps(low_mhz=1560), Reason.ABOVE_HIGH_THRESHOLD),
        (0.97, Level.BRAKE, ClassCaps(405, 1830), Reason.ABOVE_BRAKE_THRESHOLD),
        (1.30, Level.BRAKE, ClassCaps(405, 405), Reason.ABOVE_BRAKE_THRESHOLD),
    ],
    ids=["below", "at the low threshold", "at the high threshold", "at the brake", "far above the budget"],
)
def test_one_sample_is_enough_to_go_up_and_levels_may_be_skipped(
    ratio: float, level: Level, caps: ClassCaps, reason: Reason
) -> None:
    got = lived([(0, 0.5), (1, ratio)])[-1]
    assert (got.level, got.caps, got.reason) == (level, caps, reason)


def test_high_priority_is_capped_only_after_the_deep_cap_had_time_to_work() -> None:
    levels = [s.level for s in lived(held(0.8, start_s=0, until_s=5))]
    assert levels == [Level.LOW_DEEP] * 5 + [Level.HIGH_CAP]


def test_high_priority_stays_free_when_the_deep_cap_was_enough() -> None:
    steps = lived([(0, 0.8), *held(0.7, start_s=1, until_s=20)])
    assert {s.level for s in steps} == {Level.LOW_DEEP}
    assert all(s.caps.high_mhz is None for s in steps)


def test_a_release_takes_a_whole_dwell_below_the_line_and_is_one_level() -> None:
    """0.80 -> LowDeep; the line of LowDeep is 0.72 - 0.05 = 0.67, calm from second 1, released at second 31."""
    steps = lived([(0, 0.8), *held(0.5, start_s=1, until_s=62)])
    assert [s.level for s in steps[:31]] == [Level.LOW_DEEP] * 31
    assert steps[31].level is Level.LOW_BASE
    assert steps[31].reason is Reason.RELEASED_AFTER_DWELL
    assert steps[61].level is Level.LOW_BASE
    assert steps[62].level is Level.NORMAL


def test_a_single_sample_above_the_line_starts_the_dwell_again() -> None:
    steps = lived([(0, 0.8), *held(0.5, start_s=1, until_s=20), (21, 0.68), *held(0.5, start_s=22, until_s=51)])
    assert {s.level for s in steps} == {Level.LOW_DEEP}


def test_a_level_inside_its_hysteresis_band_is_kept() -> None:
    steps = lived([(0, 0.63), *held(0.58, start_s=1, until_s=120)])
    assert {s.level for s in steps} == {Level.LOW_BASE}
    assert steps[-1].reason is Reason.COOLING_DOWN


def test_the_brake_is_held_and_left_towards_the_high_cap() -> None:
    steps = lived([(0, 1.0), *held(0.6, start_s=1, until_s=31)])
    assert [s.level for s in steps[:31]] == [Level.BRAKE] * 31
    assert steps[31].level is Level.HIGH_CAP


def test_a_cap_that_comes_back_soon_doubles_the_dwell() -> None:
    """First release 30 s after calm; back up at 35 s; the second takes 60 s."""
    history = [(0.0, 0.63), *held(0.5, start_s=1, until_s=31), (35.0, 0.63), *held(0.5, start_s=36, until_s=96)]
    level_at = {now_s: s.level for (now_s, _), s in zip(history, lived(history), strict=True)}
    assert level_at[31] is Level.NORMAL
    assert level_at[95] is Level.LOW_BASE
    assert level_at[96] is Level.NORMAL


def test_a_budget_cut_brakes_in_the_same_tick() -> None:
    rack = power.domain()
    before = step(rack, power.drawing(0.6, of=rack), ARMED, 0)
    cut = dataclasses.replace(rack, budget_w=6_000)
    assert step(cut, power.drawing(0.6, of=rack), before.memory, 1).level is Level.BRAKE


def test_a_controller_that_was_stopped_does_not_count_the_pause_as_calm() -> None:
    rack = power.domain()
    up = step(rack, power.drawing(0.8), ARMED, 0)
    calm = step(rack, power.drawing(0.5), up.memory, 1)
    assert step(rack, power.drawing(0.5), calm.memory, 100).level is Level.LOW_DEEP


def test_watts_count_at_the_meter_with_the_rest_of_the_node() -> None:
    """(4 x (1000 + 500) W) / 0.94 = 6383 W."""
    rack = power.domain(non_gpu_typical_w=500, non_gpu_worst_w=900, supply_efficiency_ratio=0.94)
    got = step(rack, tuple(power.sample(n, 1000) for n in rack.nodes), ARMED, 0)
    assert got.measured_w == pytest.approx(6382.98, abs=0.01)
    assert got.headroom_w == pytest.approx(10_000 - 6382.98, abs=0.01)


def test_a_silent_node_counts_at_its_worst_case() -> None:
    """3 x 1000 heard; the silent one 2000 x 1.05 (its boards may overshoot their limit) = 5100 of 10000."""
    nodes = [power.sample(n, 1000, worst_case_w=2000) for n in power.NODES[:3]]
    got = step(power.domain(), (*nodes, power.sample("n4", power.GONE, worst_case_w=2000)), ARMED, 0)
    assert got.measured_w == 3000
    assert got.projected_w == pytest.approx(5100)
    assert got.missing == ("n4",)
    assert got.level is Level.NORMAL


@pytest.mark.parametrize(
    "watts",
    [Missing(Reason.NO_DATA), Stale(10.0, 9.0), Fresh(math.nan, 0.1), Fresh(-1.0, 0.1), Fresh(math.inf, 0.1)],
    ids=["missing", "stale", "NaN", "negative", "infinite"],
)
def test_no_release_while_a_node_is_not_heard(watts: Fresh[float] | Stale[float] | Missing) -> None:
    rack, memory = power.domain(), step(power.domain(), power.drawing(0.63), ARMED, 0).memory
    quiet: tuple[NodeSample, ...] = tuple(power.sample(n, 500, worst_case_w=600) for n in power.NODES[:3])
    for second in range(1, 200):
        got = step(rack, (*quiet, power.sample("n4", watts, worst_case_w=600)), memory, second)
        memory = got.memory
    assert got.level is Level.LOW_BASE
    assert got.reason is Reason.TELEMETRY_LOST


def two_silent() -> tuple[NodeSample, ...]:
    heard = tuple(power.sample(n, 500) for n in power.NODES[:2])
    return (*heard, power.sample("n3", power.GONE), power.sample("n4", power.GONE))


def test_more_than_the_largest_node_silent_fails_safe_and_comes_back_by_steps() -> None:
    rack = power.domain(safe=SafeSetting(1110, 150))
    got = step(rack, two_silent(), ARMED, 0)
    assert got.level is Level.FAIL_SAFE
    assert got.caps == ClassCaps(1560, 1830, 150)
    levels, memory = [], got.memory
    for second in range(1, 62):
        after = step(rack, power.drawing(0.3, of=rack), memory, second)
        memory = after.memory
        levels.append(after.level)
    assert levels[59] is Level.FAIL_SAFE  # second 60: 59 s calm, two dwells are 60 s
    assert levels[60] is Level.HIGH_CAP


def test_going_blind_never_loosens_the_brake() -> None:
    rack = power.domain()
    braked = step(rack, power.drawing(1.0), ARMED, 0)
    blind = step(rack, two_silent(), braked.memory, 1)
    assert blind.level is Level.FAIL_SAFE
    assert blind.caps.low_mhz == blind.caps.high_mhz == 405


def test_what_was_heard_may_brake_even_when_the_rest_is_silent() -> None:
    heard = tuple(power.sample(n, 5000, worst_case_w=5000) for n in power.NODES[:2])
    silent = tuple(power.sample(n, power.GONE, worst_case_w=5000) for n in power.NODES[2:])
    assert step(power.domain(), (*heard, *silent), ARMED, 0).level is Level.BRAKE


def test_a_node_nobody_ever_described_is_blindness() -> None:
    assert step(power.domain(), power.drawing(0.3)[:3], ARMED, 0).level is Level.FAIL_SAFE


def test_an_armed_domain_whose_safe_sum_no_longer_fits_brakes_and_says_why() -> None:
    """4 nodes x 8 GPUs x 350 W x 1.05 = 11760 W of 10000."""
    got = step(power.domain(safe=SafeSetting(1110, 350)), power.drawing(0.2), ARMED, 0)
    assert (got.level, got.reason) == (Level.BRAKE, Reason.ADMISSION_FAILED)


def test_a_disarmed_domain_touches_nothing_whatever_it_draws() -> None:
    got = step(power.domain(armed=False), power.drawing(2.0), DomainMemory(level=Level.BRAKE), 0)
    assert (got.level, got.caps, got.reason) == (Level.DISARMED, NO_CAPS, Reason.DISARMED)
    assert got.utilisation_ratio == 2.0


def test_arming_under_load_caps_at_once() -> None:
    assert step(power.domain(), power.drawing(0.8), DomainMemory(), 0).level is Level.LOW_DEEP


def test_releases_of_two_racks_are_spread() -> None:
    def released_s(name: str) -> int:
        rack = power.domain(name=name, timers=Timers(dwell_s=300))
        memory = step(rack, power.drawing(0.63), ARMED, 0).memory
        for second in range(1, 400):
            got = step(rack, power.drawing(0.3), memory, second)
            memory = got.memory
            if got.level is Level.NORMAL:
                return second
        raise AssertionError("never released")

    moments = {released_s(f"rack-{number}") for number in range(6)}
    assert len(moments) > 1
    assert all(301 <= moment <= 361 for moment in moments)


def test_a_silent_node_that_drew_more_than_its_worst_case_counts_at_what_it_drew() -> None:
    """4000 W of boards whose limits add up to 3000 x 1.05: more is lost than the largest node: blind."""
    heard = tuple(power.sample(node, 500) for node in power.NODES[:3])
    got = step(power.domain(), (*heard, power.sample("n4", Stale(4000.0, 9.0))), ARMED, 0)
    assert got.projected_w == pytest.approx(5500)
    assert got.level is Level.FAIL_SAFE
