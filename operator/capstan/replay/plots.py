"""The report's drawings: watts against budget, load and replicas, clocks, queues, latencies, joules.

Who calls it: `replay.report`. Must not know: verdicts and HTML. Every figure shows a modelled world, and its caption
says what is drawn; colours belong to policies and are the same in all drawings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from capstan.replay import score, svg
from capstan.replay.record import DomainTick, PolicyTick, Run

MAX_DOTS = 6000  # per drawing: about 150 kB of SVG; good requests are thinned evenly, bad ones are all kept
_UNCAPPED_LEVELS = frozenset({"Normal", "Disarmed"})
_SHADES = {"LowBase": 0.10, "LowDeep": 0.17, "HighCap": 0.26, "Brake": 0.38, "FailSafe": 0.38}
_UNKNOWN_SHADE = 0.10


@dataclass(frozen=True, slots=True)
class Plot:
    """One drawing: what it answers, how to read it, and the `<svg>` element."""

    title: str
    caption: str
    svg: str


def of(runs: Sequence[Run]) -> tuple[Plot, ...]:
    """Return the drawings of the first run, with the others' watts and joules beside them."""
    run = runs[0]
    with svg.style():
        drawn = [power(runs)] if _domains(run) else []
        drawn += [load(run), clocks(run), queues(run), latency(run), energy(runs)]
    return tuple(drawn)


def power(runs: Sequence[Run]) -> Plot:
    """Draw AC watts of every domain against its budget, with the levels and the marks."""
    run = runs[0]
    names = _domains(run)
    figure, axes = svg.panels(len(names), height_in=2.7)
    for axis, name in zip(axes, names, strict=True):
        for other in runs[1:]:
            times, ticks = _domain(other, name)
            axis.plot(times, [t.draw_w / 1e3 for t in ticks], color=svg.Ink.MUTED, ls=":", lw=1.1, label=other.system)
        times, ticks = _domain(run, name)
        axis.plot(times, [t.draw_w / 1e3 for t in ticks], color=svg.Ink.SERIES_1, label=f"{run.system}, true AC draw")
        budgets = [t.budget_w / 1e3 for t in ticks]
        axis.step(times, budgets, where="post", color=svg.Ink.LIMIT, lw=1.8, label="budget")
        _levels(axis, times, ticks)
        axis.set_ylim(bottom=0, top=_headroom(axis, factor=1.12))
        _finish(axis, f"{name}, kW")
    _marks(axes, run)
    _time_axis(axes, run)
    caption = "Shaded: the domain's level while it capped GPUs. Dotted: the same requests under another system."
    return Plot("Watts against the budget", caption, svg.text_of(figure, label="AC watts of each domain over time"))


def load(run: Run) -> Plot:
    """Draw arrivals, then desired and ready replicas, per policy."""
    figure, (top, bottom) = svg.panels(2, height_in=1.9)
    for colour, name in _coloured(run):
        times, ticks = _policy(run, name)
        top.plot(times, [t.arrival_rps for t in ticks], color=colour, label=name)
        bottom.step(times, [t.replicas_ready for t in ticks], where="post", color=colour, label=f"{name}, ready")
        desired = [t.replicas_desired for t in ticks]
        bottom.step(times, desired, where="post", color=colour, ls="--", lw=1.0, label="desired")
    _finish(top, "arrivals, 1/s")
    _finish(bottom, "replicas", whole=True)
    for axis in (top, bottom):
        axis.set_ylim(bottom=0, top=_headroom(axis))
    _marks((top, bottom), run, text=False)
    _time_axis((top, bottom), run)
    caption = "A gap between dashed and solid is start-up time or draining."
    return Plot("Load and replicas", caption, svg.text_of(figure, label="Arrival rate and replicas over time"))


