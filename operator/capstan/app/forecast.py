"""`capstan forecast`: a trace forecast as it goes, judged beside the last value and the same slot of last week."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from capstan.api import errors
from capstan.api import scenario as files
from capstan.app import progress
from capstan.forecast.calendar import DAY_S
from capstan.forecast.walk import Found
from capstan.replay import foreseen, load, sources
from capstan.replay.options import Options

BAD_INPUT = 2
COVERAGE = (0.85, 0.95)
"""What a 90 % band is to hold."""

MIN_JUDGED = 100
"""Fewer slots are no verdict: a coverage of 90 % then has a standard error of 3 points."""

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be walked, and how."""

    trace: str | None
    scenario: Path | None
    history: Path | None
    columns: str | None
    period: int
    horizon: int
    weeks: int
    seed: int
    begins: str | None
    by_class: bool


@click.command()
@click.option("--trace", help=f"A file, or one of {', '.join(sources.BEGINS)}.")
@click.option("--scenario", type=FILE, help="Instead: the traces of a scenario, at its compression and rates.")
@click.option("--history", type=FILE, help="A trace that came before; it ends as the trace begins.")
@click.option("--columns", help="time=NAME,prompt=NAME,output=NAME, where the format is none of the known ones.")
@click.option("--period", type=click.IntRange(5, 3600), default=300, show_default=True, help="Seconds of a slot.")
@click.option("--horizon", type=click.IntRange(min=5), default=1800, show_default=True, help="Seconds of an epoch.")
@click.option("--weeks", type=click.IntRange(1, 8), default=1, show_default=True, help="Weeks drawn from statistics.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of what is drawn.")
@click.option("--begins", type=click.Choice(DAYS), help="Day of the first moment, 00:00; else known, or monday.")
@click.option("--by-class", is_flag=True, help="The nine classes, too.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of tables.")
def command(*, as_json: bool, **given: object) -> None:
    """Forecast a trace slot by slot, from its past alone, and print how it came true.

    Losses are pinball losses of the median, in requests a second. Exit codes: 0 done, 2 bad input.
    """
    asked = Asked(**given)  # type: ignore[arg-type]  # click made them of these types
    try:
        found = list(_judged(asked))
    except (errors.Invalid, ValueError) as problem:  # a TraceError is a ValueError
        click.echo(f"capstan forecast: {problem}", err=True)
        sys.exit(BAD_INPUT)
    if as_json:
        click.echo(json.dumps([{"source": source, **asdict(judged)} for source, judged in found]))
        return
    console = Console()
    for source, judged in found:
        _print(console, source, judged, asked)


def _judged(asked: Asked) -> Iterator[tuple[str, foreseen.Judged]]:
    """Yield where each stream came from, and how its forecasts came true."""
    if (asked.trace is None) == (asked.scenario is None):
        raise errors.Invalid("--trace", "give either --trace or --scenario")
    if asked.horizon < asked.period:
        raise errors.Invalid("--horizon", f"{asked.horizon} s is shorter than a slot; give --period or more")
    if DAY_S % asked.period:
        raise errors.Invalid("--period", f"{asked.period} s does not divide a day; give such as 60, 300 or 900")
    run, demands = _demands(asked)
    with progress.bar("forecasting") as told:
        streams = [(demand, stream) for demand in demands for stream in _streams(asked, run, demand)]
        for done, (demand, stream) in enumerate(streams):
            told(done / len(streams))
            faster = run.compression / demand.scale_time
            horizon_s = asked.horizon / faster
            leads_s = (asked.period / faster, horizon_s / 2, horizon_s)
            yield demand.source, foreseen.judged(stream, horizon_s=horizon_s, leads_s=leads_s)


def _demands(asked: Asked) -> tuple[files.Run, tuple[sources.Demand, ...]]:
    """Return what is to be walked, and how it is played."""
    if asked.scenario is not None:
        loaded = load.read(asked.scenario, Options(history=asked.history))
        return loaded.run, loaded.demands
    name = asked.trace or ""
    fallback = files.Fallback(synthetic=files.Published.WEEK) if name in sources.DIGITISED else None
    spec = files.Trace(policy="default/load", source=name, fallback=fallback)
    run = files.Run(kind="Run", name="forecast", traces=(spec,))
    return run, (sources.read(spec, run, Options(columns=asked.columns, history=asked.history)),)


