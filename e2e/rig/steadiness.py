"""How still the decision is at a constant load: what it changes in half an hour of Poisson arrivals, in virtual time.

Who calls it: `rig.deciding`, tests. There is nothing to follow, so that every change is a reaction to chance, or to its
own last change: a limit cycle would show as a count that grows with the telemetry delay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from capstan import decide
from capstan.model.policy import Bounds, Knob, Knobs, Policy, Pools
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.replay import engine, published, queueing
from capstan.replay.nodes import Node
from capstan.replay.runs import Requests
from capstan.replay.scenario import Scenario
from capstan.replay.scores import score
from capstan.replay.seen import Seen, Service, Want
from capstan.replay.systems import Capstan

KEY = "llm/steady"
SPAN_S = 600.0  # the goal is said per ten minutes
GOAL = 1  # changes of a replica's clock in them
SETTLED_S = 600.0  # what was planned before this is the way from the start to where it stays
STARTUP_S = 60.0
GPUS_PER_NODE = 8
NODES = 16  # one replica of the largest degree each: room for 48 rps in class pools
LEAST, EACH_RPS = 4, 4.0
"""Replicas at the start, and the load of each at most: with the backlog of its first minutes none is constant."""

SLO = Slo(ttft_s=2.0, tpot_s=0.1)
TIERS = ((256, 0.25), (1024, 0.4))  # those of policies/serving-classes.yaml
SEED = 11


@dataclass(slots=True)
class Watched:
    """A system that notes when it changed what: (t_s, pool) per clock, and t_s per change of replicas or pools."""

    system: Capstan
    clocks: list[tuple[float, str]] = field(default_factory=list)
    shapes: list[float] = field(default_factory=list)
    pools: int = 0
    _before: dict[str, float | None] = field(default_factory=dict)
    _shape: tuple[tuple[str, int, int], ...] = ()

    name = "watched"
    caps_power = False

    @property
    def period_s(self) -> float:
        """As often as the other one."""
        return self.system.period_s

    def start(self, service: Service) -> Want | tuple[Want, ...]:
        """Begin as the other one does."""
        return self.system.start(service)

    def plan(self, seen: Seen) -> tuple[Want, ...]:
        """Plan as the other one does."""
        wants = self.system.plan(seen)
        caps = {want.pool: want.clock_cap_mhz for want in wants}
        shape = tuple(sorted((want.pool, want.tp, want.replicas) for want in wants))
        self.clocks += [(seen.now_s, name) for name, mhz in caps.items() if self._before.get(name, mhz) != mhz]
        self.shapes += [seen.now_s] if self._shape not in ((), shape) else []
        self._before, self._shape, self.pools = caps, shape, max(self.pools, len(caps))
        return wants


@dataclass(frozen=True, slots=True)
class Stillness:
    """What changed after the first ten minutes of one run and before its last arrival.

    Attributes:
        pools: Most class pools at a time.
        most: Changes of one pool's clock, and so of each replica in it, in the ten minutes that had most of them.
        clocks: Changes of clocks in all pools. shapes: of replicas, degrees or pools.
        attainment_ratio: Requests inside the SLO, of the whole run.
        energy_j: Of assigned GPUs, of the whole run: what standing still costs.
    """

    pools: int
    most: int
    clocks: int
    shapes: int
    attainment_ratio: float
    energy_j: float


@dataclass(frozen=True, slots=True)
class Load:
    """A constant load: Poisson arrivals for more than ten minutes, lengths drawn from published ones."""

    rate_rps: float
    duration_s: float
    seed: int = SEED
    lengths: published.Statistics = published.CONVERSATION

    def requests(self) -> Requests:
        """Return the requests of it."""
        chance = np.random.default_rng(self.seed)
        arrival_s = np.cumsum(chance.exponential(1 / self.rate_rps, round(self.rate_rps * self.duration_s)))
        prompts, outputs = queueing.drawn(self.lengths)
        pick = chance.integers(0, len(prompts), len(arrival_s))
        return Requests(arrival_s, prompts[pick], outputs[pick])


def play(profiles: tuple[Profile, ...], load: Load, *, delay_s: float, by_class: bool) -> Stillness:
    """Return what the shipped decision changes under a constant load.

    Args:
        profiles: The degrees to choose among, believed and true.
        load: What is asked.
        delay_s: Age of what it sees.
        by_class: Whether classes may have pools of their own, under limits by prompt length.
    """
    requests = load.requests()
    end_s = float(requests.arrival_s[-1])
    scenario = _scenario(profiles, requests, delay_s, by_class=by_class, rate_rps=load.rate_rps)
    watched = Watched(Capstan.of(scenario))
    run = engine.run(scenario, watched)
    late = [(t_s, pool) for t_s, pool in watched.clocks if SETTLED_S <= t_s < end_s]
    each = [[t_s for t_s, pool in late if pool == name] for name in {pool for _, pool in late}]
    scored = score.of(run)
    return Stillness(
        pools=watched.pools,
        most=max((busiest(times_s) for times_s in each), default=0),
        clocks=len(late),
        shapes=sum(SETTLED_S <= t_s < end_s for t_s in watched.shapes),
        attainment_ratio=scored.overall.attainment_ratio or 0.0,
        energy_j=scored.energy_j,
    )


def busiest(times_s: list[float]) -> int:
    """Return the most events of ascending `times_s` within any ten minutes."""
    return max(sum(0 <= t_s - first_s < SPAN_S for t_s in times_s) for first_s in times_s)


def _scenario(
    profiles: tuple[Profile, ...], requests: Requests, delay_s: float, *, by_class: bool, rate_rps: float
) -> Scenario:
    degrees = tuple(profile.tp for profile in profiles)
    policy = Policy(
        KEY,
        profiles[0].models[0],
        replace(SLO, tiers=TIERS) if by_class else SLO,
        bounds=Bounds(1, 2 * NODES, tensor_parallel=degrees),
        knobs=Knobs(replicas=Knob.ACT, tensor_parallel=Knob.ACT, clock=Knob.ACT),
        pools=Pools(by_class=by_class),
    )
    nodes = tuple(Node(f"gpu-{i}", GPUS_PER_NODE, profiles[0].gpu_products[0]) for i in range(NODES))
    start = Want(KEY, degrees[-1], max(math.ceil(rate_rps / EACH_RPS), LEAST))
    return Scenario(
        name="steady",
        nodes=nodes,
        services=(Service(policy, profiles, start, GPUS_PER_NODE * len(nodes), requests),),
        truths=(profiles,),
        domains=(),
        settings=decide.Settings(),
        startup_s=STARTUP_S,
        telemetry_s=delay_s,
        duration_s=float(requests.arrival_s[-1]),
        drain_s=120.0,
        trace="Poisson",
    )
