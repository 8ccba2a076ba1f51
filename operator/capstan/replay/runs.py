"""What a run leaves behind, on the rig or in virtual time, as columns: the one input of `score` and `report`.

Columns of one table have equal length. In a column of times NaN means *never*, in a column of clock caps *no cap*, in a
column of expected watts *not known*. A week of 27 million requests fits: 8 bytes a column and request.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from capstan.model.classes import Edges
from capstan.model.policy import Priority
from capstan.model.routes import TokenCost
from capstan.model.slo import Slo
from capstan.model.workload import Workload

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]


def cv2_ratio(tokens: Ints) -> float:
    """Return the squared coefficient of variation of lengths, at least one of them and none of all zero."""
    return float(tokens.var()) / float(tokens.mean()) ** 2


@dataclass(frozen=True, slots=True)
class Requests:
    """A trace: who arrives when, and how long; shapes `[request]`, ascending in `arrival_s`. An id is a row."""

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints

    def __len__(self) -> int:
        return len(self.arrival_s)

    def workload(self, arrival_rps: float) -> Workload:
        """Return these lengths, at least one request's, as they come at a rate."""
        prompts = self.prompt_tokens
        return Workload(arrival_rps, float(prompts.mean()), float(self.output_tokens.mean()), cv2_ratio(prompts))


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of each request, shapes `[request]`.

    `first_s` and `finish_s` are NaN for a request that was refused or never got there; `max_tbt_s` is the longest gap
    between two tokens of it, NaN where it had no two or nobody measured it.
    """

    requests: Requests
    first_s: Floats
    finish_s: Floats
    max_tbt_s: Floats


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules of a service's assigned GPUs: busy with requests, loaded and idle, starting or draining without work."""

    serving_j: float
    idle_j: float
    transition_j: float

    @property
    def total_j(self) -> float:
        """All of it."""
        return self.serving_j + self.idle_j + self.transition_j


@dataclass(frozen=True, slots=True)
class ServiceSeries:
    """One service over time, shapes `[sample]`: what was asked for, what stood there, what it drew.

    `gpus_w` is the mean since the sample before; `tp` is that of the newest replicas; `reason` is a word of
    `model.reasons`, empty where the system gives none.
    """

    t_s: Floats
    arrival_rps: Floats
    replicas_desired: Ints
    replicas_ready: Ints
    replicas_starting: Ints
    replicas_draining: Ints
    gpus: Ints
    tp: Ints
    clock_cap_mhz: Floats
    gpus_w: Floats
    running: Ints
    waiting: Ints
    kv_usage: Floats
    expected_w: Floats
    reason: Texts


@dataclass(frozen=True, slots=True)
class LaneSeries:
    """One class pool over time, shapes `[sample]`: `classes` go there, `replicas_ready` engines of `tp` GPUs serve.

    A mix of degrees is told as the degree with most GPUs, as many of it as hold all the GPUs.
    """

    pool: str
    classes: tuple[int, ...]
    t_s: Floats
    tp: Ints
    replicas_ready: Ints
    clock_cap_mhz: Floats


@dataclass(frozen=True, slots=True)
class DomainSeries:
    """One power domain over time, shapes `[sample]`. `draw_w` is true AC, the highest since the sample before.

    `servers` is how many it has; None: nobody counted.
    """

    domain: str
    t_s: Floats
    draw_w: Floats
    budget_w: Floats
    level: Texts
    cap_mhz: Floats
    servers: int | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened and that a reader of the plots should see (budget cut, operator killed)."""

    t_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Routed:
    """The class that each request was taken for when it was routed, shape `[request]`, and what makes a class."""

    codes: Ints
    edges: Edges


@dataclass(frozen=True, slots=True)
class ServiceRun:
    """One service of a run.

    Attributes:
        profiles: The physics it ran on, in words with their fit error.
        routed: How requests were told apart; None: they were not, all went to one pool.
        token_cost: What joules are shared out by; None: nobody modelled it.
    """

    policy: str
    slo: Slo
    profiles: tuple[str, ...]
    outcomes: Outcomes
    series: ServiceSeries
    energy: Energy
    reconfigurations: int = 0
    clock_changes: int = 0
    gpu_seconds: float = 0.0
    lanes: tuple[LaneSeries, ...] = ()  # the class pools of the run's end; empty: there was one pool
    routed: Routed | None = None
    token_cost: TokenCost | None = None
    priority: Priority = Priority.LOW


@dataclass(frozen=True, slots=True)
class Run:
    """One system over one trace.

    Attributes:
        system: `capstan`, `fixed`, `single-pool` ...
        source: `rig` or `virtual time`.
        trace: Where the requests came from, in words.
        duration_s: From the first arrival to the last completion.
        shocks_s: When something happened that services must recover from, ascending.
        settings: What was shortened or chosen, as (name, value) pairs for people.
        energy_unassigned_j: GPUs without a pod, at their unloaded idle watts.
        energy_node_j: Everything of the servers that is not a GPU, modelled; None where nobody models it.
    """

    system: str
    source: str
    trace: str
    duration_s: float
    services: tuple[ServiceRun, ...]
    domains: tuple[DomainSeries, ...] = ()
    marks: tuple[Mark, ...] = ()
    shocks_s: tuple[float, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    energy_unassigned_j: float = 0.0
    energy_node_j: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
