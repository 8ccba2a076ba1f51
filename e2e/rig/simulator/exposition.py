"""Prometheus' text format, written by hand: a dozen engines are scraped every second on two cores.

`prometheus_client` takes ten times as long for the same page; its parser is what the tests read it back with.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def labels(pairs: Mapping[str, str]) -> str:
    """Return `a="x",b="y"` with values escaped as the format asks."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs.items())


def number(value: float) -> str:
    """Return a sample value or a bucket edge as the reference client writes it (`1.0`, `+Inf`)."""
    return "+Inf" if value == math.inf else repr(float(value))


def header(name: str, kind: str, text: str) -> Iterator[str]:
    """Yield the HELP and TYPE lines of a family; `name` is the family's, with `_total` for a counter."""
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def family(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    """Yield a whole family of plain samples: `(labels, value)` pairs."""
    yield from header(name, kind, text)
    for pairs, value in samples:
        yield f"{name}{{{pairs}}} {number(value)}"


def page(lines: Iterable[str]) -> bytes:
    """Return the lines as one page, newline at the end as the format asks."""
    return ("\n".join(lines) + "\n").encode()


@dataclass(slots=True)
class Histogram:
    """Counts per bucket. `edges` are the finite upper bounds, ascending; a value on an edge belongs below it."""

    edges: tuple[float, ...]
    _counts: list[int] = field(init=False)
    _sum: float = 0.0

    def __post_init__(self) -> None:
        self._counts = [0] * (len(self.edges) + 1)

    def observe(self, value: float) -> None:
        """Book one value."""
        self._counts[bisect_left(self.edges, value)] += 1
        self._sum += value

    @property
    def count(self) -> int:
        """Observations so far."""
        return sum(self._counts)

    def lines(self, name: str, text: str, pairs: str) -> Iterator[str]:
        """Yield the family: cumulative buckets, count and sum."""
        yield from header(name, "histogram", text)
        cumulated = accumulate(self._counts)
        for edge, count in zip((*self.edges, math.inf), cumulated, strict=True):
            yield f'{name}_bucket{{{pairs},le="{number(edge)}"}} {count}.0'
        yield f"{name}_count{{{pairs}}} {self.count}.0"
        yield f"{name}_sum{{{pairs}}} {number(self._sum)}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
