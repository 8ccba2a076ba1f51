"""`capstan replay`: a scenario on virtual time, scored and reported. The decision code is the one that runs live."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from capstan.api import errors
from capstan.api import scenario as files
from capstan.app import verify
from capstan.replay import compare, load, play, report, summary, traces
from capstan.replay.options import Options

BAD_INPUT, MISSED, DISHONEST = 2, 3, 4

_FILE = click.Path(path_type=Path, dir_okay=False)


def _numbers(_: click.Context, option: click.Parameter, told: str | None) -> tuple[int, ...]:
    """Parse `1,2,3`; nothing told is an empty tuple."""
    if told is None:
        return ()
    try:
        numbers = tuple(int(part) for part in told.split(","))
    except ValueError:
        numbers = (-1,)
    if min(numbers) < 0 or (option.name == "servers" and min(numbers) < 1):
        _refuse(f"--{option.name} {told}: write whole numbers with commas, such as 1,2,3")
    return numbers


def _names(_: click.Context, __: click.Parameter, told: str | None) -> tuple[str, ...]:
    return () if told is None else tuple(part.strip() for part in told.split(",") if part.strip())


@click.group(invoke_without_command=True)
@click.option("--scenario", type=_FILE, help="A YAML stream: policies, one Fleet, one Run.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the report.")
@click.option("--trace", type=_FILE, help="Replaces the first policy's trace.")
@click.option("--columns", help="Columns of a CSV of your own: time=…,prompt=…,output=….")
@click.option("--history", type=_FILE, help="A trace that came before: nothing else of the past is known.")
@click.option("--systems", callback=_names, help=f"Of {', '.join(play.NAMES)}; or all.")
@click.option("--scale-rate", help="Rates as a multiple of the trace's, or auto:N.")
@click.option("--scale-time", type=click.FloatRange(min=0, min_open=True), help="Arrival times are multiplied by it.")
@click.option("--periods", help="Seconds between decisions: cluster,pool,instance.")
@click.option("--truth", type=_FILE, help="Profiles that the world runs on; the decision believes the shipped ones.")
@click.option("--slo", type=click.Choice([s.value for s in files.SloSet]), help="Limits to score by.")
@click.option("--clock-response", type=click.Choice([r.value for r in files.Response]), help="H100's, assumed.")
@click.option("--seeds", callback=_numbers, help="Such as 1,2,3,4,5: paired differences with 95 % intervals.")
@click.option("--servers", callback=_numbers, help="Fleet sizes, each in runs of its own.")
@click.option("--power-scale", type=click.FloatRange(0.5, 2.0), help="Watts of the true GPUs over the profile's.")
@click.option("--price", type=_FILE, help="CSV: start_s,price_per_kwh.")
@click.option("--carbon-intensity", type=_FILE, help="CSV: start_s,g_per_kwh.")
@click.option("--profiles", type=click.Path(path_type=Path, file_okay=False), help="Folder of ServingProfiles.")
@click.option("--assert", "strict", is_flag=True, help="Exit with 3 unless SLO and budget held in every run asked for.")
@click.pass_context
def command(context: click.Context, **told: object) -> None:
    """Run the same decisions, and other people's, on a trace, in virtual time.

    Exit codes: 0 done, 2 bad input, 3 SLO or budget missed (--assert), 4 an honesty check failed.
    """
    if context.invoked_subcommand is not None:
        return
    scenario, out = told.pop("scenario"), told.pop("out")
    if not isinstance(scenario, Path) or not isinstance(out, Path):
        _refuse("--scenario and --out are needed; try --scenario policies/scenarios/conversation-hour.yaml --out out")
    try:
        _run(scenario, out, _options(told))
    except (errors.Invalid, traces.TraceError) as problem:
        _refuse(str(problem))


command.add_command(verify.command)


def _options(told: dict[str, object]) -> Options:
    """Return what was asked for; click has checked the types."""
    slo, response = told.pop("slo"), told.pop("clock_response")
    asked = Options(**told)  # type: ignore[arg-type]  # click's values, by the very names of the record
    return Options(
        **{name: getattr(asked, name) for name in Options.__dataclass_fields__ if name not in ("slo", "clock_response")},
        slo=None if slo is None else files.SloSet(slo),
        clock_response=None if response is None else files.Response(response),
    )


def _run(scenario: Path, out: Path, options: Options) -> None:
    """Play everything that was asked for, print the table and write the report."""
    console = Console()
    loaded = load.read(scenario, options)
    report.prepare(out)
    outcome = play.everything(loaded, play.Progress(console))
    page = report.write(outcome, out)
    summary.print_table(outcome, console)
    click.echo(f"report: {page}")
    for fault in outcome.faults:
        click.echo(f"capstan replay: honesty: {fault}", err=True)
    if outcome.faults:
        sys.exit(DISHONEST)
    if loaded.options.strict and not compare.passed(outcome):
        sys.exit(MISSED)


def _refuse(message: str) -> None:
    click.echo(f"capstan replay: {message}", err=True)
    sys.exit(BAD_INPUT)
