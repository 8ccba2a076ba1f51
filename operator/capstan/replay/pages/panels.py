"""The report's drawings that set systems side by side: joules and attainment, latencies, everything over time.

Who calls it: `pages.page`. Must not know: HTML, what a saving is. Systems are rows, least energy first, so that a
dozen read as well as two; a row has the same place in every drawing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from capstan.replay.pages import plots, svg, thin, words
from capstan.replay.pages.plots import Plot, Span
from capstan.replay.runs import Floats, ServiceRun
from capstan.replay.scores import compare, measure
from capstan.replay.scores.compare import Column, Comparison
from capstan.replay.scores.score import Quantiles, Score

ROW_POINTS = 260  # per line in a small panel: one for each of its pixels
TAIL_POINTS = 220  # of a tail curve, evenly over its logarithm
TAIL_REQUESTS = 1_000_000  # a curve of that many requests is drawn as exactly as one of 27 million
TAIL_SYSTEMS = 4  # as many colours as can be told apart
NAME_SHOWN = 16  # characters of a policy's name beside a bar: more would leave the drawing
MISS_SHOWN = 3.0  # points of attainment below the SLO that the bars show; the words say the rest

_PARTS = (
    ("serving", svg.Ink.SERIES_1),
    ("loaded, idle", svg.Ink.SERIES_2),
    ("start-up, drain", svg.Ink.SERIES_4),
    ("GPUs without a pod", svg.Ink.MUTED),
)


def of(comparison: Comparison) -> tuple[Plot, ...]:
    """Return the drawings: first joules and attainment, then latencies, then all systems over time."""
    ordered = sorted(comparison.columns, key=lambda column: column.score.energy_j)
    with svg.style():
        drawn = [overview(comparison, ordered)]
        if any(column.score.overall.completed and column.run.services for column in ordered):
            drawn += [quantiles(ordered), tails(comparison)]
        running = [column for column in ordered if any(len(s.series.t_s) for s in column.run.services)]
        drawn += [over_time(running)] if running else []
    return tuple(drawn)


# --- joules and attainment ---------------------------------------------------------------------------


def overview(comparison: Comparison, ordered: Sequence[Column]) -> Plot:
    """Draw where the joules of each system went, and how far its attainment lies from what the SLO asks."""
    figure, ((left, right),) = svg.table(1, 2, height_in=0.95 + 0.3 * len(ordered))
    unit = words.energy_unit(column.score.fleet_j for column in ordered)
    for row, column in enumerate(ordered):
        _joules(left, row, column, unit.size_j)
        told = f"{unit.number(column.score.energy_j)}{_saved(comparison, column)}"
        _beside(left, column.score.fleet_j / unit.size_j, row, told)
        _attained(right, row, column.score)
    _rows(left, [column.run.system for column in ordered])
    _rows(right, [""] * len(ordered))
    left.margins(x=0.3)
    left.set_xlim(left=0)
    left.xaxis.set_major_locator(MaxNLocator(nbins=5))
    left.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    left.set_xlabel(f"{unit.name} of GPU energy", color=svg.Ink.MUTED)
    svg.legend(left, "lower left", (0, 1))
    right.set_xlim(-MISS_SHOWN, MISS_SHOWN)
    right.axvline(0, color=svg.Ink.TEXT, lw=0.8)
    right.set_xlabel("attainment beyond what the SLO asks, points", color=svg.Ink.MUTED)
    caption = (
        "Number: joules of assigned GPUs, and the change from single-pool where both meet the SLO (GPUs without a pod "
        "off / idling). Right: good requests less the SLO's share, of the service that is worst off; a red bar above 0 "
        "missed it in a class of requests or in the 5-minute windows."
    )
    return Plot("Energy and SLO attainment", caption, svg.text_of(figure, label="Energy and attainment by system"))


def _saved(comparison: Comparison, column: Column) -> str:
    """Return the change against single-pool at both boundaries, as ` −31 / −28 %`; empty where there is none."""
    relative = comparison.relative(column.run.system)
    both = [estimate.mean for estimate in (relative.saving, relative.saving_fleet) if estimate is not None]
    if not both or column.run.system == compare.SINGLE_POOL:
        return ""
    return f"  {' / '.join(map(_signed, both))} %"


def _signed(saved_ratio: float) -> str:
    """Return the change in whole percent; nothing is called plus or minus nothing."""
    percent = round(100 * saved_ratio)
    return f"{'−' if percent > 0 else '+'}{abs(percent)}" if percent else "0"


def _joules(axis: Axes, row: int, column: Column, unit_j: float) -> None:
    energy = column.score.energy
    joules = (energy.serving_j, energy.idle_j, energy.transition_j, column.score.energy_unassigned_j)
    start = 0.0
    for (name, colour), part_j in zip(_PARTS, joules, strict=True):
        label = name if row == 0 else None
        axis.barh(row, part_j / unit_j, left=start, height=0.62, color=colour, label=label)
        start += part_j / unit_j


def _attained(axis: Axes, row: int, score: Score) -> None:
    """Draw the margin of the worst service as a bar from the SLO, with its attainment in words."""
    known = [(f.attainment_ratio - p.limits.percentile_ratio, f.attainment_ratio, p.policy)
             for p in score.policies if (f := p.figures).attainment_ratio is not None]  # fmt: skip
    if not known:
        _beside(axis, 0.0, row, "no request")
        return
    margin, ratio, policy = min(known)
    shown = max(100 * margin, -MISS_SHOWN)
    colour, word = (svg.Ink.GOOD, "met") if score.slo_met else (svg.Ink.LIMIT, "missed")
    axis.barh(row, shown, height=0.62, color=colour)
    whose = f"{policy.rpartition('/')[2][:NAME_SHOWN]} " if len(score.policies) > 1 else ""
    _beside(axis, max(shown, 0.0), row, f"{whose}{words.percent(ratio)}, {word}")


# --- latencies ---------------------------------------------------------------------------------------


def quantiles(ordered: Sequence[Column]) -> Plot:
    """Draw p50, p90 and p99 of TTFT, TPOT and the longest gap, a row per system."""
    figure, (axes,) = svg.table(1, 3, height_in=0.8 + 0.25 * len(ordered))
    titles = ("TTFT, ms", "TPOT, ms", "longest gap between two tokens, ms")
    for place, (axis, title) in enumerate(zip(axes, titles, strict=True)):
        for row, column in enumerate(ordered):
            overall = column.score.overall
            unknown = "serves nothing" if overall.ttft_s.p50 is None else "nobody measured it"
            found = (overall.ttft_s, overall.tpot_s, overall.tbt_s)[place]
            _range(axis, row, found, met=column.score.slo_met, unknown=unknown)
        axis.set_title(title, loc="left", fontsize=9.5, color=svg.Ink.TEXT, pad=6)
        plots.milliseconds(axis, "x")
        _rows(axis, ["" if place else column.run.system for column in ordered])
        axis.grid(visible=True, axis="x", color=svg.Ink.GRID, linewidth=0.6)
    _limits(axes, ordered[0].score)
    caption = "Dot: median. Tick: p90. Diamond: p99. Dashed: the limits; red rows missed the SLO."
    return Plot("Latencies by system", caption, svg.text_of(figure, label="Latency quantiles by system"))


def _range(axis: Axes, row: int, found: Quantiles, *, met: bool, unknown: str) -> None:
    if found.p50 is None or found.p90 is None or found.p99 is None:
        axis.annotate(unknown, (0.02, row), xycoords=("axes fraction", "data"), va="center",
                      color=svg.Ink.MUTED, fontsize=8.5)  # fmt: skip
        return
    colour = svg.Ink.SERIES_1 if met else svg.Ink.LIMIT
    low, middle, high = (max(1e3 * value_s, 1e-3) for value_s in (found.p50, found.p90, found.p99))
    axis.plot([low, high], [row, row], color=colour, lw=1.2)
    for value, marker in ((low, "o"), (middle, "|"), (high, "D")):
        axis.plot([value], [row], color=colour, marker=marker, ms=7 if marker == "|" else 4.5, ls="none")


def _limits(axes: Sequence[Axes], score: Score) -> None:
    for axis, limits_s in (
        (axes[0], [s for p in score.policies for s in p.limits.ttft_s]),
        (axes[1], [p.limits.tpot_s for p in score.policies]),
    ):
        for limit_s in dict.fromkeys(limits_s):
            axis.axvline(1e3 * limit_s, color=svg.Ink.MUTED, lw=1.0, ls=(0, (4, 3)), zorder=1)


def tails(comparison: Comparison) -> Plot:
    """Draw the share of requests that took longer, for the system on trial and those it is measured against."""
    figure, (axes,) = svg.table(1, 2, height_in=3.1)
    wanted = [comparison.first.run.system, compare.SINGLE_POOL, compare.BEST_STATIC, compare.ORACLE]
    wanted += [column.run.system for column in comparison.columns]
    named = [comparison.column(name) for name in dict.fromkeys(wanted)]
    shown = [column for column in named if column is not None and column.run.services][:TAIL_SYSTEMS]
    for index, column in enumerate(shown):
        for axis, which in zip(axes, (measure.Latency.TTFT, measure.Latency.TPOT), strict=True):
            _tail(axis, column, which, svg.series(index), ("-", "--", "-.", ":")[index])
    for axis, title in zip(axes, ("requests with a longer TTFT", "requests with a longer TPOT"), strict=True):
        axis.set_title(title, loc="left", fontsize=9.5, color=svg.Ink.TEXT, pad=6)
        axis.set_yscale("log")
        axis.set_ylim(1e-4, 1.1)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{100 * ratio:g} %"))
        axis.yaxis.set_minor_locator(NullLocator())
        plots.milliseconds(axis, "x")
        axis.set_xlabel("ms", color=svg.Ink.MUTED)
    _limits(axes, shown[0].score)
    svg.legend(axes[0], "lower left", (0, 1.12))
    caption = "Where a line crosses 1 % lies its p99. Dashed grey: the limits. Unfinished requests are not in it."
    return Plot("How slow the slowest are", caption, svg.text_of(figure, label="Tail of TTFT and TPOT"))


def _tail(axis: Axes, column: Column, which: measure.Latency, colour: str, dash: str) -> None:
    values = np.sort(thin.evenly(measure.latency([s.outcomes for s in column.run.services], which), TAIL_REQUESTS))
    if not len(values):
        return
    longer = np.unique(np.geomspace(1, len(values), TAIL_POINTS).astype(np.intp))  # how many are as slow or slower
    axis.plot(1e3 * values[-longer], longer / len(values), color=colour, ls=dash, label=column.run.system)


# --- over time ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scale:
    """The y axis that a kind has in every row; `top` is where `no cap` is drawn."""

    low: float
    high: float
    bottom: float
    top: float


def over_time(columns: Sequence[Column]) -> Plot:
    """Draw arrivals, then replicas, tp, clock cap and watts of every system, on one time axis."""
    span = plots.span(columns[0].run)
    kinds = ["replicas", "tp", "clock", "watts"] if _several_tps(columns) else ["replicas", "clock", "watts"]
    figure, grid = svg.table(len(columns) + 1, len(kinds), height_in=0.9 + 0.52 * (len(columns) + 1))
    for axis in grid[0]:
        for colour, service in plots.coloured(columns[0].run):
            series = service.series
            plots.line(axis, span.of(series.t_s), series.arrival_rps, most=ROW_POINTS, color=colour, lw=1.0,
                       label=service.policy)  # fmt: skip
        axis.set_ylim(bottom=0)
    if len(columns[0].run.services) > 1:
        svg.legend(grid[0][0], "lower left", (0, 1.4))
    for place, kind in enumerate(kinds):
        scale = _scale([_kind(s, kind) for c in columns for s in c.run.services], kind)
        for row, column in zip(grid[1:], columns, strict=True):
            _lived(row[place], column, kind, span, scale)
    _labels(grid, kinds, [column.run.system for column in columns], span)
    same = "" if "tp" in kinds else f" tp never changes: {_tps(columns)}."
    caption = f"Top row: arrivals per second. Pale: lowest to highest. A clock at the top line has no cap.{same}"
    return Plot("Every system over time", caption, svg.text_of(figure, label="Replicas, clocks and watts by system"))


def _several_tps(columns: Sequence[Column]) -> bool:
    """Return whether a service has more than one tp, in one system or between two."""
    by_policy: dict[str, set[int]] = {}
    for service in (service for column in columns for service in column.run.services):
        by_policy.setdefault(service.policy, set()).update(np.unique(service.series.tp).tolist())
    return any(len(tps) > 1 for tps in by_policy.values())


def _tps(columns: Sequence[Column]) -> str:
    return ", ".join(f"{s.policy} {int(s.series.tp[0])}" for s in columns[0].run.services if len(s.series.tp))


def _lived(axis: Axes, column: Column, kind: str, span: Span, scale: _Scale) -> None:
    """Draw one kind of one system, and give the panel its scale."""
    for colour, service in plots.coloured(column.run):
        values = _kind(service, kind)
        drawn = np.where(np.isnan(values), scale.top, values) if kind == "clock" else values
        draw = plots.line if kind == "watts" else plots.step
        draw(axis, span.of(service.series.t_s), drawn, most=ROW_POINTS, color=colour, lw=1.0)
    axis.set_ylim(scale.bottom, scale.top + 0.08 * (scale.top - scale.bottom))
    ends = [scale.low, scale.high] if kind in {"clock", "tp"} and scale.high > scale.low else [scale.high]
    axis.yaxis.set_major_locator(FixedLocator([_rounded(end) for end in ends]))


def _kind(service: ServiceRun, kind: str) -> Floats:
    series = service.series
    columns = {"replicas": series.replicas_ready, "tp": series.tp, "clock": series.clock_cap_mhz,
               "watts": series.gpus_w / 1e3}  # fmt: skip
    return columns[kind].astype(np.float64)


def _scale(drawn: Sequence[Floats], kind: str) -> _Scale:
    """Return a scale for everything that one kind shows."""
    known = [values[np.isfinite(values)] for values in drawn]
    low = min((float(values.min()) for values in known if len(values)), default=0.0)
    high = max((float(values.max()) for values in known if len(values)), default=1.0)
    if kind != "clock":
        return _Scale(low, high, 0.0, 1.12 * high if high > 0 else 1.0)
    top = high + max(0.18 * (high - low), 60.0)
    return _Scale(low, high, low - 0.15 * (top - low), top)


def _rounded(value: float) -> float:
    """Return a value with two digits below ten, whole above."""
    return float(round(value, max(0, 1 - math.floor(math.log10(value))))) if 0 < value < 10 else float(round(value))


def _labels(grid: Sequence[Sequence[Axes]], kinds: Sequence[str], names: Sequence[str], span: Span) -> None:
    titles = {"replicas": "replicas ready", "tp": "tp", "clock": "clock cap, MHz", "watts": "GPU draw, kW"}
    for row, name in zip(grid, ("arrivals, 1/s", *names), strict=True):
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", color=svg.Ink.TEXT, labelpad=8)
        for axis in row:
            axis.tick_params(labelsize=7.5, length=2)
            axis.grid(visible=True, axis="y", color=svg.Ink.GRID, linewidth=0.5)
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    for axis in grid[0]:
        axis.yaxis.set_major_locator(MaxNLocator(nbins=2, prune="lower"))
    for axis, kind in zip(grid[0], kinds, strict=True):
        axis.set_title(titles[kind], loc="left", fontsize=9.5, color=svg.Ink.TEXT, pad=6)
    for axis in grid[-1]:
        axis.set_xlim(0, span.end)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axis.set_xlabel(span.word, color=svg.Ink.MUTED)


# --- pieces ------------------------------------------------------------------------------------------


def _rows(axis: Axes, names: Sequence[str]) -> None:
    """Make systems the rows of a panel, the first on top."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0, labelcolor=svg.Ink.TEXT)
    axis.grid(visible=False, axis="y")


def _beside(axis: Axes, at: float, row: int, text: str) -> None:
    axis.annotate(text, (at, row), xytext=(4, 0), textcoords="offset points", va="center", color=svg.Ink.TEXT,
                  fontsize=8.5)  # fmt: skip
