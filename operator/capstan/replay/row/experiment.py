"""POLCA's experiment: how many servers a row holds under each system, over seeds, mixes and shares.

Who calls it: `app.replay_kinds`. Must not know: files, pages. Every (combination, seed, servers) is one piece of work
that shares nothing with the others, so they run in as many processes as there are cores.
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace

import numpy as np

from capstan.model.profile import Profile
from capstan.powercap import machine
from capstan.powercap.domains import Scheme
from capstan.replay.row import derived, generate, measure, physics, play, score, systems, workloads
from capstan.replay.row.measure import Measured
from capstan.replay.row.physics import Server
from capstan.replay.row.play import Played, Row
from capstan.replay.row.score import Score
from capstan.replay.row.systems import System
from capstan.replay.runs import Floats

DAY_S = 86_400
SHOWN_S = 60  # the page draws the mean of so many seconds


@dataclass(frozen=True, slots=True)
class Combination:
    """A world: the GPUs' share of a server's watts, low priority's of the servers, and more GPU watts than declared."""

    gpu_share_ratio: float
    low_share_ratio: float
    power_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be played.

    Attributes:
        profile, server: Speeds, and proportions of watts.
        budget_w: AC watts of the row.
        built: Servers that it was built for.
        peak_ratio: Where that row peaks, of its budget.
        load_ratio: How busy a busy server is.
        derived_weeks, scored_weeks: Weeks for deriving, and after them for scoring.
    """

    profile: Profile
    server: Server
    budget_w: float
    built: int
    peak_ratio: float
    load_ratio: float
    derived_weeks: int
    scored_weeks: int
    systems: tuple[System, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One system in one world."""

    combination: Combination
    seed: int
    servers: int
    system: System
    score: Score


@dataclass(frozen=True, slots=True)
class Piece:
    """All systems in one world.

    Attributes:
        generated: The row that was built, without caps: what the load is, measured.
        uncapped: The same of this row.
        shed_ratio: The most that a system's caps can take off the row's draw at its peak, by system name.
        found: What was derived, where a system asks for it.
        shown_w: The row's draw over the day of its peak, by system, means of a minute.
    """

    combination: Combination
    seed: int
    servers: int
    generated: Measured
    uncapped: Measured
    shed_ratio: dict[str, float]
    found: derived.Found | None
    cells: tuple[Cell, ...]
    shown_w: dict[str, Floats]


def pieces(
    asked: Asked, worlds: list[tuple[Combination, int, int]], told: Callable[[float], None], processes: int
) -> Iterator[Piece]:
    """Play every (combination, seed, servers) and return the pieces in that order."""
    play.warm_up()
    done: dict[int, Piece] = {}
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork")) as pool:
        futures = {pool.submit(piece, asked, *world): number for number, world in enumerate(worlds)}
        for future in as_completed(futures):
            done[futures[future]] = future.result()
            told(len(done) / len(worlds))
    yield from (done[number] for number in range(len(worlds)))


def piece(asked: Asked, combination: Combination, seed: int, count: int) -> Piece:
    """Play all systems in one world."""
    levels = generate.level(seed, asked.derived_weeks + asked.scored_weeks)
    generated, kind = _fixed(asked, combination, seed)
    row = _row(asked, kind, count, seed, levels)
    free = play.play(row, systems.UNCAPPED)
    cells, found, shown_w, shed = [], None, {"uncapped": _shown(row, free, free)}, {}
    for system in asked.systems:
        held = system
        if system.derived:
            found = _derived(asked, row, system)
            held = found.system
        played = play.play(row, held)
        cells.append(
            Cell(combination, seed, count, held, score.of(played, free, kind.services, row.budget_w, row.score_from_s))
        )
        shown_w[system.name] = _shown(row, played, free)
        shed[system.name] = shed_ratio(row, held)
    return Piece(
        combination, seed, count, generated, measure.of(free.row_w[row.score_from_s :], row.budget_w), shed, found,
        tuple(cells), shown_w,
    )  # fmt: skip


