"""Whose pods a policy's past is asked of; that the cycle hands it on and writes it down once; and a restart."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from capstan.api import convert
from capstan.journal import record
from capstan.journal.codec import Unreadable
from capstan.model.past import Ask, Block, Past
from capstan.serving import history, recorder
from capstan.serving.cluster import Snapshot, Workload
from capstan.serving.store import Kind
from capstan.serving.view import Index
from support.recording import lines
from support.serving import Stage, assistant, chat

PAST = Past("llm/chat", (Block(0.0, 300.0, (1.0, None, 2.5)), Block(86_400.0, 300.0, (3.0,))))
LATER = Past("llm/chat", (PAST.blocks[0], Block(86_400.0, 300.0, (3.0, 4.0))))


def asked(raw: Any) -> Ask:
    made = dict(raw)
    workload = Workload("llm", "assistant", "u", {}, "1", 1, 1, 1, {}, "", "", "")
    return history.ask(Index(Snapshot(workloads=(workload,))).view(made, convert.policy(made)))


@pytest.mark.parametrize(
    ("pod", "ours"),
    [
        ("chat-tp4-7d9f8c6b5d-x2x8k", True),
        ("chat-tp16-5d9-abcde", True),
        ("chat-tp4-canary-7d9f8c6b5d-x2x8k", False),  # of the policy chat-tp4-canary
        ("chat-v2-tp4-7d9f8c6b5d-x2x8k", False),
        ("mychat-tp4-7d9f8c6b5d-x2x8k", False),
        ("chat-7d9f8c6b5d-x2x8k", False),
    ],
)
def test_a_policys_pods_are_those_of_its_deployments_of_any_degree(pod: str, ours: bool) -> None:
    found = asked(chat())
    assert (found.policy, found.namespace) == ("llm/chat", "llm")
    assert (re.fullmatch(found.pods, pod) is not None) is ours


def test_targets_are_asked_for_by_their_own_names() -> None:
    found = asked(assistant())
    assert re.fullmatch(found.pods, "assistant-7d9f8c6b5d-x2x8k")
    assert not re.fullmatch(found.pods, "assistant-tp4-7d9f8c6b5d-x2x8k")


def test_a_name_that_kubernetes_cuts_is_matched_by_its_beginning() -> None:
    """52 characters and `-tp4`: the pods' generated name is cut after 58, somewhere inside the hash."""
    name = "c" * 52
    assert re.fullmatch(asked(chat(name)).pods, f"{name}-tp4-7x2x8k")


async def test_a_cycle_is_handed_the_past_of_its_policies_and_follows_no_others() -> None:
    stage = Stage()
    stage.apply(chat())
    stage.history.pasts["llm/chat"] = PAST
    await stage.tick()
    assert [ask.policy for ask in stage.history.asked] == ["llm/chat"]
    assert stage.recorder.cycles[-1].pasts == (PAST,)
    stage.store.drop(Kind.POLICY, "llm/chat")
    await stage.tick()
    assert stage.history.asked == ()


async def test_a_restarted_operator_sees_the_same_past_in_its_first_cycle() -> None:
    stage = Stage()
    stage.apply(chat())
    stage.history.pasts["llm/chat"] = PAST
    await stage.tick(2)
    before = stage.recorder.cycles[-1].pasts
    stage.cycle = stage.operator()
    await stage.tick()
    assert stage.recorder.cycles[-1].pasts == before == (PAST,)


async def test_before_the_first_answer_the_cycle_runs_without_a_past() -> None:
    stage = Stage()
    stage.apply(chat())
    done = await stage.tick(2)
    assert stage.recorder.cycles[-1].pasts == ()
    assert done.source_errors == ()


async def test_a_past_that_cannot_be_read_is_said_and_holds_nothing_up() -> None:
    stage = Stage()
    stage.telemetry.rps = 12.0
    stage.apply(chat())
    stage.history.problem = "llm/chat: Prometheus gave no answer within 30 s"
    done = await stage.tick(6)
    assert done.source_errors == (stage.history.problem,)
    assert stage.cluster.replicas("llm/chat-tp4") > 1


# --- in the record of decisions ------------------------------------------------------------------


async def written(path: Path, *pasts: Past | None, max_bytes: int = recorder.MAX_BYTES) -> Path:
    """Record a cycle for each past."""
    stage, journal = Stage(), recorder.Journal(path, writer="one", max_bytes=max_bytes)
    stage.apply(chat())
    for past in pasts:
        stage.history.pasts = {} if past is None else {"llm/chat": past}
        await stage.tick()
        journal.write(stage.recorder.cycles[-1])
    assert journal.lost_lines == 0
    return path


def read(path: Path) -> list[record.Recorded]:
    return [found for found in record.read(lines(path)) if isinstance(found, record.Recorded)]


async def test_a_past_comes_back_as_it_was_seen(tmp_path: Path) -> None:
    path = await written(tmp_path / "d.jsonl", None, PAST, PAST, LATER)
    assert [cycle.pasts for cycle in read(path)] == [(), (PAST,), (PAST,), (LATER,)]


async def test_a_past_that_goes_on_is_one_block_more_and_not_four_weeks(tmp_path: Path) -> None:
    path = await written(tmp_path / "d.jsonl", PAST, PAST, LATER, LATER)
    starts = [next(iter(json.loads(line))) for line in lines(path)]
    assert starts.count("block") == 3, "two blocks, then the second one longer; the first is never written again"
    assert starts.count("past") == 2


async def test_a_rotated_file_has_its_pasts_again(tmp_path: Path) -> None:
    path = await written(tmp_path / "d.jsonl", *(PAST,) * 20, max_bytes=30_000)
    for file in (path.with_suffix(".jsonl.1"), path):
        assert {cycle.pasts for cycle in read(file)} == {(PAST,)}


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("block", lambda line: line["value"].update(rates_rps=[9.0]), "the block is not the one"),
        ("past", lambda line: line["value"].update(policy="llm/other"), "the past is not the one"),
        ("cycle", lambda line: line.update(pasts=["0"]), "past '0' came in no line before it"),
        ("cycle", lambda line: line.update(pasts="0"), "pasts is not a list"),
        ("cycle", lambda line: line.pop("pasts"), "'pasts' is missing"),
    ],
    ids=["a block", "a past", "an unknown past", "no list", "nothing said"],
)
async def test_what_somebody_changed_is_named(tmp_path: Path, kind: str, change: object, says: str) -> None:
    path = await written(tmp_path / "d.jsonl", PAST)
    forged = [json.loads(line) for line in lines(path)]
    target = next(line for line in forged if kind in line)
    change(target)  # type: ignore[operator]  # a lambda of the table
    path.write_text("".join(json.dumps(line) + "\n" for line in forged))
    with pytest.raises(Unreadable, match=re.escape(says)):
        read(path)
