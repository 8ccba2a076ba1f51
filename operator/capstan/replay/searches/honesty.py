"""Checks on a finished comparison that nobody can talk their way out of (DESIGN 7.1, last lines; exit code 4).

Who calls it: `app.replay`, after all systems ran. It writes `case` beside the report when there is a fault. Must not
know: how any of the figures came about.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from capstan.replay.scores.compare import BOUND, ORACLE

TOLERANCE_RATIO = 1e-9
"""Joules are sums of 1e5 to 1e8 floats, whose order may differ between systems; that is all that is forgiven."""


@dataclass(frozen=True, slots=True)
class Row:
    """One system's figures that are compared: joules of the same boundary for all, and whether its SLO was met."""

    energy_j: float
    slo_met: bool


def check(rows: Mapping[str, Row]) -> tuple[str, ...]:
    """Return the faults of a comparison, in words; none where it holds.

    - joules are finite and not below zero (NaN compares as false with everything, so it would pass every other check);
    - no system that meets the SLO is below `oracle`;
    - neither `oracle` nor such a system is below `bound`.

    What is not in the comparison is not checked; a missed SLO excuses a system, but not `oracle`, which must meet it.
    """
    faults = [f"{name}: {row.energy_j} J is no energy" for name, row in rows.items() if not _sane(row.energy_j)]
    oracle, bound = rows.get(ORACLE), rows.get(BOUND)
    systems = {name: row for name, row in rows.items() if name not in (ORACLE, BOUND) and row.slo_met}
    if oracle is not None and oracle.slo_met:
        faults += [_below(name, row, ORACLE, oracle) for name, row in systems.items() if _less(row, oracle)]
    if oracle is not None and not oracle.slo_met and systems:
        faults.append(f"oracle misses the SLO, which {', '.join(sorted(systems))} meets")
    if bound is not None:
        met = systems if oracle is None or not oracle.slo_met else {**systems, ORACLE: oracle}
        faults += [_below(name, row, BOUND, bound) for name, row in met.items() if _less(row, bound)]
    return tuple(faults)


def case(rows: Mapping[str, Row], faults: tuple[str, ...], settings: tuple[tuple[str, str], ...]) -> str:
    """Return the case as JSON text: what was run and what came out, enough to run it again.

    Energies that are no numbers are written as text, because JSON has none.
    """
    document = {
        "faults": list(faults),
        "settings": dict(settings),
        "systems": {name: {"energy_j": _number(row.energy_j), "slo_met": row.slo_met} for name, row in rows.items()},
    }
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _less(row: Row, other: Row) -> bool:
    return row.energy_j < other.energy_j * (1 - TOLERANCE_RATIO)


def _below(name: str, row: Row, floor: str, other: Row) -> str:
    return f"{name} meets the SLO with {row.energy_j:.6g} J, below {floor} with {other.energy_j:.6g} J"


def _sane(energy_j: float) -> bool:
    return math.isfinite(energy_j) and energy_j >= 0


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
