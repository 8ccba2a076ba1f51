"""The report's drawings of the system on trial over time: watts against budget, load, clocks, queues, latencies.

Who calls it: `pages.page`. Must not know: verdicts and HTML; other systems but for a dotted line (`pages.panels`
sets systems side by side). Colours belong to policies and are the same in all drawings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from capstan.replay.pages import svg, thin
from capstan.replay.runs import DomainSeries, Floats, Ints, Run, ServiceRun
from capstan.replay.scores import measure
from capstan.replay.scores.compare import Column

MAX_POINTS = 1200  # per line: more than a page has pixels
BAND_ALPHA = 0.25  # of the band between lowest and highest: two bands still show where they overlap
MAX_DOTS = 6000  # per drawing: about 150 kB of SVG; bad requests are kept before good ones
FEW_DECADES = 30.0  # a logarithmic axis that spans less shows 2 and 5 between its decades; more would overlap
_UNCAPPED_LEVELS = frozenset({"Normal", "Disarmed"})
_SHADES = {"LowBase": 0.10, "LowDeep": 0.17, "HighCap": 0.26, "Brake": 0.38, "FailSafe": 0.38}
_UNKNOWN_SHADE = 0.10
_UNITS = ((3 * 86400.0, 86400.0, "days"), (3 * 3600.0, 3600.0, "hours"), (1800.0, 60.0, "minutes"))


@dataclass(frozen=True, slots=True)
class Plot:
    """One drawing: what it answers, how to read it, and the `<svg>` element."""

    title: str
    caption: str
    svg: str


@dataclass(frozen=True, slots=True)
class Span:
    """The time axis of a run, in a unit that a person would choose."""

    unit_s: float
    word: str
    end: float

    def of(self, t_s: Floats) -> Floats:
        """Return times in this unit."""
        return t_s / self.unit_s


def span(run: Run) -> Span:
    """Return the time axis for a run's length."""
    for least_s, unit_s, word in _UNITS:
        if run.duration_s >= least_s:
            return Span(unit_s, word, run.duration_s / unit_s)
    return Span(1.0, "seconds", max(run.duration_s, 1.0))


def of(columns: Sequence[Column]) -> tuple[Plot, ...]:
    """Return the drawings of the first system, with the others' watts beside its domains; nothing for a bare bound."""
    trial, *others = columns
    run = trial.run
    if not run.services:
        return ()
    with svg.style():
        drawn = [power(run, [column.run for column in others])] if run.domains else []
        drawn += [load(run), clocks(run), queues(run), latency(trial)]
        drawn += [expected(run)] if _expects(run) else []
    return tuple(drawn)


def power(run: Run, others: Sequence[Run]) -> Plot:
    """Draw AC watts of every domain against its budget, with the levels and the marks."""
    scale = span(run)
    figure, axes = svg.panels(len(run.domains), height_in=2.7)
    for axis, series in zip(axes, run.domains, strict=True):
        for other in others if len(others) == 1 else ():  # more than one dotted line tells nothing
            for same in (d for d in other.domains if d.domain == series.domain):
                line(
                    axis, scale.of(same.t_s), same.draw_w / 1e3, color=svg.Ink.MUTED, ls=":", lw=1.1, label=other.system
                )
        line(
            axis, scale.of(series.t_s), series.draw_w / 1e3, color=svg.Ink.SERIES_1, label=f"{run.system}, true AC draw"
        )
        step(axis, scale.of(series.t_s), series.budget_w / 1e3, color=svg.Ink.LIMIT, lw=1.8, label="budget")
        _levels(axis, scale, series)
        axis.set_ylim(bottom=0, top=_headroom(axis, factor=1.12))
        _finish(axis, f"{series.domain}, kW")
    _marks(axes, scale, run)
    _time_axis(axes, scale)
    dotted = " Dotted: the same requests under the other system." if len(others) == 1 else ""
    caption = f"Shaded: the domain's level while it capped GPUs.{dotted}"
    return Plot("Watts against the budget", caption, svg.text_of(figure, label="AC watts of each domain over time"))


