"""What a node may run at, and until when: a pure machine over renewals, NodeCaps and a monotonic clock.

Who calls it: `cycle`, `app.agent`. A renewal may tighten and never loosens; only a NodeCap that is not older loosens. A
lower epoch, or an older sequence of the same epoch, is refused: a controller of yesterday. Without a renewal in time
the node is in its safe setting, from the start on; a node that was never given a safe setting holds nothing.

A watt grant (strategy Guaranteed) is no third kind of thing here: its NodeCap names the grant's board limit twice, as
cap and, with a clock that caps nothing, as safe setting. So whatever ends, starts or forgets, the limit is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from capstan.agent.ports import PlannedClock, Pod
from capstan.powercap.domains import NO_CAPS, ClassCaps, SafeSetting, tightest


class Outdated(Exception):  # noqa: N818 - what the caller is
    """A renewal from a controller that is older than what we have heard."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """One lease call."""

    epoch: int
    sequence: int
    lease_s: float
    caps: ClassCaps


@dataclass(frozen=True, slots=True)
class Granted:
    """`spec.power` of our NodeCap."""

    epoch: int
    sequence: int
    caps: ClassCaps
    high_pods: frozenset[Pod]
    safe: SafeSetting


@dataclass(frozen=True, slots=True)
class Lease:
    """Everything that decides what the node's GPUs may do.

    Attributes:
        renewed_s: Monotonic time of the last renewal; None: not since the start.
        lease_s: How long a renewal lasts.
        safe: The safe setting; None: this node was never armed.
        plan: The energy plan's clocks, by pod; None: the operator never wrote one for this node.
        taken: (epoch, sequence) of the NodeCap that `safe` is from; (0, 0): none since the start.
    """

    epoch: int = 0
    sequence: int = 0
    renewed_s: float | None = None
    lease_s: float = 4.0
    caps: ClassCaps = NO_CAPS
    high_pods: frozenset[Pod] = frozenset()
    safe: SafeSetting | None = None
    plan: tuple[PlannedClock, ...] | None = None
    taken: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one GPU should be set to; None: nothing below stock."""

    clock_mhz: float | None = None
    limit_w: float | None = None


NOTHING = Wanted()


def renewed(lease: Lease, renewal: Renewal, now_s: float) -> Lease:
    """Return the lease after a renewal. Raises Outdated."""
    if (renewal.epoch, renewal.sequence) < (lease.epoch, lease.sequence):
        raise Outdated(
            f"epoch {renewal.epoch} sequence {renewal.sequence} is older than {lease.epoch} and {lease.sequence}"
        )
    return replace(
        lease,
        epoch=renewal.epoch,
        sequence=renewal.sequence,
        renewed_s=now_s,
        lease_s=renewal.lease_s,
        caps=tightest(lease.caps, renewal.caps),
    )


def granted(lease: Lease, grant: Granted | None) -> Lease:
    """Return the lease after our NodeCap was seen; an older one changes nothing, an absent one neither."""
    if grant is None or (grant.epoch, grant.sequence) < (lease.epoch, lease.sequence):
        return lease
    return replace(
        lease,
        epoch=grant.epoch,
        sequence=grant.sequence,
        caps=grant.caps,
        high_pods=grant.high_pods,
        safe=grant.safe,
        taken=(grant.epoch, grant.sequence),
    )


def remaining_s(lease: Lease, now_s: float) -> float:
    """Return how long the lease still lasts; 0 when it is over or never began."""
    return 0.0 if lease.renewed_s is None else max(lease.renewed_s + lease.lease_s - now_s, 0.0)


def in_safe_setting(lease: Lease, now_s: float) -> bool:
    """Return whether the node is on its own and holds its safe setting."""
    return lease.safe is not None and remaining_s(lease, now_s) <= 0


def owns_clocks(lease: Lease) -> bool:
    """Return whether clocks of this node are ours to set, or to lift: a node that nobody plans or armed is not."""
    return lease.safe is not None or lease.plan is not None


def owns_limits(lease: Lease) -> bool:
    """Return whether board limits are ours: only a power domain sets any, so before arming an admin's stay."""
    return lease.safe is not None


def wanted(lease: Lease, pods: tuple[Pod, ...], now_s: float, *, joined: bool = True) -> Wanted:
    """Return what a GPU should be set to: the tighter of plan, caps of its class, and the safe setting.

    A GPU without a pod is Low; one that several pods share is High as soon as one of them is: it has one clock, and a
    cap for the others' sake would be a priority inversion. All GPUs of a tensor-parallel group belong to one pod and
    so get the same. `joined` False: a GPU whose settings are not known to be in force is in the safe setting.
    """
    caps = lease.caps
    high = any(pod in lease.high_pods for pod in pods)
    clocks = [caps.high_mhz if high else caps.low_mhz, planned_mhz(lease, pods)]
    limits = [caps.power_limit_w]
    if lease.safe is not None and (in_safe_setting(lease, now_s) or not joined):
        clocks.append(lease.safe.clock_mhz)
        limits.append(lease.safe.power_limit_w)
    return Wanted(
        min((clock for clock in clocks if clock is not None), default=None),
        min((limit for limit in limits if limit is not None), default=None),
    )


def planned_mhz(lease: Lease, pods: tuple[Pod, ...]) -> float | None:
    """Return the energy plan's clock of a GPU: the highest of its pods', none where one of them has no plan.

    Each planned clock is the lowest at which that pod keeps its objectives. Those go before energy, so a board that is
    shared runs as its most demanding pod needs; a pod that nobody plans is not ours to slow down.
    """
    clocks = {planned.pod: planned.clock_mhz for planned in lease.plan or ()}
    if not pods or any(pod not in clocks for pod in pods):
        return None
    return max(clocks[pod] for pod in pods)


def foremost(lease: Lease, pods: tuple[Pod, ...]) -> Pod | None:
    """Return the pod that a GPU is reported under, once: the first of its High ones, else the first."""
    return min(pods, key=lambda pod: (pod not in lease.high_pods, pod), default=None)
