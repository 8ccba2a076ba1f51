"""Every number of servers, played through the trace under the real machine.

Who calls it: `app.fit`. Must not know: files, pages.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from capstan.model.profile import ClockResponse, Profile, with_clock_response
from capstan.model.reasons import Reason
from capstan.model.sample import Missing
from capstan.powercap import machine, readings, safety, step
from capstan.powercap.domains import LEVELS, Domain, Level, NodeSample, Timers
from capstan.powercap.safety import Admission
from capstan.replay.kernel import compiling
from capstan.replay.plan import clocked, held, scaling, seconds
from capstan.replay.plan.clocked import Clocked, Clocks, Request
from capstan.replay.plan.held import Declared, Held
from capstan.replay.plan.tape import Tape
from capstan.replay.row import loop, orders, score, servers
from capstan.replay.row.score import Slowdown
from capstan.replay.row.systems import Path
from capstan.replay.runs import Floats

MODULES = (machine, servers, loop, seconds)


@dataclass(frozen=True, slots=True)
class Server:
    """What one server is: its LLM's profile, its GPUs, and the services of low and of high priority."""

    profile: Profile
    gpus: int
    low: tuple[Request, ...]
    high: tuple[Request, ...]

    def always_w(self, domain: Domain) -> float:
        """Return AC watts of a server that idles: no clock changes them."""
        return (domain.non_gpu_typical_w + self.gpus * self.profile.draw.loaded_idle_w) / domain.supply_efficiency_ratio


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be planned.

    Attributes:
        servers, most: Servers of the trace, and the most that are tried.
        low_ratio: Low priority's share of the servers.
        path, timers: How the row is told and obeyed.
        responses: Clock responses that are tried (DESIGN 5); one where it was measured.
        correlated_only: Whether servers that know nothing of each other are left out.
    """

    declared: Declared
    tape: Tape
    server: Server
    servers: int
    most: int
    low_ratio: float
    path: Path
    timers: Timers
    responses: tuple[ClockResponse, ...]
    correlated_only: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """What nobody has measured, taken one way: how the clock tells on watts, and how servers rise together."""

    response: ClockResponse
    correlated: bool


@dataclass(frozen=True, slots=True)
class Count:
    """Figures of one number of servers.

    Attributes:
        state_ratio: Share of the time at each level.
        brakes: How often the brake was pulled in `heard_s`.
        peak_ratio: Highest second over the budget, with caps.
        uncapped_ratio: Without.
        admission: Safe sum and N-1 sum (`powercap.safety`).
    """

    servers: int
    state_ratio: tuple[tuple[Level, float], ...]
    brakes: int
    transitions: int
    heard_s: int
    overbudget_j: float
    longest_excursion_s: float
    peak_ratio: float
    uncapped_ratio: float
    low: Slowdown
    high: Slowdown
    admission: Admission

    @property
    def slos_met(self) -> bool:
        """Return whether POLCA's limits hold (facts/polca.md 1.5)."""
        return score.POLCA_HIGH.hold(self.high) and score.POLCA_LOW.hold(self.low)

    @property
    def holds(self) -> bool:
        """Return whether so many servers may be armed: no brake, nothing above the budget, SLOs, and N-1 fits."""
        return self.brakes == 0 and self.overbudget_j == 0 and self.slos_met and self.admission.fits

    @property
    def capped_ratio(self) -> float:
        """Return the share of the time with any cap."""
        return 1 - dict(self.state_ratio).get(Level.NORMAL, 0.0)


