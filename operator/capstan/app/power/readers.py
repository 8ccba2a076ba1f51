"""Prometheus behind the slow meters: one number with its age, or one sentence that says why there is none."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from capstan.adapters import errors
from capstan.adapters.prometheus.client import Prometheus
from capstan.power.ports import Reading

LARGEST_W = 1e10  # ten gigawatts: no site draws that

NOWHERE = "no Prometheus is named: start `capstan power` with --prometheus-url"


def reader(source: Prometheus | None) -> Callable[[str], Awaitable[Reading]]:
    """Return what reads one query of a PowerDomain."""

    async def read(query: str) -> Reading:
        if source is None:
            return Reading(None, 0.0, time.monotonic(), NOWHERE)
        try:
            value_w = await _one(source, query)
            # Prometheus answers with what is up to 5 minutes old. Of a bare series the age is known; of an expression
            # it is that of the evaluation, so such a query should look back no further than it means to.
            age_s = await _one(source, f"time() - timestamp({query})")
        except errors.AdapterError as problem:
            return Reading(None, 0.0, time.monotonic(), str(problem))
        if not 0 <= value_w <= LARGEST_W:
            return Reading(None, 0.0, time.monotonic(), f"it says {value_w:g} W, which no feed carries")
        return Reading(value_w, max(age_s, 0.0), time.monotonic())

    return read


async def _one(source: Prometheus, query: str) -> float:
    """Return the one number that a query yields. Raises AdapterError."""
    points = (await source.instant(query)).points
    if not points:
        raise errors.Malformed("the query yields no series: is the exporter up, and the name right?")
    if len(points) > 1:
        raise errors.Malformed(f"the query yields {len(points)} series, not one number: wrap it in sum()")
    return points[0].value
