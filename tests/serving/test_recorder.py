"""A recorded cycle reads back equal, and decided again comes out equal: the parity of live and replay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capstan import decide
from capstan.model import fleet, plan, sample
from capstan.model.reasons import Reason
from capstan.serving import codec, recorder
from support import builders
from support.serving import Stage, chat

VALUES = [
    builders.profile(),
    builders.policy(power_budget_w=24_000.0),
    decide.Settings(),
    plan.Memory((plan.PolicyMemory("llm/chat", rates=((1.5, 2.25), (2.5, 0.1)), lengths=(900.0, 150.0)),)),
    fleet.Observed(
        1.0,
        (
            fleet.ServiceObserved(
                "llm/chat",
                (fleet.PoolObserved("all", 4, 2, 1),),
                arrival_rps=sample.Fresh(1.25, 3.0),
                waiting=sample.Stale(4.0, 99.0),
                ttft_s=sample.Missing(Reason.NO_TRAFFIC),
            ),
        ),
    ),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_a_value_of_the_core_survives_json(value: object) -> None:
    text = json.dumps(codec.encode(value))
    assert codec.decode(type(value), json.loads(text)) == value


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {"a": 1}, object()], ids=["nan", "infinity", "a-dict", "an-object"]
)
def test_what_the_core_does_not_say_cannot_be_recorded(value: object) -> None:
    with pytest.raises(codec.Unreadable):
        codec.encode(value)


@pytest.mark.parametrize(
    "raw",
    [
        {"policy": 5},
        {"policy": "llm/chat", "rates": "1,2"},
        {"policy": "llm/chat", "lengths": [1.0]},
        {"policy": "llm/chat", "surprise": 1},
        [],
    ],
    ids=["wrong-type", "not-a-list", "too-short", "unknown-field", "not-an-object"],
)
def test_a_line_that_is_not_ours_says_where(raw: codec.Json) -> None:
    with pytest.raises(codec.Unreadable, match="PolicyMemory"):
        codec.decode(plan.PolicyMemory, raw)


async def recorded(path: Path, ticks: int, *, max_bytes: int = recorder.MAX_BYTES) -> recorder.Journal:
    """Run a stage whose load rises and falls, and record every cycle."""
    stage = Stage()
    journal = recorder.Journal(path, max_bytes=max_bytes)
    stage.apply(chat())
    for i in range(ticks):
        stage.telemetry.rps = 12.0 if i % 40 < 20 else 0.5
        await stage.tick()
        journal.write(stage.recorder.cycles[-1])
    return journal


async def test_every_recorded_cycle_decided_again_is_equal(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 120)
    lines = path.read_text().splitlines()
    assert len(list(recorder.cycles(lines))) == 120
    assert list(recorder.verify(lines)) == []
    assert sum('"profile"' in line[:12] for line in lines) == 1
    assert sum(json.loads(line).get("memory") is not None for line in lines) == 2  # the first, and the hundredth


async def test_a_decision_that_was_not_so_is_found(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 12)
    lines = path.read_text().splitlines()
    forged = json.loads(lines[6])
    forged["decision"][0]["pools"][0]["replicas"] += 1
    lines[6] = json.dumps(forged)
    assert list(recorder.verify(lines)) == [forged["observed"]["now_s"]]


async def test_a_journal_is_bounded_and_each_file_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 60, max_bytes=40_000)
    old = path.with_suffix(".jsonl.1")
    assert old.exists()
    assert path.stat().st_size < 50_000
    for file in (old, path):
        assert list(recorder.verify(file.read_text().splitlines())) == []


async def test_a_disk_that_is_full_costs_lines_and_not_the_cycle(tmp_path: Path) -> None:
    journal = await recorded(tmp_path / "no-such-folder" / "decisions.jsonl", 3)
    assert journal.lost_lines == 3
