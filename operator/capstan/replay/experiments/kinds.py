"""What an experiment is: rows that are played, figures that are read off them, goals that are held against them.

Who calls it: `catalog` declares them, `lab` plays rows, `findings` reads figures. Must not know: how a row is played.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from capstan.replay.load import Loaded
from capstan.replay.options import Options
from capstan.replay.scenario import Scenario
from capstan.replay.scores.compare import Estimate
from capstan.replay.scores.recovery import Recovery
from capstan.replay.scores.score import Score

Bend = Callable[[Scenario], Scenario]
"""What is changed of a scenario that no flag of `capstan replay` changes."""


NOTHING_ASKED = Options()


def unchanged(scenario: Scenario) -> Scenario:
    """Return the scenario as it is."""
    return scenario


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an experiment: a system in a scenario that differs from the others' in one thing.

    Attributes:
        label: For people; each is there once in its experiment.
        system: `capstan`, or any other that `capstan replay --systems` knows.
        asked: Flags over those of the whole experiment.
        bend: What no flag says.
        beside: Label of the row that it is compared with, seed by seed; None: none.
        warm: Replicas that stand by, Ready and without requests, until the plan grows (`warm`).
        shown: False: it is only there to be compared with.
    """

    label: str
    system: str = "capstan"
    asked: Options = NOTHING_ASKED
    bend: Bend = unchanged
    beside: str | None = None
    warm: int = 0
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Cell:
    """One row at one seed.

    Attributes:
        score: By the limits that the row's policies aim at.
        single: single-pool in the same world, at the same seed; None: no figure asks for it.
        shocks: What became of each event, by policy.
        oracle: The best plan found in the same world, at the same seed; None: nobody asked for it.
    """

    score: Score
    single: Score | None = None
    shocks: tuple[tuple[str, Recovery], ...] = ()
    oracle: Score | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A row at one seed, and the row that it is compared with at the same; None: there is none."""

    own: Cell
    other: Cell | None


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a row at one seed.

    Attributes:
        name: In JSON, with its unit.
        head: Of its column, with the unit that people read; breaks at its first space.
        of: The number; None: there is none, for instance because the SLO was missed.
        scale: What people read is the number times this.
        digits: After the point.
        baseline: Whether it needs single-pool.
    """

    name: str
    head: str
    of: Callable[[Pair], float | None]
    scale: float = 1.0
    digits: int = 1
    baseline: bool = False


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure must reach in the mean over seeds.

    Attributes:
        words: For people.
        figure: Which.
        most, least: One of them, in the figure's own unit.
        row: Whose; None: the worst of all that are compared with another.
        beside: What that row is compared with here; None: what it is compared with in the table.
        shown_wrong: Whether only an interval that lies beyond the limit as a whole misses it (`not worse than`).
    """

    words: str
    figure: Figure
    most: float | None = None
    least: float | None = None
    row: str | None = None
    beside: str | None = None
    shown_wrong: bool = False

    def __post_init__(self) -> None:
        if (self.most is None) == (self.least is None):
            raise ValueError("a goal has either a most or a least")

    def holds(self, value: Estimate) -> bool:
        """Return whether a mean reaches it."""
        doubt = (value.half_width or 0.0) if self.shown_wrong else 0.0
        if self.most is not None:
            return value.mean - doubt <= self.most
        return self.least is not None and value.mean + doubt >= self.least


@dataclass(frozen=True, slots=True)
class Experiment:
    """One question.

    Attributes:
        name: On the command line.
        words: The question, in a sentence.
        rows: What is played; a scenario may have a say in it.
        figures: Columns of the table, left to right.
        scenario: Where nothing else is asked for, of `policies/scenarios`.
        asked: Flags where nothing else is asked for.
        goals: Of issue 5; printed with what was found.
        after_s: Only what arrives, and is drawn, from then on is scored.
        ordered: Whether all rows are ways to serve the same requests, so that their order by joules says something.
        notes: What a reader of the table must know.
    """

    name: str
    words: str
    rows: Callable[[Loaded], tuple[Row, ...]]
    figures: tuple[Figure, ...]
    scenario: str = "conversation-hour"
    asked: Options = NOTHING_ASKED
    goals: tuple[Goal, ...] = ()
    after_s: float = 0.0
    ordered: bool = False
    notes: tuple[str, ...] = ()

    @property
    def baseline(self) -> bool:
        """Whether a figure needs single-pool."""
        return any(figure.baseline for figure in (*self.figures, *(goal.figure for goal in self.goals)))
