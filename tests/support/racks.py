"""Racks in virtual time: services on servers behind armed power domains whose budgets are cut, and what Capstan did.

The round-numbered engine of 4 GPUs: one replica carries 5.8 requests a second of these lengths at full clock, 4.7 at
the deep cap of low priority.
"""

from __future__ import annotations

import dataclasses
import random

import numpy as np

from capstan import decide
from capstan.model import plan
from capstan.model.policy import Bounds, Priority
from capstan.powercap.domains import Domain, SafeSetting
from capstan.replay import engine, systems
from capstan.replay.nodes import Node
from capstan.replay.runs import Floats, Requests, Run, ServiceRun
from capstan.replay.scenario import BudgetCut, Scenario
from capstan.replay.seen import Seen, Service, Want
from support import builders, small

AMPLE_W = 20_000.0  # two servers of 8 GPUs draw half of it
TIGHT_W = 7_800.0  # sixteen busy GPUs are above its low threshold at any clock of the ladder
STARTUP_S = 60.0
SETTINGS = decide.Settings(cluster_period_s=300.0, pool_period_s=60.0, instance_period_s=5.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """A service: how many requests a second from which moment on, and what it starts with."""

    key: str
    priority: Priority
    rates: tuple[tuple[float, float], ...]  # (from, requests a second), ascending
    replicas: int = 2
    most: int = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Cycle:
    """One decision for one service, and what it was shown."""

    now_s: float
    decided: plan.PolicyDecision
    capped: bool
    waiting: int
    ready_by_rack: dict[str, int]
    by_rack: dict[str, int]

    @property
    def shape(self) -> tuple[tuple[int, float | None], ...]:
        """Replicas and clock."""
        return tuple((pool.replicas, pool.clock_cap_mhz) for pool in self.decided.pools)


class Recording(systems.Capstan):
    """Capstan, and every decision of it."""

    cycles: dict[str, list[Cycle]]

    def decide(self, seen: Seen) -> plan.Decision:
        """Decide, and remember it with what was shown."""
        decision = super().decide(seen)
        services = {one.policy: one for one in seen.services}
        places = dict(seen.places)
        for decided in decision.policies:
            own = places.get(decided.policy, ())
            self.cycles.setdefault(decided.policy, []).append(
                Cycle(
                    seen.now_s,
                    decided,
                    decided.policy in seen.capped,
                    sum(replica.waiting for replica in services[decided.policy].replicas),
                    {place.domain: place.ready for place in own},
                    {place.domain: place.ready + place.starting for place in own},
                )
            )
        return decision


@dataclasses.dataclass(frozen=True, slots=True)
class Played:
    """A run with what was decided in it."""

    run: Run
    cycles: dict[str, list[Cycle]]

    def between(self, key: str, from_s: float, to_s: float) -> list[Cycle]:
        """The decisions for a service in a span of time."""
        return [cycle for cycle in self.cycles[key] if from_s <= cycle.now_s < to_s]

    def service(self, key: str) -> ServiceRun:
        """What became of a service's requests."""
        return next(service for service in self.run.services if service.policy == key)

    def good(self, key: str, from_s: float, to_s: float) -> tuple[float, float]:
        """Shares of the requests that arrived in a span: answered, and answered inside both limits."""
        outcomes, slo = self.service(key).outcomes, self.service(key).slo
        arrival_s: Floats = outcomes.requests.arrival_s
        own = (arrival_s >= from_s) & (arrival_s < to_s)
        answered = np.isfinite(outcomes.finish_s)
        tokens = np.maximum(outcomes.requests.output_tokens - 1, 1)
        tpot_s = (outcomes.finish_s - outcomes.first_s) / tokens
        kept = answered & (outcomes.first_s - arrival_s <= slo.ttft_s) & (tpot_s <= slo.tpot_s)
        return float(answered[own].mean()), float(kept[own].mean())


def play(
    loads: tuple[Load, ...], cuts: tuple[BudgetCut, ...], *, span_s: float, racks: int = 1, servers: int = 2
) -> Played:
    """Play services on racks of a few servers, each an armed domain."""
    nodes = tuple(Node(f"gpu-{i}", 8, builders.H100) for i in range(servers * racks))
    services = tuple(_service(load, span_s, gpus=8 * servers * racks) for load in loads)
    scenario = Scenario(
        name="racks",
        nodes=nodes,
        services=services,
        truths=((small.TP4,),) * len(services),
        domains=tuple(_rack(i, nodes[servers * i : servers * (i + 1)]) for i in range(racks)),
        settings=SETTINGS,
        startup_s=STARTUP_S,
        telemetry_s=5.0,
        duration_s=span_s,
        drain_s=120.0,
        trace="made up",
        cuts=cuts,
    )
    system = Recording(scenario.policies, scenario.profiles, scenario.settings, delay_s=scenario.telemetry_s)
    system.cycles = {}
    return Played(engine.run(scenario, system), system.cycles)


def cut(t_s: float, rack: int = 0, budget_w: float = TIGHT_W) -> BudgetCut:
    """A rack's budget from a moment on."""
    return BudgetCut(t_s, f"rack-{rack}", budget_w)


def _rack(index: int, nodes: tuple[Node, ...]) -> Domain:
    names = tuple(node.name for node in nodes)
    return Domain(f"rack-{index}", AMPLE_W, armed=True, nodes=names, safe=SafeSetting(1560, 300.0))


def _service(load: Load, span_s: float, *, gpus: int) -> Service:
    bounds = Bounds(1, load.most, tensor_parallel=(4,))
    policy = builders.policy(load.key, priority=load.priority, bounds=bounds)
    return Service(policy, (small.TP4,), Want(load.key, 4, load.replicas), gpus, _arrivals(load, span_s))


def _arrivals(load: Load, span_s: float) -> Requests:
    """Poisson arrivals at each rate in turn; exponential lengths of 1,000 and 200 tokens on average."""
    chance = random.Random(load.key)  # noqa: S311 - a simulation, not a secret
    ends = [*(at_s for at_s, _ in load.rates[1:]), span_s]
    rows: list[tuple[float, int, int]] = []
    for (at_s, rate_rps), end_s in zip(load.rates, ends, strict=True):
        t_s = at_s + chance.expovariate(rate_rps)
        while t_s < end_s:
            rows.append((t_s, 1 + int(chance.expovariate(1 / 1000)), 1 + int(chance.expovariate(1 / 200))))
            t_s += chance.expovariate(rate_rps)
    arrival_s, prompts, outputs = zip(*rows, strict=True)
    return Requests(np.array(arrival_s), np.array(prompts, dtype=np.int64), np.array(outputs, dtype=np.int64))
