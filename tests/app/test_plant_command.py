"""`capstan replay` of a `Plant`: what it prints and leaves, and exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from capstan.__main__ import cli
from support import plants


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """The shipped scenario cut to ten seconds, one fault and two seeds of the power step."""
    documents = list(yaml.safe_load_all(plants.SCENARIO.read_text(encoding="utf-8")))
    spec = documents[-1]
    spec |= {"durationSeconds": 10, "seeds": [1]}
    spec["variants"] = [{"name": "nominal"}, {"name": "lag", "lagSeconds": 2}]
    spec["powerStep"] |= {"atSeconds": 5, "forSeconds": 5, "seeds": 2, "variants": [{"name": "nominal"}]}
    (tmp_path / "profiles").mkdir()
    shutil.copy(plants.PROFILES / f"{spec['profile']}.yaml", tmp_path / "profiles")
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return path


def replay(scenario: Path, *flags: str) -> Result:
    out, profiles = scenario.parent / "out", scenario.parent / "profiles"
    told = ["replay", "--scenario", str(scenario), "--out", str(out), "--profiles", str(profiles), *flags]
    return CliRunner().invoke(cli, told)


def test_it_prints_tables_and_goals_and_leaves_a_report(scenario: Path) -> None:
    found = replay(scenario)
    assert found.exit_code == 0, found.output
    for words in ("An hour under each strategy", "Budgets cut at full load", "kept: Guaranteed: 0 J", "report: "):
        assert words in found.output
    told = json.loads((scenario.parent / "out" / "report.json").read_text(encoding="utf-8"))
    assert [(cell["strategy"], cell["variant"]) for cell in told["hours"]] == [
        ("Uncapped", "nominal"), ("Guaranteed", "nominal"), ("Statistical", "nominal"),
        ("Guaranteed", "lag"), ("Statistical", "lag"),
    ]  # fmt: skip
    assert "not judged: Guaranteed, power step, nominal" in found.output
    assert all(len(cell["by_seed"]) == 2 for cell in told["power_steps"])
    page = (scenario.parent / "out" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "://" not in page.replace("http://www.w3.org/", "")


def test_seeds_of_the_command_line_win(scenario: Path) -> None:
    documents = list(yaml.safe_load_all(scenario.read_text(encoding="utf-8")))
    documents[-1] |= {"powerStep": None, "durationSeconds": 10}
    scenario.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    assert replay(scenario, "--seeds", "7,8").exit_code == 0
    told = json.loads((scenario.parent / "out" / "report.json").read_text(encoding="utf-8"))
    assert told["seeds"] == [7, 8]


def test_a_missed_goal_is_said_and_asserted(scenario: Path) -> None:
    """Racks of 10 kW for 20 servers: no limit that boards accept can hold that."""
    text = scenario.read_text(encoding="utf-8").replace("budgetWatts: 165000", "budgetWatts: 10000")
    scenario.write_text(text, encoding="utf-8")
    found = replay(scenario, "--assert")
    assert found.exit_code == 3, found.output
    assert "MISSED: Guaranteed: 0 J above a budget" in found.output


def test_what_cannot_be_played_is_one_line(scenario: Path) -> None:
    text = scenario.read_text(encoding="utf-8").replace("cutPercent: 20", "cutPercent: 99")
    scenario.write_text(text, encoding="utf-8")
    found = replay(scenario)
    assert found.exit_code == 2
    assert found.output.count("\n") == 1
    assert "powerStep.cutPercent" in found.output
