"""PowerDomain: a feed, row or rack, the watts it can carry, and who is capped first. Written by a power engineer."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field, Strict

from capstan.api import fields, meta
from capstan.api.schema import Spec, rule
from capstan.powercap.domains import Level, Strategy


class DomainType(StrEnum):
    """What stands in a domain."""

    FEED = "Feed"
    ROW = "Row"
    RACK = "Rack"


class Mode(StrEnum):
    """Act asks to arm; Advise watches and says what it would do."""

    ACT = "Act"
    ADVISE = "Advise"


class NonGpuWatts(Spec):
    """DC watts of one node without its GPUs."""

    typical: fields.Watts
    worst_case: fields.Watts

    @rule(
        cel="self.typical <= self.worstCase",
        field="typical",
        fix="must not be above worstCase; lower typical or raise worstCase",
    )
    def _order(self) -> bool:
        return self.typical <= self.worst_case


class Meter(Spec):
    """A slow meter that corrects the agents' sum; it never drives the machine."""

    query: Annotated[str, Field(min_length=1, max_length=4096)]
    """PromQL that yields the domain's AC watts as one number."""
    max_age_seconds: fields.Seconds = 60


class Thresholds(Spec):
    """Percent of the budget at which caps come, and how far below they go again."""

    low_percent: fields.Percent
    """Low priority stops boosting."""
    high_percent: fields.Percent
    """Low priority goes to its deep cap, then high priority to its own."""
    brake_percent: fields.Percent = 97
    """Everything brakes. POLCA leaves this to the hardware; 97 stays below the feed's own limit."""
    hysteresis_percent: Annotated[int, Strict(), Field(ge=1, le=50)] = 5
    """Release below a threshold by this much (POLCA: 5)."""

    @rule(
        cel="self.lowPercent < self.highPercent",
        field="lowPercent",
        fix="must be below highPercent; lower lowPercent or raise highPercent",
    )
    def _low_below_high(self) -> bool:
        return self.low_percent < self.high_percent

    @rule(
        cel="!has(self.brakePercent) || self.highPercent < self.brakePercent",
        field="highPercent",
        fix="must be below brakePercent (97 when left out); lower highPercent or raise brakePercent",
    )
    def _high_below_brake(self) -> bool:
        return self.high_percent < self.brake_percent

    @rule(
        cel="!has(self.hysteresisPercent) || self.hysteresisPercent < self.lowPercent",
        field="hysteresisPercent",
        fix="must be below lowPercent (5 when left out), or a cap never goes again; lower hysteresisPercent",
    )
    def _releases(self) -> bool:
        return self.hysteresis_percent < self.low_percent


class Caps(Spec):
    """SM clock caps per level."""

    low_base_megahertz: fields.Megahertz
    """Low priority above lowPercent."""
    low_deep_megahertz: fields.Megahertz
    """Low priority above highPercent."""
    high_megahertz: fields.Megahertz
    """High priority, when the deep cap of low priority did not suffice."""
    brake_megahertz: fields.Megahertz
    """Everything, above brakePercent."""

    @rule(
        cel="self.lowDeepMegahertz <= self.lowBaseMegahertz",
        field="lowDeepMegahertz",
        fix="must not be above lowBaseMegahertz; the deep cap is the tighter one",
    )
    def _deep_is_deeper(self) -> bool:
        return self.low_deep_megahertz <= self.low_base_megahertz

    @rule(
        cel="self.lowDeepMegahertz <= self.highMegahertz",
        field="highMegahertz",
        fix="must not be below lowDeepMegahertz; high priority is never capped harder than low",
    )
    def _high_stays_higher(self) -> bool:
        return self.low_deep_megahertz <= self.high_megahertz

    @rule(
        cel="self.brakeMegahertz <= self.lowDeepMegahertz",
        field="brakeMegahertz",
        fix="must not be above lowDeepMegahertz; the brake is the tightest cap",
    )
    def _brake_is_tightest(self) -> bool:
        return self.brake_megahertz <= self.low_deep_megahertz


class Reduction(Spec):
    """A smaller budget for a time, such as a grid event."""

    from_: Annotated[AwareDatetime, Field(alias="from")]
    to: AwareDatetime
    budget_watts: fields.Watts

    @rule(
        cel="self.from < self.to",
        field="from",
        fix="must be before to; swap or correct the times",
    )
    def _order(self) -> bool:
        return self.from_ < self.to


class Feed(Spec):
    """One of several redundant feeds: one near zero while the other rises halves the budget at once."""

    name: fields.Name
    query: Annotated[str, Field(min_length=1, max_length=4096)]
    """PromQL that yields this feed's AC watts as one number."""


