"""What a node is to a ledger: a member with limits to be granted, or a stranger that counts at its worst case.

Who calls it: `granting`, `admission`. Pure. All watts that go into a ledger are whole: floors and worst cases rounded
up, what a budget has rounded down, so that a grant never says more than a limit holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from capstan.power.ports import AgentReport, GpuReport
from capstan.powercap import grants
from capstan.powercap.domains import Domain
from capstan.powercap.grants import Member

ROUNDING_W = 1e-6  # a float that should be a whole number of watts


def joins(gpus: tuple[GpuReport, ...]) -> bool:
    """Return whether a node's boards can hold a grant: each says the limit that it enforces and takes a lower one."""
    return bool(gpus) and all(
        gpu.enforced_limit_w is not None and 0 < gpu.min_power_w <= gpu.max_power_w for gpu in gpus
    )


def member(report: AgentReport, over: Iterable[Domain], *, high: bool) -> Member | None:
    """Return a node as a member; None: its boards cannot hold a grant, or it says nothing of what it kept.

    Its non-GPU watts and its supplies' efficiency are the worst that a domain above it states. Its least and greatest
    limit are moved up to the next whole watt of the grants that they stand for.
    """
    domains, gpus = tuple(over), report.gpus
    if report.kept is None or not joins(gpus) or not domains:
        return None
    return _whole(
        Member(
            node=report.node,
            domains=tuple(sorted(domain.name for domain in domains)),
            gpus=len(gpus),
            non_gpu_worst_w=max(domain.non_gpu_worst_w for domain in domains),
            supply_efficiency_ratio=min(domain.supply_efficiency_ratio for domain in domains),
            min_limit_w=max(gpu.min_power_w for gpu in gpus),
            max_limit_w=max(gpu.max_power_w for gpu in gpus),
            high=high,
        )
    )


@lru_cache(maxsize=65_536)  # each node is asked for by every domain above it, every second
def _whole(one: Member) -> Member:
    return replace(one, min_limit_w=_whole_up(one, one.min_limit_w), max_limit_w=_whole_up(one, one.max_limit_w))


def limit_w(one: Member, granted_w: float) -> int:
    """Return the whole board limit of a grant; at least the lowest that the boards accept."""
    return math.floor(max(grants.limit_w(one, granted_w), one.min_limit_w) + ROUNDING_W)


def enforced_w(one: Member, gpus: tuple[GpuReport, ...]) -> float | None:
    """Return the grant that a node's enforced limits amount to; None while one is not known or may not last."""
    limits_w = [
        gpu.enforced_limit_w for gpu in gpus if gpu.enforced_limit_w is not None and gpu.persistent is not False
    ]
    return grants.grant_w(one, max(limits_w)) if limits_w and len(limits_w) == len(gpus) else None


def whole_down(watts: float) -> float:
    """Return whole watts that are not more."""
    return float(math.floor(watts + ROUNDING_W))


def whole_up(watts: float) -> float:
    """Return whole watts that are not less."""
    return float(math.ceil(watts - ROUNDING_W))


def _whole_up(one: Member, board_limit_w: float) -> float:
    """Return the limit of the next whole grant at or above the one that a limit needs."""
    return grants.limit_w(replace(one, max_limit_w=math.inf), whole_up(grants.grant_w(one, board_limit_w)))
