"""One pass over the requests of a service: who was good, by class and window, and the quantiles of every latency.

Who calls it: `scores.score`. Must not know: systems, energy, what a verdict is.

A week has 27 million requests, so columns are read in blocks and nothing per request is kept but one column of
latencies at a time: the peak is about 220 MB for such a week beside the run itself.

Rules of evidence: what cannot be shown to be good is bad. A request without a first token or finish, with a time that
is NaN or infinite, or with times that run backwards, did not complete.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from capstan.model import slo
from capstan.replay.runs import Floats, Ints, Outcomes
from capstan.replay.scores import fluidity, limits

Bools = npt.NDArray[np.bool_]
Counts = tuple[int, int]

WINDOW_S = slo.WINDOW_S
"""By arrival, counted from the run's start."""

BLOCK = 1 << 19
"""Requests read at a time: 4 MB a column, so that the temporaries of a block stay in the processor's caches."""


class Latency(Enum):
    """The three latencies of a request. `TBT`: its longest gap between two tokens."""

    TTFT = "ttft"
    TPOT = "tpot"
    TBT = "tbt"


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Nearest rank over the requests that have the latency; None where none has."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """What one pass found.

    Attributes:
        arrived, completed, good: Requests.
        output_tokens: Of completed requests.
        classes: (arrived, good) per class, in the order of `limits.CLASSES`.
        windows: (arrived, good) of each 5-minute window that had an arrival, in order of time.
        ttft_s, tpot_s, tbt_s: Over completed requests; TPOT and the longest gap need two tokens.
        fluidity_low_ratio, fluidity_high_ratio: Means over all arrivals; None where nothing arrived.
    """

    arrived: int
    completed: int
    good: int
    output_tokens: int
    classes: tuple[Counts, ...]
    windows: tuple[Counts, ...]
    ttft_s: Quantiles
    tpot_s: Quantiles
    tbt_s: Quantiles
    fluidity_low_ratio: float | None
    fluidity_high_ratio: float | None


@dataclass(frozen=True, slots=True)
class _Block:
    """Some requests, all columns alike."""

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    first_s: Floats
    finish_s: Floats
    max_tbt_s: Floats

    @property
    def ttft_s(self) -> Floats:
        return self.first_s - self.arrival_s

    @property
    def completed(self) -> Bools:
        """Whether a request finished, at times that can be true."""
        ttft_s, decode_s = self.ttft_s, self.finish_s - self.first_s
        done: Bools = np.isfinite(ttft_s) & (ttft_s >= 0) & np.isfinite(decode_s) & (decode_s >= 0)
        return done

    @property
    def tpot_s(self) -> Floats:
        """(finish - first) / (output - 1); NaN for a single token."""
        gaps = np.where(self.output_tokens > 1, self.output_tokens - 1.0, np.nan)
        return (self.finish_s - self.first_s) / gaps

    def of(self, which: Latency) -> Floats:
        """One latency of each request; it means something only where the request `has` it."""
        if which is Latency.TTFT:
            return self.ttft_s
        return self.tpot_s if which is Latency.TPOT else self.max_tbt_s

    def has(self, which: Latency) -> Bools:
        """Whether a request completed and has this latency: TPOT needs two tokens, the gap somebody who measured."""
        if which is Latency.TPOT:
            return self.completed & (self.output_tokens > 1)
        return self.completed & np.isfinite(self.max_tbt_s) if which is Latency.TBT else self.completed

    def good(self, held: limits.Limits) -> Bools:
        """Whether a request kept both limits (TTFT alone where it asked for one token)."""
        paced = (self.output_tokens <= 1) | (self.tpot_s <= held.tpot_s)
        good: Bools = self.completed & (self.ttft_s <= held.ttft_of(self.prompt_tokens)) & paced
        return good


def tally(outcomes: Outcomes, held: limits.Limits) -> Tally:
    """Return what a service's requests show under `held`.

    Raises:
        ValueError: Columns of unequal length, or arrivals that are not finite and ascending: a broken record.
    """
    _check(outcomes)
    counted = _Counted()
    with np.errstate(invalid="ignore", over="ignore"):
        for block in _blocks(outcomes):
            counted.add(block, held)
    ttft_s, tpot_s, tbt_s = pooled([outcomes])
    low, high = counted.fluidity.tolist()
    return Tally(
        arrived=counted.arrived,
        completed=counted.completed,
        good=counted.good,
        output_tokens=counted.output_tokens,
        classes=tuple(zip(counted.by_class[0].tolist(), counted.by_class[1].tolist(), strict=True)),
        windows=tuple(counted.windows[window] for window in sorted(counted.windows)),
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        tbt_s=tbt_s,
        fluidity_low_ratio=low / counted.arrived if counted.arrived else None,
        fluidity_high_ratio=high / counted.arrived if counted.arrived else None,
    )


def good(outcomes: Outcomes, held: limits.Limits) -> Bools:
    """Return which requests kept their limits, shape `[request]`."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.concatenate([block.good(held) for block in _blocks(outcomes)] or [np.empty(0, dtype=np.bool_)])


def pooled(services: Sequence[Outcomes]) -> tuple[Quantiles, Quantiles, Quantiles]:
    """Return the quantiles of TTFT, TPOT and longest gap over all services together."""
    ttft_s, tpot_s, tbt_s = (_quantiles(latency(services, which)) for which in Latency)
    return ttft_s, tpot_s, tbt_s


