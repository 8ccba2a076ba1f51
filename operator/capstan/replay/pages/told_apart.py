"""Tables about requests told apart: what wrong guesses of an answer's length cost, and joules per request by class.

Who calls it: `pages.page`. Must not know: HTML. A table that would be empty is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from capstan.model.oddity import ODD_RATIO
from capstan.replay.pages import words
from capstan.replay.pages.cells import Cell, Headed, Row, Titled, Tone
from capstan.replay.runs import ServiceRun
from capstan.replay.scores import limits, misplaced, routes
from capstan.replay.scores.compare import Column, Comparison
from capstan.replay.scores.misplaced import Placed
from capstan.replay.scores.routes import ClassEnergy
from capstan.replay.scores.score import PolicyScore

GUESS_HEADS = ("output bucket right", "good of these", "taken for shorter", "good of these", "their like, well placed",
               "lost", "taken for longer", "good of these", "their like, well placed", "lost")  # fmt: skip
GUESS_NOTES = (
    "Their like: requests of the same true classes in the same mix that were guessed right. Lost: how many more would "
    "have been good at that share; below 0, misplacing them helped. What wrong guesses cost in joules shows beside a "
    "run with --predictor 1.",
)
ENERGY_NOTES = (
    "Joules per request. Boards meter all that they compute at once: the service's joules, idle ones included, are "
    "shared out by what each class's tokens cost in the model.",
    "In brackets: the oddest five minutes, in robust standard deviations from those before them; beyond "
    f"{ODD_RATIO:g} is odd.",
)


def of(comparison: Comparison) -> tuple[Titled, ...]:
    """Return the tables that have something to say."""
    served = [found for column in comparison.columns for found in _services(column)]
    guessed = tuple(_guess_row(name, run, score) for name, run, score in served if run.routed is not None)
    spent = [(name, {one.name: one for one in routes.of(run)}) for name, run, _ in served]
    tables = [Titled("Guessed lengths of answers", Headed(GUESS_HEADS, guessed), GUESS_NOTES)] if guessed else []
    there = tuple(name for name in limits.CLASSES if any(name in found for _, found in spent))
    if there:
        rows = tuple(Row(name, tuple(_energy_cell(found.get(n)) for n in there)) for name, found in spent if found)
        tables.append(Titled("Joules per request by class", Headed(there, rows), ENERGY_NOTES))
    return tuple(tables)


def _services(column: Column) -> Iterator[tuple[str, ServiceRun, PolicyScore]]:
    """Yield a system's services under the system's name, with their own where there are several."""
    scores = {score.policy: score for score in column.score.policies}
    for run in column.run.services:
        several = len(column.run.services) > 1
        yield f"{column.run.system}, {run.policy}" if several else column.run.system, run, scores[run.policy]


def _guess_row(name: str, run: ServiceRun, score: PolicyScore) -> Row:
    assert run.routed is not None  # noqa: S101 - said by the caller
    found = misplaced.of(run.outcomes, run.routed, score.limits)
    cells = [Cell(words.percent(found.accuracy_ratio)), Cell(words.percent(found.right.attainment_ratio))]
    return Row(name, (*cells, *_placed_cells(found.shorter), *_placed_cells(found.longer)))


def _placed_cells(found: Placed) -> tuple[Cell, ...]:
    lost = words.number(found.lost_requests, "", 1)
    return (
        Cell(f"{found.requests:,}"),
        Cell(words.percent(found.attainment_ratio)),
        Cell(words.percent(found.like_ratio)),
        Cell(lost),
    )


def _energy_cell(found: ClassEnergy | None) -> Cell:
    if found is None:
        return Cell("-")
    text = words.number(found.request_j, "", 0)
    if found.odd_ratio is None:
        return Cell(text)
    return Cell(f"{text} ({found.odd_ratio:+.1f})", Tone.BAD if abs(found.odd_ratio) > ODD_RATIO else Tone.PLAIN)
