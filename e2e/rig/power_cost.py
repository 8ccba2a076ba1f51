"""`python -m rig power step`: what one tick of the power machine costs for many domains of many nodes.

Figures are printed, never judged. `powercap.step` alone, in this process, on columns that are already there: every
domain at another share of its budget, a few nodes silent, a meter on each.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

import click
import numpy as np

from capstan.model.sample import Fresh
from capstan.powercap import step
from capstan.powercap.domains import Domain, DomainMemory, Level, SafeSetting
from capstan.powercap.readings import Floats, Samples

SEED = 3
GPUS = 8
WORST_W = GPUS * 700.0  # eight H100 SXM5 at their largest board limit
NON_GPU_W = 2800.0
SAFE = SafeSetting(1110.0, 250.0)  # what an armed domain has
SILENT_RATIO = 0.001  # one node of a thousand is not heard in a second


@dataclass(frozen=True, slots=True)
class Ticks:
    """CPU seconds of each tick over all domains, and the most memory that was held."""

    each_s: Floats
    moves: int
    peak_bytes: int

    def told(self) -> str:
        """Return the figures for people."""
        p50, p99, most = (float(np.quantile(self.each_s, share)) * 1e3 for share in (0.5, 0.99, 1.0))
        return (
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {most:.1f} ms of CPU over {len(self.each_s)} ticks "
            f"(goal: 50 ms), {self.moves} changes of a level; peak {self.peak_bytes / 1e6:.0f} MB"
        )


def racks(domains: int, nodes: int) -> tuple[Domain, ...]:
    """Return armed domains that fit their nodes at two thirds of what these can draw."""
    budget_w = nodes * (WORST_W + NON_GPU_W) * 2 / 3
    return tuple(
        Domain(
            f"rack-{rack}", budget_w, armed=True, non_gpu_typical_w=NON_GPU_W, non_gpu_worst_w=NON_GPU_W,
            nodes=tuple(f"rack-{rack}-node-{node}" for node in range(nodes)), safe=SAFE,
        )
        for rack in range(domains)
    )  # fmt: skip


def heard(domain: Domain, chance: np.random.Generator) -> Samples:
    """Return one second of a domain: its level of load of the moment, nodes around it, hardly one silent."""
    count = len(domain.nodes)
    watts = np.clip(chance.uniform(0.2, 0.8) + chance.normal(0.0, 0.1, count), 0.05, 1.0) * WORST_W
    silent = chance.random(count) < SILENT_RATIO
    worst_w = np.full(count, WORST_W)
    return Samples(
        domain.nodes,
        np.where(silent, np.nan, watts),
        np.where(silent, watts, 0.0),
        worst_w,
        np.full(count, float(GPUS)),
        np.full(count, 200.0),
    )


def ticks(domains: int, nodes: int, count: int) -> Ticks:
    """Step all domains `count` times, after once that is not counted."""
    chance = np.random.default_rng(SEED)
    fleet = racks(domains, nodes)
    seconds = [[heard(domain, chance) for domain in fleet] for _ in range(4)]
    memories = [DomainMemory(level=Level.NORMAL)] * domains
    each_s, moves = [], 0
    for tick in range(count + 1):
        samples, meter = seconds[tick % len(seconds)], Fresh(fleet[0].budget_w / 2, 1.0)
        before_s = time.process_time()
        done = [
            step.step(domain, row, memory, float(tick), meter=meter)
            for domain, row, memory in zip(fleet, samples, memories, strict=True)
        ]
        each_s.append(time.process_time() - before_s)
        moves += sum(after.level is not memory.level for after, memory in zip(done, memories, strict=True))
        memories = [after.memory for after in done]
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Ticks(np.array(each_s[1:]), moves, peak_bytes)


@click.command("step")
@click.option("--domains", default=1000, show_default=True)
@click.option("--nodes", default=40, show_default=True, help="Of each domain.")
@click.option("--ticks", "count", default=60, show_default=True)
def command(domains: int, nodes: int, count: int) -> None:
    """CPU milliseconds of one tick over many domains."""
    click.echo(f"powercap.step, {domains} domains of {nodes} nodes: {ticks(domains, nodes, count).told()}")
