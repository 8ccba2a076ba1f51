"""The forecast, judged on the weeks: how wrong it was beside two naive ones, and whether its bands hold what they say.

Who calls it: `app.experiment`. Must not know: how a forecast is made; `replay.foreseen` is the judge, as it is for
`capstan forecast`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from capstan.api import errors
from capstan.forecast.calendar import DAY_S
from capstan.replay import foreseen, load, play
from capstan.replay.experiments.findings import Reached, Reading
from capstan.replay.experiments.kinds import Figure, Goal
from capstan.replay.experiments.lab import SEEDS
from capstan.replay.experiments.pages import Json, Told, goal, reached, shown
from capstan.replay.foreseen import Judged
from capstan.replay.options import Options
from capstan.replay.pages.cells import Cell, Headed, Row, Titled
from capstan.replay.scores import bands, compare

NAME = "forecast"
WORDS = "How wrong is the forecast of the next half-hour, and do its 90 % bands hold 85 to 95 % of what came?"
SCENARIOS = ("conversation-week", "spiky-week")

SLOT_S, HORIZON_S = 300, 1800.0
"""Of the shipped periods: a slot is a pool period, an epoch a cluster period."""

BEGINS = {"azure-2024-conversation": 6, "synthetic:spiky-week": 4}
"""Days after a Monday of a source's first moment: 12 May 2024 was a Sunday; the made week begins on a Friday."""

COVERED = Figure("covered_ratio", "in band %", lambda _: None, 100.0, 1)
RATIO = Figure("loss_over_last_value_ratio", "loss over last value's", lambda _: None, 1.0, 3)
WEEK_RATIO = Figure("loss_over_last_week_ratio", "over last week's", lambda _: None, 1.0, 3)
ABOVE = Figure("peak_exceeded_ratio", "epochs above peak %", lambda _: None, 100.0, 1)
PEAK = Figure("peak_over_mean_ratio", "planned peak over mean", lambda _: None, 1.0, 2)


def judged(paths: tuple[Path, ...], asked: Options, told: play.Told) -> Told:
    """Judge the forecast on the first trace of each scenario file, two weeks of it, one seed after another.

    Raises:
        Invalid: A scenario's trace is not drawn from statistics.
    """
    seeds = asked.seeds or SEEDS
    found: dict[str, list[Judged]] = {}
    for path in paths:
        loaded = load.read(path, asked)
        for done, seed in enumerate(seeds):
            told(f"{path.stem}, seed {seed}", done / len(seeds))
            found.setdefault(path.stem, []).append(week(loaded, seed))
    return of(found, seeds)


def of(found: dict[str, list[Judged]], seeds: tuple[int, ...]) -> Told:
    """Return what judged streams say: by name, one for each seed."""
    readings = {name: _readings(each) for name, each in found.items()}
    goals = tuple(_goals(readings))
    return Told(
        name=NAME,
        question=WORDS,
        tables=(Titled(WORDS, _table(readings), NOTES),),
        sentences=tuple(map(goal, goals)),
        settings=(("seeds", ", ".join(map(str, seeds))), ("slot, epoch", f"{SLOT_S} s, {HORIZON_S:g} s")),
        results={"rows": [_row(name, each) for name, each in readings.items()], "goals": list(map(reached, goals))},
        passed=all(each.met for each in goals),
    )


NOTES = (
    "Two weeks each: the published one and another drawn from it (replay/weeks.py), so that last week is known in the "
    "second. Loss: pinball of the median, half an hour ahead; below 1 is better than the naive forecast.",
)


def week(loaded: load.Loaded, seed: int) -> Judged:
    """Return how the forecast of a week's rates, and of a week like it after that, came true.

    Raises:
        Invalid: The scenario's first trace is not drawn from statistics.
    """
    demand = loaded.demands[0]
    if demand.statistics is None:
        fix = f"the trace of {demand.spec.policy} is a file of its own; use capstan forecast --trace"
        raise errors.Invalid("--scenario", fix)
    begins_s = BEGINS.get(demand.spec.source, 0) * DAY_S
    known = foreseen.calendar(slot_s=SLOT_S, begins_s=begins_s)
    draw = foreseen.Draw(weeks=2, rate_ratio=float(demand.spec.rate_ratio), seed=seed)
    stream = foreseen.of_statistics(demand.statistics, known, draw)[0]
    return foreseen.judged(stream, horizon_s=HORIZON_S, leads_s=(HORIZON_S,))


def _readings(found: list[Judged]) -> tuple[Reading, ...]:
    """Return the figures of one stream over seeds."""
    far = [each.found[-1] for each in found]
    columns: dict[Figure, list[float | None]] = {
        COVERED: [one.score.covered_ratio for one in far],
        RATIO: [_over(one.score.ours_rps, one.score.last_value_rps) for one in far],
        WEEK_RATIO: [_over(one.score.ours_then_rps, one.score.last_week_rps) for one in far],
        ABOVE: [_over(one.exceeded, one.epochs) for one in far],
        PEAK: [each.peak_over_mean_ratio for each in found],
    }
    return tuple(Reading(figure, tuple(values), compare.estimate(values)) for figure, values in columns.items())


def _over(own: float, other: float) -> float | None:
    return own / other if other > 0 else None


def _table(readings: dict[str, tuple[Reading, ...]]) -> Headed:
    heads = tuple(reading.figure.head for reading in next(iter(readings.values())))
    return Headed(heads, tuple(Row(name, tuple(Cell(shown(one)) for one in each)) for name, each in readings.items()))


def _goals(readings: dict[str, tuple[Reading, ...]]) -> list[Reached]:
    """Return issue 5's: bands that hold 85 to 95 %, and losses below those of both naive forecasts."""
    asked = (
        Goal("band not too narrow", COVERED, least=bands.LEAST_COVERED),
        Goal("band not too wide", COVERED, most=bands.MOST_COVERED),
        Goal("not worse than the last value", RATIO, most=1.0),
        Goal("not worse than last week", WEEK_RATIO, most=1.0),
    )
    return [
        Reached(dataclasses.replace(one, row=name), name, next(r.mean for r in each if r.figure == one.figure))
        for name, each in readings.items()
        for one in asked
    ]


def _row(name: str, readings: tuple[Reading, ...]) -> Json:
    return {"label": name, "figures": {reading.figure.name: list(reading.values) for reading in readings}}
