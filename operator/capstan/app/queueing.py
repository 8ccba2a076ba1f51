"""`capstan profile queueing`: the planner's closed form beside the world, profile by profile, as a table or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
import yaml

from capstan.api import convert
from capstan.api.errors import Invalid
from capstan.model.profile import Profile
from capstan.model.workload import Phase
from capstan.replay import published, queueing, traces
from capstan.replay.runs import Floats

CLOCK_RATIOS = (1.0, 0.7)
PLANNED_RATIO = 0.8  # of capacity: beyond it no plan stands, the SLO ends earlier
LENGTH_FILES = {
    "conv": "AzureLLMInferenceTrace_conv.first_half.csv",
    "code": "AzureLLMInferenceTrace_code.first_half.csv",
}


@click.command("queueing")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--lengths", default="conv", show_default=True, type=click.Choice(sorted(published.BY_NAME)))
@click.option(
    "--requests", default=queueing.REQUESTS, show_default=True, type=click.IntRange(min=1000), help="Per line."
)
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(1, 64), help="That share the arrivals.")
@click.option(
    "--phase",
    default=Phase.BOTH.value,
    show_default=True,
    type=click.Choice([p.value for p in Phase]),
    help="What they play.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def command(files: tuple[Path, ...], lengths: str, requests: int, replicas: int, phase: str, as_json: bool) -> None:
    """Print the planner's latencies and watts beside the simulator's, over load, for PROFILES.

    Lengths are those of the shared trace where it is present, else drawn from its published statistics.
    """
    pairs, source = _lengths(lengths)
    lines = [
        line
        for file in files
        for x in CLOCK_RATIOS
        for line in queueing.compare(
            queueing.Setting(_profile(file), x, replicas, Phase(phase)), pairs, requests=requests
        )
    ]
    if as_json:
        told = {
            "lengths": source,
            "replicas": replicas,
            "phase": phase,
            "lines": [_known(asdict(line)) for line in lines],
        }
        click.echo(json.dumps(told))
        return
    click.echo(
        f"lengths: {source}; {requests} requests a line, replicas: {replicas}, phase: {phase}; "
        "planner → world, planner's error"
    )
    for row in _table(lines):
        click.echo(row)


def _lengths(name: str) -> tuple[queueing.Lengths, str]:
    data = traces.shared_data_at_hand()
    file = None if data is None or name not in LENGTH_FILES else data / "azure-llm-2023" / LENGTH_FILES[name]
    if file is None or not file.is_file():
        return queueing.drawn(published.BY_NAME[name]), f"published quantiles of {name}"
    requests = traces.read(file).requests
    return (requests.prompt_tokens, requests.output_tokens), f"pairs of {file.name}"


def _profile(path: Path) -> Profile:
    try:
        return convert.profile(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, Invalid) as problem:
        raise click.UsageError(f"PROFILES: {path} is no ServingProfile: {problem}") from problem


def _known(value: object) -> object:
    """Return a record with null where there is no figure: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {name: _known(each) for name, each in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _table(lines: list[queueing.Line]) -> list[str]:
    """Return a Markdown table, and a line with mean and largest errors."""
    rows = [
        "| profile | clock | load | req/s | TTFT p50, ms | TTFT p99, ms | to 255 tokens | to 1,023 | TPOT p50, ms "
        "| TPOT p99, ms | W per GPU |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {line.profile} | {line.clock_ratio:g} | {line.load_ratio:g} | {line.arrival_rps:.2f} | {_cells(line)} |"
        for line in lines
    ]
    rows.append("")
    for words, most in (("all loads", 1.0), (f"loads up to {PLANNED_RATIO:g}", PLANNED_RATIO)):
        errors = np.array([line.errors for line in lines if line.errors and line.load_ratio <= most])
        if len(errors):
            rows.append(f"mean of the errors' sizes (range), {words}: {_summary(errors)}")
    return rows


def _summary(errors: Floats) -> str:
    """Return mean and range of each figure's error, shapes `[line, figure]`; of one that a phase has not, nothing."""
    return "; ".join(
        f"{name} {np.nanmean(np.abs(of)):.0%} ({np.nanmin(of):+.0%} to {np.nanmax(of):+.0%})"
        for name, of in zip(queueing.FIGURES, errors.T, strict=True)
        if np.isfinite(of).any()
    )


def _cells(line: queueing.Line) -> str:
    scales = (1e3,) * (len(queueing.FIGURES) - 1) + (1.0,)
    cells = []
    for place, (name, scale) in enumerate(zip(queueing.FIGURES, scales, strict=True)):
        world = scale * getattr(line.world, name)
        if math.isnan(world):
            cells.append("-")
            continue
        told = f"{scale * getattr(line.planned, name):.0f}" if line.planned else "none"
        error = f", {line.errors[place]:+.0%}" if line.errors else ""
        cells.append(f"{told} → {world:.0f}{error}")
    return " | ".join(cells)
