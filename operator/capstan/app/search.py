"""`capstan search`: the best set-up that never moves, for a trace and a fleet: screened first, then replayed."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from capstan.api import errors
from capstan.api import scenario as files
from capstan.app import progress
from capstan.model.policy import Bounds
from capstan.model.profile import ClockResponse
from capstan.replay import load, play, traces
from capstan.replay.options import Options
from capstan.replay.pages import report
from capstan.replay.pages.cells import Headed, Tone
from capstan.replay.scores import limits
from capstan.replay.setups import demand, document, finding, measured, pages
from capstan.replay.setups.finding import Asked, Found
from capstan.replay.setups.kinds import Objective
from capstan.replay.setups.screen import Grid, Screen
from capstan.replay.setups.world import Alone

BAD_INPUT, MISSED = 2, 3
HTML_NAME, JSON_NAME = "search.html", "search.json"

PPS = (1, 2)
SEQUENCES = (128, 512)
CHUNKS = (256, 1024, 2048, 4096)
"""Tried beside the scenario's own: half and twice vLLM's 256 sequences; its default budgets of tokens lie between 2,048
and 8,192, Sarathi-Serve's between 256 and 2,048."""

SEQUENCE_RANGE, CHUNK_RANGE, PP_RANGE = (1, 4096), (16, 65536), (1, 16)
"""What the replay's kernel runs at most; a chunk below 16 is no batch; more stages than that nobody runs."""

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@dataclass(frozen=True, slots=True)
class Given:
    """The flags of the search itself; empty and None: not given."""

    policy: str | None
    objective: str
    gpus: int | None
    tp: tuple[int, ...]
    pp: tuple[int, ...]
    max_num_seqs: tuple[int, ...]
    chunk_tokens: tuple[int, ...]
    runs: int | None


def _numbers(_: click.Context, option: click.Parameter, told: str | None) -> tuple[int, ...]:
    """Parse `1,2,3`; nothing told is an empty tuple."""
    if told is None:
        return ()
    parts = [part.strip() for part in told.split(",")]
    flag = f"--{(option.name or '').replace('_', '-')}"
    if not all(part.isdigit() and int(part) >= 1 for part in parts) or len(set(parts)) < len(parts):
        _refuse(f"{flag}: {told} is no list; write whole numbers above 0 with commas, each once, such as 1,2")
    return tuple(map(int, parts))


@click.command()
@click.option("--scenario", type=_FILE, help="A YAML stream: policies, one Fleet, one Run.")
@click.option("--out", type=_FOLDER, help="Folder of search.html and search.json.")
@click.option("--trace", type=_FILE, help="Replaces the first policy's trace.")
@click.option("--columns", help="Columns of a CSV of your own: time=…,prompt=…,output=….")
@click.option("--policy", help="namespace/name of the policy; the scenario's first unless told.")
@click.option("--slo", type=click.Choice([s.value for s in files.SloSet]), help="Limits to aim at and to score by.")
@click.option("--scale-rate", help="Rates as a multiple of the trace's, or auto:N.")
@click.option("--clock-response", type=click.Choice([r.value for r in ClockResponse]), help="Assumed (H100).")
@click.option("--profiles", type=_FOLDER, help="Folder of ServingProfiles.")
@click.option("--objective", type=click.Choice([o.value for o in Objective]), default="joules", show_default=True)
@click.option("--gpus", type=click.IntRange(min=1), help="GPUs that a set-up may hold; the fleet's unless told.")
@click.option("--tp", callback=_numbers, help="Of the policy's degrees; all unless told.")
@click.option("--pp", callback=_numbers, help="Pipeline stages (modelled); 1,2 unless told.")
@click.option("--max-num-seqs", callback=_numbers, help="Tried beside the scenario's own.")
@click.option("--chunk-tokens", callback=_numbers, help="Tried beside the scenario's own.")
@click.option("--runs", type=click.IntRange(min=1), help="World runs; unless told 80, fewer for long traces.")
def command(  # noqa: PLR0913 - click hands over one argument per flag
    scenario: Path | None, out: Path | None, trace: Path | None, columns: str | None, slo: str | None,
    scale_rate: str | None, clock_response: str | None, profiles: Path | None, **given: object,
) -> None:  # fmt: skip
    """Find the best fixed set-up: tp, pp, replicas, engine flags, clock, prefill and decode together or apart.

    Everything is screened in closed form; the best, and what is next to the winner, is replayed. Exit codes: 0 done,
    2 bad input, 3 nothing meets the SLO (the closest and what limits it are printed).
    """
    if scenario is None or out is None:
        _refuse("--scenario and --out are needed; try --scenario policies/scenarios/conversation-hour.yaml --out out")
    options = Options(
        trace=trace,
        columns=columns,
        scale_rate=scale_rate,
        slo=None if slo is None else files.SloSet(slo),
        clock_response=None if clock_response is None else ClockResponse(clock_response),
        profiles=profiles,
    )
    try:
        _writable(out)
        found = _found(load.read(scenario, options), Given(**given))  # type: ignore[arg-type]  # click checked the types
    except (errors.Invalid, traces.TraceError) as problem:
        _refuse(str(problem))
    _tell(found, out)
    if found.best is None:
        sys.exit(MISSED)


