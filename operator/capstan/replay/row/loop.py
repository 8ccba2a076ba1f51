"""A row for weeks: every second its servers, its meter, its law, and the caps on their way (compiled).

Who calls it: `play`, compiled by `replay.kernel.compiling` with `powercap.machine`, which is the law that runs live.

A cap that is sent is in force `actuate_s` later, on every server; the brake has a path of its own (facts/polca.md 1.2:
40 s out of band, 5 s for the hardware brake). Commands arrive in the order in which they were sent.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import numpy as np

from capstan.powercap import machine
from capstan.replay.row import servers
from capstan.replay.runs import Floats

Ints = np.typing.NDArray[np.int64]

Table = TypeVar("Table", bound=np.typing.NDArray[np.generic])

LEVELS = 7


class Control(NamedTuple):
    """How a system is told and obeyed.

    Attributes:
        budget_w: AC watts of the row.
        period_s: Seconds from one sample of the row's meter to the next; the sample is their mean.
        lag_s: How old a sample is when it is acted on.
        actuate_s, brake_s: From a decision to its effect.
        low, high: Index of the clock of each level, `[level]`.
    """

    budget_w: float
    period_s: int
    lag_s: int
    actuate_s: int
    brake_s: int
    low: Ints
    high: Ints


class Way(NamedTuple):
    """What is on its way to the servers, and in force there.

    Attributes:
        clocks: Clocks of low and high priority as sent, a ring of the last seconds, `[second, 2]`.
        brakes: 0: not pulled, 1: for low priority, 2: for all; a ring, `[second]`.
        limit_w: The limit of each server's boards, `[server]`; inf: none; 0: it has no watts, so it is switched off.
        busy_w: The most that each server drew in a second since somebody looked, `[server]`.
        excursion_s: For how long the budget has been exceeded, `[1]`.
    """

    clocks: Ints
    brakes: Ints
    limit_w: Floats
    busy_w: Floats
    excursion_s: Floats


class Demand(NamedTuple):
    """Who gets how many requests, `[server]` where nothing else is said.

    A service keeps as many of its servers busy as its load needs, the others idle: so a row's draw follows the day,
    while a busy server's hardly depends on how many requests it decodes.

    Attributes:
        per_s: Arrivals per second of a busy server.
        rank, peers: Its place among the servers of its service, and how many there are.
        low: Whether it is low priority.
        level: Share of the servers that are busy, `[minute]`, straight between them.
    """

    per_s: Floats
    rank: Floats
    peers: Floats
    low: Ints
    level: Floats


class Log(NamedTuple):
    """What a run leaves: watts `[second]`, and counts since the scoring began.

    Attributes:
        row_w: AC watts of the row, the mean of each second.
        level_s: Seconds at each level, `[level]`.
        brakes: How often the brake was pulled, `[1]`.
        transitions: Changes of level, `[1]`.
        over: Joules above the budget, longest excursion in seconds, seconds above, joules in all, `[4]`.
    """

    row_w: Floats
    level_s: Ints
    brakes: Ints
    transitions: Ints
    over: Floats


def play(  # noqa: PLR0913 - positional arrays, for the compiler
    s: servers.Servers, services: servers.Services, plate: servers.Plate, tally: servers.Tally, log: Log, way: Way,
    law: machine.Law, state: machine.State, control: Control, demand: Demand, from_s: int, to_s: int, score_from_s: int,
) -> machine.State:  # fmt: skip
    """Play a row from one second to another and return the machine's state.

    Args:
        s: The state of all servers.
        services: What requests look like.
        plate: Speeds and watts.
        tally: What is counted.
        log: Filled.
        way: What is on its way.
        law: The domain's numbers.
        state: Its machine as it stands.
        control: How it is told and obeyed.
        demand: Who gets how many requests when.
        from_s: The first second.
        to_s: The one after the last.
        score_from_s: Requests that arrive and seconds that begin before are not scored.
    """
    s, services, plate, tally, log = held(s), wanted(services), plated(plate), tallied(tally), logged(log)
    way, demand = under_way(way), demanded(demand)
    for second in range(from_s, to_s):
        counts = second >= score_from_s
        level = level_at(demand.level, second)
        low, high = clocks_in_force(control, way, second)
        row_w = 0.0
        for i in range(demand.low.shape[0]):
            cap = low if demand.low[i] == 1 else high
            per_s = demand.per_s[i] * min(max(level * demand.peers[i] - demand.rank[i], 0.0), 1.0)
            if way.limit_w[i] <= 0.0:
                servers.lost(s, services, tally, i, per_s, counts)
                drawn_w = 0.0
            elif servers.idle(s, i) and s.rows[i]["mass"] > per_s:
                s.rows[i]["mass"] -= per_s
                drawn_w = plate.idle_w
            else:
                drawn_w = servers.second(s, services, plate, tally, i, per_s, cap, way.limit_w[i], second, counts)
            way.busy_w[i] = max(way.busy_w[i], drawn_w)
            row_w += drawn_w
        log.row_w[second] = row_w
        if counts:
            scored(log, way, state.level, row_w, control.budget_w)
        state = ticked(law, state, control, way, log, second, counts)
    return state


def ticked(  # noqa: PLR0913 - positional, for the compiler
    law: machine.Law, state: machine.State, control: Control, way: Way, log: Log, second: int, counts: bool
) -> machine.State:  # fmt: skip
    """Let the machine see a second that has ended, and send what it decides; without a sample it decides nothing."""
    if (second + 1) % control.period_s == 0 and second >= control.lag_s + control.period_s:
        ratio = sampled_w(log.row_w, second, control) / control.budget_w
        if not math.isnan(ratio):
            before = state.level
            low, high = clocks_in_force(control, way, second)
            confirmed = low == control.low[before] and high == control.high[before]
            seen = machine.Seen(ratio, ratio, True, False, False, True, confirmed)
            state, _ = machine.advance(law, state, seen, float(second + 1))
            if counts and state.level != before:
                log.transitions[0] += 1
                log.brakes[0] += 1 if state.level == machine.BRAKE else 0
    send(control, way, state, second + 1)
    return state


def level_at(minute: Floats, second: int) -> float:
    """Return the level of a second."""
    at = second / 60.0
    low = int(at)
    high = min(low + 1, minute.shape[0] - 1)
    return float(minute[low] + (minute[high] - minute[low]) * (at - low))


def sampled_w(row_w: Floats, second: int, control: Control) -> float:
    """Return what the meter says: the mean of one period, `lag_s` ago."""
    total = 0.0
    for back in range(control.period_s):
        total += row_w[second - control.lag_s - back]
    return total / control.period_s


def send(control: Control, way: Way, state: machine.State, second: int) -> None:
    """Write down what is decided for a second: it is in force when its delay has passed."""
    level = machine.HIGH_CAP if state.level == machine.BRAKE else state.level
    place = second % way.clocks.shape[0]
    way.clocks[place, 0], way.clocks[place, 1] = control.low[level], control.high[level]
    way.brakes[second % way.brakes.shape[0]] = 0 if state.level != machine.BRAKE else (2 if state.hard else 1)


def clocks_in_force(control: Control, way: Way, second: int) -> tuple[int, int]:
    """Return the clocks of low and high priority in a second."""
    place = (second - control.actuate_s) % way.clocks.shape[0]
    low, high = way.clocks[place, 0], way.clocks[place, 1]
    brake = way.brakes[(second - control.brake_s) % way.brakes.shape[0]]
    if brake >= 1:
        low = min(low, control.low[machine.BRAKE])
    if brake == 2:
        high = min(high, control.high[machine.BRAKE])
    return low, high


def scored(log: Log, way: Way, level: int, row_w: float, budget_w: float) -> None:
    """Count a second."""
    log.level_s[level] += 1
    log.over[3] += row_w
    if row_w <= budget_w:
        way.excursion_s[0] = 0.0
        return
    way.excursion_s[0] += 1.0
    log.over[0] += row_w - budget_w
    log.over[1] = max(log.over[1], way.excursion_s[0])
    log.over[2] += 1.0


def borrowed(table: Table) -> Table:
    """Return a table; where this is compiled, without an owner (`replay.kernel.compiling`), so that none is counted."""
    return table


def held(s: servers.Servers) -> servers.Servers:
    """Return servers over borrowed columns."""
    return servers.Servers(borrowed(s.rows), borrowed(s.marks), borrowed(s.since_s), borrowed(s.queue))


def wanted(s: servers.Services) -> servers.Services:
    """Return services over borrowed columns."""
    return servers.Services(borrowed(s.prompt_tokens), borrowed(s.output_tokens), borrowed(s.work_s))


def plated(p: servers.Plate) -> servers.Plate:
    """Return tables over borrowed columns."""
    return servers.Plate(
        borrowed(p.decode_per_s), borrowed(p.decode_w), borrowed(p.prefill_speed), borrowed(p.prefill_w),
        borrowed(p.decode_board_w), borrowed(p.prefill_board_w), p.idle_w, borrowed(p.slots),
    )  # fmt: skip


def tallied(t: servers.Tally) -> servers.Tally:
    """Return counts over borrowed columns."""
    return servers.Tally(borrowed(t.latencies), borrowed(t.arrived), borrowed(t.ended))


def logged(log: Log) -> Log:
    """Return a log over borrowed columns."""
    return Log(
        borrowed(log.row_w), borrowed(log.level_s), borrowed(log.brakes), borrowed(log.transitions), borrowed(log.over)
    )


def under_way(way: Way) -> Way:
    """Return what is on its way over borrowed columns."""
    return Way(
        borrowed(way.clocks), borrowed(way.brakes), borrowed(way.limit_w), borrowed(way.busy_w),
        borrowed(way.excursion_s),
    )  # fmt: skip


def demanded(d: Demand) -> Demand:
    """Return a demand over borrowed columns."""
    return Demand(borrowed(d.per_s), borrowed(d.rank), borrowed(d.peers), borrowed(d.low), borrowed(d.level))
