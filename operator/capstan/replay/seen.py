"""What a system is shown, and what it may ask for: the whole contract between the world and those who decide in it.

Who calls it: `replay.engine` fills `Seen`; every system of `replay.systems` and `replay.autoscalers` reads it and
returns `Want`s. Everything is as of the telemetry delay ago, as Prometheus would show it; nothing is of the future.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from capstan.model.classes import Edges
from capstan.model.fleet import ClassDemand
from capstan.model.headroom import DomainSeen, Place
from capstan.model.plan import NO_POWER_PLAN, PowerPlan
from capstan.model.policy import Policy
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Phase
from capstan.replay import classify
from capstan.replay.runs import Ints, Requests


@dataclass(frozen=True, slots=True)
class Want:
    """Replicas of one service: `replicas` engines of `tp` GPUs, capped at `clock_cap_mhz` (None: full clock).

    A service may have several at once, one per class pool and tp: together they are all that is wanted of it. `classes`
    are the codes whose requests go to `pool`, empty for all of them; beside others of its pool a replica takes requests
    by its `weight_ratio`. Of phases apart the pool that prefills gets the requests, and hands over to the one that
    decodes. Replicas of another tp are started first and the old ones drained when these are ready. `power` is what is
    done of a service while a power domain caps it: of several wants the first one's counts. `reason` and `expected_w`
    are printed beside the plan; a system that has none leaves them.
    """

    policy: str
    tp: int
    replicas: int
    clock_cap_mhz: float | None = None
    reason: str = ""
    expected_w: float | None = None
    pool: str = "all"
    classes: tuple[int, ...] = ()
    weight_ratio: float = 1.0
    phase: Phase = Phase.BOTH
    power: PowerPlan = NO_POWER_PLAN


@dataclass(frozen=True, slots=True)
class ReplicaSeen:
    """One engine as its metrics show it: `kv_usage` is the used share, 0 to 1, of a cache for `kv_tokens` tokens."""

    replica: int
    tp: int
    ready: bool
    draining: bool
    running: int
    waiting: int
    kv_usage: float
    kv_tokens: int


class Window(Protocol):
    """What Prometheus has of the last `span_s` seconds (fewer at the start). None: nothing to make a figure of."""

    @property
    def span_s(self) -> float:
        """Seconds that the window really covers; 0 before the first sample."""
        ...

    @property
    def arrivals(self) -> int:
        """Requests that arrived."""
        ...

    @property
    def finished(self) -> int:
        """Requests that finished; all latencies and lengths are theirs."""
        ...

    @property
    def prompt_tokens_mean(self) -> float | None:
        """Mean prompt length."""
        ...

    @property
    def prompt_cv2_ratio(self) -> float | None:
        """Squared coefficient of variation of prompt lengths."""
        ...

    @property
    def output_tokens_mean(self) -> float | None:
        """Mean output length."""
        ...

    @property
    def output_tokens_per_s(self) -> float:
        """Output tokens of finished requests over the span."""
        ...

    @property
    def power_w(self) -> float | None:
        """Mean watts of the service's GPUs."""
        ...

    def ttft_s(self, quantile: float) -> float | None:
        """Time to first token at a quantile."""
        ...

    def tpot_s(self, quantile: float) -> float | None:
        """Mean time per output token of a request, at a quantile."""
        ...

    def stress_ratio(self, slo: Slo) -> float | None:
        """Larger latency of a request over its own limit, at the SLO's percentile."""
        ...

    def running_mean(self) -> float | None:
        """Requests running in all replicas, mean over the span."""
        ...

    def waiting_mean(self) -> float | None:
        """Requests queued in all replicas and before them, mean over the span."""
        ...

    def peak_kv_usage(self) -> tuple[tuple[int, float], ...]:
        """(replica, highest KV usage) of the replicas that were ready at the end."""
        ...

    def peak_waiting(self) -> tuple[tuple[int, int], ...]:
        """(replica, longest queue) of the replicas that were ready at the end."""
        ...


class PoolSeen(Protocol):
    """One of a service's pools at the moment of a decision."""

    @property
    def pool(self) -> str:
        """Its name."""
        ...

    @property
    def phase(self) -> Phase:
        """What it plays of each request."""
        ...

    @property
    def degrees(self) -> tuple[tuple[int, int, int, int, int], ...]:
        """(tp, asked for, ready, starting or pending, draining) of each degree that it has or wants, now."""
        ...

    def pending(self, tp: int) -> int:
        """Replicas of a degree that no node has room for, now."""
        ...

    @property
    def queues(self) -> tuple[int, int]:
        """Requests that run and that wait in its replicas at the newest sample."""
        ...

    @property
    def energy_j(self) -> float:
        """What the counters of its replicas' GPUs say now: differences are joules while no replica comes or goes."""
        ...

    def window(self, span_s: float) -> Window:
        """Return what was measured of its classes' requests over the last `span_s` seconds; watts are not told."""
        ...


