"""The report: one page without a network, numbers with units, and never half a file."""

from __future__ import annotations

import dataclasses
import html.parser
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from capstan.model.classes import Edges
from capstan.model.routes import TokenCost
from capstan.replay import classify, play
from capstan.replay.pages import cells, document, page, plots, report, summary, words
from capstan.replay.runs import Energy, Routed, Run
from capstan.replay.scores import compare, limits
from capstan.replay.scores.compare import Comparison, Conditions
from support import report as made
from support.replay import series


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


def compared(*made_runs: Run, conditions: Conditions | None = None) -> Comparison:
    return compare.of(compare.scored(made_runs), conditions or Conditions())


@pytest.fixture(scope="module")
def many() -> Comparison:
    """A dozen autoscalers and their references, two of which miss the SLO; the bound is no run."""
    names = ["capstan", "single-pool", "best-static", "oracle", *(f"autoscaler-with-a-name-{i}" for i in range(11))]
    columns = compare.scored([made.run(n, scale=1 + 0.1 * i, late=50 * (i in {6, 9})) for i, n in enumerate(names)])
    energy = {made.CHAT: Energy(4e5, 0, 0), made.BATCH: Energy(2e5, 0, 0)}
    return compare.of([*columns, compare.bound(columns[0], energy)])


@pytest.fixture(scope="module")
def pair() -> Comparison:
    return made.pair()


@pytest.fixture(scope="module")
def html_of_pair(pair: Comparison) -> str:
    return page.of(pair)


# --- the page ----------------------------------------------------------------------------------------


def test_the_page_fetches_nothing_and_is_well_formed(html_of_pair: str) -> None:
    parsed = Page(html_of_pair)
    assert parsed.fetched == []
    assert "http:" not in html_of_pair.replace("http://www.w3.org/", "")
    assert "@import" not in html_of_pair
    assert "url(" not in html_of_pair.replace("url(#", "")


def test_the_verdict_comes_first_and_the_saving_names_its_baseline(html_of_pair: str) -> None:
    text = " ".join(Page(html_of_pair).text.split())
    assert text.index("Held. Capstan met the SLO of llm/chat and llm/batch, and rack-7 kept its budget.") < 400
    # 1,570 kJ against 3,140 kJ; with 108 kJ of idle GPUs on both sides 1,678 / 3,248 = 48 % less
    assert "50 % less GPU energy (free GPUs off; 48 % less with free GPUs idling) against single-pool" in text
    assert "modelled by the simulated fleet, not measured on GPUs" in text


def test_energy_and_attainment_come_before_everything_else(html_of_pair: str) -> None:
    text = Page(html_of_pair).text
    order = ["Energy and SLO attainment", "Figures", "Latencies by system", "Every system over time", "in detail"]
    places = [text.index(title) for title in order]
    assert places == sorted(places)


def test_every_drawing_and_table_says_modelled_on_what(html_of_pair: str) -> None:
    drawings, tables = html_of_pair.count("<figure>"), html_of_pair.count("<table")
    named = html_of_pair.count(f"Modelled, not measured on GPUs: {made.PROFILE}; clock response nominal.")
    assert (drawings, tables) == (10, 4)
    assert named == drawings + tables


def test_the_page_is_small(html_of_pair: str) -> None:
    assert len(html_of_pair) < 400_000


def test_a_week_of_sixteen_systems_stays_under_three_megabytes() -> None:
    """60,480 samples a system, clocks that flip at each, a cap that comes and goes."""
    t_s = np.arange(0.0, 604_800.0, 10.0)
    noise = np.random.default_rng(1).random(len(t_s))
    clock_mhz = np.where(noise < 0.1, np.nan, np.where(noise < 0.5, 1410.0, 1605.0))
    busy = series(t_s, 4200 * noise, arrival_rps=9 * noise, replicas_ready=np.round(9 * noise),
                  replicas_desired=np.round(9 * noise), clock_cap_mhz=clock_mhz, expected_w=4000 * noise)  # fmt: skip
    base = made.run()
    (chat, _) = base.services
    week = dataclasses.replace(base, duration_s=604_800.0, domains=(), marks=(),
                               services=(dataclasses.replace(chat, series=busy),))  # fmt: skip
    column = compare.scored([week])[0]
    systems = [
        compare.Column(dataclasses.replace(week, system=f"s{i}"), dataclasses.replace(column.score, system=f"s{i}"))
        for i in range(16)
    ]
    text = page.of(compare.of(systems))
    assert 100_000 < len(text) < 3_000_000
    assert "days since the first arrival" in text


