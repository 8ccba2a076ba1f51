"""A scenario as the replay runs it: fleet, services with their requests, domains, periods, events. No YAML here.

Who calls it: `replay.load` fills it, `replay.engine` runs it. Must not know: files, systems.
"""

from __future__ import annotations

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
class Scenario:
    """What happens to any system that is run: the same for all of them.

    Attributes:
        truths: What the world runs on, service by service, tp by tp as in `Service.profiles`; equal to what is
            believed unless `--truth` says otherwise.
        startup_s: Pod start to Ready.
        telemetry_s: How old the newest sample is when a decision sees it.
        duration_s: Nothing arrives later.
        drain_s: How long after the last arrival unfinished requests are waited for.
        trace: Where the requests came from, in words.
        notes: What was shortened or chosen, as (name, value) pairs for people.
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
    trace: str = ""
    notes: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if len(self.truths) != len(self.services):
            raise ValueError("a scenario has one tuple of true profiles per service")

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """Every believed profile, once each."""
        return tuple(dict.fromkeys(profile for service in self.services for profile in service.profiles))

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies in the order of the services."""
        return tuple(service.policy for service in self.services)
