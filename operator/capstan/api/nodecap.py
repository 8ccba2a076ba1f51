"""NodeCap: what one node may run at; named as the node. `operator` writes `spec.plan`, `power` writes `spec.power`.

The agent takes the tighter of both and writes nothing here (docs/designs/20261121-the-house.md, NodeCap).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, Strict

from capstan.api import fields, meta
from capstan.api.schema import Spec, rule

PODS_PER_NODE = 64  # GPU pods of one node; the largest boards hold 16 GPUs
LEDGERS_PER_NODE = 4  # the cords of one server: each may hang on a feed, and so on a root, of its own


class PodClock(Spec):
    """SM clock cap of one pod's GPUs, as planned."""

    namespace: fields.Name
    name: fields.Name
    clock_megahertz: fields.Megahertz


class PodName(Spec):
    """A pod."""

    namespace: fields.Name
    name: fields.Name


class Plan(Spec):
    """The energy plan of this node."""

    sequence: fields.Count
    """Grows with every change."""
    pods: Annotated[
        tuple[PodClock, ...],
        Field(max_length=PODS_PER_NODE, json_schema_extra=meta.keyed_by("namespace", "name")),
    ] = ()


class ClassCaps(Spec):
    """Caps per priority class and one board limit for all; a field left out is no cap."""

    low_megahertz: fields.Megahertz | None = None
    high_megahertz: fields.Megahertz | None = None
    power_limit_watts: fields.Watts | None = None


class Safe(Spec):
    """What every GPU goes to when the lease is not renewed."""

    clock_megahertz: fields.Megahertz
    power_limit_watts: fields.Watts


class Grant(Spec):
    """What one ledger grants this node."""

    ledger: fields.Name
    """The PowerLedger: the root domain's name."""
    sequence: fields.Count
    """The ledger's version that granted it."""
    watts: fields.Watts
    """AC watts of the node."""


class Power(Spec):
    """What the node's power domains allow."""

    epoch: fields.Count
    """leaseTransitions of the power Lease: a lower one is a controller of yesterday."""
    sequence: fields.Count
    """Grows with every change within an epoch."""
    lease_seconds: Annotated[int, Strict(), Field(ge=1, le=60)] = 4
    """Without a renewal for so long the agent goes to the safe setting."""
    caps: ClassCaps = ClassCaps()
    high_pods: Annotated[
        tuple[PodName, ...],
        Field(max_length=PODS_PER_NODE, json_schema_extra=meta.keyed_by("namespace", "name")),
    ] = ()
    """Pods of high priority; everything else on the node is low."""
    safe: Safe
    grants: Annotated[
        tuple[Grant, ...], Field(max_length=LEDGERS_PER_NODE, json_schema_extra=meta.keyed_by("ledger"))
    ] = ()
    """Strategy Guaranteed: what `caps` and `safe` were made from. Grants do not expire."""


class NodeCapSpec(Spec):
    """Two parts, two owners."""

    plan: Plan | None = None
    power: Power | None = None

    @rule(
        cel="has(self.plan) || has(self.power)",
        field="power",
        fix="a NodeCap holds plan, power or both; add one, or delete the object",
    )
    def _says_something(self) -> bool:
        return self.plan is not None or self.power is not None


class NodeCap(meta.Resource):
    """Clock caps, board limit and lease of one node; written by Capstan, read by the node's agent."""

    NAMES: ClassVar = meta.Names("NodeCap", "nodecaps", "ncap", meta.Scope.CLUSTER)
    COLUMNS: ClassVar = (
        meta.Column("EPOCH", ".spec.power.epoch", "integer"),
        meta.Column("SEQUENCE", ".spec.power.sequence", "integer"),
        meta.Column("LOW-MHZ", ".spec.power.caps.lowMegahertz", "integer"),
        meta.Column("HIGH-MHZ", ".spec.power.caps.highMegahertz", "integer"),
        meta.Column("LIMIT-W", ".spec.power.caps.powerLimitWatts", "integer"),
        meta.Column("GRANT-W", ".spec.power.grants[0].watts", "integer"),
        meta.Column("SAFE-MHZ", ".spec.power.safe.clockMegahertz", "integer", wide=True),
        meta.Column("SAFE-W", ".spec.power.safe.powerLimitWatts", "integer", wide=True),
        meta.Column("PLAN", ".spec.plan.sequence", "integer", wide=True),
        meta.AGE,
    )

    kind: Literal["NodeCap"]
    spec: NodeCapSpec
