"""`capstan lengths`: how well the length of an answer can be told before it is there, on a trace."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from capstan.app import tracesource
from capstan.model.classes import Edges
from capstan.replay import classify, lengths
from capstan.replay.lengths import Guessed
from capstan.replay.options import Options
from capstan.replay.runs import Requests

BAD_INPUT = 2


@click.command()
@tracesource.options
@click.option("--classes", default="fixed", show_default=True, help="Edges: fixed, terciles, or 256,1024/100,350.")
@click.option("--sweep", is_flag=True, help="Also at other settings of the live predictor.")
def command(*, source: tracesource.Source, classes: str, sweep: bool) -> None:
    """Print how often the bucket of an answer's length is guessed right, rule by rule, as Markdown.

    No rule looks ahead: a length is known once its request could have finished. Exit codes: 0 done, 2 bad input.
    """
    try:
        asked = Options(classes=classes).edges
        read = source.trace()
    except ValueError as problem:  # Invalid and TraceError are ones
        click.echo(f"capstan lengths: {problem}", err=True)
        sys.exit(BAD_INPUT)
    edges = classify.edges(asked, Edges(), read.requests)
    found = lengths.compare(read.requests, edges)
    click.echo(f"{read.source}: {len(read.requests):,} requests; {classify.words(edges)}")
    for line in (*_rules(found), *_confusion(found[0], edges), *_coverage(read.requests)):
        click.echo(line)
    for line in _sweep(read.requests, edges) if sweep else ():
        click.echo(line)


def _rules(found: tuple[Guessed, ...]) -> Iterator[str]:
    yield from ("", "| rule | right | too short | too long |", "|---|---|---|---|")
    for one in found:
        ratios = (one.accuracy_ratio, one.under_ratio, one.over_ratio)
        yield f"| {one.rule} | {' | '.join(f'{100 * ratio:.1f} %' for ratio in ratios)} |"


def _confusion(live: Guessed, edges: Edges) -> Iterator[str]:
    """Yield the live predictor's matrix beside the one that `--predictor` draws at the same accuracy."""
    names = lengths.names(edges)
    drawn = classify.confusion(edges.outputs, live.accuracy_ratio)
    yield from ("", f"| live: true, guessed | {' | '.join(names)} | as drawn by --predictor |")
    yield "|---" * (len(names) + 2) + "|"
    for name, row, expected in zip(names, live.row_ratios.tolist(), drawn.tolist(), strict=True):
        yield f"| {name} | {' | '.join(f'{100 * ratio:.1f} %' for ratio in row)} | {_joined(expected)} |"


def _coverage(requests: Requests) -> Iterator[str]:
    shares = lengths.coverage(requests)
    told = (
        f"p{100 * level:g} {100 * share:.1f} %" for level, share in zip(lengths.LEVELS, shares.tolist(), strict=True)
    )
    yield from ("", f"answers at or below their predicted quantile: {', '.join(told)}")


def _sweep(requests: Requests, edges: Edges) -> Iterator[str]:
    yield from ("", "| live, with | right |", "|---|---|")
    for setting, ratio in lengths.sweep(requests, edges):
        yield f"| {setting} | {100 * ratio:.1f} % |"


def _joined(row: list[float]) -> str:
    return ", ".join(f"{100 * ratio:.1f} %" for ratio in row)
