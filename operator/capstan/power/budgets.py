"""The budget of every domain now, and what its meters say: timed reductions, redundant feeds, the slow meter.

Who calls it: `judge`, every tick. Readings come from a task beside the loop (`ports.Meters`), with their age; a
Prometheus that is down makes them old and nothing else. Safe direction when blind: what is in force stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from capstan.api import convert_power
from capstan.api.convert_power import Query
from capstan.api.powerdomain import PowerDomainSpec
from capstan.model.reasons import Reason
from capstan.model.sample import Missing, Sample, graded
from capstan.power.ports import Meters
from capstan.powercap import budget
from capstan.powercap.budget import BudgetMemory, Feeds, FeedsMemory, Reduction
from capstan.powercap.domains import Timers

UNREAD: Sample[float] = Missing(Reason.NO_DATA)
WHOLE = Feeds(share_ratio=1.0, lost=(), unread=(), memory=FeedsMemory())


@dataclass(frozen=True, slots=True)
class Memory:
    """What the next tick must know."""

    budget: BudgetMemory = field(default_factory=BudgetMemory)
    feeds: FeedsMemory = field(default_factory=FeedsMemory)


@dataclass(frozen=True, slots=True)
class InForce:
    """The budget of one domain in one tick.

    Attributes:
        budget_w: What may be drawn now.
        ahead_w: The least budget that anything declared will bring: what arming and the safe setting must fit, so that
            a ramp rewrites no safe setting.
        deepest: The reduction that will bring the least, under way or to come; None: there is none.
        feeds: How the redundant feeds are.
        meter: AC watts of the domain's meter.
        problems: Meters that cannot be read, in words.
    """

    budget_w: float
    ahead_w: float
    deepest: Reduction | None = None
    feeds: Feeds = WHOLE
    meter: Sample[float] = UNREAD
    problems: tuple[str, ...] = ()


def queries(specs: Iterable[PowerDomainSpec]) -> frozenset[str]:
    """Return everything that the meters of some domains are asked."""
    asked: set[str] = set()
    for spec in specs:
        meter = convert_power.meter(spec)
        asked |= {query.promql for query in convert_power.feeds(spec).values()}
        asked |= {meter.promql} if meter is not None else set()
    return frozenset(asked)


def in_force(
    spec: PowerDomainSpec, memory: Memory, meters: Meters, now_s: float, wall_s: float
) -> tuple[InForce, Memory]:
    """Return the budget of a domain now, and what to remember."""
    declared_w = float(spec.budget_watts)
    cuts = convert_power.reductions(spec)
    reduced_w, remembered = budget.reduced(declared_w, cuts, wall_s, memory.budget, now_s)
    readings, problems = _feeds(spec, meters, now_s)
    feeds = budget.fed(readings, memory.feeds, now_s, dwell_s=Timers().dwell_s) if readings else WHOLE
    meter, said = _meter(spec, meters, now_s)
    deepest = min((cut for cut in cuts if wall_s < cut.to_s), key=lambda cut: cut.budget_w, default=None)
    ahead_w = declared_w if deepest is None else min(declared_w, deepest.budget_w)
    share = feeds.share_ratio
    made = InForce(reduced_w * share, ahead_w * share, deepest, feeds, meter, (*said, *problems))
    return made, Memory(remembered, feeds.memory)


def _feeds(spec: PowerDomainSpec, meters: Meters, now_s: float) -> tuple[Mapping[str, Sample[float]], tuple[str, ...]]:
    """Return what each feed carries: Fresh as long as its own age allows, for a feed's loss is told by nothing else."""
    found, problems = {}, []
    for name, query in convert_power.feeds(spec).items():
        found[name], problem = _sample(query, meters, now_s, fresh_s=query.max_age_s)
        problems += [f"feed {name}: {problem}"] if problem else []
    return found, tuple(problems)


def _meter(spec: PowerDomainSpec, meters: Meters, now_s: float) -> tuple[Sample[float], tuple[str, ...]]:
    """Return what the meter says: Fresh where it is as young as an agent's sample must be, Stale until its own age."""
    query = convert_power.meter(spec)
    if query is None:
        return UNREAD, ()
    sample, problem = _sample(query, meters, now_s, fresh_s=Timers().stale_s)
    return sample, (f"meter: {problem}",) if problem else ()


def _sample(query: Query, meters: Meters, now_s: float, *, fresh_s: float) -> tuple[Sample[float], str]:
    said = meters.said(query.promql)
    if said is None:
        return UNREAD, ""
    if said.value_w is None:
        return UNREAD, said.problem
    age_s = said.age_s + now_s - said.read_s
    if age_s > query.max_age_s:
        return Missing(Reason.STALE_DATA), f"its newest sample is older than {query.max_age_s:.0f} s"
    return graded(said.value_w, age_s, limit_s=fresh_s), ""
