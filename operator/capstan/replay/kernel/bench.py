"""How fast the kernel is on this machine: the conversation hour, a tick, a compile.

Who calls it: `make bench`, through `rig.speed`. Figures are returned, never judged. Speeds are CPU seconds of one
core, because others may be busy on the machine.
"""

from __future__ import annotations

import os
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
REPLICAS = (6, 25)  # the issue's: as many as the hour needs, and four times that
TWIN = 1_500  # requests of the uncompiled twin: a second or less

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


def lines(hour: Requests, profile: Profile, *, repeats: int = 5) -> Iterator[str]:
    """Yield the figures as lines for people, each with its goal.

    Args:
        hour: The conversation hour.
        profile: What serves it.
        repeats: Runs of the hour per number of replicas; the best and the median are told.
    """
    cold_s, cached_s = first_call_s(profile)
    yield (
        f"kernel, first call of a process: {cold_s:.1f} s with an empty cache folder (goal 10 s), "
        f"{cached_s:.2f} s with a filled one (goal 1 s); CPU, with import numba"
    )
    for replicas in REPLICAS:
        speeds = sorted(fixed(hour, profile, replicas).requests_per_s for _ in range(repeats))
        best, median = speeds[-1], speeds[len(speeds) // 2]
        yield (
            f"kernel, conversation hour, {replicas} replicas, {TICK_S:g} s ticks: {best:,.0f} requests/s of CPU best, "
            f"{median:,.0f} median of {repeats} (goal 500,000)"
        )
    few = Requests(hour.arrival_s[:TWIN], hour.prompt_tokens[:TWIN], hour.output_tokens[:TWIN])
    slow = fixed(few, profile, REPLICAS[0], compiled=False)
    fast_s = min(fixed(few, profile, REPLICAS[0]).cpu_s for _ in range(repeats))
    yield (
        f"its uncompiled twin, {TWIN:,} requests: {slow.requests_per_s:,.0f} requests/s of CPU, "
        f"the kernel is {slow.cpu_s / fast_s:,.0f} times as fast (no goal)"
    )
    ticks = ", ".join(f"{tick_us(profile, replicas):.1f} us with {replicas} replicas" for replicas in REPLICAS)
    yield f"kernel, a tick with nothing to do: {ticks} (goal 25 us)"
