"""All ledgers of a leader: which domains grant, what each node is told, and the swaps that come before any telling.

Who calls it: `cycle`, every tick. A domain grants from the tick in which it is armed with strategy Guaranteed until the
tick in which another strategy holds its budget.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from capstan.model.reasons import Reason
from capstan.power import caps, ledgers, members
from capstan.power.granting import Granting, Look, Told
from capstan.power.heard import Heard
from capstan.power.judge import Verdict
from capstan.power.ledgers import Book
from capstan.power.ports import AgentReport, Ledgers, Refused, StoredLedger, Transition, Writer
from capstan.power.shards import Part
from capstan.powercap import domains, safety
from capstan.powercap.domains import Domain
from capstan.powercap.grants import Member
from capstan.powercap.ledger import Ledger, Place

NAMED = 5  # nodes of an Event: a note is a sentence

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Tree:
    """The granting domains below one root."""

    root: str
    verdicts: tuple[Verdict, ...]


class Guaranteed:
    """The ledgers of one leader.

    Args:
        ledgers: Where they are kept.
        writer: For Events.
        heard: What the agents said.
    """

    def __init__(self, ledgers: Ledgers, writer: Writer, heard: Heard) -> None:
        self._ledgers = ledgers
        self._writer = writer
        self._heard = heard
        self._roots: dict[str, Granting] = {}
        self._members: dict[str, dict[str, Member]] = {}
        self._proposed: dict[str, Ledger] = {}
        self._about: dict[str, Verdict] = {}
        self._root_of: dict[str, str] = {}
        self._trees: dict[str, _Tree] = {}

    # --- look --------------------------------------------------------------------------------------

    def books(self, now_s: float) -> dict[str, Book]:
        """Return what each granting domain has in its ledger."""
        found: dict[str, Book] = {}
        for root, granting in self._roots.items():
            if granting.book is not None:
                silent = frozenset(e.node for e in granting.book.entries if granting.silent(e.node, now_s))
                found |= ledgers.books(granting.book, frozenset(self._members.get(root, ())), silent)
        return found

    def granted(self, node: str, over: Iterable[Verdict], before: tuple[caps.Granted, ...]) -> tuple[caps.Granted, ...]:
        """Return what a node may be told for some domains: what the API server has stored; empty where it has no grant.

        Where nobody knows now (the ledger is being read, the node was not heard by us) it holds what it held before.
        """
        told = []
        for root in sorted({self._root_of.get(verdict.declared.name, "") for verdict in over if verdict.grants}):
            entry = self._roots[root].entry(node) if root in self._roots else None
            one = self._members.get(root, {}).get(node)
            if entry is not None and one is not None:
                told.append(caps.Granted(root, entry.sequence, entry.grant_w, members.limit_w(one, entry.grant_w)))
            else:
                told += [grant for grant in before if grant.ledger == root]
        return tuple(told)

    # --- decide ------------------------------------------------------------------------------------

    def see(self, verdicts: Iterable[Verdict], part: Part) -> None:
        """Take in which domains grant now, before anybody asks what a node is granted."""
        self._trees = {tree.root: tree for tree in _trees(verdicts, part)}
        self._root_of = {one.declared.name: tree.root for tree in self._trees.values() for one in tree.verdicts}

    def step(self, part: Part, reports: Mapping[str, AgentReport], held: Mapping[str, caps.Held], now_s: float) -> None:
        """Work out what every root's ledger should be; `write` stores it."""
        for root in self._trees.keys() | self._roots.keys() | _left(part):
            tree = self._trees.get(root, _Tree(root, ()))
            granting = self._roots.setdefault(root, Granting())
            if not tree.verdicts and granting.empty:
                del self._roots[root]
                continue
            look = self._look(tree, part, reports, held)
            proposed = None if look is None else granting.proposed(look, now_s)
            if proposed is not None:
                self._proposed[root] = proposed
            else:
                self._proposed.pop(root, None)
            if tree.verdicts:
                self._about[root] = tree.verdicts[0]

    def _look(
        self, tree: _Tree, part: Part, reports: Mapping[str, AgentReport], held: Mapping[str, caps.Held]
    ) -> Look | None:
        """Return one tree as its ledger sees it; None while nothing is known of what its nodes could draw."""
        over: dict[str, list[Domain]] = {}
        worst_w: dict[str, float] = {}
        for verdict in tree.verdicts:
            samples = verdict.samples.of_nodes(verdict.declared.nodes)
            if len(samples.nodes) < len(verdict.declared.nodes):
                return None
            for node, watts in zip(samples.nodes, safety.worst_w(verdict.domain, samples), strict=True):
                over.setdefault(node, []).append(verdict.domain)
                worst_w[node] = max(worst_w.get(node, 0.0), float(watts))
        known = self._heard.reports(over)
        high = {node for node in over if any((p.namespace, p.name) in part.high for p in part.on_node.get(node, ()))}
        found = {node: members.member(known[node], over[node], high=node in high) for node in known}
        self._members[tree.root] = {node: one for node, one in found.items() if one is not None}
        return Look(
            budgets_w={verdict.declared.name: budget_w(verdict) for verdict in tree.verdicts},
            places={node: self._place(tree.root, node, over[node], worst_w[node], part) for node in sorted(over)},
            members=self._members[tree.root],
            reports={node: report for node, report in reports.items() if node in over},
            told=dict(_told(tree.root, held)),
            bound=_bound(tree.root, over, part),
        )

    def _place(self, root: str, node: str, over: list[Domain], worst_w: float, part: Part) -> Place:
        """Return where a node stands; one that its NodeCap already bounds counts so, should its ledger be gone."""
        most_w = members.whole_up(worst_w)
        one, stored = self._members[root].get(node), part.scene.node_powers.get(node)
        granted_w = None if stored is None else caps.granted_w(stored, root)
        if one is not None and granted_w is not None:
            enforced_w = members.enforced_w(one, self._heard.gpus(node))
            most_w = most_w if enforced_w is None else min(most_w, max(granted_w, members.whole_up(enforced_w)))
        return Place(tuple(sorted(domain.name for domain in over)), most_w)

    # --- write -------------------------------------------------------------------------------------

    async def write(self) -> bool:
        """Read what is not known and swap in what is proposed; a refusal leaves everything as it is.

        Returns:
            Whether nodes may be told something else now.
        """
        swapped = False
        for root, granting in tuple(self._roots.items()):
            proposed = self._proposed.pop(root, None)
            try:
                if granting.stored is None:
                    granting.began(await self._ledgers.read(root))
                elif proposed is not None:
                    await self._swap(root, granting, granting.stored, proposed)
                    swapped = True
            except Refused as refused:
                granting.doubt()
                _log.warning("the ledger of %s stays as it is: %s", root, refused)
        return swapped

    async def _swap(self, root: str, granting: Granting, before: StoredLedger, proposed: Ledger) -> None:
        if proposed.budgets_w:
            granting.took(await self._ledgers.swap(root, proposed, before.version), proposed)
        else:
            await self._ledgers.drop(root, before.version)
            del self._roots[root]
        if root in self._about:
            for note, warning in _notes(before.ledger, proposed, frozenset(self._members.get(root, ()))):
                event = Transition(self._about[root].declared.raw, note, Reason.GRANTED.value, warning)
                await self._writer.event(event)


