"""A set-up played in the world: one service of a scenario alone, by the engine and the scores of every replay.

Who calls it: `setups.hunt` through `Play`, `app.search`. Must not know: how set-ups are chosen.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from capstan.api import errors
from capstan.model.policy import Bounds
from capstan.model.slo import Slo
from capstan.replay import engine
from capstan.replay.nodes import room
from capstan.replay.runs import Requests, Run
from capstan.replay.scenario import Scenario
from capstan.replay.scores import limits, score
from capstan.replay.searches.plans import Plan, Scheduled, whole
from capstan.replay.setups.kinds import Pair, Setup
from capstan.replay.setups.screen import Screen
from capstan.replay.stage import Stage

NAME = "search"

S = TypeVar("S", Setup, Pair)


@dataclass(frozen=True, slots=True)
class Played(Generic[S]):
    """What became of a set-up.

    Attributes:
        slo_met: As DESIGN 7.1 has it: overall, per class, per window.
        energy_j: Joules of its GPUs. unassigned_j: of the other GPUs of the fleet, idle without a model.
        ttft_s, tpot_s: p99 over completed requests; inf where none completed.
        peak_sequences: The most requests that ran at once, over the replicas; of a pair, over those that decode.
    """

    setup: S
    slo_met: bool
    attainment_ratio: float
    energy_j: float
    unassigned_j: float
    ttft_s: float
    tpot_s: float
    peak_sequences: float
    requests: int
    completed: int
    output_tokens: int


Play = Callable[[Setup], Played[Setup]]


@dataclass(slots=True)
class Alone:
    """One service of a scenario, in one pool, without power domains: what a set-up is searched for.

    Others of the scenario are left out: a fixed fleet shares nothing with them but power domains.
    """

    scenario: Scenario
    slo_set: limits.SloSet

    @classmethod
    def of(cls, scenario: Scenario, slo_set: limits.SloSet, policy: str | None = None) -> Alone:
        """Return the service of a policy, the first where none is named.

        Raises:
            Invalid: The scenario has no such policy.
        """
        keys = [service.policy.key for service in scenario.services]
        if policy is not None and policy not in keys:
            raise errors.Invalid("--policy", f"{policy} is none of the scenario's; use one of {', '.join(keys)}")
        index = 0 if policy is None else keys.index(policy)
        everything = scenario.services[index].edges.whole()[0]
        return cls(Stage(scenario, slo_set).lane(index, everything), slo_set)

    @property
    def policy(self) -> str:
        """Key of its policy."""
        return self.scenario.services[0].policy.key

    @property
    def slo(self) -> Slo:
        """What it aims at."""
        return self.scenario.services[0].policy.slo

    @property
    def bounds(self) -> Bounds:
        """What a set-up may not leave."""
        return self.scenario.services[0].policy.bounds

    @property
    def requests(self) -> Requests:
        """Its trace."""
        return self.scenario.services[0].requests

    @property
    def held(self) -> limits.Limits:
        """The limits that it is scored by."""
        return limits.of(self.slo_set, self.slo)

    @property
    def rooms(self) -> Mapping[int, int]:
        """Lanes of each tp that the servers hold."""
        return {profile.tp: room(self.scenario.nodes, profile) for profile in self.scenario.truths[0]}

    def play(self, screen: Screen, setup: Setup) -> Played[Setup]:
        """Play a set-up on the physics that a screen has of its engine."""
        lane = screen.lane(setup.engine)
        service = dataclasses.replace(self.scenario.services[0], profiles=(lane,))
        scenario = dataclasses.replace(self.scenario, services=(service,), truths=((lane,),))
        cap_mhz = None if setup.clock_mhz >= lane.clocks.max_mhz else setup.clock_mhz
        plan = whole(Plan.fixed(lane.tp, setup.lanes, cap_mhz))
        run = engine.run(scenario, Scheduled(NAME, {self.policy: plan}))
        most = float(run.services[0].series.running.max(initial=0))
        return self.scored(setup, run, peak_sequences=most / setup.replicas)

    def scored(self, setup: S, run: Run, *, peak_sequences: float) -> Played[S]:
        """Return what a run of a set-up was worth."""
        scored = score.of(run, self.slo_set)
        figures = scored.overall
        return Played(
            setup=setup,
            slo_met=scored.slo_met,
            attainment_ratio=figures.attainment_ratio or 0.0,
            energy_j=scored.energy_j,
            unassigned_j=run.energy_unassigned_j,
            ttft_s=_known(figures.ttft_s.p99),
            tpot_s=_known(figures.tpot_s.p99),
            peak_sequences=peak_sequences,
            requests=figures.arrived,
            completed=figures.completed,
            output_tokens=figures.output_tokens,
        )


def _known(quantile_s: float | None) -> float:
    return math.inf if quantile_s is None else quantile_s