def test_every_dot_of_the_latency_plot_is_drawn() -> None:
    column = compared(made.run()).first
    requests = sum(len(service.outcomes.requests) for service in column.run.services)
    with_dots = next(plot for plot in plots.of([column]) if plot.title == "Latency of requests")
    assert with_dots.svg.count("h0") >= 2 * requests - 4


def test_both_colour_schemes_and_paper_are_served(html_of_pair: str) -> None:
    assert "prefers-color-scheme: dark" in html_of_pair
    assert "@media print" in html_of_pair
    assert "#0a0a" not in html_of_pair  # no stand-in colour is left


def test_a_dozen_systems_stand_in_rows_by_energy_and_who_missed_is_marked(many: Comparison) -> None:
    text = Page(page.of(many)).text
    figures = text[text.index("Figures") :]
    names = ["bound", "capstan", "single-pool", "best-static", "oracle", "autoscaler-with-a-name-0"]
    places = [figures.index(name) for name in names]
    assert places == sorted(places)
    assert figures[: figures.index("Modelled")].replace("missed:", "").count("missed") == 2
    assert "2 requests never finished" not in text


def test_names_cannot_break_out_of_the_page() -> None:
    evil = "</style><script>alert(1)</script>&$x$"
    base = made.run()
    services = (dataclasses.replace(base.services[0], policy=evil), base.services[1])
    text = page.of(compared(dataclasses.replace(base, system=evil, trace=evil, services=services)))
    assert "<script" not in text
    assert evil in Page(text).text


def test_nothing_served_and_no_samples_still_make_a_report() -> None:
    base = made.unserved(made.run())
    bare = tuple(dataclasses.replace(service, series=series()) for service in base.services)
    text = Page(page.of(compared(dataclasses.replace(base, services=bare, domains=(), marks=())))).text
    assert "1,200 requests never finished" in text
    assert "n/a" in text
    assert "Failed." in text


def test_who_was_not_measured_is_not_said_to_serve_nothing(many: Comparison) -> None:
    """Live, nobody sees each token go out, so that the longest gap is not known; the bound has no tokens."""
    base = made.run()
    unseen = tuple(
        dataclasses.replace(
            one, outcomes=dataclasses.replace(one.outcomes, max_tbt_s=one.outcomes.max_tbt_s * math.nan)
        )
        for one in base.services
    )
    live = Page(page.of(compared(dataclasses.replace(base, services=unseen)))).text
    assert ("nobody measured it" in live, "serves nothing" in live) == (True, False)
    bound = Page(page.of(many)).text
    assert ("nobody measured it" in bound, "serves nothing" in bound) == (False, True)


def test_the_same_run_gives_the_same_page(pair: Comparison, html_of_pair: str) -> None:
    assert page.of(pair) == html_of_pair


# --- in words ----------------------------------------------------------------------------------------


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
    column = compared(made.run(over_s=over_s, late=late)).first
    assert words in summary.verdict(column)
    assert column.score.passed is (over_s <= 10 and late == 0)


def test_no_saving_is_quoted_by_who_missed_the_slo() -> None:
    told = summary.saving(compared(made.run(late=50), made.run(summary.BASELINE)))
    assert told.startswith("No saving is quoted against single-pool")
    assert told.endswith("because capstan missed the SLO.")


def test_the_saving_is_set_beside_the_best_fixed_fleet_and_the_possible() -> None:
    """4 against 8 (single-pool), 5 (best-static), 3 (oracle): 20 % less than 5; (8 - 4) / (8 - 3) = 80 %."""
    systems = [("capstan", 4.0), ("single-pool", 8.0), ("best-static", 5.0), ("oracle", 3.0)]
    told = summary.saving(compared(*(made.run(name, scale=scale) for name, scale in systems)))
    # fleet: 4 x 1,570 + 108 = 6,388 kJ against 5 x 1,570 + 108 = 7,958 kJ: 19.7 %
    assert told.endswith(
        "That is 20 % less than the best fixed fleet in hindsight (20 % less with free GPUs idling) "
        "and 80 % of what the oracle saves."
    )