def fixed(asked: Asked, combination: Combination, seed: int, levels: Floats) -> tuple[Measured, generate.Kind]:
    """Return the load as it is generated, measured, and the servers with the watts that make it peak where it does.

    Watts are proportional to a server's peak: one run of the row that was built, without caps, gives the scale, so that
    the scored weeks peak where they should. More GPU watts than declared (`power_scale`) come after that.
    """
    kind = nominal(asked, combination)
    row = _row(asked, kind, asked.built, seed, levels)
    row_w = play.play(row, systems.UNCAPPED).row_w[row.score_from_s :]
    scale = asked.peak_ratio * asked.budget_w / float(row_w.max())
    scaled = replace(kind.server, peak_w=kind.server.peak_w * scale)
    return measure.of(row_w * scale, asked.budget_w), _kind(asked, scaled, kind.services, combination.power_scale)


@functools.lru_cache(maxsize=1)
def _fixed(asked: Asked, combination: Combination, seed: int) -> tuple[Measured, generate.Kind]:
    """Return the same, kept for the next count of servers: worlds come seed by seed."""
    return fixed(asked, combination, seed, generate.level(seed, asked.derived_weeks + asked.scored_weeks))


def nominal(asked: Asked, combination: Combination) -> generate.Kind:
    """Return the servers before their watts are scaled."""
    server = replace(asked.server, gpu_share_ratio=combination.gpu_share_ratio)
    return _kind(asked, server, workloads.mix(combination.low_share_ratio), 1.0)


def shed_ratio(row: Row, system: System) -> float:
    """Return r_max: the share that the deepest caps short of the brake take off the draw of the busy row.

    Every server busy, in prefill for as long as it is at that load, at full clock and under the caps of HighCap; limits
    are not caps, and shed what their budget asks for.
    """
    told, tables, demand = play.control(row, system), row.kind.tables, generate.demand(row.kind, row.count, row.levels)
    level = machine.HIGH_CAP if system.scheme is Scheme.TWO_THRESHOLDS else machine.LOW_DEEP
    full_w = capped_w = 0.0
    for i in range(row.count):
        service = row.kind.services[workloads.of_server(row.kind.services, row.count)[i]]
        share = min(float(demand.per_s[i]) * generate.mean_work_s(row.kind, service), 1.0)
        clock = told.low[level] if demand.low[i] else told.high[level]
        for k, add in ((-1, "full"), (clock, "capped")):
            watts = share * tables.prefill_w[k] + (1 - share) * tables.decode_w[k]
            full_w += watts if add == "full" else 0.0
            capped_w += watts if add == "capped" else 0.0
    return 1 - capped_w / full_w


def ceiling_ratio(peak_ratio: float, shed: float) -> float:
    """Return how many more servers fit at most: 1 / (peak (1 - r_max)) - 1."""
    return 1 / (peak_ratio * (1 - shed)) - 1


def _derived(asked: Asked, row: Row, system: System) -> derived.Found:
    before = replace(row, end_s=asked.derived_weeks * generate.WEEK_S, score_from_s=generate.WARM_UP_S)
    return derived.of(before, system, play.play(before, systems.UNCAPPED))


def _kind(asked: Asked, server: Server, services: tuple[workloads.Workload, ...], scale: float) -> generate.Kind:
    tables = physics.tables(asked.profile, services, server, scale)
    return generate.Kind(asked.profile, server, services, tables, asked.load_ratio)


def _row(asked: Asked, kind: generate.Kind, count: int, seed: int, levels: Floats) -> Row:
    from_s = asked.derived_weeks * generate.WEEK_S
    return Row(kind, asked.budget_w, count, seed, levels, from_s + asked.scored_weeks * generate.WEEK_S, from_s)


def _shown(row: Row, played: Played, free: Played) -> Floats:
    """Return the day in which the row without caps peaks, means of a minute, over the budget."""
    peak_s = row.score_from_s + int(free.row_w[row.score_from_s :].argmax())
    from_s = min(max(peak_s - DAY_S // 2, 0), row.end_s - DAY_S)
    minutes = played.row_w[from_s : from_s + DAY_S].reshape(-1, SHOWN_S)
    return np.asarray(minutes.max(axis=1) / row.budget_w)
