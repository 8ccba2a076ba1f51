"""A domain and its plant through any life: load, silence, cuts, restarts, deaf and new nodes. Every second is judged.

What may happen is a rule; what must hold is in `_second`. Facts: polca.md 5.3-5.5, DESIGN 2.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from capstan.powercap import readings, safety
from capstan.powercap.domains import (
    LADDER,
    ClassCaps,
    DomainMemory,
    Level,
    NodeSample,
    Scheme,
    Step,
    Timers,
    tightest,
)
from support import power
from support.plant import GPUS, MIN_LIMIT_W, WORST_W, Plant
from support.power import step

BEHIND_S = 10  # P1
BUDGET_W = 36_000.0
NODE = st.sampled_from(power.NODES)


def described(nodes: tuple[str, ...]) -> readings.Samples:
    """What the nodes could draw, whatever they do."""
    rows = [NodeSample(node, power.GONE, worst_case_w=WORST_W, gpus=GPUS, min_limit_w=MIN_LIMIT_W) for node in nodes]
    return readings.of(rows)


class Life(RuleBasedStateMachine):
    """One domain of four nodes and a budget that fits N-1; what it draws is the plant's."""

    def __init__(self) -> None:
        super().__init__()
        self.second = 0
        self.above_s = 0
        self.settled_s = 0  # since armed, cut or joined by a node: P1 counts from here
        self.memory = DomainMemory(level=Level.NORMAL)
        self.last: Step | None = None

    @initialize(scheme=st.sampled_from(Scheme), latency_s=st.integers(1, 3))
    def _begin(self, scheme: Scheme, latency_s: int) -> None:
        base = power.domain(
            budget_w=BUDGET_W, non_gpu_typical_w=2800, non_gpu_worst_w=2800, supply_efficiency_ratio=0.94,
            scheme=scheme, timers=Timers(dwell_s=5, brake_hold_s=5, spread_ratio=0.0),
        )  # fmt: skip
        self.domain = dataclasses.replace(base, safe=safety.admit(base, described(base.nodes)).safe)
        self.plant = Plant(self.domain, latency_s=latency_s)
        self.plant.draw_at(0.5)
        self.tick(2)

    # --- what may happen ---------------------------------------------------------------------------

    @rule(seconds=st.integers(1, 20))
    def tick(self, seconds: int) -> None:
        for _ in range(seconds):
            self._second()

    @rule(ratio=st.floats(0.35, 1.15))
    def load_steps(self, ratio: float) -> None:
        self.plant.draw_at(ratio)
        self.tick(3)

    @rule(node=NODE, share=st.floats(0.0, 1.0))
    def one_node_loads(self, node: str, share: float) -> None:
        self.plant.demand_w[node] = share * WORST_W
        self.tick(2)

    @rule(nodes=st.sets(NODE, min_size=1), seconds=st.sampled_from([1, 3, 8, 60]))
    def samples_are_lost(self, nodes: set[str], seconds: int) -> None:
        self.plant.unheard = set(nodes)
        self.tick(seconds)
        self.plant.unheard = set()

    @rule(node=NODE, seconds=st.integers(1, 30))
    def a_node_goes_deaf(self, node: str, seconds: int) -> None:
        self.plant.deaf = {node}
        self.tick(seconds)
        self.plant.deaf = set()

    @precondition(lambda self: self.domain.armed)
    @rule(share=st.sampled_from([0.6, 0.1]), seconds=st.integers(1, 30))
    def the_budget_is_cut_below_the_safe_sum(self, share: float, seconds: int) -> None:
        """To Brake at once, and it stays armed; no sample is needed for that."""
        assert self.domain.safe is not None
        safe_w = safety.safe_sum_w(self.domain, described(self.domain.nodes), self.domain.safe)
        self._declare(budget_w=share * safe_w)
        for _ in range(seconds):
            self._second()
            assert self.memory.level is Level.BRAKE
        self._declare(budget_w=BUDGET_W)

    @rule()
    def the_controller_restarts_with_the_level_alone(self) -> None:
        """As `power.cycle` restores: a brake that nodes still hold is the floor. Nothing is loosened."""
        before = self.last
        assert before is not None
        floor = Level.BRAKE if before.memory.floor is Level.BRAKE else Level.HIGH_CAP
        now_s = float(self.second)
        self.memory = DomainMemory(before.level, since_s=now_s, floor=floor)
        self._second()
        if self.domain.armed and before.level is not Level.DISARMED:
            assert tightest(self.last.caps, before.caps) == self.last.caps  # type: ignore[union-attr]  # just stepped

    @precondition(lambda self: self.domain.armed and len(self.domain.nodes) == len(power.NODES))
    @rule()
    def a_node_joins_and_leaves(self) -> None:
        """At first nobody can describe it; its watts count in full, and the safe sum may no longer fit."""
        self._declare(nodes=(*power.NODES, "n5"))
        self.plant.unheard = {"n5"}
        self.plant.demand_w["n5"] = 0.8 * WORST_W
        self.tick(3)
        assert self.memory.level in (Level.FAIL_SAFE, Level.BRAKE)
        self.plant.unheard = set()
        self.tick(10)
        self._declare(nodes=power.NODES)

    @rule(seconds=st.integers(1, 10))
    def it_is_released_and_armed_again(self, seconds: int) -> None:
        self._declare(armed=False)
        for _ in range(seconds):
            self._second()
            assert (self.memory.level, self.last.caps) == (Level.DISARMED, ClassCaps())  # type: ignore[union-attr]
        self._declare(armed=True)

    # --- what must hold ----------------------------------------------------------------------------

    def _declare(self, **changes: Any) -> None:
        self.domain = dataclasses.replace(self.domain, **changes)
        self.plant.domain = self.domain
        self.settled_s = self.second

    def _second(self) -> None:
        self.second += 1
        self.plant.now_s = float(self.second)
        samples = self.plant.samples()
        confirmed = self.last is not None and self.plant.in_force(self.last.caps)
        done = step(self.domain, samples, self.memory, self.plant.now_s, confirmed=confirmed)
        self._power()
        self._acts_at_once(done)
        self._ordered(done.caps)
        if done.missing and self.last is not None and self.domain.armed:
            assert tightest(done.caps, self.last.caps) == done.caps, "I5: loosened on a tick that misses a node"
        self.memory, self.last = done.memory, done
        self.plant.order(done.caps)

    def _power(self) -> None:
        """P1: ten seconds, where the safe setting with one node lost reaches the budget."""
        domain = self.domain
        assert domain.safe is not None
        reachable = safety.lost_node_w(domain, described(domain.nodes), domain.safe) <= domain.budget_w
        counts = domain.armed and reachable and self.second > self.settled_s
        self.above_s = self.above_s + 1 if counts and self.plant.draw_w() > domain.budget_w else 0
        assert self.above_s <= BEHIND_S, "P1: above the budget for more than ten seconds"

    def _acts_at_once(self, done: Step) -> None:
        """I3, I4, and armed is left by a release alone."""
        assert (done.level is Level.DISARMED) == (not self.domain.armed)
        if done.level is Level.FAIL_SAFE or not self.domain.armed:
            return
        ratio, at, rank = done.utilisation_ratio, self.domain.thresholds, LADDER.index(done.level)
        assert ratio < at.brake_ratio or done.level is Level.BRAKE
        if self.domain.scheme is not Scheme.NO_CAP:
            assert ratio < at.high_ratio or rank >= LADDER.index(Level.LOW_DEEP)
        if self.domain.scheme is Scheme.TWO_THRESHOLDS:
            assert ratio < at.low_ratio or rank >= LADDER.index(Level.LOW_BASE)

    def _ordered(self, sent: ClassCaps) -> None:
        """I2, I8: caps are the domain's own, low is never above high, a limit is the safe one."""
        caps, safe = self.domain.caps, self.domain.safe
        assert sent.low_mhz in (None, caps.low_base_mhz, caps.low_deep_mhz, caps.brake_mhz)
        assert sent.high_mhz in (None, caps.high_mhz, caps.low_deep_mhz, caps.brake_mhz)
        assert sent.power_limit_w in (None, safe.power_limit_w if safe else None)
        if sent.high_mhz is not None:
            assert sent.low_mhz is not None
            assert sent.low_mhz <= min(sent.high_mhz, caps.low_deep_mhz)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=30, stateful_step_count=15)


def test_the_safe_setting_of_this_rack_holds_with_one_node_lost() -> None:
    """The lives above are about something: the limit is below what boards may draw, and N-1 fits."""
    domain = power.domain(budget_w=BUDGET_W, non_gpu_worst_w=2800, supply_efficiency_ratio=0.94)
    found = safety.admit(domain, described(domain.nodes))
    assert found.fits
    assert found.safe.power_limit_w < WORST_W / GPUS
