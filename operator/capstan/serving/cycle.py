"""One cycle: observe once, decide, actuate, say what happened; and the loop that runs it on changes and on a period.

Who calls it: `app.operator`, on the leader. Without a change in the world it writes nothing. What the API server
refuses ends at the policy that it concerns; anything else that raises is a bug and ends the process.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from capstan import decide
from capstan.journal import record
from capstan.model import fleet, past, plan, reading
from capstan.model.headroom import DomainSeen
from capstan.model.policy import Knob, Priority
from capstan.model.profile import Profile
from capstan.model.reasons import Reason
from capstan.serving import (
    actuate,
    claims,
    clocks,
    conditions,
    domains,
    findings,
    headrooms,
    histories,
    history,
    latencies,
    manifest,
    observe,
    ports,
    read,
    report,
    status,
)
from capstan.serving.cluster import PodClock, Snapshot
from capstan.serving.conditions import Condition
from capstan.serving.manifest import Manifest
from capstan.serving.store import Bell, Kind, Store
from capstan.serving.view import Index, View

DEBOUNCE_S = 0.05  # a rollout changes many pods at once; a person does not notice 50 ms
GAP_S = 0.25  # cycles start at most four times a second, however much the world moves
REREAD_S = 1.0  # readings this young are read again by a woken cycle: no scrape is faster
POLICIES_AT_ONCE = 8

_log = logging.getLogger("capstan.cycle")


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that a cycle touches."""

    cluster: ports.Cluster
    telemetry: ports.Telemetry
    writer: ports.Writer
    reporter: ports.Reporter
    meter: ports.Meter
    recorder: ports.Recorder
    clock: ports.Clock
    history: ports.History


@dataclass(frozen=True, slots=True)
class _Case:
    """One policy in this cycle, before the decision."""

    view: View
    seen: fleet.ServiceObserved
    found: tuple[Condition, ...]
    capping: domains.Capping
    past: past.Past | None = None


@dataclass(frozen=True, slots=True)
class _Scene:
    """What one cycle looks at, all of it read before anything is written."""

    now_s: float
    snapshot: Snapshot
    seen: observe.Sources
    domains: tuple[Manifest, ...]
    profiles: tuple[Profile, ...]
    headrooms: tuple[DomainSeen, ...] = ()
    owned: Mapping[str, str] = field(default_factory=dict)


