"""`capstan forecast`: what people see, and one sentence with exit code 2 for what cannot be used."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from capstan.__main__ import cli
from capstan.replay import traces

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def capstan(*arguments: str | int | Path) -> Result:
    return CliRunner().invoke(cli, ["forecast", *map(str, arguments)])


def written(folder: Path, hours: int = 2, name: str = "mine.csv") -> Path:
    """Write a request every 4 s, on a day of which the rate does not move."""
    rows = (f"2024-01-01 {i // 900:02}:{i // 15 % 60:02}:{i % 15 * 4:02}.0,300,50\n" for i in range(hours * 900))
    path = folder / name
    path.write_text(HEADER + "".join(rows))
    return path


def test_a_trace_is_walked_and_the_verdicts_are_printed(tmp_path: Path) -> None:
    """Two hours at 0.25 rps are 24 slots of five minutes, all forecast from the last rates alone."""
    found = capstan("--trace", written(tmp_path))
    assert found.exit_code == 0, found.output
    for says in ("24 slots, mean 0.25 requests", "5 min", "30 min", "Reactive 24", "no verdict: 18 slots"):
        assert says in found.output, says
    assert "better than" not in found.output


def test_json_has_every_figure(tmp_path: Path) -> None:
    (stream,) = json.loads(capstan("--trace", written(tmp_path), "--json").output)
    assert (stream["stream"], stream["slots"], stream["mean_rps"]) == ("all", 24, pytest.approx(0.25, rel=0.01))
    assert [found["lead_slots"] for found in stream["found"]] == [1, 3, 6]
    assert stream["found"][0]["score"]["slots"] == 23
    assert math.isfinite(stream["peak_over_mean_ratio"])


def test_classes_and_what_came_before_are_taken(tmp_path: Path) -> None:
    found = capstan("--trace", written(tmp_path), "--history", written(tmp_path, 24, "old.csv"), "--by-class")
    assert found.exit_code == 0, found.output
    assert "MS: " in found.output
    assert "Day 24" in found.output  # the same slots of the day before


def test_a_scenario_is_walked_at_its_own_pace(root: Path) -> None:
    """The demo's trace passes faster than it happened, so its slots are shorter; distances are those of the trace."""
    found = capstan("--scenario", root / "policies" / "scenarios" / "demo.yaml", "--horizon", 900)
    assert found.exit_code == 0, found.output
    assert "15 min" in found.output


def test_the_known_week_comes_from_its_statistics_with_a_second_by_the_seed() -> None:
    one, same, other = (
        capstan("--trace", "azure-2024-conversation", "--weeks", 2, "--period", 1800, "--seed", seed, "--json").output
        for seed in (1, 1, 2)
    )
    assert one == same != other
    (stream,) = json.loads(one)
    assert stream["slots"] == 672
    assert dict(stream["sources"])["Template"] == 336


@pytest.mark.skipif(traces.shared_data_at_hand() is None, reason="needs the shared traces (../shared/data)")
def test_the_digitised_week_meets_what_is_asked_of_the_forecast() -> None:
    found = capstan("--trace", "azure-2024-conversation", "--weeks", 2)
    assert "digitised plots" in found.output
    for says in ("90 % band holds 85% to 95%: yes", "better than the last value: yes", "better than last week: yes"):
        assert says in found.output, says


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param((), "--trace: give either --trace or --scenario", id="nothing"),
        pytest.param(("--trace", "a", "--scenario", "b.yaml"), "--trace: give either", id="both"),
        pytest.param(("--trace", "nowhere.csv"), "nowhere.csv, file: No such file", id="no-file"),
        pytest.param(
            ("--trace", "azure-2024-conversation", "--period", 7), "--period: 7 s does not divide", id="period"
        ),
        pytest.param(("--trace", "x", "--period", 600, "--horizon", 300), "--horizon: 300 s is shorter", id="horizon"),
        pytest.param(("--scenario", "nowhere.yaml"), "nowhere.yaml", id="no-scenario"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str | int, ...], says: str) -> None:
    found = capstan(*arguments)
    assert found.exit_code == 2
    assert says in found.output
    assert "Traceback" not in found.output


def test_ten_minutes_of_a_trace_are_too_few(tmp_path: Path) -> None:
    path = written(tmp_path, 1)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:151]))
    found = capstan("--trace", path)
    assert (found.exit_code, "shorter than an epoch and a slot, 2100 s" in found.output) == (2, True)


def test_a_file_has_no_further_weeks(tmp_path: Path) -> None:
    found = capstan("--trace", written(tmp_path), "--weeks", 2)
    assert (found.exit_code, "--weeks: only a trace that is drawn" in found.output) == (2, True)
