"""Many systems one below the other, least energy first: the terminal and the page print the same words.

Who calls it: `pages.summary`, `pages.page`. Must not know: HTML, terminals. Units stand in the heads and are chosen
once, so that a row of nine figures fits 80 columns; a column in which no system has anything to say is left out.
"""

from __future__ import annotations

from collections.abc import Iterable

from capstan.replay.pages import words
from capstan.replay.pages.cells import Cell, Headed, Row, Tone
from capstan.replay.scores.compare import Column, Comparison, Estimate

SAVING_NOTE = "saving: over single-pool; GPUs without a pod off/idling."
STATIC_NOTE = "static: the same over best-static."
MISSED_NOTE = "missed: the SLO was, and so no saving is quoted."
CAPTURED_NOTE = "captured: share of what the oracle saves."
NOTHING = "-"


def of(comparison: Comparison) -> Headed:
    """Return one row per system."""
    unit = words.energy_unit(c.score.energy_j for c in comparison.columns)
    ordered = sorted(comparison.columns, key=lambda column: column.score.energy_j)
    heads = ("GPU " + unit.name, "saving %", "static %", "captured %", "good %", "budget s", "TTFT p99 ms",
             "TPOT p99 ms", "J per token")  # fmt: skip
    rows = [Row(c.run.system, _cells(comparison, c, unit)) for c in ordered]
    kept = [place for place in range(len(heads)) if any(row.cells[place].text != NOTHING for row in rows)]
    return Headed(
        tuple(heads[place] for place in kept),
        tuple(Row(row.label, tuple(row.cells[place] for place in kept)) for row in rows),
    )


def notes(table: Headed) -> tuple[str, ...]:
    """Return the words under a table: what its heads mean."""
    texts = [cell.text for row in table.rows for cell in row.cells]
    told = ((SAVING_NOTE, "saving %" in table.heads),
            (STATIC_NOTE, "static %" in table.heads),
            (CAPTURED_NOTE, "captured %" in table.heads),
            (MISSED_NOTE, any(text.startswith("missed") for text in texts)),
            ("budget s: longest time above a power budget.", "budget s" in table.heads))  # fmt: skip
    return tuple(line for line, due in told if due)


def _cells(comparison: Comparison, column: Column, unit: words.EnergyUnit) -> tuple[Cell, ...]:
    score, relative = column.score, comparison.relative(column.run.system)
    missed = Cell(relative.note.removeprefix("SLO "), Tone.BAD) if relative.note else None
    return (
        Cell(unit.number(score.energy_j)),
        missed or Cell(_both(relative.saving, relative.saving_fleet)),
        Cell(_both(relative.saving_over_best_static, relative.saving_over_best_static_fleet)),
        Cell(_share(relative.captured)),
        Cell(_good(score.overall.attainment_ratio), Tone.GOOD if score.slo_met else Tone.BAD),
        _budget(column),
        Cell(words.bare_ms(score.overall.ttft_s.p99)),
        Cell(words.bare_ms(score.overall.tpot_s.p99)),
        Cell(words.number(score.j_per_output_token, "", 2)),
    )


def _good(ratio: float | None) -> str:
    """Return a share rounded down; `100` is said of all and of nothing less."""
    return "100" if ratio == 1 else words.percent(ratio).removesuffix(" %")


def _budget(column: Column) -> Cell:
    """Return the longest time above a budget, of the domain that is worst off."""
    domains = column.score.domains
    if not domains:
        return Cell(NOTHING)
    held = all(domain.held for domain in domains)
    return Cell(f"{max(domain.longest_excursion_s for domain in domains):.0f}", Tone.GOOD if held else Tone.BAD)


def _share(estimate: Estimate | None) -> str:
    """Return a share in percent, with its 95 % interval where there are seeds."""
    if estimate is None:
        return NOTHING
    if estimate.half_width is None:
        return words.share(estimate.mean).removesuffix(" %")
    return f"{100 * estimate.mean:.1f}±{100 * estimate.half_width:.1f}"


def _both(released: Estimate | None, fleet: Estimate | None) -> str:
    """Return a saving at both boundaries, as `50/48`; `50.1±0.3 / 48.0±0.3`, which may be broken, with seeds."""
    if released is None and fleet is None:
        return NOTHING
    seeds = any(e is not None and e.half_width is not None for e in _known(released, fleet))
    return f"{_share(released)}{' / ' if seeds else '/'}{_share(fleet)}"


def _known(*estimates: Estimate | None) -> Iterable[Estimate]:
    return (estimate for estimate in estimates if estimate is not None)
