"""`python -m rig power row`: how long six virtual weeks of a row take on one core.

Figures are printed, never judged.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click

from capstan.replay.options import Options
from capstan.replay.row import experiment, generate, load, play, systems

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = ROOT / "policies" / "scenarios" / "polca-row.yaml"
WARM_S = 60


@click.command()
@click.option("--servers", type=click.IntRange(2, 400), default=56, show_default=True)
@click.option("--weeks", type=click.IntRange(1, 52), default=6, show_default=True)
def command(servers: int, weeks: int) -> None:
    """Play the shipped row under the paper's law, in this process."""
    asked = load.read(SCENARIO, ROOT / "policies" / "profiles", Options()).asked
    seed = 1
    levels = generate.level(seed, weeks)
    first = experiment.Combination(asked.server.gpu_share_ratio, 0.5)
    generated, kind = experiment.fixed(replace(asked, derived_weeks=0, scored_weeks=weeks), first, seed, levels)
    (law,) = systems.named(("polca",))
    warm = play.Row(kind, asked.budget_w, servers, seed, levels, WARM_S, 0)
    play.play(warm, law)  # compiled, or read from the cache
    row = play.Row(kind, asked.budget_w, servers, seed, levels, weeks * generate.WEEK_S, generate.WARM_UP_S)
    wall_s, cpu_s = time.monotonic(), time.process_time()
    played = play.play(row, law)
    wall_s, cpu_s = time.monotonic() - wall_s, time.process_time() - cpu_s
    requests = int(played.tally.arrived.sum())
    click.echo(
        f"{weeks} weeks of {servers} servers under {law.name}: {cpu_s:.0f} s of CPU on one core, {wall_s:.0f} s in all "
        f"(goal: 300 s); {requests:,} requests, {requests / cpu_s:,.0f} a second; {played.transitions} changes of "
        f"level; the load peaks at {100 * generated.peak_ratio:.0f} % with {asked.built} servers"
    )
