"""What the live loop writes down is bounded, stands alone file by file, and never costs a cycle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capstan.journal import record
from capstan.replay import verify
from capstan.serving import recorder
from capstan.serving.store import Kind
from support.recording import cycles, lines, recorded
from support.serving import Stage, chat


def count(path: Path, text: str) -> int:
    return sum(text in line[:12] for line in lines(path))


async def test_profiles_come_once_and_memory_at_the_first_and_the_hundredth_cycle(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 120)
    assert (count(path, '"record"'), count(path, '"profile"'), count(path, '"cycle"')) == (1, 1, 120)
    full = [i for i, at in enumerate(cycles(path)) if json.loads(lines(path)[at])["memory"] is not None]
    assert full == [0, 100]


async def test_a_file_is_bounded_and_each_one_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 60, max_bytes=40_000)
    old = path.with_suffix(".jsonl.1")
    assert path.stat().st_size < 50_000
    for file in (old, path):
        verdict = verify.of_file(file)
        assert verdict.equal == verdict.decisions > 0


async def test_a_restarted_operator_goes_on_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 5, writer="one")
    await recorded(path, 5, writer="two")
    verdict = verify.of_file(path)
    assert (verdict.decisions, verdict.equal, verdict.writers) == (10, 10, ("one", "two"))


@pytest.mark.parametrize("left", [-1, -40, 30], ids=["the line end", "some of the last line", "most of the file"])
async def test_what_a_killed_operator_left_cut_off_spoils_no_later_line(tmp_path: Path, left: int) -> None:
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 5)
    path.write_bytes(path.read_bytes()[:left])
    await recorded(path, 5, writer="two")
    verdict = verify.of_file(path)
    assert verdict.equal == verdict.decisions >= 5
    assert len(verdict.torn) == (left != -1)


async def test_two_operators_on_one_volume_do_not_mix_their_memories(tmp_path: Path) -> None:
    """The Lease passes from one to the other and back while both processes live."""
    path = tmp_path / "decisions.jsonl"
    stages = [Stage(), Stage()]
    journals = [recorder.Journal(path, writer=f"operator-{i}") for i in range(2)]
    for stage, rps in zip(stages, (12.0, 0.5), strict=True):
        stage.apply(chat())
        stage.telemetry.rps = rps
    for i in (0, 0, 1, 0, 1, 1, 0):
        await stages[i].tick()
        journals[i].write(stages[i].recorder.cycles[-1])
    assert verify.of_file(path).equal == 7


async def test_a_file_that_somebody_else_rotated_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    stage = Stage()
    stage.apply(chat())
    journal = await recorded(path, 3, stage=stage)
    path.rename(tmp_path / "moved")
    await stage.tick()
    journal.write(stage.recorder.cycles[-1])
    assert verify.of_file(path).equal == 1


async def test_memory_that_a_status_brought_is_written_down(tmp_path: Path) -> None:
    """A policy that comes back with a clock plan in its status: what the cycle remembers is not what the last left."""
    path = tmp_path / "decisions.jsonl"
    stage = Stage()
    stage.apply(chat())
    journal = await recorded(path, 30, stage=stage)
    stage.store.drop(Kind.POLICY, "llm/chat")
    await stage.tick()
    journal.write(stage.recorder.cycles[-1])
    stage.apply(chat())
    await stage.tick()
    journal.write(stage.recorder.cycles[-1])
    remembered = stage.recorder.cycles[-1].memory
    assert remembered.of("llm/chat").of("all").clock_cap_mhz is not None, "else this test shows nothing"
    assert verify.of_file(path).equal == 32


async def test_a_disk_that_is_full_costs_lines_and_not_the_cycle(tmp_path: Path) -> None:
    path = tmp_path / "no-such-folder" / "decisions.jsonl"
    stage = Stage()
    stage.apply(chat())
    journal = await recorded(path, 3, stage=stage)
    assert journal.lost_lines == 3
    path.parent.mkdir()
    await stage.tick()
    journal.write(stage.recorder.cycles[-1])
    assert verify.of_file(path).equal == 1, "the first line after the loss has its memory in full"


async def test_a_line_names_its_writer_and_is_small_between_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 90, writer="operator-abc")
    last = lines(path)[-1]
    assert json.loads(last)["writer"] == "operator-abc"
    assert " items, hash " in json.loads(last)["digest"][0]["pools"][0]["rates"]
    assert len(last) < 4_500
    assert record.FORMAT in lines(path)[0]
