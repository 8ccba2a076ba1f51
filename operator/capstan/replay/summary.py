"""The one table of a comparison, as rows of text: the terminal and the page print the same words.

Who calls it: `replay.page`, the demo and `capstan replay`. Must not know: HTML. Up to four systems stand side by side;
more stand one below the other, by energy. A saving is quoted only between systems that both meet the SLO (DESIGN
7.1), and at both boundaries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from capstan.replay import compare, words
from capstan.replay.budget import MAX_EXCURSION_S, DomainScore
from capstan.replay.compare import Column, Comparison, Estimate
from capstan.replay.runs import DomainSeries, Run
from capstan.replay.score import PolicyScore

SIDE_BY_SIDE = 4
"""More systems than this do not fit beside each other in a terminal of 100 columns."""

BASELINE = compare.SINGLE_POOL
BASELINE_WORDS = "what the smallest full-clock fleet that meets the SLO on this trace would have drawn"


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
    """One line of a table: a label and its cells; without cells it is a heading."""

    label: str
    cells: tuple[Cell, ...] = ()


# --- in words ----------------------------------------------------------------------------------------


def verdict(column: Column) -> str:
    """Return the outcome of a run in one sentence, failures first and by name."""
    score = column.score
    if not score.verdict.ok:
        return f"{'; '.join(score.verdict.faults)}."
    met = f"{column.run.system.capitalize()} met the SLO of {words.listed([p.policy for p in score.policies])}"
    if score.domains:
        return f"{met}, and {words.listed([d.domain for d in score.domains])} kept its budget."
    return f"{met}."


def saving(comparison: Comparison) -> str:
    """Return what the system on trial saved, in a sentence; empty without a baseline to compare with."""
    first, base = comparison.first, comparison.column(BASELINE)
    if base is None or base is first:
        return ""
    relative = comparison.relatives[0]
    against = f"against {BASELINE}: {BASELINE_WORDS}"
    if relative.saving is None or relative.saving_fleet is None:
        missing = base if first.score.slo_met else first
        if missing.score.slo_met:
            return f"No saving is quoted {against}, because a system missed the SLO at another seed."
        return f"No saving is quoted {against}, because {missing.run.system} missed the SLO."
    released, fleet = (_change(estimate.mean) for estimate in (relative.saving, relative.saving_fleet))
    told = f"{released} GPU energy (free GPUs off; {fleet} with free GPUs idling) {against}."
    return f"{told[0].upper()}{told[1:]}{_beyond(comparison)}"


def _beyond(comparison: Comparison) -> str:
    """Return how the system on trial stands to the best fixed fleet and to what is possible."""
    relative, told = comparison.relatives[0], []
    static, idling = relative.saving_over_best_static, relative.saving_over_best_static_fleet
    if static is not None and idling is not None:
        words_of = (_change(static.mean), _change(idling.mean))
        told.append(f"{words_of[0]} than the best fixed fleet in hindsight ({words_of[1]} with free GPUs idling)")
    if relative.captured is not None:
        told.append(f"{words.share(relative.captured.mean)} of what the oracle saves")
    if relative.captured_of_bound is not None:
        told.append(f"{words.share(relative.captured_of_bound.mean)} of the bound")
    return f" That is {words.listed(told)}." if told else ""


def _change(saved_ratio: float) -> str:
    """Return `31 % less`, `4 % more`, or `as much` where the difference rounds to nothing."""
    percent = round(100 * abs(saved_ratio))
    return f"{percent} % {'less' if saved_ratio > 0 else 'more'}" if percent else "as much"


# --- side by side ------------------------------------------------------------------------------------


def rows(columns: Sequence[Column]) -> tuple[Row, ...]:
    """Return the table of a few systems: first each policy, then each domain, then energy."""
    table: list[Row] = []
    for policy in columns[0].score.policies:
        table += _policy_rows(columns, policy)
    for name in sorted({d.domain for c in columns for d in c.score.domains}):
        table += _domain_rows(columns, name)
    return (*table, *_energy_rows(columns))


def _policy_rows(columns: Sequence[Column], own: PolicyScore) -> list[Row]:
    """Return the rows of one policy."""

    def row(label: str, cell: Callable[[PolicyScore], Cell]) -> Row:
        found = [next((p for p in c.score.policies if p.policy == own.policy), None) for c in columns]
        return Row(label, tuple(Cell(words.NONE) if p is None else cell(p) for p in found))

    held = own.limits
    limits = f"{'/'.join(dict.fromkeys(words.ms(s).removesuffix(' ms') for s in held.ttft_s))} ms"
    return [
        Row(own.policy),
        Row("TTFT / TPOT limit", tuple(Cell(f"{limits} / {words.ms(held.tpot_s)}") for _ in columns)),
        row("requests", lambda p: Cell(f"{p.figures.arrived:,}")),
        row(
            f"within both limits (SLO: {100 * held.percentile_ratio:g} %)",
            lambda p: Cell(words.percent(p.figures.attainment_ratio), Tone.GOOD if p.slo_met else Tone.BAD),
        ),
        row("TTFT p50 / p99", lambda p: Cell(words.pair(p.figures.ttft_s.p50, p.figures.ttft_s.p99))),
        row("TPOT p50 / p99", lambda p: Cell(words.pair(p.figures.tpot_s.p50, p.figures.tpot_s.p99))),
        row("GPU energy", lambda p: Cell(words.energy(p.energy_j))),
        row("joules per output token", lambda p: Cell(words.number(p.j_per_output_token, "J", 2))),
        Row("replicas, mean", tuple(Cell(words.number(mean_replicas(c.run, own.policy), "", 2)) for c in columns)),
    ]


def _domain_rows(columns: Sequence[Column], domain: str) -> list[Row]:
    """Return the rows of one power domain."""

    def row(label: str, cell: Callable[[DomainScore, DomainSeries], Cell]) -> Row:
        cells = []
        for column in columns:
            found = next((d for d in column.score.domains if d.domain == domain), None)
            series = next((d for d in column.run.domains if d.domain == domain), None)
            cells.append(Cell(words.NONE) if found is None or series is None else cell(found, series))
        return Row(label, tuple(cells))

    return [
        Row(f"{domain}, AC watts"),
        row("budget", lambda _, series: Cell(_budgets(series))),
        row("peak draw", lambda d, _: Cell(words.number(d.peak_w, "W", 0))),
        row("peak share of the budget", lambda _, series: Cell(_peak_share(series))),
        row(
            f"longest above (at most {MAX_EXCURSION_S:.0f} s)",
            lambda d, _: Cell(f"{d.longest_over_s:.0f} s", Tone.GOOD if d.held else Tone.BAD),
        ),
    ]


def _peak_share(series: DomainSeries) -> str:
    """Return the highest known draw as a share of the budget that was valid at that moment."""
    known = np.isfinite(series.draw_w) & (series.budget_w > 0)
    return f"{100 * float((series.draw_w[known] / series.budget_w[known]).max()):.0f} %" if known.any() else words.NONE


def _budgets(series: DomainSeries) -> str:
    """Return the budgets in force in their order, as `14,000, then 9,200 W`."""
    changed = np.concatenate(([True], np.diff(series.budget_w) != 0))
    return f"{', then '.join(f'{w:,.0f}' for w in series.budget_w[changed])} W"


def _energy_rows(columns: Sequence[Column]) -> list[Row]:
    return [
        Row("GPU energy"),
        Row("assigned GPUs", tuple(Cell(words.energy(c.score.energy_j)) for c in columns)),
        Row("with GPUs without a pod", tuple(Cell(_fleet(c)) for c in columns)),
    ]


def _fleet(column: Column) -> str:
    return words.NONE if column.run.system == compare.BOUND else words.energy(column.score.fleet_j)


def mean_replicas(run: Run, policy: str) -> float | None:
    """Return the mean of ready replicas over the run's samples; None without samples."""
    series = next((s.series for s in run.services if s.policy == policy), None)
    return None if series is None or not len(series.t_s) else float(series.replicas_ready.mean())


