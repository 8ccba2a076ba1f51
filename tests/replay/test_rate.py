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


# --- a part for the whole ----------------------------------------------------------------------------


def hours(*rates_rps: float) -> Requests:
    """Requests of one length, evenly spaced, an hour at each rate."""
    arrival_s = np.concatenate(
        [at * HOUR_S + (np.arange(round(rps * HOUR_S)) + 0.5) / max(rps, 1e-9) for at, rps in enumerate(rates_rps)]
    )
    return Requests(arrival_s, np.full(len(arrival_s), 1155), np.full(len(arrival_s), 211))


def test_a_sample_is_every_eighth_hour_of_the_load_one_after_the_other() -> None:
    """Of sixteen hours that get busier by 0.01 rps, the fifth and the thirteenth: their mean is that of all, nearly."""
    found = rate.sample(hours(*(0.01 * (at + 1) for at in range(16))))
    counts = np.bincount((found.arrival_s / HOUR_S).astype(np.int64))
    assert counts.tolist() == [round(0.05 * HOUR_S), round(0.13 * HOUR_S)]
    assert (np.diff(found.arrival_s) > 0).all()


def test_the_order_of_a_sample_is_that_of_the_trace() -> None:
    """The busier of the two comes first where it did."""
    found = rate.sample(hours(*(0.01 * (16 - at) for at in range(16))))
    counts = np.bincount((found.arrival_s / HOUR_S).astype(np.int64))
    assert counts.tolist() == [round(0.13 * HOUR_S), round(0.05 * HOUR_S)]


def test_of_a_trace_with_one_hour_of_requests_that_hour_is_the_sample() -> None:
    only = hours(*[0.0] * 7, 0.1)
    found = rate.sample(only)
    np.testing.assert_allclose(found.arrival_s, only.arrival_s - 7 * HOUR_S)


def test_the_same_requests_at_twice_the_rate_come_in_half_the_time() -> None:
    given = hours(0.1)
    assert rate.faster(given, 2.0).arrival_s.tolist() == (given.arrival_s / 2).tolist()


@pytest.mark.parametrize(("rps", "met"), [(0.5, True), (40.0, False)])
def test_a_sample_says_of_a_fleet_what_the_whole_trace_does(rps: float, met: bool) -> None:
    scenario = small.scenario(hours(*[0.02] * 6, rps, 0.02, 0.02))
    stage = Stage(dataclasses.replace(scenario, duration_s=9 * HOUR_S))
    assert stage.long()
    assert not Stage(small.scenario(hours(0.02))).long()
    whole, part = stage.meets(1), stage.sampled()
    assert whole is met
    assert part.meets(1), "the busy hour is not among the sampled ones: the whole trace has the last word"
    assert part.faster(rps / 0.02).meets(1) is met
