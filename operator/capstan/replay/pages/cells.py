"""The pieces of a table that the terminal and the page both print: rows of words with a tone.

Who calls it: `pages.summary`, `pages.ranking`, `pages.page`. Must not know: what any of the words mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Tone(StrEnum):
    """Whether a cell says that a promise was kept (`good`), was broken (`bad`), or neither."""

    PLAIN = ""
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of one system, as text."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a label and its cells; without cells it is a heading."""

    label: str
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True, slots=True)
class Headed:
    """The names of the columns, without the labels' own, and the rows."""

    heads: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Titled:
    """A table of the page: its title, itself, and the words under it."""

    title: str
    table: Headed
    notes: tuple[str, ...] = ()