def load(run: Run) -> Plot:
    """Draw arrivals, then desired and ready replicas, per policy."""
    scale = span(run)
    figure, (top, bottom) = svg.panels(2, height_in=1.9)
    for colour, service in coloured(run):
        series, name = service.series, service.policy
        line(top, scale.of(series.t_s), series.arrival_rps, color=colour, label=name)
        step(bottom, scale.of(series.t_s), series.replicas_ready, color=colour, label=f"{name}, ready")
        step(bottom, scale.of(series.t_s), series.replicas_desired, color=colour, ls="--", lw=1.0, label="desired")
    _finish(top, "arrivals, 1/s")
    _finish(bottom, "replicas", whole=True)
    for axis in (top, bottom):
        axis.set_ylim(bottom=0, top=_headroom(axis))
    _marks((top, bottom), scale, run, text=False)
    _time_axis((top, bottom), scale)
    caption = "A gap between dashed and solid is start-up time or draining."
    return Plot("Load and replicas", caption, svg.text_of(figure, label="Arrival rate and replicas over time"))


def clocks(run: Run) -> Plot:
    """Draw the planned clock cap per policy and the cap of each domain; no cap is the top line."""
    scale = span(run)
    figure, (axis,) = svg.panels(1, height_in=2.1)
    lines = [(colour, s.policy, s.series.t_s, s.series.clock_cap_mhz, "-") for colour, s in coloured(run)]
    lines += [(svg.Ink.LIMIT, f"{d.domain}, low-priority cap", d.t_s, d.cap_mhz, "--") for d in run.domains]
    uncapped_mhz = clock_axis(axis, np.concatenate([caps for *_, caps, _ in lines]))
    for colour, name, t_s, caps, dash in lines:
        step(axis, scale.of(t_s), np.where(np.isnan(caps), uncapped_mhz, caps), color=colour, ls=dash, label=name)
    _finish(axis, "SM clock cap, MHz")
    _marks((axis,), scale, run, text=False)
    _time_axis((axis,), scale)
    caption = "Solid: the cap in force, the lower of energy plan and domain. Dashed: the domain's low-priority cap."
    return Plot("Clock caps", caption, svg.text_of(figure, label="Clock caps over time"))


def clock_axis(axis: Axes, caps_mhz: Floats) -> float:
    """Fit an axis to some caps and return the height at which `no cap` is drawn, above the highest."""
    capped = caps_mhz[~np.isnan(caps_mhz)]
    low_mhz, high_mhz = (float(capped.min()), float(capped.max())) if len(capped) else (0.0, 1000.0)
    uncapped_mhz = high_mhz + max(150.0, 0.15 * (high_mhz - low_mhz))
    axis.set_ylim(low_mhz - 0.1 * (uncapped_mhz - low_mhz), uncapped_mhz + 0.1 * (uncapped_mhz - low_mhz))
    axis.yaxis.set_major_locator(MaxNLocator(nbins=5))
    near_mhz = uncapped_mhz - 0.1 * (uncapped_mhz - low_mhz)  # a number there would run into the words
    axis.yaxis.set_major_formatter(FuncFormatter(lambda mhz, _: "" if mhz > near_mhz else f"{mhz:,.0f}"))
    axis.annotate("no cap", (0, uncapped_mhz), xycoords=("axes fraction", "data"), xytext=(-6, 0),
                  textcoords="offset points", ha="right", va="center", color=svg.Ink.MUTED, fontsize=9)  # fmt: skip
    return uncapped_mhz


