"""Fewer points, same drawing: a series of a week becomes a few hundred points that still show every peak.

Who calls it: `pages.plots`, `pages.panels`. Must not know: what is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from capstan.replay.runs import Floats


@dataclass(frozen=True, slots=True)
class Envelope:
    """A series in equal stretches of samples: where each begins, its lowest, mean and highest value. NaN: none."""

    t_s: Floats
    low: Floats
    mean: Floats
    high: Floats


def changes(t_s: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Return the points at which a step function takes another value, and its last: the same drawing."""
    if len(t_s) < 3:
        return t_s, values
    before, after = values[:-1], values[1:]
    changed = (before != after) & ~(np.isnan(before) & np.isnan(after))
    kept = np.concatenate(([True], changed))
    kept[-1] = True
    return t_s[kept], values[kept]


def envelope(t_s: Floats, values: Floats, count: int) -> Envelope:
    """Return the envelope of a series of at least `count` samples in `count` stretches; NaN samples are left out."""
    starts = np.linspace(0, len(t_s), count + 1).astype(np.intp)[:-1]
    known = ~np.isnan(values)
    counts = np.add.reduceat(known.astype(np.float64), starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.add.reduceat(np.where(known, values, 0.0), starts) / counts
    low = np.minimum.reduceat(np.where(known, values, np.inf), starts)
    high = np.maximum.reduceat(np.where(known, values, -np.inf), starts)
    return Envelope(t_s[starts], *(np.where(counts > 0, column, np.nan) for column in (low, mean, high)))


def evenly(values: Floats, most: int) -> Floats:
    """Return every n-th value, at most `most` of them."""
    return values[:: max(1, -(-len(values) // most))]
