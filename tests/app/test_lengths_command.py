"""`capstan lengths`: tables that can be pasted into a page, and one sentence for what cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from capstan.__main__ import cli

LENGTHS = ("60,5", "500,400")
LENGTHS = ("60,5", "500,400")
ROWS = "".join(f"2024-01-01 00:{i // 60:02}:{i % 60:02}.0,{LENGTHS[i % 2]}\n" for i in range(300))


def lengths(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["lengths", *map(str, arguments)])


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + ROWS)
    return path


def test_it_prints_rules_confusion_and_coverage(trace: Path) -> None:
    """Half short, half long: a constant is right in 50.0 % of the requests."""
    found = lengths("--trace", trace)
    assert found.exit_code == 0, found.output
    for says in ("300 requests; prompt from 256, 1,024 tokens", "| live: running quantiles |", "| 50.0 % |", "| S |"):
        assert says in found.output, says
    assert "answers at or below their predicted quantile: p50" in found.output


def test_terciles_and_edges_of_ones_own(trace: Path) -> None:
    assert "prompt from 500 tokens, output from 400" in lengths("--trace", trace, "--classes", "terciles").output
    assert "prompt from 100 tokens, output from 9, 99" in lengths("--trace", trace, "--classes", "100/9,99").output


def test_other_settings_are_swept_where_asked_for(trace: Path) -> None:
    assert "live, with" not in lengths("--trace", trace).output
    assert "| 4 bins per octave of prompts | " in lengths("--trace", trace, "--sweep").output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "either --trace FILE or --prometheus URL"),
        (("--trace", "nowhere.csv"), "nowhere.csv"),
        (("--trace", "nowhere.csv", "--classes", "thirds"), "--classes: thirds is neither"),
        (("--trace", "nowhere.csv", "--classes", "9,5/3"), "--classes: 9,5/3: class edges must ascend"),
    ],
    ids=["no trace", "no such trace", "no such word", "edges that fall"],
)
def test_what_cannot_be_used_is_one_sentence_and_exit_code_2(arguments: tuple[str, ...], says: str) -> None:
    found = lengths(*arguments)
    assert found.exit_code == 2
    assert says in found.output
    assert found.output.startswith("capstan lengths: ")
    assert len(found.output.splitlines()) == 1