def clocks(run: Run) -> Plot:
    """Draw the planned clock cap per policy and the cap of each domain; no cap is the top line."""
    figure, (axis,) = svg.panels(1, height_in=2.1)
    lines = [(c, n, [(t.t_s, p.clock_cap_mhz) for t in run.ticks for p in t.policies if p.policy == n], "-")
             for c, n in _coloured(run)]  # fmt: skip
    lines += [(svg.Ink.LIMIT, f"{n}, low-priority cap", [(t.t_s, d.cap_mhz) for t in run.ticks for d in t.domains
              if d.domain == n], "--") for n in _domains(run)]  # fmt: skip
    capped = [mhz for *_, points, _ in lines for _, mhz in points if mhz is not None]
    low_mhz, high_mhz = (min(capped), max(capped)) if capped else (0.0, 1000.0)
    uncapped_mhz = high_mhz + max(150.0, 0.15 * (high_mhz - low_mhz))
    for colour, name, points, dash in lines:
        values = [uncapped_mhz if mhz is None else mhz for _, mhz in points]
        axis.step([t for t, _ in points], values, where="post", color=colour, ls=dash, label=name)
    axis.set_ylim(low_mhz - 0.1 * (uncapped_mhz - low_mhz), uncapped_mhz + 0.1 * (uncapped_mhz - low_mhz))
    axis.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda mhz, _: "" if mhz > uncapped_mhz - 60 else f"{mhz:.0f}"))
    axis.annotate("no cap", (0, uncapped_mhz), xycoords=("axes fraction", "data"), xytext=(-6, 0),
                  textcoords="offset points", ha="right", va="center", color=svg.Ink.MUTED, fontsize=9)  # fmt: skip
    _finish(axis, "SM clock cap, MHz")
    _marks((axis,), run, text=False)
    _time_axis((axis,), run)
    caption = "Solid: the cap in force, the lower of energy plan and domain. Dashed: the domain's low-priority cap."
    return Plot("Clock caps", caption, svg.text_of(figure, label="Clock caps over time"))


def queues(run: Run) -> Plot:
    """Draw running and waiting requests per policy."""
    figure, (axis,) = svg.panels(1, height_in=2.0)
    for colour, name in _coloured(run):
        times, ticks = _policy(run, name)
        axis.plot(times, [t.running for t in ticks], color=colour, label=f"{name}, running")
        axis.plot(times, [t.waiting for t in ticks], color=colour, ls="--", lw=1.0, label="waiting")
    axis.set_ylim(bottom=0, top=_headroom(axis))
    _finish(axis, "requests", whole=True)
    _marks((axis,), run, text=False)
    _time_axis((axis,), run)
    caption = "All replicas of a policy together, as their engines report it."
    return Plot("Requests in the engines", caption, svg.text_of(figure, label="Running and waiting requests"))


