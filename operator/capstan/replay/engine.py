"""One system over one scenario, in virtual time: the same decisions as live, another world.

Who calls it: `app.replay`, `replay.provision`. Must not know: YAML, reports, how a system decides.

Time runs in slices of 100 ms (DESIGN 7.2: true watts are scored at 100 ms). Engines keep their own exact times in
between; arrivals are routed at their own moment. Every second the power domains step, every instance period the
system plans. Both act at once here; live, an API write and an agent's second lie between.
"""

from __future__ import annotations

import dataclasses

from capstan import decide
from capstan.model.fleet import Observed, PoolObserved
from capstan.model.plan import Decision, PolicyDecision
from capstan.model.policy import Priority
from capstan.model.reasons import Reason
from capstan.model.workload import Request
from capstan.powercap import domains, safety, step
from capstan.replay import runs, telemetry
from capstan.replay.plant import Plant
from capstan.replay.pool import Pool, Seats
from capstan.replay.record import DomainTick, Outcome, PolicyTick, Run, ServiceRun, Tick, from_record
from capstan.replay.runs import Mark
from capstan.replay.scenario import Scenario, Service
from capstan.replay.systems import System

SLICES_PER_S = 10  # DESIGN 7.2: scores are true AC watts at 100 ms
SLICE_S = 1.0 / SLICES_PER_S


@dataclasses.dataclass(slots=True)
class Served:
    """One service of a run: its pool, what it still has to do, and what is in force."""

    service: Service
    pool: Pool
    log: telemetry.Log
    outcomes: dict[int, Outcome] = dataclasses.field(default_factory=dict)
    unfinished: int = 0
    sent: int = 0
    decision: PolicyDecision | None = None
    plan_cap_mhz: float | None = None
    class_cap_mhz: float | None = None
    second_j: float = 0.0

    @property
    def key(self) -> str:
        """Return the policy's key."""
        return self.service.policy.key

    @property
    def observed(self) -> PoolObserved:
        """Return the pool as the API server would show it."""
        pool = self.pool
        return PoolObserved(
            pool=decide.POOL,
            tp=pool.profile.tp,
            desired=pool.desired,
            ready=len(pool.serving),
            starting=pool.starting,
            terminating=pool.terminating,
            gpu_product=pool.gpu_product,
        )


@dataclasses.dataclass(slots=True)
class Guarded:
    """One power domain of a run: its budget now, the machine's memory and last word, the draws of this second."""

    domain: domains.Domain
    memory: domains.DomainMemory
    last: domains.Step | None = None
    draws_w: list[float] = dataclasses.field(default_factory=list)


def run(scenario: Scenario, system: System) -> runs.Run:
    """Run `system` through `scenario` and return what it left behind."""
    return from_record(_Replay(scenario, system).run(), [service.profile for service in scenario.services])


