"""The speed figures: what a child took, what is told of a run, and that being timed changes nothing."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from capstan.replay import engine, load
from capstan.replay.options import Options
from capstan.replay.runs import Requests
from capstan.replay.scenario import Scenario
from capstan.replay.systems import Capstan
from rig import speed, usage

BURN = "import sys, time\nend_s = time.process_time() + 0.2\nwhile time.process_time() < end_s: pass\n"


@pytest.fixture(scope="module")
def minutes() -> Scenario:
    """The first ten minutes of the conversation hour, drawn or read: whatever this machine has."""
    loaded = load.read(speed.HOUR, Options())
    run = loaded.run.model_copy(update={"duration_seconds": 600})
    return dataclasses.replace(loaded, run=run).scenario()


def test_a_child_is_charged_what_it_burns(tmp_path: Path) -> None:
    used = usage.run((sys.executable, "-c", f"{BURN}block = bytearray(60_000_000)"), tmp_path / "log")
    assert used.code == 0
    assert 0.2 <= used.cpu_s < 5
    assert used.wall_s >= 0.2
    assert used.peak_bytes > 60e6


def test_a_child_that_fails_is_told_of_by_its_last_words(tmp_path: Path) -> None:
    used = usage.run((sys.executable, "-c", "print('first'); raise SystemExit('the end')"), tmp_path / "log")
    assert used.code == 1
    assert usage.last_line(tmp_path / "log") == "the end"


def test_a_child_sees_what_it_is_given_beside_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THERE", "1")
    usage.run((sys.executable, "-c", "import os; print(os.environ['THERE'], os.environ['GIVEN'])"), tmp_path / "log",
              {"GIVEN": "2"})  # fmt: skip
    assert usage.last_line(tmp_path / "log") == "1 2"


def test_being_timed_changes_nothing(minutes: Scenario) -> None:
    timed = speed.Timed(Capstan.of(minutes))
    watched, alone = engine.run(minutes, timed), engine.run(minutes, Capstan.of(minutes))
    assert watched.services[0].energy == alone.services[0].energy
    assert timed.plans >= 600 / timed.period_s
    assert timed.cpu_s > 0


def test_a_played_run_counts_requests_plans_and_memory(minutes: Scenario) -> None:
    played = speed.played(minutes, Capstan.of(minutes))
    assert played.requests == len(minutes.services[0].requests) == played.completed
    assert 0 < played.plans_cpu_s < played.cpu_s
    assert played.peak_bytes > 50e6, "numpy and numba alone are more"


def test_the_fixed_fleet_of_the_week_carries_its_busiest_minute(minutes: Scenario) -> None:
    """Four requests where there was one need more replicas."""
    service = minutes.services[0]
    requests = service.requests
    crowd = Requests(requests.arrival_s.repeat(4), requests.prompt_tokens.repeat(4), requests.output_tokens.repeat(4))
    crowded = dataclasses.replace(minutes, services=(dataclasses.replace(service, requests=crowd, predicted=None),))
    few, many = (speed.busiest_minute(scenario).start(service).replicas for scenario in (minutes, crowded))
    assert 1 <= few < many


def test_what_is_told_has_rates_and_where_there_are_plans_their_time() -> None:
    fixed = speed.Played(2_000, 1_999, 4.0, 10, 0.0, 3_000_000_000)
    assert fixed.told() == "1,999 of 2,000 requests in 4.0 s of CPU (500 a second), peak 3.00 GB"
    deciding = dataclasses.replace(fixed, plans=1000, plans_cpu_s=0.25)
    assert "1,000 plans, 0.25 ms each with what they ask for (goal 0.5 ms)" in deciding.told()
