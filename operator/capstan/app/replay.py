"""`capstan replay`: a scenario on virtual time, scored and reported. The decision code is the one that runs live."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click
from rich.console import Console

from capstan.api import errors
from capstan.replay import compare, engine, load, provision, report, summary
from capstan.replay.runs import Run
from capstan.replay.scenario import Scenario
from capstan.replay.systems import Capstan
from capstan.replay.trace import TraceError

BAD_INPUT, MISSED = 2, 3

SYSTEMS: Mapping[str, Callable[[Scenario], Run]] = {
    "capstan": lambda scenario: engine.run(scenario, Capstan.of(scenario)),
    "fixed": lambda scenario: engine.run(scenario, provision.at_mean_load(scenario)),
    "single-pool": provision.single_pool,
}


@click.command()
@click.option("--scenario", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A YAML stream.")
@click.option("--trace", type=click.Path(path_type=Path, dir_okay=False), help="Replaces the first policy's trace.")
@click.option(
    "--systems", default="capstan,single-pool", show_default=True, help="capstan, fixed, single-pool, or all."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the report.")
@click.option("--assert", "strict", is_flag=True, help="Exit with 3 unless the first system held SLO and budget.")
def command(*, scenario: Path, trace: Path | None, systems: str, out: Path, strict: bool) -> None:
    """Run the same decisions on a trace, in virtual time. Exit codes: 0 done, 2 bad input, 3 missed (--assert)."""
    wanted = list(SYSTEMS) if systems == "all" else [name.strip() for name in systems.split(",")]
    unknown = [name for name in wanted if name not in SYSTEMS]
    if unknown:
        _refuse(f"--systems: {', '.join(unknown)} is none of {', '.join(SYSTEMS)}")
    try:
        loaded = load.scenario(scenario, trace=trace)
        out.mkdir(parents=True, exist_ok=True)
    except (errors.Invalid, TraceError) as problem:
        _refuse(str(problem))
    except OSError as problem:
        _refuse(f"--out {out}: {problem.strerror}; give a folder that can be written")
    runs = tuple(SYSTEMS[name](loaded) for name in wanted)
    compared = compare.of(compare.scored(runs), compare.Conditions(scenario=loaded.name))
    page = report.write(compared, out)
    summary.print_table(compared, Console())
    click.echo(summary.verdict(compared.first))
    click.echo(f"report: {page}")
    if strict and not compared.first.score.passed:
        sys.exit(MISSED)


def _refuse(message: str) -> None:
    click.echo(f"capstan replay: {message}", err=True)
    sys.exit(BAD_INPUT)
