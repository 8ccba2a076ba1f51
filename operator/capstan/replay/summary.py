"""The one table of a comparison, as rows of text: the terminal and the page print the same words.

Who calls it: `replay.report`, the demo and `capstan replay`. Must not know: HTML. A saving is quoted only between
systems that both meet the SLO (DESIGN 7.1), and at both boundaries.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from capstan.replay import score as scoring
from capstan.replay.budget import MAX_EXCURSION_S, DomainScore
from capstan.replay.record import DomainTick, Run
from capstan.replay.score import PolicyScore, Score

BASELINE = "single-pool"
BASELINE_WORDS = "what the smallest full-clock fleet that meets the SLO on this trace would have drawn"
_NONE = "n/a"


class Tone(StrEnum):
    """Whether a cell says that a promise was kept (`good`), was broken (`bad`), or neither."""

    PLAIN = ""
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of one system, as text."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table, a cell per system; without cells it is a heading."""

    label: str
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One system: what it left behind and how it scored."""

    run: Run
    score: Score


def columns(runs: Sequence[Run], scores: Sequence[Score]) -> tuple[Column, ...]:
    """Pair runs with their scores.

    Raises:
        ValueError: No run, or not one score per run.
    """
    if not runs or len(runs) != len(scores):
        raise ValueError(f"a report needs one score per run and at least one run; got {len(runs)} and {len(scores)}")
    return tuple(Column(run, score) for run, score in zip(runs, scores, strict=True))


def verdict(column: Column) -> str:
    """Return the outcome of a run in one sentence, failures first and by name."""
    score = column.score
    if not score.verdict.ok:
        return f"{'; '.join(score.verdict.faults)}."
    met = f"{column.run.system.capitalize()} met the SLO of {_listed([p.policy for p in score.policies])}"
    return f"{met}, and {_listed([d.domain for d in score.domains])} kept its budget." if score.domains else f"{met}."


def saving(columns: Sequence[Column]) -> str:
    """Return the energy saving of the first system over the single-pool fleet in words; empty without a baseline."""
    first, *others = columns
    base = next((c for c in others if c.run.system == BASELINE), None)
    if base is None:
        return ""
    against = f"against {BASELINE}: {BASELINE_WORDS}"
    released = scoring.saving_ratio(base.score, first.score)
    if released is None:
        missing = base if first.score.slo_met else first
        return f"No saving is quoted {against}, because {missing.run.system} missed the SLO."
    fleet = 1 - _fleet_j(first) / _fleet_j(base)
    changed = f"{_change(released)} GPU energy (free GPUs off; {_change(fleet)} with free GPUs idling)"
    return f"{changed[0].upper()}{changed[1:]} {against}."


def rows(columns: Sequence[Column]) -> tuple[Row, ...]:
    """Return the table: first each policy, then each domain, then energy."""
    table: list[Row] = []
    for index, service in enumerate(columns[0].run.services):
        table += _policy_rows(columns, service.policy, index)
    for name in sorted({d.domain for c in columns for d in c.score.domains}):
        table += _domain_rows(columns, name)
    return (*table, *_energy_rows(columns))


def print_table(columns: Sequence[Column], console: Console) -> None:
    """Print the table, then the verdict; plain text where `console` is no terminal."""
    fancy = console.is_terminal
    table = Table(box=box.SIMPLE_HEAD if fancy else box.ASCII2, header_style="bold", show_edge=False)
    table.add_column("modelled")
    for column in columns:
        table.add_column(Text(f"{column.run.system}\n{column.run.source}"), justify="right", no_wrap=True)
    styles = {Tone.PLAIN: "", Tone.GOOD: "green", Tone.BAD: "bold red"}
    for row in rows(columns):
        if row.cells:
            table.add_row(Text(f"  {row.label}"), *(Text(c.text, style=styles[c.tone]) for c in row.cells))
        else:
            table.add_section()
            table.add_row(Text(row.label, style="bold"))
    console.print(table)


def _policy_rows(columns: Sequence[Column], policy: str, index: int) -> list[Row]:
    """Return the rows of one policy; `index` is its place in `Run.services`."""
    slo = columns[0].run.services[index].slo

    def row(label: str, cell: Callable[[PolicyScore], Cell]) -> Row:
        found = [next((p for p in c.score.policies if p.policy == policy), None) for c in columns]
        return Row(label, tuple(Cell(_NONE) if p is None else cell(p) for p in found))

    return [
        Row(policy),
        Row("TTFT / TPOT limit", tuple(Cell(f"{_ms(slo.ttft_s)} / {_ms(slo.tpot_s)}") for _ in columns)),
        row("requests", lambda p: Cell(f"{p.arrived:,}")),
        row(
            f"within both limits (SLO: {100 * slo.percentile_ratio:g} %)",
            lambda p: Cell(_percent(p.attainment_ratio), Tone.GOOD if p.slo_met else Tone.BAD),
        ),
        row("TTFT p50 / p99", lambda p: Cell(_pair(p.ttft_p50_s, p.ttft_p99_s))),
        row("TPOT p50 / p99", lambda p: Cell(_pair(p.tpot_p50_s, p.tpot_p99_s))),
        row("GPU energy", lambda p: Cell(_kj(p.energy_j))),
        row("joules per output token", lambda p: Cell(_number(p.j_per_output_token, "J", 2))),
        Row("replicas, mean", tuple(Cell(_number(mean_replicas(c.run, policy), "", 2)) for c in columns)),
    ]


def _domain_rows(columns: Sequence[Column], domain: str) -> list[Row]:
    """Return the rows of one power domain."""

    def row(label: str, cell: Callable[[DomainScore, list[DomainTick]], Cell]) -> Row:
        cells = []
        for column in columns:
            found = next((d for d in column.score.domains if d.domain == domain), None)
            ticks = [d for tick in column.run.ticks for d in tick.domains if d.domain == domain]
            cells.append(Cell(_NONE) if found is None else cell(found, ticks))
        return Row(label, tuple(cells))

    return [
        Row(f"{domain}, AC watts"),
        row("budget", lambda _, ticks: Cell(_budgets(ticks))),
        row("peak draw", lambda d, _: Cell(_NONE if d.peak_w is None else f"{d.peak_w:,.0f} W")),
        row("peak share of the budget", lambda _, ticks: Cell(_peak_share(ticks))),
        row(
            f"longest above (at most {MAX_EXCURSION_S:.0f} s)",
            lambda d, _: Cell(f"{d.longest_over_s:.0f} s", Tone.GOOD if d.held else Tone.BAD),
        ),
    ]


def _peak_share(ticks: Sequence[DomainTick]) -> str:
    """Return the highest known draw as a share of the budget that was valid at that moment."""
    shares = [t.draw_w / t.budget_w for t in ticks if math.isfinite(t.draw_w) and t.budget_w > 0]
    return f"{100 * max(shares):.0f} %" if shares else _NONE


def _budgets(ticks: Sequence[DomainTick]) -> str:
    """Return the budgets in force in their order, as `14,000, then 9,200 W`."""
    budgets = [t.budget_w for t in ticks]
    changed = [w for i, w in enumerate(budgets) if i == 0 or w != budgets[i - 1]]
    return f"{', then '.join(f'{w:,.0f}' for w in changed)} W"


def _energy_rows(columns: Sequence[Column]) -> list[Row]:
    return [
        Row("GPU energy"),
        Row("assigned GPUs", tuple(Cell(_kj(_released_j(c))) for c in columns)),
        Row("with GPUs without a pod", tuple(Cell(_kj(_fleet_j(c))) for c in columns)),
    ]


def mean_replicas(run: Run, policy: str) -> float | None:
    """Return the mean of ready replicas over the run's ticks; None without ticks."""
    ready = [p.replicas_ready for tick in run.ticks for p in tick.policies if p.policy == policy]
    return statistics.fmean(ready) if ready else None


