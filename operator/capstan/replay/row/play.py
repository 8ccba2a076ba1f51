"""One run of a row: a system, a number of servers, a seed, some weeks; figures out.

Who calls it: `experiment`. Must not know: files, reports, which system is best.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from capstan.powercap import machine, step
from capstan.powercap.domains import Domain
from capstan.replay.kernel import compiling
from capstan.replay.row import generate, limits, loop, orders, servers
from capstan.replay.row.systems import Kind, System
from capstan.replay.runs import Floats

MODULES = (machine, servers, loop)
LIMITS_EVERY_S = 30
"""Board limits are looked at again so often: a served request stays for a minute, and a limit that was lowered is free
to others only after 2 s of read-back and two calls (DESIGN 4)."""

NEVER = 1e9  # times the budget: no row draws it


@dataclass(frozen=True, slots=True)
class Row:
    """The row that is played.

    Attributes:
        kind: LLM, services, tables.
        budget_w: AC watts.
        count: Servers.
        levels: Share of busy servers, `[minute]`.
        end_s, score_from_s: Its length, and from when on it is scored.
    """

    kind: generate.Kind
    budget_w: float
    count: int
    seed: int
    levels: Floats
    end_s: int
    score_from_s: int


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it, since the scoring began.

    Attributes:
        row_w: AC watts of every second, warm-up and all.
        tally: Latencies as histograms.
        level_s: Seconds at each level, as `domains.LEVELS` lists them.
        over_j, excursion_s, over_s: Joules, the longest stretch, and all seconds above the budget.
        energy_j: All joules.
        stranded_ratio: Share of the budget that limits kept from being used, mean; 0 where no limits are set.
        refused: Requests that found a queue full, or a server that is off.
        left_out: Servers that are off because the budget has no grant for them.
    """

    row_w: Floats
    tally: servers.Tally
    level_s: tuple[int, ...]
    brakes: int
    transitions: int
    over_j: float
    excursion_s: float
    over_s: float
    energy_j: float
    stranded_ratio: float
    refused: int
    left_out: int
    scored_s: int


def play(row: Row, system: System, progress: Callable[[float], None] = lambda _: None) -> Played:
    """Play a row under a system."""
    kind, count = row.kind, row.count
    state = generate.fresh(kind, count, row.seed)
    tally = empty(len(kind.services))
    log = loop.Log(
        np.zeros(row.end_s), np.zeros(loop.LEVELS, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(4)
    )
    demand = generate.demand(kind, count, row.levels)
    told = control(row, system)
    way = _way(told, count, len(kind.tables.clocks_mhz) - 1)
    setter = limits.of(system.kind, row, demand)
    setter.first(way.limit_w)
    ran, law = _begun(), _law(row, system)
    advance = _compiled()["play"]
    plate = _plate(kind)
    wants = generate.services(kind)
    every_s = generate.HOUR_S if setter.steady else LIMITS_EVERY_S
    for from_s in range(0, row.end_s, every_s):
        to_s = min(from_s + every_s, row.end_s)
        ran = cast(
            "machine.State",
            advance(
                state, wants, plate, tally, log, way, law, ran, told, demand, from_s, to_s, row.score_from_s
            ),
        )  # fmt: skip
        setter.again(way.limit_w, way.busy_w)
        way.busy_w[:] = 0.0
        if to_s % generate.HOUR_S == 0:
            progress(to_s / row.end_s)
    return Played(
        row_w=log.row_w,
        tally=tally,
        level_s=tuple(int(n) for n in log.level_s),
        brakes=int(log.brakes[0]),
        transitions=int(log.transitions[0]),
        over_j=float(log.over[0]),
        excursion_s=float(log.over[1]),
        over_s=float(log.over[2]),
        energy_j=float(log.over[3]),
        stranded_ratio=setter.stranded_ratio,
        refused=int(state.rows["refused"].sum()),
        left_out=setter.left_out,
        scored_s=row.end_s - row.score_from_s,
    )


def empty(services: int) -> servers.Tally:
    """Return counts of nothing."""
    return servers.Tally(
        np.zeros((2, services, servers.BINS), np.int64), np.zeros(services, np.int64), np.zeros(services, np.int64)
    )


def control(row: Row, system: System) -> loop.Control:
    """Return how a system is told and obeyed."""
    index = functools.partial(orders.index, row.kind.tables.clocks_mhz)
    domain = Domain("row", row.budget_w, caps=system.caps, scheme=system.scheme)
    return orders.control(domain, system.path, low=index, high=index)


def _law(row: Row, system: System) -> machine.Law:
    """Return the machine's numbers; a system that sets limits, and the row without caps, never leave Normal."""
    domain = Domain("row", row.budget_w, thresholds=system.thresholds, timers=system.timers, scheme=system.scheme)
    made = step.law(domain)._replace(name=zlib.crc32(system.name.encode()))
    if system.kind is Kind.CLOCKS and system.name != "uncapped":
        return made
    return made._replace(low_ratio=NEVER, high_ratio=NEVER, brake_ratio=NEVER)


def _begun() -> machine.State:
    nan = math.nan
    return machine.State(machine.NORMAL, 0.0, nan, nan, machine.NORMAL, nan, 0, nan, nan, True, nan, 0)


def _way(told: loop.Control, count: int, top: int) -> loop.Way:
    clocks = np.full((told.actuate_s + 2, 2), top, np.int64)
    return loop.Way(
        clocks, np.zeros(told.brake_s + 2, np.int64), np.full(count, math.inf), np.zeros(count), np.zeros(1)
    )


def _plate(kind: generate.Kind) -> servers.Plate:
    t = kind.tables
    return servers.Plate(
        t.decode_per_s, t.decode_w, t.prefill_speed, t.prefill_w, t.decode_board_w, t.prefill_board_w, t.idle_w, t.slots
    )


def warm_up() -> None:
    """Compile what is compiled, or read it from the cache: once, before processes are forked."""
    _compiled()


@functools.cache
def _compiled() -> dict[str, Callable[..., object]]:
    return compiling.compiled(MODULES, ("play",))
