"""One server for one second: arrivals, a prefill at a time, decoding sequences, joules (compiled).

Who calls it: `loop`, compiled with it by `replay.kernel.compiling`. Must not know: budgets, levels.

Between two events (an arrival, a prefill that ends, a sequence that ends) every rate is constant, so a server leaps from
event to event; nothing is lost to the second in which it is looked at. All decoding sequences advance alike: one
counter of tokens per server, and each sequence ends when the counter reaches its own mark.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from capstan.replay.runs import Floats

Ints = np.typing.NDArray[np.int64]

BINS = 24_000
"""Latencies from 1 ms to 7 hours in steps of 0.05 %: quantiles of billions of requests, without keeping one."""

BIN_RATIO = 1.0007
LEAST_S = 1e-3
E2E, TTFT = 0, 1


class Servers(NamedTuple):
    """The state of all servers; a row each, `[server]` where nothing else is said.

    Attributes:
        kind: Workload.
        rng: State of its own stream of random numbers: its requests are the same whatever caps are in force.
        mass: What is left until the next arrival, in units of an exponential's mean.
        tokens: Tokens that a sequence which was always there would have been given.
        batch: Decoding sequences.
        work_s: Seconds of prefill left at full clock; 0: none.
        first: A number that is negative where nothing is in prefill; its arrival, its answer: `[server, 3]`.
        marks: Ends of the decoding sequences in `tokens`, a heap, `[server, slot]`.
        since_s: Their arrivals, in the same order.
        queue: Arrival, work and answer of those that wait, a ring, `[server, place, 3]`.
        head, waiting: Where the ring begins, and how many wait.
        refused: Requests that found the ring full.
    """

    kind: Ints
    rng: Ints
    mass: Floats
    tokens: Floats
    batch: Ints
    work_s: Floats
    first: Floats
    marks: Floats
    since_s: Floats
    queue: Floats
    head: Ints
    waiting: Ints
    refused: Ints


class Services(NamedTuple):
    """What requests look like, per workload: bounds of lengths `[w, 2]`, and prefill work by prompt length."""

    prompt_tokens: Ints
    output_tokens: Ints
    work_s: Floats


class Plate(NamedTuple):
    """The tables of `physics.Tables` that a second needs."""

    decode_per_s: Floats
    decode_w: Floats
    prefill_speed: Floats
    prefill_w: Floats
    decode_board_w: Floats
    prefill_board_w: Floats
    idle_w: float
    slots: Ints


class Tally(NamedTuple):
    """What is counted: latencies `[which, workload, bin]`, requests that arrived and that ended `[workload]`."""

    latencies: Ints
    arrived: Ints
    ended: Ints


def uniform(rng: Ints, i: int) -> float:
    """Return the next number in [0, 1) of a stream (mulberry32, Ettinger 2017): 32 bits, alike compiled or not."""
    a = (rng[i] + 0x6D2B79F5) & 0xFFFFFFFF
    rng[i] = a
    t = ((a ^ (a >> 15)) * (a | 1)) & 0xFFFFFFFF
    t = t ^ ((t + (((t ^ (t >> 7)) * (t | 61)) & 0xFFFFFFFF)) & 0xFFFFFFFF)
    return float((t ^ (t >> 14)) & 0xFFFFFFFF) / 4294967296.0


def exponential(rng: Ints, i: int) -> float:
    """Return a draw with mean 1."""
    return -math.log(1.0 - uniform(rng, i))


def between(rng: Ints, i: int, low: int, high: int) -> int:
    """Return a whole number, both ends included."""
    return low + int(uniform(rng, i) * (high - low + 1))


def second(  # noqa: PLR0913 - positional scalars, for the compiler
    s: Servers, services: Services, plate: Plate, tally: Tally, i: int, per_s: float, cap: int, limit_w: float,
    now_s: int, counts: bool,
) -> float:  # fmt: skip
    """Play one server for one second and return its joules.

    Args:
        s, services, plate, tally: State, requests, tables, counts.
        i: The server.
        per_s: Arrivals per second.
        cap: Index of the highest clock that it may run at.
        limit_w: The limit of each of its boards; inf: none below the stock one.
        now_s: When the second begins.
        counts: Whether requests that arrive now are scored; those that arrived before count as they did then.
    """
    joules, at_s = 0.0, 0.0
    while True:
        speed, watts, event_s = pace(s, plate, i, cap, limit_w)
        arrival_s = s.mass[i] / per_s if per_s > 0 else math.inf
        step_s = min(1.0 - at_s, event_s, arrival_s)
        joules += watts * step_s
        at_s += step_s
        s.mass[i] -= step_s * per_s
        if s.work_s[i] > 0:
            s.work_s[i] -= speed * step_s
        else:
            s.tokens[i] += speed * step_s
        if step_s == event_s:
            if s.work_s[i] > 0 or s.first[i, 0] >= 0:
                prefilled(s, tally, i, now_s + at_s)
            else:
                ended(s, tally, i, now_s + at_s)
        elif step_s == arrival_s:
            arrive(s, services, tally, i, now_s + at_s, counts)
        else:
            return joules
        if s.first[i, 0] < 0:
            begin(s, plate, i)


def idle(s: Servers, i: int) -> bool:
    """Return whether a server has nothing to do."""
    return s.batch[i] == 0 and s.first[i, 0] < 0


def pace(s: Servers, plate: Plate, i: int, cap: int, limit_w: float) -> tuple[float, float, float]:
    """Return (speed, watts, seconds until the running step of work is done) of a server as it stands."""
    w, b = s.kind[i], s.batch[i]
    if s.first[i, 0] >= 0:
        k = highest(plate.prefill_board_w, cap, limit_w)
        return plate.prefill_speed[k], plate.prefill_w[k], s.work_s[i] / plate.prefill_speed[k]
    if b == 0:
        return 0.0, plate.idle_w, math.inf
    k = highest(plate.decode_board_w, cap, limit_w)
    speed = plate.decode_per_s[w, b, k]
    return speed, plate.decode_w[k], max(s.marks[i, 0] - s.tokens[i], 0.0) / speed


def highest(watts: Floats, cap: int, limit_w: float) -> int:
    """Return the highest clock up to a cap whose watts keep a limit; the lowest where none does."""
    if watts[cap] <= limit_w:
        return cap
    low, high = 0, cap
    while low < high:
        middle = (low + high + 1) // 2
        if watts[middle] <= limit_w:
            low = middle
        else:
            high = middle - 1
    return low


def arrive(s: Servers, services: Services, tally: Tally, i: int, now_s: float, counts: bool) -> None:
    """Put a request into the queue; its arrival is told as negative where it is not scored."""
    w = s.kind[i]
    prompt = between(s.rng, i, services.prompt_tokens[w, 0], services.prompt_tokens[w, 1])
    output = between(s.rng, i, services.output_tokens[w, 0], services.output_tokens[w, 1])
    s.mass[i] = exponential(s.rng, i)
    places = s.queue.shape[1]
    if counts:
        tally.arrived[w] += 1
    if s.waiting[i] >= places:
        s.refused[i] += 1
        return
    place = (s.head[i] + s.waiting[i]) % places
    s.queue[i, place, 0] = now_s if counts else -now_s - 1.0
    s.queue[i, place, 1] = services.work_s[prompt]
    s.queue[i, place, 2] = output
    s.waiting[i] += 1


def begin(s: Servers, plate: Plate, i: int) -> None:
    """Begin the next prefill where one waits and a slot is free."""
    if s.waiting[i] == 0 or s.batch[i] >= plate.slots[s.kind[i]]:
        return
    place = s.head[i]
    s.first[i, 0] = 0.0
    s.first[i, 1] = s.queue[i, place, 0]
    s.first[i, 2] = s.queue[i, place, 2]
    s.work_s[i] = s.queue[i, place, 1]
    s.head[i] = (place + 1) % s.queue.shape[1]
    s.waiting[i] -= 1


def prefilled(s: Servers, tally: Tally, i: int, now_s: float) -> None:
    """Let a prompt's sequence decode: its first token is there."""
    arrived_s = s.first[i, 1]
    note(tally, TTFT, s.kind[i], now_s, arrived_s)
    s.first[i, 0] = -1.0
    s.work_s[i] = 0.0
    push(s, i, s.tokens[i] + s.first[i, 2] - 1.0, arrived_s)


