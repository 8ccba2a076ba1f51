"""What plans promised beside what came: latencies and watts of each pool, and whether a band of past ratios holds.

Who calls it: `app.experiment`. Must not know: how a promise is made or written down (`promises`), what a band is
(`scores.bands`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from capstan.decide import MIN_SAMPLE_REQUESTS
from capstan.model.plan import Effect
from capstan.replay import play
from capstan.replay.experiments import lab, pages
from capstan.replay.experiments.catalog import CAPSTAN, HOUR
from capstan.replay.experiments.findings import Reached
from capstan.replay.experiments.kinds import Experiment, Figure, Goal, Row
from capstan.replay.experiments.pages import Json, Told
from capstan.replay.experiments.promises import Promise, Watched
from capstan.replay.pages import cells
from capstan.replay.pages.cells import Cell, Headed, Titled
from capstan.replay.pages.numbers import finite
from capstan.replay.runs import Floats, Run
from capstan.replay.scores import bands, compare, measure
from capstan.replay.scores.bands import Band, Spread
from capstan.replay.scores.compare import Estimate
from capstan.replay.seen import Service

NAME = "predictions"
ALL = "all pools"

LEAST_REQUESTS = int(MIN_SAMPLE_REQUESTS)
"""Plans under which fewer requests arrived are left out: observed percentiles of fewer say nothing (DESIGN 4)."""

GOOD_RATIO = 0.1
"""A median within a tenth of what was expected is called right: the profiles' own fit errors are of that size."""

RIGHT = "about right"
COVERED = Figure("covered_ratio", "in band %", lambda _: None, 100.0, 1)
FEW = "too few plans for a band"