class ServiceSeen(Protocol):
    """One service at the moment of a decision."""

    @property
    def policy(self) -> str:
        """Key of its policy."""
        ...

    @property
    def tp(self) -> int:
        """Degree of the replicas that were last asked for."""
        ...

    @property
    def desired(self) -> int:
        """Replicas that were last asked for (`spec.replicas`; the API server shows it without delay)."""
        ...

    @property
    def ready(self) -> int:
        """Replicas that are Ready and not draining, now (the API server knows without delay)."""
        ...

    @property
    def starting(self) -> int:
        """Replicas asked for that are not Ready yet, pods without a node included, now."""
        ...

    @property
    def draining(self) -> int:
        """Replicas that drain, now."""
        ...

    @property
    def replicas(self) -> tuple[ReplicaSeen, ...]:
        """Every replica that had a pod at the newest sample, oldest first."""
        ...

    @property
    def waiting_unrouted(self) -> int:
        """Requests that wait before the pool because no replica is ready."""
        ...

    @property
    def pools(self) -> tuple[PoolSeen, ...]:
        """Its class pools; one for a service that has no others."""
        ...

    def window(self, span_s: float) -> Window:
        """Return what was measured over the last `span_s` seconds."""
        ...

    def classes(self, span_s: float) -> tuple[ClassDemand, ...]:
        """Return the demand per class over the last `span_s` seconds, by what requests were taken for."""
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """One moment.

    Attributes:
        capped: The services whose GPUs a power domain caps now.
        domains: The power domains that act; empty: none does.
        places: Where among them the replicas of each service are, `(service, places)`.
    """

    now_s: float
    services: tuple[ServiceSeen, ...]
    capped: frozenset[str] = frozenset()
    domains: tuple[DomainSeen, ...] = ()
    places: tuple[tuple[str, tuple[Place, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """One service as a system may know it before the run: its policy, the physics believed of each tp, the start.

    Attributes:
        policy: Limits, bounds, knobs.
        profiles: What is believed, one per tp of the bounds that has a profile, ascending in tp.
        start: What stands ready when the run begins; a fixed system may answer with something else.
        most_gpus: GPUs of the fleet that fit its profiles.
        requests: The trace. Only `single-pool`, `best-static`, `oracle` and `bound` may read it.
        history: What came before the trace and every system may know; empty without `--history`.
        predicted: The class that each request is taken for when it arrives, shape `[request]`; None: its true one.
    """

    policy: Policy
    profiles: tuple[Profile, ...]
    start: Want
    most_gpus: int
    requests: Requests
    history: Requests | None = None
    predicted: Ints | None = None

    def __post_init__(self) -> None:
        if self.predicted is not None and len(self.predicted) != len(self.requests):
            raise ValueError("a service has one predicted class per request")

    @property
    def edges(self) -> Edges:
        """What makes a class."""
        return self.policy.pools.edges

    @property
    def codes(self) -> Ints:
        """The class that each request is taken for when it arrives, shape `[request]`: a router may read it."""
        return classify.true_codes(self.requests, self.edges) if self.predicted is None else self.predicted

    def profile(self, tp: int) -> Profile:
        """Return what is believed of a degree.

        Raises:
            KeyError: There is no profile of that tp.
        """
        for profile in self.profiles:
            if profile.tp == tp:
                return profile
        raise KeyError(tp)


class System(Protocol):
    """What the engine asks of a system. One small class each."""

    @property
    def name(self) -> str:
        """The word for it in reports."""
        ...

    @property
    def caps_power(self) -> bool:
        """Whether its power domains are armed (`powercap.step` decides; nobody else caps in this world)."""
        ...

    @property
    def period_s(self) -> float:
        """How often `plan` is called."""
        ...

    def start(self, service: Service) -> Want | tuple[Want, ...]:
        """Return what stands ready when the run begins; called once per service, before any `plan`."""
        ...

    def plan(self, seen: Seen) -> tuple[Want, ...]:
        """Return what is wanted now; a service that is not named stays as it is."""
        ...
