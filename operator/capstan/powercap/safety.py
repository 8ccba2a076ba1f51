"""The safe setting of a domain: the board limit at which its worst case fits the budget, and whether there is one.

Who calls it: `power` before it arms a domain and whenever budget or nodes change; `step`, which brakes an armed
domain whose safe sum no longer fits. Must not know: what the nodes draw now, only what they could.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from capstan.powercap.domains import Domain, SafeSetting
from capstan.powercap.readings import Floats, Samples

OVERSHOOT_RATIO = 1.05
"""A board may draw 5 % over its limit: the limiter regulates on the board's own sensor (DESIGN 4, gain error e)."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a domain may be armed, and the arithmetic (DESIGN 2).

    Attributes:
        safe: The safe setting: the highest board limit that fits N-1, else the lowest that the boards accept.
        safe_sum_w: AC watts with every node at `safe`.
        lost_node_w: The same with the largest node uncontrolled at its worst case (N-1).
    """

    safe: SafeSetting
    safe_sum_w: float
    lost_node_w: float
    budget_w: float

    @property
    def fits(self) -> bool:
        """Return whether the budget holds with any one node lost."""
        return self.lost_node_w <= self.budget_w


def worst_w(domain: Domain, samples: Samples) -> Floats:
    """Return AC watts of nodes that nobody controls: every board at its largest limit, and over it."""
    return _ac_w(domain, samples.worst_case_w)


def worst_sum_w(domain: Domain, samples: Samples) -> float:
    """Return AC watts of the domain when nobody controls any node: the sum of `worst_w`, without its columns."""
    return _ac_sum_w(domain, samples.worst_case_w)


def safe_w(domain: Domain, samples: Samples, safe: SafeSetting) -> Floats:
    """Return AC watts of nodes at the safe setting, in the worst case."""
    return _ac_w(domain, _limits_w(samples, safe))


def safe_sum_w(domain: Domain, samples: Samples, safe: SafeSetting) -> float:
    """Return AC watts of the domain with every node at the safe setting, in the worst case."""
    return _ac_sum_w(domain, _limits_w(samples.of_nodes(domain.nodes), safe))


def lost_node_w(domain: Domain, samples: Samples, safe: SafeSetting) -> float:
    """Return the safe sum with the node whose loss costs most at its worst case instead (N-1)."""
    inside = samples.of_nodes(domain.nodes)
    each_w = safe_w(domain, inside, safe)
    return float(each_w.sum() + (worst_w(domain, inside) - each_w).max(initial=0.0))


def admit(domain: Domain, samples: Samples) -> Admission:
    """Return the safe setting that a domain's budget allows, and whether it may be armed with it.

    A domain with a safe setting of its own keeps it; else the clock is the deep cap of low priority and the limit is
    searched in whole watts.

    Args:
        domain: Its budget, supplies and non-GPU watts count.
        samples: One row per node; only what the node could draw counts, not what it draws.
    """
    safe = domain.safe or _derived(domain, samples.of_nodes(domain.nodes))
    return Admission(
        safe=safe,
        safe_sum_w=safe_sum_w(domain, samples, safe),
        lost_node_w=lost_node_w(domain, samples, safe),
        budget_w=domain.budget_w,
    )


def _derived(domain: Domain, inside: Samples) -> SafeSetting:
    clock_mhz = domain.caps.low_deep_mhz
    low = int(inside.min_limit_w.max(initial=0.0))
    high = int((inside.worst_case_w / np.maximum(inside.gpus, 1)).max(initial=0.0))
    while low < high:  # the sum rises with the limit: bisection for the highest that fits
        middle = (low + high + 1) // 2
        if lost_node_w(domain, inside, SafeSetting(clock_mhz, middle)) <= domain.budget_w:
            low = middle
        else:
            high = middle - 1
    return SafeSetting(clock_mhz, float(low))


def _limits_w(samples: Samples, safe: SafeSetting) -> Floats:
    """Return the sum of each node's board limits at the safe setting, as its boards accept it."""
    asked_w = np.maximum(samples.min_limit_w, safe.power_limit_w) * samples.gpus
    return np.minimum(asked_w, samples.worst_case_w)


def _ac_w(domain: Domain, limits_w: Floats) -> Floats:
    return (limits_w * OVERSHOOT_RATIO + domain.non_gpu_worst_w) / domain.supply_efficiency_ratio


def _ac_sum_w(domain: Domain, limits_w: Floats) -> float:
    dc_w = float(limits_w.sum()) * OVERSHOOT_RATIO + len(limits_w) * domain.non_gpu_worst_w
    return dc_w / domain.supply_efficiency_ratio
