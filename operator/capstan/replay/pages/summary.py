"""The one table of a comparison, as rows of text: the terminal and the page print the same words.

Who calls it: `pages.page`, the demo and `capstan replay`. Must not know: HTML. Up to four systems stand side by side
where the terminal is wide enough; more stand one below the other (`pages.ranking`). Units stand in the labels and are
chosen once. A saving is quoted only between systems that both meet the SLO (DESIGN 7.1), and at both boundaries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from capstan.replay.pages import bills, ranking, shocks, words
from capstan.replay.pages.cells import Cell, Headed, Row, Tone
from capstan.replay.runs import DomainSeries, Run
from capstan.replay.scores import compare
from capstan.replay.scores.budget import MAX_EXCURSION_S, DomainScore
from capstan.replay.scores.compare import Column, Comparison
from capstan.replay.scores.score import PolicyScore

SIDE_BY_SIDE = 4
"""More systems than this do not fit beside each other in a terminal of 80 columns."""

BASELINE = compare.SINGLE_POOL
BASELINE_WORDS = "what the smallest full-clock fleet that meets the SLO on this trace would have drawn"


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
    released, fleet = (words.change(estimate.mean) for estimate in (relative.saving, relative.saving_fleet))
    told = f"{released} GPU energy (free GPUs off; {fleet} with free GPUs idling) {against}."
    return f"{told[0].upper()}{told[1:]}{_beyond(comparison)}"


def gap(comparison: Comparison) -> str:
    """Return how far the oracle, which is searched for, may be from the best possible; empty without a bound."""
    found, least = comparison.column(compare.ORACLE), comparison.column(compare.BOUND)
    if found is None or least is None or not found.score.slo_met:
        return ""
    share = words.share(1 - least.score.energy_j / found.score.energy_j)
    return (
        f"The oracle was found by search and lies {share} of its energy above the bound; the best possible is between."
    )


def _beyond(comparison: Comparison) -> str:
    """Return how the system on trial stands to the best fixed fleet and to what is possible."""
    relative, told = comparison.relatives[0], []
    static, idling = relative.saving_over_best_static, relative.saving_over_best_static_fleet
    if static is not None and idling is not None:
        words_of = (words.change(static.mean), words.change(idling.mean))
        told.append(f"{words_of[0]} than the best fixed fleet in hindsight ({words_of[1]} with free GPUs idling)")
    if relative.captured is not None:
        told.append(f"{_part(relative.captured.mean)} of what the oracle saves")
    if relative.captured_of_bound is not None:
        told.append(f"{_part(relative.captured_of_bound.mean)} of the bound")
    return f" That is {words.listed(told)}." if told else ""


def _part(captured_ratio: float) -> str:
    """Return a captured share; whoever spends more than the baseline captured nothing."""
    return words.share(captured_ratio) if captured_ratio > 0 else "none"


# --- side by side ------------------------------------------------------------------------------------


def rows(columns: Sequence[Column]) -> tuple[Row, ...]:
    """Return the table of a few systems: first each policy, then each domain, then energy."""
    table: list[Row] = []
    unit = words.energy_unit(c.score.fleet_j for c in columns)
    for policy in columns[0].score.policies:
        table += _policy_rows(columns, policy, unit)
    for name in sorted({d.domain for c in columns for d in c.score.domains}):
        table += _domain_rows(columns, name)
    return (*table, *_energy_rows(columns, unit))


def _policy_rows(columns: Sequence[Column], own: PolicyScore, unit: words.EnergyUnit) -> list[Row]:
    """Return the rows of one policy."""

    def row(label: str, cell: Callable[[PolicyScore], Cell]) -> Row:
        found = [next((p for p in c.score.policies if p.policy == own.policy), None) for c in columns]
        return Row(label, tuple(Cell(words.NONE) if p is None else cell(p) for p in found))

    held = own.limits
    ttft = "/".join(dict.fromkeys(words.bare_ms(s) for s in held.ttft_s))
    return [
        Row(own.policy),
        Row("TTFT limit, ms", tuple(Cell(ttft) for _ in columns)),
        Row("TPOT limit, ms", tuple(Cell(words.bare_ms(held.tpot_s)) for _ in columns)),
        row("requests", lambda p: Cell(f"{p.figures.arrived:,}")),
        row(
            f"within both (SLO: {100 * held.percentile_ratio:g} %)",
            lambda p: Cell(words.percent(p.figures.attainment_ratio), Tone.GOOD if p.slo_met else Tone.BAD),
        ),
        row("TTFT p50 / p99, ms", lambda p: Cell(words.pair(p.figures.ttft_s.p50, p.figures.ttft_s.p99))),
        row("TPOT p50 / p99, ms", lambda p: Cell(words.pair(p.figures.tpot_s.p50, p.figures.tpot_s.p99))),
        row(f"GPU energy, {unit.name}", lambda p: Cell(unit.number(p.energy_j))),
        row("J per output token", lambda p: Cell(words.number(p.j_per_output_token, "", 2))),
        Row("replicas, mean", tuple(Cell(words.number(mean_replicas(c.run, own.policy), "", 2)) for c in columns)),
        *shocks.rows(columns, own),
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
        Row(f"{domain} (AC)"),
        row("budget, W", lambda _, series: Cell(_budgets(series))),
        row("peak draw, W", lambda d, _: Cell(words.number(d.peak_w, "", 0))),
        row("peak as part of budget", lambda _, series: Cell(_peak_share(series))),
        row(
            f"longest above, s (most {MAX_EXCURSION_S:.0f})",
            lambda d, _: Cell(f"{d.longest_excursion_s:.0f}", Tone.GOOD if d.held else Tone.BAD),
        ),
    ]


def _peak_share(series: DomainSeries) -> str:
    """Return the highest known draw as a share of the budget that was valid at that moment."""
    known = np.isfinite(series.draw_w) & (series.budget_w > 0)
    return f"{100 * float((series.draw_w[known] / series.budget_w[known]).max()):.0f} %" if known.any() else words.NONE


def _budgets(series: DomainSeries) -> str:
    """Return the budgets in force in their order, as `14,000 → 9,200`."""
    changed = np.concatenate(([True], np.diff(series.budget_w) != 0))
    return " → ".join(f"{w:,.0f}" for w in series.budget_w[changed])


def _energy_rows(columns: Sequence[Column], unit: words.EnergyUnit) -> list[Row]:
    return [
        Row(f"GPU energy, {unit.name}"),
        Row("assigned GPUs", tuple(Cell(unit.number(c.score.energy_j)) for c in columns)),
        Row("with GPUs without a pod", tuple(Cell(_fleet(c, unit)) for c in columns)),
    ]


def _fleet(column: Column, unit: words.EnergyUnit) -> str:
    return words.NONE if column.run.system == compare.BOUND else unit.number(column.score.fleet_j)


def mean_replicas(run: Run, policy: str) -> float | None:
    """Return the mean of ready replicas over the run's samples; None without samples."""
    series = next((s.series for s in run.services if s.policy == policy), None)
    return None if series is None or not len(series.t_s) else float(series.replicas_ready.mean())


