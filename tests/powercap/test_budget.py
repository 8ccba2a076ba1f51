"""The budget in force: ramps told as (second, watts), feeds told as their readings."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing, Sample, Stale
from capstan.powercap.budget import RAMP_S, BudgetMemory, Feeds, FeedsMemory, Reduction, fed, reduced

QUARTER = Reduction(1000.0, 2000.0, 7500.0)
"""7500 of 10000 W: the ramp falls by 7500 / 900 = 8.333 W/s, so it begins 300 s before, at second 700."""


def lived(reductions: tuple[Reduction, ...], moments: range, *, declared_w: float = 10_000.0) -> dict[int, float]:
    memory, watts = BudgetMemory(), {}
    for now in moments:
        watts[now], memory = reduced(declared_w, reductions, float(now), memory, float(now))
    return watts


def test_a_reduction_ramps_so_that_it_holds_when_it_begins_and_ends_at_once() -> None:
    watts = lived((QUARTER,), range(600, 2100))
    assert watts[700] == 10_000
    assert watts[850] == pytest.approx(8750)
    assert watts[1000] == pytest.approx(7500)
    assert watts[1999] == pytest.approx(7500)
    assert watts[2000] == 10_000


def test_a_reduction_that_is_known_late_ramps_from_now() -> None:
    """Told at second 1500, half way through: 300 s from then."""
    _, memory = reduced(10_000, (), 1499, BudgetMemory(), 1499)
    seen = {}
    for now in range(1500, 1900):
        seen[now], memory = reduced(10_000, (QUARTER,), now, memory, now)
    assert seen[1500] == pytest.approx(10_000 - 7500 / 900)
    assert seen[1649] == pytest.approx(8750)
    assert seen[1799] == pytest.approx(7500)


def test_the_lowest_of_overlapping_reductions_counts() -> None:
    deeper = Reduction(1400.0, 1600.0, 6000.0)
    watts = lived((QUARTER, deeper), range(600, 2000))
    assert watts[1400] == pytest.approx(6000)
    assert watts[1599] == pytest.approx(6000)
    assert watts[1600] == pytest.approx(7500)


def test_a_reduction_that_is_prolonged_or_deepened_under_way_never_loosens() -> None:
    watts, memory = reduced(10_000, (QUARTER,), 1500, BudgetMemory(), 1500)
    for now in range(1501, 1600):
        after, memory = reduced(10_000, (Reduction(1000, 9000, 7000),), now, memory, now)
        assert 7000 <= after <= watts
        watts = after


def test_a_restart_under_way_does_not_loosen() -> None:
    assert reduced(10_000, (QUARTER,), 1500, BudgetMemory(), 3)[0] == 7500


def test_a_plain_cut_is_obeyed_at_once_in_a_ramp_too() -> None:
    _, memory = reduced(10_000, (QUARTER,), 850, BudgetMemory(), 850)
    assert reduced(2000, (QUARTER,), 851, memory, 851)[0] == 2000


def test_a_jump_of_wall_time_is_no_step() -> None:
    """NTP moves the wall clock an hour on; the ramp moves by the one second that passed."""
    _, memory = reduced(10_000, (Reduction(4000, 9000, 5000),), 1000, BudgetMemory(), 10)
    assert reduced(10_000, (Reduction(4000, 9000, 5000),), 4600, memory, 11)[0] == pytest.approx(10_000 - 5000 / 900)


REDUCTIONS = st.builds(
    lambda start, length, watts: Reduction(start, start + length, watts),
    st.floats(0, 3000), st.floats(1, 3000), st.floats(1000, 10_000),
)  # fmt: skip


@given(st.lists(REDUCTIONS, max_size=4), st.integers(0, 3000))
def test_no_reduction_raises_a_budget_or_steps_down(reductions: list[Reduction], told_at: int) -> None:
    """Told at any second: the share of a steady draw never rises by more than 1/900 in a second."""
    before, memory = reduced(10_000, (), told_at, BudgetMemory(), told_at)
    for now in range(told_at + 1, told_at + 1500, 7):
        watts, memory = reduced(10_000, reductions, now, memory, now)
        assert watts <= 10_000
        assert before / watts - 1 <= 7 / RAMP_S * 1.02 or watts >= before
        held = [r.budget_w for r in reductions if r.from_s <= now < r.to_s]
        assert not held or now - told_at < 9 * RAMP_S or watts <= min(held) + 1e-6
        before = watts


@pytest.mark.parametrize(
    ("build", "message"),
    [(lambda: Reduction(1, 1, 5), "from_s"), (lambda: Reduction(1, 2, 0), "budget_w")],
    ids=["ends before it begins", "nothing left"],
)
def test_a_reduction_that_makes_no_sense_is_refused(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match=message):
        build()


# --- feeds -------------------------------------------------------------------------------------------

DWELL_S = 30.0
GONE = Missing(Reason.NO_DATA)


def told(*ticks: tuple[float | Sample[float], float | Sample[float]], every_s: float = 1.0) -> list[Feeds]:
    """Feeds A and B through ticks; a bare number is fresh."""
    memory, seen = FeedsMemory(), []
    for number, tick in enumerate(ticks):
        one, other = (Fresh(float(w), 0.1) if isinstance(w, int | float) else w for w in tick)
        seen.append(fed({"a": one, "b": other}, memory, number * every_s, dwell_s=DWELL_S))
        memory = seen[-1].memory
    return seen


@pytest.mark.parametrize(
    ("tick", "share", "lost"),
    [
        ((0, 10_000), 0.5, ("a",)),
        ((400, 7600), 0.5, ("a",)),
        ((600, 10_000), 1.0, ()),
        ((0, 5000), 1.0, ()),
        ((0, 0), 1.0, ()),
        ((2000, 2000), 1.0, ()),
        ((9000, 9000), 1.0, ()),
    ],
    ids=[
        "one dead, the other carries both", "near zero, half taken over", "above a tenth", "its load is gone",
        "both dark", "the load fell", "the load rose",
    ],
)  # fmt: skip
def test_a_feed_near_zero_while_the_other_rises_halves_the_budget_at_once(
    tick: tuple[float, float], share: float, lost: tuple[str, ...]
) -> None:
    got = told((5000, 5000), tick)[-1]
    assert (got.share_ratio, got.lost) == (share, lost)


def test_a_meter_that_averages_a_minute_shows_the_loss_all_the_same() -> None:
    """A fades over six readings of 10 s; what is usual follows so slowly that a tenth of it is still a tenth."""
    ticks = [(5000.0, 5000.0), (3000.0, 7000.0), (1500.0, 8500.0), (800.0, 9200.0), (300.0, 9700.0), (50.0, 9950.0)]
    assert told(*ticks, every_s=10.0)[-1].lost == ("a",)


def test_the_whole_budget_returns_when_all_carry_for_a_dwell() -> None:
    seen = told((5000, 5000), (0, 10_000), *[(5000, 5000)] * 10, (100, 9900), *[(5000, 5000)] * 31)
    assert [feeds.share_ratio for feeds in seen[1:43]] == [0.5] * 42
    assert seen[42].memory.carrying_since_s == 13
    assert seen[43].share_ratio == 1.0


@pytest.mark.parametrize("quiet", [GONE, Stale(0.0, 90.0), Fresh(math.nan, 0.0), Fresh(-1.0, 0.0)])
def test_a_feed_that_is_not_read_changes_nothing_and_is_told(quiet: Sample[float]) -> None:
    whole = told((5000, 5000), (quiet, 10_000))[-1]
    assert (whole.share_ratio, whole.unread) == (1.0, ("a",))
    held = told((5000, 5000), (0, 10_000), *[(quiet, 5000)] * 100)[-1]
    assert (held.share_ratio, held.unread) == (0.5, ("a",))


def test_a_controller_that_starts_while_a_feed_is_dead_sees_it() -> None:
    assert told((0, 10_000))[0].share_ratio == 0.5


def test_feeds_that_share_unevenly_are_whole() -> None:
    assert all(feeds.share_ratio == 1.0 for feeds in told(*[(8000, 2000)] * 50))


def test_load_that_grows_for_hours_never_reads_as_a_loss() -> None:
    ticks = [(5000 + 10.0 * i, 5000 + 10.0 * i) for i in range(300)]
    assert all(feeds.share_ratio == 1.0 for feeds in told(*ticks, every_s=60.0))


def test_one_feed_alone_is_not_redundant_and_frees_what_was_held() -> None:
    lost = told((5000, 5000), (0, 10_000))[-1].memory
    got = fed({"b": Fresh(10_000.0, 0.1)}, lost, 5.0, dwell_s=DWELL_S)
    assert (got.share_ratio, got.lost, got.unread) == (1.0, (), ())


def test_of_three_feeds_one_is_lost() -> None:
    memory = fed({n: Fresh(4000.0, 0.1) for n in "abc"}, FeedsMemory(), 0, dwell_s=DWELL_S).memory
    after = {"a": Fresh(0.0, 0.1), "b": Fresh(6000.0, 0.1), "c": Fresh(6000.0, 0.1)}
    assert fed(after, memory, 1, dwell_s=DWELL_S).lost == ("a",)
