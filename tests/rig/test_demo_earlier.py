"""The demo's earlier cycles: each service's own requests, in order, ending where its load begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from capstan.replay import load
from capstan.replay.scenario import Scenario
from rig import binaries
from rig.demo import earlier
from rig.demo.command import SCENARIO

START_S = 1_790_000_000.0


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return load.scenario(SCENARIO)


def test_each_service_has_an_engine_that_served_every_cycle(scenario: Scenario) -> None:
    found = earlier.engines(scenario, start_s=START_S, times=2)
    assert [engine.workload for engine in found] == ["chat-tp4", "batch-tp4"]
    for engine, service in zip(found, scenario.services, strict=True):
        assert len(engine.arrivals_s) == 2 * len(service.requests)
        assert list(engine.arrivals_s) == sorted(engine.arrivals_s)
        first_s, last_s = engine.arrivals_s[0], engine.arrivals_s[-1]
        assert first_s == START_S - 2 * scenario.duration_s + service.requests.arrival_s[0]
        assert last_s < START_S


def test_prometheus_takes_them_before_it_starts(scenario: Scenario, tmp_path: Path) -> None:
    try:
        promtool = binaries.find(("promtool",), may_build=False)["promtool"].path
    except binaries.NotAvailable as problem:
        pytest.skip(f"no promtool: {problem}")
    earlier.load(scenario, promtool, tmp_path / "data", now_s=START_S, times=1)
    assert list((tmp_path / "data").glob("*/meta.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "the exposition is not left behind"
