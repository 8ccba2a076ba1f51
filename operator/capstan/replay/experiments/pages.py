"""An experiment in words: the tables of the terminal and of the page, the sentences under them, and the JSON.

Who calls it: `app.experiment`. Must not know: files, how rows were played. Terminal and page print the same words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from capstan.replay.experiments import findings
from capstan.replay.experiments.figures import KWH_PER_J
from capstan.replay.experiments.findings import Found, Line, Reached, Reading
from capstan.replay.experiments.kinds import Figure
from capstan.replay.pages import rendering
from capstan.replay.pages.cells import Cell, Headed, Row, Titled, Tone
from capstan.replay.pages.numbers import finite
from capstan.replay.scores import compare
from capstan.replay.scores.compare import Estimate
from capstan.replay.scores.score import PolicyScore

NOTHING = "-"
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Told:
    """What an experiment says: for the terminal, the page and the JSON.

    Attributes:
        name, question: Of the experiment.
        tables: The first is the experiment's own; its notes are those of the page.
        sentences: Goals and orders; printed under the tables.
        settings: What held for every row, as (name, value) pairs.
        results: What programs read beside all of that.
        passed: Whether every goal was reached; True where there is none.
        faults: What an honesty check found (DESIGN 7.1); nothing else that is told is to be believed then.
    """

    name: str
    question: str
    tables: tuple[Titled, ...]
    sentences: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    results: Json = field(default_factory=dict)
    passed: bool = True
    faults: tuple[str, ...] = ()

    @property
    def json(self) -> str:
        """The document for programs."""
        held = {"experiment": self.name, "question": self.question, "settings": dict(self.settings)}
        found = {"faults": list(self.faults)} if self.faults else {}
        return json.dumps({**held, **found, **self.results}, indent=2, allow_nan=False) + "\n"

    @property
    def markdown(self) -> str:
        """The tables as docs/explanation/results.md holds them, so that nobody copies figures by hand."""
        parts = [line for table in self.tables for line in (*_markdown(table), "")]
        told = "; ".join(f"{label}: {value}" for label, value in self.settings)
        return "\n".join((*parts, *(f"- {sentence}" for sentence in self.sentences), "", f"{told}.")) + "\n"

    @property
    def html(self) -> str:
        """The page."""
        return rendering.html(
            "experiment",
            name=self.name,
            question=self.question,
            passed=self.passed,
            tables=self.tables,
            sentences=self.sentences,
            settings=self.settings,
            provenance="Modelled, not measured on GPUs.",
        )


def of(found: Found, settings: tuple[tuple[str, str], ...]) -> Told:
    """Return what an experiment of rows says."""
    experiment = found.experiment
    own = Titled(experiment.words, figures(found), experiment.notes)
    return Told(
        name=experiment.name,
        question=experiment.words,
        tables=(own, *_policies(found), *_shocks(found)),
        sentences=(*map(goal, found.goals), *order(found)),
        settings=settings,
        results={"rows": [_row(line) for line in found.lines], "goals": list(map(reached, found.goals))},
        passed=all(each.met for each in found.goals),
        faults=findings.faults(found),
    )


# --- tables ------------------------------------------------------------------------------------------


def figures(found: Found) -> Headed:
    """Return a row per row, a column per figure, and whether the SLO was met; an empty column is left out."""
    kept = [
        place
        for place in range(len(found.experiment.figures))
        if any(line.readings[place].mean is not None for line in found.lines)
    ]
    heads = (*(found.experiment.figures[place].head for place in kept), "SLO")
    rows = (
        Row(line.row.label, (*(Cell(shown(line.readings[place])) for place in kept), _slo(line)))
        for line in found.lines
    )
    return Headed(heads, tuple(rows))


def shown(reading: Reading) -> str:
    """Return a figure over seeds as people read it: `12.3`, or `12.3±0.4` with the half-width of its 95 % interval."""
    return NOTHING if reading.mean is None else estimate(reading.figure, reading.mean)


def estimate(figure: Figure, mean: Estimate) -> str:
    """Return a mean, with its interval where there are seeds."""
    centre = _number(mean.mean * figure.scale, figure.digits)
    if mean.half_width is None:
        return centre
    return f"{centre}±{_number(mean.half_width * figure.scale, figure.digits)}"


def _number(value: float, digits: int) -> str:
    """Return a number; there is no `-0`."""
    rounded = round(value, digits) + 0.0
    return f"{rounded:,.{digits}f}"


def _slo(line: Line) -> Cell:
    return _met(len(line.cells) - line.missed, len(line.cells))


def _met(met: int, seeds: int) -> Cell:
    """Return in how many seeds the SLO was met."""
    words = f"met in {met} of {seeds}" if seeds > 1 else "met" if met else "missed"
    return Cell(words, Tone.GOOD if met == seeds else Tone.BAD)


def _policies(found: Found) -> Iterator[Titled]:
    """Yield a table per policy where there are several: what each got, in the mean over seeds."""
    if len(found.lines[0].cells[0].score.policies) == 1:
        return
    rows: list[Row] = []
    for line in found.lines:
        rows.append(Row(line.row.label))
        rows += [Row(f"  {policy.policy}", _policy_cells(line, at)) for at, policy in _each_policy(line)]
    heads = ("good %", "asked %", "TTFT p99 ms", "TPOT p99 ms", "GPU kWh", "SLO")
    yield Titled("Policy by policy", Headed(heads, tuple(rows)))


def _each_policy(line: Line) -> Iterator[tuple[int, PolicyScore]]:
    yield from enumerate(line.cells[0].score.policies)


def _policy_cells(line: Line, at: int) -> tuple[Cell, ...]:
    scores = [cell.score.policies[at] for cell in line.cells]
    return (
        Cell(_mean([score.figures.attainment_ratio for score in scores], 100.0, 2)),
        Cell(f"{100 * scores[0].limits.percentile_ratio:g}"),
        Cell(_mean([score.figures.ttft_s.p99 for score in scores], 1e3, 0)),
        Cell(_mean([score.figures.tpot_s.p99 for score in scores], 1e3, 1)),
        Cell(_mean([score.energy_j for score in scores], KWH_PER_J, 2)),
        _met(sum(score.slo_met for score in scores), len(scores)),
    )


def _shocks(found: Found) -> Iterator[Titled]:
    """Yield a table of what became of each event, where there was any."""
    rows: list[Row] = []
    for line in found.lines:
        keys = dict.fromkeys((policy, each.t_s) for cell in line.cells for policy, each in cell.shocks)
        if keys:
            rows.append(Row(line.row.label))
        rows += [Row(f"  {policy}, at {t_s:,.0f} s", _shock_cells(line, policy, t_s)) for policy, t_s in keys]
    if rows:
        heads = ("back in s", "not back seeds", "debt requests", "late s")
        notes = ("back in: the first minute from which on all keep the SLO. debt: bad requests beyond the percentile.",)
        yield Titled("After each event", Headed(heads, tuple(rows)), notes)


def _shock_cells(line: Line, policy: str, t_s: float) -> tuple[Cell, ...]:
    each = [found for cell in line.cells for own, found in cell.shocks if (own, found.t_s) == (policy, t_s)]
    back = [found.recovered_after_s for found in each if found.recovered_after_s is not None]
    lost = len(each) - len(back)
    return (
        Cell(_mean(list(back), 1.0, 0) if back else NOTHING),
        Cell(str(lost), Tone.BAD if lost else Tone.PLAIN),
        Cell(_mean([found.debt_requests for found in each], 1.0, 0)),
        Cell(_mean([found.late_s for found in each], 1.0, 0)),
    )


def _mean(values: list[float | None], scale: float, digits: int) -> str:
    found = compare.estimate(values)
    return NOTHING if found is None else estimate(Figure("", "", lambda _: None, scale, digits), found)


def _markdown(table: Titled) -> Iterator[str]:
    """Yield a table's lines: a row without cells is a heading of the rows below it."""
    yield from (f"*{table.title}*", "")
    yield f"| | {' | '.join(table.table.heads)} |"
    yield f"|---|{'---:|' * len(table.table.heads)}"
    for row in table.table.rows:
        cells = [cell.text for cell in row.cells] or [""] * len(table.table.heads)
        yield f"| {row.label.strip() if row.cells else f'**{row.label}**'} | {' | '.join(cells)} |"
    for note in table.notes:
        yield from ("", note)


