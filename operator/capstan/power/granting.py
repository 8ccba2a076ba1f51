"""The ledger of one root, second by second: who needs watts, what is free, what to write next.

Who calls it: `guaranteed`. No I/O: `proposed` says what to swap in, `took` that it is stored. Until the API server has
it, nothing of a proposal is told to anybody. Safe direction when blind: grants stay as they are, they add up for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from capstan.power import members
from capstan.power.ports import AgentReport, StoredLedger
from capstan.powercap import grants, ledger
from capstan.powercap.domains import Timers
from capstan.powercap.grants import Member
from capstan.powercap.ledger import Entry, Ledger, Place, ReadBack

ALLOCATE_S = 5.0  # two seconds of read-back, a second each for command and sample, and one to spare (as in replay)
MEMORY_S = 30.0  # a need is the busiest second of so many: a burst keeps its watts as long as Statistical's dwell
DEAF_S = 3.0  # a limit takes a second to be told and one to be seen; who enforces more after that does not obey
STALE_S = Timers().stale_s


@dataclass(frozen=True, slots=True)
class Told:
    """Which NodeCap carries which entry of a ledger: what an agent must keep before it is said to obey."""

    number: tuple[int, int]
    sequence: int


@dataclass(frozen=True, slots=True)
class Look:
    """One root's tree in one tick.

    Attributes:
        budgets_w: Whole AC watts of each domain that grants.
        places: Every node below them.
        members: Those whose boards can hold a grant, of whom anything was ever heard.
        reports: What was heard in this very tick.
        told: What each node was told, by NodeCaps that the API server has.
        bound: Nodes whose NodeCap names a grant of this ledger.
    """

    budgets_w: Mapping[str, float]
    places: Mapping[str, Place]
    members: Mapping[str, Member]
    reports: Mapping[str, AgentReport]
    told: Mapping[str, Told]
    bound: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Node:
    """What is remembered of one node.

    Attributes:
        peaks_w: (time, the most that one of its boards drew), newest last.
        heard_s: When it answered last.
        told: Which NodeCap first carried what it was granted last, and the sample with which it said that it keeps that
            one, or one after it; None: it has not said so.
        deaf_since_s: Since when it enforces more than it holds; None: it does not.
        deaf: That lasted, and it has not come down to its grant since.
    """

    peaks_w: deque[tuple[float, float]] = field(default_factory=deque)
    heard_s: float | None = None
    told: Told | None = None
    kept_at: int | None = None
    deaf_since_s: float | None = None
    deaf: bool = False


class Granting:
    """One root's ledger as this leader knows it; None until it was read from the API server."""

    def __init__(self) -> None:
        self.stored: StoredLedger | None = None
        self._nodes: dict[str, _Node] = {}
        self._wanted_w: dict[str, float] = {}
        self._allocated_s: float | None = None
        self._unchecked = True
        self._index_of: Ledger | None = None
        self._index: dict[str, Entry] = {}

    @property
    def book(self) -> Ledger | None:
        """What the API server had when it last answered."""
        return None if self.stored is None else self.stored.ledger

    def entry(self, node: str) -> Entry | None:
        """Return a node's entry; None: it has none, or nobody knows."""
        book = self.book
        if book is not self._index_of:
            self._index_of = book
            self._index = {} if book is None else {entry.node: entry for entry in book.entries}
        return self._index.get(node)

    @property
    def empty(self) -> bool:
        """Whether the API server has no ledger of this root."""
        return self.stored is not None and not self.stored.version

    def began(self, stored: StoredLedger | None) -> None:
        """Begin with what another leader left; our clock is another one, so every read-back begins anew."""
        self.stored = stored or StoredLedger(Ledger(0, ()), "")
        self._unchecked = True

    def doubt(self) -> None:
        """Forget what is stored: a swap failed, and nobody knows whether it took place."""
        self.stored = None

    def took(self, stored: StoredLedger, proposed: Ledger) -> None:
        """Keep what is stored now, with the read-backs as they went on while it was written."""
        known = {} if self.stored is None else {entry.node: entry for entry in self.stored.ledger.entries}
        entries = tuple(_going_on(entry, known.get(entry.node)) for entry in proposed.entries)
        self.stored = StoredLedger(replace(proposed, entries=entries), stored.version)

    def silent(self, node: str, now_s: float) -> bool:
        """Return whether a node has not answered for too long, or never."""
        known = self._nodes.get(node)
        return known is None or known.heard_s is None or now_s - known.heard_s > STALE_S

    def proposed(self, look: Look, now_s: float) -> Ledger | None:
        """Return what should be stored next; None: nothing."""
        if self.stored is None:
            return None
        self._remember(look, now_s)
        before = self.stored.ledger
        book = ledger.heard(before, tuple(self._read_back(look)), now_s)
        self.stored = replace(self.stored, ledger=_with_read_backs(before, book))
        if self._unchecked:
            book = _credible(book, look)
            self._unchecked = False
        placed = ledger.arranged(book, look.budgets_w, look.places)
        placed = ledger.overdrawn(placed, self._deaf_w(placed, look, now_s))
        if placed is not book or self._allocated_s is None or now_s - self._allocated_s >= ALLOCATE_S:
            self._wanted_w, self._allocated_s = self._allocated(placed, look, now_s), now_s
        after = ledger.toward(placed, self._wanted_w)
        return None if _durable(after) == _durable(before) else after

    # --- hear --------------------------------------------------------------------------------------

    def _remember(self, look: Look, now_s: float) -> None:
        self._nodes = {node: self._nodes.get(node) or _Node() for node in look.places}
        for node, report in look.reports.items():
            if node not in self._nodes:
                continue
            known = self._nodes[node]
            known.heard_s = now_s
            boards_w = [gpu.max_power_w if gpu.power_w is None else gpu.power_w for gpu in report.gpus]
            known.peaks_w.append((now_s, max(boards_w, default=0.0)))
            while now_s - known.peaks_w[0][0] > MEMORY_S:
                known.peaks_w.popleft()
            self._keep(known, look.told.get(node), report)

    @staticmethod
    def _keep(known: _Node, told: Told | None, report: AgentReport) -> None:
        """Note since which sample a node keeps what it was told; later NodeCaps with the same grant change nothing."""
        if told is not None and (known.told is None or told.sequence != known.told.sequence):
            known.told, known.kept_at = told, None
        keeps = known.told is not None and report.kept is not None and report.kept >= known.told.number
        if not keeps:
            known.kept_at = None
        elif known.kept_at is None or report.sample_sequence < known.kept_at:  # fewer: its agent began anew
            known.kept_at = report.sample_sequence

    def _read_back(self, look: Look) -> Iterable[ReadBack]:
        """Yield what the enforced limits of nodes amount to, of samples taken after what they obey was kept."""
        for node, report in look.reports.items():
            if node not in look.members or node not in self._nodes or report.age_s > STALE_S:
                continue
            enforced_w = members.enforced_w(look.members[node], report.gpus)
            known = self._nodes[node]
            obeys = known.kept_at is not None and report.sample_sequence > known.kept_at
            if enforced_w is not None:
                yield ReadBack(node, enforced_w, known.told.sequence if known.told is not None and obeys else None)

    def _deaf_w(self, book: Ledger, look: Look, now_s: float) -> dict[str, float]:
        """Return what nodes enforce that have for some time enforced more than they hold, at most their worst case."""
        found: dict[str, float] = {}
        entries = {entry.node: entry for entry in book.entries}
        for said in self._read_back(look):
            known, entry = self._nodes[said.node], entries.get(said.node)
            if entry is None:
                continue
            known.deaf = known.deaf and said.enforced_w > entry.grant_w + ledger.ROUNDING_W
            enforced_w = min(members.whole_up(said.enforced_w), look.places[said.node].worst_w)
            if enforced_w <= entry.held_w:
                known.deaf_since_s = None
                continue
            known.deaf_since_s = now_s if known.deaf_since_s is None else known.deaf_since_s
            if now_s - known.deaf_since_s >= DEAF_S:
                known.deaf, found[said.node] = True, enforced_w
        return found

    # --- share out ---------------------------------------------------------------------------------

    def _allocated(self, book: Ledger, look: Look, now_s: float) -> dict[str, float]:
        """Share out what is held neither by the silent nor by the deaf.

        Where grants no longer fit, the silent are told to come down, too.
        """
        budgets_w, granted_w, asks_w = dict(book.budgets_w), {}, {}
        fits = _fits(book)
        taking: list[Member] = []
        for entry in book.entries:
            one = look.members.get(entry.node)
            keeps = self._nodes[entry.node].deaf or (fits and self.silent(entry.node, now_s))
            if one is None or keeps:
                for domain in entry.domains:
                    budgets_w[domain] -= entry.held_w
                continue
            taking.append(replace(one, domains=entry.domains))
            granted_w[entry.node] = entry.grant_w
            peak_w = max((watts for _, watts in self._nodes[entry.node].peaks_w), default=0.0)
            asks_w[entry.node] = grants.ask_w(one, entry.grant_w, peak_w)
        if not taking:
            return {}
        wanted = grants.allocate(taking, budgets_w, granted_w, asks_w)
        order = sorted(taking, key=lambda one: (not one.high, one.node))
        return {one.node: _whole(one, wanted[one.node]) for one in order}


