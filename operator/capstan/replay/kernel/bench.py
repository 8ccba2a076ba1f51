"""How fast the kernel is on this machine: the conversation hour, a diurnal day and week, a tick, a compile.

Who calls it: `make bench`, through `lines`. Figures are returned, never judged. Speeds are CPU seconds of one core,
because others may be busy on the machine; loads are made from a trace's own lengths.
"""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from capstan.model.profile import Profile
from capstan.replay.kernel.world import World
from capstan.replay.runs import Requests

TICK_S = 5.0  # how often the shipped systems decide, at most
DRAIN_S = 900.0
DAY_S = 86_400.0
DAY_RPS = 45.0  # 3.9 million requests a day, 27.2 million a week: the figures
DAY_SWING_RATIO = 0.5  # of the mean rate, down at night and up by day; Azure's 2024 week swings by more
DAY_SLOTS = 30
REPLICA_RPS = 3.0  # what the trivial policy plans per replica: a third of what its prompts alone would fill
PLAN_EVERY_TICKS = 12
STARTUP_S = 120.0  # DESIGN 7.1

# What a process pays once: the formulas and the kernel, compiled or read from the cache folder.
FIRST_CALL = """
import time
from capstan.model.profile import Clocks, Draw, Profile, Timing, Work
from capstan.replay.kernel import world
begin_s = time.process_time()
world.warm_up({profile!r})
print(time.process_time() - begin_s)
"""


@dataclass(frozen=True, slots=True)
class Speed:
    """One run. `cpu_s` is all of it but laying out the tables."""

    requests: int
    cpu_s: float
    ticks: int
    joules: float

    @property
    def requests_per_s(self) -> float:
        """Requests per CPU second."""
        return self.requests / self.cpu_s


def twice(requests: Requests) -> Requests:
    """Return a trace played twice, the second time one mean gap after its end (*conversation hour*, of the half)."""
    span_s = float(requests.arrival_s[-1] - requests.arrival_s[0]) * (1 + 1 / len(requests))
    return Requests(
        np.concatenate((requests.arrival_s, requests.arrival_s + span_s)),
        np.tile(requests.prompt_tokens, 2),
        np.tile(requests.output_tokens, 2),
    )


def diurnal(lengths: Requests, *, days: float, seed: int = 1) -> Requests:
    """Return Poisson arrivals whose rate swings with the day, with lengths drawn from a trace."""
    rng = np.random.default_rng(seed)
    second = np.arange(int(days * DAY_S))
    rate_rps = DAY_RPS * (1 - DAY_SWING_RATIO * np.cos(second * (2 * math.pi / DAY_S)))
    starts = np.repeat(second, rng.poisson(rate_rps))
    arrival_s = starts + rng.random(len(starts))
    arrival_s.sort()
    row = rng.integers(0, len(lengths), len(starts))
    return Requests(arrival_s, lengths.prompt_tokens[row], lengths.output_tokens[row])


def fixed(
    requests: Requests, profile: Profile, replicas: int, *, tick_s: float = TICK_S, compiled: bool = True
) -> Speed:
    """Play a trace on a fixed number of replicas, watched every tick, with no policy."""
    end_s = float(requests.arrival_s[-1]) + DRAIN_S
    world = World(requests, (profile,), slots=replicas, end_s=end_s, compile_it=compiled)
    for _ in range(replicas):
        world.create(0, now_s=0.0, ready_s=0.0)
    begin_s, ticks = time.process_time(), 0
    while world.unfinished and ticks * tick_s < end_s:
        ticks += 1
        world.advance(ticks * tick_s)
    return Speed(len(requests), time.process_time() - begin_s, ticks, world.totals().energy_j)


