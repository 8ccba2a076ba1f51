"""Watches promise P1 on true watts: when a domain crossed its budget, for how long, by how much, how many joules.

Who calls it: `plant` gives it every sample; the scenarios say what the budgets are and read what came of it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

P1_S = 10.0  # DESIGN 2: back below the budget within 10 s of crossing it; never scaled


@dataclass(slots=True)
class Excursion:
    """One time above a budget, from the last sample below it to the first one below it again."""

    domain: str
    began_s: float
    ended_s: float
    joules: float = 0.0
    worst_ratio: float = 1.0

    @property
    def seconds(self) -> float:
        """How long."""
        return self.ended_s - self.began_s


@dataclass(frozen=True, slots=True)
class Seen:
    """What happened above the budgets in some time, over all domains.

    Attributes:
        longest_s: Of any excursion; 0: there was none.
        joules: Above budgets, of the domain that had most.
        worst_ratio: The most that was drawn over a budget, whether it was above or not.
        gap_s: The longest time between two samples: what the figures are exact to.
    """

    longest_s: float
    joules: float
    worst_ratio: float
    gap_s: float

    @property
    def held(self) -> bool:
        """Return whether P1 held."""
        return self.longest_s <= P1_S


class Monitor:
    """Samples of all domains. Several threads use it.

    Args:
        members: The nodes of each domain.
    """

    def __init__(self, members: Mapping[str, tuple[str, ...]]) -> None:
        self._members = members
        self._lock = threading.Lock()
        self._budgets_w: dict[str, float] = {}
        self._open: dict[str, Excursion] = {}
        self._done: list[Excursion] = []
        self._rows: list[tuple[float, float]] = []  # (time, the highest share of a budget)
        self._last_s: float | None = None
        self._drawn_w: dict[str, float] = {}

    def hold(self, domain: str, budget_w: float | None) -> None:
        """Hold a domain to a budget from now on; None: no more, it is released."""
        with self._lock:
            if budget_w is not None:
                self._budgets_w[domain] = budget_w
                return
            self._budgets_w.pop(domain, None)
            self._close(domain)

    def sample(self, now_s: float, node_w: Mapping[str, float]) -> None:
        """Take the AC watts of every node, means since the sample before."""
        with self._lock:
            self._drawn_w = {name: sum(node_w[node] for node in nodes) for name, nodes in self._members.items()}
            last_s = now_s if self._last_s is None else self._last_s
            ratios = [self._one(domain, last_s, now_s) for domain in self._budgets_w]
            self._rows.append((now_s, max(ratios, default=0.0)))
            self._last_s = now_s

    def seen(self, since_s: float) -> Seen:
        """Return what happened since a time."""
        with self._lock:
            found = [one for one in (*self._done, *self._open.values()) if one.ended_s > since_s]
            rows = [row for row in self._rows if row[0] >= since_s]
        joules: dict[str, float] = {}
        for one in found:
            joules[one.domain] = joules.get(one.domain, 0.0) + one.joules
        times_s = [at_s for at_s, _ in rows]
        return Seen(
            longest_s=max((one.seconds for one in found), default=0.0),
            joules=max(joules.values(), default=0.0),
            worst_ratio=max((ratio for _, ratio in rows), default=0.0),
            gap_s=max((two - one for one, two in pairwise(times_s)), default=0.0),
        )

    def drawn_w(self, domain: str) -> float:
        """Return the AC watts of a domain at the newest sample; 0 before the first."""
        return self._drawn_w.get(domain, 0.0)

    @property
    def above(self) -> bool:
        """Return whether any domain is above its budget now."""
        with self._lock:
            return bool(self._open)

    def _one(self, domain: str, last_s: float, now_s: float) -> float:
        """Take one domain; return its draw over its budget."""
        budget_w = self._budgets_w[domain]
        drawn_w = self._drawn_w[domain]
        if drawn_w < budget_w:
            self._close(domain, now_s)
            return drawn_w / budget_w
        one = self._open.setdefault(domain, Excursion(domain, last_s, now_s))
        one.ended_s = now_s
        one.joules += (drawn_w - budget_w) * (now_s - last_s)
        one.worst_ratio = max(one.worst_ratio, drawn_w / budget_w)
        return drawn_w / budget_w

    def _close(self, domain: str, now_s: float | None = None) -> None:
        one = self._open.pop(domain, None)
        if one is not None:
            one.ended_s = one.ended_s if now_s is None else now_s
            self._done.append(one)
