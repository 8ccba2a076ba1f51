"""How a matplotlib figure becomes inline SVG for a page: theme colours, page fonts, small numbers.

Who calls it: `pages.plots`. Must not know: what is plotted.

A figure is drawn in stand-in colours that no eye would choose; the SVG text then refers to the page's CSS variables
in their place, so that one drawing reads in light, in dark and on paper. Text stays text (it can be searched, and the
page's font draws it), and coordinates carry two decimals, which is far below a pixel.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

WIDTH_IN = 9.2  # 662 SVG units in a column of ~880 CSS pixels: 9 points become 12 pixels, the size of a caption

_STYLE: dict[str, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "capstan",  # ids follow content: the same run gives the same page
    "text.parse_math": False,  # a name with two dollar signs is a name, not a formula
    "font.size": 9.0,
    "axes.linewidth": 0.6,
    "axes.titley": 1.0,  # no tick stands above a panel: looking for one lays out every axis once more
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.4,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.constrained_layout.use": True,
}


class Ink(StrEnum):
    """A role on the page. The value is the stand-in that matplotlib draws; `css` is what the page shows."""

    TEXT = "#0a0a01"
    MUTED = "#0a0a02"
    GRID = "#0a0a03"
    LIMIT = "#0a0a04"
    BAND = "#0a0a05"
    GOOD = "#0a0a06"
    SERIES_1 = "#0a0a11"
    SERIES_2 = "#0a0a12"
    SERIES_3 = "#0a0a13"
    SERIES_4 = "#0a0a14"

    @property
    def css(self) -> str:
        """Return the CSS variable of this role, as `var(--series-1)`."""
        return f"var(--{self.name.lower().replace('_', '-')})"


SERIES = (Ink.SERIES_1, Ink.SERIES_2, Ink.SERIES_3, Ink.SERIES_4)


def series(index: int) -> Ink:
    """Return the colour of the `index`-th thing; past four they repeat (line styles must tell them apart)."""
    return SERIES[index % len(SERIES)]


def style() -> AbstractContextManager[None]:
    """Return the context in which figures are made and saved; nothing outside it is changed."""
    return mpl.rc_context(rc=_STYLE)  # type: ignore[arg-type]  # the stubs list every key; ours are among them


def panels(count: int, *, height_in: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels over one time axis, each `height_in` tall, in the page's style."""
    figure = Figure(figsize=(WIDTH_IN, height_in * count))
    grid = figure.subplots(count, 1, sharex=True, squeeze=False)
    axes = [grid[row][0] for row in range(count)]
    for axis in axes:
        _dress(axis)
    return figure, axes


def table(rows: int, columns: int, *, height_in: float) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure of `rows` x `columns` small panels, `height_in` tall in all; each column has one x axis."""
    figure = Figure(figsize=(WIDTH_IN, height_in))
    grid = figure.subplots(rows, columns, sharex="col", squeeze=False)
    axes = [[grid[row][column] for column in range(columns)] for row in range(rows)]
    for axis in (axis for row in axes for axis in row):
        _dress(axis)
    return figure, axes


def _dress(axis: Axes) -> None:
    """Give an axis the page's colours and a quiet grid."""
    axis.patch.set_visible(False)
    axis.grid(visible=True, axis="y", color=Ink.GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(colors=Ink.MUTED, labelcolor=Ink.MUTED, length=3)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(Ink.MUTED)


Corner = Literal["lower left", "lower right"]


def legend(axis: Axes, corner: Corner, anchor: tuple[float, float]) -> None:
    """Put the legend in one line above the panel, `corner` of its box at `anchor` (fractions of the panel)."""
    axis.legend(
        loc=corner, bbox_to_anchor=anchor, ncols=6, frameon=False, fontsize=9.0, labelcolor=Ink.TEXT,
        borderaxespad=0.1, handlelength=1.6, columnspacing=1.2,
    )  # fmt: skip


def dots(axis: Axes, points: Sequence[tuple[float, float]], colour: str) -> None:
    """Draw points as one path of zero-length segments with round ends: a tenth of the bytes of markers.

    matplotlib drops the segments and keeps the moves; `_slim` puts a zero step (`h0`) after each.
    """
    if not points:
        return
    vertices = [point for point in points for _ in range(2)]
    path = Path(vertices, [Path.MOVETO, Path.LINETO] * len(points))
    patch = PathPatch(path, fill=False, edgecolor=colour, capstyle="round", linewidth=2.2, alpha=0.45)
    axis.add_artist(patch)  # `add_patch` would look for the ends of each segment, as if it were curved
    axis.update_datalim(points)
    axis.autoscale_view()


def text_of(figure: Figure, *, label: str) -> str:
    """Return the figure as an `<svg>` element with `label` as its accessible name."""
    figure.patch.set_visible(False)
    buffer = io.StringIO()
    # Not `savefig`: it draws everything twice, once for the layout alone, which `draw` does by itself.
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]  # theirs
    raw = buffer.getvalue()
    return _themed(_slim(raw[raw.index("<svg") :], label))


def _slim(svg: str, label: str) -> str:
    """Drop what a page does not need: metadata, a page-wide style, ids nobody refers to, digits nobody sees."""
    for dropped in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r"<!--.*?-->", r'(?<=<g) id="[^"]*"'):
        svg = re.sub(dropped, "", svg, flags=re.DOTALL)
    svg = re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m.group()):.2f}".rstrip("0").rstrip("."), svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    svg = re.sub(r"(M \S+ \S+)(?=\n(?:M|\"))", r"\1h0", svg)  # a move that draws nothing is a dot (`dots`)
    name = html.escape(label)
    opening = r"<svg [^>]*(?P<box>viewBox=\"[^\"]*\")[^>]*>"
    return re.sub(opening, lambda m: f'<svg {m["box"]} role="img" aria-label="{name}">', svg)


def _themed(svg: str) -> str:
    """Put the page's variables where the stand-ins are, and leave the choice of the font to the page."""
    for ink in Ink:
        svg = svg.replace(ink.value, ink.css)
    svg = re.sub(r"font: (?P<px>[\d.]+)px [^;\"]*", r"font-size: \g<px>px", svg)
    return re.sub(r" font-family: [^;\"]*;", "", svg)
