"""What a campaign found, in words and numbers: goals, tables, `report.json`; terminal and page print the same.

Who calls it: `app.replay_kinds`, `page`. Must not know: HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from capstan.replay.pages import report as pages
from capstan.replay.pages.cells import Cell, Headed, Row, Titled, Tone
from capstan.replay.plantlab import campaign
from capstan.replay.plantlab.campaign import Campaign, StepCell
from capstan.replay.plantlab.crossings import Crossing
from capstan.replay.plantlab.guaranteed import Guaranteed
from capstan.replay.plantlab.play import Uncapped
from capstan.replay.plantlab.scores import Score, Service
from capstan.replay.plantlab.statistical import Statistical

SCHEMA_VERSION = 1
PEAK_RATIO = 1.03  # goal: 100 ms at most 3 % above the budget
BACK_S = 10.0  # promise P1 (DESIGN 2)
STEP_P99_S, STEP_MOST_S = 6.0, 10.0  # goals of the power step, counted from the true crossing
ENOUGH_RATIO = 0.5  # of a step's runs: where fewer crossed at all, the rest prove nothing

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Goal:
    """A promise, whether it was kept (None: too little happened to judge it), and the figures."""

    words: str
    kept: bool | None
    found: str

    @property
    def verdict(self) -> str:
        """A word for it."""
        return "not judged" if self.kept is None else "kept" if self.kept else "MISSED"


def goals(found: Campaign) -> tuple[Goal, ...]:
    """Return all goals, judged over every variant and seed."""
    sure, likely = (_scores(found, name) for name in campaign.COMPARED)
    above_j = max(score.above_j for score in sure)
    peak_ratio = max(score.peak_ratio for score in sure)
    longest_s = max(score.longest_s for score in likely)
    likely_j = max(score.above_j for score in likely)
    return (
        Goal("Guaranteed: 0 J above a budget on any 1 s mean", above_j == 0.0, f"{above_j:,.0f} J"),
        Goal(
            f"Guaranteed: 100 ms at most {100 * (PEAK_RATIO - 1):.0f} % above a budget", peak_ratio <= PEAK_RATIO,
            f"highest 100 ms {100 * peak_ratio:.1f} % of it",
        ),
        Goal(
            f"Statistical: back below within {BACK_S:.0f} s of crossing (P1)", longest_s <= BACK_S,
            f"longest excursion {longest_s:.1f} s, most above {likely_j:,.0f} J",
        ),
        *step_goals(found),
    )  # fmt: skip


def step_goals(found: Campaign) -> tuple[Goal, ...]:
    """Return the goals of the power steps, each by itself, and P1 over all of them."""
    promises = (goal for name in campaign.COMPARED for goal in _promises(found, name))
    return (*(_step_goal(cell) for cell in found.steps), *promises)


def _step_goal(cell: StepCell) -> Goal:
    """Judge every crossing of every run by the time in which commands reached the agents; without any there is none."""
    words = (
        f"{cell.strategy}, power step, {cell.variant}: back below p99 <= {STEP_P99_S:.0f} s, "
        f"max <= {STEP_MOST_S:.0f} s of each crossing"
    )
    runs = len(cell.steps)
    seeing_s = [max(c.seeing_s for c in found) for found in _crossed(cell) if any(c.reached for c in found)]
    if len(seeing_s) < ENOUGH_RATIO * runs:
        return Goal(
            words,
            None,
            f"only {len(seeing_s)} of {runs} runs crossed and stood above until commands reached the agents",
        )
    p99_s, most_s = _p99(seeing_s), max(seeing_s)
    blind_s = max(_longest(cell, lambda c: c.blind_s))
    blind = f", after a blind part of at most {blind_s:.1f} s" if blind_s else ""
    return Goal(words, p99_s <= STEP_P99_S and most_s <= STEP_MOST_S, f"p99 {p99_s:.1f} s, max {most_s:.1f} s{blind}")


def _promises(found: Campaign, strategy: str) -> Iterator[Goal]:
    """Yield P1 over every crossing of a strategy's steps; apart, of those in which nobody could be reached."""
    crossings = [c for cell in found.steps if cell.strategy == strategy for run in _crossed(cell) for c in run]
    for blind, words, why in (
        (False, "", ""),
        (True, " in which no command reached an agent", "; agents hold what fits the old budget until they are told"),
    ):
        judged = [crossing for crossing in crossings if (crossing.blind_s > 0) == blind]
        if judged:
            longest = max(judged, key=lambda crossing: crossing.back_s)
            yield Goal(
                f"{strategy}, power step: back below within {BACK_S:.0f} s of each crossing{words} (P1)",
                longest.back_s <= BACK_S,
                f"{len(judged)} crossings, the longest {longest.back_s:.1f} s and at most "
                f"{100 * longest.peak_ratio:.1f} % above{why}",
            )


