"""One scenario with the searches that run it many times: what stands between a search's plans and the engine.

Who calls it: `replay.play`. Must not know: reports, which systems are compared.

Searches look at services one by one: they share nothing but power domains, which cap nobody in a search's world.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from capstan.replay import engine, fluid, limits, measure, oracle, plans, provision, score
from capstan.replay.plans import Plan, Scheduled
from capstan.replay.runs import Run
from capstan.replay.scenario import Scenario
from capstan.replay.schedule import Planner
from capstan.replay.seen import System
from capstan.replay.trial import Evaluate, Trial


class Stage:
    """A scenario, scored by one set of limits. Searches are done once and remembered."""

    def __init__(self, scenario: Scenario, slo_set: limits.SloSet) -> None:
        self.scenario = scenario
        self.slo_set = slo_set
        self._alone = [
            dataclasses.replace(scenario, services=(service,), truths=(truth,), domains=(), cuts=())
            for service, truth in zip(scenario.services, scenario.truths, strict=True)
        ]
        self._single: dict[str, Plan] | None = None
        self._best: dict[str, Plan] | None = None

    def play(self, system: System, told: Callable[[float], None]) -> Run:
        """Run a system that decides from what it sees."""
        return engine.run(self.scenario, system, progress=told)

    def play_fixed(self, name: str, fleets: dict[str, Plan]) -> Run:
        """Run fleets that never move."""
        return engine.run(self.scenario, Scheduled(name, fleets))

    def single_pools(self) -> dict[str, Plan]:
        """Return each service's smallest fixed fleet that meets the SLO at its largest tp and full clock."""
        if self._single is None:
            self._single = {s.services[0].policy.key: self._single_pool(s) for s in self._alone}
        return self._single

    def best_statics(self) -> dict[str, Plan]:
        """Return each service's best fixed (tp, replicas, clock) in hindsight."""
        if self._best is None:
            self._best = {s.services[0].policy.key: self._best_static(s) for s in self._alone}
        return self._best
