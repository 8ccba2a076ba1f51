"""A scenario as the replay runs it: fleet, services with their requests, domains, periods, events. No YAML here.

Who calls it: `replay.load` fills it, `replay.engine` runs it. Must not know: files, systems.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from capstan.decide import Settings
from capstan.model.policy import Policy
from capstan.model.profile import Profile
from capstan.powercap.domains import Domain
from capstan.replay.nodes import Node
from capstan.replay.seen import Service


@dataclass(frozen=True, slots=True)
class BudgetCut:
    """From `t_s` on a domain's budget is `budget_w` (a cut, or a return)."""

    t_s: float
    domain: str
    budget_w: float


@dataclass(frozen=True, slots=True)
class NodeLoss:
    """At `t_s` a node is gone, with its pods and the requests in them; it is back, empty, at `back_s` (inf: never)."""

    t_s: float
    node: str
    back_s: float = math.inf

    def __post_init__(self) -> None:
        if not 0 <= self.t_s < self.back_s:
            raise ValueError("a node is lost at 0 or later, and comes back after that")


@dataclass(frozen=True, slots=True)
class Burst:
    """From `t_s` to `end_s` a policy's rates lie above the trace's own, at most at `factor_ratio` times them.

    Its requests are in the trace already: this is for people and for scores.
    """

    t_s: float
    end_s: float
    policy: str
    factor_ratio: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens to any system that is run: the same for all of them.

    Attributes:
        truths: What the world runs on, service by service, tp by tp as in `Service.profiles`; equal to what is
            believed unless `--truth` says otherwise.
        startup_s: Pod start to Ready.
        telemetry_s: How old the newest sample is when a decision sees it.
        duration_s: Nothing arrives later.
        drain_s: How long after the last arrival unfinished requests are waited for.
        losses: Nodes that go, in order of time.
        bursts: What `RateBurst` events made of the traces.
        trace: Where the requests came from, in words.
        notes: What was shortened or chosen, as (name, value) pairs for people.
        slices_per_s: Watts of domains are means over this part of a second; by default 100 ms (DESIGN 7.2).
    """

    name: str
    nodes: tuple[Node, ...]
    services: tuple[Service, ...]
    truths: tuple[tuple[Profile, ...], ...]
    domains: tuple[Domain, ...]
    settings: Settings
    startup_s: float
    telemetry_s: float
    duration_s: float
    drain_s: float
    cuts: tuple[BudgetCut, ...] = ()
    losses: tuple[NodeLoss, ...] = ()
    bursts: tuple[Burst, ...] = ()
    trace: str = ""
    notes: tuple[tuple[str, str], ...] = ()
    slices_per_s: int = 10

    def __post_init__(self) -> None:
        if len(self.truths) != len(self.services):
            raise ValueError("a scenario has one tuple of true profiles per service")

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """Every believed profile, once each."""
        return tuple(dict.fromkeys(profile for service in self.services for profile in service.profiles))

    @property
    def shocks_s(self) -> tuple[float, ...]:
        """When something happened that the services must recover from, ascending: cuts, losses and bursts."""
        cuts, losses = [cut.t_s for cut in self.cuts], [loss.t_s for loss in self.losses]
        return tuple(sorted({*cuts, *losses, *(burst.t_s for burst in self.bursts)}))

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies in the order of the services."""
        return tuple(service.policy for service in self.services)
