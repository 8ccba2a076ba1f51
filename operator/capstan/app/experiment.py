"""`capstan experiment NAME`: one question of the docs, played again: a table, a page and a JSON, with intervals."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console

from capstan.api import errors
from capstan.api import scenario as files
from capstan.app import progress
from capstan.replay import load, play, traces
from capstan.replay.experiments import catalog, findings, forecasts, lab, pages, predictions
from capstan.replay.experiments.kinds import Experiment
from capstan.replay.experiments.pages import Told
from capstan.replay.options import Options
from capstan.replay.pages import report, summary
from capstan.replay.scores import tariff

BAD_INPUT, MISSED, DISHONEST = 2, 3, 4
HTML_NAME, JSON_NAME, MARKDOWN_NAME = "experiment.html", "experiment.json", "experiment.md"
LIST = "list"
WIDE = 200
"""Characters of a line in a file: there a figure with its interval is not broken."""

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


def _seeds(_: click.Context, __: click.Parameter, told: str | None) -> tuple[int, ...]:
    """Parse `1,2,3`; nothing told is an empty tuple."""
    if told is None:
        return ()
    parts = [part.strip() for part in told.split(",")]
    if not all(part.isdigit() for part in parts):
        _refuse(f"--seeds {told}: write whole numbers with commas, such as 1,2,3")
    return tuple(map(int, parts))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: an experiment, on a scenario of its own or another, with flags over it."""

    name: str
    scenario: Path | None
    asked: Options
    oracle: bool = False
    quick: bool = False


@click.command()
@click.argument("name")
@click.option("--scenario", type=_FILE, help="Instead of the experiment's own.")
@click.option("--out", type=_FOLDER, help="Folder of experiment.html, .json and .md.")
@click.option("--seeds", callback=_seeds, help="Such as 1,2,3, which they are unless told: means with 95 % intervals.")
@click.option("--slo", type=click.Choice([s.value for s in files.SloSet]), help="Limits to aim at and to score by.")
@click.option("--scale-rate", help="Rates as a multiple of the trace's, or auto:N.")
@click.option("--periods", help="Seconds between decisions: cluster,pool,instance.")
@click.option("--startup", type=click.IntRange(0, 86_400), help="Seconds from pod start to Ready.")
@click.option("--price", type=_FILE, help="CSV: start_s,price_per_kwh.")
@click.option("--carbon-intensity", type=_FILE, help="CSV: start_s,g_per_kwh.")
@click.option("--profiles", type=_FOLDER, help="Folder of ServingProfiles.")
@click.option("--oracle", is_flag=True, help="Seek the best plan, too (minutes a seed), and print what is captured.")
@click.option("--quick", is_flag=True, help="One seed and the trace's first minutes: a rehearsal, no result.")
@click.option("--assert", "strict", is_flag=True, help="Exit with 3 where a goal was missed.")
def command(  # noqa: PLR0913 - click hands over one argument per flag
    name: str, scenario: Path | None, out: Path | None, seeds: tuple[int, ...], slo: str | None,
    scale_rate: str | None, periods: str | None, startup: int | None, price: Path | None,
    carbon_intensity: Path | None, profiles: Path | None, *, oracle: bool, quick: bool, strict: bool,
) -> None:  # fmt: skip
    """Play an experiment; `list` says which there are. Rows differ in one thing, and see the same requests.

    Exit codes: 0 done, 2 bad input, 3 a goal was missed (--assert), 4 an honesty check failed.
    """
    if name == LIST:
        _list()
        return
    asked = Options(
        seeds=seeds, slo=None if slo is None else files.SloSet(slo), scale_rate=scale_rate, periods=periods,
        startup_s=startup, price=price, carbon_intensity=carbon_intensity, profiles=profiles,
    )  # fmt: skip
    try:
        told = _told(Wanted(name, scenario, asked, oracle=oracle, quick=quick), _writable(out))
    except (errors.Invalid, traces.TraceError, tariff.TariffError) as problem:
        _refuse(str(problem))
    for fault in told.faults:
        click.echo(f"capstan experiment: honesty check failed: {fault}", err=True)
    if told.faults:
        sys.exit(DISHONEST)
    if strict and not told.passed:
        sys.exit(MISSED)


