"""One server for one second: arrivals, a prefill at a time, decoding sequences, joules (compiled).

Who calls it: `loop`, compiled with it by `replay.kernel.compiling`. Must not know: budgets, levels.

Between two events (an arrival, a prefill that ends, a sequence that ends) every rate is constant, so a server leaps
from event to event; nothing is lost to the second in which it is looked at. All decoding sequences advance alike: one
counter of tokens per server, and each sequence ends when the counter reaches its own mark.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from capstan.replay.runs import Floats

Ints = np.typing.NDArray[np.int64]
Rows = np.typing.NDArray[np.void]

BINS = 24_000
"""Latencies from 1 ms to 7 hours in steps of 0.05 %: quantiles of billions of requests, without keeping one."""

BIN_RATIO = 1.0007
LEAST_S = 1e-3
E2E, TTFT = 0, 1


ROW = np.dtype(
    [
        ("kind", np.int64),  # its service
        ("rng", np.int64),  # state of its own random numbers: its requests are the same whatever caps are in force
        ("mass", np.float64),  # what is left until the next arrival, in units of an exponential's mean
        ("tokens", np.float64),  # tokens that a sequence which was always there would have been given
        ("batch", np.int64),  # decoding sequences
        ("prefills", np.int64),  # 1 while a prompt is computed
        ("work_s", np.float64),  # seconds of it that are left at full clock
        ("arrived_s", np.float64),  # when it arrived
        ("answer", np.float64),  # tokens of its answer
        ("head", np.int64),  # where the ring of those that wait begins
        ("waiting", np.int64),  # how many wait
        ("refused", np.int64),  # requests that found the ring full
    ]
)
"""The state of a server."""


class Servers(NamedTuple):
    """The state of all servers.

    Attributes:
        rows: `ROW`, `[server]`.
        marks: Ends of the decoding sequences in `tokens`, a heap, `[server, slot]`.
        since_s: Their arrivals, in the same order.
        queue: Arrival, work and answer of those that wait, a ring, `[server, place, 3]`.
    """

    rows: Rows
    marks: Floats
    since_s: Floats
    queue: Floats


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


def uniform(rows: Rows, i: int) -> float:
    """Return the next number in [0, 1) of a stream (mulberry32, Ettinger 2017): 32 bits, alike compiled or not."""
    a = (int(rows[i]["rng"]) + 0x6D2B79F5) & 0xFFFFFFFF
    rows[i]["rng"] = a
    t = ((a ^ (a >> 15)) * (a | 1)) & 0xFFFFFFFF
    t = t ^ ((t + (((t ^ (t >> 7)) * (t | 61)) & 0xFFFFFFFF)) & 0xFFFFFFFF)
    return float((t ^ (t >> 14)) & 0xFFFFFFFF) / 4294967296.0


def exponential(rows: Rows, i: int) -> float:
    """Return a draw with mean 1."""
    return -math.log(1.0 - uniform(rows, i))


def between(rows: Rows, i: int, low: int, high: int) -> int:
    """Return a whole number, both ends included."""
    return low + int(uniform(rows, i) * (high - low + 1))


def second(  # noqa: PLR0913 - positional scalars, for the compiler
    s: Servers, services: Services, plate: Plate, tally: Tally, i: int, per_s: float, cap: int, limit_w: float,
    now_s: int, counts: bool,
) -> float:  # fmt: skip
    """Play one server for one second and return its joules.

    Args:
        s: The state of all servers.
        services: What requests look like.
        plate: Speeds and watts.
        tally: What is counted.
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
        arrival_s = s.rows[i]["mass"] / per_s if per_s > 0 else math.inf
        step_s = min(1.0 - at_s, event_s, arrival_s)
        joules += watts * step_s
        at_s += step_s
        s.rows[i]["mass"] -= step_s * per_s
        if s.rows[i]["work_s"] > 0:
            s.rows[i]["work_s"] -= speed * step_s
        else:
            s.rows[i]["tokens"] += speed * step_s
        if step_s == event_s:
            if s.rows[i]["work_s"] > 0 or s.rows[i]["prefills"] == 1:
                prefilled(s, tally, i, now_s + at_s)
            else:
                ended(s, tally, i, now_s + at_s)
        elif step_s == arrival_s:
            arrive(s, services, tally, i, now_s + at_s, counts)
        else:
            return joules
        if s.rows[i]["prefills"] == 0:
            begin(s, plate, i)


def idle(s: Servers, i: int) -> bool:
    """Return whether a server has nothing to do."""
    return bool(s.rows[i]["batch"] == 0 and s.rows[i]["prefills"] == 0)


