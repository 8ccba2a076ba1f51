"""One tick: renew leases and hear the agents, step every domain, tighten at once, write what changed.

Who calls it: `app.power` every second, on the leader. The fast path (`renew`, `step`, the caps of the next call) needs
no API server: writes of NodeCaps and status happen beside it and may fail without delaying a cap. Safe direction when
blind: keep the budget.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from capstan.model.reasons import Reason
from capstan.power import caps, status, tree
from capstan.power.heard import Heard
from capstan.power.ports import Agents, Cluster, LeaseCall, Refused, Scene, Transition, Writer
from capstan.power.tree import Declared
from capstan.powercap import safety
from capstan.powercap import step as machine
from capstan.powercap.domains import (
    NO_CAPS,
    ClassCaps,
    Domain,
    DomainMemory,
    Level,
    SafeSetting,
    tightest,
    tightest_safe,
)

HighPods = frozenset[tuple[str, str]]  # (namespace, name)

_log = logging.getLogger(__name__)


class Meter(Protocol):
    """Where figures go."""

    def tick(self, verdicts: tuple[status.Verdict, ...], answering: int, silent: int, seconds: float) -> None:
        """Publish one tick."""

    def moved(self, domain: str, before: Level, after: Level, reason: Reason) -> None:
        """Count a transition."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything behind a port, and two clocks."""

    cluster: Cluster
    agents: Agents
    writer: Writer
    meter: Meter
    now_s: Callable[[], float]  # monotonic: ages, dwell, leases
    wall_s: Callable[[], float]  # for people only


@dataclass(slots=True)
class _State:
    """What the loop remembers of one domain; `shadow` is the machine that an Advise domain only watches."""

    memory: DomainMemory
    armed: bool
    safe: SafeSetting | None = None
    shadow: DomainMemory = field(default_factory=DomainMemory)
    status_at_s: float = field(default=-1e9)


