"""`python -m rig power proof`: the live proof of power domains, printed as a table."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from rig import process, prometheus
from rig.controlplane import ControlPlane
from rig.demo import figures
from rig.demo.stage import ROOT
from rig.nvml import build
from rig.proof import faults, granted, scene
from rig.proof.exporter import METER, Exporter
from rig.proof.site import FACTOR, GUARANTEED, STATISTICAL, BrokenError, Options, Row, Site

FOLDER = click.Path(path_type=Path, file_okay=False)
HEAD = ("scenario", "s to below budget", "J above", "worst draw / budget", "P1", "what happened")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(sorted({*faults.ALL, *granted.ALL})),
              help="These scenarios; default: all.")  # fmt: skip
@click.option("--strategy", type=click.Choice([STATISTICAL, GUARANTEED]), default=STATISTICAL, show_default=True,
              help="How the domains hold their budgets; each has scenarios of its own.")  # fmt: skip
@click.option("--dir", "kept", type=FOLDER, help="Keep logs and state here; a short path, for sockets.")
def command(only: tuple[str, ...], strategy: str, kept: Path | None) -> None:
    """Play the live proof of power domains and print what true watts did."""
    process.exit_on_signals()
    failed = ""
    scenarios = list(granted.ALL if strategy == GUARANTEED else faults.ALL)
    with tempfile.TemporaryDirectory(prefix="proof-") as folder, running(kept or Path(folder), strategy) as site:
        click.echo(told_setup())
        try:
            for name in scenarios:
                if not only or name in only:
                    click.echo(f"{name} ...", err=True)
                    play(site, strategy, name)
        except BrokenError as broken:
            failed = f"{name}: {broken}"
        click.echo(told(site.rows))
        click.echo(told_moves(site))
    sys.exit(failed or 0)


def play(site: Site, strategy: str, name: str) -> None:
    """Play one scenario of a strategy."""
    if strategy == GUARANTEED:
        granted.ALL[name](site)
    else:
        faults.play(site, name)


@contextlib.contextmanager
def running(folder: Path, strategy: str = STATISTICAL) -> Iterator[Site]:
    """Start a control plane of its own with Prometheus, and a gated site on it."""
    library = build.build(folder / "lib")
    with ControlPlane(folder / "rig") as control, Exporter() as exporter:
        control.apply_crds(ROOT / "crds")
        url = control.start_prometheus(prometheus.Config((prometheus.Job("meter", targets=(exporter.address,)),)))
        with Site(control, folder, library, Options(True, url, METER, strategy)) as site:
            exporter.shows(lambda: site.plant.monitor.drawn_w(scene.ROW))
            yield site


def told_setup() -> str:
    """Return what the figures were taken on."""
    nodes = scene.NODES_PER_RACK * len(scene.RACKS)
    return (
        f"machine: {figures.machine()}; commit {figures.commit(ROOT)}\n"
        f"{nodes} nodes of {scene.GPUS} GPUs; waits of the levels divided by {FACTOR:g}; as shipped: node lease 4 s, "
        "agent tick 1 s, P1's 10 s"
    )


def told(rows: list[Row]) -> str:
    """Return the table."""
    cells = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEAD))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def told_moves(site: Site) -> str:
    """Return how often each transition was made, and how exact the watch was."""
    moved = site.power.moved()
    counts: dict[str, int] = {}
    for move in moved:
        word = f"{move.before}->{move.after}"
        counts[word] = counts.get(word, 0) + 1
    gap_s = max((row.seen.gap_s for row in site.rows), default=0.0)
    made = ", ".join(f"{word} {count}" for word, count in sorted(counts.items()))
    return f"{len(moved)} transitions: {made}\nlongest time between two samples of true watts: {gap_s:.2f} s"


def _cells(row: Row) -> tuple[str, ...]:
    seen = row.seen
    return (
        row.name, f"{seen.longest_s:.1f}", f"{seen.joules:.0f}", f"{seen.worst_ratio:.3f}",
        "held" if seen.held else "BROKEN", row.note,
    )  # fmt: skip
