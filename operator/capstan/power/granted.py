"""A domain under watt grants in one tick: what it must bear to be armed, what it draws, what it leaves.

Who calls it: `judge`. Pure. Grants hold open loop, so there is no level to choose: a domain is Normal, and says where
its limits bind, who holds watts in silence, and by how much it is short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from capstan.model.reasons import Reason
from capstan.power import caps, members
from capstan.power.admission import Admission
from capstan.power.heard import Heard
from capstan.power.ledgers import Book
from capstan.power.ports import AgentReport, GpuReport
from capstan.powercap import grants, safety
from capstan.powercap.domains import NO_CAPS, Domain, Level, SafeSetting, Step
from capstan.powercap.grants import Member
from capstan.powercap.readings import Samples

BINDS_S = 30.0  # a limit that held a board within so long binds: watts come and go within a second


@dataclass(slots=True)
class Binding:
    """When each board of a domain was last held by its limit, by node and index."""

    held_s: dict[tuple[str, int], float]

    def look(self, domain: Domain, heard: Heard, now_s: float) -> int:
        """Take the boards of now; return how many a limit below their largest held lately."""
        for node in domain.nodes:
            for gpu in heard.gpus(node):
                if _is_held(gpu):
                    self.held_s[node, gpu.index] = now_s
        self.held_s = {key: at_s for key, at_s in self.held_s.items() if now_s - at_s <= BINDS_S}
        return len(self.held_s)


def _is_held(gpu: GpuReport) -> bool:
    limit_w = gpu.enforced_limit_w
    if limit_w is None or gpu.power_w is None or limit_w > gpu.max_power_w - 1.0:
        return False
    return gpu.power_w >= grants.NEAR_RATIO * limit_w


def asked(domain: Domain, samples: Samples, reports: Mapping[str, AgentReport]) -> Admission:
    """Return the sums with which a domain may grant: a floor for every node, its worst case where it can hold none."""
    joining, strangers_w = _who(domain, samples, reports)
    least_w = sum(one.floor_w for one in joining) + sum(map(members.whole_up, strangers_w.values()))
    lowest_w = max((one.min_limit_w for one in joining), default=0.0)
    return Admission(
        safe=SafeSetting(caps.NO_LIMIT.clock_mhz, lowest_w),
        safe_sum_w=least_w,
        lost_node_w=least_w,
        nameplate_w=safety.worst_sum_w(domain, samples.of_nodes(domain.nodes)),
        budget_w=domain.budget_w,
        resident=True,
        strangers=tuple(strangers_w),
    )


def advice(domain: Domain, samples: Samples, reports: Mapping[str, AgentReport]) -> str:
    """Return what a domain that only advises would grant first, by its own budget alone; empty before it is known."""
    joining, strangers_w = _who(domain, samples, reports)
    first = grants.initial(joining, {domain.name: domain.budget_w - sum(strangers_w.values())})
    if not first:
        return ""
    watts = {one.node: members.whole_down(first[one.node]) for one in joining if one.node in first}
    limits = [members.limit_w(one, watts[one.node]) for one in joining if one.node in watts]
    return (
        f"in mode Act {len(watts)} of {len(domain.nodes)} nodes would be granted {min(watts.values()):.0f} to "
        f"{max(watts.values()):.0f} W first, limits of {min(limits)} to {max(limits)} W a board"
    )


def _who(domain: Domain, samples: Samples, reports: Mapping[str, AgentReport]) -> tuple[list[Member], dict[str, float]]:
    """Return the nodes that can hold a grant, and the worst case of those that cannot, AC watts."""
    inside = samples.of_nodes(domain.nodes)
    found = (members.member(reports[node], (domain,), high=False) for node in inside.nodes if node in reports)
    joining = [one for one in found if one is not None]
    known = {one.node for one in joining}
    worst_w = zip(inside.nodes, map(float, safety.worst_w(domain, inside)), strict=True)
    return joining, {node: watts for node, watts in worst_w if node not in known}


def counted(domain: Domain, samples: Samples, book: Book | None) -> Samples:
    """Return samples in which a node that is not heard draws what it holds: its limit is in the boards."""
    if book is None:
        return samples
    inside = samples.of_nodes(domain.nodes)
    held_w = np.array([book.holds_w.get(node, np.nan) for node in inside.nodes])
    dc_w = np.maximum(held_w * domain.supply_efficiency_ratio - domain.non_gpu_typical_w, 0.0)
    return replace(inside, heard_w=np.where(np.isnan(inside.heard_w), dc_w, inside.heard_w))


def stepped(
    domain: Domain, measured: Step, samples: Samples, reports: Mapping[str, AgentReport], book: Book | None
) -> Step:
    """Return the step of an armed domain whose budget grants hold.

    Args:
        domain: As judged.
        measured: Of the machine, disarmed, on `counted` samples: it sums up and decides nothing.
        samples: As they were heard.
        reports: Of its nodes.
        book: Its part of the ledger; None: not read yet.
    """
    inside = samples.of_nodes(domain.nodes)
    heard = frozenset(node for node, watts in zip(inside.nodes, inside.heard_w, strict=True) if not np.isnan(watts))
    short = book is not None and not book.fits
    return replace(
        measured,
        level=Level.NORMAL,
        caps=NO_CAPS,
        memory=replace(measured.memory, level=Level.NORMAL),
        headroom_w=_headroom_w(domain, measured, reports, heard, book),
        reason=Reason.ADMISSION_FAILED if short else Reason.BELOW_THRESHOLDS,
        missing=tuple(node for node in domain.nodes if node not in heard),
        beyond_brake=False,
    )


def _headroom_w(
    domain: Domain, measured: Step, reports: Mapping[str, AgentReport], heard: frozenset[str], book: Book | None
) -> float:
    """Return what may be drawn more at once: up to the limits in force; a shortfall where grants do not fit.

    A raise finds these watts without anybody's leave. What the budget has beyond them comes with the next allocation.
    """
    if book is not None and not book.fits:
        return book.budget_w - book.held_w
    room_w = sum(_room_w(gpu) for node in domain.nodes if node in heard for gpu in reports[node].gpus)
    return min(room_w / domain.supply_efficiency_ratio, measured.headroom_w)


def _room_w(gpu: GpuReport) -> float:
    if gpu.enforced_limit_w is None or gpu.power_w is None:
        return 0.0
    return max(gpu.enforced_limit_w - gpu.power_w, 0.0)