class Cycle:
    """The serving loop.

    Args:
        store: Our own kinds.
        world: Everything that it touches.
        settings: Periods and margins of the decision.
        memory: What an earlier process would have remembered; empty is a restarted operator.
        cycled: Called after every cycle (a liveness probe, a garbage collection).
    """

    def __init__(
        self,
        store: Store,
        world: Ports,
        settings: decide.Settings,
        *,
        memory: plan.Memory | None = None,
        cycled: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._world = world
        self._settings = settings
        self._memory = memory or plan.Memory()
        self._cycled = cycled
        self._reader = read.Reader()
        self._headrooms = headrooms.Headrooms()
        self._histories = histories.Histories(settings)
        self._actuator = actuate.Actuator(world.writer, world.clock.monotonic_s)
        self._said: dict[str, tuple[Manifest, float]] = {}
        self._readings: reading.Readings | None = None
        self._refusals: list[report.Refusal] = []
        self._steps_s: dict[str, float] = {}

    async def run(self, bell: Bell) -> None:
        """Cycle until cancelled: at every period, and soon after the bell."""
        while True:
            started_s = self._world.clock.monotonic_s()
            _log.info("%s", json.dumps(report.line(await self.once())))
            self._cycled()
            left_s = self._settings.instance_period_s - (self._world.clock.monotonic_s() - started_s)
            if await bell.heard(max(left_s, 0.0)):
                spent_s = self._world.clock.monotonic_s() - started_s
                await asyncio.sleep(max(DEBOUNCE_S, GAP_S - spent_s))

    async def once(self) -> report.Report:
        """Run one cycle and return what it came to."""
        self._refusals, self._steps_s = [], {}
        with self._timed("observe"):
            scene = await self._look()
            live, deleted = _split(self._store.all(Kind.POLICY))
            asked, unread = self._reader.policies(live)
            scene = replace(scene, owned=claims.owners(live))
            cases = self._cases(asked, scene)
        with self._timed("decide"):
            before = status.remembered(self._memory, tuple(c.view for c in cases))
            observed = fleet.Observed(scene.now_s, tuple(c.seen for c in cases), domains=scene.headrooms)
            policies = tuple(c.view.policy for c in cases)
            told = self._told(cases, scene.profiles)
            known = tuple(t.known for t in told)
            decision = decide.decide(observed, policies, scene.profiles, before, self._settings, known)
            self._memory = decision.memory
        with self._timed("actuate"):
            news = await self._act(cases, decision, scene)
            written = await self._clock(news, scene)
            await self._release(deleted, scene)
        with self._timed("say"):
            statuses = await self._say(news, unread, scene)
        pasts = tuple(t.past for t in told)  # those that the decision rests on, which need not be the newest
        entry = record.Cycle(observed, policies, scene.profiles, self._settings, decision, before, pasts)
        self._world.recorder.write(entry)
        done = self._report(news, unread, scene, statuses=statuses, node_plans=written)
        self._world.meter.cycle(done)
        return done

    # --- observe -----------------------------------------------------------------------------------

    async def _look(self) -> _Scene:
        clock = self._world.clock
        if self._readings is None or clock.now_s() - self._readings.taken_at_s >= REREAD_S:
            self._readings = await self._world.telemetry.read()
        snapshot, now_s = self._world.cluster.snapshot(), clock.now_s()
        return _Scene(
            now_s=now_s,
            snapshot=snapshot,
            seen=observe.sources(self._readings, snapshot.nodes, now_s=now_s),
            domains=self._store.all(Kind.DOMAIN),
            profiles=self._reader.profiles(self._store.all(Kind.PROFILE)),
            headrooms=self._headrooms.look(self._store.all(Kind.DOMAIN)),
        )

    def _cases(self, asked: tuple[read.Asked, ...], scene: _Scene) -> tuple[_Case, ...]:
        index = Index(scene.snapshot)
        cases = tuple(_placed(_case(a, index, scene), self._headrooms, scene) for a in asked)
        targeted = frozenset(manifest.text(c.view.raw, "metadata", "namespace") for c in cases if c.view.targeted)
        self._world.cluster.follow(targeted)
        return self._remembering(cases)

    def _remembering(self, cases: tuple[_Case, ...]) -> tuple[_Case, ...]:
        """Return the cases with what Prometheus remembers of each."""
        asks = tuple(history.ask(c.view) for c in cases)
        self._world.history.follow(asks)
        return tuple(replace(c, past=self._world.history.past(ask)) for c, ask in zip(cases, asks, strict=True))

    def _told(self, cases: tuple[_Case, ...], profiles: tuple[Profile, ...]) -> tuple[histories.Told, ...]:
        """Return what the pasts say."""
        asked = (histories.Asked(c.view.policy, c.seen.gpu_product, c.past) for c in cases)
        return self._histories.of(asked, profiles)

    # --- actuate -----------------------------------------------------------------------------------

    async def _act(self, cases: tuple[_Case, ...], decision: plan.Decision, scene: _Scene) -> tuple[status.News, ...]:
        turn = asyncio.Semaphore(POLICIES_AT_ONCE)

        async def one(case: _Case) -> status.News:
            async with turn:
                return await self._act_on(case, decision.of(case.view.key), scene)

        return tuple(await asyncio.gather(*(one(c) for c in cases)))

    async def _act_on(self, case: _Case, decided: plan.PolicyDecision | None, scene: _Scene) -> status.News:
        view = case.view
        if decided is None:
            raise ValueError(f"{view.key} was not decided")
        running = observe.running_by_pod(view.pods, scene.seen)
        outcome = await self._actuator.act(view, decided, scene.snapshot.objects, running)
        tp = decided.pools[0].tp if decided.pools else view.policy.bounds.tensor_parallel[0]
        closed = case.capping and domains.capping(view.pods, Priority.HIGH, scene.domains, scene.snapshot.nodes)
        found = (
            *outcome.conditions,
            *case.found,
            findings.profile(view, case.seen, scene.profiles, tp),
            findings.slo(view, case.seen),
            findings.feasible(view, case.seen, decided, scene.profiles, self._settings.slo_margin_ratio),
            *findings.drifts(decided),
            domains.power_condition(
                case.capping,
                power=decided.power,
                held=Reason.POWER_LIMITED in (decided.replicas_reason, decided.clock_reason),
                budgeted=view.policy.power_budget_w is not None,
                closed=bool(closed),
            ),
            findings.paused(view),
        )
        known = {c.type for c in found}
        if conditions.Type.PROGRESSING not in known:
            found = (*found, findings.progressing(view, decided))
        for c in outcome.refused:
            self._refuse("replicas", c.reason.value, f"{view.key}: {c.message}")
        ready = findings.ready(view, decided, outcome.conditions)
        told = latencies.by_cap(view, scene.seen, case.capping)
        return status.News(view, case.seen, decided, (ready, *found), outcome.scaled, told)

    async def _clock(self, news: tuple[status.News, ...], scene: _Scene) -> int:
        """Write the clock plan of every node that changed; return how many."""
        wanted = [entry for n in news for entry in _entries(n, scene.snapshot)]
        written, refused = await self._actuator.clock(wanted, scene.snapshot.node_plans)
        for message in refused:
            self._refuse("clock", Reason.API_REJECTED.value, message)
        return written

    async def _release(self, deleted: tuple[Manifest, ...], scene: _Scene) -> None:
        """Give back the targets of deleted policies; their clocks went with their entries."""
        index = Index(scene.snapshot)
        for raw in deleted:
            try:
                await self._actuator.release(raw, claims.released(index.target_pools(raw), scene.owned))
            except ports.Refused as refused:
                self._refuse("replicas", refused.refusal.value, f"{manifest.key(raw)}: release: {refused}")

    # --- say ---------------------------------------------------------------------------------------

    async def _say(self, news: tuple[status.News, ...], unread: tuple[read.Unread, ...], scene: _Scene) -> int:
        """Write statuses and events where there is something new; return how many statuses."""
        written = 0
        for n in news:
            before, _ = self._before(n.view.raw)
            document = status.build(n, before, scene.snapshot.node_plans, now_s=scene.now_s)
            written += await self._tell(n.view.raw, document, n.conditions, status.scale_notes(n))
        for u in unread:
            before, _ = self._before(u.raw)
            document, found = status.invalid(u.raw, before, u.message, now_s=scene.now_s)
            written += await self._tell(u.raw, document, (found,), ())
        uids = {
            manifest.text(raw, "metadata", "uid") for raw in (*(n.view.raw for n in news), *(u.raw for u in unread))
        }
        self._said = {uid: said for uid, said in self._said.items() if uid in uids}
        self._actuator.forget(frozenset(uids))
        return written

    async def _tell(
        self, raw: Manifest, document: Manifest, found: tuple[Condition, ...], notes: tuple[tuple[str, str], ...]
    ) -> int:
        """Write one policy's status and events, if they are news."""
        before, said_s = self._before(raw)
        now_s = self._world.clock.monotonic_s()
        if not status.due(before, document, age_s=now_s - said_s):
            return 0
        try:
            await self._world.reporter.status(raw, document)
            self._said[manifest.text(raw, "metadata", "uid")] = (document, now_s)
            for c in conditions.transitions(manifest.items(before, "conditions"), found):
                note = f"{c.type.value} is {c.word}" + (f": {c.message}" if c.message else "")
                await self._world.reporter.event(ports.Event(raw, c.reason.value, note, warning=c.bad))
            for reason, note in notes:
                await self._world.reporter.event(ports.Event(raw, reason, note))
        except ports.Refused as refused:
            self._refuse("status", refused.refusal.value, f"{manifest.key(raw)}: {refused}")
            return 0
        return 1

    def _before(self, raw: Manifest) -> tuple[Manifest, float]:
        """Return the last status of a policy and when we wrote it (long ago, where an earlier process did)."""
        known = self._said.get(manifest.text(raw, "metadata", "uid"))
        return known if known is not None else (manifest.mapping(raw, "status"), float("-inf"))

    def _report(
        self,
        news: tuple[status.News, ...],
        unread: tuple[read.Unread, ...],
        scene: _Scene,
        *,
        statuses: int,
        node_plans: int,
    ) -> report.Report:
        seen = scene.seen
        return report.Report(
            now_s=scene.now_s,
            news=news,
            unread=tuple(f"{manifest.key(u.raw)}: {u.message}" for u in unread),
            cluster_age_s=scene.snapshot.age_s,
            engine_age_s=_oldest(r.age_s for r in seen.readings.values()),
            gpu_age_s=_oldest(r.power_age_s for r in seen.readings.values()),
            source_errors=tuple(e for e in (seen.engine_error, seen.gpu_error, self._world.history.problem) if e),
            statuses=statuses,
            node_plans=node_plans,
            refusals=tuple(self._refusals),
            steps_s=dict(self._steps_s),
        )

    def _refuse(self, knob: str, reason: str, message: str) -> None:
        self._refusals.append(report.Refusal(knob, reason, message))

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        started_s = self._world.clock.monotonic_s()
        yield
        self._steps_s[step] = self._world.clock.monotonic_s() - started_s


def _split(raws: tuple[Manifest, ...]) -> tuple[tuple[Manifest, ...], tuple[Manifest, ...]]:
    """Return the policies that live, and those that wait for us to let them go."""
    gone = [bool(manifest.text(raw, "metadata", "deletionTimestamp")) for raw in raws]
    live = tuple(raw for raw, deleted in zip(raws, gone, strict=True) if not deleted)
    return live, tuple(raw for raw, deleted in zip(raws, gone, strict=True) if deleted)


def _case(asked: read.Asked, index: Index, scene: _Scene) -> _Case:
    """Return one policy with what is seen of it and the conditions that follow at once."""
    namespace = manifest.text(asked.raw, "metadata", "namespace")
    admitted = domains.admits(scene.domains, scene.snapshot.namespaces.get(namespace, {}))
    priority, granted = domains.granted(asked.priority, admitted=admitted)
    view = index.view(asked.raw, asked.granted(priority))
    taken = claims.taken(view, scene.owned)
    if taken is not None:
        view = replace(view, policy=claims.withheld(view.policy), taken=taken)
    capping = domains.capping(view.pods, priority, scene.domains, scene.snapshot.nodes)
    seen = observe.service(view, scene.seen, now_s=scene.now_s, capped=bool(capping))
    lost = observe.lost_pods(view, scene.seen, now_s=scene.now_s)
    metrics = observe.metrics_condition(seen, lost, scene.seen.engine_error)
    return _Case(view, seen, (granted, asked.followed.condition, metrics), capping)


def _placed(case: _Case, known: headrooms.Headrooms, scene: _Scene) -> _Case:
    """Return a case with where its pods lie among the power domains."""
    return replace(case, seen=replace(case.seen, places=known.places(case.view, scene.snapshot.nodes)))


def _entries(news: status.News, snapshot: Snapshot) -> Iterator[tuple[str, PodClock]]:
    """Yield the clock entries of one policy: planned ones where the knob acts, those in force where it is held."""
    view = news.view
    if view.policy.knobs.clock is not Knob.ACT:
        return
    if not news.decision.pools:
        yield from clocks.kept(view.pods, snapshot.node_plans)
    for planned in news.decision.pools:
        pool = view.pool(planned.pool, planned.tp)
        if pool is not None:
            yield from clocks.entries(pool.pods, planned.clock_cap_mhz)


def _oldest(ages_s: Iterator[float | None]) -> float | None:
    return max((age_s for age_s in ages_s if age_s is not None), default=None)
