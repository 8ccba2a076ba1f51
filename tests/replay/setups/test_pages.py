"""What a search says: the sentence, the comparisons, tables, JSON and a page without a network."""

from __future__ import annotations

import dataclasses
import json
import math

import matplotlib as mpl
import pytest

from capstan.model.policy import Bounds
from capstan.replay.scores import limits
from capstan.replay.setups import apart, demand, document, drawings, pages
from capstan.replay.setups.finding import Asked, Found
from capstan.replay.setups.handed import PairHunt
from capstan.replay.setups.hunt import Hunt
from capstan.replay.setups.kinds import Engine, Objective, Pair, Setup
from capstan.replay.setups.world import Alone, Played
from support import setups, small
from support.setups import FULL_MHZ, OWN

BEST = setups.played(Setup(Engine(4, 1, 256, 1024), 2, 1500.0), energy_j=800_000.0, attainment_ratio=0.998)
OWN_BEST = setups.played(Setup(OWN, 3, 1200.0), energy_j=1_000_000.0)
MISSED = setups.played(Setup(OWN, 1, FULL_MHZ), slo_met=False, attainment_ratio=0.6, ttft_s=9.0, tpot_s=0.2)


def pair(energy_j: float) -> Played[Pair]:
    made = Pair(Setup(OWN, 1, 1980.0), Setup(OWN, 1, 1020.0))
    return Played(made, True, 0.999, energy_j, 0.0, 0.5, 0.03, 10.0, 100, 100, 10_000)


def found(
    *each: Played[Setup], pairs: tuple[Played[Pair], ...] = (), finished: bool = True, bounds: Bounds | None = None
) -> Found:
    """A search that played just these."""
    alone = Alone.of(small.scenario(), limits.SloSet.SCENARIO)
    screen = setups.screen(
        stretches=demand.stretches(alone.requests, small.TP4), rooms=alone.rooms, bounds=bounds or Bounds(1, 8)
    )
    hunt = Hunt(screen, setups.Arithmetic(screen), 80, tried={one.setup: one for one in each}, finished=finished)
    pair_hunt = PairHunt(screen, lambda _: pairs[0], 20, tried={one.setup: one for one in pairs}, finished=finished)
    return Found(alone, Asked(), screen, screen.rows(), apart.search(screen), hunt, pair_hunt, 0.5, 3.0)


def test_the_sentence_names_set_up_joules_gpus_and_attainment() -> None:
    assert pages.sentence(found(BEST, OWN_BEST)) == (
        "2 x tp 4, chunk 1,024, 256 sequences, 1,500 MHz: least joules that meet the SLO, 800 kJ on 8 of 16 GPUs, "
        "99.80 % of the requests inside it."
    )


def test_gpus_first_says_so() -> None:
    one = dataclasses.replace(found(BEST), asked=Asked(Objective.GPUS))
    assert "fewest GPUs that meet the SLO" in pages.sentence(one)


def test_the_winner_stands_beside_simpler_set_ups() -> None:
    """800 kJ of 1,000 kJ is a fifth less; 600 kJ of 800 kJ a quarter less than the best in one pool."""
    lines = list(pages.comparisons(found(BEST, OWN_BEST)))
    assert lines[0].startswith(
        "20.0 % fewer joules than the best with the scenario's own engine flags (3 x tp 4, chunk 512"
    )
    apart_lines = list(pages.comparisons(found(BEST, OWN_BEST, pairs=(pair(600_000.0),))))
    assert apart_lines[0].startswith("40.0 % fewer joules than the best with the scenario's own engine flags")
    assert apart_lines[1].startswith("25.0 % fewer joules than the best in one pool (2 x tp 4, chunk 1,024")


def test_a_pair_that_costs_more_does_not_win() -> None:
    one = found(BEST, pairs=(pair(900_000.0),))
    assert one.best is not None
    assert one.best.setup == BEST.setup


def test_how_sure_the_winner_is() -> None:
    assert "no neighbour of the best in one pool is better" in list(pages.comparisons(found(BEST)))[-1]
    spent = list(pages.comparisons(found(BEST, finished=False)))[-1]
    assert "its runs were used up before all neighbours" in spent
    assert "pairs of pools used up theirs" in spent
    assert "the largest fleets were among them" in list(pages.comparisons(found(MISSED)))[-1]


def test_where_nothing_meets_the_slo_the_closest_and_its_limits_are_named() -> None:
    worse = setups.played(Setup(OWN, 1, 1500.0), slo_met=False, attainment_ratio=0.4)
    text = pages.sentence(found(worse, MISSED, bounds=Bounds(1, 8, max_gpus=4)))
    assert text.startswith("Nothing meets the SLO on 4 GPUs. Closest: 1 x tp 4, chunk 512, 256 sequences, 1,980 MHz,")
    for says in (
        "60.00 %",
        "TTFT p99 is 9,000 ms of 2,000 ms",
        "TPOT p99 is 200 ms of 100 ms",
        "the busiest minute brings",
    ):
        assert says in text, text


