"""The forecast's experiment: the judge's own figures over seeds, beside what the issue asks of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capstan.api import errors
from capstan.replay import load
from capstan.replay.experiments import forecasts
from capstan.replay.experiments.pages import Told
from capstan.replay.foreseen import Judged
from capstan.replay.options import Options
from support import experiments

SPIKY = load.SHIPPED / "scenarios" / "spiky-week.yaml"


@pytest.fixture(scope="module")
def judged() -> Judged:
    """The made week, which is on every machine, at one seed."""
    return forecasts.week(load.read(SPIKY), 1)


@pytest.fixture
def told(judged: Judged) -> Told:
    return forecasts.of({"spiky-week": [judged]}, (1,))


def test_what_is_printed_is_what_the_judge_says(told: Told, judged: Judged) -> None:
    """Half an hour ahead, over two weeks of five-minute slots."""
    found = judged.found[-1]
    (row,) = json.loads(told.json)["rows"]
    assert row["label"] == "spiky-week"
    assert row["figures"]["covered_ratio"] == [found.score.covered_ratio]
    assert row["figures"]["loss_over_last_value_ratio"] == [found.score.ours_rps / found.score.last_value_rps]
    assert found.score.week_slots > 1900, "last week is known for all of the second: 2,016 slots"
    assert found.lead_slots * forecasts.SLOT_S == forecasts.HORIZON_S


def test_bands_are_asked_to_hold_and_losses_to_be_the_least(told: Told) -> None:
    goals = json.loads(told.json)["goals"]
    assert [(goal["figure"], goal["least"], goal["most"]) for goal in goals] == [
        ("covered_ratio", 0.85, None),
        ("covered_ratio", None, 0.95),
        ("loss_over_last_value_ratio", None, 1.0),
        ("loss_over_last_week_ratio", None, 1.0),
    ]
    assert told.passed == all(goal["reached"] for goal in goals)
    assert len(told.sentences) == len(goals)


def test_a_file_of_requests_is_no_statistics(tmp_path: Path, root: Path) -> None:
    made = experiments.folder(tmp_path, root)
    with pytest.raises(
        errors.Invalid, match="--scenario: the trace of llm/chat is a file of its own; use capstan fore"
    ):
        forecasts.judged((made.path / "scenario.yaml",), Options(profiles=made.path / "profiles"), lambda *_: None)


@pytest.mark.parametrize(("own", "other", "ratio"), [(1.0, 2.0, 0.5), (0.0, 2.0, 0.0), (1.0, 0.0, None)])
def test_a_share_of_nothing_is_no_figure(own: float, other: float, ratio: float | None) -> None:
    assert forecasts._over(own, other) == ratio
