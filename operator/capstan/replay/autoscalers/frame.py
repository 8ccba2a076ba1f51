"""What all rebuilt autoscalers share: bounds, the start, whose turn it is, and the pods as a controller counts them.

Who calls it: `registry` builds an `Autoscaler` per system; the files beside this one are its scalers and clock rules.
Must not know: any formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from capstan.replay.seen import ReplicaSeen, Seen, Service, ServiceSeen, Want, Window

LEAST_SPAN_S = 1.0  # a count over less is no rate
EARLY_S = 1e-6  # a tick this much early is on time: periods are added up in binary fractions


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a replica count, both included."""

    least: int
    most: int

    @classmethod
    def of(cls, service: Service) -> Limits:
        """Return the bounds of a policy in replicas of the start's tp, within the fleet."""
        bounds, tp = service.policy.bounds, service.start.tp
        most = max(bounds.most_replicas(tp, service.most_gpus), 1)
        return cls(min(bounds.min_replicas, most), most)

    def clip(self, replicas: int) -> int:
        """Return the nearest count inside the bounds."""
        return min(max(replicas, self.least), self.most)


class Scaler(Protocol):
    """Chooses the replicas of one service."""

    def replicas(self, now_s: float, seen: ServiceSeen) -> int | None:
        """Return the wanted count, None to leave it."""
        ...


class ClockRule(Protocol):
    """Chooses the clock cap of one service."""

    def cap_mhz(self, now_s: float, seen: ServiceSeen) -> float | None:
        """Return the cap that shall hold now; None is full clock."""
        ...


class Timer:
    """Says whether a period has passed; the first time is always due, and a late tick does not shift the next."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._next_s: float | None = None

    def due(self, now_s: float) -> bool:
        """Return whether it is time, and count it."""
        if self._next_s is not None and now_s < self._next_s - EARLY_S:
            return False
        self._next_s = now_s + self._period_s if self._next_s is None else self._next_s + self._period_s
        if self._next_s <= now_s:
            self._next_s = now_s + self._period_s
        return True


@dataclass(slots=True)
class _Charge:
    """One service in the hands of a system: who scales it, who clocks it, when, and what was asked for last."""

    scaler: Scaler
    scaling: Timer
    rule: ClockRule | None
    clocking: Timer
    clock_cap_mhz: float | None


class Autoscaler:
    """A system made of a scaler and, where it has one, a clock rule; each has its own period.

    Args:
        name: The word for it in reports.
        scaler: Makes the scaler of a service; called once per service.
        period_s: How often the scaler is asked.
        rule: Makes the clock rule of a service; None: full clock, always.
        clock_period_s: How often the rule is asked; it divides `period_s`, or is a multiple of it.
    """

    caps_power = False

    def __init__(
        self,
        name: str,
        scaler: Callable[[Service], Scaler],
        period_s: float,
        rule: Callable[[Service], ClockRule] | None = None,
        clock_period_s: float = 5.0,
    ) -> None:
        self.name = name
        self.period_s = period_s if rule is None else min(period_s, clock_period_s)
        self._scaler, self._scaler_period_s = scaler, period_s
        self._rule, self._clock_period_s = rule, clock_period_s
        self._charges: dict[str, _Charge] = {}

    def start(self, service: Service) -> Want:
        """Begin with what the scenario says: the same for every system, and its tp for good."""
        self._charges[service.policy.key] = _Charge(
            scaler=self._scaler(service),
            scaling=Timer(self._scaler_period_s),
            rule=None if self._rule is None else self._rule(service),
            clocking=Timer(self._clock_period_s),
            clock_cap_mhz=service.start.clock_cap_mhz,
        )
        return service.start

    def plan(self, seen: Seen) -> tuple[Want, ...]:
        """Ask the scalers and rules whose turn it is; name only services that shall change."""
        wants = (self._want(seen.now_s, service, self._charges[service.policy]) for service in seen.services)
        return tuple(want for want in wants if want is not None)

    def _want(self, now_s: float, seen: ServiceSeen, charge: _Charge) -> Want | None:
        replicas, cap_mhz = seen.desired, charge.clock_cap_mhz
        if charge.scaling.due(now_s):
            wanted = charge.scaler.replicas(now_s, seen)
            replicas = seen.desired if wanted is None else wanted
        if charge.rule is not None and charge.clocking.due(now_s):
            cap_mhz = charge.rule.cap_mhz(now_s, seen)
        if replicas == seen.desired and cap_mhz == charge.clock_cap_mhz:
            return None
        charge.clock_cap_mhz = cap_mhz
        return Want(seen.policy, seen.tp, replicas, clock_cap_mhz=cap_mhz)


def ready(seen: ServiceSeen) -> Sequence[ReplicaSeen]:
    """Return the pods that serve and report metrics."""
    return [replica for replica in seen.replicas if replica.ready and not replica.draining]


def starting(seen: ServiceSeen) -> int:
    """Return the pods that exist and do not serve yet."""
    return sum(not replica.ready and not replica.draining for replica in seen.replicas)


def in_flight(seen: ServiceSeen) -> int:
    """Return the requests that a proxy before the pool has sent or holds; draining replicas finish theirs."""
    return seen.waiting_unrouted + sum(replica.running + replica.waiting for replica in seen.replicas)


def rate_rps(window: Window) -> float:
    """Return arrivals per second; of a window that has hardly begun, less than it may become."""
    return window.arrivals / max(window.span_s, LEAST_SPAN_S)


def held_tokens(pod: ReplicaSeen) -> float:
    """Return the tokens that a pod's KV cache holds: the used share of what it has room for."""
    return pod.kv_usage * pod.kv_tokens


def prior_tokens(prompt_tokens: float, chunk_tokens: float) -> float:
    """Return the mean context that precedes a chunk of a prompt: `latency.mixed_step_s` adds the chunk's own half.

    Example: 1000 tokens in chunks of 500 have 0 and 500 before them: 250 = (1000 - 500) / 2.
    """
    return max(prompt_tokens - chunk_tokens, 0.0) / 2
