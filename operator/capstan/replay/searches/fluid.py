"""The screening model: what each fleet and clock would do with the load of each stretch of a trace, in steady state.

Who calls it: `replay.provision` for a first guess, `searches.oracle` to choose among thousands of settings per minute.
Must not know: the world, what a search does with it. It only ranks; whether an SLO is met is always asked of the world.

Load of a stretch: prompts count where they arrive, decode tokens where they are made, spread evenly from the arrival
on at `PACE_S` a token; so the work that a stretch inherits is its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from capstan.model import power
from capstan.model.policy import Bounds
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import clock, sizing
from capstan.replay.runs import Floats, Requests
from capstan.replay.searches.plans import Fleet

PACE_S = 0.03
"""Seconds per token that spread a request's decode work: about a step of the shipped 70B profiles at mid load."""

LEAST_TOKENS = 0.5  # less in a stretch is rounding: a week's running total is 1e13 s, its last bit a tenth of a token


@dataclass(frozen=True, slots=True)
class Loads:
    """Per stretch of `period_s`: arrivals, prompt tokens that arrive, decode tokens that are made; `[stretch]`."""

    period_s: float
    arrivals: Floats
    prompt_tokens: Floats
    decode_tokens: Floats

    def __len__(self) -> int:
        return len(self.arrivals)

    def workload(self, index: int) -> Workload | None:
        """Return one stretch's demand; None where nothing arrives and nothing decodes."""
        arrivals, decode = float(self.arrivals[index]), float(self.decode_tokens[index])
        if arrivals <= 0 and decode <= 0:
            return None
        count = max(arrivals, 1.0)
        prompt = max(float(self.prompt_tokens[index]) / count, 1.0)
        return Workload(count / self.period_s, prompt, max(decode / count, 1.0))


def loads(requests: Requests, period_s: float, *, span_s: float | None = None) -> Loads:
    """Return a trace's load per stretch from time 0; `span_s` is how long, default to the last token at `PACE_S`."""
    start_s = requests.arrival_s
    end_s: Floats = start_s + requests.output_tokens.astype(np.float64) * PACE_S
    until_s = float(end_s.max()) if span_s is None else span_s
    count = max(math.ceil(until_s / period_s), 1)
    index = np.minimum((start_s / period_s).astype(np.int64), count - 1)
    arrivals = np.bincount(index, minlength=count).astype(np.float64)
    prompts = np.bincount(index, weights=requests.prompt_tokens, minlength=count).astype(np.float64)
    edges_s: Floats = np.arange(count + 1, dtype=np.float64) * period_s
    edges_s[-1] = max(edges_s[-1], float(end_s.max()))  # what is still made after the span belongs to its end
    return Loads(period_s, arrivals, prompts, _made(start_s, end_s, edges_s))


def _made(start_s: Floats, end_s: Floats, edges_s: Floats) -> Floats:
    """Return the tokens made between edges at one per `PACE_S` from each start to its end (ascending starts).

    The running total is the integral of how many are at it: sum of max(t - start, 0) less that of the ends.
    """
    total = _ramp(start_s, edges_s) - _ramp(np.sort(end_s), edges_s)
    made = np.diff(total) / PACE_S
    return np.where(made < LEAST_TOKENS, 0.0, made)


def _ramp(times_s: Floats, edges_s: Floats) -> Floats:
    """Return the sum of max(edge - time, 0) over ascending times, per edge."""
    before = np.searchsorted(times_s, edges_s)
    sums = np.concatenate([[0.0], np.cumsum(times_s)])
    return np.asarray(before * edges_s - sums[before])


@dataclass(frozen=True, slots=True)
class Option:
    """One fleet at one clock under one load: watts of all GPUs, and how far the tightest quantile is from its limit.

    `stress_ratio` 1: at the limit; inf: no steady state.
    """

    fleet: Fleet
    clock_mhz: float
    watts: float
    stress_ratio: float


@dataclass(slots=True)
class Model:
    """Steady states of a service's profiles, remembered by load."""

    profiles: tuple[Profile, ...]
    slo: Slo
    bounds: Bounds
    most_gpus: int
    _known: dict[tuple[int, float, int, Workload], tuple[float, float]] = field(default_factory=dict)

    def degrees(self) -> tuple[int, ...]:
        """Return the tps that have a profile and lie in the bounds."""
        return tuple(p.tp for p in self.profiles if p.tp in self.bounds.tensor_parallel)

    def most(self, tp: int) -> int:
        """Return the replicas of a tp that bounds and fleet leave room for."""
        return self.bounds.most_replicas(tp, self.most_gpus)

    def resized(self, fleet: Fleet, more: int) -> Fleet:
        """Return a fleet with some replicas more or less, as far as the bounds go; an empty one stays empty."""
        if not fleet.replicas:
            return fleet
        least = max(self.bounds.min_replicas, 1)
        return Fleet(fleet.tp, min(max(fleet.replicas + more, least), max(self.most(fleet.tp), least)))

    def clocks_mhz(self, tp: int) -> tuple[float, ...]:
        """Return the clocks that are looked at, highest first (the planner's own grid)."""
        return clock.grid_mhz(self.profile(tp), min_clock_mhz=self.bounds.min_clock_mhz)

    def profile(self, tp: int) -> Profile:
        """Return the profile of a tp."""
        return next(p for p in self.profiles if p.tp == tp)

    def option(self, fleet: Fleet, load: Workload | None, clock_mhz: float) -> Option:
        """Return what a fleet does with a load; idle watts and no stress where there is none."""
        profile = self.profile(fleet.tp)
        if load is None or fleet.replicas == 0:
            stress = 0.0 if load is None else math.inf
            return Option(fleet, clock_mhz, fleet.gpus * power.idle_w(profile), stress)
        own = load.scaled(1 / fleet.replicas).coarse()  # so that a week of stretches asks for few steady states
        pooled = sizing.pooled(fleet.replicas)
        key = (fleet.tp, clock_mhz, pooled, own)
        if key not in self._known:
            self._known[key] = self._steady(profile, own, clock_mhz, pooled)
        gpu_w, stress = self._known[key]
        return Option(fleet, clock_mhz, fleet.gpus * gpu_w, stress)

    def _steady(self, profile: Profile, load: Workload, clock_mhz: float, replicas: int) -> tuple[float, float]:
        x = profile.clocks.ratio(clock_mhz)
        point = sizing.point(profile, load, self.slo, x=x, replicas=replicas)
        return profile.draw.limit_w if point is None else point.gpu_w, sizing.stress_ratio(point, self.slo)

    def smallest(self, tp: int, load: Workload | None, stress_ratio: float) -> Fleet:
        """Return the fewest replicas that keep a load within a stress at full clock; the most there may be if none do.

        A stretch without load keeps what the bounds keep. More replicas never raise the stress: each has less to do.
        """
        most, floor = self.most(tp), self.bounds.min_replicas
        if load is None:
            return Fleet(tp, min(floor, most))
        full_mhz = self.profile(tp).clocks.max_mhz
        low, high = min(max(floor, 1), most), most
        while low < high:
            middle = (low + high) // 2
            if self.option(Fleet(tp, middle), load, full_mhz).stress_ratio <= stress_ratio:
                high = middle
            else:
                low = middle + 1
        return Fleet(tp, low)
