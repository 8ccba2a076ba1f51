"""One tick of a leader: renew leases and hear the agents, judge every domain, tighten at once, write what changed.

Who calls it: `site` every second, for each shard that this process leads. The fast path (`renew`, `judged`, the caps of
the next call) needs no API server: writes of NodeCaps and status happen beside it and may fail without delaying a cap.
Safe direction when blind: keep the budget.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from capstan.model.reasons import Reason
from capstan.power import caps, judge, status, tree
from capstan.power.confirm import Confirmations
from capstan.power.guaranteed import Guaranteed
from capstan.power.heard import Heard
from capstan.power.judge import State, Verdict, View
from capstan.power.ports import (
    AgentReport,
    Agents,
    Cluster,
    LeaseCall,
    Ledgers,
    Meters,
    Outdated,
    Refused,
    Transition,
    Writer,
)
from capstan.power.priority import HighPods
from capstan.power.shards import Part
from capstan.power.tree import Declared
from capstan.powercap.domains import NO_CAPS, ClassCaps, DomainMemory, Level, Strategy, tightest, tightest_safe

TIGHTER_S = 3.0  # a NodeCap that loosens reaches an agent within a second or two; longer is a standby's tightening

_log = logging.getLogger(__name__)


class Meter(Protocol):
    """Where figures go."""

    def tick(self, verdicts: tuple[Verdict, ...], answering: int, silent: int, seconds: float) -> None:
        """Publish one tick of everything that this process leads."""

    def moved(self, domain: str, before: Level, after: Level, reason: Reason) -> None:
        """Count a transition."""

    def advised(self, domain: str, before: Level, after: Level) -> None:
        """Count a transition that a domain in mode Advise would have made."""

    def drifted(self, caps_lost: int) -> None:
        """Count caps that were in force and no longer are."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything behind a port, and two clocks."""

    cluster: Cluster
    agents: Agents
    writer: Writer
    meters: Meters
    meter: Meter
    now_s: Callable[[], float]  # monotonic: ages, dwell, leases
    wall_s: Callable[[], float]  # for people, and for what is due at a time of day
    ledgers: Ledgers


