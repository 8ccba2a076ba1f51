"""Replicas that no node has room for: what else the same GPUs can be, until room may have come.

Who calls it: `decide`, every cycle. Must not know: nodes; the scheduler knows them, and says who stays pending.

GPUs that are free are of use to a replica only where enough of them lie on one node. What waits for such a place serves
nobody: the same GPUs serve as replicas of the next smaller degree, which fit between the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from capstan.model import plan
from capstan.model.reasons import Reason
from capstan.optimize import fleets, replicas
from capstan.optimize.case import Case

Unplaced = tuple[tuple[int, float], ...]
"""Degrees that no node had room for, each with when that was seen last."""


def noted(unplaced: Unplaced, cases: Sequence[Case]) -> Unplaced:
    """Return the degrees of a policy that are known to find no room, with those of this cycle.

    A degree is one of them once its replicas pend for as long as one takes to start: what is drained for them has gone
    by then. Once that is longer ago than rates are remembered it is worth asking again. The smallest degree never is
    one: where it does not fit nothing does, and it stays pending until something goes.
    """
    case = cases[0]
    degrees = sorted({profile.tp for profile in case.profiles})[1:]
    last_s = {tp: seen_s for tp, seen_s in unplaced if case.now_s - seen_s < case.settings.lookback_s}
    last_s |= {tp: case.now_s for one in cases for tp in _pending(one)}
    return tuple(sorted((tp, seen_s) for tp, seen_s in last_s.items() if tp in degrees))


def fitted(case: Case, fleet: plan.Fleet, unplaced: Unplaced, spare: int | None) -> plan.Fleet:
    """Return a fleet in which replicas without a place are as many GPUs of the next smaller degree.

    A degree has no place where it is known to have found none, and where its new replicas ask for more GPUs than are
    `spare` (`share.spare`): others have to go first, and what they leave need not lie on one node.

    Example: two of tp 8, one of which has no place, are one of tp 8 and two of tp 4. No more replicas than the bounds
    allow.
    """
    counts = dict(fleet)
    nowhere = {tp for tp, _ in unplaced}
    for tp in sorted({profile.tp for profile in case.profiles}, reverse=True):
        smaller = max((profile.tp for profile in case.profiles if profile.tp < tp), default=None)
        lacking = max(counts.get(tp, 0) - _placed(case, tp), 0)
        scattered = spare is not None and lacking * tp > spare
        if smaller is not None and lacking and (tp in nowhere or scattered):
            counts[tp] -= lacking
            room = case.policy.bounds.max_replicas - sum(counts.values())
            counts[smaller] = counts.get(smaller, 0) + min(lacking * tp // smaller, max(room, 0))
    return fleets.of(counts)


def chosen(case: Case, sized: replicas.Choice, unplaced: Unplaced, spare: int | None) -> replicas.Choice:
    """Return the choice of replicas, or what of it fits between the others where something of it has no place."""
    fleet = fitted(case, sized.fleet, unplaced, spare)
    if fleet == sized.fleet:
        return sized
    stands_s = case.memory.fleet_since_s if case.memory.fleet == fleet else None
    since_s = case.now_s if stands_s is None else stands_s
    return dataclasses.replace(sized, fleet=fleet, reason=Reason.INSUFFICIENT_GPUS, since_s=since_s)


def _pending(case: Case) -> Iterable[int]:
    """Return the degrees of a pool that have pended for a start-up."""
    since_s = case.memory.fleet_since_s
    if since_s is None or case.now_s - since_s < case.startup_s:
        return ()
    return (pool.tp for pool in case.pools if pool.pending)


def _placed(case: Case, tp: int) -> int:
    """Return the replicas of a degree that have their GPUs."""
    return sum(pool.ready + pool.starting - pool.pending for pool in case.pools if pool.tp == tp)
