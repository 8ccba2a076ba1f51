"""What a ledger says of one domain: granted, held, silent; whether grants are in force and fit.

Who calls it: `guaranteed` makes it, `judge`, `status` and the metrics read it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from capstan.powercap.ledger import Entry, Ledger


@dataclass(frozen=True, slots=True)
class Book:
    """One domain's part of its root's ledger, AC watts.

    Attributes:
        granted_w: What its nodes were told.
        held_w: What counts; more than granted until what was lowered is read back.
        silent: Nodes that do not answer and keep what they hold; `silent_w` is that.
        strangers: Nodes whose boards cannot hold a grant: they hold their worst case.
        holds_w: By node.
        settled: Every member's limit was read back at its grant, and all fits the budget.
    """

    budget_w: float
    granted_w: float
    held_w: float
    silent: tuple[str, ...]
    silent_w: float
    strangers: tuple[str, ...]
    settled: bool
    holds_w: Mapping[str, float] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Return whether all that is held is inside the budget."""
        return self.held_w <= self.budget_w


def books(ledger: Ledger, members: frozenset[str], silent: frozenset[str]) -> dict[str, Book]:
    """Return the book of every domain of a ledger."""
    return {
        name: _book([entry for entry in ledger.entries if name in entry.domains], budget_w, members, silent)
        for name, budget_w in ledger.budgets_w
    }


def _book(inside: list[Entry], budget_w: float, members: frozenset[str], silent: frozenset[str]) -> Book:
    quiet = [entry for entry in inside if entry.node in silent]
    held_w = sum(entry.held_w for entry in inside)
    in_force = all(entry.held_w <= entry.grant_w for entry in inside)
    return Book(
        budget_w=budget_w,
        granted_w=sum(entry.grant_w for entry in inside),
        held_w=held_w,
        silent=tuple(entry.node for entry in quiet),
        silent_w=sum(entry.held_w for entry in quiet),
        strangers=tuple(entry.node for entry in inside if entry.node not in members and entry.node not in silent),
        settled=in_force and held_w <= budget_w,
        holds_w={entry.node: entry.held_w for entry in inside},
    )
