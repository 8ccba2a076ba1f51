"""Traces made faster, denser, longer or shorter: columns in, columns out, all of it seeded.

Who calls it: `replay.load` and the rig's load driver. Must not know: files, policies.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import numpy as np

from capstan.model.workload import Request
from capstan.replay.runs import Floats, Ints, Requests

MOVE_S = 30.0
"""A copy of a request arrives this much earlier or later at most (DESIGN 7.1, `--scale-rate`)."""

DONORS_S = 60.0
"""A copy takes the lengths of a request that arrives within this span of it (DESIGN 7.1, `--scale-rate`)."""

BURST_MOVE_S = 5.0
"""A request that a burst adds arrives this much earlier or later at most than the one that it is a copy of: half of the
ten seconds in which a shock rises, so that the rise stays one."""


def scale_rate(requests: Requests, x: float, *, seed: int) -> Requests:
    """Return a trace of the same length at `x` times the rate (DESIGN 7.1).

    Each request becomes floor(x) copies and one more with probability x - floor(x). A copy is moved by a uniform
    +-30 s, folded back at the trace's ends; its two lengths are those of one request, drawn from all that arrive within
    60 s of the copy, so that they keep their correlation and the hour's mix. x = 1 returns the very same trace.

    Raises:
        ValueError: x is not a positive number.
    """
    if not (math.isfinite(x) and x > 0):
        raise ValueError(f"--scale-rate {x}: give a number above 0")
    if x == 1:
        return requests
    chance = np.random.default_rng(seed)
    extra = chance.random(len(requests)) < x - math.floor(x)
    copies_s = np.repeat(requests.arrival_s, math.floor(x) + extra)
    moved_s = _folded(copies_s + chance.uniform(-MOVE_S, MOVE_S, len(copies_s)), float(requests.arrival_s[-1]))
    moved_s.sort()
    return _with_lengths(moved_s, requests, chance)


def burst(requests: Requests, factor: float, *, start_s: float, ramp_s: float, lasting_s: float, seed: int) -> Requests:
    """Return a trace with a burst: rates rise from 1 to `factor` times its own, stay there, and fall as they rose.

    The trace's own requests stay as they are. Each brings m - 1 more, m being the multiple at its arrival (a fraction
    is a chance), moved by a uniform +-5 s; a copy's lengths are those of a request within 60 s of it.

    Args:
        requests: The trace.
        factor: The multiple at the top; >= 1.
        start_s: The rise begins.
        ramp_s: It takes this long, and so does the fall; > 0.
        lasting_s: From the start of the rise to the start of the fall; >= ramp_s.
        seed: Of the requests that are added.
    """
    chance = np.random.default_rng(seed)
    end_s = start_s + lasting_s
    knots_s = np.array([start_s, start_s + ramp_s, end_s, end_s + ramp_s])
    more = np.interp(requests.arrival_s, knots_s, np.array([0.0, 1.0, 1.0, 0.0])) * (factor - 1)
    whole = np.floor(more).astype(np.int64)
    copies_s = np.repeat(requests.arrival_s, whole + (chance.random(len(requests)) < more - whole))
    moved_s = copies_s + chance.uniform(-BURST_MOVE_S, BURST_MOVE_S, len(copies_s))
    last_s = float(requests.arrival_s[-1]) if len(requests) else 0.0
    added = _with_lengths(np.sort(_folded(moved_s, last_s)), requests, chance)
    both = joined((requests, added))
    order = np.argsort(both.arrival_s, kind="stable")
    return Requests(both.arrival_s[order], both.prompt_tokens[order], both.output_tokens[order])


def steady(requests: Requests, *, tokens_per_s: float, span_s: float, seed: int) -> Requests:
    """Return Poisson arrivals of one mean rate, each with both lengths of a request drawn from a trace.

    Example: 650 tokens/s of requests with 1,237 + 221 tokens on average are 0.446 requests/s.

    Args:
        requests: Whose lengths are drawn, with replacement, so that prompt and output keep their correlation.
        tokens_per_s: Prompt and output tokens a second, on average; > 0.
        span_s: The first arrival comes after 0, none later than this.
        seed: Of gaps and lengths.
    """
    mean_tokens = float(requests.prompt_tokens.mean() + requests.output_tokens.mean())
    chance = np.random.default_rng(seed)
    count = int(chance.poisson(tokens_per_s / mean_tokens * span_s))
    arrival_s = np.sort(chance.uniform(0.0, span_s, count))  # a Poisson process, given how many there are
    drawn = chance.integers(0, len(requests), count)
    return Requests(arrival_s, requests.prompt_tokens[drawn], requests.output_tokens[drawn])


def scale_time(requests: Requests, x: float) -> Requests:
    """Return a trace `x` times as long: x = 2 takes twice the time at half the rate.

    Raises:
        ValueError: x is not a positive number.
    """
    if not (math.isfinite(x) and x > 0):
        raise ValueError(f"--scale-time {x}: give a number above 0")
    return Requests(requests.arrival_s * x, requests.prompt_tokens, requests.output_tokens)


def repeat(requests: Requests, times: int, *, period_s: float | None = None) -> Requests:
    """Return a trace played `times` times in a row (the conversation hour is the shared half, twice).

    Args:
        requests: The trace.
        times: How often; >= 1.
        period_s: From one play's start to the next's. Default: the last arrival and one mean gap, so that the join is
            a gap like any other (1,751 s for the shared conversation half, the span that its README names).

    Raises:
        ValueError: Fewer than one time, or a period that ends before the last arrival.
    """
    if times < 1:
        raise ValueError(f"a trace is played once at least; got {times}")
    last_s = float(requests.arrival_s[-1])
    if period_s is None:
        period_s = last_s * len(requests) / max(len(requests) - 1, 1)
    if period_s < last_s:
        raise ValueError(f"a period of {period_s:g} s ends before the last arrival at {last_s:g} s")
    starts_s = np.repeat(np.arange(times) * period_s, len(requests))
    return Requests(
        np.tile(requests.arrival_s, times) + starts_s,
        np.tile(requests.prompt_tokens, times),
        np.tile(requests.output_tokens, times),
    )


def compress(requests: Requests, factor: float, *, rate_ratio: float = 1.0, seed: int) -> Requests:
    """Return the shape of a trace run `factor` times faster, thinned so that its rates are the trace's own.

    Args:
        requests: In order of arrival.
        factor: Each arrival time is divided by it; >= 1. Example: 1,751 s at 8 take 219 s.
        rate_ratio: Rates as a multiple of the trace's; each request is kept with probability rate_ratio / factor.
        seed: Of the thinning; the same seed keeps the same requests.

    Raises:
        ValueError: The trace has too few requests for that rate: rate_ratio / factor is outside (0, 1].
    """
    if not 0 < rate_ratio <= factor:
        raise ValueError(f"thinning needs 0 < rate ratio <= compression; got {rate_ratio} and {factor}")
    kept = _python_random(seed, len(requests)) < rate_ratio / factor
    return Requests(requests.arrival_s[kept] / factor, requests.prompt_tokens[kept], requests.output_tokens[kept])


def until(requests: Requests, end_s: float) -> Requests:
    """Return the requests that arrive before `end_s`."""
    count = int(np.searchsorted(requests.arrival_s, end_s, "left"))
    return Requests(requests.arrival_s[:count], requests.prompt_tokens[:count], requests.output_tokens[:count])


def beyond(requests: Requests, context_tokens: int) -> Ints:
    """Return the rows whose prompt and output together pass the model's context: an engine would refuse or cut them."""
    return np.flatnonzero(requests.prompt_tokens + requests.output_tokens > context_tokens)


