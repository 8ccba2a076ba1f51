"""An experiment in words: the terminal's table, the page and the JSON say the same, and nothing that was not shown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

import pytest

from capstan.replay.experiments import findings, pages
from capstan.replay.experiments.figures import CHANGE, ENERGY, GOOD, SAVING
from capstan.replay.experiments.findings import Reached, Reading
from capstan.replay.experiments.kinds import Cell, Figure, Goal, Row
from capstan.replay.experiments.pages import Told
from capstan.replay.pages.cells import Tone
from capstan.replay.scores.compare import Estimate
from capstan.replay.scores.recovery import Recovery
from capstan.replay.scores.score import Score
from support.browser import Page
from support.experiments import cell, experiment, scored

A, B = Row("a & b"), Row("b", beside="a & b")
SETTINGS = (("scenario", "small"), ("seeds", "1, 2"))


def told(cells: Mapping[str, tuple[Cell, ...]], *goals: Goal) -> Told:
    made = dataclasses.replace(experiment(A, B, figures=(ENERGY, SAVING, CHANGE, GOOD), goals=goals), ordered=True)
    return pages.of(findings.of(made, (A, B), cells), SETTINGS)


TWO = {
    "a & b": (cell(3.6e6, single_j=7.2e6), cell(7.2e6, single_j=7.2e6)),
    "b": (cell(3.6e6, single_j=7.2e6), cell(7.2e6, bad=11, single_j=7.2e6)),
}


def test_a_row_is_a_row_with_its_mean_and_interval() -> None:
    """1 and 2 kWh: 1.50, and 0.5 x 12.706 (one degree of freedom)."""
    (table,) = told(TWO).tables
    assert table.table.rows[0].label == "a & b"
    assert table.table.rows[0].cells[0].text == "1.50±6.35"
    assert table.notes == ("A note.",)


def test_a_seed_without_a_saving_leaves_a_dash_and_says_why() -> None:
    (table,) = told(TWO).tables
    by_head = dict(zip(table.table.heads, table.table.rows[1].cells, strict=True))
    assert by_head["saving %"].text == "-"
    assert (by_head["SLO"].text, by_head["SLO"].tone) == ("met in 1 of 2", Tone.BAD)


def test_a_column_in_which_nobody_has_anything_is_left_out() -> None:
    """No saving without single-pool, no change where the only pair missed the SLO."""
    (table,) = told({"a & b": (cell(1.0),), "b": (cell(1.0, bad=11),)}).tables
    assert table.table.heads == ("GPU kWh", "good %", "SLO")


NUMBERS = {
    "one seed": (Estimate(0.1234, None, 1), "12.3"),
    "some seeds": (Estimate(0.1234, 0.0056, 3), "12.3±0.6"),
    "nothing": (None, "-"),
    "next to nothing below zero": (Estimate(-0.0001, 0.0, 3), "0.0±0.0"),
    "many": (Estimate(12.345678, None, 1), "1,234.6"),
}


@pytest.mark.parametrize(("mean", "text"), NUMBERS.values(), ids=NUMBERS)
def test_a_figure_is_shown_in_the_units_of_people(mean: Estimate | None, text: str) -> None:
    figure = Figure("x_ratio", "x %", lambda _: None, 100.0, 1)
    assert pages.shown(Reading(figure, (), mean)) == text


def test_goals_are_printed_with_their_limit_row_and_verdict() -> None:
    cells = {"a & b": (cell(1000.0),), "b": (cell(1100.0),)}
    line, other = told(cells, Goal("loss", CHANGE, most=0.12), Goal("gain", CHANGE, least=0.2, row="b")).sentences[:2]
    assert line == "loss: 10.0 (b); goal at most 12: reached."
    assert other == "gain: 10.0 (b); goal at least 20: missed."


def test_a_goal_that_nothing_was_shown_of_is_open_and_so_not_reached() -> None:
    result = told({"a & b": (cell(1.0),), "b": (cell(1.0, bad=11),)}, Goal("loss", CHANGE, most=0.12))
    assert (
        result.sentences[0] == "loss: no figure (b or what it is compared with missed the SLO); goal at most 12: open."
    )
    assert not result.passed


def test_a_goal_may_be_open_for_another_reason() -> None:
    line = pages.goal(Reached(Goal("band", CHANGE, least=0.85), "b", None), "too few plans")
    assert line == "band: no figure (too few plans); goal at least 85: open."


MET = {"one seed": ((0,), "met", Tone.GOOD), "one seed, missed": ((11,), "missed", Tone.BAD),
       "all seeds": ((0, 0), "met in 2 of 2", Tone.GOOD), "no seed": ((11, 11), "met in 0 of 2", Tone.BAD)}  # fmt: skip


@pytest.mark.parametrize(("bad", "words", "tone"), MET.values(), ids=MET)
def test_a_row_says_in_how_many_seeds_it_met_the_slo(bad: tuple[int, ...], words: str, tone: Tone) -> None:
    each = tuple(cell(1.0, bad=late) for late in bad)
    own = told({"a & b": each, "b": each}).tables[0].table.rows[0].cells[-1]
    assert (own.text, own.tone) == (words, tone)


def test_a_fault_of_an_honesty_check_is_in_the_json_and_nowhere_without_one() -> None:
    result = told(TWO)
    assert "faults" not in json.loads(result.json)
    assert json.loads(dataclasses.replace(result, faults=("x is below oracle",)).json)["faults"] == [
        "x is below oracle"
    ]


def test_the_order_is_that_of_joules_among_those_that_met_the_slo() -> None:
    sentences = told({"a & b": (cell(2.0),), "b": (cell(1.0),)}).sentences
    assert sentences == ("Least joules first: b; a & b.",)
    sentences = told({"a & b": (cell(2.0),), "b": (cell(1.0, bad=11),)}).sentences
    assert sentences == ("SLO missed: b.",)


def test_rows_that_are_no_rivals_have_no_order() -> None:
    made = experiment(A, B)
    cells = {"a & b": (cell(2.0),), "b": (cell(1.0),)}
    assert pages.of(findings.of(made, (A, B), cells), SETTINGS).sentences == ()


# --- several services, events ------------------------------------------------------------------------


def _two_services(first_j: float, *, bad: int = 0) -> Score:
    made = scored(first_j, bad=bad)
    (one,) = made.policies
    return dataclasses.replace(made, policies=(one, dataclasses.replace(one, policy="llm/batch", slo_met=True)))


def test_several_policies_have_a_table_of_their_own() -> None:
    cells = {"a & b": (Cell(_two_services(3.6e6)),), "b": (Cell(_two_services(3.6e6, bad=20)),)}
    own, policies = told(cells).tables
    assert policies.title == "Policy by policy"
    assert [row.label for row in policies.table.rows] == [
        *("a & b", "  llm/chat", "  llm/batch"),
        *("b", "  llm/chat", "  llm/batch"),
    ]
    assert [cell.text for cell in policies.table.rows[4].cells] == ["98.00", "99", "9,000", "50.0", "1.00", "missed"]
    assert own.table.heads[-1] == "SLO"


def test_each_event_says_how_long_it_took_and_what_is_owed() -> None:
    """Back after 120 and 240 s in two seeds; after the second event never in one."""
    shocks = (
        (("llm/chat", Recovery(60.0, 120.0, 10.0, 4.0)), ("llm/chat", Recovery(900.0, None, 50.0, 9.0))),
        (("llm/chat", Recovery(60.0, 240.0, 30.0, 6.0)), ("llm/chat", Recovery(900.0, 60.0, 10.0, 1.0))),
    )
    with_shocks = tuple(Cell(scored(1.0), None, each) for each in shocks)
    (_, events) = told({"a & b": with_shocks, "b": (cell(1.0), cell(1.0))}).tables
    assert [row.label for row in events.table.rows] == ["a & b", "  llm/chat, at 60 s", "  llm/chat, at 900 s"]
    first, second = events.table.rows[1].cells, events.table.rows[2].cells
    assert first[0].text.startswith("180±")
    assert first[1].text == "0"
    assert (second[0].text, second[1].text, second[1].tone) == ("60", "1", Tone.BAD)
    assert second[2].text.startswith("30±")


# --- files -------------------------------------------------------------------------------------------


def test_the_json_has_every_seed_and_every_goal() -> None:
    document = json.loads(told(TWO, Goal("loss", CHANGE, most=0.12)).json)
    assert document["experiment"] == "made-up"
    assert document["settings"] == {"scenario": "small", "seeds": "1, 2"}
    first, second = document["rows"]
    assert first["figures"]["energy_j"]["values"] == [3.6e6, 7.2e6]
    assert second["figures"]["saving_ratio"] == {"values": [0.5, None], "mean": None, "half_width_95": None}
    assert (second["compared_with"], second["slo_met"]) == ("a & b", [True, False])
    assert [goal["reached"] for goal in document["goals"]] == [False]


def test_the_markdown_is_the_table_of_the_docs() -> None:
    """Every row has as many cells as there are heads; what does not hold for figures is below them."""
    lines = told(TWO, Goal("loss", CHANGE, most=0.12)).markdown.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in table} == {table[0].count("|")}
    assert [line.split("|")[1].strip() for line in table] == ["", "---", "a & b", "b"]
    assert "A note." in lines
    assert lines[-1] == "scenario: small; seeds: 1, 2."


def test_the_page_stands_alone_and_says_what_the_terminal_says() -> None:
    result = told(TWO, Goal("loss", CHANGE, most=0.12))
    seen = Page(result.html)
    assert seen.fetched == []
    for words in ("What is it?", "a & b", "1.50±6.35", "met in 1 of 2", "A note.", "scenario"):
        assert words in seen.text
    assert "a &amp; b" in result.html, "labels are escaped"


def test_the_page_asks_its_question_once() -> None:
    """It is the page's heading; a table that only answers it needs none of its own."""
    result = told(TWO)
    body = result.html.split("<body>")[1]
    assert body.count("What is it?") == 1
    assert result.markdown.count("*What is it?*") == 1, "the docs have no other heading"


def test_a_sign_and_its_unit_stay_together() -> None:
    """A browser may break a line between ± and %: a word joiner stands between them."""
    result = told({"a & b": (cell(1.0),), "b": (cell(2.0),)})
    assert "energy ±\u2060%</th>" in result.html
