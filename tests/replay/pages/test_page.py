"""The page: without a network, well-formed, small, the same each time."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from capstan.replay.pages import page, plots
from capstan.replay.scores import compare
from capstan.replay.scores.compare import Comparison
from support import report as made
from support.browser import Page
from support.replay import series


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
    column = made.compared(made.run()).first
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
    text = page.of(made.compared(dataclasses.replace(base, system=evil, trace=evil, services=services)))
    assert "<script" not in text
    assert evil in Page(text).text


def test_nothing_served_and_no_samples_still_make_a_report() -> None:
    base = made.unserved(made.run())
    bare = tuple(dataclasses.replace(service, series=series()) for service in base.services)
    text = Page(page.of(made.compared(dataclasses.replace(base, services=bare, domains=(), marks=())))).text
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
    live = Page(page.of(made.compared(dataclasses.replace(base, services=unseen)))).text
    assert ("nobody measured it" in live, "serves nothing" in live) == (True, False)
    bound = Page(page.of(many)).text
    assert ("nobody measured it" in bound, "serves nothing" in bound) == (False, True)


def test_the_same_run_gives_the_same_page(pair: Comparison, html_of_pair: str) -> None:
    assert page.of(pair) == html_of_pair
