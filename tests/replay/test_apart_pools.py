"""Prefill and decode apart in the world: who gets requests and hands them over, and what the shipped decision makes."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest

from capstan.journal import record
from capstan.model import plan
from capstan.model.fleet import Observed
from capstan.model.policy import Bounds, Knob, Knobs, Policy, Pools
from capstan.model.slo import Slo
from capstan.model.workload import Phase
from capstan.replay import configured, engine, kernel, load, verify
from capstan.replay.nodes import Node, Seats
from capstan.replay.pool import Pool, pool_count
from capstan.replay.runs import Requests, Run, ServiceRun
from capstan.replay.scenario import Scenario
from capstan.replay.scores import score
from capstan.replay.seen import Seen, Want
from capstan.replay.systems import Capstan
from support import builders, small
from support.small import KEY

EVERYTHING = Knobs(replicas=Knob.ACT, tensor_parallel=Knob.ACT, clock=Knob.ACT)
TIERED = Slo(2.0, 0.1, 0.99, ((256, 0.25), (1024, 0.4)))
APART = Pools(phases_apart=True)

# --- wants to a world --------------------------------------------------------------------------------


def pool(requests: Requests) -> Pool:
    """One replica that serves everything, on two servers of eight; the kernel runs uncompiled."""
    world = kernel.World(requests, small.BOTH, slots=8, end_s=500.0, pools=pool_count(1), compile_it=False)
    seats = Seats(tuple(Node(f"gpu-{i}", 8, builders.H100) for i in range(2)))
    made = Pool(world, small.BOTH, seats, startup_s=30.0)
    made.start_ready([Want(KEY, 4, 2)], 0.0)
    return made


def phase(which: Phase, replicas: int = 1, **more: Any) -> Want:
    return dataclasses.replace(Want(KEY, 4, replicas, pool=which, phase=which), **more)


def at(made: Pool, lane: str) -> list[int]:
    """Requests inside each replica of a pool."""
    rows = made.world.replicas
    return [int(rows[pod.slot]["running"] + rows[pod.slot]["waiting"]) for pod in made.pods if pod.lane == lane]


def alike(count: int, from_s: float, gap_s: float, prompt: int = 300, output: int = 30) -> Requests:
    arrival_s = np.linspace(from_s, from_s + gap_s * (count - 1), count)
    return Requests(arrival_s, np.full(count, prompt), np.full(count, output))


def test_labels_part_the_pool_at_once_and_every_request_from_then_on_passes_both() -> None:
    made = pool(alike(20, 10.0, 0.5))
    made.scale([phase(Phase.PREFILL), phase(Phase.DECODE)], 5.0)
    assert made.counts() == (2, 0, 0), "nothing starts, nothing stops"
    made.world.advance(60.0)
    assert made.world.handed == 20
    assert made.world.unfinished == 0
    made.world.check()


def test_what_was_in_hand_when_they_parted_ends_where_it_is() -> None:
    made = pool(alike(4, 1.0, 0.01, output=400))
    made.world.advance(3.0)
    inside = sum(at(made, "all"))
    made.scale([phase(Phase.PREFILL), phase(Phase.DECODE)], 3.0)
    assert inside == 4
    made.world.advance(200.0)
    assert (made.world.handed, made.world.unfinished) == (0, 0)


def test_each_pool_has_its_own_clock() -> None:
    made = pool(alike(1, 400.0, 1.0))
    made.scale([phase(Phase.PREFILL, clock_cap_mhz=1500.0), phase(Phase.DECODE, clock_cap_mhz=495.0)], 5.0)
    made.cap(5.0)
    asked = {pod.lane: made.world.replicas[pod.slot]["asked_ratio"] for pod in made.pods}
    assert asked == {"prefill": pytest.approx(1500 / 1980), "decode": 0.25}


def test_without_a_ready_prefill_replica_the_others_compute_prompts_themselves() -> None:
    made = pool(alike(10, 10.0, 1.0))
    made.scale([phase(Phase.PREFILL), phase(Phase.DECODE)], 5.0)
    lost = next(pod for pod in made.pods if pod.lane == "prefill")
    made.world.lose(lost.slot, 6.0)
    made.world.advance(30.0)
    assert (made.world.handed, made.world.unfinished) == (0, 0)


def test_without_a_ready_decode_replica_what_was_computed_waits_for_one() -> None:
    made = pool(alike(3, 10.0, 1.0))
    made.scale([phase(Phase.PREFILL, 2), phase(Phase.DECODE)], 5.0)
    lost = next(pod for pod in made.pods if pod.lane == "decode")
    made.world.lose(lost.slot, 6.0)
    made.settle(6.0)
    made.world.advance(20.0)
    assert (made.world.handed, made.world.unrouted, made.world.finished_count) == (3, 3, 0)
    made.world.advance(50.0)
    assert made.world.unfinished == 0


# --- the shipped decision ----------------------------------------------------------------------------


def scenario(pools: Pools) -> Scenario:
    """Five minutes of 6 rps on three servers that begin with three replicas, under limits by prompt length."""
    base = small.scenario(small.requests(1800, 6.0), replicas=3, servers=3)
    bounds = Bounds(2, 6, tensor_parallel=(4, 8))
    policy: Policy = dataclasses.replace(
        base.services[0].policy, slo=TIERED, bounds=bounds, knobs=EVERYTHING, pools=pools
    )
    return dataclasses.replace(base, services=(dataclasses.replace(base.services[0], policy=policy),))


class Noting(Capstan):
    """Capstan that keeps what it saw and decided, as the live loop's recorder does."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.cycles: list[record.Cycle] = []

    def decide(self, seen: Seen) -> plan.Decision:
        before = self._memory
        decision = super().decide(seen)
        services = tuple(self._observed(service, seen) for service in seen.services)
        observed = Observed(seen.now_s, services, self._gpus())
        self.cycles.append(record.Cycle(observed, self._policies, self._profiles, self._settings, decision, before))
        return decision


