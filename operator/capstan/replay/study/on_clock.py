"""Statements on the clock, judged: the U over the clock, 1.6 against 2.0 GHz, and what a lower clock saves.

Who calls it: `findings`. Must not know: how a finding is printed.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from capstan.replay.study import finding, surface
from capstan.replay.study.finding import Reading, Statement
from capstan.replay.study.surface import Cell, Line, Sheet
from capstan.replay.study.survey import View

SAME_THROUGHPUT_RATIO = 0.9
"""The paper says "about the same throughput" and no figure was found; a tenth less is the most that we take for it."""

PAPER_ENERGY_RATIO = 0.8
"""Towards Greener LLMs: 1.6 instead of 2 GHz at less than 80 % of the energy, for most batch sizes."""

PAPER_SAVING_RATIO = 0.2
"""The same paper: about 20 % saved without hurting latency or throughput, in many cases."""

LARGE_BATCH = 32.0
"""No paper says which batch sizes it ran; from here on they are such as a benchmark of throughput runs."""

FEWEST_CLOCKS = 5  # a curve over fewer clocks has no shape


def u_batch(view: View) -> Reading:
    """Judge whether energy per token, over the clock at equal batches, falls and then rises."""
    return _u_shape([line for sheet in view.sheets for line in _full(sheet)], "At equal batches")


def u_load(view: View) -> Reading:
    """Judge the same at a fixed load: one replica, the same requests, each clock at the batch that it then holds."""
    return _u_shape([line for sheet in view.sheets for line in sheet.loads], "At a fixed load of one replica")


def u_edge(view: View) -> Reading:
    """Judge the same where each clock carries what the SLO lets it carry, so that fewer replicas do."""
    return _u_shape([sheet.edge for sheet in view.sheets], "With each clock filled to the edge of the SLO")


def _u_shape(lines: Sequence[Line], where: str) -> Reading:
    """Return how many curves of energy per token over the clock have a bottom between their ends, and where."""
    curves = [cells for line in lines if len(cells := _there(line)) >= FEWEST_CLOCKS]
    if not curves:
        return finding.unanswered("no curve has a steady state at enough clocks")
    bottoms_mhz = [bottom.clock_mhz for cells in curves if (bottom := _bottom(cells)) is not None]
    count, figures = f"{len(bottoms_mhz)} of {len(curves)}", [("curves", len(curves)), ("u_shaped", len(bottoms_mhz))]
    sentence = f"{where}, {count} curves of energy per token over the clock fall and rise again by more than "
    sentence += finding.percent(finding.NEGLIGIBLE_RATIO)
    if not bottoms_mhz:
        falling = sum(cells[-1].j_per_output_token < cells[0].j_per_output_token for cells in curves)
        return Reading(False, f"{sentence}; {falling} are cheapest at their lowest clock.", count, tuple(figures))
    low, middle, high = min(bottoms_mhz), statistics.median(bottoms_mhz), max(bottoms_mhz)
    return Reading(
        len(bottoms_mhz) > finding.MOST_RATIO * len(curves),
        f"{sentence}; the bottoms lie at {low:,.0f} to {high:,.0f} MHz, median {middle:,.0f}.",
        f"{count}, median {middle:,.0f} MHz",
        (*figures, ("bottom_median_mhz", middle)),
    )


def lowest_power(view: View) -> Reading:
    """Judge whether the longest class on the largest tp draws less at 1.2 GHz than at 1.6, but spends more."""
    sheet = view.of(view.kinds[-1])[-1]
    low, high = sheet.place(surface.PAPER_TWELVE_MHZ), sheet.place(surface.PAPER_SIXTEEN_MHZ)
    pairs = [(a, b) for line in _full(sheet) if (a := line[low]) and (b := line[high]) and a.stress_ratio <= 1]
    if not pairs:
        return finding.unanswered(f"{sheet.kind.name} on tp {sheet.profile.tp} misses its SLO at the lower clock")
    energies = [a.j_per_output_token / b.j_per_output_token for a, b in pairs]
    watts = [a.gpu_w / b.gpu_w for a, b in pairs]
    dearer = [ratio > 1 for ratio in energies]
    return Reading(
        finding.most(dearer),
        f"{sheet.kind.name} on tp {sheet.profile.tp}, at equal batches inside the SLO: {sheet.clocks_mhz[low]:,.0f} "
        f"MHz draws {finding.spread(watts)} of the watts of {sheet.clocks_mhz[high]:,.0f} and spends "
        f"{finding.spread(energies)} of its energy per token; more at {sum(dearer)} of {len(dearer)} batches.",
        f"energy {finding.spread(energies)}",
        (("energy_median_ratio", statistics.median(energies)), ("power_median_ratio", statistics.median(watts))),
    )


def sixteen(view: View) -> Reading:
    """Judge whether 1.6 instead of 2.0 GHz keeps about the throughput at less than 80 % of the energy."""
    return _sixteen(view, 1.0)


def sixteen_large(view: View) -> Reading:
    """Judge the same where batches are as large as in a benchmark that keeps the engine full."""
    return _sixteen(view, LARGE_BATCH)


def _sixteen(view: View, least_batch: float) -> Reading:
    pairs = [pair for sheet in view.sheets for pair in _pairs(sheet, surface.PAPER_SIXTEEN_MHZ, least_batch)]
    if not pairs:
        return finding.unanswered("no batch has a steady state at both clocks")
    made = [low.arrival_rps / full.arrival_rps for low, full in pairs]
    energies = [low.j_per_output_token / full.j_per_output_token for low, full in pairs]
    same = [ratio >= SAME_THROUGHPUT_RATIO for ratio in made]
    both = [kept and energy < PAPER_ENERGY_RATIO for kept, energy in zip(same, energies, strict=True)]
    low, full = pairs[0]
    return Reading(
        finding.most(both),
        f"At equal batches of {least_batch:g} or more, {low.clock_mhz:,.0f} instead of {full.clock_mhz:,.0f} MHz keeps "
        f"{finding.spread(made)} of the throughput, at least {finding.percent(SAME_THROUGHPUT_RATIO)} in {sum(same)} "
        f"of {len(same)} cases of class, tp and batch, at {finding.spread(energies)} of the energy per token; under "
        f"{finding.percent(PAPER_ENERGY_RATIO)} with the throughput kept in {sum(both)}.",
        f"energy {finding.percent(statistics.median(energies))}, both in {sum(both)} of {len(both)}",
        (
            ("throughput_median_ratio", statistics.median(made)),
            ("energy_median_ratio", statistics.median(energies)),
            ("cases", len(pairs)),
            ("cases_as_the_paper_says", sum(both)),
        ),
    )


def saving(view: View) -> Reading:
    """Judge whether the best clock inside the SLO saves about 20 % against the full clock, at the same tp and load."""
    savings = list(_savings(view, range(len(surface.LOADS))))
    if not savings:
        return finding.unanswered("nothing keeps the SLO at full clock")
    great = [ratio >= PAPER_SAVING_RATIO for ratio in savings]
    return Reading(
        finding.most(great),
        f"At the same tp and load, the least-energy clock inside the SLO saves {finding.spread(savings)} against the "
        f"full clock; {finding.percent(PAPER_SAVING_RATIO)} or more in {sum(great)} of {len(great)} cases of class, "
        "tp and load.",
        f"median {finding.percent(statistics.median(savings))}",
        (("saving_median_ratio", statistics.median(savings)), ("cases", len(great)), ("cases_above", sum(great))),
    )


def _savings(view: View, loads: range) -> Iterator[float]:
    for sheet in view.sheets:
        for load in loads:
            cells = [cell for cell in _there(sheet.loads[load]) if cell.stress_ratio <= view.margin]
            if cells and cells[0].clock_mhz == sheet.clocks_mhz[0]:
                yield 1 - min(cell.j_per_output_token for cell in cells) / cells[0].j_per_output_token


def _pairs(sheet: Sheet, paper_mhz: float, least_batch: float) -> Iterator[tuple[Cell, Cell]]:
    """Yield each batch's cell at a clock of the papers and at full clock."""
    place = sheet.place(paper_mhz)
    for line in _full(sheet, least_batch):
        low, full = line[place], line[0]
        if low is not None and full is not None:
            yield low, full


