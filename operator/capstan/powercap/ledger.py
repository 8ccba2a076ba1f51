"""The ledger of a root domain: which watts are whose, and when one node's become another's (DESIGN 4, Guaranteed).

Who calls it: the leader of a Guaranteed domain, live and in replay; `obeyed` is the agent's half. Must not know: who
should have watts (`grants`), files, the API server.

Watts move in two phases. The donor's grant is lowered; what it was told before still counts (`held_w`) until its
enforced limit has been read back at or below the new grant for `READ_BACK_S`; only then may another be raised, and
that one counts before it is told. A silent donor keeps its watts for ever. Grants do not expire.

The ledger is one object, changed by compare-and-swap on `version` alone; a grant carries the version that wrote it, and
an agent obeys only newer ones. So a stale leader can write nothing, and what it said earlier, late or twice, does no
harm. A node that forgot which version it obeyed may lower its limit and no more, until it has read the ledger itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

READ_BACK_S = 2.0  # DESIGN 4: the enforced limit, read back for so long
ROUNDING_W = 1e-3  # watts that a device's milliwatts and our floats may differ by


@dataclass(frozen=True, slots=True)
class Entry:
    """What one node may draw.

    Attributes:
        node, domains: Who, and every domain that it stands in.
        grant_w: What it was told last.
        sequence: The ledger's version that wrote `grant_w`.
        held_w: What counts: `grant_w`, and more while an earlier, larger one may still be in force.
        low_since_s: Since when it was read back at or below `grant_w`; None: it was not yet.
    """

    node: str
    domains: tuple[str, ...]
    grant_w: float
    sequence: int
    held_w: float
    low_since_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """Grants of all nodes below one root, in order of their names."""

    version: int
    budgets_w: tuple[tuple[str, float], ...]
    entries: tuple[Entry, ...] = ()

    def entry(self, node: str) -> Entry | None:
        """Return a node's entry; None: it has not joined."""
        return next((entry for entry in self.entries if entry.node == node), None)

    def spare_w(self) -> dict[str, float]:
        """Return what each domain has left; negative after a cut, until the donors have followed."""
        spare = dict(self.budgets_w)
        for entry in self.entries:
            for domain in entry.domains:
                spare[domain] -= entry.held_w
        return spare


@dataclass(frozen=True, slots=True)
class Told:
    """One message to an agent: the same words from whichever leader, so twice is as good as once."""

    node: str
    grant_w: float
    sequence: int


@dataclass(frozen=True, slots=True)
class Obeyed:
    """What an agent keeps on its node, beside the limit in the device; `sequence` None: it was lost."""

    grant_w: float
    sequence: int | None


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What an agent says: the grant that its enforced limits amount to, and which message that obeys."""

    node: str
    enforced_w: float
    sequence: int | None


def swapped(stored: Ledger, proposed: Ledger) -> Ledger:
    """Return what is stored after a compare-and-swap: the proposal, if nobody wrote since its leader read."""
    return proposed if proposed.version == stored.version + 1 else stored


def messages(ledger: Ledger) -> tuple[Told, ...]:
    """Return what to tell every agent, each second anew: a lost message is only late."""
    return tuple(Told(entry.node, entry.grant_w, entry.sequence) for entry in ledger.entries)


def obeyed(kept: Obeyed, told: Told) -> Obeyed:
    """Return what an agent holds after a message: newer ones only; after a loss of memory only lower ones."""
    if kept.sequence is None:
        return Obeyed(min(kept.grant_w, told.grant_w), None)
    return Obeyed(told.grant_w, told.sequence) if told.sequence > kept.sequence else kept


def rebudgeted(ledger: Ledger, budgets_w: Mapping[str, float]) -> Ledger:
    """Return the next ledger with other budgets; a cut frees nothing by itself, grants must follow (`toward`)."""
    return replace(ledger, version=ledger.version + 1, budgets_w=tuple(sorted(budgets_w.items())))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands, and what it counts at, AC watts, until it takes its first limit."""

    domains: tuple[str, ...]
    worst_w: float


def arranged(ledger: Ledger, budgets_w: Mapping[str, float], places: Mapping[str, Place]) -> Ledger:
    """Return the next ledger with other budgets or nodes; the same one where neither changed.

    A newcomer holds its worst case, granted or not, whatever that leaves to the others: nobody can take back what it
    may draw. It joins like any donor, by a limit that is read back. A node that stands here no more frees its watts:
    the tree is its owner's word, and taking a node out is how watts of one that is silent for ever come back.
    """
    version, known = ledger.version + 1, {entry.node: entry for entry in ledger.entries}
    entries = tuple(
        replace(known[node], domains=place.domains)
        if node in known
        else Entry(node, place.domains, place.worst_w, version, place.worst_w)
        for node, place in sorted(places.items())
    )
    budgets = tuple(sorted(budgets_w.items()))
    if budgets == ledger.budgets_w and entries == ledger.entries:
        return ledger
    return replace(ledger, version=version, budgets_w=budgets, entries=entries)


