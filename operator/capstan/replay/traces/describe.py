"""What a trace is like: rates, burstiness, lengths, classes; and the two tables that stand for it.

Who calls it: `capstan trace describe`. Must not know: how any of it is printed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from capstan.replay.runs import Floats, Ints, Requests
from capstan.replay.traces.tables import MINUTE_S, Lengths, Rates, steady

PROMPT_EDGES_TOKENS = (256, 1024)
OUTPUT_EDGES_TOKENS = (100, 350)
"""Classes short, medium, long; a lower bound belongs to its class (DESIGN 7.1)."""

SIZES = "SML"
SHOWN = (0.5, 0.9, 0.95, 0.99, 1.0)
"""The quantiles that people are shown."""

TABLE = (*(percent / 100 for percent in range(100)), 0.995, 0.999, 0.9999, 1.0)
"""The quantiles of `lengths.csv`: every percent, since lengths come in lumps, and the tail."""

SHORTEST_S = 1.0
"""The last minute's requests are spread over this at least: a single one at its first instant is no rate."""

MAX_SPAN_S = 1000 * 86_400.0
"""Longer than any public trace tenfold: past this a time column has the wrong unit."""


@dataclass(frozen=True, slots=True)
class Share:
    """The requests of one class of input and output, `SS` to `LL`."""

    name: str
    requests: int
    ratio: float


@dataclass(frozen=True, slots=True)
class Description:
    """A trace in figures.

    Attributes:
        duration_s: First arrival to last.
        mean_per_min: Requests over the duration; NaN for a single moment.
        peak_per_min: The busiest minute, counted from the first arrival.
        floor_per_min: The quietest whole minute.
        gap_cv: Coefficient of variation of the times between arrivals; 1 for steady Poisson arrivals.
        burst_cv: The same after the rates of the minutes are taken out: what `capstan trace synth --burst-cv` takes.
        dispersion: Variance over mean of the counts of whole minutes; 1 for steady Poisson arrivals.
        classes: In order SS, SM ... LL.
        rates: Of each minute; the last ends with the last arrival, so that the mean is the trace's.
        lengths: Marginal quantiles at `TABLE`.
    """

    requests: int
    duration_s: float
    mean_per_min: float
    peak_per_min: float
    floor_per_min: float
    gap_cv: float
    burst_cv: float
    dispersion: float
    prompt_mean_tokens: float
    output_mean_tokens: float
    correlation: float
    classes: tuple[Share, ...]
    rates: Rates
    lengths: Lengths


def describe(requests: Requests) -> Description:
    """Return what a trace is like.

    Raises:
        ValueError: The trace spans more than 1,000 days.
    """
    duration_s = float(requests.arrival_s[-1])
    if duration_s > MAX_SPAN_S:
        days = duration_s / 86_400
        raise ValueError(f"the trace spans {days:,.0f} days; is the unit of its times seconds?")
    counts = np.bincount((requests.arrival_s // MINUTE_S).astype(np.int64))
    whole = counts[:-1] if len(counts) > 1 else counts  # the last minute is cut off by the last arrival
    return Description(
        requests=len(requests),
        duration_s=duration_s,
        mean_per_min=len(requests) / duration_s * MINUTE_S if duration_s else math.nan,
        peak_per_min=float(counts.max()),
        floor_per_min=float(whole.min()),
        gap_cv=_cv(np.diff(requests.arrival_s)),
        burst_cv=_cv(np.diff(_operational(requests.arrival_s, counts))),
        dispersion=float(whole.var() / whole.mean()) if len(whole) > 1 else math.nan,
        prompt_mean_tokens=float(requests.prompt_tokens.mean()),
        output_mean_tokens=float(requests.output_tokens.mean()),
        correlation=_correlation(requests),
        classes=classes(requests),
        rates=_rates(counts, duration_s),
        lengths=quantiles(requests, TABLE),
    )


def quantiles(requests: Requests, ratios: tuple[float, ...]) -> Lengths:
    """Return both lengths at these quantiles; each is a length that occurred."""
    prompt, output = (
        np.quantile(column, ratios, method="inverted_cdf")
        for column in (requests.prompt_tokens, requests.output_tokens)
    )
    return Lengths(np.array(ratios), prompt.astype(np.float64), output.astype(np.float64))


def classes(requests: Requests) -> tuple[Share, ...]:
    """Return the mix of the nine classes."""
    prompt = np.searchsorted(PROMPT_EDGES_TOKENS, requests.prompt_tokens, "right")
    output = np.searchsorted(OUTPUT_EDGES_TOKENS, requests.output_tokens, "right")
    counts = np.bincount(prompt * 3 + output, minlength=9).tolist()
    names = [a + b for a in SIZES for b in SIZES]
    return tuple(Share(name, count, count / len(requests)) for name, count in zip(names, counts, strict=True))


def _rates(counts: Ints, duration_s: float) -> Rates:
    starts_s = MINUTE_S * np.arange(len(counts), dtype=np.float64)
    last_s = max(duration_s - float(starts_s[-1]), SHORTEST_S)
    per_min = counts.astype(np.float64)
    per_min[-1] *= MINUTE_S / last_s
    return steady(starts_s, per_min, float(starts_s[-1]) + last_s)


def _operational(arrival_s: Floats, counts: Ints) -> Floats:
    """Return arrivals on a clock that runs with the rate of each minute, so that one is due per unit."""
    edges_s = MINUTE_S * np.arange(len(counts) + 1, dtype=np.float64)
    if len(counts) > 1:
        edges_s[-1] = max(float(arrival_s[-1]), float(edges_s[-2]))
    due: Floats = np.interp(arrival_s, edges_s, np.concatenate([[0.0], np.cumsum(counts)]))
    return due


def _cv(gaps: Floats) -> float:
    return float(gaps.std() / gaps.mean()) if len(gaps) > 1 and gaps.mean() > 0 else math.nan


def _correlation(requests: Requests) -> float:
    prompt, output = requests.prompt_tokens, requests.output_tokens
    if len(requests) < 2 or not (prompt.std() and output.std()):
        return math.nan
    return float(np.corrcoef(prompt, output)[0, 1])
