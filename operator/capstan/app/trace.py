"""`capstan trace describe|synth`: what a trace is like, and a trace like one that may not be shared."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from capstan.app import progress, tracesource
from capstan.replay import synth, traces
from capstan.replay.traces import describe, tables, writer
from capstan.replay.traces.describe import Description

BAD_INPUT = 2
FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def command() -> None:
    """Describe a trace of requests, or draw one from a description."""


@command.command("describe")
@tracesource.options
@click.option("--context-tokens", type=click.IntRange(min=1), help="Count requests beyond a model's context.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for rates.csv and lengths.csv.")
def describe_command(*, source: tracesource.Source, context_tokens: int | None, out: Path | None) -> None:
    """Print rates, burstiness, lengths and classes of a trace. Exit codes: 0 done, 2 bad input."""
    with refusing("describe"):
        trace = source.trace()
        found = describe.describe(trace.requests)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            tables.write_rates(out / "rates.csv", found.rates)
            tables.write_lengths(out / "lengths.csv", found.lengths)
    console = Console()
    _print(console, trace, found)
    for dropped in trace.dropped:
        click.echo(f"left out: {dropped.count:,} {dropped.why}")
    if context_tokens is not None:
        click.echo(
            f"beyond a context of {context_tokens:,} tokens: {len(traces.beyond(trace.requests, context_tokens)):,}"
        )
    if out is not None:
        click.echo(f"written: {out / 'rates.csv'}, {out / 'lengths.csv'}")


@command.command("synth")
@click.option("--rates", type=FILE, required=True, help="start_s,requests_per_min, or the digitised week's columns.")
@click.option("--lengths", type=FILE, required=True, help="percentile,input_tokens,output_tokens, or digitised.")
@click.option("--seed", type=click.IntRange(min=0), required=True, help="The same seed draws the same trace.")
@click.option("--burst-cv", type=float, default=1.0, show_default=True, help="Variation of gaps at a steady rate.")
@click.option("--out", type=FILE, required=True, help="CSV in Azure's format; .gz compresses it.")
def synth_command(*, rates: Path, lengths: Path, seed: int, burst_cv: float, out: Path) -> None:
    """Draw a trace from rates and length quantiles. Exit codes: 0 done, 2 bad input."""
    with refusing("synth"):
        over_time, quantiles = tables.read_rates(rates), tables.read_lengths(lengths)
        expected = max(tables.expected(over_time), 1.0)
        parts = synth.chunks(over_time, quantiles, seed=seed, burst_cv=burst_cv)
        with progress.bar("drawing") as told:
            count = writer.write(out, parts, lambda rows: told(rows / expected))
    click.echo(f"{out}: {count:,} requests, drawn with seed {seed}")


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Turn what is wrong with the input into one sentence and exit code 2."""
    try:
        yield
    except ValueError as problem:  # a TraceError is one
        message = str(problem)
    except OSError as problem:
        message = f"--out {problem.filename or ''}: {problem.strerror}; give a place that can be written"
    else:
        return
    click.echo(f"capstan trace {name}: {message}", err=True)
    sys.exit(BAD_INPUT)


def _print(console: Console, trace: traces.Trace, found: Description) -> None:
    console.print(f"[bold]{trace.source}[/bold]", highlight=False)
    figures = Table(show_header=False, box=None, pad_edge=False)
    for name, text in _figures(found):
        figures.add_row(name, text)
    console.print(figures)
    lengths = Table("tokens", "mean", *_percentiles(), box=None, pad_edge=False)
    shown = describe.quantiles(trace.requests, describe.SHOWN)
    for name, mean, column in (
        ("input", found.prompt_mean_tokens, shown.prompt_tokens),
        ("output", found.output_mean_tokens, shown.output_tokens),
    ):
        lengths.add_row(name, f"{mean:,.0f}", *(f"{tokens:,.0f}" for tokens in column))
    console.print(lengths)
    mix = Table("class", *(share.name for share in found.classes), box=None, pad_edge=False)
    mix.add_row("share", *(f"{share.ratio:.1%}" for share in found.classes))
    console.print(mix)


def _percentiles() -> list[str]:
    return ["max" if ratio == 1 else f"p{ratio * 100:g}" for ratio in describe.SHOWN]


def _figures(found: Description) -> Iterator[tuple[str, str]]:
    yield "requests", f"{found.requests:,}"
    yield "duration", f"{found.duration_s:,.1f} s"
    yield "mean rate", f"{found.mean_per_min:,.1f} per minute"
    yield "busiest, quietest minute", f"{found.peak_per_min:,.0f}, {found.floor_per_min:,.0f}"
    yield "gaps between arrivals", f"CV {found.gap_cv:.2f} (1: steady Poisson)"
    yield "the same at steady rate", f"CV {found.burst_cv:.2f} (--burst-cv of capstan trace synth)"
    yield "counts of minutes", f"variance over mean {found.dispersion:.1f} (1: steady Poisson)"
    yield "input against output", f"correlation {found.correlation:.2f} (synth draws them independently)"