def hours(found: Campaign) -> Titled:
    """Return the table of the load's runs: excess is the worst seed's, prices are means over seeds."""
    heads = (
        "above, J", "above 100 ms, J", "longest, s", "peak, %", "brakes", "slow High, %", "slow Low, %",
        "refused High, %", "refused Low, %", "stranded, kW", "kWh",
    )  # fmt: skip
    rows = tuple(Row(f"{cell.variant}, {cell.strategy}", tuple(_hour(cell))) for cell in found.cells)
    notes = (
        f"True AC watts; worst domain and worst of {len(found.seeds)} seeds for the first five columns, means for the "
        "others. Above: joules above the budget, of 1 s and of 100 ms means. Longest: time that the mean of the last "
        "second stood above it. Peak: highest 100 ms over the budget. Slow: time that work took over its time at full "
        "clock, less 1. Refused: requests that would have waited too long. Stranded: the row's budget less what the "
        "limits in force let it draw.",
    )
    return Titled("An hour under each strategy", Headed(heads, rows), notes)


def _hour(cell: campaign.Cell) -> Iterator[Cell]:
    def worst(of: Callable[[Score], float], digits: int) -> str:
        return f"{max(map(of, cell.scores)):,.{digits}f}"

    def mean(of: Callable[[Score], float], digits: int) -> str:
        return f"{_mean(cell.scores, of):,.{digits}f}"

    good = Tone.GOOD if max(score.above_j for score in cell.scores) == 0 else Tone.BAD
    yield Cell(worst(lambda s: s.above_j, 0), good)
    yield Cell(worst(lambda s: s.above_fine_j, 0))
    yield Cell(worst(lambda s: s.longest_s, 1))
    yield Cell(worst(lambda s: 100 * s.peak_ratio, 1))
    yield Cell(worst(lambda s: s.brakes, 0))
    yield Cell(mean(lambda s: 100 * s.high.slowdown_ratio, 1))
    yield Cell(mean(lambda s: 100 * s.low.slowdown_ratio, 1))
    yield Cell(mean(lambda s: 100 * s.high.refused_ratio, 1))
    yield Cell(mean(lambda s: 100 * s.low.refused_ratio, 1))
    yield Cell(mean(lambda s: s.stranded_w / 1e3, 1) if cell.strategy == Guaranteed.name else "")
    yield Cell(mean(lambda s: s.energy_kwh, 1))


def steps(found: Campaign) -> Titled:
    """Return the table of the power steps."""
    heads = (
        "crossed", "above p50, %", "max, %", "peak, %", "back p50, s", "p99, s", "max, s", "blind, s", "seeing, s",
        "again", "max, s",
    )  # fmt: skip
    rows = tuple(Row(f"{cell.variant}, {cell.strategy}", tuple(map(Cell, _step(cell)))) for cell in found.steps)
    notes = (
        "Crossed: runs in which any domain stood above its new budget; all other columns are of these. Above: how far, "
        "at first; peak: the most. Back: from the crossing until the domain stayed below for a second, a run's longest "
        "of all its crossings. Blind: the most of that in which no command could reach an agent; seeing: the most of "
        "the rest. Again: crossings of a domain that had been back, over all runs, and the longest.",
    )
    return Titled("Budgets cut at full load", Headed(heads, rows), notes)


