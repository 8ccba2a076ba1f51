"""Unit conversions: the only ones in the house.

Who calls it: adapters, where a foreign unit comes in, and `api.convert`. Everything inside the core is SI (and MHz).
Must not know: anything of Kubernetes, Prometheus or GPUs.
"""

from __future__ import annotations

SECONDS_PER_MINUTE = 60.0
SECONDS_PER_HOUR = 3600.0
GRAMS_PER_KG = 1000.0
HOURS_PER_YEAR = 8760.0  # 365 x 24
JOULES_PER_KWH = 3.6e6  # 1 kWh = 1,000 W x 3,600 s


def watts_of_milliwatts(milliwatts: float) -> float:
    """Return watts; NVML reports power and limits in milliwatts."""
    return milliwatts / 1e3


def milliwatts_of_watts(watts: float) -> int:
    """Return whole milliwatts, rounded down, so that a limit is never loosened by rounding."""
    return int(watts * 1e3)


def joules_of_millijoules(millijoules: float) -> float:
    """Return joules; NVML's and DCGM's energy counters are in millijoules."""
    return millijoules / 1e3


def seconds_of_milliseconds(milliseconds: float) -> float:
    """Return seconds; custom resources carry milliseconds, since their numbers are integers."""
    return milliseconds / 1e3


def milliseconds_of_seconds(seconds: float) -> int:
    """Return whole milliseconds, to the nearest."""
    return round(seconds * 1e3)


def percent_of_ratio(ratio: float) -> int:
    """Return a share in whole percent."""
    return round(ratio * 100)


def ratio_of_percent(percent: float) -> float:
    """Return a fraction; custom resources carry whole percents."""
    return percent / 100.0
