"""Who holds a row, as settings: POLCA, its rivals, ours, and two that set board limits instead.

Who calls it: `experiment`, `app.row`. Must not know: how a row is played. POLCA's four are one machine with other
settings (`powercap.domains.Scheme`); figures of the paper: facts/polca.md 1.2 to 1.4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from capstan.powercap.domains import Caps, Scheme, Thresholds, Timers


@dataclass(frozen=True, slots=True)
class Path:
    """From a draw to the caps that answer it, in whole seconds.

    Attributes:
        sample_s: The meter's period; a sample is its mean.
        lag_s: How old a sample is when it is read.
        cap_s, brake_s: From a decision to its effect on every server.
    """

    sample_s: int
    lag_s: int
    cap_s: int
    brake_s: int

    @property
    def latency_s(self) -> float:
        """The whole control latency L."""
        return float(self.sample_s + self.lag_s + self.cap_s)


OUT_OF_BAND = Path(
    sample_s=2, lag_s=0, cap_s=40, brake_s=5
)  # facts/polca.md 1.2: PDU 2 s, BMC 40 s, hardware brake 5 s
IN_BAND = Path(sample_s=1, lag_s=1, cap_s=2, brake_s=2)
"""DESIGN 6 and facts/polca.md 5.2: agents are asked once a second for the mean of their last; a renewal carries the
caps at once, and a lock shows its effect a second after the call (3.3)."""

PAPER_THRESHOLDS = Thresholds(0.80, 0.89, 1.0, 0.05)
PAPER_CAPS = Caps(1275, 1110, 1305, 285)
"""facts/polca.md 1.3; the hardware brake's 288 MHz is not on the grid of locks: 285 is."""

PAPER_TIMERS = Timers(
    settle_s=2.0, dwell_s=2.0, brake_hold_s=30.0, stale_s=60.0, retrip_s=0.0, dwell_max_s=2.0, spread_ratio=0.0
)
"""The paper waits for nothing but its hysteresis: one sample. How its brake is released is not known; 30 s is ours."""


class Kind(Enum):
    """What is set on the servers."""

    CLOCKS = "clock caps by thresholds"
    EVEN_LIMITS = "the same board limit for all"
    STEERED_LIMITS = "board limits that follow what is drawn"
    GRANTS = "watt grants"


@dataclass(frozen=True, slots=True)
class System:
    """One way to hold a row.

    `derived`: thresholds and caps come from the weeks before the scored ones. `fixed`: thresholds are its own, whatever
    the scenario's domain says.
    """

    name: str
    words: str
    kind: Kind = Kind.CLOCKS
    scheme: Scheme = Scheme.TWO_THRESHOLDS
    path: Path = OUT_OF_BAND
    thresholds: Thresholds = PAPER_THRESHOLDS
    caps: Caps = PAPER_CAPS
    timers: Timers = PAPER_TIMERS
    derived: bool = False
    fixed: bool = False


UNCAPPED = System("uncapped", "no cap and no brake: what slowdown is measured against", scheme=Scheme.NO_CAP)

ALL = (
    System("no-cap", "nothing but the hardware brake", scheme=Scheme.NO_CAP),
    System(
        "one-threshold-low",
        "above 89 %, low priority at 1110 MHz",
        scheme=Scheme.ONE_THRESHOLD_LOW,
    ),
    System(
        "one-threshold-all",
        "above 89 %, everything at 1110 MHz",
        scheme=Scheme.ONE_THRESHOLD_ALL,
    ),
    System("polca", "the paper's law, caps and path of 40 s"),
    System(
        "polca-ours",
        "the same machine in band; thresholds and caps derived from the weeks before",
        path=IN_BAND,
        timers=Timers(dwell_s=10.0),
        derived=True,
    ),
    System(
        "guaranteed", "watt grants that add up to the budget, moved to who needs them", kind=Kind.GRANTS, path=IN_BAND
    ),
    System(
        "uniform-cap", "the budget divided evenly, as board limits that never move", kind=Kind.EVEN_LIMITS, path=IN_BAND
    ),
    System(
        "dps-like",
        "limits that follow what is drawn; low priority is robbed first",
        kind=Kind.STEERED_LIMITS,
        path=IN_BAND,
    ),
)
"""Every system that a row is played with, in the order of tables."""


SENSITIVITY = tuple(
    System(
        f"polca-{low}-{high}",
        f"the paper's law with thresholds of {low} and {high} %",
        thresholds=Thresholds(low / 100, high / 100, 1.0, 0.05),
        fixed=True,
    )
    for low, high in ((75, 85), (85, 95))
)
"""What other thresholds do to the paper's law: the other candidates of facts/polca.md 1.4. Played with --full."""


def named(names: tuple[str, ...]) -> tuple[System, ...]:
    """Return systems by name.

    Raises:
        KeyError: One that is not known.
    """
    known = {system.name: system for system in (*ALL, *SENSITIVITY)}
    return tuple(known[name] for name in names)


def with_law(system: System, thresholds: Thresholds, caps: Caps) -> System:
    """Return a system with other thresholds and caps."""
    return replace(system, thresholds=thresholds, caps=caps)