def queues(run: Run) -> Plot:
    """Draw running and waiting requests per policy."""
    scale = span(run)
    figure, (axis,) = svg.panels(1, height_in=2.0)
    for colour, service in coloured(run):
        series = service.series
        line(axis, scale.of(series.t_s), series.running, color=colour, label=f"{service.policy}, running")
        line(axis, scale.of(series.t_s), series.waiting, color=colour, ls="--", lw=1.0, label="waiting")
    axis.set_ylim(bottom=0, top=_headroom(axis))
    _finish(axis, "requests", whole=True)
    _marks((axis,), scale, run, text=False)
    _time_axis((axis,), scale)
    caption = "All replicas of a policy together, as their engines report it."
    return Plot("Requests in the engines", caption, svg.text_of(figure, label="Running and waiting requests"))


def latency(column: Column) -> Plot:
    """Draw TTFT and mean TPOT of requests over their arrival, with each policy's limits."""
    run, scale = column.run, span(column.run)
    figure, (top, bottom) = svg.panels(2, height_in=2.1)
    most = MAX_DOTS // len(run.services)
    for index, (colour, service) in enumerate(coloured(run)):
        held = column.score.policies[index].limits
        for axis, which, limits_s in (
            (top, measure.Latency.TTFT, held.ttft_s),
            (bottom, measure.Latency.TPOT, (held.tpot_s,)),
        ):
            at_s, value_s = measure.dots(service.outcomes, which, max(limits_s), most)
            svg.dots(axis, list(zip(scale.of(at_s).tolist(), (1e3 * value_s).tolist(), strict=True)), colour)
            for limit_s in dict.fromkeys(limits_s):
                dash = (0, (4, 2 + 2 * index))  # limits often coincide: unequal dashes let both be seen
                label = f"{service.policy}, limit {1e3 * limit_s:,g} ms"
                axis.axhline(1e3 * limit_s, color=colour, ls=dash, lw=1.1, label=label)
    for axis, word in ((top, "TTFT, ms"), (bottom, "TPOT, ms")):
        milliseconds(axis, "y")
        _finish(axis, word)
    _marks((top, bottom), scale, run, text=False)
    _time_axis((top, bottom), scale)
    figures = column.score.overall
    shown = "One dot per request" if figures.arrived <= MAX_DOTS else "A dot per request, thinned"
    caption = f"{shown}, at its arrival; {figures.arrived - figures.completed:,} requests never finished, no dot."
    return Plot("Latency of requests", caption, svg.text_of(figure, label="TTFT and TPOT of requests"))


def expected(run: Run) -> Plot:
    """Draw the watts that the plan expected against those that came."""
    scale = span(run)
    figure, (axis,) = svg.panels(1, height_in=2.2)
    errors = []
    for colour, service in coloured(run):
        series = service.series
        known = np.isfinite(series.expected_w) & np.isfinite(series.gpus_w) & (series.gpus_w > 0)
        if known.any():
            off = series.expected_w[known].mean() / series.gpus_w[known].mean() - 1
            errors.append(f"{service.policy}: expected {100 * off:+.1f} % of what came, on the mean")
        line(axis, scale.of(series.t_s), series.gpus_w / 1e3, color=colour, label=f"{service.policy}, came")
        step(axis, scale.of(series.t_s), series.expected_w / 1e3, color=colour, ls="--", lw=1.1, label="expected")
    axis.set_ylim(bottom=0, top=_headroom(axis))
    _finish(axis, "GPU watts, kW")
    _marks((axis,), scale, run, text=False)
    _time_axis((axis,), scale)
    caption = f"Dashed: what the plan in force expected to draw. {'; '.join(errors)}."
    return Plot("Expected and realised watts", caption, svg.text_of(figure, label="Expected and realised watts"))


def _expects(run: Run) -> bool:
    return any(np.isfinite(service.series.expected_w).any() for service in run.services)


# --- pieces ------------------------------------------------------------------------------------------


def coloured(run: Run) -> list[tuple[svg.Ink, ServiceRun]]:
    """Return the services with their colours."""
    return [(svg.series(index), service) for index, service in enumerate(run.services)]


