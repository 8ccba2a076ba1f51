"""`report.html` of a row: one page without a network; the load, how many servers, every world, the day of the peak.

Who calls it: `app.replay_kinds`. Must not know: files.
"""

from __future__ import annotations

import numpy as np

from capstan.replay.pages import plots, rendering, svg, words
from capstan.replay.pages.plots import Plot
from capstan.replay.row import report
from capstan.replay.row.experiment import Piece
from capstan.replay.row.report import Found
from capstan.replay.row.systems import Path

DRAWN = ("uncapped", "polca", "polca-ours", "guaranteed")
"""Four lines are as many as can be told apart."""


def of(found: Found) -> str:
    """Return the HTML."""
    tables = []
    for combination in found.combinations:
        tables += [report.load(found, combination), report.most(found, combination)]
        tables += [report.table(found, combination, servers) for servers in found.counts]
    with svg.style():
        drawn = tuple(peak_day(found, piece) for piece in _shown(found))
    return rendering.html(
        "row",
        headline=found.name,
        passed=all(report.valid(found, one) is not False for one in found.combinations),
        sentence=sentence(found),
        provenance=f"Modelled, not measured on GPUs: {words.profile(found.asked.profile)}.",
        tables=tables,
        plots=drawn,
        settings=_settings(found),
    )


def sentence(found: Found) -> str:
    """Return how many more servers fit, in a sentence."""
    first = found.combinations[0]
    told = []
    for system in found.asked.systems:
        servers = report.held(found, first, system.name)
        told.append(f"{system.name} {'none' if servers is None else report.more(found, servers)}")
    return f"Servers added without a brake and with POLCA's SLOs met: {', '.join(told)}."


def peak_day(found: Found, piece: Piece) -> Plot:
    """Draw the day in which the row peaks, under some systems."""
    figure, (axis,) = svg.panels(1, height_in=2.8)
    names = [name for name in DRAWN if name in piece.shown_w]
    for index, name in enumerate(names):
        hours = np.arange(len(piece.shown_w[name])) / 60
        plots.line(axis, hours, 100 * piece.shown_w[name], color=svg.series(index), lw=0.9, label=name)
    axis.axhline(100, color=svg.Ink.LIMIT, lw=1.6, label="budget")
    axis.set_title("Row, % of its budget", loc="left", fontsize=9.5, color=svg.Ink.TEXT, pad=6)
    axis.set_xlabel("hours", color=svg.Ink.MUTED)
    svg.legend(axis, "lower right", (1, 1))
    title = f"{report.more(found, piece.servers)}: the day of the peak"
    caption = f"Highest second of each minute, seed {piece.seed}, {report.described(piece.combination)}."
    return Plot(title, caption, svg.text_of(figure, label=title))


def _shown(found: Found) -> list[Piece]:
    """Return the first seed's pieces from the budget's edge on: below it there is nothing to see."""
    first = found.of(found.combinations[0])
    return [piece for piece in first if piece.seed == first[0].seed and piece.uncapped.peak_ratio > 1][:3]


def _settings(found: Found) -> tuple[tuple[str, str], ...]:
    asked = found.asked
    return (
        ("row", f"{asked.built} servers, {asked.budget_w / 1e3:g} kW"),
        ("seeds", ", ".join(str(seed) for seed in dict.fromkeys(piece.seed for piece in found.pieces))),
        ("weeks", f"{asked.derived_weeks} to derive from, {asked.scored_weeks} scored"),
        ("a busy server", f"is asked for {100 * asked.load_ratio:.0f} % of what it could serve"),
        *((system.name, f"{system.words}; {_path(system.path)}") for system in asked.systems),
    )


def _path(path: Path) -> str:
    return (
        f"samples of {path.sample_s} s, {path.lag_s} s old; caps after {path.cap_s} s, the brake after {path.brake_s} s"
    )