def overdrawn(ledger: Ledger, enforced_w: Mapping[str, float]) -> Ledger:
    """Return the next ledger with nodes that enforce more than they hold at what they enforce: others must make room.

    It is truth and no grant: what the node is told stays, and once it obeys, its watts are free like any donor's.
    """
    entries = tuple(
        replace(entry, held_w=max(entry.held_w, enforced_w.get(entry.node, 0.0)), low_since_s=None)
        if enforced_w.get(entry.node, 0.0) > entry.held_w
        else entry
        for entry in ledger.entries
    )
    return ledger if entries == ledger.entries else replace(ledger, version=ledger.version + 1, entries=entries)


def heard(ledger: Ledger, reports: tuple[ReadBack, ...], now_s: float) -> Ledger:
    """Return the next ledger after what agents read back; the same one where nothing was learnt.

    Args:
        ledger: As read.
        reports: In any order, late or twice: one of an earlier message frees nothing.
        now_s: The leader's monotonic clock.
    """
    said = {report.node: report for report in reports}
    entries = tuple(_after(entry, said[entry.node], now_s) if entry.node in said else entry for entry in ledger.entries)
    return ledger if entries == ledger.entries else replace(ledger, version=ledger.version + 1, entries=entries)


def _after(entry: Entry, report: ReadBack, now_s: float) -> Entry:
    if entry.held_w <= entry.grant_w:
        return entry
    obeys = report.sequence is not None and report.sequence >= entry.sequence
    if not obeys or report.enforced_w > entry.grant_w + ROUNDING_W:
        return replace(entry, low_since_s=None)
    since_s = now_s if entry.low_since_s is None else min(entry.low_since_s, now_s)
    if now_s - since_s >= READ_BACK_S:
        return replace(entry, held_w=entry.grant_w, low_since_s=None)
    return replace(entry, low_since_s=since_s)


def toward(ledger: Ledger, wanted_w: Mapping[str, float]) -> Ledger:
    """Return the next ledger, as near to some grants as is safe now; the same one where nothing can move.

    Donors are lowered at once. Receivers are raised by what every domain above them has left, in the order in which
    `wanted_w` names them; a node whose own lowering is not read back yet may have that much again.
    """
    version = ledger.version + 1
    entries = {
        entry.node: _lowered(entry, wanted_w.get(entry.node, entry.grant_w), version) for entry in ledger.entries
    }
    spare_w = replace(ledger, entries=tuple(entries.values())).spare_w()
    for node in wanted_w:
        entry = entries.get(node)
        if entry is not None and wanted_w[node] > entry.grant_w:
            entries[node] = _raised(entry, wanted_w[node], spare_w, version)
    after = tuple(entries[entry.node] for entry in ledger.entries)
    return ledger if after == ledger.entries else replace(ledger, version=version, entries=after)


def _lowered(entry: Entry, wanted_w: float, version: int) -> Entry:
    if wanted_w >= entry.grant_w:
        return entry
    return replace(entry, grant_w=wanted_w, sequence=version, low_since_s=None)


def _raised(entry: Entry, wanted_w: float, spare_w: dict[str, float], version: int) -> Entry:
    """Raise one node, and take what it newly holds off its domains; nothing below a watt is worth a message.

    Below a domain that holds more than its budget nobody is raised, not even to what it holds: a cut comes first.
    """
    more_w = min(spare_w[domain] for domain in entry.domains)
    grant_w = min(wanted_w, entry.held_w + more_w)
    if more_w < 0 or grant_w < entry.grant_w + 1.0:
        return entry
    held_w = max(entry.held_w, grant_w)
    for domain in entry.domains:
        spare_w[domain] -= held_w - entry.held_w
    return replace(entry, grant_w=grant_w, sequence=version, held_w=held_w, low_since_s=None)


def joined(ledger: Ledger, node: str, domains: tuple[str, ...], granted_w: float) -> Ledger:
    """Return the next ledger with one node more; the same one where a domain has no room, or it is there already.

    The caller sees to it that the node draws nothing yet, or stands at a limit that the grant allows.
    """
    spare_w = ledger.spare_w()
    if ledger.entry(node) is not None or any(spare_w[domain] < granted_w for domain in domains):
        return ledger
    version = ledger.version + 1
    entries = (*ledger.entries, Entry(node, domains, granted_w, version, granted_w))
    return replace(ledger, version=version, entries=tuple(sorted(entries, key=lambda entry: entry.node)))


def taken_over(ledger: Ledger) -> Ledger:
    """Return the next ledger for a new leader: its clock is another one, so every read-back begins anew."""
    entries = tuple(replace(entry, low_since_s=None) for entry in ledger.entries)
    return replace(ledger, version=ledger.version + 1, entries=entries)
