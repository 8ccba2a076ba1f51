"""A standby: renews leases with what the nodes already hold, steps every armed domain in shadow, and may tighten.

Who calls it: `site` every second, for each shard that this process does not lead, and for all of them while the API
server is away: then nobody leads, and nothing but a tightening is needed. It writes nothing to the API server.

How it fences nobody out: it calls a node with the epoch and sequence that the node itself said last. An agent takes
an equal number, and a tighter cap with it; only a NodeCap loosens. Where a leader moved on meanwhile, the node refuses
us; one more than what it refused is at most what it knows, so going up by one is never ahead of the leader.

Why it waits before it tightens: a leader that lives sees the same watts within a second. And why it never fails safe: a
node that it does not hear is either heard by the leader, or, its lease over, in its safe setting; so it counts there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from capstan.model.reasons import Reason
from capstan.power import budgets, caps, tree
from capstan.power.cycle import Ports
from capstan.power.heard import Heard
from capstan.power.ports import LeaseCall, NodePower, Outdated
from capstan.power.shards import Part
from capstan.power.tree import Declared
from capstan.powercap import safety
from capstan.powercap import step as machine
from capstan.powercap.budget import FeedsMemory
from capstan.powercap.domains import (
    NO_CAPS,
    RANK,
    ClassCaps,
    Domain,
    DomainMemory,
    Level,
    SafeSetting,
    Strategy,
    tightest,
)
from capstan.powercap.readings import Samples

GRACE_S = 2.0  # two looks of a leader that lives; 1 s to see, 2 s of grace, 3 s to take effect stay under P1's 10 s
DEMANDED = frozenset(
    {
        Reason.ABOVE_LOW_THRESHOLD,
        Reason.ABOVE_HIGH_THRESHOLD,
        Reason.ABOVE_BRAKE_THRESHOLD,
        Reason.ADMISSION_FAILED,
    }
)
"""What the watts of now ask for. A level that is only held until its dwell is over asks for nothing: a node keeps what
it was tightened to, and a spike that the leader did not see would be asked for again and again."""


@dataclass(slots=True)
class _Shadow:
    memory: DomainMemory
    budget: budgets.Memory = field(default_factory=budgets.Memory)


class Standby:
    """What a standby remembers.

    Args:
        ports: The world; nothing of it is written.
        heard: What the agents said, shared with the leader that we may become.
        memories: Of the leader that we were, by domain.
    """

    def __init__(self, ports: Ports, heard: Heard, memories: Mapping[str, DomainMemory]) -> None:
        self._ports = ports
        self._heard = heard
        self._shadows = {name: _Shadow(memory) for name, memory in memories.items()}
        self._refused: dict[str, tuple[int, int]] = {}
        self._looser_s: dict[str, float] = {}
        self._tighten: dict[str, ClassCaps] = {}

    async def tick(self, part: Part) -> None:
        """Renew all leases of a part, and tighten what its leader should have."""
        await self._listen(part)
        now_s, wall_s = self._ports.now_s(), self._ports.wall_s()
        wanted: dict[str, ClassCaps] = {}
        armed = [d for d in part.declared if d.acts and tree.armed_before(d.raw) and not _granted(d)]
        self._shadows = {d.name: self._shadow(d, now_s) for d in armed}
        for declared in armed:
            asked = self._asked(declared, part.scene.node_powers, now_s, wall_s)
            for node in declared.nodes:
                wanted[node] = tightest(wanted.get(node, NO_CAPS), asked)
        self._tighten = {node: asked for node, asked in wanted.items() if self._due(node, asked, part, now_s)}

    @property
    def memories(self) -> Mapping[str, DomainMemory]:
        """What the machines remember, for the leader that we become."""
        return {name: shadow.memory for name, shadow in self._shadows.items()}

    # --- hear --------------------------------------------------------------------------------------

    async def _listen(self, part: Part) -> None:
        nodes = (part.scene.nodes[name] for name in sorted(part.nodes))
        calls = tuple(self._call(seen.name, seen.agent, part) for seen in nodes if seen.agent)
        answers = await self._ports.agents.renew(calls)
        asked = {call.node: (call.epoch, call.sequence) for call in calls}
        self._refused = {node: asked[node] for node, said in answers.items() if isinstance(said, Outdated)}
        reports = {node: said for node, said in answers.items() if not isinstance(said, Outdated)}
        self._heard.take(reports, self._ports.now_s())

    def _call(self, node: str, address: str, part: Part) -> LeaseCall:
        epoch, sequence = self._number(node, part.scene.node_powers.get(node))
        return LeaseCall(node, address, epoch, sequence, caps.LEASE_S, self._tighten.get(node, NO_CAPS))

    def _number(self, node: str, stored: NodePower | None) -> tuple[int, int]:
        """Return the newest (epoch, sequence) that the node is known to hold."""
        known = [(0, 0)]
        report = self._heard.reports([node]).get(node)
        if report is not None:
            known.append((report.epoch, report.sequence))
        if stored is not None:
            known.append((stored.epoch, stored.sequence))
        if node in self._refused:
            epoch, sequence = self._refused[node]
            known.append((epoch, sequence + 1))
        return max(known)

    # --- decide ------------------------------------------------------------------------------------

    def _shadow(self, declared: Declared, now_s: float) -> _Shadow:
        """Return the shadow of a domain; the first begins at the level that its leader published."""
        if declared.name in self._shadows:
            return self._shadows[declared.name]
        feeds = FeedsMemory(lost=tree.lost_feeds_before(declared.raw))
        return _Shadow(DomainMemory(_published(declared), since_s=now_s), budgets.Memory(feeds=feeds))

    def _asked(
        self, declared: Declared, node_powers: Mapping[str, NodePower], now_s: float, wall_s: float
    ) -> ClassCaps:
        """Return the caps that the shadow of a domain asks for."""
        shadow = self._shadows[declared.name]
        in_force, shadow.budget = budgets.in_force(
            declared.parsed.spec, shadow.budget, self._ports.meters, now_s, wall_s
        )
        safe = caps.safe_of(node_powers[node] for node in declared.nodes if node in node_powers)
        domain = replace(declared.domain, armed=True, budget_w=in_force.budget_w, safe=safe)
        samples = self._heard.samples(declared.nodes, now_s)
        if safe is None or not samples.nodes:
            return NO_CAPS  # nobody was heard: whoever is alone is in its safe setting
        done = machine.step(domain, _at_safe(domain, samples, safe), shadow.memory, now_s, meter=in_force.meter)
        shadow.memory = done.memory
        if done.reason in DEMANDED:
            return done.caps
        if self._loosened(declared, done.caps, node_powers):
            shadow.memory = _following(done.memory, _published(declared), now_s)
        return NO_CAPS

    def _loosened(self, declared: Declared, held: ClassCaps, node_powers: Mapping[str, NodePower]) -> bool:
        """Return whether all nodes of a domain hold looser caps than its shadow: only a leader that lives loosens."""
        each = [self._holds(node, node_powers) for node in declared.nodes]
        return all(tightest(one, held) != one for one in each)

    def _due(self, node: str, asked: ClassCaps, part: Part, now_s: float) -> bool:
        """Return whether a node has for long enough been held looser than the shadow asks."""
        holds = self._holds(node, part.scene.node_powers)
        if tightest(holds, asked) == holds:
            self._looser_s.pop(node, None)
            return False
        return now_s - self._looser_s.setdefault(node, now_s) >= GRACE_S

    def _holds(self, node: str, node_powers: Mapping[str, NodePower]) -> ClassCaps:
        """Return the caps of a node as it says itself, else as its NodeCap has them."""
        report = self._heard.reports([node]).get(node)
        stored = caps.caps_of(node_powers.get(node))
        return stored if report is None or report.caps is None else report.caps


def _granted(declared: Declared) -> bool:
    """Return whether grants hold a domain's budget: then nothing needs to be tightened, whoever lives."""
    return tree.strategy_before(declared.raw) is Strategy.GUARANTEED


def _published(declared: Declared) -> Level:
    """Return the level that a domain's leader published, on the ladder."""
    level = tree.level_before(declared.raw) or Level.NORMAL
    return Level.HIGH_CAP if level is Level.FAIL_SAFE else level


def _following(memory: DomainMemory, level: Level, now_s: float) -> DomainMemory:
    """Return a memory that went down to its leader's level: two that sample at other moments do not brake alike."""
    if RANK[level] >= RANK[memory.level]:
        return memory
    return replace(memory, level=level, since_s=now_s, calm_since_s=None, hard=False)


def _at_safe(domain: Domain, samples: Samples, safe: SafeSetting) -> Samples:
    """Return samples in which a node that was not heard draws what it may in its safe setting."""
    silent = np.isnan(samples.heard_w)
    held_w = safety.safe_w(domain, samples, safe) * domain.supply_efficiency_ratio - domain.non_gpu_worst_w
    return replace(samples, heard_w=np.where(silent, held_w, samples.heard_w))
