"""Who decides in a run: a system is one small class, and the world treats all of them alike.

Who calls it: `replay.engine` runs one, `app.replay` chooses which. Must not know: the future; only what `Observed`
shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from capstan import decide
from capstan.model.fleet import Observed
from capstan.model.plan import Decision, Memory
from capstan.model.policy import Policy
from capstan.model.profile import Profile
from capstan.replay.scenario import Scenario, Service


class System(Protocol):
    """What the engine asks of a system."""

    @property
    def name(self) -> str:
        """The word for it in reports."""
        ...

    @property
    def caps_power(self) -> bool:
        """Whether its power domains are armed (`powercap.step` decides; nobody else caps in this world)."""
        ...

    def start_replicas(self, service: Service) -> int:
        """Return the replicas that stand ready when the run begins."""
        ...

    def plan(self, observed: Observed) -> Decision | None:
        """Return the plan of this cycle, or None to leave everything as it is. Called every instance period."""
        ...


class Capstan:
    """The shipped decision, word for word: `decide.decide` every instance period, power domains armed."""

    name = "capstan"
    caps_power = True

    def __init__(self, policies: tuple[Policy, ...], profiles: tuple[Profile, ...], settings: decide.Settings) -> None:
        self._policies = policies
        self._profiles = profiles
        self._settings = settings
        self._memory = Memory()

    @classmethod
    def of(cls, scenario: Scenario) -> Capstan:
        """Return Capstan with the policies, profiles and periods of a scenario."""
        return cls(scenario.policies, scenario.profiles, scenario.settings)

    def start_replicas(self, service: Service) -> int:
        """Begin with what the scenario says."""
        return service.start_replicas

    def plan(self, observed: Observed) -> Decision:
        """Decide, and remember what the next cycle must know."""
        decision = decide.decide(observed, self._policies, self._profiles, self._memory, self._settings)
        self._memory = decision.memory
        return decision


class Fixed:
    """A replica count per policy that never moves, at full clock, without caps."""

    caps_power = False

    def __init__(self, name: str, replicas: Mapping[str, int]) -> None:
        self.name = name
        self._replicas = replicas

    def start_replicas(self, service: Service) -> int:
        """Begin with the count that stays."""
        return self._replicas[service.policy.key]

    def plan(self, observed: Observed) -> None:
        """Leave everything as it is."""
        del observed