def _told(wanted: Wanted, out: Path) -> Told:
    """Play an experiment, and say what came out.

    Raises:
        Invalid: There is no such experiment, or the scenario has not what it needs.
    """
    play_it = OTHERS.get(wanted.name, _played)
    if play_it is _played and wanted.name not in catalog.BY_NAME:
        raise errors.Invalid("NAME", f"there is no experiment {wanted.name}; use one of {', '.join(_questions())}")
    if wanted.oracle and play_it is not _played:
        raise errors.Invalid("--oracle", f"{wanted.name} compares no systems; use it with systems or ablation")
    began_s = time.monotonic()
    with progress.stages() as tell:
        told, runs = play_it(wanted, tell)
    _print(told, out)
    click.echo(f"{runs} runs in {time.monotonic() - began_s:.0f} s; page: {out / HTML_NAME}")
    return told


def _played(wanted: Wanted, tell: play.Told) -> tuple[Told, int]:
    experiment = catalog.BY_NAME[wanted.name]
    room = _room(catalog.with_oracle(experiment) if wanted.oracle else experiment, wanted, tell)
    rows, cells = room.play()
    return pages.of(findings.of(room.experiment, rows, cells), tuple(lab.conditions(room))), room.runs


def _predictions(wanted: Wanted, tell: play.Told) -> tuple[Told, int]:
    room = _room(predictions.EXPERIMENT, wanted, tell)
    told = predictions.judged(room, tell)
    return told, len(room.seeds)


def _forecast(wanted: Wanted, tell: play.Told) -> tuple[Told, int]:
    scenario, asked = wanted.scenario, wanted.asked
    paths = (scenario,) if scenario is not None else tuple(map(_shipped, forecasts.SCENARIOS))
    told = forecasts.judged(paths, asked, tell)
    return told, len(paths) * len(asked.seeds or lab.SEEDS)


OTHERS: Mapping[str, Callable[[Wanted, play.Told], tuple[Told, int]]] = {
    forecasts.NAME: _forecast,
    predictions.NAME: _predictions,
}
"""Experiments that are no rows of systems."""


def _room(experiment: Experiment, wanted: Wanted, tell: play.Told) -> lab.Lab:
    path = wanted.scenario or _shipped(experiment.scenario)
    return lab.Lab(experiment, path, wanted.asked, quick=wanted.quick, told=tell)


def _shipped(name: str) -> Path:
    return load.SHIPPED / "scenarios" / f"{name}.yaml"


def _questions() -> dict[str, str]:
    """Return what each experiment asks, by name."""
    rows = {experiment.name: experiment.words for experiment in catalog.EXPERIMENTS}
    return {**rows, predictions.NAME: predictions.EXPERIMENT.words, forecasts.NAME: forecasts.WORDS}


def _list() -> None:
    questions = _questions()
    width = max(map(len, questions))
    for name, words in questions.items():
        click.echo(f"{name:{width}}  {words}")


def _print(told: Told, out: Path) -> None:
    """Print tables and sentences; write page, JSON and Markdown."""
    report.replace(out / JSON_NAME, told.json)
    report.replace(out / HTML_NAME, told.html)
    report.replace(out / MARKDOWN_NAME, told.markdown)
    console = Console()
    width = None if console.is_terminal else WIDE
    for table in told.tables:
        console.print(f"[bold]{table.title}[/bold]", highlight=False, soft_wrap=not console.is_terminal)
        console.print(summary.below(table.table, console), width=width)
        _lines(console, table.notes)
    _lines(console, told.sentences)
    _lines(console, (f"{label}: {value}" for label, value in told.settings))


def _lines(console: Console, lines: Iterator[str] | tuple[str, ...]) -> None:
    for line in lines:  # a terminal breaks between words, a file keeps a line whole
        console.print(line, markup=False, highlight=False, soft_wrap=not console.is_terminal)


def _writable(out: Path | None) -> Path:
    """Return the folder; refuse one that cannot be written before anything is played."""
    if out is None:
        raise errors.Invalid("--out", "say where page and JSON go, such as --out out/experiment")
    try:
        report.prepare(out)
    except OSError as problem:
        raise errors.Invalid(f"--out {out}", f"{problem.strerror}; give a folder that can be written") from problem
    return out


def _refuse(message: str) -> NoReturn:
    click.echo(f"capstan experiment: {message}", err=True)
    sys.exit(BAD_INPUT)