def scaled(requests: Requests, profile: Profile) -> Speed:
    """Play a trace under a trivial policy: each minute as many replicas as the last minute's arrivals ask for."""
    end_s = float(requests.arrival_s[-1]) + DRAIN_S
    world = World(requests, (profile,), slots=DAY_SLOTS, end_s=end_s)
    live = [world.create(0, now_s=0.0, ready_s=0.0) for _ in range(math.ceil(DAY_RPS / REPLICA_RPS))]
    begin_s, ticks, arrived = time.process_time(), 0, 0
    while world.unfinished and ticks * TICK_S < end_s:
        ticks += 1
        world.advance(ticks * TICK_S)
        world.totals()
        world.take_gone()
        if ticks % PLAN_EVERY_TICKS == 0:
            before, arrived = arrived, int(np.searchsorted(requests.arrival_s, world.now_s, "right"))
            rate_rps = (arrived - before) / (PLAN_EVERY_TICKS * TICK_S)
            _scale(world, live, max(math.ceil(rate_rps / REPLICA_RPS), 1))
    return Speed(len(requests), time.process_time() - begin_s, ticks, world.totals().energy_j)


def _scale(world: World, live: list[int], wanted: int) -> None:
    while len(live) > wanted:
        world.drain(live.pop())
    occupied = int((world.replicas["state"] > 0).sum())
    missing = min(wanted - len(live), DAY_SLOTS - occupied)
    live += [world.create(0, now_s=world.now_s, ready_s=world.now_s + STARTUP_S) for _ in range(missing)]


def tick_us(profile: Profile, replicas: int, *, calls: int = 20_000) -> float:
    """Return the mean CPU time of an `advance` with its totals in which nothing happens."""
    one = Requests(np.array([1.0]), np.array([10]), np.array([2]))
    world = World(one, (profile,), slots=replicas, end_s=calls * TICK_S)
    for _ in range(replicas):
        world.create(0, now_s=0.0, ready_s=0.0)
    world.advance(TICK_S)
    begin_s = time.process_time()
    for call in range(2, calls + 2):
        world.advance(call * TICK_S)
        world.totals()
    return (time.process_time() - begin_s) / calls * 1e6


def first_call_s(profile: Profile) -> tuple[float, float]:
    """Return CPU seconds of a process's first call with an empty cache, and with a filled one; numba's import in."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = []
        for _ in range(2):
            environment = dict(os.environ, CAPSTAN_KERNEL_CACHE=folder)
            done = subprocess.run(
                [sys.executable, "-c", FIRST_CALL.format(profile=profile)],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            seconds.append(float(done.stdout))
    return seconds[0], seconds[1]


def lines(half: Requests, profile: Profile, *, full: bool = False, repeats: int = 5) -> Iterator[str]:
    """Yield the figures as lines for people.

    Args:
        half: The shared half of the Azure conversation trace, from 0 s on.
        profile: What serves it.
        full: The week, too.
        repeats: Runs of the hour per number of replicas; the best and the median are told.
    """
    cold_s, cached_s = first_call_s(profile)
    yield f"first call: {cold_s:.1f} s cold, {cached_s:.2f} s cached (CPU, with import numba)"
    hour = twice(half)
    for replicas in (6, 12, 25):
        speeds = sorted(fixed(hour, profile, replicas).requests_per_s for _ in range(repeats))
        best, median = speeds[-1], speeds[len(speeds) // 2]
        yield f"conversation hour, {replicas} replicas: {best:,.0f} requests/s best, {median:,.0f} median of {repeats}"
    few = Requests(hour.arrival_s[:600], hour.prompt_tokens[:600], hour.output_tokens[:600])
    plain, fast = fixed(few, profile, 6, compiled=False), fixed(few, profile, 6)
    yield f"its plain Python twin: {plain.requests_per_s:,.0f} requests/s, {plain.cpu_s / fast.cpu_s:,.0f} times slower"
    for replicas in (1, 30, 100):
        yield f"tick with nothing to do, {replicas} replicas: {tick_us(profile, replicas):.1f} us"
    for name, days in (("day", 1), ("week", 7))[: 1 + full]:
        speed = scaled(diurnal(half, days=days), profile)
        rate = f"{speed.requests_per_s:,.0f} requests/s"
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # Linux counts in kB
        yield f"{name}, {speed.requests:,} requests, trivial policy: {speed.cpu_s:.1f} s, {rate}, {peak_gb:.2f} GB"
