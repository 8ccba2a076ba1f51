"""The demo's earlier cycles: each service's own requests, in order, ending where its load begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from capstan import decide
from capstan.journal import record
from capstan.model import fleet, plan
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing
from capstan.replay import load
from capstan.replay.scenario import Scenario
from capstan.serving import manifest
from rig import binaries
from rig.demo import earlier, manifests, stage
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


def test_a_cycle_is_a_day_in_whole_slots_and_an_epoch_is_short_beside_it(scenario: Scenario) -> None:
    """210 s in 14 slots of 15 s; half an epoch is more than two start-ups of 12 s."""
    found = earlier.settings(scenario)
    assert found.calendar.slots_per_day * found.calendar.slot_s == pytest.approx(scenario.duration_s)
    assert found.calendar.slot_s == pytest.approx(found.pool_period_s, rel=0.1)
    assert 2 * scenario.startup_s <= found.cluster_period_s / 2 <= scenario.duration_s / 4
    assert found.rate_window_s == scenario.settings.rate_window_s


def test_profiles_have_the_start_up_of_the_rigs_pods_where_a_forecast_needs_it(scenario: Scenario) -> None:
    shipped, rehearsed = (manifests.profiles(stage.PROFILES, startup_s=s) for s in (None, scenario.startup_s))
    assert {manifest.number(document, "spec", "startupSeconds") for document in rehearsed} == {scenario.startup_s}
    assert [manifest.key(document) for document in shipped] == [manifest.key(document) for document in rehearsed]


def cycle(at_s: float, rps: float | None, replicas: int, reason: Reason = Reason.FORECAST_PEAK) -> record.Recorded:
    arrival = Missing(Reason.NO_DATA) if rps is None else Fresh(rps, 1.0)
    seen = fleet.ServiceObserved("llm/chat", (), arrival_rps=arrival)
    pools = (plan.PoolPlan("all", 4, replicas),)
    decided = plan.PolicyDecision("llm/chat", pools, plan.Effect(), reason, Reason.NO_DATA)
    observed = fleet.Observed(at_s, (seen,))
    return record.Recorded(1, "one", "0", observed, (), (), decide.Settings(), (decided,), None, None)


@pytest.mark.parametrize(
    ("cycles", "said"),
    [
        pytest.param(
            [cycle(0, 1.0, 1), cycle(5, 1.0, 3), cycle(40, 4.6, 3), cycle(45, 5.0, 3), cycle(90, 1.0, 1)],
            ["llm/chat: 3 replicas asked for 35 s before its peak load"],
            id="foreseen: the load is there at 40 s, nine tenths of five",
        ),
        pytest.param(
            [cycle(0, 1.0, 1), cycle(40, 5.0, 1), cycle(50, 5.0, 3)],
            ["llm/chat: 3 replicas asked for 10 s after its peak load"],
            id="seen",
        ),
        pytest.param(
            [cycle(0, 1.0, 1), cycle(5, 1.0, 9, Reason.REQUESTS_WAITING), cycle(20, 5.0, 2)],
            ["llm/chat: 2 replicas asked for 0 s before its peak load"],
            id="an alarm is no foresight",
        ),
        pytest.param([cycle(0, None, 1)], [], id="nothing was seen"),
    ],
)
def test_what_was_foreseen_is_told(cycles: list[record.Recorded], said: list[str]) -> None:
    assert earlier.told(cycles) == said


def test_prometheus_takes_them_before_it_starts(scenario: Scenario, tmp_path: Path) -> None:
    try:
        promtool = binaries.find(("promtool",), may_build=False)["promtool"].path
    except binaries.NotAvailable as problem:
        pytest.skip(f"no promtool: {problem}")
    earlier.load(scenario, promtool, tmp_path / "data", now_s=START_S, times=1)
    assert list((tmp_path / "data").glob("*/meta.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "the exposition is not left behind"
