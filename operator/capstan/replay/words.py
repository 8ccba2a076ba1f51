"""Figures and names as people read them: the terminal, the page and the drawings print the same words.

Who calls it: `replay.summary`, `replay.page`, `replay.plots`; whoever fills `ServiceRun.profiles`. Must not know: runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from capstan.model.profile import Profile

NONE = "n/a"
J_PER_KWH = 3.6e6
KJ, KWH = "kJ", "kWh"
_KWH_FROM_J = 1e8  # 28 kWh: below, kJ have at most five digits


def profile(one: Profile) -> str:
    """Return a profile with its fit error and, where nobody measured it, its clock response, as every figure says."""
    error = one.fit_error_ratio
    fit = "not fitted" if error is None else f"fit error {100 * error:.1f} %"
    clock = ", clock response assumed" if one.clocks.assumed else ""
    return f"{one.name} ({fit}{clock})"


def percent(ratio: float | None) -> str:
    """Return a share that never rounds up to a promise it broke: 98.996 % stays below 99 %."""
    return NONE if ratio is None else f"{math.floor(ratio * 1e4 + 1e-9) / 100:.2f} %"


def digits(ratio: float) -> str:
    """Return an index of 0 to 1 with four digits, rounded down: 1.0000 is said of nothing less."""
    return f"{math.floor(ratio * 1e4 + 1e-9) / 1e4:.4f}"


def share(ratio: float | None) -> str:
    """Return a share or a change in whole percent; `-0 %` does not exist."""
    return NONE if ratio is None else f"{round(100 * ratio) + 0} %"


def pair(median_s: float | None, tail_s: float | None) -> str:
    """Return two times, as `120 ms / 1,300 ms`."""
    return NONE if median_s is None or tail_s is None else f"{ms(median_s)} / {ms(tail_s)}"


def ms(seconds: float | None) -> str:
    """Return a time in milliseconds with about three digits."""
    if seconds is None:
        return NONE
    return f"{1e3 * seconds:,.0f} ms" if seconds >= 0.1 else f"{1e3 * seconds:.1f} ms"


def energy(joules: float | None) -> str:
    """Return joules as kJ below 100 MJ, as kWh from there on."""
    if joules is None:
        return NONE
    unit_j, unit = energy_unit([joules])
    return number(joules / unit_j, unit, 1 if unit == KWH else 0)


def energy_unit(joules: Iterable[float]) -> tuple[float, str]:
    """Return the joules of the unit that suits the largest of some energies, and its name."""
    return (J_PER_KWH, KWH) if max(joules, default=0.0) >= _KWH_FROM_J else (1e3, KJ)


def number(value: float | None, unit: str, digits: int) -> str:
    """Return a figure with its unit."""
    return NONE if value is None else f"{value:,.{digits}f} {unit}".rstrip()


def listed(names: Sequence[str]) -> str:
    """Return `a`, `a and b` or `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
