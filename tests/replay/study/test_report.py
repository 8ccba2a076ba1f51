"""What a study leaves: a page without a network, numbers with units, a row per cell, and the same words everywhere."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from capstan.model.profile import ClockResponse
from capstan.model.slo import Slo
from capstan.replay.pages import svg
from capstan.replay.study import drawings, findings, page, report, survey, tables
from capstan.replay.study.finding import Verdict
from capstan.replay.study.loads import ClassLoad
from capstan.replay.study.report import Asked, Report
from support import study as made
from support.browser import Page

KINDS = (
    made.kind("SS", prompt_tokens=120, output_tokens=60, share=0.25),
    made.kind("LL", prompt_tokens=1800, output_tokens=400, share=0.75),
)
ASKED = Asked(family="llm <&> gpu", lengths="made by hand", slo="chat: 2,000 ms, 100 ms, p99", percentile_ratio=0.99)


def studied(
    kinds: tuple[ClassLoad, ...] = KINDS, *, responses: tuple[ClockResponse, ...] = tuple(ClockResponse)
) -> Report:
    study = survey.survey((made.engine(4), made.engine(8)), kinds, responses=responses, margin=0.9)
    return Report(ASKED, study, findings.of(study))


@pytest.fixture(scope="module")
def found() -> Report:
    return studied()


@pytest.fixture(scope="module")
def text(found: Report) -> str:
    return page.of(found)


def test_the_page_needs_no_network_and_says_that_it_is_modelled(text: str) -> None:
    read = Page(text)
    assert read.fetched == []
    for says in ("llm <&> gpu", "modelled", "clock response assumed", "made by hand", "chat: 2,000 ms, 100 ms, p99"):
        assert says in read.text, says


def test_the_page_shows_every_finding_and_every_drawing(found: Report, text: str) -> None:
    shown = Page(text).text.replace("\u00a0", " ")
    for one in found.findings:
        assert one.statement.paper in shown
        assert one.nominal.sentence in shown
    for name in ("Energy over the clock", "Energy against TPOT", "Energy against TTFT", "Clock and batch"):
        assert name in shown
    assert text.count("<svg ") == 4


def test_drawings_are_painted_in_the_pages_own_colours(text: str) -> None:
    """A stand-in colour that is left would be black on black in the dark."""
    assert "#0a0a" not in text
    assert "var(--series-2)" in text


def test_drawings_are_equal_from_run_to_run_and_small(found: Report, text: str) -> None:
    """A heat map fills one path per step and side of the SLO: cell by cell it would be ten times as long."""
    with svg.style():
        again = drawings.heat(found.study.nominal).svg
    assert again in text
    cells = sum(len(sheet.cells) for sheet in found.study.nominal.sheets)
    assert len(again) < 100 * cells


def test_the_document_is_finite_and_has_a_choice_per_class_and_response(found: Report) -> None:
    read = json.loads(json.dumps(report.document(found), allow_nan=False))
    assert (read["schema_version"], read["modelled"], read["margin_ratio"]) == (1, True, 0.9)
    assert [one["name"] for one in read["profiles"]] == ["test-tp4", "test-tp8"]
    assert [one["name"] for one in read["classes"]] == ["SS", "LL"]
    for one, kind in zip(read["classes"], KINDS, strict=True):
        assert set(one["by_clock_response"]) == {"low", "nominal", "high"}
        best = found.study.nominal.best(kind)
        assert best is not None
        assert one["by_clock_response"]["nominal"]["best"]["j_per_output_token"] == best.cell.j_per_output_token
        assert one["frontier_tpot"][-1]["j_per_output_token"] <= best.cell.j_per_output_token
    assert {one["verdict"] for one in read["findings"]} <= {verdict.value for verdict in Verdict}


def test_the_table_has_a_row_per_cell_with_its_flags(found: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(report.table(found.study))))
    assert tuple(rows[0]) == report.COLUMNS
    assert len(rows) == sum(len(sheet.cells) for view in found.study.views for sheet in view.sheets)
    best = found.study.nominal.best(KINDS[0])
    assert best is not None
    mine = [r for r in rows if (r["clock_response"], r["class"], r["keeps_slo"]) == ("nominal", "SS", "true")]
    least = min(mine, key=lambda row: float(row["j_per_output_token"]))
    assert float(least["clock_mhz"]) == best.cell.clock_mhz
    assert least["efficient"] == "true"
    for row in rows[::50]:
        watts = int(row["tp"]) * float(row["gpu_w"])
        assert float(row["replica_w"]) == pytest.approx(watts, rel=1e-4)
        made_j = watts / float(row["output_tokens_per_s"])
        assert float(row["j_per_output_token"]) == pytest.approx(made_j, rel=1e-4)


def test_three_files_are_written_and_nothing_else(found: Report, text: str, tmp_path: Path) -> None:
    path = report.write(found, text, tmp_path / "out")
    assert path == tmp_path / "out" / "study.html"
    assert sorted(one.name for one in path.parent.iterdir()) == ["study.csv", "study.html", "study.json"]
    assert path.read_text() == text
    assert json.loads((path.parent / "study.json").read_text()) == report.document(found)
    assert (path.parent / "study.csv").read_text() == report.table(found.study)


def test_a_terminal_of_80_columns_shows_every_cell_whole(found: Report) -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=False)
    tables.print_report(found, console)
    printed = console.file.getvalue() if isinstance(console.file, io.StringIO) else ""
    assert "…" not in printed
    for titled in (tables.best(found.study), tables.by_load(found.study)):
        for row in titled.table.rows:
            for shown in row.cells:
                assert shown.text in printed


def test_markdown_is_one_line_per_finding(found: Report) -> None:
    lines = tables.markdown(found).splitlines()
    assert len(lines) == 2 + len(found.findings)
    assert {line.count("|") for line in lines} == {5}


def test_where_nothing_keeps_the_slo_the_table_names_what_comes_closest() -> None:
    """A first token of 1,800 after 20 ms is beyond any clock and tp; one of 120 after 2 s is not."""
    hopeless = dataclasses.replace(KINDS[1], slo=Slo(0.020, 0.1))
    short = studied((KINDS[0], hopeless), responses=(ClockResponse.NOMINAL,))
    titled = tables.best(short.study)
    cells = {row.label: [cell.text for cell in row.cells] for row in titled.table.rows}
    assert cells["LL"][1] == "none"
    assert cells["SS"][1] != "none"
    assert "J high" not in titled.table.heads


def test_the_closest_is_named_where_nothing_keeps_the_slo() -> None:
    sheet = made.sheet(KINDS[0], tp=8, batches={1.0: made.line([9, 8, 7, 6, 5], stress_ratio=2.5)})
    notes = " ".join(tables.best(made.study(made.view(sheet))).notes)
    assert (
        "SS: nothing keeps its SLO with that margin; the closest, tp 8 at 1,980 MHz, reaches 250 % of a limit." in notes
    )
