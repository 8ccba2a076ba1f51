"""`python -m rig.crosscheck …`: install the other programs, and run one of them by hand."""

from __future__ import annotations

from pathlib import Path

import click

from capstan.replay import trace as traces
from rig.crosscheck import dynamo as replayed
from rig.crosscheck import load, venvs


@click.group()
def main() -> None:
    """Ask other people's programs the same questions as ours."""


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted(venvs.PEERS)))
def install(names: tuple[str, ...]) -> None:
    """Make the venvs of NAMES (default: all)."""
    for name in names or venvs.PEERS:
        try:
            click.echo(f"{name}: {venvs.install(venvs.PEERS[name], click.echo)}")
        except venvs.NotAvailable as problem:
            raise click.ClickException(str(problem)) from problem


@main.command()
@click.option("--trace", type=click.Path(path_type=Path, dir_okay=False), help="Default: the conversation hour.")
@click.option("--pairs", default=replayed.PAIRS, show_default=True, type=click.IntRange(min=1), help="Runs.")
def dynamo(trace: Path | None, pairs: int) -> None:
    """Measure NVIDIA's replay alone; `make bench FULL=1` has ours beside it."""
    try:
        requests = load.of_file(trace) if trace else load.conversation_hour()
        for line in replayed.compare(venvs.python_of(venvs.DYNAMO), requests, None, pairs=pairs).told():
            click.echo(line)
    except (venvs.NotAvailable, traces.TraceError) as problem:
        raise click.ClickException(str(problem)) from problem


if __name__ == "__main__":
    main(prog_name="python -m rig.crosscheck")
