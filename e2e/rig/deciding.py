"""`python -m rig decide scale|steady`: what one decision costs for a whole fleet, and how still it is at a fixed load.

Figures are printed, never judged. `scale` calls `decide.decide` alone, in this process, with made-up demand: 500
policies that each have two degrees and all their clocks to choose among. `steady` replays constant Poisson load.
"""

from __future__ import annotations

import itertools
import resource
import time
from dataclasses import dataclass

import click
import numpy as np

from capstan import decide, units
from capstan.model import fleet, plan
from capstan.model.policy import Bounds, Knob, Knobs, Policy
from capstan.model.profile import Profile
from capstan.model.sample import Fresh
from capstan.model.slo import Slo
from capstan.optimize import clock
from capstan.replay import published
from capstan.replay.runs import Floats
from capstan.serving import garbage
from rig import steadiness
from rig.crosscheck import load
from rig.crosscheck.load import ROOT

SEED = 3
KNOBS = Knobs(replicas=Knob.ACT, tensor_parallel=Knob.ACT, clock=Knob.ACT)
DEGREES = (4, 8)
POOL_DEGREES = (2, 4, 8)
LLM = "llama-3.1-70b-h100-sxm5-80gb"
RATES_RPS = (3.0, 6.0, 12.0, 24.0, 48.0)
LENGTHS = ((1155.0, 211.0), (2048.0, 28.0), (400.0, 350.0), (700.0, 120.0))
"""Mean tokens of Azure's two traces of 2023, of a chat with short prompts, and of something between."""


@click.group("decide")
def command() -> None:
    """Print figures of the decision itself."""


def believed(degrees: tuple[int, ...] = DEGREES) -> tuple[Profile, ...]:
    """Return the shipped physics of the sample LLM at each degree."""
    known = {profile.name: profile for profile in load.profiles(ROOT / "policies" / "profiles")}
    return tuple(known[f"{LLM}-tp{tp}"] for tp in degrees)


# --- scale -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cycles:
    """CPU seconds of each cycle, shape `[cycle]`, of the first one alone, and the most memory that was held.

    `swept_s`: of the longest garbage collection between two of them.
    """

    first_s: float
    each_s: Floats
    swept_s: float
    peak_bytes: int

    def told(self) -> str:
        """Return the figures for people."""
        p50, p99, most = (float(np.quantile(self.each_s, share)) for share in (0.5, 0.99, 1.0))
        return (
            f"first {self.first_s:.2f} s, then p50 {p50:.3f} s, p99 {p99:.3f} s, max {most:.3f} s of CPU over "
            f"{len(self.each_s)} cycles (goal: p99 1 s), {self.swept_s:.2f} s of garbage collection between two; "
            f"peak {self.peak_bytes / 1e6:.0f} MB (goal: 400 MB)"
        )


class Fleet:
    """Many policies, each with its own rate and lengths; what is planned stands Ready in the next cycle."""

    def __init__(self, policies: int, profiles: tuple[Profile, ...]) -> None:
        self._chance = np.random.default_rng(SEED)
        slo = Slo(ttft_s=2.0, tpot_s=0.1)
        bounds = Bounds(1, 16, tensor_parallel=tuple(profile.tp for profile in profiles))
        self.policies = tuple(
            Policy(f"llm/p{i}", profiles[0].models[0], slo, bounds=bounds, knobs=KNOBS) for i in range(policies)
        )
        self._profiles = profiles
        self._rates_rps = self._chance.uniform(0.5, 20.0, policies)
        lengths = np.array([LENGTHS[i % len(LENGTHS)] for i in range(policies)])
        self._lengths = lengths * self._chance.uniform(0.8, 1.25, (policies, 2))
        self._standing = {policy.key: [fleet.PoolObserved("all", DEGREES[0], 4, 4)] for policy in self.policies}

    def observed(self, now_s: float, window_s: float) -> fleet.Observed:
        """Return one cycle: counts of a Poisson minute, lengths that wander by a percent."""
        counts = self._chance.poisson(self._rates_rps * window_s) / window_s
        lengths = self._lengths * self._chance.normal(1.0, 0.01, self._lengths.shape)
        product = self._profiles[0].gpu_products[0]
        return fleet.Observed(
            now_s,
            tuple(
                fleet.ServiceObserved(
                    policy.key,
                    tuple(self._standing[policy.key]),
                    arrival_rps=Fresh(float(rate), 1.0),
                    prompt_tokens=Fresh(float(prompt), 1.0),
                    output_tokens=Fresh(float(output), 1.0),
                    waiting=Fresh(0.0, 1.0),
                    stress_ratio=Fresh(float(self._chance.uniform(0.6, 1.0)), 1.0),
                    gpu_product=product,
                )
                for policy, rate, (prompt, output) in zip(self.policies, counts, lengths, strict=True)
            ),
        )

    def stand(self, decision: plan.Decision) -> None:
        """Make everything that was planned Ready."""
        for decided in decision.policies:
            self._standing[decided.policy] = [
                fleet.PoolObserved(pool.pool, pool.tp, pool.replicas, pool.replicas) for pool in decided.pools
            ]