@dataclass(frozen=True, slots=True)
class Planned:
    """One case: the domain with its law, and its counts: of the case that binds all, else until one fails."""

    case: Case
    held: Held
    counts: tuple[Count, ...]

    @property
    def most(self) -> int | None:
        """Return the most servers that hold; a count above one that does not is none. None: not even the fewest."""
        most = None
        for count in self.counts:
            if not count.holds:
                break
            most = count.servers
        return most


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that was planned."""

    asked: Asked
    cases: tuple[Planned, ...]

    @property
    def binding(self) -> Planned:
        """Return the case that holds the fewest: what is recommended holds in all of them."""
        return min(self.cases, key=lambda one: (one.most or 0, -one.counts[-1].peak_ratio))

    @property
    def recommended(self) -> int | None:
        """Return the most servers that hold in every case."""
        return self.binding.most


def found(asked: Asked, told: Callable[[float], None] = lambda _: None) -> Found:
    """Plan every case.

    Raises:
        ValueError: Thresholds cannot be derived, or the profile cannot serve the request.
    """
    cases = list(cases_of(asked))
    slow_w = scaling.slow(asked.tape.watts)
    numbers = range(asked.servers, asked.most + 1)
    done: list[Planned] = []
    for case in cases:
        done.append(Planned(case, set_up(asked, case)[0], tuple(_until_one_fails(asked, case, slow_w, numbers))))
        told(len(done) / (len(cases) + 1))
    binding = Found(asked, tuple(done)).binding
    rest = range(binding.counts[-1].servers + 1, asked.most + 1)
    whole = replace(binding, counts=(*binding.counts, *_counts(asked, binding.case, slow_w, rest)))
    told(1.0)
    return Found(asked, tuple(whole if one is binding else one for one in done))


def _until_one_fails(asked: Asked, case: Case, slow_w: Floats, numbers: range) -> Iterator[Count]:
    for count in _counts(asked, case, slow_w, numbers):
        yield count
        if not count.holds:
            return


def _counts(asked: Asked, case: Case, slow_w: Floats, numbers: range) -> Iterator[Count]:
    law, clocks = set_up(asked, case)
    for number in numbers:
        more = number / asked.servers
        watts = scaling.grown(asked.tape.watts, slow_w, more, correlated=case.correlated)
        yield counted(asked, law, clocks, watts, number)


def cases_of(asked: Asked) -> Iterator[Case]:
    """Yield what is tried; a measured clock response is one."""
    for response in asked.responses if asked.server.profile.clocks.assumed else (ClockResponse.NOMINAL,):
        yield Case(response, True)
        if not asked.correlated_only:
            yield Case(response, False)


def set_up(asked: Asked, case: Case) -> tuple[Held, Clocks]:
    """Return the domain with its law, and what clocks do, in one case."""
    profile = with_clock_response(asked.server.profile, case.response)
    clocks = Clocks(clocked.of(profile, asked.server.low), clocked.of(profile, asked.server.high))
    always_w = asked.servers * asked.server.always_w(asked.declared.domain)
    above = 1 - always_w / float(np.nanmax(asked.tape.watts))
    saving = held.Saving(max(above, 0.0), asked.low_ratio)
    return held.of(asked.declared, asked.tape, clocks, asked.path, saving), clocks


def counted(asked: Asked, law: Held, clocks: Clocks, watts: Floats, number: int) -> Count:
    """Return the figures of one number of servers."""
    work_j, log = played(asked, law, clocks, watts, number)
    known = int(log.level_s.sum())
    budget_w = law.domain.budget_w
    return Count(
        servers=number,
        state_ratio=tuple((level, n / known) for level, n in zip(LEVELS, log.level_s.tolist(), strict=True) if n),
        brakes=int(log.brakes[0]),
        transitions=int(log.transitions[0]),
        heard_s=known,
        overbudget_j=float(log.over[0]),
        longest_excursion_s=float(log.over[1]),
        peak_ratio=float(np.nanmax(log.row_w)) / budget_w,
        uncapped_ratio=float(np.nanmax(watts)) / budget_w,
        low=slowdown(clocks.low, work_j[0]),
        high=slowdown(clocks.high, work_j[1]),
        admission=admission(asked.server, law.domain, number),
    )


def played(asked: Asked, law: Held, clocks: Clocks, watts: Floats, number: int) -> tuple[Floats, loop.Log]:
    """Return (joules above idle by priority and clock, counts) of one number of servers."""
    told = orders.control(law.domain, asked.path, low=clocks.low.index, high=clocks.high.index)
    work_j, log, way = seconds.fresh(told, len(clocks.low.clocks_mhz), len(watts))
    always_w = number * asked.server.always_w(law.domain)
    boards = seconds.Boards(always_w, asked.low_ratio, clocks.low.kept_ratio, clocks.high.kept_ratio)
    numbers = step.law(replace(law.domain, timers=asked.timers))
    nan = math.nan
    begun = machine.State(machine.NORMAL, 0.0, nan, nan, machine.NORMAL, nan, 0, nan, nan, True, nan, 0)
    _compiled()(watts, boards, work_j, log, way, numbers, begun, told)
    return work_j, log


def admission(server: Server, domain: Domain, number: int) -> Admission:
    """Return whether the domain may be armed with so many servers."""
    draw, nodes = server.profile.draw, tuple(f"server-{i}" for i in range(number))
    samples = readings.of(
        [
            NodeSample(node, Missing(Reason.NO_DATA), server.gpus * draw.limit_w, server.gpus, draw.min_limit_w)
            for node in nodes
        ]
    )
    return safety.admit(replace(domain, nodes=nodes), samples)


def slowdown(of: Clocked, work_j: Floats) -> Slowdown:
    """Return how much longer requests take, from the work that was done at each clock.

    POLCA's SLOs are on quantiles of latency, and latencies spread far wider than caps move them: so their median moves
    by what the requests around it are slowed down on average, which the service of the median request stands for.
    """
    each_j = of.requests_ratio[:, None] * work_j
    total_j = float(work_j.sum())
    done = work_j > 0
    mean = float((work_j[done] * of.median_slowdown_ratio[done]).sum() / total_j) if total_j > 0 else 0.0
    return Slowdown(
        mean,
        quantile_ratio(of.slowdown_ratio, each_j, score.P99),
        quantile_ratio(of.ttft_slowdown_ratio, each_j, score.P99),
    )


def quantile_ratio(slowdown_ratio: Floats, work_j: Floats, share: float) -> float:
    """Return the slowdown that `share` of the work stays at or below; 0 of no work."""
    order = np.argsort(slowdown_ratio, axis=None, kind="stable")
    total = np.cumsum(work_j.ravel()[order])
    if not total[-1] > 0:
        return 0.0
    return float(slowdown_ratio.ravel()[order][np.searchsorted(total, share * total[-1])])


@functools.cache
def _compiled() -> Callable[..., object]:
    return compiling.compiled(MODULES, ("play",))["play"]
