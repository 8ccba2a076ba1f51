"""`report.html`: one page without a network; first the verdict, then energy and attainment, then everything else.

Who calls it: `pages.report`. Must not know: files.
"""

from __future__ import annotations

from capstan.replay.pages import bills, panels, plots, ranking, rendering, shocks, summary, told_apart, words
from capstan.replay.pages.cells import Cell, Headed, Row, Titled, Tone
from capstan.replay.scores import compare, limits
from capstan.replay.scores.compare import Column, Comparison
from capstan.replay.scores.score import Quantiles


def of(comparison: Comparison) -> str:
    """Return the HTML."""
    first = comparison.first
    many = len(comparison.columns) > summary.SIDE_BY_SIDE
    return rendering.html(
        "report",
        headline=f"{first.run.system} {'held' if first.score.passed else 'failed'}",
        passed=first.score.passed,
        sentence=summary.verdict(first),
        saving=summary.saving(comparison),
        cost=bills.sentence(comparison),
        run=first.run,
        provenance=_provenance(comparison),
        overview=panels.of(comparison),
        tables=_tables(comparison, many=many),
        trial=plots.of(comparison.columns),
        notes=_notes(comparison),
        settings=_settings(comparison),
        figures=[(name, f"{value:,.4g}") for name, value in sorted(first.run.figures.items())],
    )


def _provenance(comparison: Comparison) -> str:
    """Return what every figure stands on, for the line under it."""
    profiles = dict.fromkeys(p for c in comparison.columns for s in c.run.services for p in s.profiles)
    named = "; ".join(profiles) or "no profile named"
    return f"Modelled, not measured on GPUs: {named}; clock response {comparison.conditions.clock_response}."


def _notes(comparison: Comparison) -> list[str]:
    """Return the lines under the tables: what the systems are, where words cannot be taken for granted."""
    systems = {column.run.system for column in comparison.columns}
    told = {
        compare.SINGLE_POOL: f"{compare.SINGLE_POOL}: {summary.BASELINE_WORDS}.",
        compare.STATIC_POOLS: "static-pools: the same with class pools: the best split, each pool's best fixed fleet.",
        compare.BEST_STATIC: "best-static: the cheapest fixed fleet, tp and clock that meet the SLO, in hindsight.",
        compare.ORACLE: "oracle: knows every arrival and changes plans at once and for nothing; found by search.",
        compare.BOUND: "bound: cheapest joules that any schedule needs; serves nothing, so it has no latency.",
    }
    notes = [comparison.conditions.label] if comparison.conditions.label else []
    notes += [line for name, line in told.items() if name in systems]
    if len({column.run.source for column in comparison.columns} - {"fluid relaxation"}) > 1:
        notes.append("The columns come from different worlds: the rig runs in real time, the baseline in virtual time.")
    notes += [
        "Fluidity (Metron) is the share of token deadlines that were met. Of each request only the first and the last "
        "token and the longest gap are kept, so the index lies between the two figures.",
        "Pale bands: lowest to highest, where one point of a line stands for many samples.",
    ]
    return notes


# --- tables ------------------------------------------------------------------------------------------


def _tables(comparison: Comparison, *, many: bool) -> tuple[Titled, ...]:
    tables = _figures(comparison, many=many), _latencies(comparison), _classes(comparison), _spent(comparison)
    return (*tables, *bills.of(comparison), *told_apart.of(comparison))


def _figures(comparison: Comparison, *, many: bool) -> Titled:
    if many:
        ranked = ranking.of(comparison)
        return Titled("Figures", ranked, (*ranking.notes(ranked), *shocks.lines(comparison)))
    names = tuple(f"{c.run.system} ({c.run.source})" for c in comparison.columns)
    return Titled("Figures", Headed(names, summary.rows(comparison.columns)))


def _latencies(comparison: Comparison) -> Titled:
    heads = ("TTFT p50", "p90", "p99", "TPOT p50", "p90", "p99", "longest gap p50", "p90", "p99", "fluidity")
    rows = [Row(c.run.system, tuple(map(Cell, _latency_cells(c)))) for c in comparison.columns]
    return Titled("Latencies and fluidity", Headed(heads, tuple(rows)))


