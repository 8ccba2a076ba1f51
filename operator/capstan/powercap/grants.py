"""Watt grants: which board limit keeps a node inside one, and how a tree's watts are shared out (DESIGN 4, Guaranteed).

Who calls it: the leader of a domain whose strategy is Guaranteed, live and in replay. What is safe to hand over, and
when, is `ledger`'s; here is only what would be good to have. Must not know: agents, versions, time.

A grant is AC watts of one node, its supplies' losses included. Grants that add up to a budget hold it open loop: no
sample, no controller and no process needs to be there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

GAIN_ERROR_RATIO = 0.05  # DESIGN 4: e, a board's limiter regulates on its own sensor, which may read 5 % low
TRANSIENT_RATIO = 0.03  # DESIGN 4: d, of the grant: what a limiter lets through before it acts
NEAR_RATIO = 0.95  # boards that draw this much of their limit are held by it; a free one has more air
ROOM_RATIO = (
    1.10  # a free node keeps this much above its busiest second: times NEAR_RATIO still above 1, so it stays free
)
GROWTH_RATIO = 1.15  # a node held by its limit asks for so much more: five rounds double a limit
DEAD_RATIO = 0.02  # of a grant: who is short by less is not short, sensors' noise is 1 % of a node


@dataclass(frozen=True, slots=True)
class Member:
    """A node that takes part, and what bounds its grant.

    Attributes:
        domains: Every domain that it stands in, up to the root.
        non_gpu_worst_w: DC watts of everything but its GPUs, at worst.
        min_limit_w, max_limit_w: What its boards accept.
        high: High priority: served first, gives last.
    """

    node: str
    domains: tuple[str, ...]
    gpus: int
    non_gpu_worst_w: float
    supply_efficiency_ratio: float
    min_limit_w: float
    max_limit_w: float
    high: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.min_limit_w <= self.max_limit_w or self.gpus < 1:
            raise ValueError(f"{self.node}: boards need 0 < min limit <= max limit, and there is at least one")

    @property
    def floor_w(self) -> float:
        """Return the least grant with which the node may join."""
        return grant_w(self, self.min_limit_w)

    @property
    def ceiling_w(self) -> float:
        """Return the grant beyond which more changes nothing."""
        return grant_w(self, self.max_limit_w)


def limit_w(member: Member, granted_w: float) -> float:
    """Return the board limit that keeps a node inside its grant, at most what its boards accept.

    L = (eta grant (1 - d) - W_other_max) / (n (1 + e)). Below the boards' minimum the node does not join (`joins`).
    Example: (0.94 x 8,000 W x 0.97 - 4,000 W) / (8 x 1.05) = 392.2 W.
    """
    gpus_w = member.supply_efficiency_ratio * granted_w * (1 - TRANSIENT_RATIO) - member.non_gpu_worst_w
    return min(gpus_w / (member.gpus * (1 + GAIN_ERROR_RATIO)), member.max_limit_w)


def grant_w(member: Member, board_limit_w: float) -> float:
    """Return the least grant that allows a board limit; also what a node at that limit counts for, at worst."""
    dc_w = board_limit_w * member.gpus * (1 + GAIN_ERROR_RATIO) + member.non_gpu_worst_w
    return dc_w / (member.supply_efficiency_ratio * (1 - TRANSIENT_RATIO))


def joins(member: Member, granted_w: float) -> bool:
    """Return whether a grant is enough for the lowest limit that the node's boards accept."""
    return limit_w(member, granted_w) >= member.min_limit_w - 1e-9  # a rounding is no reason to stay out


def initial(members: Sequence[Member], budgets_w: Mapping[str, float]) -> dict[str, float]:
    """Return the first division: a floor for each node that fits, then the same watts more for all of them.

    High priority joins first, then by name, so that every leader divides alike. Who does not fit has no grant.
    """
    spare_w = dict(budgets_w)
    joined: list[Member] = []
    for member in sorted(members, key=lambda one: (not one.high, one.node)):
        if all(spare_w[domain] >= member.floor_w for domain in member.domains):
            joined.append(member)
            for domain in member.domains:
                spare_w[domain] -= member.floor_w
    tree = _Tree(joined, budgets_w)
    filled = tree.filled(tree.floors_w, tree.ceilings_w, np.arange(len(joined)))
    return {member.node: float(granted) for member, granted in zip(joined, filled, strict=True)}


