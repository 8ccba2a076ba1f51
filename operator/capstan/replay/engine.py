"""One run in virtual time: arrivals, engines, power domains and a system, in one loop of ticks.

Who calls it: `app.replay`, `replay.provision` and the searches, the rig's demo, tests. Must not know: files, which
system decides. Power domains and caps are `powercap.step`'s own output; the system is `replay.seen`'s.

The kernel plays requests from one tick to the next, each at its own moment; how often it is called changes nothing.
Without power domains there is a tick every few seconds, as often as the system plans; with them one every second, and
their true draw is read in slices of 100 ms. The run is counted from the first arrival to the last completion. A node is
lost at the end of the tick that it is lost in, with the requests in it; its pods start anew elsewhere at the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from capstan.model import power
from capstan.model.policy import Priority
from capstan.model.profile import Profile
from capstan.model.workload import Phase
from capstan.replay import events, guards, kernel, telemetry
from capstan.replay.nodes import Seats
from capstan.replay.pages import words
from capstan.replay.plant import Plant
from capstan.replay.pool import Pool, pool_count
from capstan.replay.runs import Energy, Outcomes, Routed, Run, ServiceRun
from capstan.replay.scenario import Scenario
from capstan.replay.scores import routes
from capstan.replay.seen import Seen, Service, System, Want
from capstan.replay.series import LaneLog, ServiceLog

SLICES_PER_S = 10  # DESIGN 7.1: true AC watts at 100 ms
SLOW_START_S = 15.0
"""The router sends to whoever holds least, so that an empty replica would get every request until its prompts queue:
Envoy's slow start, for every system alike; 15 s is what a replica takes to fill (about a request's stay)."""

LONGEST_TICK_S = 5.0  # queues and watts are noted at least as often as telemetry is scraped

Progress = Callable[[float], None]


def run(scenario: Scenario, system: System, *, instant: bool = False, progress: Progress | None = None) -> Run:
    """Play a scenario with a system.

    Args:
        scenario: Fleet, requests, events.
        system: Who decides.
        instant: Replicas start at once and draining costs nothing but the work in flight (`oracle`).
        progress: Called now and then with the share of the run that is done.
    """
    return _Engine(scenario, system, instant=instant).run(progress)


@dataclass(slots=True)
class Served:
    """A service with its pool and what a system sees of it. `log` has a row per tick."""

    service: Service
    pool: Pool
    view: telemetry.View
    log: ServiceLog = field(default_factory=ServiceLog)
    lanes: dict[str, LaneLog] = field(default_factory=dict)
    class_cap_mhz: float | None = None
    told_apart: bool = False  # its requests went, at some time, to pools by their guessed classes

    @property
    def key(self) -> str:
        """Key of the policy."""
        return self.service.policy.key


class _Engine:
    def __init__(self, scenario: Scenario, system: System, *, instant: bool) -> None:
        self._scenario = scenario
        self._system = system
        self._guarding = bool(scenario.domains)
        self._tick_s = 1.0 if self._guarding else _tick_s(system.period_s)
        self._seats = Seats(scenario.nodes)
        self._unassigned_j = 0.0
        startup_s = 0.0 if instant else scenario.startup_s
        self._served = [
            self._serve(service, truth, startup_s)
            for service, truth in zip(scenario.services, scenario.truths, strict=True)
        ]
        pools = [served.pool for served in self._served]
        truths = [profile for truth in scenario.truths for profile in truth]
        slices = SLICES_PER_S if self._guarding else 1
        self._plant = Plant(self._seats, pools, truths, slices_per_sample=slices)
        self._guards = guards.Guards(scenario, self._plant, armed=system.caps_power)
        self._homes = self._guards.homes(self._seats)
        self._cap(0.0)

    def _serve(self, service: Service, truth: tuple[Profile, ...], startup_s: float) -> Served:
        scenario = self._scenario
        slots = sum(node.gpus // truth[0].tp for node in scenario.nodes)
        end_s = scenario.duration_s + scenario.drain_s + self._tick_s
        count = service.edges.count
        world = kernel.World(
            service.requests,
            truth,
            slots=slots,
            bin_s=1.0,
            end_s=end_s,
            pools=pool_count(count),
            request_class=service.codes if count > 1 else None,
            class_pool=(0,) * count,
            slow_start_s=SLOW_START_S,
        )
        pool = Pool(world, truth, self._seats, startup_s=startup_s, classes=count)
        begun = self._system.start(service)
        pool.start_ready((begun,) if isinstance(begun, Want) else begun, 0.0)
        return Served(service, pool, telemetry.View(service, pool, delay_s=scenario.telemetry_s))

    def run(self, progress: Progress | None) -> Run:
        """Play tick by tick; stop when the last request is done, or when the drain is over."""
        scenario = self._scenario
        last = math.ceil((scenario.duration_s + scenario.drain_s) / self._tick_s)
        report_every = max(last // 200, 1)
        now_s = 0.0
        for index in range(1, last + 1):
            before_s, now_s = now_s, index * self._tick_s
            self._advance(before_s, now_s)
            if not any(served.pool.world.unfinished for served in self._served):
                self._note(now_s)
                break
            self._change_nodes(before_s, now_s)
            self._tick(now_s)
            if progress is not None and index % report_every == 0:
                progress(min(now_s / scenario.duration_s, 1.0))
        return self._record(now_s)

    # --- time --------------------------------------------------------------------------------------

    def _advance(self, before_s: float, now_s: float) -> None:
        """Play one tick; with power domains in slices, each of which is measured."""
        slices = SLICES_PER_S if self._guarding else 1
        slice_s = (now_s - before_s) / slices
        for index in range(1, slices + 1):
            for served in self._served:
                served.pool.world.advance(now_s if index == slices else before_s + index * slice_s)
            self._unassigned_j += self._plant.unassigned_w() * slice_s
            if self._guarding:
                self._plant.measure(slice_s)
                self._guards.measure()
            for served in self._served:
                served.pool.settle(served.pool.world.now_s)

    def _change_nodes(self, before_s: float, now_s: float) -> None:
        """Take away the nodes that were lost within the last tick, and bring back those whose time it was."""
        index = {node.name: i for i, node in enumerate(self._seats.nodes)}
        for loss in self._scenario.losses:
            if before_s <= loss.t_s < now_s:
                self._seats.lose(index[loss.node])
                for served in self._served:
                    served.pool.lose(index[loss.node], now_s)
            if before_s <= loss.back_s < now_s:
                self._seats.back(index[loss.node])

    def _tick(self, now_s: float) -> None:
        """Let domains and system decide, and bring it into force."""
        if self._guarding:
            self._guards.step(now_s)
        planning = _divides(self._system.period_s, now_s)
        self._note(now_s)
        if planning:
            self._plan(now_s)
        if planning or self._guarding:
            self._cap(now_s)

    def _plan(self, now_s: float) -> None:
        capped = frozenset(served.key for served in self._served if served.class_cap_mhz is not None)
        views = tuple(served.view for served in self._served)
        seen = self._guards.seen(self._seats)
        places = tuple((served.key, served.pool.places(self._homes)) for served in self._served) if seen else ()
        wants: dict[str, list[Want]] = {}
        for want in self._system.plan(Seen(now_s, views, capped, seen, places)):
            wants.setdefault(want.policy, []).append(want)
        for served in self._served:
            if seen:
                served.pool.prefer(guards.ranks(self._homes, seen, served.service.policy.priority))
            if served.key in wants:
                served.pool.scale(wants[served.key], now_s)
                served.pool.follow(wants[served.key][0].power, self._homes)

    def _cap(self, now_s: float) -> None:
        """Cap each node's replicas at the tighter of the plan and of every domain above the node."""
        for served in self._served:
            if not self._guarding:
                served.pool.cap(now_s)
                continue
            high = served.service.policy.priority is Priority.HIGH
            each = [self._guards.caps(node.name) for node in self._seats.nodes]
            nodes = [(caps.high_mhz if high else caps.low_mhz, caps.power_limit_w) for caps in each]
            held = {pod.node for pod in served.pool.pods}
            served.class_cap_mhz = guards.least(tuple(nodes[index][0] for index in sorted(held)))
            served.pool.cap(now_s, nodes)

    # --- the record --------------------------------------------------------------------------------

    def _note(self, now_s: float) -> None:
        for served in self._served:
            pool, world = served.pool, served.pool.world
            totals = world.totals()
            counts = pool.counts()
            served.view.note(now_s, energy_j=totals.energy_j, counts=counts)
            cap_mhz = guards.least((pool.want.clock_cap_mhz, served.class_cap_mhz))
            expected_w = pool.want.expected_w
            row = (
                now_s,
                float(pool.want.replicas),
                *map(float, counts),
                float(pool.gpus),
                float(pool.want.tp),
                math.nan if cap_mhz is None else cap_mhz,
                totals.energy_j,
                float(totals.running),
                float(totals.waiting),
                totals.kv_usage,
                math.nan if expected_w is None else expected_w,
            )
            served.log.note(row, pool.want.reason)
            self._note_lanes(now_s, served)
        if self._guarding:
            self._guards.note(now_s)

    def _note_lanes(self, now_s: float, served: Served) -> None:
        """Write down what each of several pools has; pools that are no more are forgotten."""
        several = (want for want in served.pool.wants if want.classes or want.phase is not Phase.BOTH)
        classes = {want.pool: want.classes for want in several}
        served.told_apart = served.told_apart or any(classes.values())
        served.lanes = {name: log for name, log in served.lanes.items() if classes.get(name) == log.classes}
        for name, own in classes.items():
            tp, ready, cap_mhz = served.pool.standing(name)
            served.lanes.setdefault(name, LaneLog(own)).note(now_s, tp, ready, cap_mhz)

    def _record(self, end_s: float) -> Run:
        """Return the run, cut off at its last completion: nothing but idle watts came after it."""
        finish_s = [float(np.nanmax(s.pool.world.finish_s, initial=0.0)) for s in self._served]
        unfinished = any(served.pool.world.unfinished for served in self._served)
        horizon_s = end_s if unfinished else min(max(finish_s), end_s)
        over_s = end_s - horizon_s
        scenario = self._scenario
        return Run(
            system=self._system.name,
            source="virtual time",
            trace=scenario.trace,
            duration_s=horizon_s,
            services=tuple(self._service_run(served, end_s, horizon_s) for served in self._served),
            domains=self._guards.series(),
            marks=(*self._guards.marks, *events.marks(scenario)),
            shocks_s=scenario.shocks_s,
            settings=scenario.notes,
            energy_unassigned_j=self._unassigned_j - over_s * self._plant.unassigned_w(),
            energy_node_j=self._node_j(horizon_s),
        )

    def _node_j(self, horizon_s: float) -> float | None:
        """Return the joules of everything in the servers that is no GPU; None where a node has no domain to say so."""
        watts = {node: domain.non_gpu_typical_w for domain in self._scenario.domains for node in domain.nodes}
        if len(watts) < len(self._seats.nodes):
            return None
        return sum(watts.values()) * horizon_s

    def _service_run(self, served: Served, end_s: float, horizon_s: float) -> ServiceRun:
        pool, world = served.pool, served.pool.world
        totals = world.totals()
        idle_j = transition_j = late_gpu_s = 0.0
        for pod in pool.pods:
            late_s = end_s - max(horizon_s, pod.created_s)
            late_gpu_s += late_s * pod.tp
            joules = late_s * pod.tp * power.idle_w(next(p for p in world.profiles if p.tp == pod.tp))
            if world.replicas[pod.slot]["state"] == kernel.READY:
                idle_j += joules
            else:
                transition_j += joules
        energy = Energy(totals.serving_j, totals.idle_j - idle_j, totals.transition_j - transition_j)
        series = served.log.series(served.service.requests, end_s=horizon_s, late_j=idle_j + transition_j)
        living_s = sum(pod.tp * (end_s - pod.created_s) for pod in pool.pods)
        return ServiceRun(
            policy=served.key,
            slo=served.service.policy.slo,
            profiles=tuple(words.profile(profile) for profile in served.service.profiles),
            outcomes=Outcomes(served.service.requests, world.first_s, world.finish_s, world.max_tbt_s),
            series=series,
            energy=energy,
            reconfigurations=pool.reconfigurations,
            clock_changes=pool.clock_changes,
            gpu_seconds=pool.gpu_seconds + living_s - late_gpu_s,
            lanes=tuple(log.series(name) for name, log in served.lanes.items()),
            routed=Routed(served.service.codes, served.service.edges) if served.told_apart else None,
            token_cost=routes.token_cost(world.profiles[-1], served.service.requests, series),
        )


def _tick_s(period_s: float) -> float:
    """Return the longest tick of at most five seconds that divides a period."""
    return period_s / math.ceil(period_s / LONGEST_TICK_S - 1e-9)


def _divides(period_s: float, now_s: float) -> bool:
    """Return whether `now_s` is a multiple of the period, up to rounding."""
    turns = now_s / period_s
    return abs(turns - round(turns)) * period_s < 1e-6
