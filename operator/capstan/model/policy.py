"""A ServingPolicy as the core sees it: SI units, enums, no Kubernetes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from capstan.model.classes import Edges
from capstan.model.slo import Slo


class Priority(StrEnum):
    """Who is capped first. Low is the default; High only where the domain admits the namespace."""

    LOW = "Low"
    HIGH = "High"


class Knob(StrEnum):
    """Whether a knob is written (Act), only planned and published (Advise), or left alone (Off)."""

    ACT = "Act"
    ADVISE = "Advise"
    OFF = "Off"


@dataclass(frozen=True, slots=True)
class Knobs:
    """One switch per knob; every one is Advise until its owner says otherwise.

    `pools` is the split over class pools: what Act means there is the caller's to know (in replay, requests are
    steered; live nobody does that yet, so `serving` turns it to Advise).
    """

    replicas: Knob = Knob.ADVISE
    tensor_parallel: Knob = Knob.ADVISE
    clock: Knob = Knob.ADVISE
    pools: Knob = Knob.ACT


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a plan may not leave. `tensor_parallel` ascends; `min_clock_mhz` None means the profile's lowest."""

    min_replicas: int = 1
    max_replicas: int = 1
    max_gpus: int | None = None
    tensor_parallel: tuple[int, ...] = (1,)
    min_clock_mhz: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas:
            raise ValueError("bounds need 0 <= min_replicas <= max_replicas")
        if not self.tensor_parallel or list(self.tensor_parallel) != sorted(set(self.tensor_parallel)):
            raise ValueError("tensor_parallel must ascend without repeats")

    def most_replicas(self, tp: int, gpus: int | None = None) -> int:
        """Return how many replicas of a degree the bounds leave, on a fleet of `gpus` GPUs where that is said."""
        limits = (limit // tp for limit in (self.max_gpus, gpus) if limit is not None)
        return min((self.max_replicas, *limits))


class Objective(StrEnum):
    """What a plan makes least, inside SLO and watts."""

    JOULES = "Joules"
    COST = "Cost"
    CARBON = "Carbon"


DEFAULT_EDGES = Edges()


@dataclass(frozen=True, slots=True)
class Pools:
    """How requests are split over pools.

    Attributes:
        by_class: Whether classes may have pools of their own; False: one pool for all.
        edges: What makes a class.
        count: Pools, exactly; None: as many as pay (one where nothing is gained).
        phases_apart: Whether prompts are computed in one pool and decoded in another; not beside `by_class`.
    """

    by_class: bool = False
    edges: Edges = DEFAULT_EDGES
    count: int | None = None
    phases_apart: bool = False

    def __post_init__(self) -> None:
        if self.by_class and self.phases_apart:
            raise ValueError("pools are by class or by phase, not both")
        if self.count is not None and not 1 <= self.count <= self.edges.count:
            raise ValueError("count lies between 1 and the number of classes")

    @property
    def several(self) -> bool:
        """Whether there may be more than one pool."""
        return self.by_class or self.phases_apart


@dataclass(frozen=True, slots=True)
class Policy:
    """One service to keep inside its SLO and its watts. `key` is `namespace/name`."""

    key: str
    llm: str
    slo: Slo
    priority: Priority = Priority.LOW
    power_budget_w: float | None = None
    bounds: Bounds = Bounds()
    knobs: Knobs = Knobs()
    profile_names: tuple[str, ...] = ()
    paused: bool = False
    pools: Pools = Pools()
    objective: Objective = Objective.JOULES

    @property
    def tells_classes(self) -> bool:
        """Whether a plan rests on the classes that requests are of: for their pools, or for who has which limit."""
        return self.pools.by_class or any(tokens in self.pools.edges.prompt_tokens for tokens, _ in self.slo.tiers)
