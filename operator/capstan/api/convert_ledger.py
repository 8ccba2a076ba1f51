"""PowerLedgers to the core's ledgers and back; whole watts on both sides, so nothing is rounded on the way.

Who calls it: `power`, for what the API server has. `low_since_s` stays behind: it is of one leader's own clock.
"""

from __future__ import annotations

from collections.abc import Mapping

from capstan.api import manifests, meta, v1alpha1
from capstan.powercap.ledger import Entry, Ledger

Document = dict[str, object]


def ledger(manifest: Mapping[str, object]) -> Ledger:
    """Return the ledger of an object of the API server. Raises Invalid."""
    spec = manifests.parse(v1alpha1.PowerLedger, manifest).spec
    budgets = tuple(sorted((one.domain, float(one.watts)) for one in spec.budgets))
    entries = (
        Entry(one.node, one.domains, float(one.grant_watts), one.sequence, float(one.held_watts))
        for one in spec.entries
    )
    return Ledger(spec.version, budgets, tuple(sorted(entries, key=lambda entry: entry.node)))


def manifest(name: str, of: Ledger) -> Document:
    """Return the object of a root domain's ledger, without the version of what it replaces.

    Raises:
        ValueError: Watts that are not whole: a broken invariant, for rounding either way would break a budget.
    """
    return {
        "apiVersion": meta.API_VERSION,
        "kind": "PowerLedger",
        "metadata": {"name": name},
        "spec": {
            "version": of.version,
            "grantedWatts": sum(_whole(entry.grant_w) for entry in of.entries),
            "heldWatts": sum(_whole(entry.held_w) for entry in of.entries),
            "budgets": [{"domain": domain, "watts": _whole(watts)} for domain, watts in of.budgets_w],
            "entries": [_entry(entry) for entry in of.entries],
        },
    }


def _entry(entry: Entry) -> Document:
    return {
        "node": entry.node,
        "domains": list(entry.domains),
        "grantWatts": _whole(entry.grant_w),
        "sequence": entry.sequence,
        "heldWatts": _whole(entry.held_w),
    }


def _whole(watts: float) -> int:
    if not float(watts).is_integer():
        raise ValueError(f"{watts} W in a ledger is not a whole number")
    return int(watts)
