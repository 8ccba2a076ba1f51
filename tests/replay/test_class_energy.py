"""Joules per request by class of a run: the sum is what was drawn, and an odd window is found where it was put."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from capstan.model.routes import TokenCost
from capstan.replay.runs import Energy, ServiceRun
from capstan.replay.scores import routes
from support import builders, small
from support.replay import SLO, Fate, fate, outcomes, series

COST = TokenCost(1.0, 10.0)


def service(fates: list[Fate], energy_j: float = 1000.0, **changes: Any) -> ServiceRun:
    base = ServiceRun("llm/chat", SLO, (), outcomes(fates), series(), Energy(energy_j, 0, 0), token_cost=COST)
    return dataclasses.replace(base, **changes)


def test_classes_by_hand() -> None:
    """MS: 500 + 10 x 11 = 610 twice; LS: 2,000 + 110 = 2,110. 3,330 J: 610 and 2,110 each; the last never ends."""
    never = fate(3.0, ttft_s=float("nan"), prompt=100)
    found = routes.of(service([fate(0.0), fate(1.0), fate(2.0, prompt=2000), never], energy_j=3330.0))
    assert [(one.name, one.requests) for one in found] == [("MS", 2), ("LS", 1)]
    assert [one.request_j for one in found] == pytest.approx([610, 2110])
    assert all(one.odd_ratio is None for one in found)


def test_where_nobody_modelled_the_cost_nothing_is_said() -> None:
    assert routes.of(service([fate()], token_cost=None)) == ()
    assert routes.of(service([])) == ()


def steady(windows: int, *, odd: int | None = None) -> ServiceRun:
    """A request of 500 and 11 tokens every ten seconds at 400 W; in one window the watts are half as much again."""
    t_s = np.arange(10.0, 300.0 * windows + 1, 10.0)
    gpus_w = np.where((t_s - 5.0) // 300 == odd, 600.0, 400.0)
    joules = float((10 * gpus_w).sum())
    return service([fate(t - 8.0) for t in t_s.tolist()], joules, series=series(t_s, gpus_w))


def test_a_steady_service_is_never_odd() -> None:
    (found,) = routes.of(steady(20))
    assert found.request_j == pytest.approx(4000)
    assert found.odd_ratio == pytest.approx(0.0, abs=0.01)


def test_an_odd_window_is_found_where_it_was() -> None:
    """Watts half as high again: 2,000 J above 4,000 J, 25 times the least spread of 2 %."""
    (found,) = routes.of(steady(20, odd=15))
    assert found.odd_s == 15 * 300.0
    assert found.odd_ratio == pytest.approx(25, rel=0.01)


def test_an_odd_window_in_the_first_hour_has_nothing_to_stand_beside() -> None:
    """Windows 12 and on are judged against a past that holds it, and stay ordinary."""
    (found,) = routes.of(steady(20, odd=3))
    assert found.odd_ratio == pytest.approx(0.0, abs=0.01)


def test_blocks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    run = steady(14, odd=13)
    whole = routes.of(run)
    monkeypatch.setattr(routes, "BLOCK", 11)
    assert routes.of(run) == whole


def test_watts_that_nobody_knows_make_no_figure_of_nan() -> None:
    base = steady(14)
    gpus_w = base.series.gpus_w.copy()
    gpus_w[100:110] = np.nan
    (found,) = routes.of(dataclasses.replace(base, series=dataclasses.replace(base.series, gpus_w=gpus_w)))
    assert np.isfinite(found.request_j)


def test_costs_are_of_the_mean_batch_and_context() -> None:
    """Two replicas with 20 requests in all: a batch of 10; contexts of 500 and half of 11 tokens."""
    p = builders.profile()
    requests = outcomes([fate(0.0), fate(1.0)]).requests
    busy = series([1.0, 2.0], replicas_ready=2, running=[10, 30])
    from capstan.model import routes as core

    assert routes.token_cost(p, requests, busy) == core.token_cost(p, batch=10, sequence_tokens=505.5)
    assert routes.token_cost(p, requests, series([1.0, 2.0])) is None  # nothing ran


def test_a_played_run_shares_out_all_its_joules() -> None:
    from capstan.replay import engine

    (run,) = engine.run(small.scenario(), small.Scripted({})).services
    found = routes.of(run)
    assert sum(one.requests for one in found) == len(run.outcomes.requests)
    assert sum(one.requests * one.request_j for one in found) == pytest.approx(run.energy.total_j)
    by_name = {one.name: one.request_j for one in found}
    assert by_name["SS"] < by_name["LM"]
