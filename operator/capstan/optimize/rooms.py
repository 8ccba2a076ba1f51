"""What each of several pools may have of what its policy has: GPUs, replicas and watts.

Who calls it: `decide`, where the pools of a policy want more together than there is. Must not know: scenes, clocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from capstan.model import plan
from capstan.model.policy import Policy
from capstan.optimize import case as cases
from capstan.optimize import fleets


@dataclasses.dataclass(frozen=True, slots=True)
class Room:
    """What one of several pools may have of what its policy has."""

    gpus: int | None
    replicas: int
    power_w: float | None


def of(policy: Policy, wanted: Sequence[plan.Fleet], limit: int | None, *, smallest_tp: int) -> tuple[Room, ...]:
    """Return what each pool may have where all together have more than there is; nothing where all of it fits."""
    gpus = [fleets.gpus(one) for one in wanted]
    counts = [fleets.replicas(one) for one in wanted]
    most, budget_w = policy.bounds.max_replicas, policy.power_budget_w
    fits = (limit is None or sum(gpus) <= limit) and sum(counts) <= most
    if len(wanted) == 1 or (fits and budget_w is None):
        return ()
    allowed: list[int | None] = [limit] * len(wanted) if limit is None else [*_dealt(gpus, limit, smallest_tp)]
    watts = [None if budget_w is None else budget_w * own / max(sum(gpus), 1) for own in gpus]
    return tuple(Room(*room) for room in zip(allowed, _dealt(counts, most, 1), watts, strict=True))


def _dealt(wanted: Sequence[int], most: int, least: int) -> list[int]:
    """Return `most` in proportion to what is wanted, `least` each first; what is wanted where it fits."""
    if sum(wanted) <= most:
        return [max(own, least) for own in wanted]
    over = [max(own - least, 0) for own in wanted]
    free = max(most - least * len(wanted), 0)
    return [least + free * own // max(sum(over), 1) for own in over]


def held(case: cases.Case, room: Room) -> cases.Case:
    """Return a case of one of several pools with what it may have of all."""
    bounds = dataclasses.replace(case.policy.bounds, max_replicas=max(room.replicas, case.policy.bounds.min_replicas))
    policy = dataclasses.replace(case.policy, bounds=bounds, power_budget_w=room.power_w)
    return dataclasses.replace(case, policy=policy, most_gpus=room.gpus)
