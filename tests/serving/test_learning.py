"""What the live loop learns of its engines: the margin from five minutes of latencies, the start-up from its pods."""

from __future__ import annotations

from pathlib import Path

import pytest

from capstan.api import status
from capstan.replay import verify
from capstan.serving import cluster, manifest
from support.recording import cycles, forge, recorded
from support.serving import SETTINGS, Stage, chat

FIVE_MINUTES = 60  # cycles; the first pod comes Ready in the first of them


async def served(stage: Stage, *, lately_s: float | None, ticks: int) -> float | None:
    """Let engines serve 2 rps, whose TTFT was `lately_s` at the 99th; return the margin that is then planned with."""
    stage.telemetry.rps, stage.telemetry.lately_s = 2.0, lately_s
    await stage.tick(ticks)
    return stage.recorder.cycles[-1].decision.memory.of("llm/chat").of("all").margin_ratio


@pytest.fixture
def stage() -> Stage:
    made = Stage()
    made.apply(chat())
    return made


async def test_limits_that_are_broken_for_five_minutes_tighten_the_margin(stage: Stage) -> None:
    """The limit is 2 s. Before a pod has served five minutes nothing is learnt, then once: 0.8 / 1.05."""
    base = SETTINGS.slo_margin_ratio
    assert await served(stage, lately_s=2.1, ticks=FIVE_MINUTES) == base
    assert await served(stage, lately_s=2.1, ticks=3) == pytest.approx(base * 0.8 / 1.05, rel=0.02), (
        "read from a histogram"
    )
    assert stage.condition("ProfileDrift")[:2] == ("False", "NoChangeNeeded"), "known, and the margin is not spent"


async def test_room_for_five_minutes_loosens_it(stage: Stage) -> None:
    await served(stage, lately_s=0.5, ticks=FIVE_MINUTES)
    margin = await served(stage, lately_s=0.5, ticks=3)
    assert margin == pytest.approx(SETTINGS.slo_margin_ratio * 1.001**3, rel=1e-6)


async def test_where_prometheus_does_not_tell_nothing_is_learnt_and_drift_is_not_known(stage: Stage) -> None:
    assert await served(stage, lately_s=None, ticks=FIVE_MINUTES + 3) == SETTINGS.slo_margin_ratio
    told = {c["type"] for c in manifest.items(stage.cluster.statuses["llm/chat"], "conditions")}
    assert "SLOFeasible" in told
    assert "ProfileDrift" not in told


def scheduled(stage: Stage, *, before_s: float) -> None:
    """Say of every pod that it had its node `before_s` before it was Ready."""
    for key in [key for key in stage.cluster.objects if key.startswith("Pod/")]:
        raw = stage.cluster.objects[key]
        since_s = cluster.pod(raw).ready_since_s
        assert since_s is not None
        bound = {"type": "PodScheduled", "status": "True", "lastTransitionTime": status.rfc3339(since_s - before_s)}
        stage.cluster.put({**raw, "status": {"conditions": [bound, *manifest.items(raw, "status", "conditions")]}})


async def test_a_measured_start_up_is_recorded_and_decided_again(stage: Stage, tmp_path: Path) -> None:
    await stage.tick()
    scheduled(stage, before_s=600.0)
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 12, stage=stage)
    (pool,) = stage.recorder.cycles[-1].observed.services[0].pools
    assert pool.startup_s == 600.0
    verdict = verify.of_file(path)
    assert (verdict.decisions, verdict.equal) == (12, 12)


async def test_a_record_from_before_start_ups_were_measured_is_decided_again(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 12)
    for nth in range(len(cycles(path))):
        forge(path, nth, lambda line: [p.pop("startup_s") for s in line["observed"]["services"] for p in s["pools"]])
    assert "startup_s" not in "".join(line for line in path.read_text().splitlines() if line.startswith('{"cycle"'))
    verdict = verify.of_file(path)
    assert (verdict.decisions, verdict.equal) == (12, 12)
