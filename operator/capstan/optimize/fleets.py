"""Arithmetic of a pool's replicas, `((tp, replicas), ...)`, and what they can carry.

Who calls it: `case`, `replicas`, `mix`, `tune`. Must not know: policies, memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from capstan.model.plan import Fleet
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import sizing


def of(counts: Mapping[int, int]) -> Fleet:
    """Return a fleet without empty entries."""
    return tuple(sorted((tp, count) for tp, count in counts.items() if count > 0))


def replicas(fleet: Fleet) -> int:
    """Return how many replicas it has."""
    return sum(count for _, count in fleet)


def gpus(fleet: Fleet) -> int:
    """Return how many GPUs it holds."""
    return sum(tp * count for tp, count in fleet)


def main_tp(fleet: Fleet) -> int | None:
    """Return the degree that holds most GPUs (ties: the smaller), None of an empty fleet."""
    held = [(tp * count, -tp) for tp, count in fleet if count > 0]
    return -max(held)[1] if held else None


def with_more(fleet: Fleet, tp: int, more: int) -> Fleet:
    """Return a fleet with some replicas of a degree more or (below zero) less."""
    counts = dict(fleet)
    counts[tp] = max(counts.get(tp, 0) + more, 0)
    return of(counts)


def covers(fleet: Fleet, other: Fleet) -> bool:
    """Return whether a fleet has at least the other's replicas of every degree."""
    counts = dict(fleet)
    return all(counts.get(tp, 0) >= count for tp, count in other)


class _Capacities(Mapping[int, float]):
    """Capacities by degree, each worked out when it is looked at: most looks are at the degree that stands."""

    def __init__(self, profiles: Iterable[Profile], one_rps: Callable[[Profile], float]) -> None:
        self._profiles = {profile.tp: profile for profile in profiles}
        self._one_rps = one_rps
        self._known: dict[int, float] = {}

    def __getitem__(self, tp: int) -> float:
        if tp not in self._known:
            self._known[tp] = self._one_rps(self._profiles[tp])
        return self._known[tp]

    def __iter__(self) -> Iterator[int]:
        return iter(self._profiles)

    def __len__(self) -> int:
        return len(self._profiles)


def capacities_rps(
    profiles: Iterable[Profile], load: Workload, slo: Slo, *, margin: float, replicas: int
) -> Mapping[int, float]:
    """Return what one of `replicas` of each degree carries inside the SLO at full clock; 0 where it cannot."""
    asked, pooled = load.coarse_lengths(), sizing.pooled(replicas)
    return _Capacities(
        profiles, lambda profile: sizing.capacity_rps(profile, asked, slo, margin=margin, replicas=pooled)
    )


def capacity_rps(fleet: Fleet, each_rps: Mapping[int, float]) -> float:
    """Return what a fleet carries when every replica takes its share."""
    return sum(count * each_rps.get(tp, 0.0) for tp, count in fleet)