def milliseconds(axis: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with plain numbers at the decades, and between them where there are few decades.

    Call it after the drawing: how many decades there are is read off the data.
    """
    (axis.set_xscale if which == "x" else axis.set_yscale)("log")
    ticks = axis.xaxis if which == "x" else axis.yaxis
    low, high = axis.dataLim.intervalx if which == "x" else axis.dataLim.intervaly
    few = 0 < low < high < low * FEW_DECADES
    ticks.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=12))
    ticks.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:,g}"))
    ticks.set_minor_formatter(FuncFormatter(lambda _ms, _: ""))


def line(axis: Axes, times: Floats, values: Floats | Ints, *, most: int = MAX_POINTS, **look: object) -> None:
    """Draw a line; of too many samples their mean, in a band from lowest to highest."""
    drawn = values.astype(np.float64)
    if len(times) <= most:
        axis.plot(times, drawn, **look)  # type: ignore[arg-type]  # a line's look is matplotlib's own keywords
        return
    found = thin.envelope(times, drawn, most // 3)
    axis.plot(found.t_s, found.mean, **look)  # type: ignore[arg-type]  # see above
    axis.fill_between(found.t_s, found.low, found.high, color=str(look["color"]), alpha=BAND_ALPHA, lw=0)


def step(axis: Axes, times: Floats, values: Floats | Ints, *, most: int = MAX_POINTS, **look: object) -> None:
    """Draw a step function by its changes; where there are too many, as `line` does."""
    kept, drawn = thin.changes(times, values.astype(np.float64))
    if len(kept) > most:
        line(axis, times, values, most=most, **look)
    else:
        axis.step(kept, drawn, where="post", **look)  # type: ignore[arg-type]  # see line


def _levels(axis: Axes, scale: Span, series: DomainSeries) -> None:
    """Shade the spans in which a domain capped GPUs; the level's name stands where it fits."""
    levels, times = series.level, scale.of(series.t_s)
    starts = np.flatnonzero(np.concatenate(([True], levels[1:] != levels[:-1]))) if len(times) else np.empty(0, np.intp)
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(times) - 1], strict=False):
        level = str(levels[start])
        if level in _UNCAPPED_LEVELS:
            continue
        axis.axvspan(times[start], times[end], color=svg.Ink.BAND, alpha=_SHADES.get(level, _UNKNOWN_SHADE), lw=0)
        if times[end] - times[start] > 0.05 * (times[-1] - times[0]):
            axis.annotate(level, (times[start], 0), xycoords=("data", "axes fraction"), xytext=(3, 3),
                          textcoords="offset points", color=svg.Ink.MUTED, fontsize=8.5)  # fmt: skip


def _marks(axes: Iterable[Axes], scale: Span, run: Run, *, text: bool = True) -> None:
    """Draw what happened as vertical lines, with words in the first panel."""
    for index, axis in enumerate(axes):
        for number, mark in enumerate(run.marks):
            at = mark.t_s / scale.unit_s
            axis.axvline(at, color=svg.Ink.TEXT, lw=0.8, ls=(0, (2, 2)))
            if text and index == 0:
                late = at > 0.7 * scale.end
                axis.annotate(mark.text, (at, 1), xycoords=("data", "axes fraction"), va="top", fontsize=8.5,
                              xytext=(-4 if late else 4, -2 - 10 * (number % 3)), textcoords="offset points",
                              color=svg.Ink.TEXT, ha="right" if late else "left")  # fmt: skip


def _headroom(axis: Axes, factor: float = 1.08) -> float:
    """Return a top for the axis that leaves air above the highest line."""
    highest = axis.dataLim.ymax
    return factor * highest if math.isfinite(highest) and highest > 0 else 1.0


def _finish(axis: Axes, title: str, *, whole: bool = False) -> None:
    axis.set_title(title, loc="left", fontsize=9.5, color=svg.Ink.TEXT, pad=6)
    if whole:
        axis.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    svg.legend(axis, "lower right", (1, 1))


def _time_axis(axes: Sequence[Axes], scale: Span) -> None:
    axes[-1].set_xlim(0, scale.end)
    axes[-1].set_xlabel(f"{scale.word} since the first arrival", color=svg.Ink.MUTED)
