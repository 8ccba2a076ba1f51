"""What a statement of a paper becomes when the numbers answer it: a verdict, a sentence, and the figures behind it.

Who calls it: the modules `on_*`, which judge, and `tables`, `page` and `files`, which print. Must not know: physics.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from capstan.model.profile import ClockResponse
from capstan.replay.study.survey import Study, View

MOST_RATIO = 0.5
"""Papers say "most" and "in many cases"; here that is more than this share of the cases that exist."""

NEGLIGIBLE_RATIO = 0.01
"""Energies closer than this are equal: `optimize.clock` takes its grid for the same reason."""


class Verdict(StrEnum):
    """How a statement fares under the assumed clock responses."""

    HOLDS = "holds"
    FAILS = "does not hold"
    FLIPS = "flips inside the clock-response band"
    OPEN = "not judged"


@dataclass(frozen=True, slots=True)
class Reading:
    """A statement under one clock response.

    Attributes:
        holds: None: these profiles and classes cannot answer it.
        sentence: What the numbers say.
        short: The figure on which it turns, in a few words.
        figures: The same for programs, by name with its unit.
    """

    holds: bool | None
    sentence: str
    short: str = "-"
    figures: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """What a paper says, where and how well we know it, and the rule that judges it.

    Attributes:
        key: A stable name.
        status: As in facts/dynamollm.md: `seen`, `[N1]`, or `direction` where the paper's figures were not found.
    """

    key: str
    paper: str
    status: str
    judge: Callable[[View], Reading]


@dataclass(frozen=True, slots=True)
class Finding:
    """A statement with one reading per clock response."""

    statement: Statement
    readings: tuple[tuple[ClockResponse, Reading], ...]
    nominal: Reading

    @property
    def verdict(self) -> Verdict:
        """The verdict over the band."""
        held = {reading.holds for _, reading in self.readings}
        if None in held:
            return Verdict.OPEN
        if len(held) > 1:
            return Verdict.FLIPS
        return Verdict.HOLDS if True in held else Verdict.FAILS

    @property
    def band(self) -> str:
        """The figure on which it turns under each response; once where they say the same."""
        shorts = {reading.short for _, reading in self.readings}
        if len(shorts) == 1:
            return self.nominal.short
        return "; ".join(f"{response.value} {reading.short}" for response, reading in self.readings)


def of(statement: Statement, study: Study) -> Finding:
    """Judge a statement under every clock response of a study."""
    readings = tuple((view.response, statement.judge(view)) for view in study.views)
    return Finding(statement, readings, dict(readings)[study.nominal.response])


def unanswered(why: str) -> Reading:
    """Return the reading of a statement that these profiles and classes cannot answer."""
    return Reading(None, f"Not judged: {why}.")


def percent(ratio: float) -> str:
    """Return a share in whole percent; `-0 %` does not exist."""
    return f"{round(100 * ratio) + 0} %"


def spread(ratios: Sequence[float]) -> str:
    """Return the median and the range of some shares, as `79 % (71 to 93 %)`."""
    middle, low, high = (round(100 * r) + 0 for r in (statistics.median(ratios), min(ratios), max(ratios)))
    return f"{middle} %" if low == high else f"{middle} % ({low} to {high} %)"


def most(cases: Sequence[bool]) -> bool:
    """Return whether more than `MOST_RATIO` of some cases are so; of none, no."""
    return sum(cases) > MOST_RATIO * len(cases)