def latency(run: Run) -> Plot:
    """Draw TTFT and mean TPOT of every request over its arrival, with each policy's limit."""
    figure, (top, bottom) = svg.panels(2, height_in=2.1)
    for index, (colour, name) in enumerate(_coloured(run)):
        slo = run.services[index].slo
        outcomes = [o for o in run.outcomes if o.policy == name]
        for axis, pick, limit_s in ((top, score.ttft_s, slo.ttft_s), (bottom, score.tpot_s, slo.tpot_s)):
            points = [(o.arrival_s, 1e3 * v) for o in outcomes if (v := pick(o)) is not None and v > 0]
            kept = _thinned(points, 1e3 * limit_s, MAX_DOTS // len(run.services))
            svg.dots(axis, kept, colour)
            dash = (0, (4, 2 + 2 * index))  # limits often coincide: unequal dashes let both be seen
            axis.axhline(1e3 * limit_s, color=colour, ls=dash, lw=1.1, label=f"{name}, limit {1e3 * limit_s:g} ms")
    for axis, word in ((top, "TTFT, ms"), (bottom, "TPOT, ms")):
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
        axis.yaxis.set_minor_formatter(FuncFormatter(lambda _ms, _: ""))
        _finish(axis, word)
    _marks((top, bottom), run, text=False)
    _time_axis((top, bottom), run)
    unserved = sum(o.finish_s is None for o in run.outcomes)
    caption = f"One dot per request, at its arrival; {unserved:,} requests never finished and have no dot."
    return Plot("Latency of every request", caption, svg.text_of(figure, label="TTFT and TPOT of every request"))


def energy(runs: Sequence[Run]) -> Plot:
    """Draw where the joules went: one bar per system, a part per policy and one for GPUs without a pod."""
    figure, (axis,) = svg.panels(1, height_in=0.75 + 0.42 * len(runs))
    colours = {name: colour for colour, name in _coloured(runs[0])}
    for row, run in enumerate(runs):
        left_kj = 0.0
        parts = [(s.policy, s.energy_j, colours.get(s.policy, svg.Ink.MUTED)) for s in run.services]
        for name, joules, colour in [*parts, ("GPUs without a pod", run.energy_unassigned_j, svg.Ink.GRID)]:
            axis.barh(row, joules / 1e3, left=left_kj, height=0.6, color=colour, label=name if row == 0 else None)
            left_kj += joules / 1e3
        axis.annotate(f"{left_kj:,.0f} kJ", (left_kj, row), xytext=(5, 0), textcoords="offset points", va="center",
                      color=svg.Ink.TEXT, fontsize=9)  # fmt: skip
    axis.set_yticks(range(len(runs)), [run.system for run in runs])
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.grid(visible=False, axis="y")
    axis.set_xlabel("kJ of GPU energy, first arrival to last completion", color=svg.Ink.MUTED)
    svg.legend(axis, "lower left", (0, 1))
    caption = "A policy's part counts its GPUs while they start, serve, idle with the model loaded, and drain."
    return Plot("Where the joules went", caption, svg.text_of(figure, label="GPU energy by system and policy"))


def _coloured(run: Run) -> list[tuple[svg.Ink, str]]:
    return [(svg.series(index), service.policy) for index, service in enumerate(run.services)]


def _domains(run: Run) -> list[str]:
    return sorted({d.domain for tick in run.ticks for d in tick.domains})


def _domain(run: Run, name: str) -> tuple[list[float], list[DomainTick]]:
    pairs = [(tick.t_s, d) for tick in run.ticks for d in tick.domains if d.domain == name]
    return [t for t, _ in pairs], [d for _, d in pairs]


def _policy(run: Run, name: str) -> tuple[list[float], list[PolicyTick]]:
    pairs = [(tick.t_s, p) for tick in run.ticks for p in tick.policies if p.policy == name]
    return [t for t, _ in pairs], [p for _, p in pairs]


def _levels(axis: Axes, times: Sequence[float], ticks: Sequence[DomainTick]) -> None:
    """Shade the spans in which a domain capped GPUs; the level's name stands where it fits."""
    if not times:
        return
    starts = [i for i, tick in enumerate(ticks) if i == 0 or tick.level != ticks[i - 1].level]
    for start, end in zip(starts, [*starts[1:], len(ticks) - 1], strict=True):
        level = ticks[start].level
        if level in _UNCAPPED_LEVELS:
            continue
        axis.axvspan(times[start], times[end], color=svg.Ink.BAND, alpha=_SHADES.get(level, _UNKNOWN_SHADE), lw=0)
        if times[end] - times[start] > 0.05 * (times[-1] - times[0]):
            axis.annotate(level, (times[start], 0), xycoords=("data", "axes fraction"), xytext=(3, 3),
                          textcoords="offset points", color=svg.Ink.MUTED, fontsize=8.5)  # fmt: skip


def _marks(axes: Iterable[Axes], run: Run, *, text: bool = True) -> None:
    """Draw what happened as vertical lines, with words in the first panel."""
    for index, axis in enumerate(axes):
        for number, mark in enumerate(run.marks):
            axis.axvline(mark.t_s, color=svg.Ink.TEXT, lw=0.8, ls=(0, (2, 2)))
            if text and index == 0:
                late = mark.t_s > 0.7 * max(run.duration_s, 1.0)
                axis.annotate(mark.text, (mark.t_s, 1), xycoords=("data", "axes fraction"), va="top", fontsize=8.5,
                              xytext=(-4 if late else 4, -2 - 10 * (number % 3)), textcoords="offset points",
                              color=svg.Ink.TEXT, ha="right" if late else "left")  # fmt: skip


def _thinned(points: list[tuple[float, float]], limit: float, most: int) -> list[tuple[float, float]]:
    """Keep every point above the limit and, of the others, an even selection of at most `most`."""
    stride = max(1, math.ceil(len(points) / most))
    return [p for index, p in enumerate(points) if index % stride == 0 or p[1] > limit]


def _headroom(axis: Axes, factor: float = 1.08) -> float:
    """Return a top for the axis that leaves air above the highest line."""
    highest = axis.dataLim.ymax
    return factor * highest if math.isfinite(highest) and highest > 0 else 1.0


def _finish(axis: Axes, title: str, *, whole: bool = False) -> None:
    axis.set_title(title, loc="left", fontsize=9.5, color=svg.Ink.TEXT, pad=6)
    if whole:
        axis.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    svg.legend(axis, "lower right", (1, 1))


def _time_axis(axes: Sequence[Axes], run: Run) -> None:
    axes[-1].set_xlim(0, max(run.duration_s, 1.0))
    axes[-1].set_xlabel("seconds since the first arrival", color=svg.Ink.MUTED)