# --- one below the other -----------------------------------------------------------------------------

RANKING_NOTE = "Savings: GPUs without a pod off / idling, over single-pool and over best-static."


def ranking_heads(comparison: Comparison) -> tuple[str, ...]:
    """Return the names of the ranking's columns; units stand here, so that a row fits a terminal."""
    _, unit = words.energy_unit(c.score.energy_j for c in comparison.columns)
    return (f"GPU {unit}", "saving", "over static", "captured", "within SLO", "TTFT p99 ms", "TPOT p99 ms", "J/token")


def ranking(comparison: Comparison) -> tuple[Row, ...]:
    """Return one row per system, least energy first; columns are `ranking_heads`."""
    ordered = sorted(comparison.columns, key=lambda column: column.score.energy_j)
    return tuple(Row(column.run.system, _ranked(comparison, column)) for column in ordered)


def _ranked(comparison: Comparison, column: Column) -> tuple[Cell, ...]:
    score, relative = column.score, comparison.relative(column.run.system)
    missed = Cell(relative.note, Tone.BAD) if relative.note else None
    unit_j, unit = words.energy_unit(c.score.energy_j for c in comparison.columns)
    return (
        Cell(words.number(score.energy_j / unit_j, "", 1 if unit == words.KWH else 0)),
        missed or Cell(_both(relative.saving, relative.saving_fleet)),
        Cell(_both(relative.saving_over_best_static, relative.saving_over_best_static_fleet)),
        Cell(_share(relative.captured)),
        Cell(words.percent(score.overall.attainment_ratio), Tone.GOOD if score.slo_met else Tone.BAD),
        Cell(words.ms(score.overall.ttft_s.p99).removesuffix(" ms")),
        Cell(words.ms(score.overall.tpot_s.p99).removesuffix(" ms")),
        Cell(words.number(score.j_per_output_token, "", 2)),
    )


