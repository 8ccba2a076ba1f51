"""The demo's figures: what the audit log says of writes and delays, what /proc says of a process, what is printed."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from capstan.model.reasons import Reason
from capstan.replay.scores import score
from rig import bench
from rig.demo import audit, figures, manifests, promql, ticks, view
from rig.demo.looks import Look, PolicyLook
from support import report as made

OPERATOR = audit.OURS + "capstan-operator"


def event(
    at_s: float, user: str, verb: str, resource: str, name: str = "chat-tp4", *, sub: str = "", code: int = 200
) -> str:
    seconds = f"2026-01-01T00:00:{at_s:09.6f}Z"
    ref = {"resource": resource, "namespace": "llm", "name": name} | ({"subresource": sub} if sub else {})
    return (
        json.dumps(
            {
                "stage": "ResponseComplete",
                "verb": verb,
                "user": {"username": user},
                "objectRef": ref,
                "responseStatus": {"code": code},
                "requestReceivedTimestamp": seconds,
                "stageTimestamp": seconds,
            }
        )
        + "\n"
    )


def writes(*lines: str) -> list[audit.Write]:
    return audit.read(lines)


def second(at_s: float) -> float:
    return writes(event(at_s, "x", "patch", "pods"))[0].received_s


def test_leases_and_other_peoples_writes_are_not_ours() -> None:
    seen = writes(
        event(1, OPERATOR, "update", "leases", "capstan-operator"),
        event(2, "system:kube-scheduler", "create", "pods", sub="binding"),
        event(3, OPERATOR, "patch", "servingpolicies", "chat", sub="status"),
        event(9, OPERATOR, "patch", "nodecaps", "gpu-0"),
    )
    assert [w.resource for w in audit.quiet_writes(seen, second(0), second(5))] == ["servingpolicies/status"]
    assert audit.last_write_s(seen) == second(9)


def test_the_delay_runs_from_the_answer_to_the_scale_write_that_follows() -> None:
    seen = writes(
        event(0.5, OPERATOR, "update", "deployments", sub="scale"),
        event(1, audit.PROBE, "patch", "servingpolicies", "chat"),
        event(1.25, OPERATOR, "update", "deployments", sub="scale"),
        event(3, audit.PROBE, "patch", "servingpolicies", "chat", code=422),
        event(3.1, audit.PROBE, "patch", "servingpolicies", "chat"),
        event(3.2, OPERATOR, "update", "deployments", "batch-tp1", sub="scale"),
        event(3.3, OPERATOR, "update", "deployments", sub="scale", code=409),
        event(3.6, OPERATOR, "update", "deployments", sub="scale"),
    )
    assert audit.spec_to_scale_s(seen, "llm/chat", since_s=second(0)) == pytest.approx(0.25)
    # neither a refused change nor batch's write nor a refused write of ours counts: 3.6 - 3.1
    assert audit.spec_to_scale_s(seen, "llm/chat", since_s=second(2)) == pytest.approx(0.5)
    assert audit.spec_to_scale_s(seen, "llm/chat", since_s=second(4)) is None


def test_a_policy_whose_name_begins_like_another_is_not_it() -> None:
    seen = writes(event(1, OPERATOR, "update", "deployments", "chat-tp4-long-tp4", sub="scale"))
    assert audit.scale_writes(seen, "llm/chat") == []


def test_a_half_written_line_of_the_log_is_left_out() -> None:
    assert writes(event(1, OPERATOR, "patch", "pods"), '{"stage": "Resp') != []
    assert audit.first_plan_s(writes()) is None


def test_a_process_is_measured_by_proc_and_survives_its_end() -> None:
    meter = figures.ProcessMeter()
    meter.sample(os.getpid())
    meter.sample(2**22 + 1)  # above the kernel's largest pid: nobody
    assert meter.peak_rss_bytes > 10 * 2**20
    assert meter.cpu_s > 0


@pytest.mark.parametrize(
    ("values", "ratio", "expected"),
    [([], 0.99, None), ([3.0], 0.99, 3.0), ([float(i) for i in range(1, 101)], 0.99, 99.0)],
)
def test_nearest_rank(values: list[float], ratio: float, expected: float | None) -> None:
    assert figures.quantile(values, ratio) == expected


def test_the_bench_prints_the_last_record_with_its_age_and_what_was_not_measured(tmp_path: Path) -> None:
    record = tmp_path / "figures.json"
    assert "run `make demo`" in bench.last_demo(record)[0]
    measured = {"quiet_writes_per_minute": 0.0, "spec_change_to_scale_s": None}
    figures.write(record, measured, {"spec_change_to_scale_s": "none came"}, root=tmp_path, at="2026-01-01T00:00:00Z")
    lines = bench.last_demo(record)
    assert lines[0].startswith("demo: 0:00:0")
    assert lines[1].split() == ["quiet_writes_per_minute", "0"]
    assert lines[2].endswith("not measured (none came)")


def test_the_bench_reads_pytests_record(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    assert "run `make test`" in bench.last_test(path)
    path.write_text('<testsuites><testsuite tests="7" failures="1" errors="1" skipped="2" time="12.4"/></testsuites>')
    assert bench.last_test(path).startswith("tests: 7 in 12 s, 2 skipped, 2 failed; ")


def test_the_delays_are_told_in_one_line() -> None:
    assert "none of 20" in bench.told("spec change", [], 20)
    assert "p50 0.200 s, p99 0.300 s" in bench.told("spec change", [0.1, 0.2, 0.3], 20)


def test_prometheus_away_is_a_missing_figure() -> None:
    assert promql.first_rise_s("http://127.0.0.1:9", pod_prefix="chat-tp", since_s=0, until_s=10) is None


# --- what is shown -----------------------------------------------------------------------------------


def tick(t_s: float = 10.0) -> ticks.Tick:
    chat = ticks.PolicyTick(made.CHAT, 4.0, 3, 3, 0, 0, 4, 1410.0, 4200.0, 30, 1, Reason.LEAST_ENERGY)
    return ticks.Tick(t_s, (chat,), (ticks.DomainTick(made.RACK, 7000.0, 14_000.0, "Normal"),))


def scene(t_s: float = 10.0) -> view.Scene:
    look = Look(0.0, (PolicyLook(made.CHAT, 3, 4, "LeastEnergy", "3xtp4@1410MHz", "Met"),))
    served = {made.CHAT: view.Served(200, 199)}
    return view.Scene("load", 240.0, tick(t_s), look, served, ["   10 s  llm/chat: 3xtp4"])


def test_without_a_terminal_a_line_is_printed_every_five_seconds() -> None:
    out = io.StringIO()
    with view.Screen(Console(file=out, width=300)) as screen:
        for t_s in (10, 11, 14, 15, 16):
            screen.show(scene(float(t_s)))
    assert out.getvalue().count("\n") == 2
    assert "\x1b" not in out.getvalue()
    assert "llm/chat" in out.getvalue()
    assert "99.5 % of 200" in out.getvalue()


def test_the_panel_shows_watts_plans_and_the_last_reasons() -> None:
    out = io.StringIO()
    Console(file=out, width=140, force_terminal=True, color_system=None).print(view.panel(scene()))
    text = out.getvalue()
    for word in ("rack-7", "14.0 kW", "3xtp4@1410MHz", "99.5 % of 200", "10 s  llm/chat: 3xtp4", "watts are modelled"):
        assert word in text


# --- CAPSTAN=off -------------------------------------------------------------------------------------


def test_without_capstan_the_same_pods_stand_at_a_fixed_count(root: Path) -> None:
    found = manifests.documents(root / "policies" / "serving-chat.yaml")
    (alone,) = manifests.without_capstan(found, {"llm/chat": 2}, {"llm/chat": 4})
    workload: Any = alone
    named = (workload["kind"], workload["metadata"]["name"], workload["spec"]["replicas"])
    assert named == ("Deployment", "chat-tp4", 2)
    assert "ownerReferences" not in workload["metadata"]
    (engine,) = workload["spec"]["template"]["spec"]["containers"]
    assert engine["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert {"name": "CAPSTAN_TENSOR_PARALLEL", "value": "4"} in engine["env"]


def test_the_record_of_a_broken_run_does_not_pass() -> None:
    assert not score.of(made.unserved(made.run())).passed
