"""PowerLedger: who holds how many watts of a root domain with strategy Guaranteed; named as the root.

Written by the leader of `capstan power` alone, by compare-and-swap on the object's version. It is an object of its own
and not a part of the root's status: nobody who may edit a PowerDomain can then grant watts by mistake, what a status
says may be written late or again while a grant may not, and grants outlive an edited tree.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from capstan.api import fields, meta
from capstan.api.schema import Spec, rule

DOMAINS_PER_ROOT = 512  # a feed with its rows and racks
NODES_PER_ROOT = 4096  # at some 200 bytes each under the 1.5 MB that etcd takes as one object


class LedgerBudget(Spec):
    """Watts that one armed domain has for its nodes."""

    domain: fields.Name
    watts: fields.Measured


class LedgerEntry(Spec):
    """What one node may draw; AC watts."""

    node: fields.Name
    domains: Annotated[tuple[fields.Name, ...], Field(max_length=16)]
    """The armed domains of this tree that it stands in."""
    grant_watts: fields.Measured
    """What it was told last."""
    sequence: fields.Count
    """The version that told it."""
    held_watts: fields.Measured
    """What counts: more than the grant until its lowered limit was read back; its nameplate where it has no limit."""

    @rule(
        cel="self.grantWatts <= self.heldWatts",
        field="grantWatts",
        fix="must not be above heldWatts: what a node is told counts; ledgers are written by `capstan power` alone",
    )
    def _counts(self) -> bool:
        return self.grant_watts <= self.held_watts


class PowerLedgerSpec(Spec):
    """All watts of a tree; for every domain the held ones never add up to more than its budget.

    Except after a budget was cut or a node appeared, until the others have followed.
    """

    version: fields.Count
    granted_watts: fields.Measured
    held_watts: fields.Measured
    budgets: Annotated[
        tuple[LedgerBudget, ...], Field(max_length=DOMAINS_PER_ROOT, json_schema_extra=meta.keyed_by("domain"))
    ] = ()
    entries: Annotated[
        tuple[LedgerEntry, ...], Field(max_length=NODES_PER_ROOT, json_schema_extra=meta.keyed_by("node"))
    ] = ()


class PowerLedger(meta.Resource):
    """Watt grants of all nodes below one root domain; written by Capstan alone. Never edit or delete it."""

    NAMES: ClassVar = meta.Names("PowerLedger", "powerledgers", "pled", meta.Scope.CLUSTER)
    COLUMNS: ClassVar = (
        meta.Column("VERSION", ".spec.version", "integer"),
        meta.Column("GRANTED", ".spec.grantedWatts", "integer"),
        meta.Column("HELD", ".spec.heldWatts", "integer"),
        meta.AGE,
    )

    kind: Literal["PowerLedger"]
    spec: PowerLedgerSpec