class Loop:
    """The state of one leader.

    Args:
        ports: The world.
        heard: What the agents said, shared with the standby that we were.
        epoch: Of our Lease.
        shadows: What that standby's machines remember: taking over loosens nothing.
    """

    def __init__(self, ports: Ports, heard: Heard, *, epoch: int, shadows: Mapping[str, DomainMemory]) -> None:
        self._ports = ports
        self._heard = heard
        self._ledger = caps.Ledger(epoch)
        self._held: dict[str, caps.Held] = {}
        self._tighter_s: dict[str, float] = {}
        self._confirmations = Confirmations()
        self._shadows = shadows
        self._states: dict[str, State] = {}
        self._writing: asyncio.Task[None] | None = None
        self._guaranteed = Guaranteed(ports.ledgers, ports.writer, heard)
        self._newest: tuple[Verdict, ...] = ()

    async def tick(self, part: Part) -> tuple[Verdict, ...]:
        """Run one tick and return what was decided."""
        reports = await self._listen(part)
        now_s = self._ports.now_s()
        self._forget(part.declared)
        self._confirm(part, now_s)
        view = View(
            self._heard,
            self._confirmations,
            self._ports.meters,
            part.high,
            now_s,
            self._ports.wall_s(),
            self._guaranteed.books(now_s),
        )
        verdicts = tuple(self._judge(declared, part, view) for declared in part.declared)
        self._guaranteed.see(verdicts, part)
        self._wish(verdicts, part, now_s)
        self._guaranteed.step(part, reports, self._held, now_s)
        self._newest = verdicts
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(verdicts, part, now_s))
        return verdicts

    async def settle(self) -> None:
        """Wait for the writes under way."""
        if self._writing is not None:
            await self._writing

    def stop(self) -> None:
        """Begin no further write: another leads."""
        if self._writing is not None:
            self._writing.cancel()

    @property
    def memories(self) -> Mapping[str, DomainMemory]:
        """What the machines of armed domains remember, for the standby that we become."""
        return {name: state.memory for name, state in self._states.items() if state.armed}

    # --- hear --------------------------------------------------------------------------------------

    async def _listen(self, part: Part) -> Mapping[str, AgentReport]:
        """Renew every lease, keep what the agents say, and return it."""
        nodes = (part.scene.nodes[name] for name in sorted(part.nodes))
        calls = tuple(self._call(seen.name, seen.agent, part) for seen in nodes if seen.agent)
        answers = await self._ports.agents.renew(calls)
        reports = {node: answer for node, answer in answers.items() if not isinstance(answer, Outdated)}
        self._heard.take(reports, self._ports.now_s())
        return reports

    def _call(self, node: str, address: str, part: Part) -> LeaseCall:
        held = self._held.get(node)
        if held is not None:
            return LeaseCall(node, address, held.epoch, held.sequence, caps.LEASE_S, held.wish.caps)
        epoch, sequence = self._ledger.newest(part.scene.node_powers.get(node), self._said(node))
        return LeaseCall(node, address, epoch, sequence, caps.LEASE_S, NO_CAPS)

    def _said(self, node: str) -> tuple[int, int]:
        """Return the (epoch, sequence) that a node itself said last."""
        report = self._heard.reports([node]).get(node)
        return (0, 0) if report is None else (report.epoch, report.sequence)

    def _confirm(self, part: Part, now_s: float) -> None:
        """Compare what was sent with what the agents show of it."""
        sent = {node: held.wish.caps for node, held in self._held.items()}
        lost = self._confirmations.take(self._heard.reports(sent), sent, part.high, now_s)
        if lost:
            self._ports.meter.drifted(lost)

    # --- decide ------------------------------------------------------------------------------------

    def _judge(self, declared: Declared, part: Part, view: View) -> Verdict:
        state = self._states.get(declared.name)
        if state is None:
            state = judge.state_of(declared, part.scene.node_powers, self._shadows.get(declared.name), view.now_s)
            self._states[declared.name] = state
        level, advised = state.memory.level, state.advised
        verdict = judge.judged(declared, state, view)
        if verdict.step.level is not level:
            self._ports.meter.moved(declared.name, level, verdict.step.level, verdict.step.reason)
        if verdict.advised is not None and advised is not None and verdict.advised is not advised:
            self._ports.meter.advised(declared.name, advised, verdict.advised)
        return verdict

    # --- act ---------------------------------------------------------------------------------------

    def _wish(self, verdicts: tuple[Verdict, ...], part: Part, now_s: float) -> None:
        """Join the caps of all armed domains per node; the next lease call carries them."""
        armed = [v for v in verdicts if v.armed]
        over: dict[str, list[Verdict]] = {}
        for verdict in armed:
            for node in verdict.declared.nodes:
                over.setdefault(node, []).append(verdict)
        held: dict[str, caps.Held] = {}
        for node, holding in sorted(over.items()):
            wish = self._wish_of(node, holding, part.high, part)
            if wish is not None:
                stored = part.scene.node_powers.get(node)
                held[node] = self._steadied(self._ledger.hold(wish, stored, now_s, said=self._said(node)), now_s)
        unknown = frozenset(over) - frozenset(held)
        for node in self._released(frozenset(over), part):
            held[node] = self._ledger.hold(caps.released(node), part.scene.node_powers.get(node), now_s)
        self._ledger.forget(frozenset(held) | unknown)
        self._held = held

    def _wish_of(self, node: str, over: list[Verdict], high: HighPods, part: Part) -> caps.NodeWish | None:
        """Return what a node should hold; None: armed by an earlier leader and not heard yet, what it holds stays."""
        by_level = [verdict for verdict in over if verdict.strategy is Strategy.STATISTICAL]
        safe = [verdict.domain.safe for verdict in by_level]
        grants = self._guaranteed.granted(node, over, self._granted_before(node, part))
        if None in safe or not (safe or grants):
            return None
        known = tightest_safe(setting for setting in safe if setting is not None) or caps.NO_LIMIT
        pods = tuple((p.namespace, p.name) for p in part.on_node.get(node, ()) if (p.namespace, p.name) in high)
        wish = caps.NodeWish(node, tightest(*(verdict.step.caps for verdict in by_level)), pods, known)
        return caps.with_grants(wish, grants) if grants else wish

    def _granted_before(self, node: str, part: Part) -> tuple[caps.Granted, ...]:
        """Return the grants that a node holds: as we told them, else as its NodeCap has them."""
        if node in self._held:
            return self._held[node].wish.grants
        stored = part.scene.node_powers.get(node)
        return () if stored is None else caps.grants_of(stored)

    def _steadied(self, held: caps.Held, now_s: float) -> caps.Held:
        """Return what a node holds, anew where it has long held tighter caps than ours: a standby's, and we live."""
        node = held.wish.node
        report = self._heard.reports([node]).get(node)
        if not held.written or report is None or not _tighter(report, held):
            self._tighter_s.pop(node, None)
            return held
        if now_s - self._tighter_s.setdefault(node, now_s) < TIGHTER_S:
            return held
        del self._tighter_s[node]
        return self._ledger.again(held)

    def _released(self, armed: frozenset[str], part: Part) -> list[str]:
        """Return nodes that hold caps of ours and are in no armed domain: only a NodeCap loosens them (promise P9)."""
        if not part.may_release:
            return []
        stored = part.scene.node_powers
        holding = {node for node in part.nodes if node in stored and caps.restricts(stored[node])}
        return sorted((holding | (self._held.keys() & part.nodes)) - armed)

    async def _write(self, verdicts: tuple[Verdict, ...], part: Part, now_s: float) -> None:
        """Write what changed; what is refused keeps nothing else from its write, and is tried again."""
        for verdict in verdicts:
            if verdict.armed and not verdict.declared.finalized and not verdict.declared.leaving:
                await self._tried(self._ports.writer.finalizer(verdict.declared.raw, present=True))
        if await self._guaranteed.write() and self._newest is verdicts:
            self._wish(verdicts, part, now_s)  # grants that are stored now are told in this second
        pending = [held for held in self._held.values() if not held.written]
        await asyncio.gather(*(self._tried(self._write_node(held, part)) for held in pending))
        for verdict in verdicts:
            await self._tried(self._write_status(verdict, now_s))
            if verdict.declared.finalized and not verdict.armed and self._let_go(verdict, verdicts, part):
                await self._tried(self._ports.writer.finalizer(verdict.declared.raw, present=False))

    @staticmethod
    def _let_go(verdict: Verdict, verdicts: tuple[Verdict, ...], part: Part) -> bool:
        """Return whether the API server says that no node of a domain holds caps for its sake any more."""
        elsewhere = {node for other in verdicts if other.armed for node in other.declared.nodes}
        stored = part.scene.node_powers
        own = (stored[node] for node in verdict.declared.nodes if node in stored and node not in elsewhere)
        return not any(caps.restricts(power) for power in own)

    async def _tried(self, writing: Awaitable[None]) -> None:
        try:
            await writing
        except Refused as refused:
            _log.warning("the API server did not take a write: %s", refused)

    async def _write_node(self, held: caps.Held, part: Part) -> None:
        stored = part.scene.node_powers.get(held.wish.node)
        await self._ports.writer.node_cap(caps.document(held, stored.version if stored else ""))
        self._ledger.wrote(held, self._ports.now_s())

    async def _write_status(self, verdict: Verdict, now_s: float) -> None:
        state, raw = self._states.get(verdict.declared.name), verdict.declared.raw
        if state is None:
            return
        await self._write_brake(verdict, state)
        made = status.built(verdict, self._ports.wall_s())
        if not status.worth_writing(made, raw, since_s=now_s - state.status_at_s):
            return
        await self._ports.writer.status(raw, made)
        state.status_at_s = now_s
        before, after = tree.level_before(raw), verdict.step.level
        if before is not after and not (before is None and after is Level.DISARMED):
            note = f"{'none' if before is None else before.value} -> {after.value}"
            warning = after not in (Level.NORMAL, Level.DISARMED)
            await self._ports.writer.event(Transition(raw, note, verdict.step.reason.value, warning))

    async def _write_brake(self, verdict: Verdict, state: State) -> None:
        """Tell once, in an Event, that Brake is not enough."""
        told, state.brake_told = state.brake_told, verdict.step.beyond_brake
        if verdict.step.beyond_brake and not told:
            note = "Brake holds and the draw stays above the budget"
            event = Transition(verdict.declared.raw, note, Reason.BRAKE_INSUFFICIENT.value, warning=True)
            await self._ports.writer.event(event)

    def _forget(self, declared: tuple[Declared, ...]) -> None:
        """Forget domains that are gone."""
        names = {d.name for d in declared}
        self._states = {name: state for name, state in self._states.items() if name in names}


def _tighter(report: AgentReport, held: caps.Held) -> bool:
    """Return whether a node holds tighter caps than we gave it, at our own number."""
    if report.caps is None or (report.epoch, report.sequence) != (held.epoch, held.sequence):
        return False
    ours = _floored(held.wish.caps)
    return tightest(ours, report.caps) != ours


def _floored(given: ClassCaps) -> ClassCaps:
    """Return caps as they travel: whole numbers."""
    values = caps.caps_document(given)
    names = ("lowMegahertz", "highMegahertz", "powerLimitWatts")
    return ClassCaps(*(float(str(values[name])) if name in values else None for name in names))