class PowerDomainSpec(Spec):
    """What a domain may draw and what happens near the limit."""

    type: DomainType
    parent_name: fields.Name | None = None
    """The domain that feeds this one; left out: this is a root."""
    node_selector: meta.LabelSelector | None = None
    """Nodes that stand in it. Use a label that a kubelet cannot set on itself (*.node-restriction.kubernetes.io/*)."""
    high_priority_namespaces: meta.LabelSelector | None = None
    """Namespaces whose policies may be High; left out: none."""
    budget_watts: fields.Watts
    """AC watts at the domain's meter: the smallest of 80 % of the breaker's rating, one feed, the PDU, the contract."""
    non_gpu_watts_per_node: Annotated[NonGpuWatts, Field(alias="nonGPUWattsPerNode")]
    power_supply_efficiency_percent: Annotated[int, Strict(), Field(ge=50, le=100)]
    """DC watts over AC watts of the nodes' power supplies at their usual load."""
    meter: Meter | None = None
    """Corrects the sum of the agents, and never drives the machine. `capstan power` asks its --prometheus-url."""
    strategy: Strategy = Strategy.STATISTICAL
    """Statistical caps clocks when the draw nears the budget; Guaranteed grants each node watts that add up to it.

    The same in the whole tree of a root."""
    thresholds: Thresholds | None = None
    """Left out: those of a small rack (62, 72, 97, hysteresis 5)."""
    caps: Caps | None = None
    """Left out: POLCA's shares of the maximum clock."""
    reductions: Annotated[tuple[Reduction, ...], Field(max_length=32)] = ()
    """Smaller budgets for a time; each ramps down before its `from`, and its end gives back at once."""
    feeds: Annotated[tuple[Feed, ...], Field(max_length=4, json_schema_extra=meta.keyed_by("name"))] = ()
    """Redundant feeds: one near zero while the others rise halves the budget at once."""
    mode: Mode = Mode.ADVISE

    @rule(
        cel="self.type != 'Rack' || has(self.nodeSelector)",
        field="nodeSelector",
        fix="a Rack must say which nodes stand in it; add nodeSelector.matchLabels",
    )
    def _rack_has_nodes(self) -> bool:
        return self.type is not DomainType.RACK or self.node_selector is not None

    @rule(
        cel="!has(self.reductions) || self.reductions.all(r, r.budgetWatts < self.budgetWatts)",
        field="reductions",
        fix="a reduction's budgetWatts must be below the domain's budgetWatts; lower it or drop the reduction",
    )
    def _reductions_reduce(self) -> bool:
        return all(r.budget_watts < self.budget_watts for r in self.reductions)


class PowerDomainStatus(Spec):
    """What is so; written by `capstan power` only. Watts are AC at the domain's meter."""

    observed_generation: fields.Count | None = None
    measured_watts: fields.Measured | None = None
    projected_watts: fields.Measured | None = None
    """What the machine acts on: silent nodes count at their worst case."""
    headroom_watts: Annotated[int | None, Strict()] = None
    """Budget less projected watts; negative is a shortfall."""
    budget_in_force_watts: fields.Measured | None = None
    """The budget less timed reductions, halved while a redundant feed is lost."""
    state: Level | None = None
    strategy: Strategy | None = None
    """What holds the budget now: after a change the old one stays until the new one is in force on every node."""
    granted_watts: fields.Measured | None = None
    """Guaranteed: what the nodes of this domain are granted."""
    held_watts: fields.Measured | None = None
    """Guaranteed: what they may still draw; above the grants until every lowered limit was read back."""
    silent_held_watts: fields.Measured | None = None
    """Guaranteed: the part of heldWatts that nodes hold which do not answer; it stays theirs."""
    capped_gpus: Annotated[int | None, Strict(), Field(alias="cappedGPUs", ge=0)] = None
    safe_sum_watts: fields.Measured | None = None
    """What the domain draws at most in its safe setting."""
    lost_node_watts: fields.Measured | None = None
    """The same with the largest node uncontrolled (N-1): what the budget must cover before the domain is armed."""
    nameplate_watts: fields.Measured | None = None
    """What the domain draws at most with nobody in control."""
    lost_feeds: Annotated[tuple[fields.Name, ...], Field(max_length=4)] = ()
    """Redundant feeds that died and have not carried again for a dwell."""
    conditions: meta.Conditions = ()


class PowerDomain(meta.Resource):
    """A feed, row or rack inside an oversubscribed power limit; low priority is capped first when it is near."""

    NAMES: ClassVar = meta.Names("PowerDomain", "powerdomains", "pwd", meta.Scope.CLUSTER)
    COLUMNS: ClassVar = (
        meta.Column("TYPE", ".spec.type"),
        meta.Column("LIMIT", ".spec.budgetWatts", "integer"),
        meta.Column("NOW", ".status.measuredWatts", "integer"),
        meta.Column("PROJ", ".status.projectedWatts", "integer"),
        meta.Column("HEADROOM", ".status.headroomWatts", "integer"),
        meta.Column("STATE", ".status.state"),
        meta.Column("REASON", '.status.conditions[?(@.type=="Capping")].reason'),
        meta.Column("CAPPED", ".status.cappedGPUs", "integer"),
        meta.Column("PARENT", ".spec.parentName", wide=True),
        meta.Column("SAFE-SUM", ".status.safeSumWatts", "integer", wide=True),
        meta.Column("IN-FORCE", ".status.budgetInForceWatts", "integer", wide=True),
        meta.Column("MODE", ".spec.mode", wide=True),
        meta.Column("STRATEGY", ".status.strategy", wide=True),
        meta.Column("GRANTED", ".status.grantedWatts", "integer", wide=True),
        meta.Column("HELD", ".status.heldWatts", "integer", wide=True),
        meta.Column("ARMED", '.status.conditions[?(@.type=="Armed")].status', wide=True),
        meta.AGE,
    )

    kind: Literal["PowerDomain"]
    spec: PowerDomainSpec
    status: PowerDomainStatus | None = None

    @rule(
        cel="!has(self.spec.parentName) || self.spec.parentName != self.metadata.name",
        field="spec.parentName",
        fix="a domain cannot be its own parent; name the domain above it, or leave it out for a root",
    )
    def _not_its_own_parent(self) -> bool:
        return self.spec.parent_name != self.metadata.name