def test_a_miss_that_no_quantile_shows_is_explained() -> None:
    one = setups.played(Setup(OWN, 1, FULL_MHZ), slo_met=False, attainment_ratio=0.995)
    pooled = found(one)
    assert "TTFT" not in pages.limited(pooled, one)
    assert "requests/s" in pages.limited(pooled, one)
    made = dataclasses.replace(pair(1.0), slo_met=False)
    assert "5-minute window" in pages.limited(found(one, pairs=(made,)), made)


def test_unfinished_requests_are_counted() -> None:
    one = setups.played(Setup(OWN, 1, FULL_MHZ), slo_met=False, completed=40, ttft_s=math.inf)
    assert "60 of 100 requests never finished" in pages.limited(found(one), one)


def test_the_leading_table_has_the_best_of_each_layout_and_the_own_flags() -> None:
    piped = setups.played(Setup(Engine(4, 2, 256, 512), 1, FULL_MHZ), energy_j=900_000.0)
    second = setups.played(Setup(Engine(4, 1, 256, 1024), 3, 1500.0), energy_j=850_000.0)
    table = pages.leading(found(BEST, second, OWN_BEST, piped, MISSED, pairs=(pair(700_000.0),)))
    names = [row.label for row in table.rows]
    assert len(names) == 4
    assert names[0].startswith("prefill 1 x tp 4")
    assert names[1:] == [BEST.setup.words, piped.setup.words, OWN_BEST.setup.words]
    remarks = [row.cells[-1].text for row in table.rows]
    assert remarks[0] == "best"
    assert remarks[1] == "chunk extrapolated (measured to 600 tokens)"
    assert remarks[2] == "pipeline modelled"
    assert remarks[3] == "best with the scenario's flags"


def test_every_run_is_in_the_long_table_those_that_met_first() -> None:
    table = pages.everything(found(MISSED, OWN_BEST, BEST))
    assert [row.label for row in table.rows] == [BEST.setup.words, OWN_BEST.setup.words, MISSED.setup.words]
    assert table.rows[-1].cells[-1].text == "SLO missed"


def test_the_document_is_json_with_nulls_for_what_does_not_exist() -> None:
    unfinished = setups.played(
        Setup(OWN, 1, FULL_MHZ), slo_met=False, ttft_s=math.inf, tpot_s=math.inf, output_tokens=0, completed=0
    )
    read = json.loads(json.dumps(document.of(found(BEST, OWN_BEST, unfinished, pairs=(pair(9e5),))), allow_nan=False))
    assert read["schema_version"] == 1
    assert read["best"]["set_up"] == {
        "tp": 4, "pp": 1, "replicas": 2, "gpus": 8, "max_num_seqs": 256, "chunk_tokens": 1024, "clock_mhz": 1500.0
    }  # fmt: skip
    assert read["best"]["j_per_output_token"] == 80
    assert read["replayed"][-1]["ttft_p99_s"] is None
    assert read["replayed"][-1]["j_per_output_token"] is None
    assert read["world_runs"] == len(read["replayed"]) == 4
    assert {"prefill", "decode", "gpus"} == set(read["frontier_apart_closed_form"][0]["set_up"])
    assert json.loads(json.dumps(document.of(found(MISSED)), allow_nan=False))["best"] is None


def test_the_page_stands_alone_and_says_what_is_modelled() -> None:
    html = pages.html(found(BEST, OWN_BEST, MISSED, pairs=(pair(7e5),)))
    assert html.count("<svg") == 3
    for never in ("http://", "https://", "<script", "#0a0a"):
        assert never not in html, never
    for says in ("Found.", "Modelled, not measured on GPUs: test-tp4", "no autoscaling", "What was searched"):
        assert says in html, says


def test_the_page_of_a_search_without_a_winner_says_so() -> None:
    assert "Nothing fits." in pages.html(found(MISSED))


def test_a_policy_s_name_is_escaped() -> None:
    one = found(BEST)
    scenario = dataclasses.replace(one.alone.scenario, trace="<b>mine</b>")
    html = pages.html(dataclasses.replace(one, alone=dataclasses.replace(one.alone, scenario=scenario)))
    assert "<b>mine</b>" not in html
    assert "&lt;b&gt;mine" in html


def test_nothing_played_is_nothing_drawn() -> None:
    assert drawings.of(found()) == ()


@pytest.mark.parametrize(
    ("points", "edge"),
    [
        ([], []),
        ([(1.0, 5.0), (2.0, 4.0), (3.0, 4.5)], [(1.0, 5.0), (2.0, 4.0)]),
        ([(2.0, 1.0), (1.0, 1.0)], [(1.0, 1.0)]),
    ],
    ids=["nothing", "a point beaten in both", "equal in one"],
)
def test_the_edge_is_what_nothing_beats(points: list[tuple[float, float]], edge: list[tuple[float, float]]) -> None:
    assert drawings.frontier(points) == edge


def test_drawing_leaves_no_style_behind() -> None:
    before = mpl.rcParams["font.size"]
    drawings.of(found(BEST))
    assert mpl.rcParams["font.size"] == before