@functools.cache
def played(*, apart: bool) -> tuple[Noting, Run]:
    made = scenario(APART if apart else Pools())
    system = Noting(made.policies, made.profiles, made.settings, delay_s=made.telemetry_s)
    return system, engine.run(made, system)


def service() -> ServiceRun:
    return played(apart=True)[1].services[0]


def test_both_limits_hold_and_nobody_is_lost() -> None:
    found = score.of(played(apart=True)[1]).overall
    assert found.attainment_ratio is not None
    assert found.attainment_ratio >= 0.99
    assert np.isfinite(service().outcomes.finish_s).all()


def test_decode_runs_at_a_lower_clock_than_prefill_and_both_always_serve() -> None:
    prefill, decode = service().lanes
    assert (prefill.pool, decode.pool) == ("prefill", "decode")
    settled = prefill.t_s > 100.0
    prefill_mhz = np.nan_to_num(prefill.clock_cap_mhz[settled], nan=small.TP4.clocks.max_mhz)
    assert np.nanmax(decode.clock_cap_mhz[settled]) < prefill_mhz.min()
    assert prefill.replicas_ready.min() >= 1
    assert decode.replicas_ready.min() >= 1


def test_the_bill_is_of_both_pools() -> None:
    """Every GPU of both is in the run's watts: at least idle ones for the GPU-seconds of the two lanes."""
    found = service()
    lanes_gpu_s = sum(float((lane.tp * lane.replicas_ready)[:-1] @ np.diff(lane.t_s)) for lane in found.lanes)
    assert found.energy.serving_j + found.energy.idle_j > lanes_gpu_s * small.TP4.draw.loaded_idle_w
    assert found.gpu_seconds >= lanes_gpu_s
    assert (found.series.gpus <= 24).all()


def test_it_is_no_split_by_class_so_that_nobody_was_told_apart() -> None:
    assert service().routed is None
    assert all(lane.classes == () for lane in service().lanes)


def test_decisions_apart_are_recorded_and_decided_again_the_same() -> None:
    """Line by line as `capstan replay verify` does: phases are in the plans, in the policy, and in what was seen."""
    lines = [record.start_line("one", "test")]
    hashes = []
    for each in played(apart=True)[0].cycles[0].profiles:
        digest, line = record.profile_line(each)
        hashes.append(digest)
        lines.append(line)
    told = record.Hashes(tuple(hashes))
    cycles = played(apart=True)[0].cycles
    lines += [record.cycle_line(cycle, told, writer="one", checkpoint=index == 0) for index, cycle in enumerate(cycles)]
    assert '"phase":"decode"' in lines[-1]
    found = verify.of_lines(lines)
    assert found.first is None, str(found.first)
    assert found.equal == found.decisions == len(cycles)


def test_the_shipped_system_parts_any_policy() -> None:
    """`--systems disaggregated`, whatever the policy's own scheme; one-pool takes it back."""
    base = scenario(Pools(by_class=True, count=2)).services[0].policy
    shipped = configured.shipped(load.SHIPPED / "systems")
    assert configured.set_up(base, shipped["disaggregated"]).pools == APART
    assert configured.set_up(dataclasses.replace(base, pools=APART), shipped["one-pool"]).pools == Pools()
    assert configured.set_up(dataclasses.replace(base, pools=APART), shipped["pools-9"]).pools.count == 9


def test_sized_for_the_peak_each_phase_begins_with_its_own() -> None:
    made = scenario(Pools())
    first = made.services[0].policy.pools.edges.whole()
    wants = configured.at_peak(made.services[0], dataclasses.replace(made.services[0].policy, pools=APART), first)
    assert [(want.pool, want.phase, want.tp, want.classes) for want in wants] == [
        ("prefill", Phase.PREFILL, 8, ()),
        ("decode", Phase.DECODE, 8, ()),
    ]
    assert all(want.replicas >= 1 for want in wants)
