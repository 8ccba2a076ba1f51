"""Strategy Guaranteed on the plant: one ledger, grants by need, limits that live in the boards.

Who calls it: `play`. Must not know: true watts. Agents have no lease here: a grant does not expire.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from capstan.powercap import grants, ledger
from capstan.powercap.domains import Level
from capstan.powercap.ledger import Ledger, ReadBack
from capstan.replay.plantlab.layout import Floats
from capstan.replay.plantlab.scene import Scene
from capstan.replay.plantlab.site import Heard, Site
from capstan.replay.plantlab.world import World

ALLOCATE_S = 5  # two seconds of read-back, a second each for command and sample, and one to spare
MEMORY_S = (
    30  # a node's need is its busiest second of so many: a burst keeps its watts for as long as Statistical's dwell
)


class Guaranteed:
    """The leader of one root domain."""

    name = "Guaranteed"

    def __init__(self, scene: Scene, world: World, site: Site) -> None:
        self._scene, self._world, self._site = scene, world, site
        self._members = {member.node: member for member in scene.members}
        self._order = sorted(self._members, key=lambda node: not self._members[node].high)
        budgets_w = {domain.name: domain.budget_w for domain in scene.domains}
        self._wanted = grants.initial(scene.members, budgets_w)
        self._stored = Ledger(0, tuple(sorted(budgets_w.items())))
        for node, watts in self._wanted.items():
            self._swap(ledger.joined(self._stored, node, self._members[node].domains, watts))
        self._recent: deque[Floats] = deque(maxlen=MEMORY_S)
        self._limits_w = np.full(len(scene.servers), scene.profile.draw.min_limit_w)
        self._unlocked = np.ones(len(scene.servers))
        self._tell()
        site.preset(self._limits_w.copy())
        self.levels = tuple(Level.NORMAL for _ in scene.domains)

    def tick(self, heard: Heard, budgets_w: dict[str, float]) -> None:
        """Read back, see who needs watts, move what is free, and tell the agents."""
        now_s = float(self._world.now_s)
        cut = dict(self._stored.budgets_w) != budgets_w
        if cut:
            self._swap(ledger.rebudgeted(self._stored, budgets_w))
        self._swap(ledger.heard(self._stored, self._read_back(heard), now_s))
        if heard.new.any():
            self._recent.append(np.where(heard.new, heard.watts, 0.0) / self._scene.gpus)
        if cut or self._world.now_s % ALLOCATE_S == 0:
            self._wanted = self._allocated(heard)
        self._swap(ledger.toward(self._stored, {n: self._wanted[n] for n in self._order if n in self._wanted}))
        if self._site.reaches():
            self._tell()
            self._site.want(self._unlocked, self._limits_w)

    def _swap(self, proposed: Ledger) -> None:
        self._stored = ledger.swapped(self._stored, proposed)

    def _read_back(self, heard: Heard) -> tuple[ReadBack, ...]:
        servers = self._scene.servers
        return tuple(
            ReadBack(
                servers[i].name,
                grants.grant_w(self._members[servers[i].name], float(heard.limit_w[i])),
                int(heard.sequence[i]),
            )
            for i in np.flatnonzero(heard.new)
        )

    def _allocated(self, heard: Heard) -> dict[str, float]:
        """Share out what is not held by the silent; where grants no longer fit, they are told to come down, too."""
        budgets_w = dict(self._stored.budgets_w)
        silent = (heard.age_s > self._scene.root.timers.stale_s) & self._fits()
        peaks_w = np.max(self._recent, axis=0) if self._recent else np.zeros(len(silent))
        known, asks_w, granted_w = [], {}, {}
        for i, server in enumerate(self._scene.servers):
            entry = self._stored.entry(server.name)
            if entry is None:
                continue
            if silent[i]:
                for domain in entry.domains:
                    budgets_w[domain] -= entry.held_w
                continue
            member = self._members[server.name]
            known.append(member)
            granted_w[server.name] = entry.grant_w
            asks_w[server.name] = grants.ask_w(member, entry.grant_w, float(peaks_w[i]))
        wanted = grants.allocate(known, budgets_w, granted_w, asks_w) if known else {}
        held = {entry.node: entry.grant_w for entry in self._stored.entries}
        return held | wanted

    def _fits(self) -> bool:
        """Return whether all that was granted, whoever still holds more, is inside every budget."""
        spare_w = dict(self._stored.budgets_w)
        for entry in self._stored.entries:
            for domain in entry.domains:
                spare_w[domain] -= entry.grant_w
        return min(spare_w.values()) >= 0.0

    def _tell(self) -> None:
        """Let the agents obey what is stored; the channel keeps its order here, so the newest is what they hold."""
        for i, server in enumerate(self._scene.servers):
            entry = self._stored.entry(server.name)
            if entry is not None and entry.sequence > self._site.sequence[i]:
                member = self._members[server.name]
                limit_w = grants.limit_w(member, entry.grant_w)
                self._limits_w[i] = max(limit_w, member.min_limit_w)
                self._site.sequence[i] = entry.sequence
