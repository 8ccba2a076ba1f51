"""`python -m rig.crosscheck …`: install the other programs, and run one of them by hand."""

from __future__ import annotations

from pathlib import Path

import click

from capstan.replay import traces
from capstan.replay.searches import steady_check
from rig.crosscheck import aiconfigurator as aic
from rig.crosscheck import dynamo as replayed
from rig.crosscheck import load, steady, venvs

ROOT = Path(__file__).resolve().parents[3]
FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


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
    """Measure NVIDIA's replay alone; `make bench` has ours beside it."""
    try:
        requests = load.of_file(trace) if trace else load.conversation_hour()
        for line in replayed.compare(venvs.python_of(venvs.DYNAMO), requests, None, pairs=pairs).told():
            click.echo(line)
    except (venvs.NotAvailable, traces.TraceError) as problem:
        raise click.ClickException(str(problem)) from problem


@main.command()
@click.option("--llm", default="meta-llama/Meta-Llama-3.1-70B", show_default=True, type=click.Choice(list(aic.LLMS)))
@click.option("--system", default=aic.SYSTEM, show_default=True, type=click.Choice(list(aic.GPU_PRODUCTS)))
@click.option("--profiles", default=ROOT / "policies" / "profiles", type=FOLDER, help="Ours; default: the shipped.")
def aiconfigurator(llm: str, system: str, profiles: Path) -> None:
    """Print aiconfigurator-core's prefill and decode step by tp beside ours, as a Markdown table and in sum."""
    try:
        rows = aic.asked(venvs.python_of(venvs.AICONFIGURATOR), llm, system=system, shapes=aic.SHAPES)
    except venvs.NotAvailable as problem:
        raise click.ClickException(str(problem)) from problem
    found = aic.beside(rows, load.profiles(profiles), aic.LLMS[llm], system)
    for line in (*aic.table(found), "", *aic.told(found)):
        click.echo(line)
    fits = {row.tp: f"tp {row.tp}: {row.kv_tokens:,}" for row in rows}
    click.echo(f"KV tokens that fit, theirs: {'; '.join(fits.values())} (0: the weights do not)")


@main.command("steady")
def steady_loads() -> None:
    """Print the oracle's saving at a steady 650, 2,000 and 4,000 tokens/s on one server beside DynamoLLM's."""
    found, source = steady.lines()
    click.echo(f"lengths: {source}; SLO set `class`; 70B on one server of 8 H100, modelled")
    click.echo(steady_check.table(found))


if __name__ == "__main__":
    main(prog_name="python -m rig.crosscheck")
