"""`python -m rig demo`: what a person asks for, what they are told first, and the exit code.

0: SLO and budget held. 1: one of them did not, or the run could not be finished. 2: what was asked for makes no
sense. 130: Ctrl-C.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from capstan.replay import load
from capstan.replay.pages import report, summary
from capstan.replay.runs import Run
from capstan.replay.scenario import Scenario
from capstan.replay.scores import compare
from capstan.replay.traces import TraceError
from rig import binaries, process
from rig.demo import earlier as past_cycles
from rig.demo import parity, rigged, stage, virtual
from rig.demo.view import Screen

ROOT = Path(__file__).resolve().parents[3]
SCENARIO = ROOT / "policies" / "scenarios" / "demo.yaml"
AROUND_S = 70  # measured: set-up and start-up 25 s, a quiet span, the last requests, one change of the spec
MAX_EARLIER = 100  # eight hours of the demo's load; the rig's Prometheus keeps a day
HELD, BROKEN, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True, slots=True)
class Asked:
    """What the person wants."""

    off: bool
    kill: bool
    in_virtual_time: bool
    earlier: int
    trace: Path | None
    out: Path


@click.command("demo")
@click.option("--capstan", envvar="CAPSTAN", default="on", help="on, or off: fixed replicas, no caps (must fail).")
@click.option("--trace", envvar="TRACE", default="", help="Azure-shaped CSV; default: shared/data, else synthetic.")
@click.option("--out", envvar="OUT", default="out/demo", show_default=True, help="Folder of the report and the record.")
@click.option("--chaos", envvar="CHAOS", default="", help="kill-operator: kill -9 in the middle of the run.")
@click.option("--virtual", "in_virtual_time", is_flag=True, help="No control plane: the same scenario in virtual time.")
@click.option(
    "--earlier",
    type=click.IntRange(0, MAX_EARLIER),
    default=0,
    show_default=True,
    help="Load so many earlier, like cycles into Prometheus first.",
)
def command(*, capstan: str, trace: str, out: str, chaos: str, in_virtual_time: bool, earlier: int) -> None:
    """Run Capstan on a simulated GPU fleet behind a real control plane, cut a budget, and say whether it held."""
    if capstan not in {"", "on", "off"}:
        _refuse(f"CAPSTAN={capstan}: write on or off")
    if chaos not in {"", "kill-operator"}:
        _refuse(f"CHAOS={chaos}: the one kind of chaos is kill-operator")
    if chaos and capstan == "off":
        _refuse("CHAOS=kill-operator with CAPSTAN=off: there is no operator to kill; leave one of them out")
    asked = Asked(
        off=capstan == "off",
        kill=bool(chaos),
        in_virtual_time=in_virtual_time,
        earlier=earlier,
        trace=Path(trace) if trace else None,
        out=Path(out or "out/demo"),
    )
    try:
        sys.exit(run(asked, Console()))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def run(asked: Asked, console: Console) -> int:
    """Run the demo and return its exit code."""
    try:
        scenario = load.scenario(SCENARIO, trace=asked.trace)
    except (TraceError, ValueError) as error:
        _refuse(str(error))
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _refuse(f"OUT={asked.out}: {error.strerror}; give a folder that can be written")
    asked.out.joinpath("report.html").unlink(missing_ok=True)  # a report of yesterday would look like today's
    with Screen(console) as screen:
        result = _play(asked, scenario, screen)
        screen.say("Searching, in virtual time, the smallest full-clock fleet that meets the SLO on this trace …")
        baseline = virtual.single_pool(scenario)
    return finish([result, baseline], scenario.name, asked.out, console)


def finish(runs: list[Run], scenario: str, out: Path, console: Console) -> int:
    """Score, print the table, write the report and return the exit code."""
    conditions = compare.Conditions(scenario=scenario, provisioning="as given; single-pool by search")
    compared = compare.of(compare.scored(runs), conditions)
    page = report.write(compared, out)
    console.print()
    summary.print_table(compared, console)
    console.print()
    held = compared.first.score.passed and parity.holds(runs[0].figures)
    console.print("HELD" if held else "FAILED", style="bold green" if held else "bold red", end="  ")
    console.print(summary.verdict(compared.first), markup=False, highlight=False)
    if words := summary.saving(compared):
        console.print(words, markup=False, highlight=False)
    for name, value in sorted(runs[0].figures.items()):
        console.print(f"  {name:32} {value:.3g}", markup=False, highlight=False)
    console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)
    return HELD if held else BROKEN


def _play(asked: Asked, scenario: Scenario, screen: Screen) -> Run:
    """Run on the rig, or in virtual time where that was asked for or nothing else can be had."""
    if asked.in_virtual_time:
        return _in_virtual_time(asked, scenario, screen, "as asked")
    began_s = time.time()
    try:
        programs = stage.programs()
    except binaries.NotAvailable as problem:
        return _in_virtual_time(asked, scenario, screen, str(problem))
    _introduce(asked, scenario, screen)
    process.exit_on_signals()
    try:
        wanted = rigged.Wanted(scenario, SCENARIO, asked.out, off=asked.off, kill=asked.kill, earlier=asked.earlier)
        return rigged.run(wanted, programs, screen, began_s=began_s)
    except (process.ChildError, RuntimeError) as problem:
        screen.say(f"The demo could not be finished: {problem}", style="bold red")
        if (asked.out / "log").is_dir():
            screen.say(f"The logs of all processes are in {asked.out / 'log'}.")
        sys.exit(BROKEN)


def _in_virtual_time(asked: Asked, scenario: Scenario, screen: Screen, why: str) -> Run:
    screen.say(f"VIRTUAL TIME, no cluster ({why}): the same scenario, decisions and scorer, in the replay's world.")
    _tell_scenario(scenario, screen)
    if asked.off:
        return virtual.fixed(scenario)
    if not asked.earlier:
        return virtual.capstan(scenario)
    known = past_cycles.remembered(scenario, asked.earlier)
    every_s = known.settings.cluster_period_s
    screen.say(f"  {asked.earlier} earlier, like cycles are known; replicas are looked at every {every_s:g} s")
    found = virtual.capstan(known)
    for line in past_cycles.told_of(found, known):
        screen.say(f"  {line}")
    return found


def _introduce(asked: Asked, scenario: Scenario, screen: Screen) -> None:
    """Say what will happen, how long it takes and what is not as in real life, before anything happens."""
    minutes = (scenario.duration_s + AROUND_S) / 60
    who = "WITHOUT Capstan (fixed replicas at the mean load, no caps)" if asked.off else "with Capstan"
    screen.say(
        f"Capstan demo, {who}: a real control plane and Prometheus, a simulated GPU fleet, about {minutes:.0f} min."
    )
    screen.say("A chat and a batch service share a rack; load rises and falls; the rack's budget is cut once.")
    _tell_scenario(scenario, screen)
    if asked.kill:
        screen.say("On the way the operator is killed with -9 and started again.")


def _tell_scenario(scenario: Scenario, screen: Screen) -> None:
    screen.say(f"Trace: {scenario.trace}")
    for name, value in scenario.notes:
        screen.say(f"  {name}: {value}")


def _refuse(message: str) -> None:
    click.echo(f"demo: {message}", err=True)
    sys.exit(BAD_INPUT)
