"""The report: one page without a network, numbers with units, and never half a file."""

from __future__ import annotations

import dataclasses
import html.parser
import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from capstan.replay import plots, report, score, summary
from capstan.replay.record import DomainTick, Mark, Run, Tick
from support import report as made


class Page(html.parser.HTMLParser):
    """Collects what a browser would fetch, the text it would show, and checks that tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta"}:
            self._open.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "data", "srcset"} and not (value or "").startswith("#"):
                self.fetched.append(f"{tag} {name}={value}")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text += data


def columns(*runs: Run) -> tuple[summary.Column, ...]:
    return summary.columns(runs, [score.of(run) for run in runs])


@pytest.fixture(scope="module")
def pair() -> tuple[summary.Column, ...]:
    base = made.run(summary.BASELINE)
    dearer = tuple(dataclasses.replace(s, energy_j=2 * s.energy_j) for s in base.services)
    return columns(made.run(), dataclasses.replace(base, services=dearer))


@pytest.fixture(scope="module")
def page(pair: tuple[summary.Column, ...]) -> str:
    return report.page(pair)


def test_the_page_fetches_nothing_and_is_well_formed(page: str) -> None:
    parsed = Page(page)
    assert parsed.fetched == []
    assert "http:" not in page.replace("http://www.w3.org/", "")
    assert "@import" not in page
    assert "url(" not in page.replace("url(#", "")


def test_the_verdict_comes_first_and_the_saving_names_its_baseline(page: str) -> None:
    text = " ".join(Page(page).text.split())
    assert text.index("Held. Capstan met the SLO of llm/chat and llm/batch, and rack-7 kept its budget.") < 400
    # 1,570 kJ against 3,140 kJ; with 108 kJ of idle GPUs on both sides 1,678 / 3,248 = 48 % less
    assert "50 % less GPU energy (free GPUs off; 48 % less with free GPUs idling) against single-pool" in text
    assert "modelled by the simulated fleet, not measured on GPUs" in text
    assert "fit error 8.2 %" in text


def test_the_page_is_small(page: str) -> None:
    assert len(page) < 400_000


def test_every_dot_of_the_latency_plot_is_drawn() -> None:
    run = made.run()
    assert plots.of([run])[-2].svg.count("h0") >= 2 * len(run.outcomes) - 4


def test_both_colour_schemes_and_paper_are_served(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert "#0a0a" not in page  # no stand-in colour is left


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
    (column,) = columns(made.run(over_s=over_s, late=late))
    assert words in summary.verdict(column)
    assert column.score.passed is (over_s <= 10 and late == 0)


def test_no_saving_is_quoted_by_who_missed_the_slo() -> None:
    both = columns(made.run(late=50), made.run(summary.BASELINE))
    assert summary.saving(both).startswith("No saving is quoted against single-pool")
    assert summary.saving(both).endswith("because capstan missed the SLO.")


def test_a_share_is_never_rounded_up_to_a_promise() -> None:
    (column,) = columns(made.run(late=14))  # 10 of the 14 are chat's: 890 of 900 good, 98.888… %
    cells = {row.label: row.cells for row in summary.rows([column])[:8]}
    assert cells["within both limits (SLO: 99 %)"][0] == summary.Cell("98.88 %", summary.Tone.BAD)


def test_names_cannot_break_out_of_the_page() -> None:
    evil = "</svg><script>alert(1)</script>$x$ & \"'"
    base = made.run()
    run = dataclasses.replace(
        base,
        trace=evil,
        settings=((evil, evil),),
        marks=(Mark(10.0, evil),),
        services=(dataclasses.replace(base.services[0], profile=evil), base.services[1]),
        ticks=tuple(Tick(t.t_s, t.policies, (dataclasses.replace(t.domains[0], domain=evil),)) for t in base.ticks),
    )
    text = report.page(columns(run))
    assert "<script" not in text
    assert evil in Page(text).text


def test_nothing_served_and_no_ticks_still_make_a_report() -> None:
    empty = dataclasses.replace(made.unserved(made.run()), ticks=(), marks=())
    text = Page(report.page(columns(empty))).text
    assert "1,200 requests never finished" in text
    assert "n/a" in text
    assert "Failed." in text


def test_an_unknown_draw_is_a_gap_and_not_a_number(tmp_path: Path) -> None:
    base = made.run()
    lost = tuple(
        Tick(t.t_s, t.policies, (DomainTick(made.RACK, math.nan, 9000, "Normal"),)) if 20 <= t.t_s < 40 else t
        for t in base.ticks
    )
    run = dataclasses.replace(base, ticks=lost, figures={"operator_rss_bytes": math.nan})
    report.write([run], [score.of(run)], tmp_path)
    written = json.loads((tmp_path / report.JSON_NAME).read_text())
    assert written["runs"][0]["domains"][0]["unknown_s"] == 20
    assert written["runs"][0]["figures"]["operator_rss_bytes"] is None
    assert not written["verdict"]["passed"]


def test_the_json_carries_the_same_figures_with_units(pair: tuple[summary.Column, ...], tmp_path: Path) -> None:
    report.write([c.run for c in pair], [c.score for c in pair], tmp_path)
    written = json.loads((tmp_path / report.JSON_NAME).read_text())
    assert written["schema_version"] == report.SCHEMA_VERSION
    assert written["verdict"]["passed"] is True
    chat = written["runs"][0]["policies"][0]
    assert (chat["policy"], chat["arrived_requests"], chat["ttft_limit_s"]) == ("llm/chat", 900, 2.0)
    assert chat["attainment_ratio"] == 1.0
    # ready replicas: hand sum of the builder's wave over 240 s is not round; the bounds are
    assert 1.0 < chat["mean_replicas"] < 3.0
    assert [run["system"] for run in written["runs"]] == ["capstan", "single-pool"]


def test_a_failed_write_leaves_the_old_report_whole(tmp_path: Path, pair: tuple[summary.Column, ...]) -> None:
    (tmp_path / report.HTML_NAME).write_text("old")
    (tmp_path / report.JSON_NAME).mkdir()  # the rename onto a folder fails
    with pytest.raises(OSError, match=r"report\.json"):
        report.write([c.run for c in pair], [c.score for c in pair], tmp_path)
    assert (tmp_path / report.HTML_NAME).read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == [report.HTML_NAME, report.JSON_NAME]


def test_a_run_without_its_score_is_refused() -> None:
    with pytest.raises(ValueError, match="one score per run"):
        summary.columns([made.run()], [])


def test_the_same_run_gives_the_same_page(pair: tuple[summary.Column, ...], page: str) -> None:
    assert report.page(pair) == page


def test_the_terminal_table_is_plain_text_without_a_terminal(pair: tuple[summary.Column, ...]) -> None:
    out = io.StringIO()
    summary.print_table(pair, Console(file=out, width=80))
    text = out.getvalue()
    assert "\x1b" not in text
    assert "2,000 ms / 100 ms" in text
    assert max(map(len, text.splitlines())) <= 80, "it fits an old terminal"
    assert "joules per output token" in text


def test_square_brackets_in_a_name_are_not_markup() -> None:
    run = dataclasses.replace(made.run(), system="[red]x")
    out = io.StringIO()
    summary.print_table(columns(run), Console(file=out, width=110))
    assert "[red]x" in out.getvalue()
