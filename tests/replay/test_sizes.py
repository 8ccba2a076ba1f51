"""What caps cost in latency, how often a domain braked, and how many servers each system holds, by hand."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capstan.model.policy import Priority
from capstan.replay.pages import sizes
from capstan.replay.pages.sizes import Size
from capstan.replay.runs import DomainSeries, Run
from capstan.replay.scores import compare, score, slowdown
from capstan.replay.scores.slowdown import Slowdown
from support.replay import fate, run, service

NAN = math.nan
TPOTS = (0.01, 0.02, 0.03, 0.04)


def stretched(ratio: float, priority: Priority = Priority.LOW) -> Run:
    """Four requests whose every time is `ratio` times as long."""
    fates = [fate(ttft_s=0.1 * ratio, tpot_s=tpot_s * ratio) for tpot_s in TPOTS]
    made = run([])
    own = dataclasses.replace(service(fates), priority=priority)
    return dataclasses.replace(made, services=(own,))


def domain(levels: list[str], draw_w: float = 80.0) -> DomainSeries:
    """A sample a second from 1 s on."""
    count = len(levels)
    t_s = np.arange(1.0, count + 1)
    full = [np.full(count, value) for value in (draw_w, 100.0, NAN)]
    return DomainSeries("row", t_s, full[0], full[1], np.array(levels), full[2], servers=4)


# --- slowdown ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [1.0, 1.25, 0.8], ids=["the same", "a quarter slower", "faster"])
def test_slowdown_is_a_quantile_over_the_uncapped_one_less_one(ratio: float) -> None:
    ((priority, found),) = slowdown.of(stretched(ratio, Priority.HIGH), stretched(1.0, Priority.HIGH))
    assert priority is Priority.HIGH
    assert (found.p50_ratio, found.p99_ratio) == pytest.approx((ratio - 1, ratio - 1))


def test_a_request_that_never_finished_under_caps_counts_in_neither_run() -> None:
    """The slowest one is lost: without it the p99 of both runs is the third request's."""
    capped, free = stretched(2.0), stretched(1.0)
    (own,) = capped.services
    finish_s = own.outcomes.finish_s.copy()
    finish_s[-1] = NAN
    lost = dataclasses.replace(own, outcomes=dataclasses.replace(own.outcomes, finish_s=finish_s))
    ((_, found),) = slowdown.of(dataclasses.replace(capped, services=(lost,)), free)
    assert (found.p50_ratio, found.p99_ratio) == pytest.approx((1.0, 1.0))


def test_nothing_finished_is_no_slowdown() -> None:
    nobody = stretched(NAN)
    assert slowdown.of(nobody, stretched(1.0)) == ((Priority.LOW, Slowdown(None, None)),)


# --- levels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "brakes"),
    [
        (["Normal"] * 4, 0),
        (["Normal", "Brake", "Brake", "LowDeep"], 1),
        (["Brake", "LowDeep", "Brake", "Brake"], 2),
    ],
    ids=["never", "two seconds are one brake", "again after a release"],
)
def test_a_brake_is_counted_when_it_is_pulled(levels: list[str], brakes: int) -> None:
    (found,) = score.of(dataclasses.replace(run([fate()]), domains=(domain(levels),))).domains
    assert (found.brakes, found.servers) == (brakes, 4)
    assert dict(found.state_ratio) == {level: levels.count(level) / 4 for level in set(levels)}


# --- sizes -------------------------------------------------------------------------------------------


def size(servers: int, *, level: str = "Normal", draw_w: float = 80.0, met: bool = True) -> Size:
    """A row of `servers` under one system, with what caps cost it."""
    made = stretched(1.0 if met else 100.0)
    made = dataclasses.replace(made, domains=(domain([level] * 4, draw_w),))
    return Size(servers, compare.of([compare.Column(made, score.of(made, uncapped=stretched(1.0)))]))


@pytest.mark.parametrize(
    ("played", "most"),
    [
        ([size(8), size(10), size(12)], 12),
        ([size(12), size(8), size(10, level="Brake")], 8),
        ([size(8), size(10, draw_w=100.5), size(12)], 8),
        ([size(8), size(10, met=False)], 8),
        ([size(8, level="Brake"), size(10)], None),
        ([size(8, level="LowDeep"), size(10, level="HighCap")], 10),
    ],
    ids=["all", "a brake", "a joule above", "an SLO missed", "not the fewest", "caps are no fault"],
)
def test_the_most_that_holds_has_none_below_it_that_fails(played: list[Size], most: int | None) -> None:
    system = played[0].comparison.first.run.system
    assert sizes.most(played, system) == most
    assert sizes.of(played)["systems"][system]["most_servers"] == most  # type: ignore[index]  # JSON


def test_page_and_json_are_written_and_every_name_is_in_the_reference(tmp_path: Path, root: Path) -> None:
    page = sizes.write([size(8), size(10, level="Brake")], tmp_path)
    assert "draws too much" in page.read_text(encoding="utf-8")
    found = json.loads((tmp_path / sizes.JSON_NAME).read_text(encoding="utf-8"))
    (system,) = found["systems"].values()
    assert [one["holds"] for one in system["sizes"]] == [True, False]
    (row,) = system["sizes"][0]["domains"]
    assert row["slowdown_p99_ratio"] == {"Low": 0.0}
    reference = (root / "docs" / "reference" / "report-json.md").read_text(encoding="utf-8")
    assert [name for name in names(found, {"systems", "state_ratio"}) if f"`{name}`" not in reference] == []


def names(value: Any, free: set[str]) -> list[str]:
    """Every name of a JSON document, those below names of things left out."""
    if isinstance(value, list):
        return sorted({name for one in value for name in names(one, free)})
    if not isinstance(value, dict):
        return []
    below = [names(list(v.values()) if k in free else v, free) for k, v in value.items()]
    return sorted({*value, *(name for found in below for name in found)})
