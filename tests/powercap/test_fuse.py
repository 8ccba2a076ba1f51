"""Meter and agents as one figure, told as meter readings of a domain whose agents say a number."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing, Sample, Stale
from capstan.powercap import fuse
from capstan.powercap.domains import DomainMemory, Level, MeterMemory
from capstan.powercap.fuse import Fused, fused
from support import power
from support.power import step

MOST_W = 12_600.0
NO_DATA: Sample[float] = Missing(Reason.NO_DATA)


def told(meters: Sequence[Sample[float]], *, agents_w: float = 6000.0, every_s: float = 60.0) -> list[Fused]:
    """One tick per reading, each a new one."""
    memory, seen = MeterMemory(), []
    for number, meter in enumerate(meters):
        seen.append(fused(agents_w, meter, most_w=MOST_W, memory=memory, now_s=number * every_s))
        memory = seen[-1].memory
    return seen


def test_a_meter_above_the_agents_raises_them_at_once() -> None:
    assert told([Fresh(6600.0, 1.0)])[-1].draw_w == pytest.approx(6600)


def test_a_meter_below_lowers_them_only_when_half_an_hour_of_readings_said_the_same() -> None:
    """Thirty readings of 5700 W: 0.95. The one before the last still counts the agents in full."""
    seen = told([Fresh(5700.0, 1.0)] * 30)
    assert {found.draw_w for found in seen[:-1]} == {6000.0}
    assert seen[-1].draw_w == pytest.approx(5700)


def test_what_was_raised_comes_down_as_slowly() -> None:
    seen = told([Fresh(6600.0, 1.0), *[Fresh(6000.0, 1.0)] * 30])
    assert [found.draw_w for found in seen[:-1]] == pytest.approx([6600.0] * 30)
    assert seen[-1].draw_w == pytest.approx(6000)


def test_a_meter_never_lowers_by_more_than_a_tenth() -> None:
    assert told([Fresh(3000.0, 1.0)] * 40)[-1].draw_w == pytest.approx(0.9 * 6000)


def test_one_reading_seen_many_times_counts_once() -> None:
    memory = MeterMemory()
    for second in range(300):
        memory = fused(6000.0, Stale(5700.0, second), most_w=MOST_W, memory=memory, now_s=float(second)).memory
    assert memory.agreeing == 1


def test_a_stale_meter_corrects_and_never_drives() -> None:
    """9000 W is 1.5 times the agents: as a correction at most 1.25; fresh and three times it is the larger."""
    assert told([Stale(9000.0, 60.0)] * 10)[-1].draw_w == pytest.approx(1.25 * 6000)
    fresh = [Fresh(9000.0, 1.0)] * 4
    assert [f.draw_w for f in told(fresh)] == pytest.approx([7500, 7500, 9000, 9000])


def test_a_disagreement_ends_when_one_reading_agrees() -> None:
    seen = told([Fresh(9000.0, 1.0)] * 2 + [Fresh(7500.0, 1.0)] + [Fresh(9000.0, 1.0)] * 2)
    assert [f.draw_w for f in seen] == pytest.approx([7500] * 5)
    assert [f.agrees for f in seen] == [False, False, True, False, False]


def test_of_two_that_disagree_the_larger_counts_even_if_it_is_the_agents() -> None:
    seen = told([Fresh(4000.0, 1.0)] * 5)
    assert [f.draw_w for f in seen] == [6000.0] * 5
    assert {f.agrees for f in seen} == {False}


@pytest.mark.parametrize(
    "watts", [6.0, 0.0, -6000.0, 600.0, 6e6, 1.3 * MOST_W],
    ids=["kW instead of W", "zero", "negative", "tens of watts (SNMP)", "mW", "more than all boards can"],
)  # fmt: skip
def test_a_meter_in_a_wrong_unit_is_not_believed_and_reported(watts: float) -> None:
    seen = told([Fresh(watts, 1.0)] * 40)
    assert {f.draw_w for f in seen} == {6000.0}
    assert {(f.meter_w, f.agrees) for f in seen} == {(None, False)}


@pytest.mark.parametrize("watts", [math.nan, math.inf])
def test_a_meter_without_a_number_says_nothing(watts: float) -> None:
    got = told([Fresh(watts, 1.0)])[-1]
    assert (got.draw_w, got.meter_w, got.agrees) == (6000.0, None, None)


def test_a_meter_that_falls_silent_keeps_its_correction() -> None:
    assert told([Fresh(6600.0, 1.0), NO_DATA, NO_DATA])[-1].draw_w == pytest.approx(6600)


@given(
    st.lists(st.floats(-1e9, 1e9) | st.floats(4000, 14_000) | st.just(math.nan), max_size=60),
    st.booleans(),
)
def test_no_meter_lowers_the_agents_below_nine_tenths_or_lifts_them_past_what_boards_draw(
    watts: list[float], fresh: bool
) -> None:
    meters = [Fresh(w, 0.5) if fresh else Stale(w, 50.0) for w in watts]
    for found in told(meters):
        assert 0.9 * 6000 - 1e-6 <= found.draw_w <= fuse.ABSURD_HIGH_RATIO * MOST_W


def test_step_reports_meter_and_agents() -> None:
    """Agents say 6000 of 10000 W, the meter 6600: 0.66 is above the low threshold of 0.62."""
    got = step(power.domain(), power.drawing(0.6), DomainMemory(level=Level.NORMAL), 0, meter=Fresh(6600.0, 1.0))
    assert got.level is Level.LOW_BASE
    assert (got.meter_w, got.meter_agrees) == (6600.0, True)


def test_a_silent_node_does_not_teach_the_meter_a_factor() -> None:
    """The meter still sees the node that nobody hears; 6000 over 4500 is no gain of the boards."""
    quiet = (*power.drawing(0.6)[:3], power.sample("n4", power.GONE))
    got = step(power.domain(), quiet, DomainMemory(level=Level.NORMAL), 0, meter=Fresh(6000.0, 1.0))
    assert got.memory.meter.factor_ratio == 1.0
    assert got.projected_w == pytest.approx(4500 + 3000 * 1.05)


def test_a_reading_of_a_spike_that_came_when_it_was_over_is_no_gain() -> None:
    """Six seconds at 11.4 kW, then the brake; the meter's reading of the spike is up to 5 s late."""
    memory = MeterMemory()
    for second in range(60):
        agents_w = 11_400.0 if 30 <= second < 36 else 6000.0
        metered_w = 11_400.0 if 30 <= second - second % 5 - 1 < 36 else 6000.0  # one reading in 5 s, of a second before
        reading = Fresh(metered_w, second % 5 + 1.0)
        found = fused(agents_w, reading, most_w=MOST_W, memory=memory, now_s=float(second))
        memory = found.memory
        assert found.draw_w <= 1.001 * agents_w, second
    assert memory.factor_ratio == 1.0