# --- sentences ---------------------------------------------------------------------------------------


def goal(each: Reached, absent: str = "") -> str:
    """Return what a goal came to, in words; `absent` says why there may be no figure, where no SLO was missed."""
    asked, value = each.goal, each.value
    limit = f"at most {_limit(asked.figure, asked.most)}" if asked.most is not None else (
        f"at least {_limit(asked.figure, asked.least)}"
    )  # fmt: skip
    if value is None:
        why = absent or f"{each.row} or what it is compared with missed the SLO"
        return f"{asked.words}: no figure ({why}); goal {limit}: open."
    verdict = "reached" if each.met else "missed"
    return f"{asked.words}: {estimate(asked.figure, value)} ({each.row}); goal {limit}: {verdict}."


def _limit(figure: Figure, value: float | None) -> str:
    return NOTHING if value is None else f"{value * figure.scale:g}"


def order(found: Found) -> Iterator[str]:
    """Yield the rows in order of their joules: those that met the SLO in every seed, then the others by name."""
    if not found.experiment.ordered:
        return
    means = {line.row.label: _energy_j(line) for line in found.lines}
    met = sorted((line.row.label for line in found.lines if not line.missed), key=lambda label: means[label])
    missed = [line.row.label for line in found.lines if line.missed]
    if len(met) > 1:
        yield f"Least joules first: {'; '.join(met)}."
    if missed:
        yield f"SLO missed: {'; '.join(missed)}."


def _energy_j(line: Line) -> float:
    return math.fsum(cell.score.energy_j for cell in line.cells) / len(line.cells)


# --- for programs ------------------------------------------------------------------------------------


def _row(line: Line) -> Json:
    row = line.row
    return {
        "label": row.label,
        "system": row.system,
        "compared_with": row.beside,
        "slo_met": [cell.score.slo_met for cell in line.cells],
        "figures": {reading.figure.name: _reading(reading) for reading in line.readings},
        "shocks": [
            {
                "policy": policy,
                "at_s": each.t_s,
                "recovered_after_s": each.recovered_after_s,
                "debt_requests": each.debt_requests,
                "late_s": each.late_s,
            }
            for cell in line.cells
            for policy, each in cell.shocks
        ],
    }


def _reading(reading: Reading) -> Json:
    mean = reading.mean
    return {
        "values": [finite(value) for value in reading.values],
        "mean": None if mean is None else mean.mean,
        "half_width_95": None if mean is None else mean.half_width,
    }


def reached(each: Reached) -> Json:
    """Return what a goal came to; without a value it is open."""
    value = each.value
    return {
        "words": each.goal.words,
        "figure": each.goal.figure.name,
        "row": each.row,
        "most": each.goal.most,
        "least": each.goal.least,
        "value": None if value is None else value.mean,
        "half_width_95": None if value is None else value.half_width,
        "reached": each.met,
    }
