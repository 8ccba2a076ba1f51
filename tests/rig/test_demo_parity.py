"""The demo checks its own record at its end: what it says, what it counts, and that a difference fails it."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from capstan.replay.scores import score
from rig.demo import command, parity
from support import report as reports
from support.recording import forge, recorded


@pytest.fixture
async def record(tmp_path: Path) -> Path:
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 6)
    return path


def test_an_equal_record_is_told_with_its_count(record: Path) -> None:
    said: list[str] = []
    assert parity.figures(record, said.append) == {"decisions_recorded": 6, "decisions_differing": 0}
    assert said == ["  parity of live and replay: 6 decisions (1 writer: one), 6 equal when decided again"]


def test_a_record_whose_writer_is_still_at_it_is_read_up_to_the_last_whole_line(record: Path) -> None:
    record.write_bytes(record.read_bytes()[:-100])
    assert parity.figures(record, lambda _: None) == {"decisions_recorded": 5, "decisions_differing": 0}


def test_a_difference_is_counted_and_named(record: Path) -> None:
    forge(record, 2, lambda line: line["decision"][0].update(forecast_rps=99.0))
    said: list[str] = []
    found = parity.figures(record, said.append)
    assert found["decisions_differing"] == 1
    assert "forecast_rps: recorded 99.0, decided" in said[-1]
    assert not parity.holds({"decisions_differing": 1.0})


def test_a_record_that_is_not_there_is_told_and_not_measured(tmp_path: Path) -> None:
    said: list[str] = []
    found = parity.figures(tmp_path / "decisions.jsonl", said.append)
    assert found == {"decisions_recorded": None, "decisions_differing": None}
    assert "No such file" in said[0]


@pytest.mark.parametrize(("differing", "code"), [(0.0, command.HELD), (1.0, command.BROKEN)])
def test_a_demo_that_held_fails_where_its_record_decides_otherwise(tmp_path: Path, differing: float, code: int) -> None:
    run = dataclasses.replace(reports.run(), figures={parity.DIFFERING: differing})
    assert score.of(run).passed, "else this test shows nothing"
    assert command.finish([run], "demo", tmp_path, Console(file=io.StringIO())) == code
