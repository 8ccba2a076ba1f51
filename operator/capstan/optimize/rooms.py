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


def of(
    policy: Policy,
    wanted: Sequence[plan.Fleet],
    standing: Sequence[plan.Fleet],
    limit: int | None,
    *,
    smallest_tp: int,
) -> tuple[Room, ...]:
    """Return what each pool may have where all together want more than there is; nothing where all of it fits."""
    gpus, held_gpus = ([fleets.gpus(one) for one in of_each] for of_each in (wanted, standing))
    counts, held_counts = ([fleets.replicas(one) for one in of_each] for of_each in (wanted, standing))
    most, budget_w = policy.bounds.max_replicas, policy.power_budget_w
    fits = (limit is None or sum(gpus) <= limit) and sum(counts) <= most
    if len(wanted) == 1 or (fits and budget_w is None):
        return ()
    allowed: list[int | None] = [None] * len(wanted)
    if limit is not None:
        allowed = [*_dealt(gpus, held_gpus, limit, smallest_tp)]
    watts = [None if budget_w is None else budget_w * own / max(sum(gpus), 1) for own in gpus]
    return tuple(Room(*room) for room in zip(allowed, _dealt(counts, held_counts, most, 1), watts, strict=True))


def _dealt(wanted: Sequence[int], standing: Sequence[int], most: int, least: int) -> list[int]:
    """Return what is wanted where it fits; else what each has and still wants, and the rest by how much more it wants.

    A pool that grows takes nothing from one that needs what it has: that would be late at once, and the other is late
    anyway. Where not even that fits, all share by what they want, `least` each first.
    """
    if sum(wanted) <= most:
        return [max(own, least) for own in wanted]
    kept = [max(min(own, has), least) for own, has in zip(wanted, standing, strict=True)]
    if sum(kept) > most:
        kept = [least] * len(wanted)
    more = [max(own - has, 0) for own, has in zip(wanted, kept, strict=True)]
    free = max(most - sum(kept), 0)
    return [has + free * own // max(sum(more), 1) for has, own in zip(kept, more, strict=True)]


def held(case: cases.Case, room: Room) -> cases.Case:
    """Return a case of one of several pools with what it may have of all."""
    bounds = dataclasses.replace(case.policy.bounds, max_replicas=max(room.replicas, case.policy.bounds.min_replicas))
    policy = dataclasses.replace(case.policy, bounds=bounds, power_budget_w=room.power_w)
    return dataclasses.replace(case, policy=policy, most_gpus=room.gpus, beside_gpus=0)
