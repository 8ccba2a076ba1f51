"""How fast replay is on this machine: the kernel, the whole command, a day with the shipped decision, a week.

Who calls it: `rig.bench`. `python -m rig.speed day|week` plays one of the long ones, in a process of its own so that
peak memory is that of one run. Figures are printed beside the goals of the issue, never judged. CPU seconds are those
of one core; wall seconds are only worth something on a machine with nothing else to do.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from capstan.model.profile import Profile
from capstan.model.workload import Workload
from capstan.optimize import sizing
from capstan.replay import engine, load, published, sources, synth, traces
from capstan.replay.kernel import bench as kernel
from capstan.replay.runs import Requests
from capstan.replay.scenario import Scenario
from capstan.replay.seen import Seen, Service, System, Want
from capstan.replay.systems import Capstan, Fixed
from capstan.replay.traces.tables import MINUTE_S, Rates
from rig import usage
from rig.crosscheck import dynamo
from rig.crosscheck.load import ROOT

HOUR = ROOT / "policies" / "scenarios" / "conversation-hour.yaml"
WEEK = ROOT / "policies" / "scenarios" / "conversation-week.yaml"
KERNEL_TP = 4  # of the replicas in the kernel's own figures
DAY_S = 86_400.0
DAY_AT_S = DAY_S  # where the day begins in the published week: its Monday
DAY_REQUESTS = 3_900_000  # the day; the published Monday has 4.6 million
SEED = 1
LONG = {
    "day": "a published Monday, the shipped decide, one pool (goal: 3.9 million requests in 20 s of CPU)",
    "week": "a published week, a fixed fleet (goal: 27 million requests in 60 s of CPU and 3 GB)",
}


@dataclass(frozen=True, slots=True)
class Played:
    """One long run: CPU seconds of the run alone, no drawing of requests and no report; those of its plans within."""

    requests: int
    completed: int
    cpu_s: float
    plans: int
    plans_cpu_s: float
    peak_bytes: int

    def told(self) -> str:
        """Return the figures for people."""
        told = (
            f"{self.completed:,} of {self.requests:,} requests in {self.cpu_s:.1f} s of CPU "
            f"({self.requests / self.cpu_s:,.0f} a second), peak {self.peak_bytes / 1e9:.2f} GB"
        )
        if not self.plans_cpu_s:
            return told
        each_ms = 1e3 * self.plans_cpu_s / self.plans
        return f"{told}; of it {self.plans:,} plans, {each_ms:.2f} ms each with what they ask for (goal 0.5 ms)"


class Timed:
    """A system that notes the CPU seconds of another one's plans."""

    def __init__(self, system: System) -> None:
        self.name = system.name
        self.caps_power = system.caps_power
        self.period_s = system.period_s
        self.plans = 0
        self.cpu_s = 0.0
        self._system = system

    def start(self, service: Service) -> Want | tuple[Want, ...]:
        """Begin as the other one does."""
        return self._system.start(service)

    def plan(self, seen: Seen) -> tuple[Want, ...]:
        """Plan as the other one does."""
        begin_s = time.process_time()
        wants = tuple(self._system.plan(seen))
        self.cpu_s += time.process_time() - begin_s
        self.plans += 1
        return wants


def lines(*, full: bool) -> Iterator[str]:
    """Yield the figures as lines for people, each with its goal."""
    hour = load.read(HOUR).scenario()
    yield from kernel.lines(hour.services[0].requests, _profile(hour))
    yield _command_line()
    for name in LONG if full else ("day",):
        yield _long_line(name)


def ours(requests: Requests) -> Callable[[], float]:
    """Return what plays a load once, on as many replicas as Dynamo has workers, and returns its CPU seconds."""
    profile = _profile(load.read(HOUR).scenario())

    def play() -> float:
        return kernel.fixed(requests, profile, dynamo.WORKERS).cpu_s

    play()  # reads the compiled kernel: start-up, which is taken off theirs, too
    return play


def _profile(scenario: Scenario) -> Profile:
    return next(profile for profile in scenario.profiles if profile.tp == KERNEL_TP)


# --- in a process of their own -----------------------------------------------------------------------


