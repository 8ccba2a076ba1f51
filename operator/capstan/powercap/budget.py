"""The budget in force: what was declared, less timed reductions, halved where a redundant feed is lost.

Who calls it: `power`, once a tick before `step`. Pure. Must not know: levels, where a reading came from.

A reduction ramps, so that levels below the brake can follow it; an edited or late one goes on from the budget in
force. A plain cut of the declared budget is obeyed at once, as is the loss of a feed. Safe direction when blind: keep
what is in force.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from capstan.model.sample import Fresh, Sample

RAMP_S = 900.0
"""In so many seconds a ramp moves by the reduced budget, so the share of a steady draw rises by 1/900 a second at most:
in POLCA's slowest answer, two settles of 40 s, by 0.09, less than the 0.11 between its T2 and its brake
(facts/polca.md 1.3). A reduction by a quarter takes 300 s."""
CARRYING_RATIO = 0.10  # a feed below a tenth of what it usually carries is dead (facts/polca.md 5.6, FeedLost)
TAKEN_RATIO = 0.50  # of what a dead feed carried the others took over so much: else the load went, not the feed
USUAL_S = 600.0  # what is usual follows a feed so slowly: a meter's average that fades within a minute moves it by 10 %
HALF = 0.5  # facts/polca.md 5.6: FeedLost halves the budget at once


@dataclass(frozen=True, slots=True)
class Reduction:
    """A smaller budget for a time, in seconds of wall time."""

    from_s: float
    to_s: float
    budget_w: float

    def __post_init__(self) -> None:
        if self.budget_w <= 0:
            raise ValueError("a reduction's budget_w is not above zero")
        if self.from_s >= self.to_s:
            raise ValueError("a reduction's from_s is not before its to_s")


@dataclass(frozen=True, slots=True)
class BudgetMemory:
    """The budget of the tick before, feeds apart; None before the first: then a reduction under way holds at once."""

    budget_w: float | None = None
    at_s: float = 0.0


def reduced(
    declared_w: float, reductions: Iterable[Reduction], wall_s: float, memory: BudgetMemory, now_s: float
) -> tuple[float, BudgetMemory]:
    """Return the budget under its reductions, and what to remember.

    Of overlapping reductions the lowest counts. One that ends gives back at once.

    Args:
        declared_w: The domain's budget.
        reductions: Any, past ones too.
        wall_s: Wall time, which says what is due.
        memory: Of the tick before.
        now_s: A clock that never goes back: how far a ramp has come, whatever wall time jumps.
    """
    wanted_w, slope_w_per_s = declared_w, 0.0
    for reduction in reductions:
        slope = reduction.budget_w / RAMP_S
        ahead_w = reduction.budget_w + slope * max(reduction.from_s - wall_s, 0.0)
        if wall_s < reduction.to_s and ahead_w < wanted_w:
            wanted_w, slope_w_per_s = ahead_w, slope
    if memory.budget_w is not None:
        wanted_w = max(wanted_w, memory.budget_w - slope_w_per_s * (now_s - memory.at_s))
    budget_w = min(wanted_w, declared_w)
    return budget_w, BudgetMemory(budget_w, now_s)


@dataclass(frozen=True, slots=True)
class FeedsMemory:
    """What is known of redundant feeds.

    Attributes:
        usual_w: Watts that each feed carries while all of them do, by name.
        lost: Feeds that died and have not all carried again for a dwell.
        carrying_since_s: Since when all of them carry again; None: they do not.
        seen_s: When the last tick was; None: this is the first.
    """

    usual_w: Mapping[str, float] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    carrying_since_s: float | None = None
    seen_s: float | None = None


@dataclass(frozen=True, slots=True)
class Feeds:
    """Whether the redundant feeds of a domain are whole.

    Attributes:
        share_ratio: Of the budget, what may be drawn.
        lost: Feeds for whose sake.
        unread: Feeds without a reading to go by; while there are any nothing changes.
        memory: For the next tick.
    """

    share_ratio: float
    lost: tuple[str, ...]
    unread: tuple[str, ...]
    memory: FeedsMemory


def fed(readings: Mapping[str, Sample[float]], memory: FeedsMemory, now_s: float, *, dwell_s: float) -> Feeds:
    """Return what a domain's redundant feeds allow.

    A feed is lost when it carries less than a tenth of what is usual and the others took over at least half of that.
    On the first tick nothing is usual yet: one that carries less than a tenth of an even share is lost. A restart
    forgets the dwell of a feed that came back; who keeps `FeedsMemory.lost` in status keeps that, too.

    Args:
        readings: AC watts of each feed, by name; one alone is not redundant.
        memory: Of the tick before.
        now_s: A clock that never goes back.
        dwell_s: For so long all must carry again before the whole budget returns.
    """
    carried_w = _carried_w(readings)
    unread = tuple(sorted(readings.keys() - carried_w.keys()))
    before = tuple(name for name in memory.lost if name in readings) if len(readings) > 1 else ()
    if unread or len(readings) < 2:
        return _told(before, unread, FeedsMemory(memory.usual_w, before, None, now_s))
    usual_w = _usual_w(carried_w, memory)
    dead = [name for name, watts in carried_w.items() if watts < CARRYING_RATIO * usual_w[name]]
    lost = tuple(sorted({*before, *(name for name in dead if _taken_over(name, carried_w, usual_w))}))
    since_s = None if dead else now_s if memory.carrying_since_s is None else memory.carrying_since_s
    if since_s is not None and now_s - since_s >= dwell_s:
        lost = ()
    if not dead and not lost:
        usual_w = _followed(usual_w, carried_w, 0.0 if memory.seen_s is None else now_s - memory.seen_s)
    return _told(lost, (), FeedsMemory(usual_w, lost, since_s, now_s))


def _told(lost: tuple[str, ...], unread: tuple[str, ...], memory: FeedsMemory) -> Feeds:
    return Feeds(HALF if lost else 1.0, lost, unread, memory)


def _carried_w(readings: Mapping[str, Sample[float]]) -> dict[str, float]:
    fresh = {name: sample.value for name, sample in readings.items() if isinstance(sample, Fresh)}
    return {name: watts for name, watts in fresh.items() if math.isfinite(watts) and watts >= 0}


def _usual_w(carried_w: Mapping[str, float], memory: FeedsMemory) -> dict[str, float]:
    """Return what each feed usually carries; without a history, what it does, or an even share if that is nothing."""
    even_w = sum(carried_w.values()) / len(carried_w)
    known = {name: watts if watts >= CARRYING_RATIO * even_w else even_w for name, watts in carried_w.items()}
    if not memory.usual_w and known != carried_w:  # one is dead from the first tick: the others carry its share
        return dict.fromkeys(carried_w, even_w)
    return {name: memory.usual_w.get(name, known[name]) for name in carried_w}


def _taken_over(name: str, carried_w: Mapping[str, float], usual_w: Mapping[str, float]) -> bool:
    others = [other for other in carried_w if other != name]
    more_w = sum(carried_w[other] - usual_w[other] for other in others)
    return more_w >= TAKEN_RATIO * (usual_w[name] - carried_w[name])


def _followed(usual_w: Mapping[str, float], carried_w: Mapping[str, float], passed_s: float) -> dict[str, float]:
    share = -math.expm1(-passed_s / USUAL_S)
    return {name: known_w + share * (carried_w[name] - known_w) for name, known_w in usual_w.items()}