def _whole(one: Member, watts: float) -> float:
    """Return whole watts within what a member can be granted; floor and ceiling are whole by construction."""
    return min(max(members.whole_down(watts), members.whole_up(one.floor_w)), members.whole_up(one.ceiling_w))


def _fits(book: Ledger) -> bool:
    """Return whether all that was granted, whoever still holds more, is inside every budget."""
    spare_w = dict(book.budgets_w)
    for entry in book.entries:
        for domain in entry.domains:
            spare_w[domain] -= entry.grant_w
    return min(spare_w.values(), default=0.0) >= 0.0


def _durable(book: Ledger) -> object:
    """Return the part of a ledger that the API server keeps."""
    return book.budgets_w, [(one.node, one.domains, one.grant_w, one.sequence, one.held_w) for one in book.entries]


def _credible(book: Ledger, look: Look) -> Ledger:
    """Return a ledger that was just read with those entries alone whose nodes were told of them.

    An entry without is one whose domain was released, or never told, while nobody led: the node holds no limit for its
    sake and is a newcomer.
    """
    return replace(book, entries=tuple(entry for entry in book.entries if entry.node in look.bound))


def _going_on(entry: Entry, known: Entry | None) -> Entry:
    same = known is not None and (known.sequence, known.held_w) == (entry.sequence, entry.held_w)
    return replace(entry, low_since_s=known.low_since_s) if same and known is not None else entry


def _with_read_backs(before: Ledger, after: Ledger) -> Ledger:
    """Return what is stored, with the read-backs of `after` where they are not done yet."""
    if after is before:
        return before
    entries = tuple(
        replace(old, low_since_s=new.low_since_s) if new is not old and new.held_w == old.held_w else old
        for old, new in zip(before.entries, after.entries, strict=True)
    )
    return replace(before, entries=entries)