class _Replay:
    def __init__(self, scenario: Scenario, system: System) -> None:
        self._scenario, self._system = scenario, system
        self._seats = Seats(scenario.nodes)
        self._served = [self._begun(service) for service in scenario.services]
        pools = {served.key: served.pool for served in self._served}
        self._plant = Plant(self._seats, pools, scenario.profiles)
        self._guarded = [
            Guarded(dataclasses.replace(d, armed=d.armed and system.caps_power), domains.DomainMemory())
            for d in scenario.domains
        ]
        self._cuts = sorted(scenario.cuts, key=lambda cut: cut.t_s)
        self._ticks: list[Tick] = []
        self._marks: list[Mark] = []
        self._unassigned_j = 0.0

    def _begun(self, service: Service) -> Served:
        pool = Pool(service.profile, self._seats, startup_s=self._scenario.startup_s)
        pool.start_ready(self._system.start_replicas(service), 0.0)
        return Served(service, pool, telemetry.Log(service.policy))

    def run(self) -> Run:
        """Play every slice; stop at the whole second after the last completion, or when the drain is over."""
        scenario = self._scenario
        last = round((scenario.duration_s + scenario.drain_s) * SLICES_PER_S)
        now_s = 0.0
        for index in range(1, last + 1):
            now_s = index / SLICES_PER_S
            self._slice(now_s)
            if index % SLICES_PER_S == 0:
                self._second(now_s)
                if now_s >= scenario.duration_s and not any(served.unfinished for served in self._served):
                    break
        return self._record(now_s)

    # --- ten times a second ------------------------------------------------------------------------

    def _slice(self, now_s: float) -> None:
        for served in self._served:
            self._arrivals(served, now_s)
            self._advance(served, now_s)
        watts = self._plant.measure(SLICE_S)
        for served in self._served:
            served.second_j += watts.by_pool[served.key] * SLICE_S
            served.pool.settle(now_s)
        for guarded in self._guarded:
            guarded.draws_w.append(self._plant.draw_w(guarded.domain, watts))
        self._unassigned_j += watts.unassigned_w * SLICE_S

    def _arrivals(self, served: Served, now_s: float) -> None:
        """Route what arrives in this slice, each at its own moment, to the replica that is least loaded then."""
        requests = served.service.requests
        while served.sent < len(requests) and requests[served.sent].arrival_s <= now_s:
            request = requests[served.sent]
            served.sent += 1
            served.log.arrived(request)
            self._advance(served, request.arrival_s)
            served.outcomes[request.request_id] = _arrived(served.key, request)
            served.unfinished += served.pool.submit(request, request.arrival_s)

    def _advance(self, served: Served, to_s: float) -> None:
        for emission in served.pool.advance(to_s):
            outcome = served.outcomes[emission.request_id]
            if emission.first:
                outcome = dataclasses.replace(outcome, first_s=emission.t_s)
            if emission.finished:
                outcome = dataclasses.replace(outcome, finish_s=emission.t_s)
                served.log.ended(outcome, emission.t_s)
                served.unfinished -= 1
            served.outcomes[emission.request_id] = outcome

    # --- once a second -----------------------------------------------------------------------------

    def _second(self, now_s: float) -> None:
        for served in self._served:
            gauges = telemetry.Gauges(served.pool.running, served.pool.waiting, served.second_j)
            served.log.gauged(now_s, gauges)
        self._cut_budgets(now_s)
        for guarded in self._guarded:
            samples = self._plant.samples(guarded.domain)
            guarded.last = step.step(guarded.domain, samples, guarded.memory, now_s)
            guarded.memory = guarded.last.memory
        if now_s % self._scenario.settings.instance_period_s < 1:
            self._plan(now_s)
        self._apply_caps(now_s)
        self._tick(now_s)

    def _cut_budgets(self, now_s: float) -> None:
        while self._cuts and self._cuts[0].t_s <= now_s:
            cut = self._cuts.pop(0)
            for guarded in self._guarded:
                if guarded.domain.name == cut.domain:
                    guarded.domain = self._resized(guarded.domain, cut.budget_w)
            self._marks.append(Mark(now_s, f"budget of {cut.domain} is now {cut.budget_w / 1e3:.1f} kW"))

    def _resized(self, domain: domains.Domain, budget_w: float) -> domains.Domain:
        """Return a domain at another budget, with the safe setting that fits it, as `power` derives it live."""
        unsafe = dataclasses.replace(domain, budget_w=budget_w, safe=None)
        admission = safety.admit(unsafe, self._plant.samples(domain))
        return dataclasses.replace(unsafe, safe=admission.safe if admission.fits else domain.safe)

    def _plan(self, now_s: float) -> None:
        scenario = self._scenario
        services = tuple(
            telemetry.observed(
                served.log,
                served.observed,
                now_s=now_s,
                delay_s=scenario.telemetry_s,
                window_s=scenario.settings.rate_window_s,
                capped=served.class_cap_mhz is not None,
            )
            for served in self._served
        )
        decision = self._system.plan(Observed(now_s, services))
        if decision is not None:
            self._apply_plan(decision, now_s)

    def _apply_plan(self, decision: Decision, now_s: float) -> None:
        """Bring replica counts and clock plans into force; a policy without pools stays as it is."""
        for served in self._served:
            served.decision = decision.of(served.key)
            if served.decision is None or not served.decision.pools:
                continue
            pool_plan = served.decision.pools[0]
            served.plan_cap_mhz = pool_plan.clock_cap_mhz
            if pool_plan.replicas != served.pool.desired:
                served.pool.scale(pool_plan.replicas, now_s)

    def _apply_caps(self, now_s: float) -> None:
        """Cap each node's replicas at the tighter of the plan and of every domain above the node."""
        for served in self._served:
            served.class_cap_mhz = None
            for node in self._seats.nodes:
                caps = domains.tightest(*(g.last.caps for g in self._guarded if g.last and node.name in g.domain.nodes))
                high = served.service.policy.priority is Priority.HIGH
                class_mhz = caps.high_mhz if high else caps.low_mhz
                served.class_cap_mhz = _least(served.class_cap_mhz, class_mhz)
                served.pool.set_caps(
                    now_s,
                    node.name,
                    clock_cap_mhz=_least(served.plan_cap_mhz, class_mhz),
                    power_limit_w=caps.power_limit_w,
                )

    # --- the record --------------------------------------------------------------------------------

    def _tick(self, now_s: float) -> None:
        policies = tuple(self._policy_tick(served, now_s) for served in self._served)
        self._ticks.append(Tick(now_s, policies, tuple(_domain_tick(guarded) for guarded in self._guarded)))
        for served in self._served:
            served.second_j = 0.0
        for guarded in self._guarded:
            guarded.draws_w.clear()

    def _policy_tick(self, served: Served, now_s: float) -> PolicyTick:
        pool, decided = served.pool, served.decision
        return PolicyTick(
            policy=served.key,
            arrival_rps=served.log.rate_rps(now_s, window_s=self._scenario.settings.rate_window_s),
            replicas_desired=pool.desired,
            replicas_ready=len(pool.serving),
            tp=pool.profile.tp,
            clock_cap_mhz=_least(served.plan_cap_mhz, served.class_cap_mhz),
            gpus_w=served.second_j,  # joules of one second are its mean watts
            running=pool.running,
            waiting=pool.waiting,
            reason=_reason(decided),
            expected_w=None if decided is None else decided.expected.power_w,
        )

    def _record(self, end_s: float) -> Run:
        services = tuple(
            ServiceRun(s.key, s.service.policy.slo, s.pool.energy_j, s.service.profile.name) for s in self._served
        )
        return Run(
            system=self._system.name,
            source="virtual time",
            trace=self._scenario.trace,
            duration_s=end_s,
            services=services,
            outcomes=tuple(outcome for served in self._served for outcome in served.outcomes.values()),
            ticks=tuple(self._ticks),
            marks=tuple(self._marks),
            settings=self._scenario.notes,
            energy_unassigned_j=self._unassigned_j,
        )


def _arrived(policy: str, request: Request) -> Outcome:
    """Return the fate of a request of which nothing is known yet: bad, unless it finishes in time."""
    lengths = (request.prompt_tokens, request.output_tokens)
    return Outcome(policy, request.request_id, request.arrival_s, *lengths, first_s=None, finish_s=None)


def _domain_tick(guarded: Guarded) -> DomainTick:
    last = guarded.last
    level = domains.Level.DISARMED if last is None else last.level
    cap_mhz = None if last is None else last.caps.low_mhz
    return DomainTick(guarded.domain.name, max(guarded.draws_w), guarded.domain.budget_w, str(level), cap_mhz)


def _reason(decided: PolicyDecision | None) -> Reason:
    """Return the reason that tells more: that of the replicas, unless nothing changed there."""
    if decided is None:
        return Reason.KNOB_OFF
    quiet = decided.replicas_reason in (Reason.NO_CHANGE_NEEDED, Reason.COOLING_DOWN)
    return decided.clock_reason if quiet else decided.replicas_reason


def _least(first: float | None, second: float | None) -> float | None:
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)
