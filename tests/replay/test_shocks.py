"""What is printed of shocks: a row each where systems stand side by side, a line per system where they do not."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from capstan.replay.pages import document, shocks, summary
from capstan.replay.runs import Run
from capstan.replay.scores import compare
from capstan.replay.scores.compare import Comparison
from support import report as made


def shocked(*runs: Run) -> Comparison:
    """Runs of four minutes in which something happened at 60 and at 120 s."""
    return compare.of(compare.scored([dataclasses.replace(run, shocks_s=(60.0, 120.0)) for run in runs]))


BOTH = (made.run(), made.unserved(made.run(compare.SINGLE_POOL)))


def test_a_row_per_shock_says_how_long_and_how_many() -> None:
    """All of Capstan's are good. The other served nobody, so it is never back and owes 99 % of what arrived."""
    comparison = shocked(*BOTH)
    chat = comparison.columns[0].score.policies[0]
    first, second = shocks.rows(comparison.columns, chat)
    assert (first.label, second.label) == ("after 60 s: back in, s / debt", "after 120 s: back in, s / debt")
    assert [row.cells[0].text for row in (first, second)] == ["0 / 0", "0 / 0"]
    outcomes = comparison.columns[1].run.services[0].outcomes
    arrival_s = outcomes.requests.arrival_s
    for row, (start_s, end_s) in zip((first, second), ((60, 120), (120, 240)), strict=True):
        arrived = int(((arrival_s >= start_s) & (arrival_s < end_s)).sum())
        assert row.cells[1].text == f"not / {0.99 * arrived:,.0f}"


def test_too_wide_a_table_has_a_line_per_system_and_policy_below_it() -> None:
    comparison = shocked(*BOTH)
    lines = shocks.lines(comparison)
    assert len(lines) == 4
    assert lines[0] == (
        "capstan, llm/chat: back in 0 s after 60 s (debt 0 requests); back in 0 s after 120 s (debt 0 requests)."
    )
    assert lines[2].startswith("single-pool, llm/chat: not back after 60 s (debt ")


@pytest.mark.parametrize(("width", "told"), [(40, "back in 0 s after 60 s"), (120, "after 60 s: back in, s / debt")])
def test_the_terminal_shows_one_or_the_other(width: int, told: str) -> None:
    out = io.StringIO()
    summary.print_table(shocked(*BOTH), Console(file=out, width=width))
    assert told in " ".join(out.getvalue().split())


def test_where_nothing_happened_nothing_is_printed() -> None:
    quiet = compare.of(compare.scored(list(BOTH)))
    assert shocks.lines(quiet) == ()
    assert shocks.rows(quiet.columns, quiet.columns[0].score.policies[0]) == []


def test_the_bound_plays_no_run_and_has_no_recovery() -> None:
    bound = dataclasses.replace(made.run(compare.BOUND), shocks_s=(60.0,))
    (column,) = compare.scored([bound])
    assert shocks.of(bound, column.score.policies[0]) == ()


def test_the_json_has_numbers_and_null() -> None:
    systems = document.of(shocked(*BOTH))["systems"]
    assert isinstance(systems, dict)
    services = [systems[name]["services"][0]["recoveries"] for name in ("capstan", "single-pool")]
    assert services[0][0] == {"t_s": 60.0, "recovered_after_s": 0.0, "debt_requests": 0.0, "late_s": 0.0}
    assert services[1][0]["recovered_after_s"] is None