# --- the terminal ------------------------------------------------------------------------------------


PLAIN = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
"""A rule under the heads and nothing else: what a log keeps."""

UNBOUNDED = 10_000  # characters; a table is measured as if the terminal were that wide
ROOMY = 100  # from so many characters on a column has air on its left


def print_table(comparison: Comparison, console: Console) -> None:
    """Print the table: a few systems side by side where that fits, else one below the other."""
    few = _side_by_side(comparison, console)
    needed = console.measure(few, options=console.options.update(max_width=UNBOUNDED)).maximum
    fits = len(comparison.columns) <= SIDE_BY_SIDE and needed <= console.width
    ranked = ranking.of(comparison)
    console.print(few if fits else below(ranked, console))
    under = () if fits else (*ranking.notes(ranked), *shocks.lines(comparison))
    for line in (*under, *filter(None, [comparison.conditions.label])):
        console.print(line, markup=False, highlight=False)
    for spent in bills.of(comparison) if bills.asked_for(comparison) else ():
        console.print(below(spent.table, console))
        for line in spent.notes:
            console.print(line, markup=False, highlight=False)


def _side_by_side(comparison: Comparison, console: Console) -> Table:
    """Return a column per system; where all ran in one world its name stands once."""
    sources = {c.run.source for c in comparison.columns if c.run.system != compare.BOUND}
    table = _table(console, "modelled")
    for column in comparison.columns:
        table.add_column(_head(column, several=len(sources) > 1), justify="right", no_wrap=True)
    for row in rows(comparison.columns):
        if row.cells:
            table.add_row(Text(f"  {row.label}"), *map(_toned, row.cells))
        else:
            table.add_section()
            table.add_row(Text(row.label, style="bold"))
    return table


def _head(column: Column, *, several: bool) -> Text:
    return Text(f"{column.run.system}\n{column.run.source}" if several else column.run.system)


def below(ranked: Headed, console: Console) -> Table:
    """Return a row per system, with the heads on two lines."""
    table = _table(console, "modelled")
    table.padding = (0, 0, 0, 1 if console.width >= ROOMY else 0)
    for head in ranked.heads:
        table.add_column(Text(head.replace(" ", "\n", 1)), justify="right", overflow="fold")
    for row in ranked.rows:
        table.add_row(Text(row.label), *map(_toned, row.cells))
    return table


def _table(console: Console, name: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else PLAIN, header_style="bold", show_edge=False)
    table.add_column(name, no_wrap=True)
    return table


def _toned(cell: Cell) -> Text:
    return Text(cell.text, style={Tone.PLAIN: "", Tone.GOOD: "green", Tone.BAD: "bold red"}[cell.tone])
