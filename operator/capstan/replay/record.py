"""What a run leaves behind, on the rig or in virtual time: the one input of `score` and `report`."""

from __future__ import annotations

from dataclasses import dataclass, field

from capstan.model.reasons import Reason
from capstan.model.slo import Slo


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request's fate. `first_s` and `finish_s` are None for a request that was rejected or never finished."""

    policy: str
    request_id: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    first_s: float | None
    finish_s: float | None


@dataclass(frozen=True, slots=True)
class PolicyTick:
    """One policy at one moment. `gpus_w` sums its GPUs; `clock_cap_mhz` None means no cap."""

    policy: str
    arrival_rps: float
    replicas_desired: int
    replicas_ready: int
    tp: int
    clock_cap_mhz: float | None
    gpus_w: float
    running: int
    waiting: int
    reason: Reason
    expected_w: float | None = None


@dataclass(frozen=True, slots=True)
class DomainTick:
    """One power domain at one moment: `draw_w` is the true AC draw, `cap_mhz` the cap of low-priority GPUs."""

    domain: str
    draw_w: float
    budget_w: float
    level: str
    cap_mhz: float | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """Everything at one moment, `t_s` seconds after the run began."""

    t_s: float
    policies: tuple[PolicyTick, ...]
    domains: tuple[DomainTick, ...] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened and that a reader of the plots should see (budget cut, operator killed)."""

    t_s: float
    text: str


@dataclass(frozen=True, slots=True)
class ServiceRun:
    """One policy of a run: its limits and its joules.

    `energy_j` counts assigned GPUs (serving, loaded idle, starting, draining).
    """

    policy: str
    slo: Slo
    energy_j: float
    profile: str


@dataclass(frozen=True, slots=True)
class Run:
    """One system over one trace.

    Attributes:
        system: `capstan`, `fixed`, `single-pool` ...
        source: `rig` or `virtual time`.
        trace: Where the requests came from, in words.
        settings: What was shortened or chosen, as (name, value) pairs for people.
        energy_unassigned_j: GPUs without a pod, at their unloaded idle watts.
    """

    system: str
    source: str
    trace: str
    duration_s: float
    services: tuple[ServiceRun, ...]
    outcomes: tuple[Outcome, ...]
    ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    energy_unassigned_j: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
