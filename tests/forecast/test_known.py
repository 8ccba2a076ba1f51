"""What a past says: the template and a tracker to begin with, the same whoever asks and whenever."""

from __future__ import annotations

import pytest

from capstan.forecast import history, known, walk
from capstan.forecast.calendar import Calendar
from capstan.forecast.history import History
from capstan.model.past import Block, Past

HALF_HOURS = Calendar(slot_s=1800.0, slots_per_day=48, origin_s=0.0)


def past(days: int) -> Past:
    """A block a day: 1 rps by night, 3 by day; nobody looked in the tenth hour."""
    day = tuple(None if slot in (20, 21) else 1.0 if slot < 16 else 3.0 for slot in range(48))
    return Past("llm/chat", tuple(Block(number * 86_400.0, 1800.0, day) for number in range(days)))


@pytest.mark.parametrize(
    ("cluster_s", "startup_s", "horizon_s", "slots"),
    [
        pytest.param(1800.0, 120.0, 1800.0, 1, id="an epoch is longer than two start-ups"),
        pytest.param(120.0, 30.0, 120.0, 1, id="a slot is the least"),
        pytest.param(1800.0, 1200.0, 2400.0, 2, id="two start-ups of 20 minutes do not fit into a slot of 30"),
    ],
)
def test_a_horizon_is_an_epoch_and_two_start_ups_at_least(
    cluster_s: float, startup_s: float, horizon_s: float, slots: int
) -> None:
    found_s = known.horizon_s(cluster_period_s=cluster_s, startup_s=startup_s)
    assert found_s == horizon_s
    assert known.slots(HALF_HOURS, found_s) == slots


def test_a_past_tells_its_days() -> None:
    """Smoothed over five slots: at 04:00 still 1, at 16:00 3; what nobody saw has no typical rate."""
    found = known.of_past(past(9), HALF_HOURS, horizon_slots=2)
    assert found.tells
    assert (found.policy, found.template.days, found.template.whole) == ("llm/chat", (7, 2), True)
    assert (found.template.at(8), found.template.at(32), found.template.at(20)) == (1.0, 3.0, None)
    assert found.tracker.last_slot == 9 * 48 - 1
    assert found.tracker.horizon_slots == 2


def test_steps_are_means_so_that_the_reach_of_a_peak_is_not_learnt_from_them() -> None:
    """A walk that took means for the highest windows would plan peaks without any room."""
    found = known.of_past(past(9), HALF_HOURS, horizon_slots=2).tracker
    assert (found.peak.judged_epochs, found.peak.seen) == (0, ())
    windows = history.of_rates(HALF_HOURS, past(9).samples())
    assert walk.warmed(windows, horizon_slots=2)[1].peak.judged_epochs > 0


@pytest.mark.parametrize("days", [0, 1])
def test_little_is_told_as_nothing(days: int) -> None:
    """No block at all; and a third of a day, which is no day."""
    little = Past("llm/chat", tuple(Block(0.0, 1800.0, (1.0,) * 16) for _ in range(days)))
    found = known.of_past(little, HALF_HOURS, horizon_slots=2)
    assert not found.tells
    assert found.template.typical_rps == ()


def test_the_same_past_says_the_same_again() -> None:
    one, other = (known.of_past(past(5), HALF_HOURS, horizon_slots=3) for _ in range(2))
    assert one == other
    assert one != known.of("llm/chat", History(HALF_HOURS), horizon_slots=3)
