"""The drawings of a study: energy over the clock, efficient frontiers, and heat maps of clock x batch for each tp.

Who calls it: `study.page`. Must not know: findings, HTML. A tp has the same colour in all drawings.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from capstan.replay.pages import svg
from capstan.replay.pages.plots import Plot, milliseconds
from capstan.replay.study import surface, survey
from capstan.replay.study.surface import Line, Sheet
from capstan.replay.study.survey import Choice, Study, View

COLUMNS = 3  # small drawings side by side: as many as answers have buckets
ROW_IN = 1.9
BEYOND_RATIO = 1.6  # of a limit: how far a frontier is drawn past it

STEPS = (1.1, 1.25, 1.5, 2.0, 4.0, 8.0, math.inf)
"""Upper ends of a heat map's steps, as multiples of the class's least energy inside the SLO."""

SHADES = (1.0, 0.78, 0.6, 0.44, 0.3, 0.18, 0.08)


def of(study: Study) -> tuple[Plot, ...]:
    """Return all drawings."""
    with svg.style():
        return (over_clock(study), frontiers(study, survey.TPOT), frontiers(study, survey.TTFT), heat(study.nominal))


def over_clock(study: Study) -> Plot:
    """Draw energy per token over the clock, each clock as full as the SLO allows, with the clock-response band."""
    view = study.nominal
    figure, axes = _small(len(view.kinds))
    for axis, kind in zip(axes, view.kinds, strict=True):
        for index, sheet in enumerate(view.of(kind)):
            banded = [other.of(kind)[index].edge for other in study.views]
            _curve(axis, sheet, banded, svg.series(index))
        _dressed(axis, f"{kind.name}, J per output token")
    _key(figure, view)
    _label_columns(axes, "SM clock, MHz")
    several = " Pale: from low to high clock response." if len(study.views) > 1 else ""
    caption = f"Each clock carries as much as the SLO lets it; ring: the least.{several}"
    return Plot("Energy over the clock", caption, svg.text_of(figure, label="Energy per token over the clock"))


def frontiers(study: Study, latency: int) -> Plot:
    """Draw energy per token against TTFT or TPOT: every set-up a dot, the efficient ones joined."""
    view, word = study.nominal, ("TTFT", "TPOT")[latency]
    figure, axes = _small(len(view.kinds))
    for axis, kind in zip(axes, view.kinds, strict=True):
        limit_s = (kind.slo.ttft_s, kind.slo.tpot_s)[latency]
        shown = [one for one in view.choices(kind) if one.latencies_s[latency] <= BEYOND_RATIO * limit_s]
        _scatter(axis, view, shown, latency)
        best = survey.frontier(shown, latency)
        axis.plot([1e3 * one.latencies_s[latency] for one in best], [_j(one) for one in best], color=svg.Ink.TEXT, lw=1)
        axis.axvline(1e3 * limit_s, color=svg.Ink.LIMIT, lw=1.1)
        axis.set_yscale("log")
        milliseconds(axis, "x")
        axis.xaxis.set_minor_locator(NullLocator())
        _dressed(axis, f"{kind.name}, J per output token")
        _plain_decades(axis)
    _key(figure, view)
    _label_columns(axes, f"{word}, ms")
    caption = f"A dot per tp, clock and batch; line: nothing else has both less energy and less {word}; red: the limit."
    return Plot(f"Energy against {word}", caption, svg.text_of(figure, label=f"Energy per token against {word}"))


def heat(view: View) -> Plot:
    """Draw energy per token over clock and batch, a row per class and a column per tp."""
    kinds = view.kinds
    columns = len(view.tps)
    figure, grid = svg.table(len(kinds), columns, height_in=0.5 + 1.25 * len(kinds))
    for row, kind in zip(grid, kinds, strict=True):
        best = view.best(kind) or view.closest(kind)
        for axis, sheet in zip(row, view.of(kind), strict=True):
            if best is not None:
                _map(axis, sheet, best, view.margin)
            axis.set_title(f"{kind.name}, tp {sheet.profile.tp}", loc="left", fontsize=9.0, color=svg.Ink.TEXT, pad=3)
        row[0].set_ylabel("batch", color=svg.Ink.MUTED)
    for axis in grid[-1]:
        axis.set_xlabel("SM clock, MHz", color=svg.Ink.MUTED)
    handles = [
        Patch(color=svg.Ink.SERIES_1, alpha=shade, lw=0, label=name)
        for shade, name in zip(SHADES, _steps(), strict=True)
    ]
    _legend(figure, handles, columns=7)
    caption = (
        "Multiples of the class's least energy per token inside the SLO, its place ringed. Blue keeps the SLO, grey "
        "misses it, white has no steady state."
    )
    return Plot("Clock and batch", caption, svg.text_of(figure, label="Energy per token over clock and batch"))


def _steps() -> list[str]:
    return [f"to {step:g} x" for step in STEPS[:-1]] + ["more"]


def _map(axis: Axes, sheet: Sheet, best: Choice, margin: float) -> None:
    """Fill one small heat map: one path per step and side of the SLO, which is a tenth of the bytes of cells."""
    edges = _between(sheet.clocks_mhz)
    boxes: dict[tuple[bool, int], list[tuple[float, float, float, float]]] = {}
    for row, line in enumerate(sheet.batches):
        for place, cell in enumerate(line):
            if cell is not None:
                step = next(i for i, top in enumerate(STEPS) if cell.j_per_output_token <= top * _j(best))
                at = (edges[place + 1], row - 0.5, edges[place], row + 0.5)
                boxes.setdefault((cell.stress_ratio <= margin, step), []).append(at)
    for (keeps, step), found in sorted(boxes.items()):
        colour = svg.Ink.SERIES_1 if keeps else svg.Ink.MUTED
        axis.add_artist(PathPatch(_rectangles(found), facecolor=colour, alpha=SHADES[step], lw=0))
    if best.sheet.profile.tp == sheet.profile.tp:
        height = math.log2(best.cell.batch / surface.BATCHES[0])
        axis.plot([best.cell.clock_mhz], [height], marker="o", ms=5, mfc="none", mec=svg.Ink.TEXT, mew=1.2)
    axis.set_xlim(edges[-1], edges[0])
    axis.set_ylim(-0.5, len(surface.BATCHES))  # half a row above the last: an edge may lie beyond it
    rows = range(0, len(surface.BATCHES), 3)
    axis.set_yticks(list(rows), [f"{surface.BATCHES[row]:g}" for row in rows])
    axis.grid(visible=False)


def _rectangles(boxes: Sequence[tuple[float, float, float, float]]) -> Path:
    vertices = [
        point
        for left, bottom, right, top in boxes
        for point in ((left, bottom), (right, bottom), (right, top), (left, top), (left, bottom))
    ]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(boxes)
    return Path(vertices, codes)


def _between(clocks_mhz: Sequence[float]) -> list[float]:
    """Return the bounds of each clock's column, highest first: half way to its neighbours."""
    inner = [(a + b) / 2 for a, b in itertools.pairwise(clocks_mhz)]
    return [clocks_mhz[0], *inner, clocks_mhz[-1]]


