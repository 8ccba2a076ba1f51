"""What stands ready when a run begins, the same for every system.

Who calls it: `replay.load`. Must not know: who decides afterwards.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from capstan import units
from capstan.forecast import peak
from capstan.model.policy import Policy
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Phase, Workload
from capstan.optimize import sizing
from capstan.replay.nodes import Node, Seats, room
from capstan.replay.runs import Requests
from capstan.replay.seen import Service, Want

FIRST_S = 10 * units.SECONDS_PER_MINUTE  # several times the longest start-up, so that no system begins with a debt
FIXED_MARGIN = 0.9  # of each limit (facts/dynamollm.md section 6: m ~ 0.9); the same for every system
SPARE = 1  # a replica more than the closed form asks for: bursts inside a minute, and whoever does not know the trace


def at_bounds(policy: Policy, profiles: tuple[Profile, ...]) -> Want:
    """Return the policy's least count at its smallest tp."""
    return Want(policy.key, profiles[0].tp, policy.bounds.min_replicas)


def sized(policy: Policy, profiles: tuple[Profile, ...], requests: Requests, nodes: tuple[Node, ...]) -> Want:
    """Return the tp and count with the least watts that carry the first ten minutes' peak inside the SLO, full clock.

    One replica more than that stands: it is where an autoscaler is switched on, not what it is judged by. A lone
    replica that leaves no room for another is no start where any other degree carries the load: nobody could leave it
    without a time in which none serves. Where no count does, as many replicas of the largest tp as the fleet and the
    bounds leave.
    """
    load = first_load(requests)
    rate_rps = peak.guarded_rps(load.arrival_rps, window_s=units.SECONDS_PER_MINUTE)
    best: tuple[tuple[bool, bool, float], Want] | None = None
    for profile in profiles:
        most = most_replicas(policy, profile, nodes)
        carrying = sizing.smallest(profile, load, policy.slo, peak_rps=rate_rps, near=1, margin=FIXED_MARGIN)
        count = most + 1 if carrying is None else carrying
        if count > most:
            continue
        spared = count + SPARE <= most  # a degree whose spare finds no room is only taken where none has
        count = min(max(count + SPARE, policy.bounds.min_replicas), most)
        point = sizing.point(profile, load.scaled(1 / count), policy.slo, replicas=count)
        watts = math.inf if point is None else point.gpu_w * profile.tp * count
        rank = (not spared, count == 1 and not spared, watts)
        if best is None or rank < best[0]:
            best = (rank, Want(policy.key, profile.tp, count))
    if best is not None:
        return best[1]
    largest = profiles[-1]
    return Want(policy.key, largest.tp, max(most_replicas(policy, largest, nodes), 1))


def for_peak(profile: Profile, requests: Requests, slo: Slo, phase: Phase = Phase.BOTH) -> int:
    """Return the replicas that carry the busiest minute of a whole trace inside the SLO at full clock, at least 1."""
    if not len(requests):
        return 1
    minutes = (requests.arrival_s / units.SECONDS_PER_MINUTE).astype(np.int64)
    rate_rps = peak.guarded_rps(
        int(np.bincount(minutes).max()) / units.SECONDS_PER_MINUTE, window_s=units.SECONDS_PER_MINUTE
    )
    load = requests.workload(rate_rps).of_phase(phase).coarse()
    return sizing.smallest(profile, load, slo, peak_rps=rate_rps, near=1, margin=FIXED_MARGIN) or 1


def shared(services: tuple[Service, ...], nodes: tuple[Node, ...]) -> tuple[Service, ...]:
    """Return services of which all that is to stand at the start has a place.

    Each was sized as if it had the fleet to itself. While they do not fit together, the one with most GPUs gives a
    replica up, down to its least count. Where even the least counts do not fit, what is left over stays pending.
    """
    wants = [service.start for service in services]
    least = [max(service.policy.bounds.min_replicas, 1) for service in services]
    while not _placed(services, wants, nodes):
        giving = [i for i, want in enumerate(wants) if want.replicas > least[i]]
        if not giving:
            break
        most = max(giving, key=lambda i: wants[i].tp * wants[i].replicas)
        wants[most] = replace(wants[most], replicas=wants[most].replicas - 1)
    return tuple(replace(service, start=want) for service, want in zip(services, wants, strict=True))


def _placed(services: tuple[Service, ...], wants: list[Want], nodes: tuple[Node, ...]) -> bool:
    """Return whether every replica that is wanted has a place, in the order in which the engine makes them."""
    seats = Seats(nodes)
    return all(
        seats.take(want.tp, service.profile(want.tp).gpu_products) is not None
        for service, want in zip(services, wants, strict=True)
        for _ in range(want.replicas)
    )


def first_load(requests: Requests) -> Workload:
    """Return the rate of the busiest of a trace's first ten minutes, and their lengths; of all of it where nobody came.

    Lengths vary as they do there: documents of 70,000 tokens, all alike, wait far less for each other than a mix would.
    """
    early = requests.arrival_s < FIRST_S
    first = early if early.any() else ~early
    held = Requests(requests.arrival_s[first], requests.prompt_tokens[first], requests.output_tokens[first])
    busiest = int(np.bincount((held.arrival_s / units.SECONDS_PER_MINUTE).astype(np.int64)).max())
    return held.workload(busiest / units.SECONDS_PER_MINUTE)


def most_replicas(policy: Policy, profile: Profile, nodes: tuple[Node, ...]) -> int:
    """Return how many replicas of a profile bounds and fleet leave."""
    return min(room(nodes, profile), policy.bounds.most_replicas(profile.tp))