def pace(s: Servers, plate: Plate, i: int, cap: int, limit_w: float) -> tuple[float, float, float]:
    """Return (speed, watts, seconds until the running step of work is done) of a server as it stands."""
    w, b = s.rows[i]["kind"], s.rows[i]["batch"]
    if s.rows[i]["prefills"] == 1:
        k = highest(plate.prefill_board_w, cap, limit_w)
        return plate.prefill_speed[k], plate.prefill_w[k], s.rows[i]["work_s"] / plate.prefill_speed[k]
    if b == 0:
        return 0.0, plate.idle_w, math.inf
    k = highest(plate.decode_board_w, cap, limit_w)
    speed = plate.decode_per_s[w, b, k]
    return speed, plate.decode_w[k], max(s.marks[i, 0] - s.rows[i]["tokens"], 0.0) / speed


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
    w = s.rows[i]["kind"]
    prompt = between(s.rows, i, services.prompt_tokens[w, 0], services.prompt_tokens[w, 1])
    output = between(s.rows, i, services.output_tokens[w, 0], services.output_tokens[w, 1])
    s.rows[i]["mass"] = exponential(s.rows, i)
    places = s.queue.shape[1]
    if counts:
        tally.arrived[w] += 1
    if s.rows[i]["waiting"] >= places:
        s.rows[i]["refused"] += 1
        return
    place = (s.rows[i]["head"] + s.rows[i]["waiting"]) % places
    s.queue[i, place, 0] = now_s if counts else -now_s - 1.0
    s.queue[i, place, 1] = services.work_s[prompt]
    s.queue[i, place, 2] = output
    s.rows[i]["waiting"] += 1


def lost(s: Servers, services: Services, tally: Tally, i: int, per_s: float, counts: bool) -> None:
    """Let a second pass at a server that is switched off: who arrives finds nobody and is refused."""
    left = s.rows[i]["mass"] - per_s
    while left <= 0:
        w = s.rows[i]["kind"]
        between(s.rows, i, services.prompt_tokens[w, 0], services.prompt_tokens[w, 1])  # as `arrive` draws them
        between(s.rows, i, services.output_tokens[w, 0], services.output_tokens[w, 1])
        left += exponential(s.rows, i)
        if counts:
            tally.arrived[w] += 1
        s.rows[i]["refused"] += 1
    s.rows[i]["mass"] = left


def begin(s: Servers, plate: Plate, i: int) -> None:
    """Begin the next prefill where one waits and a slot is free."""
    if s.rows[i]["waiting"] == 0 or s.rows[i]["batch"] >= plate.slots[s.rows[i]["kind"]]:
        return
    place = s.rows[i]["head"]
    s.rows[i]["prefills"] = 1
    s.rows[i]["arrived_s"] = s.queue[i, place, 0]
    s.rows[i]["answer"] = s.queue[i, place, 2]
    s.rows[i]["work_s"] = s.queue[i, place, 1]
    s.rows[i]["head"] = (place + 1) % s.queue.shape[1]
    s.rows[i]["waiting"] -= 1


def prefilled(s: Servers, tally: Tally, i: int, now_s: float) -> None:
    """Let a prompt's sequence decode: its first token is there."""
    arrived_s = s.rows[i]["arrived_s"]
    note(tally, TTFT, s.rows[i]["kind"], now_s, arrived_s)
    s.rows[i]["prefills"] = 0
    s.rows[i]["work_s"] = 0.0
    push(s, i, s.rows[i]["tokens"] + s.rows[i]["answer"] - 1.0, arrived_s)


def ended(s: Servers, tally: Tally, i: int, now_s: float) -> None:
    """Let the sequence that is done go."""
    arrived_s = s.since_s[i, 0]
    s.rows[i]["tokens"] = s.marks[i, 0]
    pop(s, i)
    note(tally, E2E, s.rows[i]["kind"], now_s, arrived_s)
    if arrived_s >= 0:
        tally.ended[s.rows[i]["kind"]] += 1
    if s.rows[i]["batch"] == 0:
        s.rows[i]["tokens"] = 0.0  # counted anew: a sum that grows for weeks would lose its last digits


def note(tally: Tally, which: int, w: int, now_s: float, arrived_s: float) -> None:
    """Count a latency, where its request is scored."""
    if arrived_s < 0:
        return
    place = int(math.log(max(now_s - arrived_s, LEAST_S) / LEAST_S) / math.log(BIN_RATIO))
    tally.latencies[which, w, min(place, BINS - 1)] += 1


def push(s: Servers, i: int, mark: float, arrived_s: float) -> None:
    """Add a sequence to the heap."""
    at = s.rows[i]["batch"]
    s.rows[i]["batch"] = at + 1
    while at > 0:
        above = (at - 1) // 2
        if s.marks[i, above] <= mark:
            break
        s.marks[i, at], s.since_s[i, at] = s.marks[i, above], s.since_s[i, above]
        at = above
    s.marks[i, at], s.since_s[i, at] = mark, arrived_s


def pop(s: Servers, i: int) -> None:
    """Take the first sequence from the heap."""
    size = s.rows[i]["batch"] - 1
    s.rows[i]["batch"] = size
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
