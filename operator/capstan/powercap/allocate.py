"""Headroom to policies: how many more watts each may draw in each domain, by priority and need.

Who calls it: `decide`, once a cycle, with what policies asked for in the last one. Must not know: pools, levels.

Two things are asked for. *Clock*: watts of a higher clock on GPUs that are there; *growth*: watts of more replicas.
Growth of low priority ends at the low threshold, where its domain would cap it a second later; where it is capped
already, at the high one, less a replica of high priority. Clocks of low priority and growth of high end at the high
threshold, clocks of high at the brake's: what lies between a line and the next is the reserve that growth leaves to
clocks. Safe direction when blind: where headroom is not known nothing is granted.

Clocks of equals share by need. Growth comes in whole replicas, one each in turn, the largest need first: a share of a
replica is of no use to anybody, and two who lack one each would both wait for ever. A need counts in full at every
domain above it, whether it can be met or not. That leaves watts unused where another domain limits whoever asked for
them, until he asks elsewhere; in return nobody loses by what another gains: with the rest dealt out again, more
headroom of one domain would lower grants of its sister's tenants.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from capstan.model import headroom
from capstan.model.headroom import Claim, DomainSeen, Grant
from capstan.model.policy import Priority


class Ask(StrEnum):
    """What watts are for."""

    CLOCK = "Clock"
    GROWTH = "Growth"


ORDER = (
    (Priority.HIGH, Ask.CLOCK),
    (Priority.HIGH, Ask.GROWTH),
    (Priority.LOW, Ask.CLOCK),
    (Priority.LOW, Ask.GROWTH),
)
"""Who is served first. A clock answers within a step and a replica within minutes: of one priority, clocks first."""


Key = tuple[str, str]
"""Policy and domain of a claim."""


@dataclass(frozen=True, slots=True)
class _Book:
    """What is asked for in one domain and below it: watts per rank, booked watts, and by whom."""

    domain: DomainSeen
    needs_w: tuple[float, ...]
    booked_w: float
    claims: tuple[Claim, ...]

    def left_w(self, rank: int) -> float:
        """Return what those before a rank leave it."""
        return self._left_w(rank, before=rank)

    def spare_w(self, rank: int) -> float:
        """Return an equal part of what all needs leave to a rank: to a clock, what growth has not had of that."""
        growth_w = self._left_w(len(ORDER) - 1, before=len(ORDER))
        if ORDER[rank][1] is Ask.GROWTH:
            return growth_w / len(self.claims)
        return (self._left_w(rank, before=len(ORDER)) - growth_w) / len(self.claims)

    def dealt_w(self, rank: int) -> dict[Key, float]:
        """Return what each claim has of a rank: all of it, else a share of watts or replicas in turn."""
        needs = {(claim.policy, claim.domain): _need_w(claim, rank) for claim in self.claims}
        left_w = self.left_w(rank)
        if self.needs_w[rank] <= left_w:
            return needs
        if ORDER[rank][1] is Ask.CLOCK:
            return {key: need_w * left_w / self.needs_w[rank] for key, need_w in needs.items()}
        replica_w = {(claim.policy, claim.domain): claim.replica_w for claim in self.claims}
        return _in_turn(needs, replica_w, left_w)

    def _left_w(self, rank: int, *, before: int) -> float:
        """Return what those before leave at a rank's own line, and at every line above that."""
        line = _line_ratio(self.domain, rank)
        lines = {_line_ratio(self.domain, other) for other in range(len(ORDER))}
        kept_w = self._kept_w() if rank == len(ORDER) - 1 else 0.0
        return max(min(self._below_w(above, before) for above in lines if above >= line) - kept_w, 0.0)

    def _kept_w(self) -> float:
        """Return what growth of low priority leaves to high beyond what that asks for: where low is capped, a replica.

        Where it is not it ends at the low threshold, and what lies above that is the reserve.
        """
        if not self.domain.caps_low_alone:
            return 0.0
        return max((claim.replica_w for claim in self.claims if claim.priority is Priority.HIGH), default=0.0)

    def _below_w(self, line_ratio: float, rank: int) -> float:
        """Return what the booked watts and the needs before a rank leave below a line."""
        before = (self.needs_w[other] for other in range(rank) if _line_ratio(self.domain, other) <= line_ratio)
        return max(self.domain.left_w(line_ratio) - math.fsum((self.booked_w, *before)), 0.0)


def allocate(domains: Sequence[DomainSeen], claims: Iterable[Claim]) -> tuple[Grant, ...]:
    """Return a grant per claim, in the order of policies and domains; claims outside all domains have none.

    What is left when every need is met is shared in equal parts: a need that arises within a cycle need not wait for
    the next one.
    """
    known = headroom.by_name(domains)
    asked = sorted((c for c in claims if c.domain in known), key=lambda claim: (claim.policy, claim.domain))
    lines = {name: headroom.lineage(name, known) for name in {claim.domain for claim in asked}}
    inside: dict[str, list[Claim]] = {}
    for claim in asked:
        for domain in lines[claim.domain]:
            inside.setdefault(domain.name, []).append(claim)
    books = {name: _booked(known[name], own) for name, own in inside.items()}
    dealt = {name: [book.dealt_w(rank) for rank in range(len(ORDER))] for name, book in books.items()}

    def part_w(claim: Claim, ask: Ask) -> float:
        rank, above = ORDER.index((claim.priority, ask)), [domain.name for domain in lines[claim.domain]]
        had_w = min(dealt[name][rank][claim.policy, claim.domain] for name in above)
        return had_w + min(books[name].spare_w(rank) for name in above)

    return tuple(Grant(c.policy, c.domain, part_w(c, Ask.CLOCK), part_w(c, Ask.GROWTH)) for c in asked)


def _booked(domain: DomainSeen, claims: Sequence[Claim]) -> _Book:
    needs_w = tuple(math.fsum(_need_w(claim, rank) for claim in claims) for rank in range(len(ORDER)))
    return _Book(domain, needs_w, math.fsum(claim.booked_w for claim in claims), tuple(claims))


def _in_turn(needs: Mapping[Key, float], replica_w: Mapping[Key, float], left_w: float) -> dict[Key, float]:
    """Deal replicas one each in turn until one does not fit; that one has what is left.

    Nobody is passed over: who comes after would lose what he got as soon as there were watts for who came before.
    """
    order = sorted((key for key, need_w in needs.items() if need_w > 0), key=lambda key: (-needs[key], key))
    one_w = {key: replica_w[key] or needs[key] for key in order}
    had = dict.fromkeys(needs, 0.0)
    for _ in range(max((math.ceil(needs[key] / one_w[key]) for key in order), default=0)):
        for key in order:
            next_w = max(min(one_w[key], needs[key] - had[key], left_w), 0.0)
            had[key] += next_w
            left_w -= next_w
    return had


def _line_ratio(domain: DomainSeen, rank: int) -> float:
    """Return the share of the budget at which a rank's grants end."""
    priority, ask = ORDER[rank]
    if priority is Priority.HIGH:
        return domain.brake_ratio if ask is Ask.CLOCK else domain.high_ratio
    return domain.high_ratio if ask is Ask.CLOCK else domain.growth_ratio(priority)


def _need_w(claim: Claim, rank: int) -> float:
    """Return what a claim asks for at a rank."""
    priority, ask = ORDER[rank]
    if claim.priority is not priority:
        return 0.0
    return claim.clock_w if ask is Ask.CLOCK else claim.growth_w