def _streams(asked: Asked, run: files.Run, demand: sources.Demand) -> tuple[foreseen.Stream, ...]:
    """Return the streams of one policy's demand."""
    faster = run.compression / demand.scale_time
    begins = (
        sources.BEGINS.get(demand.spec.source, sources.MONDAY) if asked.begins is None else DAYS.index(asked.begins)
    )
    known = foreseen.calendar(slot_s=asked.period, begins_s=begins * DAY_S, faster=faster)
    if demand.statistics is not None:
        draw = foreseen.Draw(asked.weeks, float(demand.spec.rate_ratio), faster, asked.seed)
        return foreseen.of_statistics(demand.statistics, known, draw, by_class=asked.by_class)
    if asked.weeks != 1:
        raise errors.Invalid("--weeks", "only a trace that is drawn from statistics has further weeks; leave it out")
    requests = sources.played(demand, run, seed=asked.seed, rate=1.0)
    return foreseen.of_requests(requests, known, before=demand.history, by_class=asked.by_class)


def _print(console: Console, source: str, judged: foreseen.Judged, asked: Asked) -> None:
    """Print one stream."""
    weeks = f", {asked.weeks} weeks of which the first is the published one" if asked.weeks > 1 else ""
    console.print(f"[bold]{judged.stream}[/bold]: {source}{weeks}", highlight=False)
    console.print(f"{judged.slots:,} slots, mean {judged.mean_rps:.4g} requests a second", highlight=False)
    table = Table(
        "ahead",
        "slots",
        "ours",
        "last value",
        "same slots: ours",
        "last week",
        "in band",
        "above",
        box=None,
        pad_edge=False,
    )
    for found in judged.found:
        table.add_row(*_row(found, asked.period))
    console.print(table)
    for line in _lines(judged):
        console.print(line, highlight=False, soft_wrap=not console.is_terminal)


def _row(found: Found, period: int) -> tuple[str, ...]:
    """Return one distance ahead: losses per slot, and shares."""
    sums = found.score
    ahead = f"{found.lead_slots * period / 60:g} min"
    if not sums.slots:
        return (ahead, "0", *("-",) * 6)
    weeks = sums.week_slots
    return (
        ahead,
        f"{sums.slots:,}",
        f"{sums.ours_rps / sums.slots:.4g}",
        f"{sums.last_value_rps / sums.slots:.4g}",
        f"{sums.ours_then_rps / weeks:.4g}" if weeks else "-",
        f"{sums.last_week_rps / weeks:.4g}" if weeks else "-",
        f"{sums.inside / sums.slots:.1%}",
        f"{sums.above / sums.slots:.1%}",
    )


def _lines(judged: foreseen.Judged) -> Iterator[str]:
    """Yield what the table does not say."""
    far = judged.found[-1]
    exceeded, outlasted = (f"{n / far.epochs:.1%}" if far.epochs else "-" for n in (far.exceeded, far.outlasted))
    yield f"epochs with a window above the planned peak: {exceeded} of {far.epochs:,} (one begins per slot)"
    yield f"epochs with a slot above the sustained rate: {outlasted}"
    peak, sustained = judged.peak_over_mean_ratio, judged.sustained_over_mean_ratio
    yield f"planned peak, sustained rate over the mean that then came: {peak:.2f}, {sustained:.2f}"
    rested = ", ".join(f"{source} {count:,}" for source, count in judged.sources if count)
    yield f"slots by what their forecast rested on: {rested}; drifted: {judged.drifted:,}"
    if far.score.slots < MIN_JUDGED:
        yield f"no verdict: {far.score.slots} slots came true, {MIN_JUDGED} are needed"
        return
    for name, passed in verdicts(far):
        yield f"{name}: {'yes' if passed else 'no'}"


def verdicts(far: Found) -> Iterator[tuple[str, bool]]:
    """Yield what is asked of the forecast an epoch ahead, and whether it is so."""
    sums = far.score
    covered = sums.covered_ratio
    if covered is None:
        return
    yield f"90 % band holds {COVERAGE[0]:.0%} to {COVERAGE[1]:.0%}", COVERAGE[0] <= covered <= COVERAGE[1]
    yield "better than the last value", sums.ours_rps < sums.last_value_rps
    if sums.week_slots:
        yield "better than last week", sums.ours_then_rps < sums.last_week_rps