def _share(estimate: Estimate | None) -> str:
    """Return a share, with its 95 % interval where there are seeds."""
    if estimate is None:
        return "-"
    half = "" if estimate.half_width is None else f" ± {100 * estimate.half_width:.1f}"
    return f"{100 * estimate.mean:.1f}{half} %" if half else words.share(estimate.mean)


def _both(released: Estimate | None, fleet: Estimate | None) -> str:
    """Return a saving at both boundaries, as `50 / 48 %`."""
    if released is None and fleet is None:
        return "-"
    return f"{_share(released)} / -" if fleet is None else f"{_share(released).removesuffix(' %')} / {_share(fleet)}"


# --- the terminal ------------------------------------------------------------------------------------


def print_table(comparison: Comparison, console: Console) -> None:
    """Print the table; plain text where `console` is no terminal."""
    many = len(comparison.columns) > SIDE_BY_SIDE
    fancy = console.is_terminal
    table = Table(box=box.SIMPLE_HEAD if fancy else box.ASCII2, header_style="bold", show_edge=False)
    if many:
        table.padding = (0, 0, 0, 1)
    table.add_column("modelled", no_wrap=many)
    for name in ranking_heads(comparison) if many else [f"{c.run.system}\n{c.run.source}" for c in comparison.columns]:
        table.add_column(Text(name.replace(" ", "\n", 1) if many else name), justify="right", no_wrap=not many)
    styles = {Tone.PLAIN: "", Tone.GOOD: "green", Tone.BAD: "bold red"}
    for row in ranking(comparison) if many else rows(comparison.columns):
        if row.cells:
            indent = "" if many else "  "
            table.add_row(Text(f"{indent}{row.label}"), *(Text(c.text, style=styles[c.tone]) for c in row.cells))
        else:
            table.add_section()
            table.add_row(Text(row.label, style="bold"))
    console.print(table)
    if many:
        console.print(RANKING_NOTE, markup=False, highlight=False)
    if told := comparison.conditions.label:
        console.print(told, markup=False, highlight=False)