def ask_w(member: Member, granted_w: float, boards_w: float) -> float:
    """Return the grant that a node would like, from the most that one of its boards drew lately.

    Args:
        member: The node.
        granted_w: What it has.
        boards_w: DC watts, mean of its boards, the highest second of the last while.
    """
    held_w = min(max(limit_w(member, granted_w), member.min_limit_w), member.max_limit_w)
    wanted_w = held_w * GROWTH_RATIO if boards_w >= NEAR_RATIO * held_w else boards_w * ROOM_RATIO
    return grant_w(member, min(max(wanted_w, member.min_limit_w), member.max_limit_w))


def allocate(
    members: Sequence[Member],
    budgets_w: Mapping[str, float],
    granted_w: Mapping[str, float],
    asks_w: Mapping[str, float],
) -> dict[str, float]:
    """Return the grants to move towards.

    In this order: a floor for everybody, what high priority asks for, what low priority asks for, what each has
    already, the rest for all alike. So donors give only what somebody needs, those with air first, then low priority
    down to its floor. Where the grants in force fit and nobody is short, they are returned as they are.

    Args:
        members: Nodes that hold a grant.
        budgets_w: AC watts that each domain has for them; what silent nodes hold is off already.
        granted_w: What they have.
        asks_w: What they would like (`ask_w`).
    """
    tree = _Tree(members, budgets_w)
    now_w = np.array([granted_w[member.node] for member in members])
    asked_w = np.clip([asks_w[member.node] for member in members], tree.floors_w, tree.ceilings_w)
    high = np.array([member.high for member in members], dtype=bool)
    wanted_w = tree.floors_w
    for goal_w, who in (
        (asked_w, np.flatnonzero(high)),
        (asked_w, np.flatnonzero(~high)),
        (now_w, np.arange(len(members))),
        (tree.ceilings_w, np.arange(len(members))),
    ):
        wanted_w = tree.filled(wanted_w, goal_w, who)
    short = (asked_w > now_w * (1 + DEAD_RATIO)) & (wanted_w > now_w * (1 + DEAD_RATIO))
    if tree.holds(now_w) and not short.any():
        wanted_w = now_w
    return {member.node: float(watts) for member, watts in zip(members, wanted_w, strict=True)}


class _Tree:
    """Members as columns, and which of the domains each stands in."""

    def __init__(self, members: Sequence[Member], budgets_w: Mapping[str, float]) -> None:
        self.floors_w = np.array([member.floor_w for member in members])
        self.ceilings_w = np.array([member.ceiling_w for member in members])
        names = sorted(budgets_w)
        self._inside = np.array([[name in member.domains for member in members] for name in names], dtype=np.float64)
        self._inside = self._inside.reshape(len(names), len(members))
        self._budgets_w = np.array([budgets_w[name] for name in names])

    def holds(self, watts: Floats) -> bool:
        """Return whether every domain has room for these grants."""
        return bool(np.all(self._inside @ watts <= self._budgets_w + 1e-6))

    def filled(self, watts: Floats, goals_w: Floats, who: Indices) -> Floats:
        """Return the grants with `who` raised alike until each is at its goal or under a full domain."""
        filled = watts.copy()
        active = np.zeros(len(watts), dtype=bool)
        active[who] = goals_w[who] > watts[who] + 1e-9
        while active.any():
            spare_w = self._budgets_w - self._inside @ filled
            taking = self._inside @ active
            busy = taking > 0
            per_domain_w = np.where(busy, np.maximum(spare_w, 0.0) / np.where(busy, taking, 1.0), np.inf)
            rise_w = min(float((goals_w - filled)[active].min()), float(per_domain_w.min(initial=np.inf)))
            filled[active] += rise_w
            full = self._inside.T @ (busy & (per_domain_w <= rise_w + 1e-9)) > 0
            active &= ~full & (goals_w > filled + 1e-9)
        return filled
