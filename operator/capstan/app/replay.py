"""`capstan replay`: a scenario on virtual time, scored and reported. The decision code is the one that runs live."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console

from capstan.api import errors
from capstan.api import scenario as files
from capstan.app import progress, replay_kinds, verify
from capstan.model.policy import Objective
from capstan.model.profile import ClockResponse
from capstan.replay import load, options, play, traces
from capstan.replay.options import Options
from capstan.replay.pages import bills, report, sizes, summary
from capstan.replay.scores import tariff

BAD_INPUT, MISSED, DISHONEST = 2, 3, 4
CASE_NAME = "honesty.json"

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


def _numbers(_: click.Context, option: click.Parameter, told: str | None) -> tuple[int, ...]:
    """Parse `1,2,3`; nothing told is an empty tuple."""
    if told is None:
        return ()
    parts = [part.strip() for part in told.split(",")]
    least = 1 if option.name == "servers" else 0
    if not all(part.isdigit() and int(part) >= least for part in parts):
        _refuse(f"--{option.name} {told}: write whole numbers with commas, such as 1,2,3")
    return tuple(int(part) for part in parts)


def _names(_: click.Context, __: click.Parameter, told: str | None) -> tuple[str, ...]:
    """Parse `a,b,c`."""
    return () if told is None else tuple(part.strip() for part in told.split(",") if part.strip())


def _history(_: click.Context, __: click.Parameter, told: str | None) -> Path | files.History | None:
    return None if told is None else options.past(told) or Path(told)


def _slo(_: click.Context, __: click.Parameter, told: str | None) -> files.SloSet | None:
    return None if told is None else files.SloSet(told)


def _response(_: click.Context, __: click.Parameter, told: str | None) -> ClockResponse | None:
    return None if told is None else ClockResponse(told)


def _objective(_: click.Context, __: click.Parameter, told: str | None) -> Objective | None:
    return None if told is None else Objective(told.capitalize())


@click.group(invoke_without_command=True)
@click.option("--scenario", type=_FILE, help="A YAML stream: policies, one Fleet, one Run.")
@click.option("--out", type=_FOLDER, help="Folder of the report.")
@click.option("--trace", type=_FILE, help="Replaces the first policy's trace.")
@click.option("--columns", help="Columns of a CSV of your own: time=…,prompt=…,output=….")
@click.option("--history", callback=_history, help="A trace that came before; or synthetic: the statistics, redrawn.")
@click.option("--systems", callback=_names, help=f"Of {', '.join(play.NAMES)}; or all.")
@click.option("--scale-rate", help="Rates as a multiple of the trace's, or auto:N.")
@click.option("--scale-time", type=click.FloatRange(min=0, min_open=True), help="Arrival times are multiplied by it.")
@click.option("--periods", help="Seconds between decisions: cluster,pool,instance.")
@click.option("--startup", "startup_s", type=click.IntRange(0, 86_400), help="Seconds from pod start to Ready.")
@click.option("--truth", type=_FILE, help="Profiles that the world runs on; decisions believe the shipped ones.")
@click.option("--slo", type=click.Choice([s.value for s in files.SloSet]), callback=_slo, help="Limits to score by.")
@click.option(
    "--clock-response", type=click.Choice([r.value for r in ClockResponse]), callback=_response, help="Assumed (H100)."
)
@click.option("--seeds", callback=_numbers, help="Such as 1,2,3,4,5: paired differences with 95 % intervals.")
@click.option("--servers", callback=_numbers, help="Fleet sizes, each in runs of its own.")
@click.option("--power-scale", type=click.FloatRange(0.5, 2.0), help="Watts of the true GPUs over the profile's.")
@click.option("--full", is_flag=True, help="Of a Row: all seeds, weeks, mixes and shares, and what they change.")
@click.option("--variant", help="Of those that the scenario offers, the one that serves; or cheapest.")
@click.option("--classes", help="Edges of the classes: fixed, terciles, or prompt/output: 256,1024/100,350.")
@click.option("--predictor", help="Answers' buckets are known in this share (0.81), by live quantiles (live), or none.")
@click.option("--price", type=_FILE, help="CSV: start_s,price_per_kwh.")
@click.option("--carbon-intensity", type=_FILE, help="CSV: start_s,g_per_kwh.")
@click.option("--gpu-hour-price", type=float, help="Rent of an assigned GPU; default 11.06 (US dollars).")
@click.option(
    "--objective", type=click.Choice([o.lower() for o in Objective]), callback=_objective, help="What plans make least."
)
@click.option("--profiles", type=_FOLDER, help="Folder of ServingProfiles.")
@click.option("--save-trace", type=_FILE, help="Of a Row: a CSV of its watts without caps, for `capstan fit`.")
@click.option("--assert", "strict", is_flag=True, help="Exit with 3 unless the first system held SLO and budget.")
@click.pass_context
def command(context: click.Context, /, scenario: Path | None, out: Path | None, **asked: object) -> None:
    """Run the same decisions, and other people's, on a trace, in virtual time.

    Exit codes: 0 done, 2 bad input, 3 SLO or budget missed (--assert), 4 an honesty check failed.
    """
    if context.invoked_subcommand is not None:
        return
    if scenario is None or out is None:
        _refuse("--scenario and --out are needed; try --scenario policies/scenarios/conversation-hour.yaml --out out")
    try:
        wanted = Options(**asked)  # type: ignore[arg-type]  # click checked the types; the names are the record's own
        other = replay_kinds.of(scenario)
        if other is not None:
            _writable(out)
            kept = other(scenario, out, wanted)
            sys.exit(MISSED if wanted.strict and not kept else 0)
        _refuse_what_rows_have(wanted)
        outcomes, strict = _played(scenario, out, wanted)
    except (errors.Invalid, traces.TraceError, tariff.TariffError) as problem:
        _refuse(str(problem))
    _told(outcomes, out)
    if any(outcome.faults for outcome in outcomes):
        sys.exit(DISHONEST)
    if strict and not all(outcome.passed for outcome in outcomes):
        sys.exit(MISSED)


command.add_command(verify.command)


def _refuse_what_rows_have(wanted: Options) -> None:
    """Refuse flags that a scenario of engines has no use for."""
    told = {"--full": wanted.full, "--save-trace": wanted.save_trace}
    for flag, value in told.items():
        if value:
            raise errors.Invalid(flag, "is for scenarios of kind Row (policies/scenarios/polca-row.yaml); leave it out")


def _played(scenario: Path, out: Path, wanted: Options) -> tuple[tuple[play.Outcome, ...], bool]:
    """Play everything that was asked for, with a bar while it takes long."""
    _writable(out)
    loaded = load.read(scenario, wanted)
    with progress.stages() as told:
        return play.everything(loaded, told), loaded.options.strict


def _told(outcomes: tuple[play.Outcome, ...], out: Path) -> None:
    """Print tables and write reports; several fleet sizes get a folder each."""
    console = Console()
    for outcome in outcomes:
        folder = out if outcome.servers is None else out / f"servers-{outcome.servers}"
        page = report.write(outcome.comparison, folder)
        summary.print_table(outcome.comparison, console)
        compared = outcome.comparison
        for words in (
            summary.verdict(compared.first),
            summary.saving(compared),
            bills.sentence(compared),
            summary.gap(compared),
        ):
            if words:  # a terminal breaks between words, a file keeps a line whole
                console.print(words, markup=False, highlight=False, soft_wrap=not console.is_terminal)
        click.echo(f"report: {page}")
        for fault in outcome.faults:
            click.echo(f"capstan replay: honesty check failed: {fault}", err=True)
        if outcome.case:
            report.replace(folder / CASE_NAME, outcome.case)
    _sizes_told(outcomes, out, console)


def _sizes_told(outcomes: tuple[play.Outcome, ...], out: Path, console: Console) -> None:
    """Print and write how many servers hold, where several sizes were played under power domains."""
    played = [sizes.Size(each.servers, each.comparison) for each in outcomes if each.servers is not None]
    if len(played) < 2 or not any(column.score.domains for size in played for column in size.comparison.columns):
        return
    for titled in sizes.tables(played):
        click.echo(f"\n{titled.title}")
        console.print(summary.below(titled.table, console))
        for line in titled.notes:
            console.print(line, markup=False, highlight=False)
    console.print(sizes.sentence(played), markup=False, highlight=False, soft_wrap=True)
    click.echo(f"report: {sizes.write(played, out)}")


def _writable(out: Path) -> None:
    """Refuse a folder that cannot be written before anything is played."""
    try:
        report.prepare(out)
    except OSError as problem:
        raise errors.Invalid(f"--out {out}", f"{problem.strerror}; give a folder that can be written") from problem


def _refuse(message: str) -> NoReturn:
    click.echo(f"capstan replay: {message}", err=True)
    sys.exit(BAD_INPUT)