# --- the search --------------------------------------------------------------------------------------


def _found(loaded: load.Loaded, given: Given) -> Found:
    """Search, with a bar while it takes long."""
    slo_set = loaded.options.slo or limits.SloSet.SCENARIO
    with progress.stages() as told:
        alone = Alone.of(loaded.scenario(rate=play.rate_of(loaded, None, slo_set, told)[0]), slo_set, given.policy)
        truths = alone.scenario.truths[0]
        screen = Screen(
            profiles=truths,
            slo=alone.slo,
            stretches=demand.stretches(alone.requests, truths[0]),
            grid=_grid(alone, given),
            bounds=_bounded(alone.bounds, given.gpus),
            rooms=alone.rooms,
            measured=measured.of(loaded, truths),
        )
        if not any(screen.most(engine) >= screen.least for engine in screen.grid.engines):
            least = min(engine.gpus for engine in screen.grid.engines) * screen.least
            raise errors.Invalid("--gpus", f"no engine of the search fits; the smallest needs {least} GPUs")
        runs = given.runs or finding.runs_for(len(alone.requests))
        asked = Asked(Objective(given.objective), runs)
        return finding.find(alone, screen, asked, told=told, clock_s=time.monotonic)


def _grid(alone: Alone, given: Given) -> Grid:
    """Return what is searched over.

    Raises:
        Invalid: A degree that the policy or its profiles do not have, or a flag that no engine runs with.
    """
    profiles = alone.scenario.truths[0]
    known = tuple(profile.tp for profile in profiles)
    unknown = [tp for tp in given.tp if tp not in known]
    if unknown:
        fix = f"{unknown[0]} is not in the policy's tensorParallel with a profile and room; use {_listed(known)}"
        raise errors.Invalid("--tp", fix)
    _within("--pp", given.pp, PP_RANGE)
    _within("--max-num-seqs", given.max_num_seqs, SEQUENCE_RANGE)
    _within("--chunk-tokens", given.chunk_tokens, CHUNK_RANGE)
    own = profiles[0]
    return Grid(
        tps=given.tp or known,
        pps=given.pp or PPS,
        max_num_seqs=tuple(dict.fromkeys((own.max_num_seqs, *(given.max_num_seqs or SEQUENCES)))),
        chunk_tokens=tuple(dict.fromkeys((own.chunk_tokens, *(given.chunk_tokens or CHUNKS)))),
    )


def _within(flag: str, values: tuple[int, ...], allowed: tuple[int, int]) -> None:
    low, high = allowed
    for value in values:
        if not low <= value <= high:
            raise errors.Invalid(flag, f"{value:,} is not between {low} and {high:,}")


def _bounded(bounds: Bounds, gpus: int | None) -> Bounds:
    """Return the policy's bounds, with no more GPUs than were given."""
    if gpus is None:
        return bounds
    most = gpus if bounds.max_gpus is None else min(gpus, bounds.max_gpus)
    return dataclasses.replace(bounds, max_gpus=most)


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


# --- what is told ------------------------------------------------------------------------------------


def _tell(found: Found, out: Path) -> None:
    """Print the table and what it means; write page and JSON."""
    text = json.dumps(document.of(found), indent=2, allow_nan=False) + "\n"
    page = pages.html(found)
    report.replace(out / JSON_NAME, text)
    report.replace(out / HTML_NAME, page)
    console = Console()
    console.print(_rich(pages.leading(found)))
    for line in (pages.sentence(found), *pages.comparisons(found)):
        console.print(line, markup=False, highlight=False, soft_wrap=not console.is_terminal)
    click.echo(f"report: {out / HTML_NAME}")


def _rich(found: Headed) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("replayed, modelled", overflow="fold")
    for head in found.heads:
        last = head == found.heads[-1]
        table.add_column(Text(head.replace(" ", "\n", 1)), justify="left" if last else "right", overflow="fold")
    style = {Tone.PLAIN: "", Tone.GOOD: "green", Tone.BAD: "bold red"}
    for row in found.rows:
        table.add_row(Text(row.label), *(Text(cell.text, style=style[cell.tone]) for cell in row.cells))
    return table


def _writable(out: Path) -> None:
    """Refuse a folder that cannot be written before anything is played."""
    try:
        report.prepare(out)
    except OSError as problem:
        raise errors.Invalid(f"--out {out}", f"{problem.strerror}; give a folder that can be written") from problem


def _refuse(message: str) -> NoReturn:
    click.echo(f"capstan search: {message}", err=True)
    sys.exit(BAD_INPUT)
