"""What is seen: pools with their replicas, what Prometheus says of them, and the watts that domains leave."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from capstan.model.headroom import DomainSeen, Place
from capstan.model.reasons import Reason
from capstan.model.sample import Missing, Sample

NO_DATA = Missing(Reason.NO_DATA)


@dataclass(frozen=True, slots=True)
class PoolObserved:
    """One pool of a policy as the API server shows it.

    Attributes:
        pool: Pool name (`all` in the Single scheme).
        tp: GPUs per replica.
        desired: `spec.replicas` of the workload.
        ready: Pods Ready and not draining.
        starting: Pods created, not Ready yet (they draw power in full and serve nothing).
        terminating: Pods draining (likewise).
        gpu_product: `nvidia.com/gpu.product` of the nodes they sit on; None when unknown.
        startup_s: How long its pods took from a node to Ready, their median; None: of no pod is it known.
        pending: Of those that start, the ones that no node has room for; they draw nothing.
    """

    pool: str
    tp: int
    desired: int
    ready: int
    starting: int = 0
    terminating: int = 0
    gpu_product: str | None = None
    startup_s: float | None = None
    pending: int = 0

    def __post_init__(self) -> None:
        if self.startup_s is not None and not 0 <= self.startup_s < math.inf:
            raise ValueError("startup_s is a time of 0 or more, or None where it is not known")
        if self.pending and not 0 < self.pending <= self.starting:
            raise ValueError("pending pods are some of those that start")


@dataclass(frozen=True, slots=True)
class ClassDemand:
    """What arrived of one request class lately: its rate, mean lengths, and how much prompt lengths vary.

    `code` is that of `model.classes.Edges`; `prompt_cv2_ratio` the squared coefficient of variation of the prompts.
    """

    code: int
    arrival_rps: float
    prompt_tokens: float
    output_tokens: float
    prompt_cv2_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class ServiceObserved:
    """One policy as seen in one cycle: pools from the API server, the rest from Prometheus.

    `classes` holds the demand per class where it is known. `lanes` holds the same record once per class pool, under
    the pool's name in `lane`: its own latencies, queues and watts. Both are empty where requests are not told apart.
    `prompt_tokens` and `output_tokens` are means per request; `ttft_s` and `tpot_s` are at the SLO's percentile;
    `sample_requests` says how many requests those percentiles rest on; `stress_ratio` is the same percentile of each
    request's larger latency over its own limit, over the last minutes; `power_w` sums all GPUs of the policy.
    """

    policy: str
    pools: tuple[PoolObserved, ...]
    arrival_rps: Sample[float] = NO_DATA
    prompt_tokens: Sample[float] = NO_DATA
    output_tokens: Sample[float] = NO_DATA
    running: Sample[float] = NO_DATA
    waiting: Sample[float] = NO_DATA
    ttft_s: Sample[float] = NO_DATA
    tpot_s: Sample[float] = NO_DATA
    sample_requests: Sample[float] = NO_DATA
    stress_ratio: Sample[float] = NO_DATA
    power_w: Sample[float] = NO_DATA
    output_tokens_per_s: Sample[float] = NO_DATA
    gpu_product: str | None = None
    capped: bool = False  # a power domain caps GPUs of this policy: what latencies say is not the profile's doing
    classes: tuple[ClassDemand, ...] = ()
    prompt_cv2_ratio: float | None = None  # how much prompt lengths vary, where it is known
    lane: str = ""
    lanes: tuple[ServiceObserved, ...] = ()
    places: tuple[Place, ...] = ()  # replicas by power domain, of all lanes; empty: no domain acts, or none runs

    def of_lane(self, name: str) -> ServiceObserved | None:
        """Return what was seen of one pool of several; a domain that caps the service caps each of them."""
        found = next((seen for seen in self.lanes if seen.lane == name), None)
        return None if found is None else dataclasses.replace(found, capped=self.capped)


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything one cycle sees. `now_s` is the only clock of the core.

    `gpus` counts the GPUs that may be used per product, those in use included; empty: not known, no limit but bounds.
    `domains` are the power domains that act; empty: watts are limited by nobody.
    """

    now_s: float
    services: tuple[ServiceObserved, ...]
    gpus: tuple[tuple[str, int], ...] = ()
    domains: tuple[DomainSeen, ...] = ()

    def of(self, policy: str) -> ServiceObserved | None:
        """Return what was seen of one policy."""
        return next((s for s in self.services if s.policy == policy), None)
