"""Everything that one `capstan replay` asks for: which systems, in which order, over which seeds and fleet sizes.

Who calls it: `app.replay`. Must not know: terminals, files of reports.

The order matters: `single-pool` and `best-static` first, because others are compared with them; then every system
that decides from what it sees; then `oracle`, which may look at what all of them did; then `bound`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from capstan.api import errors
from capstan.api.system import System
from capstan.replay import costs, provision
from capstan.replay.autoscalers import registry
from capstan.replay.load import Loaded
from capstan.replay.runs import Energy, Run
from capstan.replay.scores import compare, limits, score
from capstan.replay.scores.compare import (
    BEST_STATIC,
    BOUND,
    ORACLE,
    SINGLE_POOL,
    STATIC_POOLS,
    Column,
    Comparison,
    Conditions,
)
from capstan.replay.searches import demand, honesty, rate
from capstan.replay.stage import Stage
from capstan.replay.systems import Capstan
from capstan.replay.twins import Twins

FIXED, CAPSTAN = "fixed", "capstan"
BEFORE, AFTER = (SINGLE_POOL, BEST_STATIC, STATIC_POOLS, FIXED), (CAPSTAN, ORACLE, BOUND)
NAMES = (*BEFORE, *registry.REGISTRY, *AFTER)
KNOWN = (*NAMES, *registry.VARIANTS)
ALL = tuple(name for name in NAMES if name != FIXED)
DEFAULT = (SINGLE_POOL, CAPSTAN)

AS_SHIPPED = System(kind="System", name=CAPSTAN, words="Capstan as it is")

Told = Callable[[str, float], None]
"""Told what is going on, and the share of it that is done."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One comparison, and the faults of its honesty checks with the case (JSON) that shows them."""

    comparison: Comparison
    servers: int | None = None
    faults: tuple[str, ...] = ()
    case: str = ""

    @property
    def passed(self) -> bool:
        """Whether the system on trial kept SLO and budgets."""
        return self.comparison.first.score.passed


def wanted(names: Sequence[str], configured: Collection[str] = ()) -> tuple[str, ...]:
    """Return the systems asked for, in the order in which they are run; `configured` are those of settings files.

    Raises:
        Invalid: There is no such system.
    """
    asked = DEFAULT if not names else tuple(ALL) if tuple(names) == ("all",) else tuple(names)
    known = (*KNOWN, *configured)
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise errors.Invalid("--systems", f"{', '.join(unknown)} is none of {', '.join(known)}; or all")
    return tuple(sorted(dict.fromkeys(asked), key=_rank))


def everything(loaded: Loaded, told: Told) -> tuple[Outcome, ...]:
    """Play all that was asked for: one outcome per fleet size.

    Raises:
        Invalid: There is no such system, or nothing to rank its plans by; before anything is played.
    """
    options = loaded.options
    names = wanted(options.systems, loaded.systems)
    for name in names:
        own = loaded.systems.get(name)
        if own is not None and own.objective is not None:
            costs.check(own.objective, loaded.tariffs, f"--systems {name}")
    return tuple(_outcome(loaded, names, servers, told) for servers in options.servers or (None,))


def _outcome(loaded: Loaded, names: tuple[str, ...], servers: int | None, told: Told) -> Outcome:
    options = loaded.options
    slo_set = options.slo or limits.SloSet.SCENARIO
    rate, provisioning = rate_of(loaded, servers, slo_set, told)
    first: tuple[Column, ...] = ()
    seeds: list[tuple[score.Score, ...]] = []
    for seed in options.seeds:
        scenario = loaded.scenario(seed=seed, servers=servers, rate=rate)
        label = f"seed {seed}, " if len(options.seeds) > 1 else ""
        columns = _columns(Stage(scenario, slo_set), names, loaded, _labelled(told, label))
        first = first or columns
        seeds.append(tuple(column.score for column in columns))  # of a further seed nothing else is kept
        if not loaded.chancy and rate == 1.0:
            break  # nothing is random: another seed would be the same run
    conditions = Conditions(
        scenario=loaded.run.name,
        slo=slo_set,
        rate_multiple=rate,
        provisioning=provisioning,
        clock_response=str(options.clock_response or "nominal"),
        settings=first[0].run.settings,
    )
    comparison = compare.of(_on_trial_first(first), conditions, more_seeds=seeds[1:])
    faults, case = _honesty(seeds, conditions)
    return Outcome(comparison, servers, faults, case)


def _columns(stage: Stage, names: tuple[str, ...], loaded: Loaded, told: Told) -> tuple[Column, ...]:
    """Play systems one after the other."""
    columns: list[Column] = []
    twins = Twins(stage, loaded.systems)
    for name in names:
        told(name, 0.0)
        if name == BOUND:
            columns.append(_bound(stage, columns))
            continue
        tell = functools.partial(told, name)
        run = twins.play(name, tell) if name in loaded.systems else play_one(stage, name, columns, tell)
        free = _uncapped(twins, run, loaded, tell) if loaded.run.slowdowns else None
        scored = score.of(run, stage.slo_set, stage.scenario.settings.tariffs, uncapped=free)
        columns.append(Column(run, scored))
    return tuple(columns)


