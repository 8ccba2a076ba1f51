"""All shards of a site in one process: some it leads, for the others it stands by; one tick of everything.

Who calls it: `app.power`, every second. Which shards are led is the Leases' say (`lead`, `follow`); a shard that is led
by nobody, because the API server is away, is stood by in every process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from capstan.power import budgets, priority, shards, tree
from capstan.power.cycle import Loop, Ports
from capstan.power.heard import Heard
from capstan.power.judge import Verdict
from capstan.power.shards import Part
from capstan.power.standby import Standby
from capstan.powercap.domains import DomainMemory, Timers

TIMERS = Timers()


class Site:
    """The state of one process.

    Args:
        ports: The world.
        shards: Among how many Leases the roots are divided.
        timers: How long every domain waits.
    """

    def __init__(self, ports: Ports, *, shards: int = 1, timers: Timers = TIMERS) -> None:
        self._ports = ports
        self._heard = Heard()
        self._tree = tree.Tree(timers)
        self._asking = priority.Asking()
        self._parts: list[Loop | Standby] = [self._standby({}) for _ in range(shards)]

    def lead(self, shard: int, epoch: int) -> None:
        """Lead a shard from now on, with the epoch of its Lease."""
        before = self._parts[shard]
        memories: Mapping[str, DomainMemory] = before.memories
        self._parts[shard] = Loop(self._ports, self._heard, epoch=epoch, shadows=memories)

    def follow(self, shard: int) -> None:
        """Stand by for a shard from now on: its Lease is lost."""
        before = self._parts[shard]
        if isinstance(before, Loop):
            before.stop()
            self._parts[shard] = self._standby(before.memories)

    @property
    def led(self) -> tuple[int, ...]:
        """The shards that this process leads."""
        return tuple(shard for shard, part in enumerate(self._parts) if isinstance(part, Loop))

    async def tick(self) -> tuple[Verdict, ...]:
        """Run one tick; return the verdicts on all domains that are led here."""
        started_s = self._ports.now_s()
        whole = self._whole()
        self._heard.keep(whole.nodes)
        self._ports.meters.ask(budgets.queries(declared.parsed.spec for declared in whole.declared))
        parts = shards.split(whole, len(self._parts))
        made = await asyncio.gather(*(one.tick(part) for one, part in zip(self._parts, parts, strict=True)))
        verdicts = tuple(verdict for found in made if found is not None for verdict in found)
        now_s = self._ports.now_s()
        fresh = self._heard.fresh(whole.nodes, now_s)
        self._ports.meter.tick(verdicts, fresh, len(whole.nodes) - fresh, now_s - started_s)
        return verdicts

    async def settle(self) -> None:
        """Wait for the writes under way."""
        for part in self._parts:
            if isinstance(part, Loop):
                await part.settle()

    def _whole(self) -> Part:
        """Return the whole site as one part."""
        scene = self._ports.cluster.scene()
        declared = self._tree.read(scene)
        return Part(
            scene=scene,
            declared=declared,
            nodes=frozenset(scene.nodes),
            high=priority.high_pods(scene, declared, self._asking.high(scene.policies)),
            on_node=priority.pods_by_node(scene.pods),
            may_release=not self._tree.unread_armed,
        )

    def _standby(self, memories: Mapping[str, DomainMemory]) -> Standby:
        return Standby(self._ports, self._heard, memories)
