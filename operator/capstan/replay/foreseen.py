"""A trace walked slot by slot, forecast as it goes, and what came true: the judge of `forecast/`.

Who calls it: `capstan forecast`. Must not know: tables for people. The forecast sees rates over windows, as live; it
sees nothing of the future (`forecast.walk`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from capstan.forecast import calendar as calendars
from capstan.forecast import history, walk
from capstan.forecast.calendar import Calendar
from capstan.forecast.history import History
from capstan.forecast.peak import Rates
from capstan.model.classes import Edges
from capstan.model.outlook import Source
from capstan.replay import published, synth, weeks
from capstan.replay.runs import Floats, Ints, Requests
from capstan.replay.traces import tables
from capstan.replay.traces.tables import MINUTE_S

WINDOWS_PER_SLOT = 5
"""A slot of 5 min has windows of a minute, the shipped `rate_window_s`."""

CLASS_DRAWS = 100_000
"""Lengths drawn to learn the mix of classes of a trace of which only statistics are known: shares to 0.2 points."""

EDGES = Edges()


@dataclass(frozen=True, slots=True)
class Stream:
    """Arrivals of one class, or of all: samples as Prometheus would show them, and the slots before the first."""

    name: str
    samples: Rates
    before: History


@dataclass(frozen=True, slots=True)
class Draw:
    """How arrivals are drawn from statistics: weeks, a multiple of their rates, how much faster they pass, a seed."""

    weeks: int = 1
    rate_ratio: float = 1.0
    faster: float = 1.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Judged:
    """How forecasts of one stream came true.

    Attributes:
        stream: Its name.
        mean_rps: Of the walked slots, to read the losses against.
        slots: Walked.
        found: By distance ahead.
        drifted: Slots at which the load had left its pattern.
        sources: Slots by what their forecast rested on.
        peak_over_mean_ratio: Mean of planned peak over the mean rate that then came: what safety costs.
        sustained_over_mean_ratio: The same of the sustained rate.
    """

    stream: str
    mean_rps: float
    slots: int
    found: tuple[walk.Found, ...]
    drifted: int
    sources: tuple[tuple[Source, int], ...]
    peak_over_mean_ratio: float
    sustained_over_mean_ratio: float


def calendar(*, slot_s: float, begins_s: float, faster: float = 1.0) -> Calendar:
    """Return the calendar of a trace whose moment 0 lies `begins_s` after a Monday 00:00, played `faster`."""
    return calendars.of(slot_s, origin_s=-begins_s).faster(faster)


def of_requests(
    requests: Requests, known: Calendar, *, before: Requests | None = None, by_class: bool = False
) -> tuple[Stream, ...]:
    """Return the streams of a trace: all of it and, `by_class`, each class that has requests.

    Args:
        requests: The trace.
        known: Its calendar.
        before: Requests that came before; the last of them arrived as the trace began.
        by_class: Whether the classes of DESIGN 7.1 are forecast one by one, too.
    """
    window_s = known.slot_s / WINDOWS_PER_SLOT
    rows = [("all", np.ones(len(requests), bool), None if before is None else np.ones(len(before), bool))]
    if by_class:
        codes, old = _codes(requests), None if before is None else _codes(before)
        rows += [(EDGES.name(c), codes == c, None if old is None else old == c) for c in range(EDGES.count)]
    whole = int(float(requests.arrival_s[-1]) // window_s)
    streams = []
    for name, inside, then in rows:
        if not inside.any():
            continue
        past = History(known)
        if before is not None and then is not None:
            past = earlier(before.arrival_s[then], known, window_s=window_s, end_s=float(before.arrival_s[-1]))
        counted = _counted(requests.arrival_s[inside], window_s, whole)
        streams.append(Stream(name, _samples(counted, window_s, 0.0), past))
    return tuple(streams)


def earlier(arrival_s: Floats, known: Calendar, *, window_s: float, end_s: float) -> History:
    """Return the history of requests that came before moment 0.

    Args:
        arrival_s: When they came, ascending, shape `[request]`.
        known: The calendar in which moment 0 is the end of them.
        window_s: Windows that rates are told over.
        end_s: When moment 0 was, on their clock.
    """
    windows = math.floor(end_s / window_s)
    counted = _counted(arrival_s - (end_s - windows * window_s), window_s, windows)
    return history.of_rates(known, _samples(counted, window_s, -windows * window_s))


def of_statistics(
    shape: published.Statistics, known: Calendar, draw: Draw, *, by_class: bool = False
) -> tuple[Stream, ...]:
    """Return the streams of a trace of which only rates and lengths were published.

    Classes are shares of the whole at every hour, since nothing else was published.
    """
    window_s = known.slot_s / WINDOWS_PER_SLOT
    seed = draw.seed
    per_min = weeks.like(weeks.minutes(shape.rates), draw.weeks, seed=seed) * draw.rate_ratio / draw.faster
    noise = weeks.noise_ratio(shape.rates)
    whole = weeks.counts(per_min, noise=noise, window_s=window_s * draw.faster, seed=seed)
    streams = [Stream("all", _samples(whole, window_s, 0.0), History(known))]
    if by_class:
        few = published.Statistics(
            shape.name, tables.steady(np.zeros(1), np.array([CLASS_DRAWS]), MINUTE_S), shape.lengths
        )
        codes = _codes(synth.requests(few.rates, few.lengths, seed=seed))
        shares = np.bincount(codes, minlength=EDGES.count) / len(codes)
        split = np.random.default_rng(seed).multinomial(whole, shares)
        streams += [
            Stream(EDGES.name(c), _samples(split[:, c], window_s, 0.0), History(known))
            for c in range(EDGES.count)
            if split[:, c].any()
        ]
    return tuple(streams)


def judged(stream: Stream, *, horizon_s: float, leads_s: Sequence[float]) -> Judged:
    """Return how the forecasts of a stream came true.

    Args:
        stream: With its calendar in `before`.
        horizon_s: Length of an epoch.
        leads_s: Distances ahead to judge, none beyond the horizon.

    Raises:
        ValueError: The stream is shorter than an epoch and a slot, so that nothing comes true.
    """
    known = stream.before.calendar
    window_s = known.slot_s / WINDOWS_PER_SLOT
    horizon = max(round(horizon_s / known.slot_s), 1)
    course = walk.Course(horizon, window_s, lookback_s=max(horizon_s, 2 * known.slot_s))
    steps = list(walk.over(stream.samples, stream.before, course)) if stream.samples else []
    whole = stream.before.then(history.of_rates(known, stream.samples))
    if len(steps) <= horizon:
        need_s = (horizon + 1) * known.slot_s
        raise ValueError(f"shorter than an epoch and a slot, {need_s:g} s; give a longer trace or a shorter --horizon")
    leads = sorted({min(max(round(lead_s / known.slot_s), 1), horizon) for lead_s in leads_s})
    rates = [rate for step in steps if (rate := whole.at(step.slot)) is not None]
    came = [(step.told, _mean_rps(whole, step.slot, horizon)) for step in steps]
    return Judged(
        stream=stream.name,
        mean_rps=math.fsum(rates) / len(rates),
        slots=len(steps),
        found=tuple(walk.judged(steps, whole, lead_slots=lead) for lead in leads),
        drifted=sum(step.told.drifted for step in steps),
        sources=tuple((source, sum(step.told.source is source for step in steps)) for source in Source),
        peak_over_mean_ratio=_mean([told.peak_rps / rps for told, rps in came if rps]),
        sustained_over_mean_ratio=_mean([told.sustained_rps / rps for told, rps in came if rps]),
    )


def _mean_rps(whole: History, slot: int, horizon: int) -> float | None:
    """Return the mean rate of the epoch after a slot, None where a slot of it is not known."""
    rates = [rate for lead in range(1, horizon + 1) if (rate := whole.at(slot + lead)) is not None]
    return math.fsum(rates) / horizon if len(rates) == horizon else None


def _mean(ratios: list[float]) -> float:
    """Return the mean, NaN of nothing: every epoch was empty."""
    return math.fsum(ratios) / len(ratios) if ratios else math.nan


def _codes(requests: Requests) -> Ints:
    """Return the class of each request (`model.classes`), shape `[request]`."""
    prompt = np.searchsorted(EDGES.prompt_tokens, requests.prompt_tokens, "right")
    output = np.searchsorted(EDGES.output_tokens, requests.output_tokens, "right")
    return (prompt * EDGES.outputs + output).astype(np.int64)


def _counted(arrival_s: Floats, window_s: float, windows: int) -> Ints:
    """Return requests per window, shape `[window]`; what lies outside is left out."""
    window = np.floor(arrival_s / window_s).astype(np.int64)
    inside = window[(window >= 0) & (window < windows)]
    return np.bincount(inside, minlength=windows).astype(np.int64)


def _samples(counted: Ints, window_s: float, begins_s: float) -> Rates:
    """Return `((end of the window, its rate), ...)`."""
    ends_s = begins_s + window_s * np.arange(1, len(counted) + 1)
    return tuple(zip(ends_s.tolist(), (counted / window_s).tolist(), strict=True))
