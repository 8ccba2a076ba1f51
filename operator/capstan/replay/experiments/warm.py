"""A warm pool: replicas that stand by, Ready, without a request, until the plan of a system grows.

Who calls it: `lab`. Must not know: which system it is put under.

They are a class pool that no class is sent to: their idle watts are charged like any other pod's. When a plan grows, as
many of them change their label and serve at once, and as many new ones start. The system beneath does not see them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from capstan.model.fleet import ClassDemand
from capstan.replay.seen import PoolSeen, ReplicaSeen, Seen, Service, ServiceSeen, System, Want, Window

NAME = "warm"
"""Of its class pool; policies' own are named after classes."""


class Warmed:
    """A system with a warm pool beneath every service."""

    def __init__(self, inner: System, count: int) -> None:
        if count < 1:
            raise ValueError("a warm pool has a replica at least")
        self.name = f"{inner.name}, {count} warm"
        self.caps_power = inner.caps_power
        self.period_s = inner.period_s
        self._inner = inner
        self._count = count
        self._wants: dict[str, tuple[Want, ...]] = {}

    def start(self, service: Service) -> Want | tuple[Want, ...]:
        """Begin with what the system begins with, and a whole warm pool.

        Raises:
            ValueError: There is one class, so that every replica of the service would get requests.
        """
        if service.edges.count == 1:
            raise ValueError("a warm pool needs two classes of requests at least, none of which is sent to it")
        begun = self._inner.start(service)
        wants = (begun,) if isinstance(begun, Want) else begun
        self._wants[service.policy.key] = wants
        return _with(wants, self._count)

    def plan(self, seen: Seen) -> tuple[Want, ...]:
        """Ask for what the system asks for; what has grown is taken from the warm pool."""
        hidden = dataclasses.replace(seen, services=tuple(_Without(service) for service in seen.services))
        planned: dict[str, list[Want]] = {key: [] for key in self._wants}
        for want in self._inner.plan(hidden):
            planned[want.policy].append(want)
        asked: list[Want] = []
        for key, wants in planned.items():
            before, now = self._wants[key], tuple(wants) or self._wants[key]
            self._wants[key] = now
            asked += _with(now, max(self._count - _grown(before, now), 0))
        return tuple(asked)


def _with(wants: tuple[Want, ...], count: int) -> tuple[Want, ...]:
    """Return wants with a warm pool of the degree that most GPUs have; first, so that classes go to the others."""
    main = max(wants, key=lambda want: (want.replicas * want.tp, -want.tp))
    return (Want(main.policy, main.tp, count, main.clock_cap_mhz, pool=NAME), *wants)


def _grown(before: tuple[Want, ...], now: tuple[Want, ...]) -> int:
    """Return by how many replicas a plan has grown of the degree that its warm pool has."""
    tp = _with(before, 0)[0].tp
    had, have = (sum(want.replicas for want in wants if want.tp == tp) for wants in (before, now))
    return max(have - had, 0)


@dataclass(frozen=True, slots=True)
class _Without:
    """A service as it is seen by whoever knows of no warm pool."""

    whole: ServiceSeen

    @property
    def policy(self) -> str:
        return self.whole.policy

    @property
    def tp(self) -> int:
        return self.whole.tp

    @property
    def desired(self) -> int:
        return self.whole.desired - sum(degree[1] for degree in self._warm)

    @property
    def ready(self) -> int:
        return self.whole.ready - sum(degree[2] for degree in self._warm)

    @property
    def starting(self) -> int:
        return self.whole.starting - sum(degree[3] for degree in self._warm)

    @property
    def draining(self) -> int:
        return self.whole.draining - sum(degree[4] for degree in self._warm)

    @property
    def replicas(self) -> tuple[ReplicaSeen, ...]:
        return self.whole.replicas

    @property
    def waiting_unrouted(self) -> int:
        return self.whole.waiting_unrouted

    @property
    def pools(self) -> tuple[PoolSeen, ...]:
        return tuple(pool for pool in self.whole.pools if pool.pool != NAME)

    def window(self, span_s: float) -> Window:
        return self.whole.window(span_s)

    def classes(self, span_s: float) -> tuple[ClassDemand, ...]:
        return self.whole.classes(span_s)

    @property
    def _warm(self) -> tuple[tuple[int, int, int, int, int], ...]:
        return tuple(degree for pool in self.whole.pools if pool.pool == NAME for degree in pool.degrees)
