"""The rate that fits a count of replicas, against worlds that are rules; and the busy hours, against the engine."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from capstan.model.policy import Bounds
from capstan.model.slo import Slo
from capstan.replay.runs import Requests
from capstan.replay.searches import fluid, rate
from capstan.replay.stage import Stage
from support import builders, small
from support.planned import columns, with_tp
from support.replay import poisson

TP4 = builders.profile()
TP8 = with_tp(TP4, 8)
REQUESTS = columns(poisson(150, rate_rps=3.0, prompt=600, output=60))
HOUR_S = 3600.0


def model(*, most_gpus: int = 64) -> fluid.Model:
    bounds = Bounds(min_replicas=1, max_replicas=12, tensor_parallel=(4, 8))
    return fluid.Model((TP4, TP8), Slo(2.0, 0.1), bounds, most_gpus)


@pytest.mark.parametrize("start", [0.1, 1.0, 7.0])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_auto_finds_the_largest_rate_that_a_count_carries(start: float, count: int) -> None:
    """A world in which a replica carries 1.7 times the trace."""
    found = rate.auto_rate(lambda ratio, n: ratio <= 1.7 * n, count, start_ratio=start)
    assert 1.7 * count / 1.011 <= found <= 1.7 * count


def test_auto_looks_lower_where_one_fewer_does_by_chance() -> None:
    """Two carry the trace up to 1.7 times; by luck one does, too, from 1.65 on."""
    found = rate.auto_rate(lambda ratio, n: ratio <= 1.7 and (n == 2 or ratio >= 1.65 or ratio <= 1.0), 2)
    assert 1.6 <= found < 1.65


def test_the_closed_form_says_about_where_to_look() -> None:
    """What it says of twelve replicas is within a third of what three carry four times over; of nobody it says 1."""
    few, many = (rate.carried_ratio(model(most_gpus=96), REQUESTS, count) for count in (3, 12))
    assert 0 < few < many < 6 * few
    looks: list[float] = []

    def meets(ratio: float, count: int) -> bool:
        looks.append(ratio)
        return ratio <= 1.05 * few and count == 3

    assert rate.auto_rate(meets, 3, start_ratio=few) == pytest.approx(1.05 * few, rel=0.011)
    assert len(looks) <= 7


def test_auto_says_when_no_rate_needs_that_many() -> None:
    with pytest.raises(ValueError, match="needs 2 replicas and no fewer"):
        rate.auto_rate(lambda ratio, n: ratio <= 2.0, 2)
    with pytest.raises(ValueError, match="3 replicas never meet the SLO"):
        rate.auto_rate(lambda ratio, n: False, 3)


def test_the_whole_trace_has_the_last_word() -> None:
    """The screen takes two replicas for enough up to 2.0 times the rate; in truth they are up to 1.8 times."""
    asked: list[float] = []

    def truth(ratio: float, count: int) -> bool:
        asked.append(ratio)
        return ratio <= 0.9 * count

    found = rate.auto_rate(truth, 2, screen=lambda ratio, n: ratio <= n)
    assert 1.8 / 1.011 <= found <= 1.8
    assert all(ratio <= 2.0 for ratio in asked), "the screen found the way"
    assert rate.auto_rate(lambda ratio, n: ratio <= n, 2, screen=lambda ratio, n: ratio <= 0.9 * n) <= 1.8


# --- busy hours --------------------------------------------------------------------------------------


def hours(*rates_rps: float) -> Requests:
    """Requests of one length, evenly spaced, an hour at each rate."""
    arrival_s = np.concatenate(
        [at * HOUR_S + (np.arange(int(rps * HOUR_S)) + 0.5) / rps for at, rps in enumerate(rates_rps)]
    )
    return Requests(arrival_s, np.full(len(arrival_s), 1155), np.full(len(arrival_s), 211))


def test_busy_hours_stand_one_after_the_other() -> None:
    """Of 0.1, 1, 0.1, 0.9 and 0.5 rps the second and the fourth hour are within a fifth of the critical window's."""
    whole = hours(0.1, 1.0, 0.1, 0.9, 0.5)
    busy = rate.busy(whole)
    assert sorted({int(at) for at in whole.arrival_s[busy.inside] // HOUR_S}) == [1, 3]
    assert busy.requests.arrival_s[0] == whole.arrival_s[busy.inside][0] - HOUR_S
    assert busy.requests.arrival_s[-1] == whole.arrival_s[busy.inside][-1] - 2 * HOUR_S
    assert (np.diff(busy.requests.arrival_s) > 0).all()


def test_a_level_trace_is_busy_throughout() -> None:
    whole = hours(0.5, 0.5)
    busy = rate.busy(whole)
    assert busy.inside.all()
    assert busy.requests.arrival_s.tolist() == whole.arrival_s.tolist()


@pytest.mark.parametrize(("busy_rps", "met"), [(1.0, True), (40.0, False)])
def test_the_busy_hours_say_of_a_fleet_what_the_whole_trace_does(busy_rps: float, met: bool) -> None:
    scenario = small.scenario(hours(0.01, busy_rps, *[0.01] * 6))
    stage = Stage(dataclasses.replace(scenario, duration_s=8 * HOUR_S))
    assert (stage.meets_when_busy(1), stage.meets(1)) == (met, met)


def test_hours_that_were_not_played_count_as_served() -> None:
    """One quiet hour of a hundred requests beside a busy one: in the run of the whole all of them are there."""
    whole = hours(100 / HOUR_S, 1.0)
    scenario = small.scenario(whole)
    busy = rate.busy(whole)
    held = dataclasses.replace(scenario.services[0], requests=busy.requests)
    played = Stage(dataclasses.replace(scenario, services=(held,))).single_pool()
    outcomes = busy.run(played).services[0].outcomes
    assert len(outcomes.first_s) == len(whole)
    assert (outcomes.first_s[:100] == whole.arrival_s[:100]).all()
    waits_s = outcomes.first_s[100:] - whole.arrival_s[100:]
    np.testing.assert_allclose(waits_s, played.services[0].outcomes.first_s - busy.requests.arrival_s, atol=1e-6)


def test_the_critical_hour_comes_at_the_rate_that_is_asked_for() -> None:
    """Of 20 hours 95 % are at or below the second busiest: 0.9 rps, at twice the rate in half the time."""
    found = rate.critical_hour(hours(*[0.1] * 18, 0.9, 1.0), 2.0)
    assert len(found) == int(0.9 * HOUR_S)
    assert 0 <= found.arrival_s[0] < found.arrival_s[-1] < HOUR_S / 2


def test_of_a_long_trace_an_hour_says_about_where_to_look() -> None:
    """Evenly spaced requests: what the hour carries is what every hour does, so that the whole agrees within a step."""
    stage = Stage(dataclasses.replace(small.scenario(hours(*[0.2] * 7)), duration_s=7 * HOUR_S))
    ratio = stage.carried_ratio(1)
    rated = dataclasses.replace(stage.scenario.services[0], requests=hours(*[0.2 * ratio / 1.05] * 7))
    assert Stage(dataclasses.replace(stage.scenario, services=(rated,))).meets(1)
    rated = dataclasses.replace(rated, requests=hours(*[0.2 * ratio * 1.1] * 7))
    assert not Stage(dataclasses.replace(stage.scenario, services=(rated,))).meets(1)