def latency(services: Sequence[Outcomes], which: Latency) -> Floats:
    """Return one latency of the completed requests that have it, in a column of its own."""
    values = np.empty(sum(len(outcomes.requests) for outcomes in services))
    count = 0
    with np.errstate(invalid="ignore", over="ignore"):
        for block in (block for outcomes in services for block in _blocks(outcomes)):
            some = block.of(which)[block.has(which)]
            values[count : count + len(some)] = some
            count += len(some)
    return values[:count]


def dots(outcomes: Outcomes, which: Latency, above_s: float, most: int) -> tuple[Floats, Floats]:
    """Return (arrival_s, latency) of some requests that have a latency above zero, in order of arrival.

    At most `most` / 2 that are above `above_s` and as many others, each an even selection: all of them where they
    are few, else so many of each block that is read.
    """
    quota = max(most // (2 * max(-(-len(outcomes.requests) // BLOCK), 1)), 1)
    times, values = [np.empty(0)], [np.empty(0)]
    with np.errstate(invalid="ignore", over="ignore"):
        for block in _blocks(outcomes):
            value_s = block.of(which)
            drawn = block.has(which) & (value_s > 0)
            sides = (np.flatnonzero(drawn & (value_s > above_s)), np.flatnonzero(drawn & (value_s <= above_s)))
            rows = np.sort(np.concatenate([side[:: max(1, -(-len(side) // quota))] for side in sides]))
            times.append(block.arrival_s[rows])
            values.append(value_s[rows])
    return np.concatenate(times), np.concatenate(values)


class _Counted:
    """Counts over the blocks."""

    def __init__(self) -> None:
        self.arrived = self.completed = self.good = self.output_tokens = 0
        self.by_class = np.zeros((2, len(limits.CLASSES)), dtype=np.int64)
        self.windows: dict[float, Counts] = {}
        self.fluidity = np.zeros(2)

    def add(self, block: _Block, held: limits.Limits) -> None:
        done, good = block.completed, block.good(held)
        self.arrived += len(done)
        self.completed += int(np.count_nonzero(done))
        self.good += int(np.count_nonzero(good))
        self.output_tokens += int(block.output_tokens[done].sum())
        codes = limits.class_codes(block.prompt_tokens, block.output_tokens)
        for row, members in enumerate((codes, codes[good])):
            self.by_class[row] += np.bincount(members, minlength=len(limits.CLASSES))
        self._windows(block.arrival_s, good)
        self._fluidity(block, done, held)

    def _windows(self, arrival_s: Floats, good: Bools) -> None:
        """Add to the window of each arrival; arrivals ascend, so a window is a stretch of the block."""
        window = np.floor(arrival_s / WINDOW_S)
        starts = np.concatenate(([0], np.flatnonzero(np.diff(window)) + 1))
        arrived = np.diff(np.append(starts, len(window)))
        kept = np.add.reduceat(good, starts, dtype=np.int64)
        for name, more, more_good in zip(window[starts].tolist(), arrived.tolist(), kept.tolist(), strict=True):
            before, before_good = self.windows.get(name, (0, 0))
            self.windows[name] = (before + more, before_good + more_good)

    def _fluidity(self, block: _Block, done: Bools, held: limits.Limits) -> None:
        low, high = fluidity.bounds(
            block.ttft_s[done],
            (block.finish_s - block.first_s)[done],
            block.max_tbt_s[done],
            block.output_tokens[done],
            ttft_limit_s=held.ttft_of(block.prompt_tokens[done]),
            tpot_limit_s=held.tpot_s,
        )
        self.fluidity += (low.sum(), high.sum())


# --- columns ---------------------------------------------------------------------------------------


def _check(outcomes: Outcomes) -> None:
    requests = outcomes.requests
    columns = (requests.prompt_tokens, requests.output_tokens, outcomes.first_s, outcomes.finish_s, outcomes.max_tbt_s)
    if {len(column) for column in columns} != {len(requests)}:
        raise ValueError("the columns of requests and outcomes differ in length")
    arrival_s = requests.arrival_s
    if not np.isfinite(arrival_s).all():
        raise ValueError(f"request {int(np.argmin(np.isfinite(arrival_s)))} has no time of arrival")
    back = np.flatnonzero(arrival_s[1:] < arrival_s[:-1])
    if len(back):
        raise ValueError(f"arrivals run backwards at request {int(back[0]) + 1}")


def _blocks(outcomes: Outcomes) -> Iterator[_Block]:
    requests = outcomes.requests
    for start in range(0, len(requests), BLOCK):
        part = slice(start, start + BLOCK)
        yield _Block(
            requests.arrival_s[part],
            requests.prompt_tokens[part],
            requests.output_tokens[part],
            outcomes.first_s[part],
            outcomes.finish_s[part],
            outcomes.max_tbt_s[part],
        )


def _quantiles(values: Floats) -> Quantiles:
    """Return the nearest-rank quantiles; the values are reordered in place."""
    if not len(values):
        return Quantiles()
    ranks = [rank(len(values), ratio) for ratio in (0.5, 0.9, 0.99)]
    values.partition(ranks)
    return Quantiles(*(float(values[rank]) for rank in ranks))


def nearest_rank(values: Floats, ratio: float) -> float | None:
    """Return the smallest value that `ratio` of the values do not exceed; None of none."""
    if not len(values):
        return None
    place = rank(len(values), ratio)
    return float(np.partition(values, place)[place])


def rank(count: int, ratio: float) -> int:
    """Return the place, from 0, of the nearest-rank quantile among `count` sorted values."""
    return max(math.ceil(ratio * count - 1e-9), 1) - 1  # 0.99 x 100 is 99, whatever binary makes of it