def _command_line() -> str:
    """Return what the whole command takes: the second of two runs, so that every cache is warm."""
    with tempfile.TemporaryDirectory(prefix="capstan-speed-") as folder:
        out, log = Path(folder) / "out", Path(folder) / "log"
        argv = ("-m", "capstan", "replay", "--scenario", str(HOUR), "--systems", "capstan", "--out", str(out))
        _python(argv, log)
        used = _python(argv, log)
        if used.code:
            return f"capstan replay of the conversation hour: not measured, {usage.last_line(log)}"
    return (
        f"capstan replay of the conversation hour, one system, report included, warm: {used.wall_s:.2f} s wall "
        f"(goal 3 s, idle machine), {used.cpu_s:.2f} s CPU, peak {used.peak_bytes / 1e9:.2f} GB"
    )


def _long_line(name: str) -> str:
    with tempfile.TemporaryDirectory(prefix="capstan-speed-") as folder:
        log = Path(folder) / "log"
        used = _python(("-m", "rig.speed", name), log)
        last = usage.last_line(log)
    if used.code:
        return f"{LONG[name]}: not measured, {last}"
    told = Played(**json.loads(last)).told()
    return f"{LONG[name]}: {told}; drawing the requests included {used.cpu_s:.1f} s of CPU, {used.wall_s:.1f} s wall"


def _python(argv: tuple[str, ...], log: Path) -> usage.Usage:
    """Run this Python on this checkout."""
    folders = (str(ROOT / "operator"), str(ROOT / "e2e"), os.environ.get("PYTHONPATH", ""))
    return usage.run((sys.executable, *argv), log, {"PYTHONPATH": os.pathsep.join(filter(None, folders))})


# --- the long ones -----------------------------------------------------------------------------------


def day() -> Scenario:
    """Return the shipped week's scenario on the published Monday, thinned to the issue's 3.9 million requests."""
    whole = published.WEEK.rates
    at = (whole.start_s >= DAY_AT_S) & (whole.start_s < DAY_AT_S + DAY_S)
    columns = (whole.per_min[at], whole.low_per_min[at], whole.high_per_min[at])
    rates = Rates(whole.start_s[at] - DAY_AT_S, *columns, DAY_S)
    requests = synth.requests(rates, published.WEEK.lengths, seed=SEED)
    return _scenario(traces.scale_rate(requests, DAY_REQUESTS / len(requests), seed=SEED), "a published Monday")


def week() -> Scenario:
    """Return the shipped week's scenario on the whole published week."""
    return _scenario(synth.requests(published.WEEK.rates, published.WEEK.lengths, seed=SEED), "a published week")


def _scenario(requests: Requests, source: str) -> Scenario:
    loaded = load.read(WEEK)
    demand = sources.Demand(loaded.run.traces[0], source, known=requests)
    return dataclasses.replace(loaded, demands=(demand,)).scenario()


def busiest_minute(scenario: Scenario) -> Fixed:
    """Return the fixed fleet that carries the busiest minute inside the SLO: the trivial policy of the week."""
    service = scenario.services[0]
    requests = service.requests
    lengths = (float(requests.prompt_tokens.mean()), float(requests.output_tokens.mean()))
    per_minute = np.bincount((requests.arrival_s // MINUTE_S).astype(np.int64))
    peak_rps = float(per_minute.max()) / MINUTE_S
    profile = service.profile(service.start.tp)
    one_rps = sizing.capacity_rps(profile, Workload(peak_rps, *lengths), service.policy.slo)
    return Fixed("fixed", [Want(service.policy.key, profile.tp, sizing.replicas_for(peak_rps, one_rps))])


def played(scenario: Scenario, system: System) -> Played:
    """Run a system and return what that took."""
    timed = Timed(system)
    begin_s = time.process_time()
    run = engine.run(scenario, timed)
    cpu_s = time.process_time() - begin_s
    outcomes = run.services[0].outcomes
    return Played(
        requests=len(outcomes.requests),
        completed=int(np.isfinite(outcomes.finish_s).sum()),
        cpu_s=cpu_s,
        plans=timed.plans,
        plans_cpu_s=timed.cpu_s,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * usage.KIB,
    )


@click.command()
@click.argument("which", type=click.Choice(list(LONG)))
def main(which: str) -> None:
    """Play one of the long ones and print its figures as one line of JSON."""
    scenario = day() if which == "day" else week()
    system = Capstan.of(scenario) if which == "day" else busiest_minute(scenario)
    click.echo(json.dumps(dataclasses.asdict(played(scenario, system))))


if __name__ == "__main__":
    main()
