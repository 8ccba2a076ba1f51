"""The demo's earlier cycles: each service's own requests, in order, ending where its load begins."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from capstan import decide
from capstan.journal import record
from capstan.model import fleet, plan
from capstan.model.policy import Bounds
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing
from capstan.replay import engine, load
from capstan.replay.runs import Requests, Run
from capstan.replay.scenario import Scenario
from capstan.replay.systems import Capstan
from capstan.serving import manifest
from rig import binaries
from rig.demo import earlier, manifests, stage
from rig.demo.command import SCENARIO
from support import builders, small

START_S = 1_790_000_000.0


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return load.scenario(SCENARIO)


def test_each_service_has_an_engine_that_served_every_cycle(scenario: Scenario) -> None:
    found = earlier.engines(scenario, start_s=START_S, times=2)
    assert [engine.workload for engine in found] == ["chat-tp4", "batch-tp4"]
    for one, service in zip(found, scenario.services, strict=True):
        assert len(one.arrivals_s) == 2 * len(service.requests)
        assert list(one.arrivals_s) == sorted(one.arrivals_s)
        first_s, last_s = one.arrivals_s[0], one.arrivals_s[-1]
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


# --- what the earlier cycles are good for, in virtual time -------------------------------------------

CYCLE_S, RISE_S, FALL_S = 450.0, 225.0, 360.0
STARTUP_S = 30.0
QUIET_RPS, BUSY_RPS = 1.5, 7.0  # one replica's load, and that of four


def cycle_of(busy_rps: float) -> Requests:
    """Return a cycle that is quiet but from 225 s to 360 s; evenly spaced arrivals, so that nothing is by chance."""
    spans = ((0.0, RISE_S, QUIET_RPS), (RISE_S, FALL_S, busy_rps), (FALL_S, CYCLE_S, QUIET_RPS))
    arrival_s = np.concatenate([np.arange(begin_s, end_s, 1 / rps) for begin_s, end_s, rps in spans])
    return Requests(arrival_s, np.full(len(arrival_s), 1155), np.full(len(arrival_s), 211))


def played(*, times: int, earlier_rps: float = BUSY_RPS) -> Run:
    """Run a cycle that gets busy for an operator that has seen `times` earlier ones, which rose to `earlier_rps`."""
    profiles = (builders.profile(startup_s=STARTUP_S),)
    made = small.scenario(cycle_of(earlier_rps))
    policy = builders.policy(bounds=Bounds(1, 4, tensor_parallel=(4,)))
    service = dataclasses.replace(made.services[0], policy=policy, profiles=profiles)
    periods = dataclasses.replace(made.settings, rate_window_s=15.0, lookback_s=120.0)
    made = dataclasses.replace(
        made, services=(service,), truths=(profiles,), settings=periods, duration_s=CYCLE_S, startup_s=STARTUP_S
    )
    known = earlier.remembered(made, times)
    today = dataclasses.replace(known.services[0], requests=cycle_of(BUSY_RPS))
    known = dataclasses.replace(known, services=(today,))
    return engine.run(known, Capstan.of(known))


def asked_s(run: Run) -> float:
    """Return when a second replica was asked for."""
    series = run.services[0].series
    return float(series.t_s[np.argmax(series.replicas_desired > 1)])


@pytest.mark.parametrize("times", [3, 8])
def test_with_earlier_cycles_a_replica_is_ready_when_the_load_rises(times: int) -> None:
    """An epoch of 60 s ahead of the rise; the template's smoothing and the slots show it up to three slots earlier."""
    run = played(times=times)
    series = run.services[0].series
    assert STARTUP_S <= RISE_S - asked_s(run) <= earlier.EPOCH_S + 3 * earlier.SLOT_S
    assert series.replicas_ready[np.searchsorted(series.t_s, RISE_S)] >= 2


@pytest.mark.parametrize(
    "run",
    [
        pytest.param({"times": 0}, id="no earlier cycle"),
        pytest.param({"times": 8, "earlier_rps": QUIET_RPS}, id="eight that never rose"),
    ],
)
def test_without_one_that_rose_it_is_asked_for_when_the_load_is_there(run: dict[str, float]) -> None:
    found = played(times=int(run["times"]), earlier_rps=run.get("earlier_rps", BUSY_RPS))
    assert RISE_S < asked_s(found) <= RISE_S + 60.0


def test_the_demos_own_cycle_is_told_before_and_after(scenario: Scenario) -> None:
    """What `rig demo --virtual --earlier N` says of its chat service.

    Without earlier cycles the rack's cut comes before the third replica is asked for, and a capped rack takes none.
    """
    words = []
    for times in (0, 3):
        known = earlier.remembered(scenario, times)
        words.append(
            next(line for line in earlier.told_of(engine.run(known, Capstan.of(known)), known) if "chat" in line)
        )
    assert "2 replicas asked for" in words[0]
    assert "3 replicas asked for" in words[1]
    assert words[1].endswith(" s before its peak load")


def test_a_remembered_cycle_is_the_demos_own(scenario: Scenario) -> None:
    known = earlier.remembered(scenario, 2)
    for before, after in zip(scenario.services, known.services, strict=True):
        assert after.history is not None
        assert after.requests is before.requests
        count = len(before.requests)
        np.testing.assert_allclose(after.history.arrival_s[count:], before.requests.arrival_s + scenario.duration_s)
        assert after.history.prompt_tokens[:count].tolist() == before.requests.prompt_tokens.tolist()
    assert known.settings == earlier.settings(scenario)
    assert all(service.history is None for service in earlier.remembered(scenario, 0).services)
