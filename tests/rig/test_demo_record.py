"""From the rig's files to the record: looks, truth, outcomes, joined by hand-made examples."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capstan import decide
from capstan.model.policy import Priority
from capstan.model.reasons import Reason
from capstan.model.slo import Slo
from capstan.powercap.domains import Domain
from capstan.replay.runs import Requests
from capstan.replay.scenario import Scenario
from capstan.replay.scores import score
from capstan.replay.seen import Service, Want
from rig.demo import collect, looks, outcomes, series, ticks
from rig.demo.play import Course
from rig.demo.ticks import Cast
from rig.demo.view import Served
from rig.load import driver
from support import builders

RACK = Domain(
    "rack-7",
    20_000,
    nodes=("gpu-0", "gpu-1"),
    non_gpu_typical_w=2800,
    non_gpu_worst_w=4600,
    supply_efficiency_ratio=0.94,
)
CAST = Cast((RACK,), {"llm/chat": Priority.HIGH, "llm/batch": Priority.LOW}, {"llm/chat": (1.0, 2.0, 12.0)})


def serving_policy(name: str = "chat", /, **status: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "llm", "name": name}, "spec": {}, "status": status}


def deployment(name: str = "chat", replicas: int = 3, tp: int = 4) -> dict[str, Any]:
    labels = {"capstan.dev/policy": name, "capstan.dev/tensor-parallel": str(tp)}
    return {
        "metadata": {"namespace": "llm", "name": f"{name}-tp{tp}", "labels": labels},
        "spec": {"replicas": replicas},
    }


def power_domain(name: str = "rack-7", budget: int = 20_000, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"budgetWatts": budget}, "status": status}


def node_cap(**caps: int) -> dict[str, Any]:
    return {"metadata": {"name": "gpu-0"}, "spec": {"power": {"caps": caps}}}


PLANNED = {
    "plan": {
        "summary": "3xtp4@1410MHz",
        "replicasReason": "NoChangeNeeded",
        "clockReason": "LeastEnergy",
        "pools": [{"name": "all", "tensorParallel": 4, "replicas": 3, "clockMegahertz": 1410}],
    },
    "expected": {"powerWatts": 4200},
    "conditions": [{"type": "SLOMet", "status": "True", "reason": "Met"}],
}


def look(
    policies: list[Any] | None = None, domains: list[Any] | None = None, caps: list[Any] | None = None
) -> looks.Look:
    return looks.of(100.0, policies or [], domains or [], caps or [], [deployment(), deployment("batch", 1, 1)])


def truth(t: float = 105.0, *, energy_j: float = 9000.0, unassigned_j: float = 50.0, **nodes_w: float) -> str:
    """One line of the simulator's file."""
    nodes = {n.replace("_", "-"): {"gpus_w": w - 1, "gpus_w_max": w} for n, w in (nodes_w or {"gpu_0": 3000.0}).items()}
    chat = {"gpus_w": 2500.0, "gpus_w_max": 2600.0, "energy_j": energy_j, "ready": 3, "starting": 0, "draining": 0,
            "running": 21, "waiting": 2, "clock_mhz": 1410.0}  # fmt: skip
    return json.dumps({"t": t, "nodes": nodes, "policies": {"llm/chat": chat}, "unassigned_j": unassigned_j}) + "\n"


def row(t: float = 105.0, **nodes_w: float) -> ticks.Row:
    (only,) = ticks.rows([truth(t, **nodes_w)])
    return only


# --- a look ------------------------------------------------------------------------------------------


def test_a_look_says_what_status_and_workload_say() -> None:
    (batch, chat) = look([serving_policy(**PLANNED)]).policies
    assert (chat.desired, chat.tp, chat.plan, chat.plan_cap_mhz, chat.expected_w) == (3, 4, "3xtp4@1410MHz", 1410, 4200)
    assert (chat.reason, chat.slo) == ("LeastEnergy", "Met"), "the clock's reason tells more than NoChangeNeeded"
    assert (batch.policy, batch.desired, batch.reason) == ("llm/batch", 1, "KnobOff"), "no policy object: nobody plans"


@pytest.mark.parametrize(
    ("replicas_reason", "clock_reason", "told"),
    [
        ("ForecastPeak", "LeastEnergy", "ForecastPeak"),
        ("NoChangeNeeded", "LeastEnergy", "LeastEnergy"),
        ("NoChangeNeeded", "NoChangeNeeded", "NoChangeNeeded"),
        ("", "", "Unknown"),
    ],
    ids=["replicas moved", "only the clock moved", "nothing moved", "a plan without words"],
)
def test_the_reason_that_tells_more_is_shown(replicas_reason: str, clock_reason: str, told: str) -> None:
    plan = {"summary": "x", "replicasReason": replicas_reason, "clockReason": clock_reason, "pools": []}
    assert look([serving_policy(plan=plan)]).policies[1].reason == told