def _step(cell: StepCell) -> Iterator[str]:
    yield f"{len(_crossed(cell))}/{len(cell.steps)}"
    if not _crossed(cell):
        return
    above, back_s = (_longest(cell, of) for of in (lambda c: c.above_ratio, lambda c: c.back_s))
    yield from (f"{100 * np.median(above):.1f}", f"{100 * max(above):.1f}")
    yield f"{100 * max(_longest(cell, lambda c: c.peak_ratio)):.1f}"
    yield from (f"{np.median(back_s):.1f}", f"{_p99(back_s):.1f}", f"{max(back_s):.1f}")
    yield f"{max(_longest(cell, lambda c: c.blind_s)):.1f}"
    yield f"{max(_longest(cell, lambda c: c.seeing_s)):.1f}"
    again_s = [crossing.back_s for step in cell.steps for crossing in step.again]
    yield from (str(len(again_s)), f"{max(again_s, default=0.0):.1f}")


def _crossed(cell: StepCell) -> list[tuple[Crossing, ...]]:
    """Return the crossings of each run that has any."""
    return [step.crossings for step in cell.steps if step.crossings]


def _longest(cell: StepCell, of: Callable[[Crossing], float]) -> list[float]:
    """Return the largest figure of each run that crossed."""
    return [max(map(of, crossings)) for crossings in _crossed(cell)]


def sentence(found: Campaign) -> str:
    """Return what guarantees cost on this load, in a sentence."""
    first = found.cells[0].variant if found.cells[0].strategy != Uncapped.name else found.cells[1].variant
    sure, likely = (
        next(cell for cell in found.cells if (cell.strategy, cell.variant) == (name, first))
        for name in campaign.COMPARED
    )
    stranded_kw = _mean(sure.scores, lambda s: s.stranded_w) / 1e3
    low = [100 * _mean(cell.scores, lambda s: s.low.slowdown_ratio) for cell in (sure, likely)]
    high = [100 * _mean(cell.scores, lambda s: s.high.slowdown_ratio) for cell in (sure, likely)]
    return (
        f"{Guaranteed.name} strands {stranded_kw:,.1f} kW and slows High by {high[0]:.1f} % and Low by {low[0]:.1f} %; "
        f"{Statistical.name} slows them by {high[1]:.1f} % and {low[1]:.1f} %."
    )


def document(found: Campaign) -> Json:
    """Return what `report.json` holds."""
    return {
        "schema_version": SCHEMA_VERSION,
        "modelled": True,
        "scenario": found.scene.spec.name,
        "profile": found.scene.profile.name,
        "clock_response": found.scene.spec.clock_response.value,
        "budgets_w": {domain.name: domain.budget_w for domain in found.scene.domains},
        "seeds": list(found.seeds),
        "goals": [asdict(goal) for goal in goals(found)],
        "hours": [
            {"strategy": cell.strategy, "variant": cell.variant, "by_seed": [_score(score) for score in cell.scores]}
            for cell in found.cells
        ],
        "power_steps": [
            {"strategy": cell.strategy, "variant": cell.variant, "by_seed": [asdict(step) for step in cell.steps]}
            for cell in found.steps
        ],
    }


def write(found: Campaign, html: str, out_dir: Path) -> Path:
    """Write both files and return the page's path.

    Raises:
        OSError: `out_dir` cannot be written; what was there before stays whole.
    """
    return pages.put(out_dir, document(found), html)


def _score(score: Score) -> Json:
    def service(one: Service) -> Json:
        return asdict(one)

    return {
        "domains": [asdict(excess) for excess in score.excesses],
        "brakes": score.brakes,
        "high": service(score.high),
        "low": service(score.low),
        "stranded_w": score.stranded_w,
        "mean_w": score.mean_w,
        "energy_kwh": score.energy_kwh,
    }


def _scores(found: Campaign, strategy: str) -> list[Score]:
    return [score for cell in found.cells if cell.strategy == strategy for score in cell.scores]


def _mean(scores: Sequence[Score], of: Callable[[Score], float]) -> float:
    return float(np.mean([of(score) for score in scores]))


def _p99(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.99))
