"""Traces as streams of a forecast, and what came true."""

from __future__ import annotations

import math

import numpy as np
import pytest

from capstan.model.outlook import Source
from capstan.replay import foreseen, published
from capstan.replay.foreseen import Draw
from capstan.replay.runs import Requests
from capstan.replay.traces import tables

MINUTES = foreseen.calendar(slot_s=300.0, begins_s=0.0)


def steady(count: int, every_s: float, prompt_tokens: int = 500, output_tokens: int = 50) -> Requests:
    """Return requests in the middle of equal steps."""
    arrival_s = every_s * (np.arange(count, dtype=np.float64) + 0.5)
    return Requests(arrival_s, np.full(count, prompt_tokens), np.full(count, output_tokens))


def test_moment_zero_of_a_trace_stands_where_it_is_said_to() -> None:
    """A trace that begins on a Saturday, also when a week of it passes in an hour."""
    for faster in (1.0, 168.0):
        known = foreseen.calendar(slot_s=300.0, begins_s=5 * 86_400.0, faster=faster)
        assert (known.slot(0.0), known.kind(known.slot(0.0))) == (5 * 288, 1)
        assert known.kind(known.slot(2.01 * 86_400.0 / faster)) == 0


def test_requests_become_rates_over_windows_of_a_fifth_of_a_slot() -> None:
    """One request every 2 s for 12 minutes is 0.5 rps in every window of a minute; the last, cut off, is left out."""
    (stream,) = foreseen.of_requests(steady(360, 2.0), MINUTES)
    assert stream.samples == tuple((60.0 * (i + 1), 0.5) for i in range(11))
    assert (stream.name, stream.before.rates_rps) == ("all", ())


def test_classes_are_told_apart_and_empty_ones_left_out() -> None:
    """Prompts of 500 and of 2,000 tokens with 50 out are MS and LS."""
    mixed = steady(360, 2.0)
    mixed.prompt_tokens[::3] = 2000
    streams = foreseen.of_requests(mixed, MINUTES, by_class=True)
    assert [stream.name for stream in streams] == ["all", "MS", "LS"]
    whole, medium, long = (sum(rate for _, rate in stream.samples) for stream in streams)
    assert medium + long == pytest.approx(whole)
    assert long == pytest.approx(whole / 3)


def test_what_came_before_ends_as_the_trace_begins() -> None:
    """20 minutes of 1 rps before: its last arrival is moment 0, so slots -4 to -1 are known (-4 for the most part)."""
    (stream,) = foreseen.of_requests(steady(360, 2.0), MINUTES, before=steady(1201, 1.0))
    assert stream.before.next_slot == 0
    assert stream.before.rates_rps == pytest.approx((1.0,) * 4, rel=0.02)


def test_statistics_become_counts_at_their_rates() -> None:
    """A day that passes in an hour is thinned: its shape is faster, its rates are not."""
    shape = published.Statistics(
        "flat", tables.steady(np.zeros(1), np.array([600.0]), 86_400.0), published.WEEK.lengths
    )
    for draw, seconds, rate_rps in ((Draw(), 86_400, 10.0), (Draw(rate_ratio=0.5, faster=24.0), 3600, 5.0)):
        known = foreseen.calendar(slot_s=300.0, begins_s=0.0, faster=draw.faster)
        (stream,) = foreseen.of_statistics(shape, known, draw)
        assert stream.samples[-1][0] == pytest.approx(seconds)
        rates = [rate for _, rate in stream.samples]
        assert len(rates) == 1440
        assert np.mean(rates) == pytest.approx(rate_rps, rel=0.05)


def test_classes_of_statistics_add_up() -> None:
    shape = published.Statistics("flat", tables.steady(np.zeros(1), np.array([600.0]), 7200.0), published.WEEK.lengths)
    whole, *parts = foreseen.of_statistics(shape, MINUTES, Draw(), by_class=True)
    for i, (t_s, rate_rps) in enumerate(whole.samples):
        assert math.fsum(part.samples[i][1] for part in parts) == pytest.approx(rate_rps)
        assert {part.samples[i][0] for part in parts} == {t_s}
    assert len(parts) == 9


def test_two_published_weeks_are_forecast_better_than_naively_and_the_band_holds() -> None:
    """The goals of the forecast, at half an hour, on the statistics that ship: seed 1, the second week drawn."""
    (stream,) = foreseen.of_statistics(
        published.WEEK, foreseen.calendar(slot_s=300.0, begins_s=6 * 86_400.0), Draw(weeks=2)
    )
    found = foreseen.judged(stream, horizon_s=1800.0, leads_s=(300.0, 900.0, 1800.0))
    assert [distance.lead_slots for distance in found.found] == [1, 3, 6]
    for distance in found.found[1:]:
        total = distance.score
        assert 0.85 <= (total.covered_ratio or 0.0) <= 0.95
        assert total.ours_rps < total.last_value_rps
        assert total.ours_then_rps < total.last_week_rps
    assert dict(found.sources) == {Source.TEMPLATE: 2016, Source.DAY: 1728, Source.REACTIVE: 288}
    assert found.found[-1].exceeded < 0.1 * found.found[-1].epochs
    assert 1.0 < found.sustained_over_mean_ratio < found.peak_over_mean_ratio < 1.6


def test_an_empty_hour_has_no_ratio_to_a_mean() -> None:
    """One request, then nothing for three hours."""
    alone = Requests(np.array([0.0, 10_800.0]), np.array([5, 5]), np.array([5, 5]))
    (stream,) = foreseen.of_requests(alone, MINUTES)
    found = foreseen.judged(stream, horizon_s=1800.0, leads_s=(1800.0,))
    assert found.slots == 36
    assert math.isnan(found.peak_over_mean_ratio)


def test_a_trace_shorter_than_an_epoch_is_refused() -> None:
    (stream,) = foreseen.of_requests(steady(1000, 1.8), MINUTES)
    with pytest.raises(ValueError, match="2100 s; give a longer trace or a shorter --horizon"):
        foreseen.judged(stream, horizon_s=1800.0, leads_s=(1800.0,))
