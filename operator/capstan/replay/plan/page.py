"""`fit.html` of a plan: one page without a network; the answer, the counts, three drawings.

Who calls it: `app.fit`. Must not know: files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from capstan.replay.pages import plots, rendering, svg, words
from capstan.replay.pages.plots import Plot
from capstan.replay.plan import planned, report, scaling
from capstan.replay.plan.clocked import Request
from capstan.replay.plan.planned import Found
from capstan.replay.plan.tape import DAY_S
from capstan.replay.runs import Floats

MINUTE_S = 60
SHARES = np.concatenate([np.linspace(0.0, 0.95, 96), np.linspace(0.951, 1.0, 50)])
"""Where the duration curve is read: the last twentieth is what a budget is about."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One count to draw: watts over the budget without and with caps, `[second]`; NaN: not heard."""

    servers: int
    free_ratio: Floats
    held_ratio: Floats


def of(found: Found) -> str:
    """Return the HTML."""
    shown = drawn(found)
    with svg.style():
        drawings = (states(found), duration(found, shown), peak_day(shown))
    return rendering.html(
        "fit",
        headline=f"{found.asked.declared.domain.name}: how many more servers fit",
        sentence=report.sentence(found),
        provenance=f"Modelled, not measured on GPUs: {words.profile(found.asked.server.profile)}.",
        passed=found.recommended is not None,
        tables=(report.cases(found), report.counts(found)),
        plots=drawings,
        settings=_settings(found),
    )


def drawn(found: Found) -> Shown:
    """Return what is recommended, or the first count, in the case that binds."""
    asked, one = found.asked, found.binding
    number = one.most or asked.servers
    slow_w = scaling.slow(asked.tape.watts)
    watts = scaling.grown(asked.tape.watts, slow_w, number / asked.servers, correlated=one.case.correlated)
    law, clocks = planned.set_up(asked, one.case)
    _, log = planned.played(asked, law, clocks, watts, number)
    return Shown(number, watts / law.domain.budget_w, log.row_w / law.domain.budget_w)


def states(found: Found) -> Plot:
    """Draw how much of the time each level is in force, by servers."""
    figure, (axis,) = svg.panels(1, height_in=2.6)
    counts = found.binding.counts
    servers = np.array([count.servers for count in counts], np.float64)
    for index, level in enumerate(report.STATES):
        share = np.array([100 * dict(count.state_ratio).get(level, 0.0) for count in counts])
        plots.line(axis, servers, share, color=svg.series(index), label=level.value)
    if found.recommended is not None:
        axis.axvline(found.recommended, color=svg.Ink.GOOD, lw=1.2, label="recommended")
    axis.set_title("Share of the time, %", loc="left", fontsize=9.5, color=svg.Ink.TEXT, pad=6)
    axis.set_xlabel("servers", color=svg.Ink.MUTED)
    svg.legend(axis, "lower right", (1, 1))
    title = "How often caps are in force"
    return Plot(title, report.described(found.binding.case).capitalize() + ".", svg.text_of(figure, label=title))


def duration(found: Found, shown: Shown) -> Plot:
    """Draw for how much of the time the row draws no more than some watts, with the thresholds."""
    figure, (axis,) = svg.panels(1, height_in=2.6)
    asked, at = found.asked, found.binding.held.domain.thresholds
    now = asked.tape.watts / asked.declared.domain.budget_w
    lines = (
        (now, f"{asked.servers} servers"),
        (shown.free_ratio, f"{shown.servers}, no caps"),
        (shown.held_ratio, f"{shown.servers}, capped"),
    )
    for index, (ratio, label) in enumerate(lines):
        plots.line(axis, 100 * SHARES, 100 * np.nanquantile(ratio, SHARES), color=svg.series(index), label=label)
    for threshold in (at.low_ratio, at.high_ratio):
        axis.axhline(100 * threshold, color=svg.Ink.MUTED, lw=0.9, ls=(0, (3, 2)))
    axis.axhline(100, color=svg.Ink.LIMIT, lw=1.6, label="budget")
    axis.set_title("Row, % of its budget", loc="left", fontsize=9.5, color=svg.Ink.TEXT, pad=6)
    axis.set_xlabel("% of the time at or below", color=svg.Ink.MUTED)
    svg.legend(axis, "lower right", (1, 1))
    title = "Duration curve"
    return Plot(title, "Dashed: the low and the high threshold.", svg.text_of(figure, label=title))


def peak_day(shown: Shown) -> Plot:
    """Draw the day in which the row without caps peaks."""
    figure, (axis,) = svg.panels(1, height_in=2.6)
    peak_s = int(np.nanargmax(shown.free_ratio))
    from_s = min(max(peak_s - DAY_S // 2, 0), len(shown.free_ratio) - DAY_S)
    for index, (ratio, label) in enumerate(((shown.free_ratio, "no caps"), (shown.held_ratio, "capped"))):
        minutes = _highest(ratio[from_s : from_s + DAY_S])
        look: dict[str, object] = {"color": svg.series(index), "lw": 0.9, "label": label}
        plots.line(axis, np.arange(len(minutes)) / 60, 100 * minutes, most=len(minutes), **look)
    axis.axhline(100, color=svg.Ink.LIMIT, lw=1.6, label="budget")
    axis.set_title("Row, % of its budget", loc="left", fontsize=9.5, color=svg.Ink.TEXT, pad=6)
    axis.set_xlabel("hours", color=svg.Ink.MUTED)
    svg.legend(axis, "lower right", (1, 1))
    title = f"{shown.servers} servers: the day of the peak"
    return Plot(title, "Highest second of each minute.", svg.text_of(figure, label=title))


def _highest(day: Floats) -> Floats:
    """Return the highest of each minute; NaN where nothing was heard in it."""
    minutes = day.reshape(-1, MINUTE_S)
    highest = np.where(np.isnan(minutes), -np.inf, minutes).max(axis=1)
    return np.asarray(np.where(np.isinf(highest), np.nan, highest))


def _settings(found: Found) -> tuple[tuple[str, str], ...]:
    asked = found.asked
    path = asked.path
    return (
        ("row", f"{asked.servers} servers of {asked.server.gpus} GPUs, {asked.declared.domain.budget_w / 1e3:g} kW"),
        ("tried", f"{asked.servers} to {asked.most} servers, {100 * asked.low_ratio:.0f} % of them low priority"),
        ("requests, low priority", _tokens(asked.server.low)),
        ("requests, high priority", _tokens(asked.server.high)),
        (
            "path",
            f"samples of {path.sample_s} s, {path.lag_s} s old; caps after {path.cap_s} s, the brake after "
            f"{path.brake_s} s",
        ),
    )


def _tokens(services: tuple[Request, ...]) -> str:
    return ", ".join(f"{one.prompt_tokens:.0f} tokens in and {one.output_tokens:.0f} out" for one in services) or "none"
