"""The demo's course on a rig that stands: quiet, load, budget cut, perhaps a killed operator, drain, one spec change.

Time is the wall's. Nothing here reads Capstan's processes: what is shown and recorded comes from the API server, the
simulator's truth and the load driver's outcomes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from capstan.model.policy import Policy
from capstan.model.reasons import Reason
from capstan.replay.runs import Mark
from capstan.replay.scenario import Scenario
from rig import process
from rig.demo import audit, figures, looks, outcomes, probe, ticks
from rig.demo.looks import Look
from rig.demo.stage import Stage
from rig.demo.ticks import Tick
from rig.demo.view import Scene, Screen

LEAD_S = 3.0  # the load driver needs a second or two to see the pods
QUIET_S = 15.0  # three instance periods of the shortened demo
SETTLE_S = 45.0  # P7 allows 120 s; the demo has not that long
SETTLED_S = 6.0  # no write for so long, a period and some, counts as settled
PROBE_WAIT_S = 30.0
PERIOD_S = 1.0


@dataclass(slots=True)
class Course:
    """What the demo remembers of its run. Times are unix seconds."""

    start_s: float = 0.0
    end_s: float = 0.0
    quiet: tuple[float, float] | None = None
    spec_changes_s: list[float] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    operator: figures.ProcessMeter = field(default_factory=figures.ProcessMeter)
    operator_wall_s: float = 0.0


class Play:
    """Runs the course. `off` says that Capstan is not there; `kill` that its operator is killed on the way."""

    def __init__(self, stage: Stage, scenario: Scenario, screen: Screen, *, off: bool, kill: bool) -> None:
        self._stage, self._scenario, self._screen = stage, scenario, screen
        self._off = off
        self._kill = kill
        self.course = Course()
        self.cast = ticks.Cast(
            scenario.domains,
            {s.policy.key: s.policy.priority for s in scenario.services},
            {s.policy.key: s.requests.arrival_s.tolist() for s in scenario.services},
        )
        self._idle_cast = dataclasses.replace(self.cast, arrivals_s={})
        self._loaded = False
        self._tally = outcomes.Tally(self.outcomes_file, {s.policy.key: s.policy.slo for s in scenario.services})
        self._truth = outcomes.Tail(self.truth_file)
        self._row: ticks.Row | None = None
        self._told: dict[str, str] = {}
        self._notes: list[str] = []

    @property
    def outcomes_file(self) -> Path:
        """Where the load driver writes."""
        return self._stage.out / "outcomes.jsonl"

    @property
    def truth_file(self) -> Path:
        """Where the simulator writes."""
        return self._stage.folder / "truth.jsonl"

    @property
    def probe(self) -> Policy:
        """The policy whose spec is changed at the end: the one with the most room between its bounds."""
        policies = (service.policy for service in self._scenario.services)
        return max(policies, key=lambda policy: policy.bounds.max_replicas - policy.bounds.min_replicas)

    def run(self) -> Course:
        """Play everything; returns what happened.

        Raises:
            process.ChildError: A process of the rig or of Capstan ended on its own.
        """
        self.course.start_s = time.time()
        if not self._off:
            self._be_quiet()
        self._load()
        if not self._off:
            self._change_spec()
        self._tally.close()
        self._truth.close()
        return self.course

    # --- before the load ---------------------------------------------------------------------------

    def _be_quiet(self) -> None:
        """Wait until Capstan writes nothing more, then watch that it stays so: a figure, not a condition."""
        self._screen.say("Nothing is asked of the service yet: Capstan should write nothing while nothing changes.")
        deadline_s = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline_s and not self._settled():
            self._second("settling")
        since_s = time.time()
        while time.time() < since_s + QUIET_S:
            self._second("nothing changes")
        self.course.quiet = (since_s, time.time())

    def _settled(self) -> bool:
        """Return whether every policy has seen its new pods in Prometheus and Capstan has nothing left to write."""
        starting = any(look.reason == Reason.STARTING for seen in self.course.looks[-1:] for look in seen.policies)
        last_s = audit.last_write_s(probe.writes(self._stage))
        return not starting and last_s is not None and time.time() - last_s >= SETTLED_S

    # --- the trace ---------------------------------------------------------------------------------

    def _load(self) -> None:
        """Play the trace; what is due at a time happens at the first second after it."""
        scenario, course = self._scenario, self.course
        requests = self._stage.folder / "requests.jsonl"
        outcomes.write_requests(scenario.services, requests)
        course.start_s = time.time() + LEAD_S
        self._loaded = True
        self._start_load(requests, course.start_s)
        total = sum(len(s.requests) for s in scenario.services)
        self._screen.say(f"Load: {total:,} requests over {scenario.duration_s:.0f} s, as real HTTP to the pods.")
        due = sorted(scenario.cuts, key=lambda cut: cut.t_s)
        kill_at_s = 0.45 * scenario.duration_s if self._kill else float("inf")
        load = self._stage.control.supervisor.children["load"]
        while load.alive:
            t_s = self._second("load")
            while due and t_s >= due[0].t_s:
                cut = due.pop(0)
                self._cut(cut.domain, cut.budget_w)
            if t_s >= kill_at_s:
                kill_at_s = float("inf")
                self._kill_operator()
        course.end_s = time.time()
        self._stage.forget("load")

    def _start_load(self, requests: Path, start_s: float) -> None:
        argv = [sys.executable, "-m", "rig.load", f"--kubeconfig={self._stage.control.kubeconfig}",
                f"--requests={requests}", f"--out={self.outcomes_file}", f"--start-at={start_s:.3f}",
                f"--drain-seconds={self._scenario.drain_s:g}"]  # fmt: skip
        env = {"PYTHONPATH": str(Path(__file__).parents[2])}
        self._stage.control.supervisor.start("load", argv, env=env)

    def _cut(self, domain: str, budget_w: float) -> None:
        self._screen.say(f"The budget of {domain} is cut to {budget_w / 1e3:.1f} kW:", style="bold")
        self._stage.patch("powerdomain", domain, {"spec": {"budgetWatts": round(budget_w)}})
        self._mark(f"budget of {domain} is now {budget_w / 1e3:.1f} kW")

    def _kill_operator(self) -> None:
        self._screen.say(f"kill -9 of the operator (pid {self._stage.operator_pid}); another one starts.", style="bold")
        self._stage.control.supervisor.signal("operator", signal.SIGKILL)
        self._mark("operator killed with -9 and started again")
        self._stage.control.supervisor.wait_until(lambda: self._stage.operator_pid is None, "operator killed", 5)

    def _mark(self, text: str) -> None:
        self.course.marks.append(Mark(max(time.time() - self.course.start_s, 0.0), text))

    # --- after it ----------------------------------------------------------------------------------

    def _change_spec(self) -> None:
        """Allow one replica less than there are (or demand one more, where only the minimum stands), then undo it."""
        self._screen.say("The trace is over. One change of the spec, not scored: how soon do replicas follow?")
        bounds, now = self.probe.bounds, self._desired()
        asked = {"maxReplicas": now - 1} if now > bounds.min_replicas else {"minReplicas": now + 1}
        since_s = time.time()
        probe.change_bounds(self._stage, self.probe.key, asked)
        rest = functools.partial(self._second, "spec change")
        delay_s = probe.await_scale(self._stage, self.probe.key, since_s=since_s, timeout_s=PROBE_WAIT_S, rest=rest)
        self.course.spec_changes_s += [] if delay_s is None else [delay_s]
        undone = {"minReplicas": bounds.min_replicas, "maxReplicas": bounds.max_replicas}
        probe.change_bounds(self._stage, self.probe.key, undone)

    def _desired(self) -> int:
        """Return the replicas that the probed policy wants now."""
        seen = self.course.looks[-1].policies if self.course.looks else ()
        known = (look.desired for look in seen if look.policy == self.probe.key)
        return next(known, self.probe.bounds.min_replicas)

    # --- every second ------------------------------------------------------------------------------

    def _second(self, phase: str) -> float:
        """Look, show, check that everybody lives, and sleep to the next second; returns seconds since the start."""
        began = time.monotonic()
        now_s = time.time()
        with contextlib.suppress(httpx.HTTPError):  # a look that fails is made again in a second
            self.course.looks.append(looks.take(self._stage.client, now_s))
        self._measure()
        self._show(phase, now_s)
        self._everybody_lives()
        time.sleep(max(PERIOD_S - (time.monotonic() - began), 0.0))
        return time.time() - self.course.start_s

    def _measure(self) -> None:
        pid = self._stage.operator_pid
        if pid is not None:
            self.course.operator.sample(pid)
            self.course.operator_wall_s += PERIOD_S

    def _show(self, phase: str, now_s: float) -> None:
        fresh = ticks.rows(self._truth.lines())
        self._row = fresh[-1] if fresh else self._row
        self._tally.update()
        if self._row is None or not self.course.looks:
            return
        look = self.course.looks[-1]
        tick = ticks.tick(self._row, look, now_s - self.course.start_s, self.cast if self._loaded else self._idle_cast)
        self._note(tick, look)
        scene = Scene(phase, self._scenario.duration_s, tick, look, self._tally.served, self._notes)
        self._screen.show(scene)

    def _note(self, tick: Tick, look: Look) -> None:
        """Keep the last reasons: what changed its word since the last second."""
        words = {p.policy: f"{p.plan} {p.reason}" for p in look.policies if p.plan}
        words |= {d.domain: d.level for d in look.domains}
        for name, word in words.items():
            if self._told.get(name) != word:
                self._told[name] = word
                self._notes.append(f"{tick.t_s:5.0f} s  {name}: {word}")

    def _everybody_lives(self) -> None:
        """Raise for a child that ended on its own; the load may, and a killed operator is started again."""
        supervisor = self._stage.control.supervisor
        for name, child in list(supervisor.children.items()):
            if child.alive or name == "load":
                continue
            if name == "operator" and any("killed" in mark.text for mark in self.course.marks):
                self._stage.start_operator()
                continue
            raise process.ChildError(f"{name} ended; its log ends with:\n{child.tail()}")
