"""The records of a power domain: what was declared, what was measured, what the machine remembers and answers.

Watts of a domain are AC at its meter; watts of GPUs and of the rest of a node are DC, behind the power supplies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from capstan.model.reasons import Reason
from capstan.model.sample import Sample


class Level(StrEnum):
    """How hard a domain is capped; `PowerDomain.status.state` prints the same word (facts: POLCA's Algorithm 1)."""

    NORMAL = "Normal"
    LOW_BASE = "LowBase"  # low priority stops boosting
    LOW_DEEP = "LowDeep"  # low priority at its deep cap
    HIGH_CAP = "HighCap"  # and high priority at its own
    BRAKE = "Brake"  # everything at the brake clock and the safe board limit
    FAIL_SAFE = "FailSafe"  # blind: safe board limit, and no cap that was in force is loosened
    DISARMED = "Disarmed"  # never armed, or released: nothing is touched


LEVELS = tuple(Level)
"""The levels as `machine` numbers them."""

RANK = {level: number for number, level in enumerate(LEVELS)}
"""Their numbers: Normal 0, and the higher the harder, but for Disarmed, which is last."""

LADDER = LEVELS[:5]
"""The levels that utilisation alone decides, gentlest first."""


class Strategy(StrEnum):
    """Statistical: thresholds on what is drawn. Guaranteed: watt grants that add up to the budget."""

    STATISTICAL = "Statistical"
    GUARANTEED = "Guaranteed"


class Scheme(StrEnum):
    """Which of POLCA's policies a domain runs: all are settings of one machine (facts/polca.md 1.5)."""

    TWO_THRESHOLDS = "TwoThresholds"  # POLCA: low priority first, high priority when that was not enough
    ONE_THRESHOLD_LOW = "OneThresholdLow"  # above the high threshold low priority goes to its deep cap
    ONE_THRESHOLD_ALL = "OneThresholdAll"  # above the high threshold everything goes to that cap
    NO_CAP = "NoCap"  # nothing but the brake


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Shares of the budget at which caps come, and how far below one they go again.

    The defaults are the in-band rack's of facts/polca.md 5.2: a domain of 4-8 servers multiplexes little, so it
    starts far below the 0.80 / 0.89 that the paper chose for a row of 40.
    """

    low_ratio: float = 0.62
    high_ratio: float = 0.72
    brake_ratio: float = 0.97
    hysteresis_ratio: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.low_ratio < self.high_ratio < self.brake_ratio <= 1:
            raise ValueError("thresholds need 0 < low < high < brake <= 1 (shares of the budget)")
        if not 0 < self.hysteresis_ratio < self.low_ratio:
            raise ValueError("hysteresis lies above 0 and below the low threshold")


@dataclass(frozen=True, slots=True)
class Caps:
    """SM clock caps of a domain's levels.

    The defaults are POLCA's clocks as shares of the maximum boost (0.904, 0.787, 0.926, 0.204 of 1410 MHz), moved
    to H100's 1980 MHz and its 15 MHz grid (facts/polca.md 3.2); a profile's own response replaces them.
    """

    low_base_mhz: float = 1785
    low_deep_mhz: float = 1560
    high_mhz: float = 1830
    brake_mhz: float = 405

    def __post_init__(self) -> None:
        if not 0 < self.brake_mhz <= self.low_deep_mhz <= self.low_base_mhz:
            raise ValueError("caps need 0 < brake <= lowDeep <= lowBase")
        if self.low_deep_mhz > self.high_mhz:
            raise ValueError("caps need lowDeep <= high: low priority is capped first")


@dataclass(frozen=True, slots=True)
class Timers:
    """How long the machine waits. Defaults: facts/polca.md 5.2, column "in-band rack".

    Attributes:
        settle_s: From LowDeep to HighCap, the time in which LowDeep must have shown its effect.
        dwell_s: Below the release line before one level is released.
        brake_hold_s: The same, for leaving Brake; what the hard brake holds above the high threshold waits
            `dwell_max_s` before.
        stale_s: A sample older than this never drives.
        fail_safe_dwells: Dwells with every node heard before FailSafe is left.
        retrip_s: A cap that returns within this time after a release doubles the dwell, a brake its hold, up to
            `dwell_max_s`.
        spread_ratio: Releases wait up to this share of the dwell longer, another share for each domain (Thunderbolt:
            racks that release together rise together).
    """

    settle_s: float = 5.0
    dwell_s: float = 30.0
    brake_hold_s: float = 30.0
    stale_s: float = 5.0
    fail_safe_dwells: int = 2
    retrip_s: float = 600.0
    dwell_max_s: float = 600.0
    spread_ratio: float = 0.2

    def over(self, factor: float) -> Timers:
        """Return timers that wait 1 / `factor` as long: a whole day of levels in minutes, for a proof in the rig.

        What is physics stays: how long a cap takes to show, the age at which a sample no longer drives; and the share
        by which releases spread.
        """
        return replace(
            self,
            dwell_s=self.dwell_s / factor,
            brake_hold_s=self.brake_hold_s / factor,
            retrip_s=self.retrip_s / factor,
            dwell_max_s=self.dwell_max_s / factor,
        )


@dataclass(frozen=True, slots=True)
class SafeSetting:
    """Clock and board limit of one GPU at which the worst case of a domain fits its budget."""

    clock_mhz: float
    power_limit_w: float


@dataclass(frozen=True, slots=True)
class Domain:
    """A feed, row or rack and what its meter may show.

    Attributes:
        parent: Name of the domain above; None at the root.
        kind: `Feed`, `Row` or `Rack`; for people, the machine treats them alike.
        budget_w: AC watts at the domain's meter.
        armed: Whether caps may be written (mode Act, and admitted once).
        non_gpu_typical_w, non_gpu_worst_w: DC watts of one node without its GPUs.
        supply_efficiency_ratio: DC over AC of the power supplies.
        nodes: Names of all nodes below this domain.
        safe: The safe setting in force; None where none was derived or given.
        scheme: Which of POLCA's policies.
        strategy: How the budget is held.
    """

    name: str
    budget_w: float
    parent: str | None = None
    kind: str = "Rack"
    thresholds: Thresholds = Thresholds()
    caps: Caps = Caps()
    timers: Timers = Timers()
    armed: bool = False
    non_gpu_typical_w: float = 0.0
    non_gpu_worst_w: float = 0.0
    supply_efficiency_ratio: float = 1.0
    nodes: tuple[str, ...] = ()
    safe: SafeSetting | None = None
    scheme: Scheme = Scheme.TWO_THRESHOLDS
    strategy: Strategy = Strategy.STATISTICAL

    def __post_init__(self) -> None:
        if self.budget_w <= 0:
            raise ValueError("budget_w is not above zero")
        if not 0 < self.supply_efficiency_ratio <= 1:
            raise ValueError("supply_efficiency_ratio lies in (0, 1]")
        if not 0 <= self.non_gpu_typical_w <= self.non_gpu_worst_w:
            raise ValueError("non-GPU watts need 0 <= typical <= worst case")


@dataclass(frozen=True, slots=True)
class NodeSample:
    """What one node's agent last said.

    Attributes:
        gpus_w: DC watts of all its GPUs.
        gpus: How many it has.
        worst_case_w: DC watts of all its GPUs at their largest board limit: what a silent node counts as.
        min_limit_w: The lowest board limit that its GPUs accept.
    """

    node: str
    gpus_w: Sample[float]
    worst_case_w: float
    gpus: int = 8
    min_limit_w: float = 0.0


@dataclass(frozen=True, slots=True)
class ClassCaps:
    """Caps per priority class and one board limit for all; None: no cap."""

    low_mhz: float | None = None
    high_mhz: float | None = None
    power_limit_w: float | None = None


NO_CAPS = ClassCaps()


@dataclass(frozen=True, slots=True)
class MeterMemory:
    """What is known of a domain's meter against the sum of its agents (`fuse`).

    Attributes:
        factor_ratio: What the agents' sum is multiplied by.
        differing: Samples in a row in which meter and agents were more than a tenth apart.
        agreeing: Readings in a row that lay near `last_ratio`.
        last_ratio: Meter over the agents' mean, of the first of those that agree; None: the meter was never read.
        read_s: When that was.
        mean_w: Mean of the agents' sum over the last minute.
        mean_s: Of which tick; None: the mean begins anew.
        peak_w: The most that the agents said lately, forgotten as fast as the mean follows.
        before_ratio: The factor before the newest reading.
    """

    factor_ratio: float = 1.0
    differing: int = 0
    agreeing: int = 0
    last_ratio: float | None = None
    read_s: float | None = None
    mean_w: float = 0.0
    mean_s: float | None = None
    peak_w: float = 0.0
    before_ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class DomainMemory:
    """What the next tick must know of one domain. Only `level` is durable; the timers restart at their cautious end.

    Attributes:
        since_s: When `level` was entered.
        calm_since_s: Since when every sample lay under the release line of `level`; None: the last one did not.
        seen_s: When the last tick was; None: this is the first.
        floor: The level in force when the domain went blind: FailSafe never loosens it.
        released_s: When a level was last released; None: not since the start.
        retrips: How often a cap came back soon after its release; each doubles the dwell.
        confirmed_s: Since when the caps of this level are known to be in force; None: they are not yet.
        over_s: Since when Brake has not brought the draw below the budget; None: it has.
        hard: Whether Brake holds high priority, too.
        braked_s: When Brake was last released; None: not since the start.
        rebrakes: How often Brake came back soon after its release; each doubles its hold.
        meter: What is known of the meter against the agents.
    """

    level: Level = Level.DISARMED
    since_s: float = 0.0
    calm_since_s: float | None = None
    seen_s: float | None = None
    floor: Level = Level.NORMAL
    released_s: float | None = None
    retrips: int = 0
    confirmed_s: float | None = None
    over_s: float | None = None
    hard: bool = True
    braked_s: float | None = None
    rebrakes: int = 0
    meter: MeterMemory = MeterMemory()


@dataclass(frozen=True, slots=True)
class Step:
    """One tick's answer for one domain.

    Attributes:
        caps: What GPUs of this domain may run at; nothing while disarmed.
        measured_w: AC watts of the nodes heard from; None where there is none.
        projected_w: AC watts that the machine acts on: silent nodes at their worst case.
        utilisation_ratio: `projected_w` over the budget.
        headroom_w: Budget less `projected_w`; negative is a shortfall.
        missing: Nodes whose watts were not heard in time.
        beyond_brake: Brake has not brought the draw below the budget: somebody else must act.
        meter_w: What the meter says, where it is young enough to compare; None: it says nothing.
        meter_agrees: Whether meter and agents agree; None: nothing to compare.
    """

    level: Level
    caps: ClassCaps
    memory: DomainMemory
    measured_w: float | None
    projected_w: float
    utilisation_ratio: float
    headroom_w: float
    reason: Reason
    missing: tuple[str, ...] = ()
    beyond_brake: bool = False
    meter_w: float | None = None
    meter_agrees: bool | None = None


def tightest(*caps: ClassCaps) -> ClassCaps:
    """Return the elementwise minimum: the effective caps under several domains; no caps at all of none."""
    return ClassCaps(
        low_mhz=_least(c.low_mhz for c in caps),
        high_mhz=_least(c.high_mhz for c in caps),
        power_limit_w=_least(c.power_limit_w for c in caps),
    )


def tightest_safe(settings: Iterable[SafeSetting]) -> SafeSetting | None:
    """Return the elementwise minimum of safe settings; None of none."""
    known = tuple(settings)
    if not known:
        return None
    return SafeSetting(min(s.clock_mhz for s in known), min(s.power_limit_w for s in known))


def _least(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def lineage(name: str, domains: tuple[Domain, ...]) -> tuple[Domain, ...]:
    """Return a domain and its ancestors, innermost first; a missing parent ends the line, a cycle is cut."""
    by_name = {domain.name: domain for domain in domains}
    found: list[Domain] = []
    at: str | None = name
    while at is not None and at in by_name and by_name[at] not in found:
        found.append(by_name[at])
        at = by_name[at].parent
    return tuple(found)
