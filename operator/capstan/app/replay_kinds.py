"""Kinds of scenario that `capstan replay` plays by other means than requests on engines: one function each.

Who calls it: `app.replay`, before it reads a scenario as a `Run`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from capstan.api import errors, manifests
from capstan.app import progress
from capstan.replay import load
from capstan.replay.options import Options
from capstan.replay.pages.cells import Titled, Tone
from capstan.replay.plantlab import campaign, page, report, scene
from capstan.replay.row import load as row_load
from capstan.replay.row import page as row_page
from capstan.replay.row import report as row_report
from capstan.replay.row import taped

FILE_COLUMNS = 120  # of what goes into a file or a pipe
STYLES = {Tone.GOOD: "green", Tone.BAD: "red", Tone.PLAIN: ""}

Player = Callable[[Path, Path, Options], bool]
"""Plays a scenario file into a folder and returns whether it kept its goals."""


def of(path: Path) -> Player | None:
    """Return who plays a scenario file; None: it is a `Run`.

    Raises:
        Invalid: The file, the field and the fix.
    """
    kinds = {document.kind for document in manifests.load(path)}
    return next((player for kind, player in PLAYERS.items() if kind in kinds), None)


def plant(path: Path, out: Path, wanted: Options) -> bool:
    """Play a `Plant`: two strategies under faults, and power steps."""
    played = scene.read(path, wanted.profiles or load.SHIPPED / "profiles")
    seeds = wanted.seeds or played.spec.seeds
    with progress.bar("playing the plant") as told:
        found = campaign.played(played, seeds, told)
    console = _console()
    for titled in (report.hours(found), *((report.steps(found),) if found.steps else ())):
        _print(titled, console)
    judged = report.goals(found)
    for goal in judged:
        console.print(f"{goal.verdict}: {goal.words}: {goal.found}", markup=False, highlight=False, soft_wrap=True)
    console.print(report.sentence(found), markup=False, highlight=False)
    click.echo(f"report: {report.write(found, page.of(found), out)}")
    return all(goal.kept is not False for goal in judged)


def row(path: Path, out: Path, wanted: Options) -> bool:
    """Play a `Row`: POLCA's experiment; False where the load does not exceed the budget as it must."""
    loaded = row_load.read(path, wanted.profiles or load.SHIPPED / "profiles", wanted)
    if wanted.save_trace is not None:
        _save(loaded, wanted.save_trace)
    with progress.bar("playing the row") as told:
        found = row_load.played(loaded, told)
    console = _console()
    for combination in found.combinations:
        _print(row_report.load(found, combination), console)
        _print(row_report.most(found, combination), console)
        for servers in found.counts:
            _print(row_report.table(found, combination, servers), console)
    console.print(row_page.sentence(found), markup=False, highlight=False)
    click.echo(f"report: {row_report.write(found, row_page.of(found), out)}")
    return all(row_report.valid(found, combination) is not False for combination in found.combinations)


def _save(loaded: row_load.Loaded, path: Path) -> None:
    """Write the watts of the first world's row, as it was built."""
    combination, seed, _ = loaded.worlds[0]
    try:
        taped.write(taped.watts(loaded.asked, combination, seed), path)
    except OSError as problem:
        raise errors.Invalid(
            f"--save-trace {path}", f"{problem.strerror}; give a file that can be written"
        ) from problem
    click.echo(f"trace: {path}")


def tell(tables: tuple[Titled, ...], words: str) -> None:
    """Print tables and a sentence, for commands beside `capstan replay`."""
    console = _console()
    for titled in tables:
        _print(titled, console)
    console.print(words, markup=False, highlight=False, soft_wrap=not console.is_terminal)


PLAYERS: Mapping[str, Player] = {"Plant": plant, "Row": row}


def _console() -> Console:
    """Return a console that does not break a wide table where nobody looks at it as it comes."""
    return Console(width=None if sys.stdout.isatty() else FILE_COLUMNS)


def _print(titled: Titled, console: Console) -> None:
    """Print a table; where heads and labels may break, no figure does, and a file gets all of a line."""
    table = Table(title=titled.title, box=box.SIMPLE, title_justify="left", pad_edge=False, collapse_padding=True)
    words = (word for row in titled.table.rows for word in row.label.split())
    table.add_column("", min_width=max(map(len, words), default=0))
    for index, head in enumerate(titled.table.heads):
        figures = (row.cells[index].text for row in titled.table.rows if index < len(row.cells))
        table.add_column(head, justify="right", min_width=max(map(len, figures), default=0))
    for row in titled.table.rows:
        table.add_row(row.label, *(Text(cell.text, style=STYLES[cell.tone]) for cell in row.cells))
    console.print(table, crop=console.is_terminal)
    for note in titled.notes:
        console.print(note, style="dim", markup=False, highlight=False)
