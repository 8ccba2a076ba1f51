"""One scenario with the searches that run it many times: what stands between a search's plans and the engine.

Who calls it: `replay.play`, the rig's demo. Must not know: reports, which systems are compared.

Searches look at services one by one: they share nothing but power domains, which cap nobody in a search's world.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from capstan import units
from capstan.model.classes import Split
from capstan.model.policy import Pools
from capstan.optimize import lanes, split
from capstan.replay import classify, engine
from capstan.replay.runs import Floats, Requests, Run, ServiceRun
from capstan.replay.scenario import Scenario
from capstan.replay.scores import limits, measure, score
from capstan.replay.scores.compare import BEST_STATIC, ORACLE, SINGLE_POOL, STATIC_POOLS
from capstan.replay.searches import fluid, hindsight, oracle, plans, rate
from capstan.replay.searches.plans import Laned, Plan, Schedule, Scheduled, Standing, whole
from capstan.replay.searches.schedule import Planner
from capstan.replay.searches.trial import Evaluate, Met, Trial, Tried
from capstan.replay.seen import Service, System, Want

Told = Callable[[float], None]


REACH_RATIO = 1.15
"""Splits whose best fixed fleets use up to this much of the best split's joules are searched: time moves a fleet's
joules by a third at most, and nearly alike in every split."""

LATE_RATIOS = (0.9, 0.75, 0.6, 0.4)
"""Of the late requests that it may have, a pool of several has no more than this share in the oracle's plan: beside
other pools its replicas have other slots, so that ties fall otherwise, and a plan that just met the SLO alone may just
miss it. Where all of them together do, those with fewer take their place."""


LONG_S = 6 * units.SECONDS_PER_HOUR
"""Of a trace beyond this a part is played for the whole where only the way is searched: less takes seconds anyway."""


class Stage:
    """A scenario, scored by one set of limits. Searches are done once and remembered."""

    def __init__(self, scenario: Scenario, slo_set: limits.SloSet = limits.SloSet.SCENARIO) -> None:
        self.scenario = scenario
        self.slo_set = slo_set
        self._alone = [
            dataclasses.replace(scenario, services=(service,), truths=(truth,), domains=(), cuts=())
            for service, truth in zip(scenario.services, scenario.truths, strict=True)
        ]
        self._fixed: dict[str, dict[str, Schedule]] = {}
        self._static: dict[tuple[int, tuple[int, ...]], Tried | None] = {}

    def play(self, system: System, told: Told | None = None) -> Run:
        """Run a system that decides from what it sees."""
        return engine.run(self.scenario, system, progress=told)

    def single_pool(self) -> Run:
        """Run each service's smallest fixed fleet that meets the SLO at its largest tp and full clock."""
        return self._play_fixed(SINGLE_POOL)

    def single_pool_wants(self) -> dict[str, Want]:
        """Return what `single-pool` has of each service."""
        fixed = Scheduled(SINGLE_POOL, self._schedules(SINGLE_POOL))
        return {service.policy.key: fixed.start(service)[0] for service in self.scenario.services}

    def best_static(self) -> Run:
        """Run each service's best fixed (tp, replicas, clock) in hindsight; single-pool's where none meets the SLO."""
        return self._play_fixed(BEST_STATIC)

    def best_static_pools(self) -> Run:
        """Run the same with class pools: each service's best split, every pool with its best fixed fleet."""
        return self._play_fixed(STATIC_POOLS)

    def oracle(self, others: Sequence[Run], told: Told) -> Run:
        """Run the best plan found with the whole trace known and free instant transitions.

        Args:
            others: Runs of the same scenario: what they had standing is where the search begins.
            told: Told the share of each service's world runs that is done.
        """
        searches = [
            _Search(self, index, [run.services[index] for run in others if run.services], told)
            for index in range(len(self._alone))
        ]
        for one in searches:
            one.search()
        for each in self._ever_roomier(searches):
            run = engine.run(self.scenario, Scheduled(ORACLE, each), instant=True)
            if score.of(run, self.slo_set).slo_met:
                break
        runs = "; ".join(f"{search.key}: {search.runs} runs" for search in searches)
        return dataclasses.replace(run, settings=(*run.settings, ("oracle's search", runs)))

    def _ever_roomier(self, searches: Sequence[_Search]) -> Iterator[dict[str, Schedule]]:
        """Yield what was found for all services together, each time with fewer late requests in their pools."""
        before: dict[str, Schedule] = {}
        for late_ratio in LATE_RATIOS:
            each = {one.key: one.schedule(late_ratio) or self._schedules(SINGLE_POOL)[one.key] for one in searches}
            if each != before:
                yield each
            before = each

    def meets(self, replicas: int) -> bool:
        """Return whether `replicas` of the first service's largest tp meet its SLO at full clock."""
        alone = self._alone[0]
        tp = max(profile.tp for profile in alone.truths[0])
        plan = {alone.services[0].policy.key: whole(Plan.fixed(tp, replicas))}
        return score.of(engine.run(alone, Scheduled("fixed", plan)), self.slo_set).slo_met

    def long(self, index: int = 0) -> bool:
        """Return whether a service's trace is so long that a sample shows the way."""
        return float(self._alone[index].services[0].requests.arrival_s[-1]) > LONG_S

    def sampled(self, index: int = 0) -> Stage:
        """Return a service alone with a sample of its trace's hours."""
        return self._with(index, rate.sample(self._alone[index].services[0].requests))

    def faster(self, ratio: float) -> Stage:
        """Return the first service alone with its requests at a multiple of their rates."""
        return self._with(0, rate.faster(self._alone[0].services[0].requests, ratio))

    def _with(self, index: int, requests: Requests) -> Stage:
        alone = self._alone[index]
        service = dataclasses.replace(alone.services[0], requests=requests, predicted=None)
        lasting_s = float(requests.arrival_s[-1])
        return Stage(dataclasses.replace(alone, services=(service,), duration_s=lasting_s), self.slo_set)

    def carried_ratio(self, replicas: int) -> float:
        """Return about how many times its rates that many replicas of the first service carry, before any run."""
        alone = self._alone[0]
        return rate.carried_ratio(self.model(alone), alone.services[0].requests, replicas)

    # --- class pools -------------------------------------------------------------------------------

    def splits(self, index: int) -> tuple[Split, ...]:
        """Return the splits that a service's requests may have; one pool where its policy has no other."""
        pools = self._alone[index].services[0].policy.pools
        return tuple(split.candidates(pools.edges, pools.count)) if pools.by_class else (pools.edges.whole(),)

    def lane(self, index: int, codes: tuple[int, ...]) -> Scenario:
        """Return the scenario of some of a service's classes alone, in one pool under the limits that are theirs."""
        alone = self._alone[index]
        service = alone.services[0]
        policy = service.policy
        slo = lanes.limits(policy, codes)
        one = dataclasses.replace(policy, slo=slo, pools=Pools(edges=policy.pools.edges))
        if len(codes) == service.edges.count:
            return dataclasses.replace(alone, services=(dataclasses.replace(service, policy=one),))
        inside = np.isin(classify.true_codes(service.requests, service.edges), codes)
        requests = service.requests
        own = Requests(requests.arrival_s[inside], requests.prompt_tokens[inside], requests.output_tokens[inside])
        return dataclasses.replace(
            alone, services=(dataclasses.replace(service, policy=one, requests=own, predicted=None),)
        )

    def laned(self, index: int, codes: tuple[int, ...], plan: Plan) -> Laned:
        """Return a plan as that of the pool of these classes."""
        edges = self._alone[index].services[0].edges
        return Laned(plan, edges.pool_name(codes), () if len(codes) == edges.count else codes)

    def static(self, index: int, codes: tuple[int, ...]) -> Tried | None:
        """Return the best fixed fleet of some classes in a pool of their own; None where none meets the SLO."""
        if (index, codes) not in self._static:
            alone = self.lane(index, codes)
            requests = alone.services[0].requests
            found = None
            if len(requests):
                found = hindsight.best_static(self.evaluate(alone, instant=False), self.model(alone), requests)
            self._static[index, codes] = found
        return self._static[index, codes]

    def shown_static(self, index: int, codes: tuple[int, ...]) -> Tried | None:
        """Return what a search for moving plans is shown of fixed ones: of a long trace, only what is known already.

        There the search for it takes longer than the other, and a fleet that never moves is far from the best.
        """
        count = len(self.lane(index, codes).services[0].requests)
        known = (index, codes) in self._static
        return self.static(index, codes) if known or hindsight.runs_for(count) > hindsight.LEAST_STATIC_RUNS else None

    def static_j(self, index: int, one: Split) -> float:
        """Return the joules of a split's best fixed fleets; infinite where a pool has none."""
        tried = [self.static(index, codes) for codes in one]
        return sum(float("inf") if each is None else each.trial.energy_j for each in tried)

    def model(self, alone: Scenario) -> fluid.Model:
        """Return the screening model on the true physics."""
        service = alone.services[0]
        return fluid.Model(alone.truths[0], service.policy.slo, service.policy.bounds, service.most_gpus)

    def evaluate(self, alone: Scenario, *, instant: bool, late_ratio: float = 1.0) -> Evaluate:
        """Return what plays a plan of one service, as one pool, and scores it.

        `late_ratio` is the share of the late requests that the SLO allows, overall and in every class.
        """
        service = alone.services[0]
        least_ratio = 1 - late_ratio * (1 - self._held(service).percentile_ratio)

        def trial(plan: Plan) -> Trial:
            run = engine.run(alone, Scheduled("plan", {service.policy.key: whole(plan)}), instant=instant)
            scored = score.of(run, self.slo_set)
            ratios = (scored.overall.attainment_ratio or 0.0, *(ratio for _, ratio in scored.overall.by_class))
            return Trial(
                slo_met=scored.slo_met and min(ratios) >= least_ratio,
                energy_j=scored.energy_j,
                attainment_ratio=scored.overall.attainment_ratio or 0.0,
                good=measure.good(run.services[0].outcomes, self._held(service)),
                tick_j=_tick_j(run),
                late_ratio=(1 - min(ratios)) / (1 - self._held(service).percentile_ratio),
            )

        return trial

    # --- inside ------------------------------------------------------------------------------------

    def _play_fixed(self, name: str) -> Run:
        return engine.run(self.scenario, Scheduled(name, self._schedules(name)))

    def _schedules(self, name: str) -> dict[str, Schedule]:
        """Return the fixed schedule of every service."""
        if name not in self._fixed:
            found = (self._search(name, index) for index in range(len(self._alone)))
            keys = [alone.services[0].policy.key for alone in self._alone]
            self._fixed[name] = dict(zip(keys, found, strict=True))
        return self._fixed[name]

    def _search(self, name: str, index: int) -> Schedule:
        everything = self._alone[index].services[0].edges.whole()[0]
        if name == SINGLE_POOL:
            alone = self.lane(index, everything)
            requests = alone.services[0].requests
            return whole(
                hindsight.single_pool(self.evaluate(alone, instant=False), self.model(alone), requests).tried.plan
            )
        splits = self.splits(index) if name == STATIC_POOLS else ((everything,),)
        best = min(splits, key=lambda one: (self.static_j(index, one), len(one)))
        tried = [self.static(index, codes) for codes in best]
        plans = [each.plan for each in tried if each is not None]
        if len(plans) < len(best):
            return self._schedules(SINGLE_POOL)[self._alone[index].services[0].policy.key]
        return tuple(self.laned(index, codes, plan) for codes, plan in zip(best, plans, strict=True))

    def _held(self, service: Service) -> limits.Limits:
        return limits.of(self.slo_set, service.policy.slo)


