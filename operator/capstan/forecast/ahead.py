"""The forecast of the next epoch: its mean, the band at its end, and the peak to provision for.

Who calls it: `decide`, every cycle. Cheap: the tracker worked out the coming slots when the last one closed. Must not
know: where the history came from.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from operator import itemgetter

from capstan.forecast import peak
from capstan.forecast.peak import Rates
from capstan.forecast.template import Template
from capstan.model.outlook import Ahead, Source, Tracker

RECENT_WINDOWS = 2
"""The burst guard looks at the last two windows: a trend over more would smooth a rise away."""

_time_s = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What will come.

    Attributes:
        mean_rps: Mean of the slots' medians over the horizon.
        low_rps: Lower edge of the 90 % band of the mean rate of the slot in which the horizon ends.
        median_rps: Its median.
        high_rps: Its upper edge.
        sustained_rps: The highest upper edge of the slots in the horizon: what the load may be for a whole slot.
        peak_rps: The highest window to expect: with a template, one epoch in twenty has one beyond it.
        source: What it rests on.
        drifted: Whether the load has left its pattern, so that the band is wider than learnt.
    """

    mean_rps: float
    low_rps: float
    median_rps: float
    high_rps: float
    sustained_rps: float
    peak_rps: float
    source: Source
    drifted: bool = False


def forecast(
    template: Template, tracker: Tracker, rates: Rates, *, now_s: float, horizon_s: float, window_s: float
) -> Forecast:
    """Return the forecast of the next `horizon_s` seconds.

    Args:
        template: For its calendar.
        tracker: `track.after` of this very cycle.
        rates: `((t_s, arrival_rps), ...)`, oldest first; at least one at or before `now_s`.
        now_s: The cycle's time; later rates are not looked at.
        horizon_s: The epoch and the lead of a change; as far as `tracker.horizon_slots` its band is judged.
        window_s: The window that each rate was measured over.

    Raises:
        ValueError: There is no rate: who knows nothing of a load does not ask what it will be.
    """
    known = rates[: bisect.bisect_right(rates, now_s, key=_time_s)]
    if not known:
        raise ValueError("a forecast needs at least one rate at or before now_s")
    calendar = template.calendar
    first, last = calendar.slot(now_s), calendar.slot_before(now_s + horizon_s)
    coming = [ahead for ahead in tracker.ahead if first <= ahead.slot <= last]
    if not coming or any(ahead.source is Source.REACTIVE for ahead in coming):
        return _reactive(coming, known, now_s=now_s, horizon_s=horizon_s, window_s=window_s)
    recent = known[bisect.bisect_left(known, now_s - RECENT_WINDOWS * window_s, key=_time_s) :] or known[-1:]
    burst_rps = _peak(recent, now_s=now_s, horizon_s=horizon_s, window_s=window_s)
    end = coming[-1]
    return Forecast(
        mean_rps=math.fsum(ahead.median_rps for ahead in coming) / len(coming),
        low_rps=end.low_rps,
        median_rps=end.median_rps,
        high_rps=end.high_rps,
        sustained_rps=max(ahead.high_rps for ahead in coming),
        peak_rps=max(burst_rps, *(tracker.peak_rps(ahead) for ahead in coming)),
        source=end.source,
        drifted=tracker.drifted,
    )


def _reactive(coming: list[Ahead], known: Rates, *, now_s: float, horizon_s: float, window_s: float) -> Forecast:
    """Return the forecast without a template: the last slots go on, and the peak is that of the rates at hand."""
    peak_rps = _peak(known, now_s=now_s, horizon_s=horizon_s, window_s=window_s)
    if not coming:  # no slot has closed yet, or none for an epoch
        last_rps, low_rps = known[-1][1], min(rate for _, rate in known)
        return Forecast(last_rps, low_rps, last_rps, peak_rps, peak_rps, peak_rps, Source.REACTIVE)
    end = coming[-1]
    highest_rps = max(ahead.high_rps for ahead in coming)
    return Forecast(end.median_rps, end.low_rps, end.median_rps, end.high_rps, highest_rps, peak_rps, Source.REACTIVE)


def _peak(rates: Rates, *, now_s: float, horizon_s: float, window_s: float) -> float:
    """Return the peak that the rates alone tell of."""
    return peak.peak_rps(rates, now_s=now_s, lead_s=horizon_s, window_s=window_s, recent_s=RECENT_WINDOWS * window_s)
