"""Requests drawn from rates and length quantiles, for where a trace may not be shared or is not at hand.

Who calls it: `replay.load`, which says in the run's settings that the trace is synthetic, and `capstan trace synth`.
Must not know: files.

Arrivals are a doubly stochastic renewal process. First the rate of every minute is drawn from its step's envelope
(mean: the step's rate; no envelope: the rate itself). Then gaps are drawn in *operational time*, in which the rate is
always 1: gamma, mean 1, coefficient of variation `burst_cv` (1: exponential, so Poisson arrivals). Operational time
becomes clock time through the integral of the rate. So `burst_cv` is the CV of gaps where the rate is steady; where it
moves, the CV of the clock's gaps is larger.

What is lost against the trace that was described: input and output are drawn independently, and from one distribution
at every hour.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from capstan.replay.runs import Floats, Ints, Requests
from capstan.replay.traces.tables import MINUTE_S, Lengths, Rates
from capstan.replay.traces.transforms import joined

CHUNK_REQUESTS = 2**18
"""Drawn at a time, at most: 6 MB of columns. Another size would move arrivals by a rounding, and nothing else."""


@dataclass(frozen=True, slots=True)
class _Timetable:
    """The integral of the rate, shapes `[knot]`: at clock time `clock_s`, `arrivals` are due."""

    clock_s: Floats
    arrivals: Floats


def requests(rates: Rates, lengths: Lengths, *, seed: int, burst_cv: float = 1.0) -> Requests:
    """Return a whole trace; see `chunks`."""
    return joined(chunks(rates, lengths, seed=seed, burst_cv=burst_cv))


def chunks(rates: Rates, lengths: Lengths, *, seed: int, burst_cv: float = 1.0) -> Iterator[Requests]:
    """Yield a trace in parts of bounded size; the same seed yields the same.

    Args:
        rates: Over time; `arrival_s` counts from the first step's start.
        lengths: Quantiles; drawn by the inverse CDF, linear between points. Below the first point a length is drawn
            between 1 token and that point; above the last there is no more to know, and it stays at that point.
        seed: Of everything that is drawn.
        burst_cv: Coefficient of variation of gaps in operational time, > 0.

    Raises:
        ValueError: burst_cv is not a positive number.
    """
    if not (math.isfinite(burst_cv) and burst_cv > 0):
        raise ValueError(f"--burst-cv {burst_cv}: give a number above 0; 1 makes Poisson arrivals")
    streams = (np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(4))
    for_rates, for_gaps, for_prompts, for_outputs = streams
    timetable = _timetable(rates, for_rates)
    prompt_points, output_points = _points(lengths, lengths.prompt_tokens), _points(lengths, lengths.output_tokens)
    for due in _arrivals(for_gaps, burst_cv, float(timetable.arrivals[-1])):
        yield Requests(
            np.interp(due, timetable.arrivals, timetable.clock_s),
            _drawn(for_prompts, prompt_points, len(due)),
            _drawn(for_outputs, output_points, len(due)),
        )


def _timetable(rates: Rates, chance: np.random.Generator) -> _Timetable:
    """Return the integral of the rate, with a rate drawn for every minute."""
    edges_s = np.unique(np.concatenate([rates.start_s, np.arange(rates.start_s[0], rates.end_s, MINUTE_S)]))
    step = np.searchsorted(rates.start_s, edges_s, "right") - 1
    minute = ((edges_s - rates.start_s[0]) // MINUTE_S).astype(np.int64)
    uniform = chance.random((int(minute[-1]) + 1, 2))[minute]
    per_min = _within(rates, step, uniform)
    ends_s = np.append(edges_s[1:], rates.end_s)
    arrivals = np.concatenate([[0.0], np.cumsum(per_min * (ends_s - edges_s) / MINUTE_S)])
    return _Timetable(np.append(edges_s, rates.end_s) - rates.start_s[0], arrivals)


def _within(rates: Rates, step: Ints, uniform: Floats) -> Floats:
    """Return a rate within each step's envelope, uniform below the step's rate and above it, so that its mean is it.

    The envelope is the lowest and the highest count of some seven minutes, so draws from it vary a quarter less than
    the minutes did (the range of seven uniforms is 3/4 of theirs).
    """
    low, mid, high = rates.low_per_min[step], rates.per_min[step], rates.high_per_min[step]
    below = uniform[:, 0] * (high - low) < high - mid
    return np.where(below, low + uniform[:, 1] * (mid - low), mid + uniform[:, 1] * (high - mid))


def _arrivals(chance: np.random.Generator, burst_cv: float, total: float) -> Iterator[Floats]:
    """Yield arrivals in operational time up to `total`, ascending.

    The first gap is that of a process which has run forever (a share of a length-biased gap), so that a bursty trace
    does not begin with more requests than its rate says.
    """
    shape = 1 / burst_cv**2
    now = float(chance.random() * chance.gamma(shape + 1) / shape)
    while now < total:
        count = min(CHUNK_REQUESTS, int(1.1 * (total - now)) + 64)  # a tenth more than is due, mostly one draw
        gaps = chance.gamma(shape, size=count) / shape
        due = now + np.concatenate([[0.0], np.cumsum(gaps)])
        now = float(due[-1])
        due = due[:-1]
        yield due[: int(np.searchsorted(due, total, "left"))]


def _points(lengths: Lengths, tokens: Floats) -> tuple[Floats, Floats]:
    """Return the inverse CDF from 0 to 1 as knots."""
    ratio = lengths.cdf_ratio
    first = 1.0 if ratio[0] > 0 else tokens[0]
    return np.concatenate([[0.0], ratio, [1.0]]), np.concatenate([[first], tokens, tokens[-1:]])


def _drawn(chance: np.random.Generator, points: tuple[Floats, Floats], count: int) -> Ints:
    """Return lengths by inverting the quantiles; a random fraction is rounded to whole tokens."""
    return np.rint(np.interp(chance.random(count), *points)).astype(np.int64)