def _full(sheet: Sheet, least_batch: float = 1.0) -> tuple[Line, ...]:
    """Return the lines of batches of so many sequences or more; less than one is no batch."""
    return tuple(line for batch, line in zip(surface.BATCHES, sheet.batches, strict=True) if batch >= least_batch)


def _there(line: Line) -> list[Cell]:
    return [cell for cell in line if cell is not None]


def _bottom(cells: list[Cell]) -> Cell | None:
    """Return the least energy of a curve where both ends lie above it, None where the curve only falls or rises."""
    bottom = min(cells, key=lambda cell: cell.j_per_output_token)
    above_j = bottom.j_per_output_token * (1 + finding.NEGLIGIBLE_RATIO)
    return bottom if min(cells[0].j_per_output_token, cells[-1].j_per_output_token) > above_j else None


U_STATUS = "[N1] Table I, without saying what is held equal; the same in VoltanaLLM"

SIXTEEN = (
    "For most batch sizes 1.6 GHz instead of 2 GHz keeps about the same throughput at less than 80 % of the energy"
)

STATEMENTS = (
    Statement("u-batch", "Energy over the clock is U-shaped (at equal batches)", U_STATUS, u_batch),
    Statement("u-load", "Energy over the clock is U-shaped (at a fixed load)", U_STATUS, u_load),
    Statement("u-edge", "Energy over the clock is U-shaped (each clock as full as the SLO allows)", U_STATUS, u_edge),
    Statement(
        "lowest-power",
        "Lowest power is not lowest energy: LL on TP8 meets its SLO at 1.2 GHz at less power than at 1.6 GHz, but "
        "costs more energy",
        "[N1] Table I",
        lowest_power,
    ),
    Statement("sixteen", f"{SIXTEEN} (batches from 1 on)", "seen (quoted)", sixteen),
    Statement("sixteen-large", f"{SIXTEEN} (batches from {LARGE_BATCH:g} on)", "seen (quoted)", sixteen_large),
    Statement(
        "saving",
        "About 20 % of the energy is saved without hurting latency or throughput, in many cases",
        "seen (summary)",
        saving,
    ),
)
