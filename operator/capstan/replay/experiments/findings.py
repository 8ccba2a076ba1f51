"""What came out of an experiment: figures per row over seeds, compared seed by seed, and whether goals were reached.

Who calls it: `app.experiment`, `pages`. Must not know: how rows were played.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from capstan.replay.experiments.kinds import Cell, Experiment, Figure, Goal, Pair, Row
from capstan.replay.experiments.lab import Cells
from capstan.replay.scores import compare
from capstan.replay.scores.compare import ORACLE, Estimate
from capstan.replay.searches import honesty


@dataclass(frozen=True, slots=True)
class Reading:
    """One figure of one row: a value per seed, and their mean; no mean where a seed has no value."""

    figure: Figure
    values: tuple[float | None, ...]
    mean: Estimate | None


@dataclass(frozen=True, slots=True)
class Line:
    """One row with its cells and what was read off them."""

    row: Row
    cells: tuple[Cell, ...]
    readings: tuple[Reading, ...]

    @property
    def missed(self) -> int:
        """Seeds in which it missed the SLO."""
        return sum(not cell.score.slo_met for cell in self.cells)


@dataclass(frozen=True, slots=True)
class Reached:
    """A goal, the row that decides it, and what it came to; None: a row has no such figure."""

    goal: Goal
    row: str
    value: Estimate | None

    @property
    def met(self) -> bool:
        """Whether it was reached; what was not shown was not."""
        return self.value is not None and self.goal.holds(self.value)


@dataclass(frozen=True, slots=True)
class Found:
    """An experiment with its results."""

    experiment: Experiment
    lines: tuple[Line, ...]
    goals: tuple[Reached, ...]

    def line(self, label: str) -> Line:
        """Return a row by its label.

        Raises:
            KeyError: There is none.
        """
        for line in self.lines:
            if line.row.label == label:
                return line
        raise KeyError(label)


def of(experiment: Experiment, rows: tuple[Row, ...], cells: Cells) -> Found:
    """Return what rows show; those that are only there to be compared with are left out.

    Raises:
        ValueError: Two rows have one label, or one is compared with a row that is not there.
    """
    labels = [row.label for row in rows]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise ValueError(f"two rows of {experiment.name} are called {twice[0]}")
    lost = [row.beside for row in rows if row.beside is not None and row.beside not in labels]
    if lost:
        raise ValueError(f"{experiment.name} has no row {lost[0]} to compare with")
    shown = tuple(row for row in rows if row.shown)
    lines = tuple(_line(experiment, row, cells) for row in shown)
    return Found(experiment, lines, tuple(_reached(goal, shown, cells) for goal in experiment.goals))


def faults(found: Found) -> tuple[str, ...]:
    """Return what the honesty checks of a replay find in rows that are all of one world, seed by seed."""
    if not any(line.row.system == ORACLE for line in found.lines):
        return ()
    each = [honesty.check(_rows(found, place)) for place in range(len(found.lines[0].cells))]
    return tuple(fault for faults in each for fault in faults)


def _rows(found: Found, place: int) -> dict[str, honesty.Row]:
    scores = ((line.row.label, line.cells[place].score) for line in found.lines)
    return {label: honesty.Row(score.energy_j, score.slo_met) for label, score in scores}


def read(figure: Figure, row: Row, cells: Cells) -> Reading:
    """Return one figure of a row, seed by seed beside the row that it is compared with."""
    own = cells[row.label]
    others = (None,) * len(own) if row.beside is None else cells[row.beside]
    values = tuple(figure.of(Pair(cell, other)) for cell, other in zip(own, others, strict=True))
    return Reading(figure, values, compare.estimate(values))


def _line(experiment: Experiment, row: Row, cells: Cells) -> Line:
    return Line(row, cells[row.label], tuple(read(figure, row, cells) for figure in experiment.figures))


def _reached(goal: Goal, rows: tuple[Row, ...], cells: Cells) -> Reached:
    """Return whether a goal was reached, by its row or by the worst of all that are compared with another."""
    asked = [row for row in rows if (row.label == goal.row if goal.row else row.beside is not None)]
    if goal.beside is not None:
        asked = [dataclasses.replace(row, beside=goal.beside) for row in asked]
    each = [Reached(goal, row.label, read(goal.figure, row, cells).mean) for row in asked]
    return max(each, key=_badness, default=Reached(goal, goal.row or "", None))


def _badness(reached: Reached) -> float:
    """Return how far a goal was missed, in its own unit; endless where nothing was shown."""
    if reached.value is None:
        return math.inf
    goal, mean = reached.goal, reached.value.mean
    return mean - goal.most if goal.most is not None else (goal.least or 0.0) - mean
