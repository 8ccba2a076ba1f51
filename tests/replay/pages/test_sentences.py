"""What a report says in words, and in the terminal."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from capstan.replay import play
from capstan.replay.pages import cells, summary
from capstan.replay.scores import compare
from capstan.replay.scores.compare import Comparison, Conditions
from support import report as made


@pytest.mark.parametrize(
    ("over_s", "late", "words"),
    [
        (10, 0, "kept its budget"),
        (11, 0, "rack-7: above the budget for 11.0 s in a row"),
        (0, 50, "llm/chat: SLO missed"),
        (40, 50, "llm/chat: SLO missed"),
    ],
    ids=["ten seconds above is P1's own limit", "a second more is a failure", "SLO missed", "both missed"],
)
def test_the_sentence_names_what_failed(over_s: int, late: int, words: str) -> None:
    column = made.compared(made.run(over_s=over_s, late=late)).first
    assert words in summary.verdict(column)
    assert column.score.passed is (over_s <= 10 and late == 0)


def test_no_saving_is_quoted_by_who_missed_the_slo() -> None:
    told = summary.saving(made.compared(made.run(late=50), made.run(summary.BASELINE)))
    assert told.startswith("No saving is quoted against single-pool")
    assert told.endswith("because capstan missed the SLO.")


def test_the_saving_is_set_beside_the_best_fixed_fleet_and_the_possible() -> None:
    """4 against 8 (single-pool), 5 (best-static), 3 (oracle): 20 % less than 5; (8 - 4) / (8 - 3) = 80 %."""
    systems = [("capstan", 4.0), ("single-pool", 8.0), ("best-static", 5.0), ("oracle", 3.0)]
    told = summary.saving(made.compared(*(made.run(name, scale=scale) for name, scale in systems)))
    # fleet: 4 x 1,570 + 108 = 6,388 kJ against 5 x 1,570 + 108 = 7,958 kJ: 19.7 %
    assert told.endswith(
        "That is 20 % less than the best fixed fleet in hindsight (20 % less with free GPUs idling) "
        "and 80 % of what the oracle saves."
    )


def test_who_spends_more_than_the_baseline_captured_nothing() -> None:
    systems = (("capstan", 1.2), ("single-pool", 1.0), ("oracle", 0.5))
    told = summary.saving(made.compared(*(made.run(name, scale=scale) for name, scale in systems)))
    assert told.startswith("20 % more GPU energy")
    assert told.endswith("That is none of what the oracle saves.")


def test_a_share_is_never_rounded_up_to_a_promise() -> None:
    column = made.compared(made.run(late=14)).first  # 10 of the 14 are chat's: 890 of 900 good, 98.888… %
    rows = {row.label: row.cells for row in summary.rows([column])[:8]}
    assert rows["within both (SLO: 99 %)"][0] == cells.Cell("98.88 %", cells.Tone.BAD)


def test_the_terminal_table_is_plain_text_without_a_terminal(pair: Comparison) -> None:
    out = io.StringIO()
    summary.print_table(pair, Console(file=out, width=80))
    text = out.getvalue()
    assert "\x1b" not in text
    assert "TTFT limit, ms" in text
    assert max(map(len, text.splitlines())) <= 80, "it fits an old terminal"
    assert "J per output token" in text


def test_many_systems_are_a_row_each_in_the_terminal(many: Comparison) -> None:
    out = io.StringIO()
    summary.print_table(many, Console(file=out, width=110))
    names = [line.split()[0] for line in out.getvalue().splitlines() if line.split()]
    assert names[names.index("bound") + 1] == "capstan"
    assert sum(" missed " in line for line in out.getvalue().splitlines()) == 2
    assert "…" not in out.getvalue(), "no name is cut"
    assert "over-provisioned" in out.getvalue()
    # capstan 1,570 kJ, single-pool 1,727 kJ; with 108 kJ idling 1,678 and 1,835: 9.1 and 8.6 %
    assert " 9/9 " in out.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_fifteen_systems_fit_an_old_terminal_line_by_line(width: int) -> None:
    """The real names, each on one line, nothing cut and no line too long; with budgets and every reference."""
    runs = [made.run(name, scale=1 + 0.1 * i, late=50 * (i == 5)) for i, name in enumerate(play.ALL) if name != "bound"]
    out = io.StringIO()
    summary.print_table(made.compared(*runs), Console(file=out, width=width))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in out.getvalue()
    assert [line.split()[0] for line in lines[3 : 3 + len(runs)]] == [run.system for run in runs], (
        "a line each, by energy"
    )


def test_seeds_break_a_saving_at_its_slash_and_nowhere_else() -> None:
    scales = (("capstan", 1.0), ("best-static", 1.5), ("single-pool", 2.0), ("oracle", 0.8), ("keda-slo", 1.2))
    more = [
        [c.score for c in compare.scored([made.run(n, scale=s * (1 + 0.02 * i * (n == "capstan"))) for n, s in scales])]
        for i in (1, 2)
    ]
    first = compare.scored([made.run(name, scale=scale) for name, scale in scales])
    out = io.StringIO()
    summary.print_table(compare.of(first, more_seeds=more), Console(file=out, width=80))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    # single-pool's own 0, capstan 50, 49 and 48 % less: mean 49, Student's t 4.30 x 1 / sqrt(3) = 2.5
    assert "49.0±2.5" in text


def test_a_column_that_says_nothing_is_left_out() -> None:
    """Without best-static and oracle nothing can be said over them."""
    out = io.StringIO()
    runs = [made.run(name) for name in ("capstan", "single-pool", "keda-slo", "kubeai", "hpa-queue")]
    summary.print_table(made.compared(*runs), Console(file=out, width=80))
    assert "saving" in out.getvalue()
    assert "static" not in out.getvalue().partition("\n-")[0]
    assert "captured" not in out.getvalue()


def test_three_systems_too_wide_to_stand_side_by_side_stand_one_below_the_other() -> None:
    runs = [made.run(f"a-system-with-a-very-long-name-{i}") for i in range(3)]
    for width, rows in ((80, False), (160, True)):
        out = io.StringIO()
        summary.print_table(made.compared(*runs), Console(file=out, width=width))
        assert ("J per output token" in out.getvalue()) is rows
        assert "…" not in out.getvalue()


def test_a_fleet_that_a_rule_sized_is_not_called_over_provisioned() -> None:
    out = io.StringIO()
    sized = made.compared(made.run(), conditions=Conditions(provisioning="auto:12", rate_multiple=3.14159))
    summary.print_table(sized, Console(file=out, width=80))
    assert "over-provisioned" not in out.getvalue()
    assert "Fleet: auto:12, at 3.142 times the trace's own rates." in out.getvalue()


def test_square_brackets_in_a_name_are_not_markup() -> None:
    out = io.StringIO()
    summary.print_table(made.compared(dataclasses.replace(made.run(), system="[red]x")), Console(file=out, width=110))
    assert "[red]x" in out.getvalue()


def test_the_gap_between_oracle_and_bound_is_told_where_both_are_there(many: Comparison) -> None:
    told = summary.gap(many)
    found, least = many.column("oracle"), many.column("bound")
    assert found is not None
    assert least is not None
    share = 100 * (1 - least.score.energy_j / found.score.energy_j)
    assert f"{share:.0f} %" in told
    without = dataclasses.replace(many, columns=tuple(c for c in many.columns if c.run.system != "bound"))
    assert summary.gap(without) == ""