def test_who_spends_more_than_the_baseline_captured_nothing() -> None:
    systems = (("capstan", 1.2), ("single-pool", 1.0), ("oracle", 0.5))
    told = summary.saving(compared(*(made.run(name, scale=scale) for name, scale in systems)))
    assert told.startswith("20 % more GPU energy")
    assert told.endswith("That is none of what the oracle saves.")


def test_a_share_is_never_rounded_up_to_a_promise() -> None:
    column = compared(made.run(late=14)).first  # 10 of the 14 are chat's: 890 of 900 good, 98.888… %
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
    summary.print_table(compared(*runs), Console(file=out, width=width))
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
    summary.print_table(compared(*runs), Console(file=out, width=80))
    assert "saving" in out.getvalue()
    assert "static" not in out.getvalue().partition("\n-")[0]
    assert "captured" not in out.getvalue()


def test_three_systems_too_wide_to_stand_side_by_side_stand_one_below_the_other() -> None:
    runs = [made.run(f"a-system-with-a-very-long-name-{i}") for i in range(3)]
    for width, rows in ((80, False), (160, True)):
        out = io.StringIO()
        summary.print_table(compared(*runs), Console(file=out, width=width))
        assert ("J per output token" in out.getvalue()) is rows
        assert "…" not in out.getvalue()


def test_a_fleet_that_a_rule_sized_is_not_called_over_provisioned() -> None:
    out = io.StringIO()
    sized = compared(made.run(), conditions=Conditions(provisioning="auto:12", rate_multiple=3.14159))
    summary.print_table(sized, Console(file=out, width=80))
    assert "over-provisioned" not in out.getvalue()
    assert "Fleet: auto:12, at 3.142 times the trace's own rates." in out.getvalue()


def test_square_brackets_in_a_name_are_not_markup() -> None:
    out = io.StringIO()
    summary.print_table(compared(dataclasses.replace(made.run(), system="[red]x")), Console(file=out, width=110))
    assert "[red]x" in out.getvalue()


# --- report.json -------------------------------------------------------------------------------------

ISSUE_NAMES = {
    "requests", "completed", "slo_attainment_ratio", "ttft_s", "tpot_s", "tbt_s", "energy_j", "energy_idle_j",
    "energy_transition_j", "energy_unassigned_j", "energy_node_j", "slo_met", "slo_by_class", "slo_windows_ratio",
    "saving_ratio", "saving_over_best_static_ratio", "captured_ratio", "j_per_output_token", "gpu_seconds",
    "peak_power_w", "reconfigurations", "clock_changes", "captured_of_bound_ratio", "rate_multiple", "provisioning",
    "clock_response", "slo",
}  # fmt: skip
"""What others script against (issue 4, "CLI contract")."""


def written(comparison: Comparison) -> Any:
    """What a reader of the file gets."""
    return json.loads(json.dumps(document.of(comparison), allow_nan=False))


def test_the_json_has_every_name_that_others_script_against() -> None:
    conditions = Conditions("demo", limits.SloSet.CHAT, 2.5, "auto:12", "low", (("telemetry", "5 s"),))
    found = written(compared(made.run(), made.run(summary.BASELINE, scale=2.0), conditions=conditions))
    assert found["schema_version"] == document.SCHEMA_VERSION
    assert (found["scenario"], found["settings"]) == ("demo", {"telemetry": "5 s"})
    assert list(found["systems"]) == ["capstan", "single-pool"]
    for system in found["systems"].values():
        assert system.keys() >= ISSUE_NAMES
        assert set(system["ttft_s"]) == set(system["tpot_s"]) == set(system["tbt_s"]) == {"p50", "p90", "p99"}
        held = [system[name] for name in ("rate_multiple", "provisioning", "clock_response", "slo")]
        assert held == [2.5, "auto:12", "low", "chat"]