class _Search:
    """The oracle's search for one service: every split that comes into question, pool by pool."""

    def __init__(self, stage: Stage, index: int, others: Sequence[ServiceRun], told: Told) -> None:
        self.runs = 0
        self.key = stage.scenario.services[index].policy.key
        self._stage = stage
        self._index = index
        self._others = others
        self._told = told
        self._splits: list[Split] = []
        self._found: dict[tuple[int, ...], oracle.Found | None] = {}

    def search(self) -> None:
        """Search every pool of the splits that come into question."""
        self._splits = self._near(self._stage.splits(self._index))
        pools = {codes for one in self._splits for codes in one}
        self._found = {codes: self._lane(codes, at / len(pools), len(pools)) for at, codes in enumerate(sorted(pools))}

    def schedule(self, late_ratio: float) -> Schedule | None:
        """Return the schedule of least joules that was found; None where none meets the SLO.

        Args:
            late_ratio: Of the late requests that may be, in each of several pools; one pool alone may have all.
        """
        met = {codes: self._within(codes, late_ratio) for codes in self._found}

        def joules(one: Split) -> float:
            return sum(float("inf") if found is None else found.energy_j for found in (met[codes] for codes in one))

        found = [(codes, met[codes]) for codes in min(self._splits, key=joules)]
        if any(one is None for _, one in found):
            return None
        return tuple(self._stage.laned(self._index, codes, one.plan) for codes, one in found if one is not None)

    def _within(self, codes: tuple[int, ...], late_ratio: float) -> Met | None:
        found = self._found[codes]
        return None if found is None else found.within(1.0 if len(self._found) == 1 else late_ratio)

    def _near(self, each: tuple[Split, ...]) -> list[Split]:
        """Return the splits worth a search: by their best fixed fleets, of a long trace by those of a few of its hours.

        There only the best one is: a search for each takes half an hour.
        """
        if len(each) == 1:
            return [*each]
        stage, index = self._stage, self._index
        if stage.long(index):
            few = stage.sampled(index).sampled()
            return [min(each, key=lambda one: (few.static_j(0, one), len(one)))]
        ranked = {one: stage.static_j(index, one) for one in each}
        return [one for one in each if ranked[one] <= REACH_RATIO * min(ranked.values())]

    def _lane(self, codes: tuple[int, ...], before: float, pools: int) -> oracle.Found | None:
        """Return what was found for some classes in a pool of their own; None where nobody asks."""
        stage = self._stage
        alone = stage.lane(self._index, codes)
        requests = alone.services[0].requests
        if not len(requests):
            return None
        planner = Planner(stage.model(alone), requests)
        evaluate = _counted(
            stage.evaluate(alone, instant=True, late_ratio=LATE_RATIOS[0] if pools > 1 else 1.0),
            oracle.runs_for(len(requests)),
            lambda done: self._told(before + done / pools),
        )
        static = stage.shown_static(self._index, codes)
        candidates = [*([] if static is None else [static.plan]), *self._realised(codes)]
        found = oracle.search(evaluate, planner, requests, candidates=candidates)
        self.runs += found.runs
        return found

    def _realised(self, codes: tuple[int, ...]) -> list[Plan]:
        """Return what others had standing for these classes."""
        everything = len(codes) == self._stage.scenario.services[self._index].edges.count
        own = [lane for run in self._others for lane in run.lanes if lane.classes == codes]
        standing: list[Standing] = [run.series for run in self._others if everything and not run.lanes]
        return [plan for series in (*own, *standing) for plan in plans.realised(series)]


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
