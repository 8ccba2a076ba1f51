"""Whether a domain may be armed, with which safe setting, and whether a deleted one may be let go: the arithmetic.

Who calls it: `judge`. Admission is asked on the way from Disarmed to armed only (DESIGN 2); an armed domain whose safe
sum no longer fits goes to Brake and stays armed, which is the machine's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from capstan.power.ports import GpuReport
from capstan.powercap import safety
from capstan.powercap.domains import Domain, SafeSetting, tightest_safe
from capstan.powercap.readings import Samples


@dataclass(frozen=True, slots=True)
class Admission:
    """The sums of a domain, AC watts.

    Attributes:
        safe: The safe setting that goes with them.
        safe_sum_w: Every node at `safe`.
        lost_node_w: The same with the largest node uncontrolled (N-1).
        nameplate_w: Nobody in control.
        budget_w: What they must fit.
        resident: The boards keep their limit without a process, so no node can be lost to it: the safe sum alone
            must fit, and the limit holds at every level.
        strangers: Under grants: nodes whose boards can hold none, and that count at their worst case.
    """

    safe: SafeSetting
    safe_sum_w: float
    lost_node_w: float
    nameplate_w: float
    budget_w: float
    resident: bool = False
    strangers: tuple[str, ...] = ()

    @property
    def needed_w(self) -> float:
        """AC watts that the budget must cover."""
        return self.safe_sum_w if self.resident else self.lost_node_w

    @property
    def fits(self) -> bool:
        """Return whether the domain may be armed."""
        return self.needed_w <= self.budget_w

    @property
    def released_fits(self) -> bool:
        """Return whether the budget holds with nobody in control."""
        return self.nameplate_w <= self.budget_w


def asked(domain: Domain, samples: Samples, gpus: Iterable[GpuReport]) -> Admission:
    """Return the admission of a domain with its budget: by N-1, else by limits that the boards keep themselves."""
    inside = samples.of_nodes(domain.nodes)
    found = safety.admit(domain, inside)
    made = Admission(
        safe=found.safe,
        safe_sum_w=found.safe_sum_w,
        lost_node_w=found.lost_node_w,
        nameplate_w=safety.worst_sum_w(domain, inside),
        budget_w=domain.budget_w,
    )
    known = tuple(gpus)
    if made.fits or not known or not all(gpu.persistent for gpu in known):
        return made
    safe = _highest(domain, inside)
    return replace(made, safe=safe, safe_sum_w=safety.safe_sum_w(domain, inside, safe), resident=True)


def refusal(admission: Admission, nodes: int) -> str:
    """Return why a domain is not armed, as arithmetic and fixes."""
    short_w = admission.needed_w - admission.budget_w
    lost = "" if admission.resident else " with one of them lost"
    return (
        f"{nodes} nodes at {admission.safe.power_limit_w:.0f} W a board draw up to {admission.safe_sum_w:.0f} W, "
        f"{admission.needed_w:.0f} W{lost}: {short_w:.0f} W above spec.budgetWatts as declared and reduced "
        f"({admission.budget_w:.0f} W); raise it, take nodes out, or state a smaller nonGPUWattsPerNode.worstCase"
    )


def refused_grants(admission: Admission, nodes: int) -> str:
    """Return why a domain is not armed with grants, as arithmetic and fixes."""
    odd = admission.strangers
    limited = f"{nodes - len(odd)} of {nodes} nodes at {admission.safe.power_limit_w:.0f} W a board"
    rest = f" and {len(odd)} that can hold no grant ({', '.join(odd[:3])}) at their worst" if odd else ""
    return (
        f"{limited}{rest} draw up to {admission.needed_w:.0f} W: {admission.needed_w - admission.budget_w:.0f} W above "
        f"spec.budgetWatts as declared and reduced ({admission.budget_w:.0f} W), so there is no grant for each; raise "
        "it, take nodes out, or state a smaller nonGPUWattsPerNode.worstCase"
    )


def short_of_grants(admission: Admission) -> str:
    """Return by how much an armed domain cannot grant every node its least."""
    return (
        f"the least grants of its nodes are {admission.needed_w:.0f} W, "
        f"{admission.needed_w - admission.budget_w:.0f} W above {admission.budget_w:.0f} W: "
        "every board is at its lowest limit; raise the budget or take nodes out"
    )


def shortfall(admission: Admission) -> str:
    """Return by how much an armed domain's safe sum exceeds its budget."""
    return (
        f"in the safe setting the domain draws up to {admission.safe_sum_w:.0f} W, "
        f"{admission.safe_sum_w - admission.budget_w:.0f} W above {admission.budget_w:.0f} W: "
        "it brakes and stays armed; raise the budget or take nodes out"
    )


def too_deep(admission: Admission, from_s: float) -> str:
    """Return what an armed domain does about a reduction that is below its safe sum; `from_s` is wall time."""
    due = datetime.fromtimestamp(from_s, UTC).isoformat(timespec="seconds")
    return (
        f"the reduction of {due} leaves {admission.budget_w:.0f} W, in the safe setting the domain draws up to "
        f"{admission.safe_sum_w:.0f} W: from when its ramp passes that the domain brakes and stays armed; "
        "raise the reduction's budgetWatts or take nodes out"
    )


def kept(admission: Admission) -> str:
    """Return why a deleted domain still holds its nodes."""
    return (
        f"without caps its nodes draw up to {admission.nameplate_w:.0f} W, "
        f"{admission.nameplate_w - admission.budget_w:.0f} W above the budget of {admission.budget_w:.0f} W: "
        "the caps stay; take nodes out, or set spec.mode to Advise to release them all the same"
    )


def safe_of(before: SafeSetting | None, admission: Admission | None, *, whole: bool) -> SafeSetting | None:
    """Return the safe setting to hold: what was admitted; never looser while a node was not heard yet."""
    if admission is None:
        return before
    if whole or before is None:
        return admission.safe
    return tightest_safe((before, admission.safe))


def _highest(domain: Domain, inside: Samples) -> SafeSetting:
    """Return the highest whole board limit whose safe sum fits; the lowest that the boards accept where none does."""
    clock_mhz = domain.caps.low_deep_mhz
    low = int(inside.min_limit_w.max(initial=0.0))
    high = int((inside.worst_case_w / inside.gpus.clip(min=1)).max(initial=0.0))
    while low < high:
        middle = (low + high + 1) // 2
        if safety.safe_sum_w(domain, inside, SafeSetting(clock_mhz, middle)) <= domain.budget_w:
            low = middle
        else:
            high = middle - 1
    return SafeSetting(clock_mhz, float(low))
