"""Capstan in replay knows what an operator that read the trace's history knows, on the calendar of the run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from capstan import decide
from capstan.forecast import calendar, known
from capstan.replay import foreseen, load
from capstan.replay.options import Options
from capstan.replay.runs import Requests
from capstan.replay.scenario import Scenario
from capstan.replay.systems import Capstan
from support import small
from support.small import Folder

SHIPPED = "llama-3.1-70b-h100-sxm5-80gb-tp4.yaml"
DAY_S = 600.0
PERIODS = decide.Settings(
    60.0, 30.0, 5.0, lookback_s=60.0, rate_window_s=30.0, calendar=calendar.near(30.0, day_s=DAY_S, begins_s=0.0)
)


def days(count: int) -> Requests:
    """Each day of ten minutes: one request every two seconds, and from its middle on ten a second."""
    day = np.concatenate([np.arange(0.0, DAY_S / 2, 2.0), np.arange(DAY_S / 2, DAY_S, 0.1)])
    arrival_s = np.concatenate([number * DAY_S + day for number in range(count)])
    return Requests(arrival_s, np.full(len(arrival_s), 500), np.full(len(arrival_s), 60))


def started(history: Requests | None) -> tuple[Scenario, Capstan]:
    scenario = dataclasses.replace(small.scenario(), settings=PERIODS)
    service = dataclasses.replace(scenario.services[0], history=history)
    system = Capstan.of(scenario)
    system.start(service)
    return scenario, system


def test_a_history_of_days_becomes_a_template_on_the_runs_calendar() -> None:
    """Moment 0 is the end of the history, and a midnight: the quiet half comes first, then the busy one."""
    _, system = started(days(9))
    (told,) = system._histories.values()
    assert told.tells
    assert told.template.at(5) == pytest.approx(0.5, rel=0.1)
    assert told.template.at(15) == pytest.approx(10.0, rel=0.1)
    assert told.tracker.last_slot == -1, "the slot before moment 0"
    assert told.tracker.peak.judged_epochs > 0, "a trace tells windows, too"


def test_without_a_history_there_is_none() -> None:
    assert started(None)[1]._histories == {}


def test_a_history_of_minutes_tells_nothing() -> None:
    _, system = started(Requests(np.arange(0.0, 100.0, 1.0), np.full(100, 500), np.full(100, 60)))
    (told,) = system._histories.values()
    assert not told.tells


def test_earlier_windows_end_at_moment_0() -> None:
    """65 s of one a second in windows of 30 s: the first 5 s make no window; two windows of 30 requests each."""
    found = foreseen.earlier(
        np.arange(0.5, 65.0, 1.0), calendar.near(30.0, day_s=DAY_S, begins_s=0.0), window_s=30.0, end_s=65.0
    )
    assert (found.first_slot, found.next_slot) == (-2, 0)
    assert found.rates_rps == (1.0, 1.0)
    assert known.of("a", found, horizon_slots=2).tracker.last_slot == -1


@pytest.fixture
def folder(tmp_path: Path, root: Path) -> Folder:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / SHIPPED).write_text((root / "policies" / "profiles" / SHIPPED).read_text())
    return small.folder(tmp_path)


@pytest.mark.parametrize("compression", [1, 8])
def test_a_run_has_the_calendar_of_its_periods_and_its_compression(folder: Folder, compression: int) -> None:
    """A slot is the pool period, a day is 86,400 s over the compression, and an unknown trace begins on a Monday."""
    path = folder.scenario(run={"compression": compression})
    settings = load.read(path, Options(profiles=folder.path / "profiles")).scenario().settings
    found = settings.calendar
    assert found.slot_s == pytest.approx(settings.pool_period_s, rel=0.05)
    assert found.slot_s * found.slots_per_day == pytest.approx(86_400.0 / compression)
    assert (found.slot(0.0), found.kind(0)) == (0, 0)