def _released_j(column: Column) -> float:
    return sum(s.energy_j for s in column.run.services)


def _fleet_j(column: Column) -> float:
    return _released_j(column) + column.run.energy_unassigned_j


def _change(saved_ratio: float) -> str:
    """Return `31 % less`, `4 % more`, or `as much` where the difference rounds to nothing."""
    percent = round(100 * abs(saved_ratio))
    return f"{percent} % {'less' if saved_ratio > 0 else 'more'}" if percent else "as much"


def _percent(ratio: float | None) -> str:
    """Return a share that never rounds up to a promise it broke: 98.996 % stays below 99 %."""
    return _NONE if ratio is None else f"{math.floor(ratio * 1e4 + 1e-9) / 100:.2f} %"


def _pair(median_s: float | None, tail_s: float | None) -> str:
    return _NONE if median_s is None or tail_s is None else f"{_ms(median_s)} / {_ms(tail_s)}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.0f} ms" if seconds >= 0.1 else f"{1e3 * seconds:.1f} ms"  # three digits either way


def _kj(joules: float) -> str:
    return f"{joules / 1e3:,.0f} kJ"


def _number(value: float | None, unit: str, digits: int) -> str:
    return _NONE if value is None else f"{value:,.{digits}f} {unit}".rstrip()


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
