"""docs/explanation/knobs.md against the command that prints its table: the shipped 70B profiles on H100."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from capstan.__main__ import cli
from capstan.replay.study import on_clock

BEGINS, ENDS = "<!-- capstan study --markdown -->\n", "<!-- end -->"


@pytest.fixture(scope="module")
def printed() -> str:
    """What the command prints: the whole study, which takes a test's two seconds by itself."""
    found = CliRunner().invoke(cli, ["study", "--markdown"])
    assert found.exit_code == 0, found.output
    return found.stdout


def test_the_table_is_what_the_command_prints(printed: str, root: Path) -> None:
    """After a new fit: `capstan study --markdown`, and put its lines between the two comments."""
    page = (root / "docs" / "explanation" / "knobs.md").read_text(encoding="utf-8")
    assert page.partition(BEGINS)[2].partition(ENDS)[0] == printed


@pytest.mark.parametrize(
    ("start", "verdict"),
    [
        ("Energy over the clock is U-shaped (at a fixed load)", "does not hold"),
        ("Energy over the clock is U-shaped (at equal batches)", "holds"),
        ("Lowest power is not lowest energy", "does not hold"),
        (f"{on_clock.SIXTEEN} (batches from 1 on)", "does not hold"),
        (f"{on_clock.SIXTEEN} (batches from 32 on)", "flips inside the clock-response band"),
        ("LL essentially meets its SLO", "does not hold"),
        ("Long input is compute-heavy", "holds"),
    ],
    ids=["fixed load", "equal batches", "lowest power", "1.6 GHz", "1.6 GHz at large batches", "LL", "long input"],
)
def test_what_the_page_explains_is_still_so(printed: str, start: str, verdict: str) -> None:
    """The prose below the table gives reasons for these; a new fit that turns one of them needs new prose."""
    (row,) = (line for line in printed.splitlines() if line.startswith(f"| {start}"))
    assert row.split(" | ")[1] == verdict