def budget_w(verdict: Verdict) -> float:
    """Return the whole watts of a domain's budget in force; while it is ramped in steps of a hundredth of the declared.

    Each step is a write and a message to every node, and a ramp of two minutes would be one a second.
    """
    declared_w, now_w = float(verdict.declared.parsed.spec.budget_watts), verdict.budget.budget_w
    if now_w >= declared_w:
        return members.whole_down(declared_w)
    step_w = declared_w / 100
    return members.whole_down(now_w // step_w * step_w)


def _trees(verdicts: Iterable[Verdict], part: Part) -> Iterator[_Tree]:
    """Yield the granting domains by root."""
    declared = tuple(one.domain for one in part.declared)
    by_root: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.grants:
            by_root.setdefault(domains.lineage(verdict.declared.name, declared)[-1].name, []).append(verdict)
    return (_Tree(root, tuple(found)) for root, found in sorted(by_root.items()))


def _left(part: Part) -> frozenset[str]:
    """Return the roots whose ledger some node was told of: one that was released while nobody led is still there."""
    known = {one.name for one in part.declared}
    granted = (power for power in part.scene.node_powers.values() if "grants" in power.document)
    told = (grant.ledger for power in granted for grant in caps.grants_of(power))
    return frozenset(told) & known


def _bound(root: str, nodes: Iterable[str], part: Part) -> frozenset[str]:
    """Return the nodes whose NodeCap names a grant of a ledger."""
    stored = part.scene.node_powers
    return frozenset(node for node in nodes if node in stored and caps.granted_w(stored[node], root) is not None)


def _told(root: str, held: Mapping[str, caps.Held]) -> Iterator[tuple[str, Told]]:
    for node, one in held.items():
        for grant in one.wish.grants:
            if grant.ledger == root and one.written:
                yield node, Told((one.epoch, one.sequence), grant.sequence)


def _notes(before: Ledger, after: Ledger, members_: frozenset[str]) -> Iterator[tuple[str, bool]]:
    """Yield who came, who can hold no grant and who went, for people; and whether that is a warning."""
    was, now = {entry.node for entry in before.entries}, {entry.node for entry in after.entries}
    came = now - was
    yield from _note(came & members_, "joined the ledger", warning=False)
    yield from _note(came - members_, "can hold no grant: counted at the worst case", warning=True)
    yield from _note(was - now, "left the ledger", warning=False)


def _note(nodes: set[str], what: str, *, warning: bool) -> Iterator[tuple[str, bool]]:
    names = sorted(nodes)
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        yield f"{', '.join(names[:NAMED])}{more} {what}", warning
