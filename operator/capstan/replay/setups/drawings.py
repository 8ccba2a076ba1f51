"""The drawings of a search: joules over GPUs, over requests that were late, and over latencies.

Who calls it: `setups.pages`. Must not know: HTML. Lines are the closed form, dots are replays: filled ones met the SLO.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from capstan.replay.pages import plots, svg, words
from capstan.replay.pages.plots import Plot
from capstan.replay.pages.words import EnergyUnit
from capstan.replay.setups import screen
from capstan.replay.setups.finding import AnyPlayed, Found
from capstan.replay.setups.kinds import Pair

ONE_POOL, OWN_FLAGS, APART = svg.Ink.SERIES_1, svg.Ink.SERIES_2, svg.Ink.SERIES_3
GROWTH_RATIO = 2.0  # set-ups of more than this times the least joules are left out of the lines: they squeeze the rest
DOT, RING = 4.5, 3.5


def of(found: Found) -> tuple[Plot, ...]:
    """Return the drawings; none where nothing was played."""
    if not found.played:
        return ()
    unit = words.energy_unit(one.energy_j for one in found.played)
    with svg.style():
        return over_gpus(found, unit), over_lateness(found, unit), over_latency(found, unit)


def over_gpus(found: Found, unit: EnergyUnit) -> Plot:
    """Draw the least joules of each number of GPUs, in closed form, and what was replayed."""
    figure, (axis,) = svg.panels(1, height_in=3.0)
    own = (row for row in found.rows if found.screen.grid.is_own(row.setup.engine))
    lines = (
        ("one pool", ONE_POOL, [(row.setup.gpus, row.energy_j) for row in screen.frontier(found.rows)]),
        ("scenario's flags", OWN_FLAGS, [(row.setup.gpus, row.energy_j) for row in screen.frontier(own)]),
        ("prefill and decode apart", APART, [(pair.pair.gpus, pair.energy_j) for pair in found.pairs]),
    )
    least_j = min((joules for _, _, points in lines for _, joules in points), default=math.inf)
    for label, colour, points in lines:
        shown = [(gpus, joules / unit.size_j) for gpus, joules in points if joules <= GROWTH_RATIO * least_j]
        if shown:
            axis.plot(*zip(*shown, strict=True), color=colour, label=label, lw=1.2)
    _dots(axis, found, found.played, lambda one: float(one.setup.gpus), unit, labelled=False)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("GPUs", color=svg.Ink.MUTED)
    _finish(axis, unit)
    caption = (
        "Lines: the cheapest set-up of each number of GPUs that keeps the SLO in its busiest minute, in closed form. "
        "Dots of the same colours: replayed; rings missed the SLO. A dot below its line met the SLO although its "
        "busiest minute did not."
    )
    return Plot("Joules over GPUs", caption, svg.text_of(figure, label="Least joules per number of GPUs"))


def over_lateness(found: Found, unit: EnergyUnit) -> Plot:
    """Draw joules against the share of requests outside the SLO: the frontier is the lower left edge."""
    figure, (axis,) = svg.panels(1, height_in=3.0)
    floor = min((1 / one.requests for one in found.played if one.requests), default=1e-4) / 2

    def late_percent(one: AnyPlayed) -> float:
        return 100 * max(1 - one.attainment_ratio, floor)

    _dots(axis, found, found.played, late_percent, unit)
    edge = frontier([(late_percent(one), one.energy_j / unit.size_j) for one in found.played])
    axis.plot(*zip(*edge, strict=True), color=svg.Ink.MUTED, lw=1.0, drawstyle="steps-post", label="frontier")
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(numticks=8))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda percent, _: f"{percent:,g}"))
    axis.axvline(100 * (1 - found.alone.held.percentile_ratio), color=svg.Ink.LIMIT, ls="--", lw=1.1, label="SLO")
    axis.set_xlabel("requests outside the SLO, % (none: at the left edge)", color=svg.Ink.MUTED)
    _finish(axis, unit)
    caption = (
        "All replays. Dots met the SLO overall, per class and per 5-minute window; rings missed one of these. "
        "The line joins what nothing else beats in both."
    )
    return Plot("Joules over attainment", caption, svg.text_of(figure, label="Joules over requests outside the SLO"))


def over_latency(found: Found, unit: EnergyUnit) -> Plot:
    """Draw joules against both latencies."""
    figure, ((left, right),) = svg.table(1, 2, height_in=3.0)
    held = found.alone.held
    sides: tuple[tuple[Axes, str, Callable[[AnyPlayed], float], float], ...] = (
        (left, "TTFT p99, ms", lambda one: 1e3 * one.ttft_s, 1e3 * max(held.ttft_s)),
        (right, "TPOT p99, ms", lambda one: 1e3 * one.tpot_s, 1e3 * held.tpot_s),
    )
    for axis, title, value, limit_ms in sides:
        known = [one for one in found.played if math.isfinite(value(one))]
        _dots(axis, found, known, value, unit, labelled=axis is left)
        axis.axvline(limit_ms, color=svg.Ink.LIMIT, ls="--", lw=1.1, label="limit" if axis is left else None)
        plots.milliseconds(axis, "x")
        axis.set_xlabel(title, color=svg.Ink.MUTED)
        axis.set_title(f"GPU {unit.name}" if axis is left else "", loc="left", fontsize=9.5, color=svg.Ink.TEXT, pad=18)
    svg.legend(left, "lower left", (0, 1))
    caption = "All replays whose requests finished; dashed: the limits."
    return Plot("Joules over latency", caption, svg.text_of(figure, label="Joules over p99 latencies"))


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other beats in both coordinates, ascending in the first."""
    found: list[tuple[float, float]] = []
    for point in sorted(points):
        if not found or point[1] < found[-1][1]:
            found.append(point)
    return found


# --- pieces ------------------------------------------------------------------------------------------


def _dots(
    axis: Axes,
    found: Found,
    each: Sequence[AnyPlayed],
    value: Callable[[AnyPlayed], float],
    unit: EnergyUnit,
    *,
    labelled: bool = True,
) -> None:
    """Draw replays: filled where the SLO was met, a ring where it was missed; the winner with its name."""
    for apart, colour, name in ((False, ONE_POOL, "one pool"), (True, APART, "apart")):
        for met in (True, False):
            mine = [one for one in each if isinstance(one.setup, Pair) is apart and one.slo_met is met]
            if not mine:
                continue
            axis.plot(
                [value(one) for one in mine], [one.energy_j / unit.size_j for one in mine], ls="", color=colour,
                marker="o", ms=DOT if met else RING, mfc=colour if met else "none", mew=0.8,
                label=f"{name}, replayed" if met and labelled else None,
            )  # fmt: skip
    best = found.best
    if best is not None and best in each:
        axis.annotate("best", (value(best), best.energy_j / unit.size_j), xytext=(5, -9), textcoords="offset points",
                      color=svg.Ink.TEXT, fontsize=8.5)  # fmt: skip


def _finish(axis: Axes, unit: EnergyUnit) -> None:
    axis.set_title(f"GPU {unit.name}", loc="left", fontsize=9.5, color=svg.Ink.TEXT, pad=6)
    svg.legend(axis, "lower right", (1, 1))
