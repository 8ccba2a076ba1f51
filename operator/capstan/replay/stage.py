"""One scenario with the searches that run it many times: what stands between a search's plans and the engine.

Who calls it: `replay.play`, the rig's demo. Must not know: reports, which systems are compared.

Searches look at services one by one: they share nothing but power domains, which cap nobody in a search's world.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from capstan.replay import engine
from capstan.replay.runs import Floats, Run
from capstan.replay.scenario import Scenario
from capstan.replay.scores import limits, measure, score
from capstan.replay.scores.compare import BEST_STATIC, ORACLE, SINGLE_POOL
from capstan.replay.searches import fluid, hindsight, oracle, plans
from capstan.replay.searches.plans import Plan, Scheduled
from capstan.replay.searches.schedule import Planner
from capstan.replay.searches.trial import Evaluate, Trial
from capstan.replay.seen import Service, System

Told = Callable[[float], None]


class Stage:
    """A scenario, scored by one set of limits. Searches are done once and remembered."""

    def __init__(self, scenario: Scenario, slo_set: limits.SloSet = limits.SloSet.SCENARIO) -> None:
        self.scenario = scenario
        self.slo_set = slo_set
        self._alone = [
            dataclasses.replace(scenario, services=(service,), truths=(truth,), domains=(), cuts=())
            for service, truth in zip(scenario.services, scenario.truths, strict=True)
        ]
        self._fixed: dict[str, dict[str, Plan]] = {}
        self._searches: tuple[str, ...] = ()

    def play(self, system: System, told: Told | None = None) -> Run:
        """Run a system that decides from what it sees."""
        return engine.run(self.scenario, system, progress=told)

    def single_pool(self) -> Run:
        """Run each service's smallest fixed fleet that meets the SLO at its largest tp and full clock."""
        return self._play_fixed(SINGLE_POOL)

    def best_static(self) -> Run:
        """Run each service's best fixed (tp, replicas, clock) in hindsight; single-pool's where none meets the SLO."""
        return self._play_fixed(BEST_STATIC)

    def oracle(self, others: Sequence[Run], told: Told) -> Run:
        """Run the best plan found with the whole trace known and free instant transitions.

        Args:
            others: Runs of the same scenario: what they had standing is where the search begins.
            told: Told the share of each service's world runs that is done.
        """
        found: dict[str, Plan] = {}
        gaps = []
        for index, alone in enumerate(self._alone):
            service = alone.services[0]
            key = service.policy.key
            runs = (run.services[index].series for run in others if run.services)
            realised = [plan for series in runs for plan in plans.realised(series)]
            fixed = [self._plans(name)[key] for name in (SINGLE_POOL, BEST_STATIC)]
            planner = Planner(self._model(alone), service.requests)
            evaluate = _counted(self.evaluate(alone, instant=True), oracle.runs_for(len(service.requests)), told)
            best = oracle.search(evaluate, planner, service.requests, candidates=(*fixed, *realised))
            found[key] = fixed[0] if best.tried is None else best.tried.plan
            gaps.append(f"{key}: {best.runs} runs")
        run = engine.run(self.scenario, Scheduled(ORACLE, found), instant=True)
        return dataclasses.replace(run, settings=(*run.settings, ("oracle's search", "; ".join(gaps))))

    def meets(self, replicas: int) -> bool:
        """Return whether `replicas` of the first service's largest tp meet its SLO at full clock."""
        alone = self._alone[0]
        tp = max(profile.tp for profile in alone.truths[0])
        return self.evaluate(alone, instant=False)(Plan.fixed(tp, replicas)).slo_met

    # --- inside ------------------------------------------------------------------------------------

    def _play_fixed(self, name: str) -> Run:
        return engine.run(self.scenario, Scheduled(name, self._plans(name)))

    def _plans(self, name: str) -> dict[str, Plan]:
        """Return the fixed plan of every service."""
        if name not in self._fixed:
            self._fixed[name] = {alone.services[0].policy.key: self._search(name, alone) for alone in self._alone}
        return self._fixed[name]

    def _search(self, name: str, alone: Scenario) -> Plan:
        service = alone.services[0]
        evaluate, model = self.evaluate(alone, instant=False), self._model(alone)
        if name == SINGLE_POOL:
            return hindsight.single_pool(evaluate, model, service.requests).tried.plan
        found = hindsight.best_static(evaluate, model, service.requests)
        return self._plans(SINGLE_POOL)[service.policy.key] if found is None else found.plan

    def _model(self, alone: Scenario) -> fluid.Model:
        """Return the screening model on the true physics."""
        service = alone.services[0]
        return fluid.Model(alone.truths[0], service.policy.slo, service.policy.bounds, service.most_gpus)

    def evaluate(self, alone: Scenario, *, instant: bool) -> Evaluate:
        """Return what plays a plan of one service and scores it."""
        service = alone.services[0]

        def trial(plan: Plan) -> Trial:
            run = engine.run(alone, Scheduled("plan", {service.policy.key: plan}), instant=instant)
            scored = score.of(run, self.slo_set)
            return Trial(
                slo_met=scored.slo_met,
                energy_j=scored.energy_j,
                attainment_ratio=scored.overall.attainment_ratio or 0.0,
                good=measure.good(run.services[0].outcomes, self._held(service)),
                tick_j=_tick_j(run),
            )

        return trial

    def _held(self, service: Service) -> limits.Limits:
        return limits.of(self.slo_set, service.policy.slo)


def _counted(evaluate: Evaluate, runs: int, told: Told) -> Evaluate:
    """Return an `evaluate` that tells how far the search is."""
    done = 0

    def counting(plan: Plan) -> Trial:
        nonlocal done
        done += 1
        told(min(done / runs, 1.0))
        return evaluate(plan)

    return counting


def _tick_j(run: Run) -> Floats:
    """Return joules per `plans.CLOCK_S` from the run's start to its end, shape `[tick]`."""
    series = run.services[0].series
    joules = np.cumsum(series.gpus_w * np.diff(series.t_s, prepend=0.0))
    count = int(np.ceil(series.t_s[-1] / plans.CLOCK_S - 1e-9))
    edges_s = plans.CLOCK_S * np.arange(count + 1)
    by_edge = np.interp(edges_s, np.concatenate([[0.0], series.t_s]), np.concatenate([[0.0], joules]))
    ticks = np.diff(by_edge)
    return np.asarray(ticks * (run.services[0].energy.total_j / max(ticks.sum(), 1e-9)))