def _curve(axis: Axes, sheet: Sheet, banded: Sequence[Line], colour: svg.Ink) -> None:
    cells = [(place, cell) for place, cell in enumerate(sheet.edge) if cell is not None]
    if not cells:
        return
    clocks = [cell.clock_mhz for _, cell in cells]
    axis.plot(clocks, [cell.j_per_output_token for _, cell in cells], color=colour)
    others = [[other.j_per_output_token for place, _ in cells if (other := line[place])] for line in banded]
    low, high = ([side(column) for column in zip(*others, strict=True)] for side in (min, max))
    axis.fill_between(clocks, low, high, color=colour, alpha=0.2, lw=0)
    best = min((cell for _, cell in cells), key=lambda cell: cell.j_per_output_token)
    axis.plot([best.clock_mhz], [best.j_per_output_token], marker="o", ms=5, mfc="none", mec=colour, mew=1.2)
    axis.set_yscale("log")
    _plain_decades(axis)


def _scatter(axis: Axes, view: View, shown: Sequence[Choice], latency: int) -> None:
    for index, tp in enumerate(view.tps):
        svg.dots(axis, [(1e3 * one.latencies_s[latency], _j(one)) for one in shown if one.tp == tp], svg.series(index))


def _small(count: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of `count` small panels."""
    rows = math.ceil(count / COLUMNS)
    figure, grid = svg.table(rows, COLUMNS, height_in=0.4 + ROW_IN * rows)
    axes = [axis for row in grid for axis in row]
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def _dressed(axis: Axes, title: str) -> None:
    axis.set_title(title, loc="left", fontsize=9.0, color=svg.Ink.TEXT, pad=4)


def _plain_decades(axis: Axes) -> None:
    """Label a logarithmic energy axis with plain numbers."""
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda joules, _: f"{joules:g}"))
    axis.yaxis.set_minor_locator(NullLocator())  # unlabelled ticks take half of the time that a page takes


def _key(figure: Figure, view: View) -> None:
    handles = [Patch(color=svg.series(index), lw=0, label=f"tp {tp}") for index, tp in enumerate(view.tps)]
    _legend(figure, handles, columns=len(handles))


def _legend(figure: Figure, handles: list[Patch], *, columns: int) -> None:
    figure.legend(
        handles=handles, loc="outside upper right", ncols=columns, frameon=False, fontsize=9.0,
        labelcolor=svg.Ink.TEXT, handlelength=1.2, columnspacing=1.2,
    )  # fmt: skip


def _label_columns(axes: Sequence[Axes], word: str) -> None:
    for axis in axes[-COLUMNS:]:
        axis.set_xlabel(word, color=svg.Ink.MUTED)
        axis.tick_params(labelbottom=True)


def _j(choice: Choice) -> float:
    return choice.cell.j_per_output_token
