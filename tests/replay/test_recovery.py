"""Time to recover and debt after a shock, by hand; and what no service can be blamed for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.replay.runs import Outcomes, Requests
from capstan.replay.scores import recovery
from capstan.replay.scores.limits import Limits

HELD = Limits((2.0, 2.0, 2.0), 0.1, 0.99)
LATE_S = 5.0  # first token of a bad request: 3 s after its limit


def outcomes(bad_minutes: dict[int, int], *, minutes: int = 10, each: int = 60, lost: bool = False) -> Outcomes:
    """`each` requests a minute, evenly; the first `n` of a bad minute are late by 3 s, or lost."""
    arrival_s = np.arange(minutes * each) * 60.0 / each
    within = np.tile(np.arange(each), minutes)
    many = np.repeat([bad_minutes.get(minute, 0) for minute in range(minutes)], each)
    bad = within < many
    first_s = arrival_s + np.where(bad, np.nan if lost else LATE_S, 0.5)
    ones = np.ones(len(arrival_s), dtype=np.int64)
    return Outcomes(Requests(arrival_s, 100 * ones, ones), first_s, first_s + 0.0, np.full(len(arrival_s), np.nan))


def one(found: Outcomes, at_s: float = 120.0) -> recovery.Recovery:
    (made,) = recovery.of(found, HELD, (at_s,))
    return made


def test_who_never_misses_has_recovered_at_once_and_owes_nothing() -> None:
    assert one(outcomes({})) == recovery.Recovery(120.0, 0.0, 0.0, 0.0)


def test_recovery_is_the_start_of_the_first_minute_from_which_all_keep_the_slo() -> None:
    """Shock at minute 2; minutes 2, 3 and 5 miss it, so minute 6 is the first: 4 minutes later.

    Debt: 20 + 10 + 5 bad of 4 x 60 requests, of which 1 % may be: 35 - 2.4. Late: 35 x 3 s.
    """
    found = one(outcomes({2: 20, 3: 10, 5: 5}))
    assert found.recovered_after_s == 240.0
    assert found.debt_requests == pytest.approx(35 - 2.4)
    assert found.late_s == pytest.approx(35 * 3.0)


def test_a_minute_that_ends_badly_at_the_end_is_no_recovery() -> None:
    """Ten minutes, the last one bad: all eight from the shock on count, 480 requests, 4.8 of which may be bad."""
    found = one(outcomes({9: 30}))
    assert found.recovered_after_s is None
    assert found.debt_requests == pytest.approx(30 - 4.8)


def test_what_was_bad_before_the_shock_is_not_its_debt() -> None:
    assert one(outcomes({0: 60, 1: 60})).debt_requests == 0


def test_one_bad_request_in_a_minute_of_few_is_no_missed_slo() -> None:
    assert one(outcomes({4: 1})).recovered_after_s == 0.0
    assert one(outcomes({4: 2})).recovered_after_s == 180.0


def test_a_minute_of_many_may_have_a_percent() -> None:
    """600 a minute: 6 may be bad, 7 may not."""
    assert one(outcomes({4: 6}, each=600)).recovered_after_s == 0.0
    assert one(outcomes({4: 7}, each=600)).recovered_after_s == 180.0


def test_a_lost_request_is_owed_but_has_no_lateness() -> None:
    found = one(outcomes({2: 20}, lost=True))
    assert (found.recovered_after_s, found.late_s) == (60.0, 0.0)
    assert found.debt_requests == pytest.approx(20 - 0.6)


def test_each_shock_is_answered_for_up_to_the_next() -> None:
    """Minute 2 and minute 6: the first is over after a minute, the second never within what is left."""
    first, second = recovery.of(outcomes({2: 10, 6: 10, 9: 10}), HELD, (120.0, 360.0))
    assert (first.t_s, first.recovered_after_s) == (120.0, 60.0)
    assert (second.t_s, second.recovered_after_s) == (360.0, None)


def test_a_shock_after_the_last_request_and_a_service_without_requests_are_left_out() -> None:
    assert recovery.of(outcomes({}), HELD, (5000.0,)) == ()
    assert recovery.of(outcomes({3: 60}), HELD, ()) == (), "nothing happened, so there is nothing to recover from"
    none = Requests(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert recovery.of(Outcomes(none, np.zeros(0), np.zeros(0), np.zeros(0)), HELD, (1.0,)) == ()


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 60), max_size=10), st.floats(0, 590))
def test_more_bad_requests_never_bring_an_earlier_recovery_or_a_smaller_debt(bad: dict[int, int], at_s: float) -> None:
    worse = {minute: min(bad.get(minute, 0) + 5, 60) for minute in range(10)}
    less, more = one(outcomes(bad), at_s), one(outcomes(worse), at_s)
    assert more.debt_requests >= less.debt_requests - 1e-9
    assert more.late_s >= less.late_s
    if less.recovered_after_s is None:
        assert more.recovered_after_s is None
    elif more.recovered_after_s is not None:
        assert more.recovered_after_s >= less.recovered_after_s
