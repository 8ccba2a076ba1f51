"""Figures and names as people read them: the terminal, the page and the drawings print the same words.

Who calls it: `pages.summary`, `pages.page`, `pages.plots`; whoever fills `ServiceRun.profiles`. Must not know: runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from capstan import units
from capstan.model.profile import Profile

NONE = "n/a"
AS_MUCH = "as much"


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


def change(saved_ratio: float) -> str:
    """Return `31 % less`, `4 % more`, or `as much` where the difference rounds to nothing."""
    percent = round(100 * abs(saved_ratio))
    return f"{percent} % {'less' if saved_ratio > 0 else 'more'}" if percent else AS_MUCH


def pair(median_s: float | None, tail_s: float | None) -> str:
    """Return two times in milliseconds without their unit, as `120 / 1,300`."""
    return NONE if median_s is None or tail_s is None else f"{bare_ms(median_s)} / {bare_ms(tail_s)}"


def bare_ms(seconds: float | None) -> str:
    """Return what `ms` does, for where the unit stands in a head."""
    return ms(seconds).removesuffix(" ms")


def ms(seconds: float | None) -> str:
    """Return a time in milliseconds with about three digits."""
    if seconds is None:
        return NONE
    return f"{1e3 * seconds:,.0f} ms" if seconds >= 0.1 else f"{1e3 * seconds:.1f} ms"


@dataclass(frozen=True, slots=True)
class EnergyUnit:
    """What energies of a table are counted in: joules of one, its name, and the digits that are shown."""

    size_j: float
    name: str
    digits: int

    def number(self, joules: float | None) -> str:
        """Return joules in this unit, without its name."""
        return NONE if joules is None else f"{joules / self.size_j:,.{self.digits}f}"


def energy_unit(joules: Iterable[float]) -> EnergyUnit:
    """Return the unit that suits the largest of some energies: four to five digits in all."""
    largest_j = max(joules, default=0.0)
    return next((unit for least_j, unit in _ENERGY_UNITS if largest_j >= least_j), EnergyUnit(1e3, "kJ", 0))


def energy(joules: float | None) -> str:
    """Return joules with the unit that suits them."""
    if joules is None:
        return NONE
    unit = energy_unit([joules])
    return f"{unit.number(joules)} {unit.name}"


def number(value: float | None, unit: str, digits: int) -> str:
    """Return a figure with its unit."""
    return NONE if value is None else f"{value:,.{digits}f} {unit}".rstrip()


def listed(names: Sequence[str]) -> str:
    """Return `a`, `a and b` or `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


_ENERGY_UNITS = (
    (1e8, EnergyUnit(units.JOULES_PER_KWH, "kWh", 1)),  # from 28 kWh on
    (1e7, EnergyUnit(1e6, "MJ", 2)),
)