def _latency_cells(column: Column) -> list[str]:
    def three(found: Quantiles) -> list[str]:
        return [words.ms(value) for value in (found.p50, found.p90, found.p99)]

    overall = column.score.overall
    low, high = overall.fluidity_low_ratio, overall.fluidity_high_ratio
    fluid = words.NONE if low is None or high is None else f"{words.digits(low)} to {words.digits(high)}"
    return [*three(overall.ttft_s), *three(overall.tpot_s), *three(overall.tbt_s), fluid]


def _classes(comparison: Comparison) -> Titled:
    """Return the mix of the requests and, per system, the attainment of each class that has a say."""
    mix = dict(comparison.first.score.overall.class_mix)
    there = tuple(name for name in limits.CLASSES if name in mix)
    rows = [Row("share of requests", tuple(Cell(words.share(mix[name])) for name in there))]
    held = [(column, dict(column.score.overall.by_class)) for column in comparison.columns]
    rows += [Row(c.run.system, tuple(_class_cell(c, found.get(n)) for n in there)) for c, found in held if found]
    note = (
        "First letter: the prompt (S below 256 tokens, M below 1,024, L from there on). Second: the answer (S below "
        "100, M below 350, L from there on). Attainment of classes with at least 1,000 requests."
    )
    return Titled("Classes of requests", Headed(there, tuple(rows)), (note,))


def _class_cell(column: Column, ratio: float | None) -> Cell:
    """Return the attainment of a class, marked where it is below every limit it could be held to."""
    asked = min(policy.limits.percentile_ratio for policy in column.score.policies)
    return Cell("-") if ratio is None else Cell(words.percent(ratio), Tone.BAD if ratio < asked else Tone.PLAIN)


def _spent(comparison: Comparison) -> Titled:
    """Return where the joules went, and what was changed on the way."""
    unit = words.energy_unit(column.score.fleet_j for column in comparison.columns)
    heads = [f"serving, {unit.name}", "loaded, idle", "start-up, drain", "without a pod", "rest of the servers",
             "GPU hours", "peak kW", "replica changes", "clock changes"]  # fmt: skip
    rows = [(c.run.system, _spent_cells(c, unit)) for c in comparison.columns]
    known = [place for place in range(len(heads)) if any(cells[place] != words.NONE for _, cells in rows)]
    return Titled(
        "Where the joules went",
        Headed(
            tuple(heads[place] for place in known),
            tuple(Row(name, tuple(Cell(cells[place]) for place in known)) for name, cells in rows),
        ),
    )


def _spent_cells(column: Column, unit: words.EnergyUnit) -> list[str]:
    score, energy = column.score, column.score.energy
    hours = None if score.gpu_seconds is None else score.gpu_seconds / 3600
    peak_kw = None if score.peak_power_w is None else score.peak_power_w / 1e3
    unassigned = None if column.run.system == compare.BOUND else score.energy_unassigned_j
    joules = (energy.serving_j, energy.idle_j, energy.transition_j, unassigned, score.energy_node_j)
    cells = [*map(unit.number, joules), words.number(hours, "", 1)]
    return [*cells, words.number(peak_kw, "", 1), _count(score.reconfigurations), _count(score.clock_changes)]


def _count(changes: int | None) -> str:
    return words.NONE if changes is None else f"{changes:,}"


def _settings(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """Return what was chosen, each name once; a system's own setting wins over everybody's."""
    held = comparison.conditions
    scored = f"{held.slo}: {'; '.join(f'{p.policy} {p.limits.words}' for p in comparison.first.score.policies)}"
    told = {"scenario": held.scenario} if held.scenario else {}
    told |= {
        "SLO": scored,
        "rates": f"{held.rate_multiple:g} times the trace's own",
        "fleet": held.provisioning,
        "clock response": held.clock_response,
    }
    return tuple((told | dict(held.settings) | dict(comparison.first.run.settings)).items())
