"""Statements on batch and load, judged: energy per token over the batch, slack at low load, power against load.

Who calls it: `findings`. Must not know: how a finding is printed.
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter

from capstan.model import power
from capstan.replay.study import finding, surface
from capstan.replay.study.finding import Reading, Statement
from capstan.replay.study.surface import Cell, Sheet
from capstan.replay.study.survey import View

AT_LIMIT_RATIO = 0.98  # of the margin: an edge whose latencies are all below it is an edge of room, not of the SLO
LOW, HIGH = 1, len(surface.LOADS) - 1
"""Places in `surface.LOADS` of low and high utilisation: a quarter, and nine tenths."""


def larger_batch(view: View) -> Reading:
    """Judge whether energy per token falls with the batch until a latency binds."""
    curves = [cells for sheet in view.sheets if len(cells := _inside(sheet, view.margin)) > 1]
    if not curves:
        return finding.unanswered("no two batches keep the SLO at full clock")
    falls = [all(b.j_per_output_token < a.j_per_output_token for a, b in itertools.pairwise(cells)) for cells in curves]
    gains = [cells[0].j_per_output_token / cells[-1].j_per_output_token for cells in curves]
    binds = Counter(_binds(sheet, view.margin) for sheet in view.sheets)
    told = ", ".join(f"{name} in {count}" for name, count in sorted(binds.items()))
    return Reading(
        finding.most(falls),
        f"At full clock energy per token falls with every doubling of the batch inside the SLO in {sum(falls)} of "
        f"{len(falls)} pairs of class and tp, by a factor of {statistics.median(gains):.1f} in the median from a batch "
        f"of {surface.BATCHES[0]:g} on. What ends it: {told}.",
        f"{sum(falls)} of {len(falls)}",
        (("pairs", len(falls)), ("falls", sum(falls)), ("gain_median", statistics.median(gains))),
    )


def slack(view: View) -> Reading:
    """Judge whether low utilisation leaves slack that a lower clock turns into energy."""
    pairs = [(low, high) for s in view.sheets if (low := _saving(s, LOW, view)) and (high := _saving(s, HIGH, view))]
    if not pairs:
        return finding.unanswered("no tp keeps the SLO both at low and at high load")
    lows, highs = ([pair[side][0] for pair in pairs] for side in (0, 1))
    clocks = [statistics.median(pair[side][1] for pair in pairs) for side in (0, 1)]
    return Reading(
        finding.most([low > high for low, high in zip(lows, highs, strict=True)]),
        f"At {finding.percent(surface.LOADS[LOW])} of the load the lowest clock inside the SLO is {clocks[0]:,.0f} MHz "
        f"in the median and the best one saves {finding.spread(lows)}; at {finding.percent(surface.LOADS[HIGH])} they "
        f"are {clocks[1]:,.0f} MHz and {finding.spread(highs)}.",
        f"saving {finding.percent(statistics.median(lows))}, then {finding.percent(statistics.median(highs))}",
        (("saving_low_median_ratio", statistics.median(lows)), ("saving_high_median_ratio", statistics.median(highs))),
    )


def proportional(view: View) -> Reading:
    """Judge whether power is far from proportional to load: idle is large, and a little load is dear."""
    cases = [(sheet, a, b) for sheet in view.sheets if (a := sheet.loads[LOW][0]) and (b := sheet.loads[HIGH][0])]
    if not cases:
        return finding.unanswered("no tp carries both a low and a high load at full clock")
    fair = surface.LOADS[LOW] / surface.LOADS[HIGH]
    idle = [power.idle_w(sheet.profile) / high.gpu_w for sheet, _, high in cases]
    drawn = [low.gpu_w / high.gpu_w for _, low, high in cases]
    return Reading(
        finding.most([ratio > fair * (1 + finding.NEGLIGIBLE_RATIO) for ratio in drawn]),
        f"A loaded idle GPU draws {finding.spread(idle)} of what it draws at {finding.percent(surface.LOADS[HIGH])} of "
        f"the load and full clock; at {finding.percent(surface.LOADS[LOW])} it draws {finding.spread(drawn)}, where "
        f"proportional would be {finding.percent(fair)}.",
        f"{finding.percent(statistics.median(drawn))} of the watts at {finding.percent(fair)} of the load",
        (("idle_median_ratio", statistics.median(idle)), ("drawn_median_ratio", statistics.median(drawn))),
    )


def _inside(sheet: Sheet, margin: float) -> list[Cell]:
    """Return the cells of ascending batch at full clock that keep the SLO."""
    cells = (line[0] for line in sheet.batches)
    return [cell for cell in cells if cell is not None and cell.stress_ratio <= margin]


def _binds(sheet: Sheet, margin: float) -> str:
    """Return what ends the growth of the batch at full clock."""
    edge = sheet.edge[0]
    if edge is None:
        return "the SLO, at any load,"
    if edge.stress_ratio < AT_LIMIT_RATIO * margin:
        return "room"
    slo = sheet.kind.slo
    return "TPOT" if edge.tpot_s / slo.tpot_s >= edge.ttft_s / slo.ttft_s else "TTFT"


def _saving(sheet: Sheet, load: int, view: View) -> tuple[float, float] | None:
    """Return what the best clock saves at a load, and the lowest clock inside the SLO; None where none keeps it."""
    cells = [cell for cell in sheet.loads[load] if cell is not None and cell.stress_ratio <= view.margin]
    if not cells or cells[0].clock_mhz != sheet.clocks_mhz[0]:
        return None
    least_j = min(cell.j_per_output_token for cell in cells)
    return 1 - least_j / cells[0].j_per_output_token, cells[-1].clock_mhz


STATEMENTS = (
    Statement(
        "larger-batch",
        "A larger batch costs less energy per token, until TBT or TTFT binds",
        "direction [M]; numbers not found",
        larger_batch,
    ),
    Statement("slack", "SLO slack at low utilisation is the resource to spend", "seen (intro)", slack),
    Statement(
        "proportional",
        "GPU power is not proportional to load: idle with a model loaded is large already",
        "[N1] Fig 3; curve values not found",
        proportional,
    ),
)