def test_a_domain_without_status_is_disarmed_and_the_lowest_cap_of_any_node_counts() -> None:
    seen = look([], [power_domain()], [node_cap(lowMegahertz=1785), node_cap(lowMegahertz=1560, highMegahertz=1830)])
    (rack,) = seen.domains
    assert (rack.level, rack.budget_w, rack.low_cap_mhz, rack.high_cap_mhz) == ("Disarmed", 20_000, 1560, 1830)


# --- the join ----------------------------------------------------------------------------------------


def test_the_true_draw_is_gpus_and_the_rest_of_every_node_behind_the_supplies() -> None:
    tick = ticks.tick(row(gpu_0=3000.0, gpu_1=1000.0), look([], [power_domain(state="Normal")]), 5.0, CAST)
    # (3,000 + 1,000 + 2 x 2,800) / 0.94 = 10,212.8 W: the 100 ms maxima, not the means
    assert tick.domains[0].draw_w == pytest.approx(9600 / 0.94)


def test_each_priority_feels_its_own_cap_and_the_tighter_of_plan_and_cap() -> None:
    caps = [node_cap(lowMegahertz=1110, highMegahertz=1305)]
    tick = ticks.tick(row(), look([serving_policy(**PLANNED)], [power_domain(state="HighCap")], caps), 5.0, CAST)
    batch, chat = tick.policies
    assert (batch.clock_cap_mhz, chat.clock_cap_mhz) == (1110, 1305)  # chat's plan is 1410
    assert (chat.replicas_desired, chat.replicas_ready, chat.running, chat.waiting) == (3, 3, 21, 2)
    assert chat.reason is Reason.LEAST_ENERGY


def test_a_tick_takes_the_newest_look_that_is_not_younger_than_its_row() -> None:
    early, late = look([], [power_domain(budget=20_000)]), look([], [power_domain(budget=15_000)])
    late = looks.Look(103.0, late.policies, late.domains)
    joined = ticks.join([row(99.0), row(102.9), row(103.1)], [early, late], 100.0, CAST)
    assert [(round(t.t_s, 1), t.domains[0].budget_w) for t in joined] == [(2.9, 20_000), (3.1, 15_000)]


def test_a_line_still_being_written_is_left_out() -> None:
    assert ticks.rows(['{"t": 1, "nod']) == []


def test_arrivals_are_a_mean_over_ten_seconds() -> None:
    arrivals_s = tuple(float(s) for s in range(1, 21))  # one a second
    assert ticks.rate_rps(arrivals_s, 20.0) == 1.0
    assert ticks.rate_rps(arrivals_s, 4.0) == 1.0, "early on the window is what there is"
    assert ticks.rate_rps((), 20.0) == 0.0


# --- outcomes ----------------------------------------------------------------------------------------


def outcome_line(
    number: int, first_s: float | None = 1.0, finish_s: float | None = 2.0, policy: str = "llm/chat"
) -> str:
    said = {"policy": policy, "id": number, "arrival_s": 0.5, "prompt_tokens": 100, "output_tokens": 11,
            "first_s": first_s, "finish_s": finish_s, "pod": "p", "retries": 0, "error": None}  # fmt: skip
    return json.dumps(said) + "\n"