EXPERIMENT = Experiment(
    name=NAME,
    words="What did each plan expect of TTFT, TPOT and watts, and what came until the plan changed?",
    rows=lambda _: (Row(CAPSTAN),),
    figures=(),
    asked=HOUR,
    notes=(
        "Ratios are what came over what the plan expected when it was made: TTFT and TPOT at the SLO's percentile of "
        "the requests that arrived while the pool stood as planned, nothing starting or draining, and mean watts of "
        f"its GPUs. Plans under which fewer than {LEAST_REQUESTS} requests arrived are left out.",
        "band: 90 %, by order statistics of the ratios of the first half of each pool's plans; in band: the share of "
        "the second half that lies in it. One band for all seeds, judged seed by seed; none of fewer than 19 plans.",
        "Pools are named after the prompts that they serve: short, medium, long.",
    ),
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """One thing that a plan expects: its words, its name in JSON, and where it stands in an effect."""

    words: str
    name: str
    of: Callable[[Effect], float | None]
    judged: bool


QUANTITIES = (
    Quantity("TTFT", "ttft", lambda effect: effect.ttft_s, judged=True),
    Quantity("TPOT", "tpot", lambda effect: effect.tpot_s, judged=True),
    Quantity("Watts", "power", lambda effect: effect.power_w, judged=False),
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A promise, what came of it, over how many requests; `late`: it is of the second half of its pool's at a seed."""

    promise: Promise
    realised: Effect
    requests: int
    late: bool = False
    seed: int = 1

    def ratio(self, quantity: Quantity) -> float | None:
        """Return realised over expected; None where either is not known."""
        own, expected = quantity.of(self.realised), quantity.of(self.promise.expected)
        return None if own is None or not expected else own / expected


@dataclass(frozen=True, slots=True)
class Found:
    """One quantity of one pool, or of all pools: the ratios of every plan, and what a band of the first half holds."""

    label: str
    spread: Spread | None
    band: Band | None
    covered: Estimate | None
    late: int

    @classmethod
    def of(cls, label: str, kept: Iterable[Kept], quantity: Quantity) -> Found:
        """Return what the plans of a pool show: one band for all seeds, and what it holds in the mean over them."""
        known = [(one, ratio) for one in kept if (ratio := one.ratio(quantity)) is not None]
        band = bands.band([ratio for one, ratio in known if not one.late])
        late: dict[int, list[float]] = {}
        for one, ratio in known:
            if one.late:
                late.setdefault(one.seed, []).append(ratio)
        held = [] if band is None else [band.covered_ratio(ratios) for ratios in late.values()]
        spread = bands.spread([ratio for _, ratio in known])
        return cls(label, spread, band, compare.estimate(held) if held else None, sum(map(len, late.values())))


# --- play --------------------------------------------------------------------------------------------


def judged(room: lab.Lab, told: play.Told) -> Told:
    """Play Capstan at every seed, and hold each plan against what came.

    Raises:
        Invalid: A flag makes no sense.
        TraceError, TariffError: A file's fault.
    """
    kept: list[Kept] = []
    made = 0
    for seed, stage in room.stages():
        watched = Watched.of(stage.scenario)

        def tell(done: float, seed: int = seed) -> None:
            told(f"{CAPSTAN}, seed {seed}", done)

        tell(0.0)
        run = stage.play(watched, tell)
        made += len(watched.promises)
        for index, service in enumerate(stage.scenario.services):
            own = [one for one in watched.promises if one.policy == service.policy.key]
            kept += halved(replace(one, seed=seed) for one in realised(own, run, index, service))
    counted = ("plans", f"{len(kept)} of {made} stood for {LEAST_REQUESTS} requests or more")
    return of(kept, (*lab.conditions(room), counted))


def realised(promises: Iterable[Promise], run: Run, index: int, service: Service) -> Iterator[Kept]:
    """Yield what came of each promise of one service under which enough requests arrived, oldest first.

    A request without a first token, or without an end, took for ever.
    """
    outcomes = run.services[index].outcomes
    requests, codes = outcomes.requests, service.codes
    ttft_s = _or_never(outcomes.first_s - requests.arrival_s)
    several = requests.output_tokens > 1
    tpot_s = _or_never((outcomes.finish_s - outcomes.first_s) / np.where(several, requests.output_tokens - 1, 1))
    percentile = service.policy.slo.percentile_ratio
    for promise in sorted(promises, key=lambda one: one.from_s or 0.0):
        if promise.from_s is None or promise.span_s <= 0:
            continue
        rows = (requests.arrival_s >= promise.from_s) & (requests.arrival_s < promise.from_s + promise.span_s)
        if promise.classes:
            rows &= np.isin(codes, promise.classes)
        if (count := int(rows.sum())) >= LEAST_REQUESTS:
            effect = Effect(
                power_w=promise.energy_j / promise.span_s,
                ttft_s=measure.nearest_rank(ttft_s[rows], percentile),
                tpot_s=measure.nearest_rank(tpot_s[rows & several], percentile),
            )
            yield Kept(promise, effect, count)


def _or_never(values_s: Floats) -> Floats:
    return np.where(np.isfinite(values_s), values_s, np.inf)


def halved(kept: Iterable[Kept]) -> list[Kept]:
    """Return plans of one seed with the second half of each pool's marked; of an odd number the middle one is early."""
    by_pool: dict[tuple[str, str], list[Kept]] = {}
    for one in kept:
        by_pool.setdefault((one.promise.policy, one.promise.pool), []).append(one)
    return [
        replace(one, late=2 * place >= len(own) + len(own) % 2)
        for own in by_pool.values()
        for place, one in enumerate(own)
    ]


# --- say ---------------------------------------------------------------------------------------------


def of(kept: list[Kept], settings: tuple[tuple[str, str], ...]) -> Told:
    """Return what plans that were held against what came say."""
    found = {quantity: tuple(_pools(kept, quantity)) for quantity in QUANTITIES}
    goals = tuple(_goals(found))
    return Told(
        name=NAME,
        question=EXPERIMENT.words,
        tables=tuple(
            Titled(f"{quantity.words}: what came over what was expected", _table(each), _notes(quantity))
            for quantity, each in found.items()
        ),
        sentences=(
            *(_sentence(quantity, each) for quantity, each in found.items()),
            *(pages.goal(one, FEW) for one in goals),
        ),
        settings=settings,
        results={
            "rows": [_json(quantity, one) for quantity, each in found.items() for one in each],
            "goals": list(map(pages.reached, goals)),
            "plans": [_plan(one) for one in kept],
        },
        passed=all(each.met for each in goals),
    )


def _pools(kept: list[Kept], quantity: Quantity) -> Iterator[Found]:
    """Yield every pool by name, those of several policies apart, then all together."""
    several = len({one.promise.policy for one in kept}) > 1
    labels = [f"{f'{one.promise.policy}, ' if several else ''}pool {one.promise.pool}" for one in kept]
    for label in sorted(set(labels)):
        yield Found.of(label, (one for own, one in zip(labels, kept, strict=True) if own == label), quantity)
    yield Found.of(ALL, kept, quantity)


def _notes(quantity: Quantity) -> tuple[str, ...]:
    return EXPERIMENT.notes if quantity is QUANTITIES[-1] else ()


def _table(found: tuple[Found, ...]) -> Headed:
    heads = ("plans", "median", "5-95 %", "band", "judged plans", "in band %")
    return Headed(heads, tuple(cells.Row(one.label, tuple(map(Cell, _texts(one)))) for one in found))


def _texts(one: Found) -> tuple[str, ...]:
    spread, covered = one.spread, one.covered
    return (
        "0" if spread is None else str(spread.count),
        pages.NOTHING if spread is None else f"{spread.median_ratio:.2f}",
        pages.NOTHING if spread is None else _range(spread.range),
        pages.NOTHING if one.band is None else _range(one.band),
        pages.NOTHING if one.band is None else str(one.late),
        pages.NOTHING if covered is None else pages.estimate(COVERED, covered),
    )


def _range(band: Band) -> str:
    return f"{band.low_ratio:.2f} to {band.high_ratio:.2f}"


def _sentence(quantity: Quantity, found: tuple[Found, ...]) -> str:
    """Return whether a quantity is expected too high or too low, and where most."""
    *each, whole = found
    if whole.spread is None:
        return f"{quantity.words}: no plan stood long enough to be judged."
    known = [(one.label, one.spread.median_ratio) for one in each if one.spread is not None]
    label, ratio = max(known, key=lambda one: abs(math.log(max(one[1], 1e-9))))
    off = len(known) > 1 and _verdict(ratio) != RIGHT
    furthest = f"; furthest off: {label}, {ratio:.2f} times" if off else ""
    median = whole.spread.median_ratio
    return (
        f"{quantity.words}: in the median {median:.2f} times what was expected came ({_verdict(median)}), from "
        f"{_range(whole.spread.range)} in nine plans of ten{furthest}."
    )


def _verdict(median_ratio: float) -> str:
    if abs(median_ratio - 1) <= GOOD_RATIO:
        return RIGHT
    return "expected too high" if median_ratio < 1 else "expected too low"


def _goals(found: dict[Quantity, tuple[Found, ...]]) -> Iterator[Reached]:
    """Yield issue 5's: bands of latencies that hold 85 to 95 % of the second half, all pools together."""
    for quantity, (*_, whole) in found.items():
        if not quantity.judged:
            continue
        covered = replace(COVERED, name=f"{quantity.name}_{COVERED.name}")
        for words, least, most in (("narrow", bands.LEAST_COVERED, None), ("wide", None, bands.MOST_COVERED)):
            goal = Goal(
                f"{quantity.words} band not too {words}, % of plans in it", covered, least=least, most=most, row=ALL
            )
            yield Reached(goal, ALL, whole.covered)


# --- for programs ------------------------------------------------------------------------------------


def _json(quantity: Quantity, one: Found) -> Json:
    spread, band = one.spread, one.band
    return {
        "label": one.label,
        "quantity": quantity.name,
        "plans": 0 if spread is None else spread.count,
        "median_ratio": None if spread is None else finite(spread.median_ratio),
        "range_ratio": None if spread is None else _ends(spread.range),
        "band_ratio": None if band is None else _ends(band),
        "judged_plans": one.late,
        "covered_ratio": None if one.covered is None else one.covered.mean,
        "half_width_95": None if one.covered is None else one.covered.half_width,
    }


def _plan(one: Kept) -> Json:
    promise = one.promise
    return {
        "policy": promise.policy,
        "pool": promise.pool,
        "fleet": [{"tp": tp, "replicas": count} for tp, count in promise.fleet],
        "clock_cap_mhz": promise.clock_cap_mhz,
        "from_s": promise.from_s,
        "until_s": promise.until_s,
        "requests": one.requests,
        "seed": one.seed,
        "second_half": one.late,
        "expected": _effect(promise.expected),
        "realised": _effect(one.realised),
    }


def _effect(effect: Effect) -> Json:
    values = {"ttft_s": effect.ttft_s, "tpot_s": effect.tpot_s, "power_w": effect.power_w}
    return {name: finite(value) for name, value in values.items()}


def _ends(band: Band) -> list[float | None]:
    return [finite(band.low_ratio), finite(band.high_ratio)]