def ended(s: Servers, tally: Tally, i: int, now_s: float) -> None:
    """Let the sequence that is done go."""
    arrived_s = s.since_s[i, 0]
    s.tokens[i] = s.marks[i, 0]
    pop(s, i)
    note(tally, E2E, s.kind[i], now_s, arrived_s)
    if arrived_s >= 0:
        tally.ended[s.kind[i]] += 1
    if s.batch[i] == 0:
        s.tokens[i] = 0.0  # counted anew: a sum that grows for weeks would lose its last digits


def note(tally: Tally, which: int, w: int, now_s: float, arrived_s: float) -> None:
    """Count a latency, where its request is scored."""
    if arrived_s < 0:
        return
    place = int(math.log(max(now_s - arrived_s, LEAST_S) / LEAST_S) / math.log(BIN_RATIO))
    tally.latencies[which, w, min(place, BINS - 1)] += 1


def push(s: Servers, i: int, mark: float, arrived_s: float) -> None:
    """Add a sequence to the heap."""
    at = s.batch[i]
    s.batch[i] = at + 1
    while at > 0:
        above = (at - 1) // 2
        if s.marks[i, above] <= mark:
            break
        s.marks[i, at], s.since_s[i, at] = s.marks[i, above], s.since_s[i, above]
        at = above
    s.marks[i, at], s.since_s[i, at] = mark, arrived_s


def pop(s: Servers, i: int) -> None:
    """Take the first sequence from the heap."""
    size = s.batch[i] - 1
    s.batch[i] = size
    mark, arrived_s = s.marks[i, size], s.since_s[i, size]
    at = 0
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and s.marks[i, below + 1] < s.marks[i, below]:
            below += 1
        if mark <= s.marks[i, below]:
            break
        s.marks[i, at], s.since_s[i, at] = s.marks[i, below], s.since_s[i, below]
        at = below
    s.marks[i, at], s.since_s[i, at] = mark, arrived_s