class Loop:
    """The state of one leader."""

    def __init__(self, ports: Ports, *, epoch: int) -> None:
        self._ports = ports
        self._tree = tree.Tree()
        self._ledger = caps.Ledger(epoch)
        self._held: dict[str, caps.Held] = {}
        self._heard = Heard()
        self._states: dict[str, _State] = {}
        self._writing: asyncio.Task[None] | None = None

    async def tick(self) -> tuple[status.Verdict, ...]:
        """Run one tick and return what was decided."""
        started_s = self._ports.now_s()
        scene = self._ports.cluster.scene()
        self._ledger.begin(scene.node_powers)
        await self._listen(scene)
        now_s = self._ports.now_s()
        declared = self._tree.read(scene)
        self._forget(declared)
        high = tree.high_pods(scene, declared)
        verdicts = tuple(self._judge(d, scene, high, now_s) for d in declared)
        self._wish(verdicts, scene, high)
        self._publish(verdicts, scene, started_s)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(verdicts, now_s))
        return verdicts

    async def settle(self) -> None:
        """Wait for the writes under way."""
        if self._writing is not None:
            await self._writing

    # --- hear --------------------------------------------------------------------------------------

    async def _listen(self, scene: Scene) -> None:
        """Renew every lease and keep what the agents say."""
        calls = tuple(self._call(name, seen.agent, scene) for name, seen in scene.nodes.items() if seen.agent)
        reports = await self._ports.agents.renew(calls)
        self._heard.take(reports, self._ports.now_s())
        self._heard.keep(scene.nodes)

    def _call(self, node: str, address: str, scene: Scene) -> LeaseCall:
        held = self._held.get(node)
        if held is not None:
            return LeaseCall(node, address, held.epoch, held.sequence, caps.LEASE_S, held.wish.caps)
        epoch, sequence = self._ledger.newest(scene.node_powers.get(node))
        return LeaseCall(node, address, epoch, sequence, caps.LEASE_S, NO_CAPS)

    # --- decide ------------------------------------------------------------------------------------

    def _judge(self, declared: Declared, scene: Scene, high: HighPods, now_s: float) -> status.Verdict:
        state = self._state(declared, scene, now_s)
        samples = self._heard.samples(declared.nodes, now_s)
        unarmed = tree.domain_of(declared, armed=False)
        # To arm, every node must have been heard once; an armed domain goes on with what a newcomer is taken for.
        known = bool(samples.nodes) and (state.armed or self._heard.whole(declared.nodes))
        admission = safety.admit(unarmed, samples) if known else None
        self._arm(declared, state, admission)
        if admission is not None and (state.safe is None or admission.fits):
            state.safe = admission.safe
        domain = replace(unarmed, armed=state.armed, safe=state.safe)
        done = machine.step(domain, samples, state.memory, now_s)
        if done.level is not state.memory.level:
            self._ports.meter.moved(domain.name, state.memory.level, done.level, done.reason)
        state.memory = done.memory
        advised = None
        if not declared.asks_to_arm:
            watched = machine.step(replace(domain, armed=True, safe=None), samples, state.shadow, now_s)
            state.shadow, advised = watched.memory, watched.level
        capped = self._capped_gpus(domain, done.caps, high)
        return status.Verdict(declared, done, state.armed, admission, capped, advised)

    def _state(self, declared: Declared, scene: Scene, now_s: float) -> _State:
        """Return the memory of a domain; a restarted controller takes it from status and NodeCaps."""
        if declared.name not in self._states:
            armed = declared.asks_to_arm and tree.armed_before(declared.raw)
            level = (status.level_before(declared.raw) if armed else None) or Level.DISARMED
            stored = [scene.node_powers[node] for node in declared.nodes if node in scene.node_powers]
            # What FailSafe was entered from is in no status: the brake stays where a node still holds it.
            braked = caps.holds_clock(stored, tree.domain_of(declared, armed=False).caps.brake_mhz)
            memory = DomainMemory(level, since_s=now_s, floor=Level.BRAKE if braked else Level.HIGH_CAP)
            self._states[declared.name] = _State(memory, armed, caps.safe_of(stored) if armed else None)
        return self._states[declared.name]

    @staticmethod
    def _arm(declared: Declared, state: _State, admission: safety.Admission | None) -> None:
        """Arm on admission; leave armed only by the explicit release."""
        if not declared.asks_to_arm:
            state.armed = False
        elif not state.armed and admission is not None and admission.fits:
            state.armed = True

    def _capped_gpus(self, domain: Domain, held: ClassCaps, high: HighPods) -> int:
        """Count GPUs under a cap of this domain: Low ones under the low cap, High ones under the high cap."""
        if held == NO_CAPS:
            return 0
        count = 0
        for node in domain.nodes:
            for gpu in self._heard.gpus(node):
                cap = held.high_mhz if (gpu.namespace, gpu.pod) in high else held.low_mhz
                count += cap is not None or held.power_limit_w is not None
        return count

    # --- act ---------------------------------------------------------------------------------------

    def _wish(self, verdicts: tuple[status.Verdict, ...], scene: Scene, high: HighPods) -> None:
        """Join the caps of all armed domains per node; the next lease call carries them."""
        armed = [v for v in verdicts if v.armed]
        on_node = tree.pods_by_node(scene.pods)
        held: dict[str, caps.Held] = {}
        for node in sorted({n for v in armed for n in v.declared.nodes}):
            over = [v for v in armed if node in v.declared.nodes]
            pods = tuple((p.namespace, p.name) for p in on_node.get(node, ()) if (p.namespace, p.name) in high)
            known = [safe for v in over if (safe := self._states[v.declared.name].safe) is not None]
            safe = tightest_safe(known)
            if safe is None or len(known) < len(over):
                continue  # armed by an earlier leader and no node heard yet: what the node holds stays
            wish = caps.NodeWish(node, tightest(*(v.step.caps for v in over)), pods, safe)
            held[node] = self._ledger.hold(wish, scene.node_powers)
        for node in self._released(frozenset(held), scene):
            held[node] = self._ledger.hold(caps.released(node), scene.node_powers)
        self._ledger.forget(frozenset(held))
        self._held = held

    def _released(self, armed: frozenset[str], scene: Scene) -> list[str]:
        """Return nodes that hold caps of ours and are in no armed domain: only a NodeCap loosens them (promise P9)."""
        if self._tree.unread_armed:
            return []  # a domain that was armed and cannot be read now has not been released
        holding = {node for node, power in scene.node_powers.items() if caps.restricts(power)} | self._held.keys()
        known = {n for state in self._states.values() if state.armed and state.safe is None for n in scene.nodes}
        return sorted(holding - armed - known)

    async def _write(self, verdicts: tuple[status.Verdict, ...], now_s: float) -> None:
        """Write NodeCaps and status that changed; what is refused keeps no other from its write, and is tried again."""
        pending = [held for held in self._held.values() if not held.written]
        await asyncio.gather(*(self._tried(self._write_node(held)) for held in pending))
        for verdict in verdicts:
            await self._tried(self._write_status(verdict, now_s))

    async def _tried(self, writing: Awaitable[None]) -> None:
        try:
            await writing
        except Refused as refused:
            _log.warning("the API server did not take a write: %s", refused)

    async def _write_node(self, held: caps.Held) -> None:
        await self._ports.writer.node_cap(caps.document(held))
        self._ledger.wrote(held)

    async def _write_status(self, verdict: status.Verdict, now_s: float) -> None:
        state, raw = self._states.get(verdict.declared.name), verdict.declared.raw
        made = status.built(verdict, self._ports.wall_s())
        if state is None or not status.worth_writing(made, raw, since_s=now_s - state.status_at_s):
            return
        await self._ports.writer.status(raw, made)
        state.status_at_s = now_s
        before = status.level_before(raw)
        if before is not verdict.step.level and not (before is None and verdict.step.level is Level.DISARMED):
            word = "none" if before is None else before.value
            change = Transition(raw, word, verdict.step.level.value, verdict.step.reason.value)
            await self._ports.writer.event(change)

    # --- say ---------------------------------------------------------------------------------------

    def _publish(self, verdicts: tuple[status.Verdict, ...], scene: Scene, started_s: float) -> None:
        now_s = self._ports.now_s()
        fresh = self._heard.fresh(scene.nodes, now_s)
        self._ports.meter.tick(verdicts, fresh, len(scene.nodes) - fresh, now_s - started_s)

    def _forget(self, declared: tuple[Declared, ...]) -> None:
        """Forget domains that are gone."""
        names = {d.name for d in declared}
        self._states = {name: state for name, state in self._states.items() if name in names}