def test_the_json_carries_the_figures_of_the_run(pair: Comparison) -> None:
    capstan = written(pair)["systems"]["capstan"]
    assert (capstan["requests"], capstan["completed"], capstan["slo_attainment_ratio"]) == (1200, 1200, 1.0)
    # 1,150 kJ + 420 kJ: 80 % serving, 15 % idle, 5 % transition
    parts = [capstan[f"energy_{part}j"] for part in ("", "serving_", "idle_", "transition_", "unassigned_")]
    assert parts == pytest.approx([1_570_000, 1_256_000, 235_500, 78_500, 108_000])
    assert (capstan["saving_ratio"], capstan["saving_fleet_ratio"]) == pytest.approx((0.5, 1 - 1678 / 3248))
    assert (capstan["gpu_seconds"], capstan["reconfigurations"], capstan["clock_changes"]) == (4800, 24, 60)
    assert (capstan["energy_node_j"], capstan["captured_ratio"], capstan["note"]) == (None, None, None)
    chat = capstan["services"][0]
    assert (chat["policy"], chat["ttft_limit_s"], chat["profiles"]) == ("llm/chat", [2.0], [made.PROFILE])
    # ready replicas: the sum of the builder's wave over 240 s is not round; its bounds are
    assert 1.0 < chat["replicas_mean"] < 3.0


def test_the_bound_has_no_latency_and_every_request_good(many: Comparison) -> None:
    bound = written(many)["systems"]["bound"]
    assert bound["ttft_s"] == bound["tpot_s"] == bound["tbt_s"] == {"p50": None, "p90": None, "p99": None}
    assert (bound["slo_attainment_ratio"], bound["slo_met"], bound["energy_j"]) == (1.0, True, 6e5)
    absent = ("energy_unassigned_j", "gpu_seconds", "peak_power_w", "reconfigurations", "captured_ratio")
    assert [bound[name] for name in absent] == [None] * 5


def test_who_missed_the_slo_has_null_for_every_saving_and_says_why(many: Comparison) -> None:
    found = written(many)["systems"]["autoscaler-with-a-name-2"]
    names = [name for name in found if name.startswith(("saving", "captured"))]
    assert len(names) == 8
    assert [found[name] for name in names] == [None] * 8
    assert (found["note"], found["slo_met"]) == ("SLO missed", False)


def test_an_unknown_draw_is_a_gap_and_not_a_number() -> None:
    base = made.run()
    (rack,) = base.domains
    lost = np.where((rack.t_s >= 20) & (rack.t_s < 40), math.nan, rack.draw_w)
    domains = (dataclasses.replace(rack, draw_w=lost),)
    found = written(compared(dataclasses.replace(base, domains=domains, figures={"operator_rss_bytes": math.nan})))
    assert found["systems"]["capstan"]["domains"][0]["unknown_s"] == 20
    assert found["systems"]["capstan"]["figures"]["operator_rss_bytes"] is None
    assert not found["verdict"]["passed"]


def _nan_energy(run: Run) -> Run:
    broken = dataclasses.replace(run.services[0], energy=Energy(math.nan, 0.0, 0.0), gpu_seconds=math.inf)
    return dataclasses.replace(run, services=(broken,), energy_unassigned_j=math.nan, energy_node_j=math.nan)


@pytest.mark.parametrize("spoil", [_nan_energy, made.unserved], ids=["joules unknown", "nothing served"])
def test_nan_is_never_written(tmp_path: Path, spoil: Callable[[Run], Run]) -> None:
    report.write(compared(spoil(made.run())), tmp_path)
    text = (tmp_path / report.JSON_NAME).read_text(encoding="utf-8")
    assert json.loads(text)["systems"].keys() == {"capstan"}
    assert "NaN" not in text
    assert "Infinity" not in text


def test_every_name_of_the_json_is_in_the_reference(pair: Comparison, root: Path) -> None:
    def names(value: object) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(names, value))
        if not isinstance(value, dict):
            return set()
        free = {
            "systems",
            "settings",
            "figures",
            "slo_by_class",
            "class_mix",
            "request_energy_by_class",
            "state_ratio",
        }  # names of things
        below = [names(list(v.values()) if k in free else v) for k, v in value.items()]
        return set(value).union(*below)

    reference = (root / "docs" / "reference" / "report-json.md").read_text(encoding="utf-8")
    found = names(document.of(pair)) | names(document.of(compared(told_apart())))
    assert len(found) > 75
    assert [name for name in sorted(found) if f"`{name}`" not in reference] == []
    assert f"`schema_version`: {document.SCHEMA_VERSION}" in reference


