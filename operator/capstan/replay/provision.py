"""The fleet of CAPSTAN=off: sized once for the mean load, at full clock, and then left alone.

Who calls it: `replay.play`, the rig's demo. `searches.hindsight` has the fleets that are chosen with hindsight.
"""

from __future__ import annotations

from capstan.model.workload import Workload
from capstan.optimize import sizing
from capstan.replay.scenario import Scenario
from capstan.replay.seen import Service, Want
from capstan.replay.systems import Fixed


def mean_load_replicas(scenario: Scenario) -> dict[str, int]:
    """Return the count per policy that carries its mean load inside the SLO at full clock."""
    return {service.policy.key: _for_mean(service, scenario.duration_s) for service in scenario.services}


def at_mean_load(scenario: Scenario) -> Fixed:
    """Return the system that stands at those counts, each at the degree that its scenario starts with."""
    counts = mean_load_replicas(scenario)
    wants = [Want(s.policy.key, s.start.tp, counts[s.policy.key]) for s in scenario.services]
    return Fixed("fixed", wants)


def _for_mean(service: Service, duration_s: float) -> int:
    requests = service.requests
    load = Workload(
        arrival_rps=len(requests) / duration_s,
        prompt_tokens=max(float(requests.prompt_tokens.mean()), 1.0),
        output_tokens=max(float(requests.output_tokens.mean()), 1.0),
    )
    one_rps = sizing.capacity_rps(service.profile(service.start.tp), load, service.policy.slo)
    return sizing.replicas_for(load.arrival_rps, one_rps) if one_rps > 0 else service.start.replicas