def without(requests: Requests, rows: Ints) -> Requests:
    """Return the other requests."""
    kept = np.ones(len(requests), bool)
    kept[rows] = False
    return Requests(requests.arrival_s[kept], requests.prompt_tokens[kept], requests.output_tokens[kept])


def joined(parts: Iterable[Requests]) -> Requests:
    """Return parts as one; a part's memory is given back as soon as its column is copied."""
    columns: tuple[list[Floats], list[Ints], list[Ints]] = ([], [], [])
    for part in parts:
        columns[0].append(part.arrival_s)
        columns[1].append(part.prompt_tokens)
        columns[2].append(part.output_tokens)
    arrival_s = np.concatenate(columns[0])
    columns[0].clear()
    prompt_tokens = np.concatenate(columns[1])
    columns[1].clear()
    return Requests(arrival_s, prompt_tokens, np.concatenate(columns[2]))


def objects(requests: Requests) -> list[Request]:
    """Return the rows as objects, numbered from 0, for those who send them one by one."""
    columns = (requests.arrival_s, requests.prompt_tokens, requests.output_tokens)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [Request(i, arrival_s, prompt, output) for i, (arrival_s, prompt, output) in enumerate(rows)]


def _with_lengths(arrival_s: Floats, requests: Requests, chance: np.random.Generator) -> Requests:
    """Return arrivals, in order, each with both lengths of a request that arrives within 60 s of it."""
    first = np.searchsorted(requests.arrival_s, arrival_s - DONORS_S, "left")
    past = np.searchsorted(requests.arrival_s, arrival_s + DONORS_S, "right")
    donor = first + (chance.random(len(arrival_s)) * (past - first)).astype(np.int64)
    return Requests(arrival_s, requests.prompt_tokens[donor], requests.output_tokens[donor])


def _folded(t_s: Floats, end_s: float) -> Floats:
    """Return times mirrored at 0 and at `end_s` until they are inside: the density at the ends stays."""
    if end_s <= 0:
        return np.zeros_like(t_s)
    once_s = np.mod(t_s, 2 * end_s)
    return np.where(once_s > end_s, 2 * end_s - once_s, once_s)


def _python_random(seed: int, count: int) -> Floats:
    """Return the first `count` numbers of `random.Random(seed)`: the demo keeps the requests that it always had.

    Both draw 53 bits of the same Mersenne Twister (tests/replay/test_trace_transforms.py compares them).
    """
    state = random.Random(seed).getstate()[1]  # noqa: S311 - thinning, not a secret
    twister = np.random.RandomState()
    twister.set_state(("MT19937", np.array(state[:-1], np.uint32), state[-1], 0, 0.0))
    return twister.random_sample(count)