def _uncapped(twins: Twins, run: Run, loaded: Loaded, told: Callable[[float], None]) -> Run:
    """Return the run of the same system without caps; only Capstan and settings files let power domains cap."""
    if run.system == CAPSTAN:
        return twins.uncapped(AS_SHIPPED, told)
    own = loaded.systems.get(run.system)
    return run if own is None else twins.uncapped(own, told)


def _labelled(told: Told, label: str) -> Told:
    """Return a teller that says which seed it is about."""

    def tell(what: str, done: float) -> None:
        told(label + what, done)

    return tell


def play_one(stage: Stage, name: str, before: Sequence[Column], told: Callable[[float], None]) -> Run:
    """Play one system."""
    if name == SINGLE_POOL:
        return stage.single_pool()
    if name == BEST_STATIC:
        return stage.best_static()
    if name == STATIC_POOLS:
        return stage.best_static_pools()
    if name == FIXED:
        return stage.play(provision.at_mean_load(stage.scenario), told)
    if name == ORACLE:
        return stage.oracle([column.run for column in before], told)
    if name == CAPSTAN:
        return stage.play(Capstan.of(stage.scenario), told)
    make = registry.REGISTRY.get(name) or registry.VARIANTS[name]
    return stage.play(make(), told)


def _bound(stage: Stage, columns: Sequence[Column]) -> Column:
    """Return the column of the lower bound, shaped like any run of the same trace."""
    from capstan.replay.searches import bound  # here, not above: scipy's optimiser takes a third of a second to import

    like = columns[0] if columns else None
    if like is None:
        run = stage.play(provision.at_mean_load(stage.scenario), lambda _: None)
        like = Column(run, score.of(run, stage.slo_set))
    energy = {}
    for service, truth in zip(stage.scenario.services, stage.scenario.truths, strict=True):
        held = limits.of(stage.slo_set, service.policy.slo)
        each = demand.Limits(held.ttft_of(service.requests.prompt_tokens), held.tpot_s, held.percentile_ratio)
        found = bound.of(service.requests, each, truth, service.policy.bounds)
        energy[service.policy.key] = Energy(found.work_j, found.idle_j, 0.0)
    return compare.bound(like, energy)


def rate_of(loaded: Loaded, servers: int | None, slo_set: limits.SloSet, told: Told) -> tuple[float, str]:
    """Return the rate multiple, and how the size of the fleet came about.

    A fleet does where it meets the SLO at every seed of the options.

    Raises:
        Invalid: No rate needs as many replicas as `auto:N` says.
    """
    asked = loaded.options.rate
    if asked.replicas is None:
        return asked.multiple, "as given"
    seeds = loaded.options.seeds

    @functools.lru_cache(maxsize=1)  # a week's scenario takes gigabytes
    def stage(multiple: float, seed: int) -> Stage:
        told(f"the rate at which {asked.replicas} replicas are the smallest fixed fleet: {multiple:.4g}", 0.0)
        return Stage(loaded.scenario(seed=seed, servers=servers, rate=multiple), slo_set)

    @functools.cache
    def meets(multiple: float, replicas: int) -> bool:
        return all(stage(multiple, seed).meets(replicas) for seed in seeds)

    @functools.cache
    def sample(seed: int) -> Stage:
        return stage(1.0, seed).sampled()

    def screen(multiple: float, replicas: int) -> bool:
        return all(sample(seed).faster(multiple).meets(replicas) for seed in seeds)

    try:
        start_ratio = stage(1.0, seeds[0]).carried_ratio(asked.replicas)
        way = screen if stage(1.0, seeds[0]).long() else None
        found = rate.auto_rate(meets, asked.replicas, start_ratio=start_ratio, screen=way)
    except ValueError as problem:
        raise errors.Invalid("--scale-rate", str(problem)) from problem
    return found, f"auto:{asked.replicas}"


def _on_trial_first(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """Return the columns with Capstan first, where it is among them; else in the order in which they were played."""
    return tuple(sorted(columns, key=lambda column: column.run.system != CAPSTAN))


def _honesty(seeds: Sequence[tuple[score.Score, ...]], conditions: Conditions) -> tuple[tuple[str, ...], str]:
    """Return the faults of all seeds, and the first case that has one."""
    faults: list[str] = []
    case = ""
    for scores in seeds:
        rows = {one.system: honesty.Row(one.energy_j, one.slo_met) for one in scores}
        found = honesty.check(rows)
        if found and not case:
            case = honesty.case(rows, found, conditions.settings)
        faults += found
    return tuple(faults), case


def _rank(name: str) -> int:
    return NAMES.index(name) if name in NAMES else NAMES.index(CAPSTAN) - 1