# --- requests told apart -----------------------------------------------------------------------------


def told_apart() -> Run:
    """Chat's requests went to pools by a guess that takes every third for a long answer; joules can be shared out."""
    base = made.run()
    chat, batch = base.services
    edges, requests = Edges(), chat.outcomes.requests
    true = classify.true_codes(requests, edges)
    codes = np.where(np.arange(len(true)) % 3 == 0, true // 3 * 3 + 2, true)
    chat = dataclasses.replace(chat, routed=Routed(codes, edges), token_cost=TokenCost(1.0, 10.0))
    return dataclasses.replace(base, services=(chat, batch))


def services_of(comparison: Comparison) -> Any:
    systems: Any = document.of(comparison)["systems"]
    return systems["capstan"]["services"]


def test_what_wrong_guesses_cost_stands_in_the_numbers_and_on_the_page() -> None:
    """900 requests of chat, 300 of them taken for long; those that were not long were misplaced."""
    comparison = compared(told_apart())
    chat, batch = services_of(comparison)
    guesses = chat["guesses"]
    assert batch["guesses"] is None
    assert sum(map(sum, guesses["confusion"])) == chat["requests"]
    assert guesses["shorter"]["requests"] == 0
    assert guesses["longer"]["requests"] == round((1 - guesses["accuracy_ratio"]) * chat["requests"]) > 200
    text = Page(page.of(comparison)).text
    assert "Guessed lengths of answers" in text
    assert "capstan, llm/chat" in text
    assert words.percent(guesses["accuracy_ratio"]) in text


def test_joules_per_request_stand_in_the_numbers_and_on_the_page() -> None:
    """A share of all joules for every class that finished a request; the sum is the service's."""
    comparison = compared(told_apart())
    chat, batch = services_of(comparison)
    by_class = chat["request_energy_by_class"]
    assert batch["request_energy_by_class"] == {}
    assert sum(one["requests"] * one["request_j"] for one in by_class.values()) == pytest.approx(chat["energy_j"])
    assert set(by_class) == set(chat["class_mix"])
    assert "Joules per request by class" in Page(page.of(comparison)).text


def test_without_pools_by_class_neither_table_is_there(html_of_pair: str) -> None:
    assert "Guessed lengths" not in html_of_pair
    assert "Joules per request" not in html_of_pair


# --- the files ---------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_report_whole(tmp_path: Path, pair: Comparison) -> None:
    (tmp_path / report.HTML_NAME).write_text("old")
    (tmp_path / report.JSON_NAME).mkdir()  # the rename onto a folder fails
    with pytest.raises(OSError, match=r"report\.json"):
        report.write(pair, tmp_path)
    assert (tmp_path / report.HTML_NAME).read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == [report.HTML_NAME, report.JSON_NAME]


def test_a_folder_is_tried_before_anything_is_played(tmp_path: Path) -> None:
    report.prepare(tmp_path / "deep" / "out")
    assert list((tmp_path / "deep" / "out").iterdir()) == []
    with pytest.raises(OSError, match="nowhere"):
        report.prepare(Path("/proc/nowhere"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        report.prepare(tmp_path / "file")


def test_a_page_that_cannot_be_drawn_leaves_no_new_numbers(
    tmp_path: Path, pair: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Comparison) -> str:
        raise ValueError("no page")

    (tmp_path / report.JSON_NAME).write_text("old")
    monkeypatch.setattr(page, "of", broken)
    with pytest.raises(ValueError, match="no page"):
        report.write(pair, tmp_path)
    assert (tmp_path / report.JSON_NAME).read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == [report.JSON_NAME]


def test_the_gap_between_oracle_and_bound_is_told_where_both_are_there(many: Comparison) -> None:
    told = summary.gap(many)
    found, least = many.column("oracle"), many.column("bound")
    assert found is not None
    assert least is not None
    share = 100 * (1 - least.score.energy_j / found.score.energy_j)
    assert f"{share:.0f} %" in told
    without = dataclasses.replace(many, columns=tuple(c for c in many.columns if c.run.system != "bound"))
    assert summary.gap(without) == ""
