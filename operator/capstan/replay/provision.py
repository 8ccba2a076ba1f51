"""Fleets that never move: the one sized for the mean load, and the smallest that meets the SLO at full clock.

Who calls it: `app.replay`, the rig's demo. Both are what people run today; the second is found with hindsight, which no
operator has (DESIGN 7.1, `single-pool`).
"""

from __future__ import annotations

import dataclasses

from capstan.model.workload import Workload
from capstan.optimize import sizing
from capstan.replay import engine, score
from capstan.replay.pool import room
from capstan.replay.runs import Run
from capstan.replay.scenario import Scenario, Service
from capstan.replay.systems import Fixed

MOST_REPLICAS = 64  # a search that gets here has an SLO that no count meets


def mean_load_replicas(scenario: Scenario) -> dict[str, int]:
    """Return the count per policy that carries its mean load inside the SLO at full clock."""
    return {service.policy.key: _for_mean(service, scenario.duration_s) for service in scenario.services}


def at_mean_load(scenario: Scenario) -> Fixed:
    """Return the system of CAPSTAN=off: sized for the mean load, full clock, no caps."""
    return Fixed("fixed", mean_load_replicas(scenario))


def single_pool(scenario: Scenario) -> Run:
    """Return the run of the smallest fleet at full clock that meets every SLO on this very trace.

    Found by search in the world, service by service (they share nothing but the rack, which caps nobody here).
    Where even the whole fleet misses an SLO the run of the largest count that fits is returned, and its score says so.
    """
    counts = {service.policy.key: _smallest(scenario, service) for service in scenario.services}
    return engine.run(scenario, Fixed("single-pool", counts))


def _for_mean(service: Service, duration_s: float) -> int:
    requests = service.requests
    load = Workload(
        arrival_rps=len(requests) / duration_s,
        prompt_tokens=max(sum(r.prompt_tokens for r in requests) / max(len(requests), 1), 1.0),
        output_tokens=max(sum(r.output_tokens for r in requests) / max(len(requests), 1), 1.0),
    )
    one_rps = sizing.capacity_rps(service.profile, load, service.policy.slo)
    return sizing.replicas_for(load.arrival_rps, one_rps) if one_rps > 0 else service.start_replicas


def _smallest(scenario: Scenario, service: Service) -> int:
    """Return the least count that meets one service's SLO, alone on the fleet; bisection, since more never hurts."""
    alone = dataclasses.replace(scenario, services=(service,), domains=())
    low, high = 1, max(min(room(scenario.nodes, service.profile), MOST_REPLICAS), 1)
    while low < high:
        middle = (low + high) // 2
        run = engine.run(alone, Fixed("single-pool", {service.policy.key: middle}))
        if score.of(run).slo_met:
            high = middle
        else:
            low = middle + 1
    return low