def test_the_tally_counts_while_the_driver_writes(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    tally = outcomes.Tally(path, {"llm/chat": Slo(2.0, 0.11)})
    tally.update()
    assert str(tally.served["llm/chat"]) == "no request yet"
    half = outcome_line(2)
    with path.open("w") as out:
        out.write(outcome_line(0) + outcome_line(1, finish_s=None) + half[:20])
        out.flush()
        tally.update()
        assert tally.served["llm/chat"] == Served(2, 1)
        out.write(half[20:])
        out.flush()
        tally.update()
    assert tally.served["llm/chat"] == Served(3, 2)
    tally.close()


CHAT = Service(
    policy=builders.policy(),
    profiles=(builders.profile(),),
    start=Want(builders.CHAT, 4, 1),
    most_gpus=16,
    requests=Requests(np.array([0.5, 1.5, 2.5]), np.array([100, 101, 102]), np.array([11, 11, 11])),
)


def test_every_planned_request_has_an_outcome_and_one_that_was_never_reported_is_unserved() -> None:
    found = outcomes.complete([CHAT], [outcome_line(2, 3.0, 4.0), outcome_line(0), outcome_line(9, policy="llm/ghost")])
    made = found["llm/chat"]
    assert list(found) == ["llm/chat"]
    assert made.requests.arrival_s.tolist() == [0.5, 1.5, 2.5]
    assert made.requests.prompt_tokens.tolist() == [100, 101, 102]
    np.testing.assert_array_equal(made.first_s, [1.0, math.nan, 3.0])
    np.testing.assert_array_equal(made.finish_s, [2.0, math.nan, 4.0])
    assert np.isnan(made.max_tbt_s).all(), "the driver notes no single tokens"


def test_a_request_that_ends_twice_is_a_broken_record() -> None:
    with pytest.raises(ValueError, match="request 1 of llm/chat has two outcomes"):
        outcomes.complete([CHAT], [outcome_line(1), outcome_line(1, finish_s=9.0)])


def test_the_driver_reads_what_the_demo_writes(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    outcomes.write_requests([CHAT], path)
    planned = driver.read(path.read_text().splitlines())
    assert [(r.policy, r.id, r.t, r.prompt_tokens, r.output_tokens) for r in planned] == [
        ("llm/chat", 0, 0.5, 100, 11),
        ("llm/chat", 1, 1.5, 101, 11),
        ("llm/chat", 2, 2.5, 102, 11),
    ]


# --- the run -----------------------------------------------------------------------------------------


def test_ticks_become_columns() -> None:
    seen = look([serving_policy(**PLANNED)], [power_domain(state="Normal")], [node_cap()])
    joined = ticks.join([row(105.0), row(106.0)], [seen], 100.0, CAST)
    chat, batch = (series.of_service(joined, policy) for policy in ("llm/chat", "llm/batch"))
    assert (chat.t_s.tolist(), chat.gpus_w.tolist(), chat.gpus.tolist()) == ([5.0, 6.0], [2500.0] * 2, [12, 12])
    assert (chat.clock_cap_mhz.tolist(), chat.expected_w.tolist()) == ([1410.0] * 2, [4200.0] * 2)
    assert chat.reason.tolist() == ["LeastEnergy"] * 2
    assert np.isnan(batch.clock_cap_mhz).all(), "no cap"
    rack = series.of_domain(joined, "rack-7")
    assert rack.budget_w.tolist() == [20_000.0] * 2
    assert rack.draw_w == pytest.approx((3000 + 5600) / 0.94)
    assert series.gpu_seconds(chat) == 12.0
    assert (series.changes(chat.clock_cap_mhz), series.changes(batch.clock_cap_mhz)) == (0, 0)


def test_a_cap_that_comes_and_goes_are_two_changes() -> None:
    assert series.changes(np.array([math.nan, math.nan, 1410.0, 1410.0, math.nan])) == 2


def test_the_record_is_scored_from_the_first_arrival_to_the_last_completion(tmp_path: Path) -> None:
    """Truth from 99 to 140 s; the run starts at 100 s, lasts 20 s by its trace, and its last answer ends at 30 s."""
    lines = [truth(float(t), energy_j=1000.0 * t, unassigned_j=10.0 * t) for t in range(99, 141)]
    files = collect.Files(tmp_path / "truth.jsonl", tmp_path / "outcomes.jsonl")
    files.truth.write_text("".join(lines))
    files.outcomes.write_text(outcome_line(0) + outcome_line(1, 2.0, 30.0))
    course = Course(start_s=100.0, looks=[look([serving_policy(**PLANNED)], [power_domain(state="Normal")])])
    found = collect.record(scenario(), course, CAST, system="capstan", files=files)
    (chat,) = found.run.services
    assert found.run.duration_s == 30.0
    # rows from 99 s (the one before) to 132 s (30 s after the start, and the meter's tail of 2 s): 33 of 1,000 J
    assert (chat.energy.total_j, found.run.energy_unassigned_j) == (33_000.0, 330.0)
    assert len(chat.series.t_s) == len(found.ticks) == 33
    scored = score.of(found.run)
    assert (scored.overall.arrived, scored.overall.completed, scored.budget_held) == (3, 2, True)
    assert chat.profiles == ("test-tp4 (not fitted, clock response assumed)",)


def scenario() -> Scenario:
    settings = decide.Settings()
    return Scenario(
        name="test",
        nodes=(),
        services=(CHAT,),
        truths=(CHAT.profiles,),
        domains=(RACK,),
        settings=settings,
        startup_s=8.0,
        telemetry_s=5.0,
        duration_s=20.0,
        drain_s=30.0,
    )