def cycles(policies: int, count: int) -> Cycles:
    """Decide `count` cycles after a first one."""
    profiles = believed()
    subject, settings, memory = Fleet(policies, profiles), decide.Settings(), plan.Memory()
    each_s, swept_s, swept = [], 0.0, garbage.Garbage()
    for cycle in range(count + 1):
        observed = subject.observed(cycle * settings.instance_period_s, settings.rate_window_s)
        before_s = time.process_time()
        decision = decide.decide(observed, subject.policies, profiles, memory, settings)
        decided_s = time.process_time()
        each_s.append(decided_s - before_s)
        swept.sweep(observed.now_s)
        swept_s = max(swept_s, time.process_time() - decided_s)
        memory = decision.memory
        subject.stand(decision)
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Cycles(each_s[0], np.array(each_s[1:]), swept_s, peak_bytes)


@command.command("scale")
@click.option("--policies", default=500, show_default=True)
@click.option("--cycles", "count", default=100, show_default=True)
def scale(policies: int, count: int) -> None:
    """CPU seconds of a decision over many policies, and the memory of the process."""
    looked = sum(len(clock.grid_mhz(profile)) for profile in believed())
    click.echo(f"{policies} policies, {looked} configurations each ({len(DEGREES)} degrees and their clocks)")
    click.echo(cycles(policies, count).told())


# --- steady ------------------------------------------------------------------------------------------


@command.command("steady")
@click.option("--minutes", default=30, show_default=True, help="Virtual time; the first ten are not counted.")
@click.option("--rate", "rates_rps", multiple=True, default=RATES_RPS, show_default=True, help="Requests a second.")
@click.option("--seeds", default=1, show_default=True)
@click.option("--lengths", type=click.Choice(["conv", "code"]), default="conv", show_default=True)
def steady(minutes: int, rates_rps: tuple[float, ...], seeds: int, lengths: str) -> None:
    """What a constant Poisson load makes the decision change, by rate, pools and telemetry delay."""
    click.echo(f"{minutes} min of {lengths}; most clock changes of a replica in 10 min (goal: at most 1)")
    for rate_rps, by_class, delay_s, seed in itertools.product(rates_rps, (False, True), (5.0, 15.0), range(seeds)):
        asked = steadiness.Load(
            rate_rps, units.SECONDS_PER_MINUTE * minutes, steadiness.SEED + seed, published.BY_NAME[lengths]
        )
        found = steadiness.play(believed(POOL_DEGREES), asked, delay_s=delay_s, by_class=by_class)
        pools = "class pools" if by_class else "one pool   "
        click.echo(
            f"  {rate_rps:2g} rps, {pools} telemetry {delay_s:2.0f} s, seed {seed}: "
            f"most {found.most}, all {found.clocks} in {found.pools} pools, {found.shapes} of replicas or pools; "
            f"{found.attainment_ratio:.1%} inside the SLO, {found.energy_j * 1e-6:.2f} MJ"
        )