@pytest.mark.parametrize("age_s", [0.0, 1.0, 2.0])
def test_a_reading_of_a_rise_that_the_agents_tell_two_seconds_later_is_no_gain(age_s: float) -> None:
    """A meter that is asked every 5 s, for the first time after a rise by half when that is `age_s` ago."""
    rise_s, memory = 31 - age_s, MeterMemory()
    for second in range(60):
        asked_s = 5 * ((second - 1) // 5) + 1
        agents_w, meter_w = (9000.0 if at_s >= rise_s else 6000.0 for at_s in (second - 2, asked_s - age_s))
        reading = Fresh(meter_w, second - asked_s + age_s)
        memory = fused(agents_w, reading, most_w=MOST_W, memory=memory, now_s=float(second)).memory
    assert memory.factor_ratio == 1.0


def test_agents_that_swing_around_what_a_slow_meter_averages_are_not_a_gain() -> None:
    """The draw swings by 20 % within seconds; a meter that says its mean once a minute agrees with it."""
    memory = MeterMemory()
    for second in range(1200):
        agents_w = 6000.0 * (1.2 if second % 7 < 3 else 0.85)
        meter = Stale(6000.0, float(second % 60))
        memory = fused(agents_w, meter, most_w=MOST_W, memory=memory, now_s=float(second)).memory
    assert memory.factor_ratio <= 1.03
