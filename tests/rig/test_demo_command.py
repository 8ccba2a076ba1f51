"""`make demo` from the outside, without a cluster: what it refuses, what it says first, how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rig.demo import command


def demo(tmp_path: Path, *options: str, **environment: str) -> Result:
    env = {"CAPSTAN": "", "TRACE": "", "CHAOS": "", "OUT": str(tmp_path / "out"), **environment}
    return CliRunner().invoke(command.command, ["--virtual", *options], env=env)


def trace(tmp_path: Path, text: str) -> str:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({"CAPSTAN": "maybe"}, ["CAPSTAN=maybe", "on or off"]),
        ({"CHAOS": "fire"}, ["CHAOS=fire", "kill-operator"]),
        ({"CHAOS": "kill-operator", "CAPSTAN": "off"}, ["no operator to kill"]),
        ({"TRACE": "/nowhere/trace.csv"}, ["/nowhere/trace.csv", "No such file"]),
        ({"OUT": "/proc/nowhere"}, ["OUT=/proc/nowhere", "folder that can be written"]),
    ],
    ids=["neither on nor off", "unknown chaos", "chaos without an operator", "no such trace", "nowhere to write"],
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path, environment: dict[str, str], names: list[str]) -> None:
    result = demo(tmp_path, **environment)
    assert result.exit_code == command.BAD_INPUT
    assert all(name in result.output for name in names), result.output


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("TIMESTAMP,ContextTokens\n", ["row 1", "GeneratedTokens", "missing"]),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", ["rows"]),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00,-5,3\n", ["row 2", "ContextTokens"]),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:09,5,3\n2023-11-16 18:00:00,5,3\n",
            ["row 3", "TIMESTAMP"],
        ),
        ("x" * 10_000_000, ["row 1", "line"]),
    ],
    ids=["a missing column", "zero rows", "a negative number", "unordered times", "10 MB in one line"],
)
def test_a_bad_trace_is_named_with_its_row_and_field(tmp_path: Path, text: str, names: list[str]) -> None:
    result = demo(tmp_path, TRACE=trace(tmp_path, text))
    assert result.exit_code == command.BAD_INPUT
    assert all(name in result.output for name in names), result.output


def test_without_a_cluster_the_first_line_says_so_and_the_report_is_the_same(tmp_path: Path) -> None:
    result = demo(tmp_path, CAPSTAN="off")
    assert result.exit_code == command.BROKEN, "without Capstan the cut breaks the budget"
    lines = result.output.splitlines()
    assert lines[0].startswith("VIRTUAL TIME, no cluster")
    assert "FAILED" in result.output
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(written["systems"]) == ["fixed", "single-pool"]
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
