"""The demo's own file in virtual time: the same trace, budget cut and scorer as `make demo`, on and off."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from capstan.api import errors
from capstan.replay import engine, load, provision
from capstan.replay.scenario import Scenario
from capstan.replay.scores import score
from capstan.replay.seen import Want
from capstan.replay.stage import Stage
from capstan.replay.systems import Capstan, Fixed
from capstan.replay.traces import TraceError

DEMO = Path("policies/scenarios/demo.yaml")


@pytest.fixture(scope="module")
def demo(root: Path) -> Scenario:
    return load.scenario(root / DEMO)


def test_with_capstan_slo_and_budget_hold(demo: Scenario) -> None:
    found = score.of(engine.run(demo, Capstan.of(demo)))
    assert found.verdict.faults == ()
    assert found.passed


def test_without_capstan_the_same_run_fails(demo: Scenario) -> None:
    found = score.of(engine.run(demo, provision.at_mean_load(demo)))
    assert not found.passed
    assert any("rack-7: above the budget" in fault for fault in found.verdict.faults)


def test_the_same_seed_is_the_same_run(demo: Scenario) -> None:
    first, second = (engine.run(demo, Capstan.of(demo)) for _ in range(2))
    for one, other in zip(first.services, second.services, strict=True):
        assert one.energy == other.energy
        np.testing.assert_array_equal(one.outcomes.finish_s, other.outcomes.finish_s)
        np.testing.assert_array_equal(one.series.gpus_w, other.series.gpus_w)


def test_the_smallest_full_clock_fleet_meets_the_slo_and_one_fewer_does_not(demo: Scenario) -> None:
    run = Stage(demo).single_pool()
    assert score.of(run).slo_met
    count = int(run.services[0].series.replicas_desired[0])
    assert count > 1
    fewer = Fixed("one fewer", [Want("llm/chat", 4, count - 1), Want("llm/batch", 4, 1)])
    chat = score.of(engine.run(demo, fewer)).policies[0]
    assert not chat.slo_met


def test_the_drained_run_ends_every_request_once(demo: Scenario) -> None:
    run = engine.run(demo, Capstan.of(demo))
    for service, served in zip(demo.services, run.services, strict=True):
        assert served.outcomes.requests is service.requests
        assert np.isfinite(served.outcomes.finish_s).all()


def test_energy_is_the_integral_of_power(demo: Scenario) -> None:
    """Joules of the pools against the per-second watts of the ticks."""
    run = engine.run(demo, Capstan.of(demo))
    for service in run.services:
        seconds = np.diff(service.series.t_s, prepend=0.0)
        assert float((service.series.gpus_w * seconds).sum()) == pytest.approx(service.energy.total_j, rel=1e-6)


def test_more_budget_never_lowers_attainment(demo: Scenario) -> None:
    cut = demo.cuts[0]
    roomy = dataclasses.replace(demo, cuts=(dataclasses.replace(cut, budget_w=2 * cut.budget_w),))
    tight, loose = (score.of(engine.run(s, Capstan.of(s))).policies[0] for s in (demo, roomy))
    assert tight.figures.attainment_ratio is not None
    assert loose.figures.attainment_ratio is not None
    noise = 0.005  # another schedule, another handful of requests
    assert loose.figures.attainment_ratio >= tight.figures.attainment_ratio - noise


def test_priority_high_is_granted_by_the_namespaces_label(demo: Scenario) -> None:
    assert [s.policy.priority.value for s in demo.services] == ["High", "Low"]


def test_a_trace_of_ones_own_replaces_the_first(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "mine.csv"
    rows = "".join(f"2026-01-01 00:{i // 60:02d}:{i % 60:02d}.0000000,500,100\n" for i in range(1700))
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    loaded = load.scenario(root / DEMO, trace=path)
    assert set(loaded.services[0].requests.prompt_tokens.tolist()) == {500}
    assert "mine.csv" in loaded.trace


def test_a_trace_that_is_not_there_is_one_clear_error(tmp_path: Path, root: Path) -> None:
    with pytest.raises(TraceError):
        load.scenario(root / DEMO, trace=tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("kind: Fleet", "kind: Fleat", "Fleat"),
        ("tensorParallel: [4]", "tensorParallel: [1]", "profiles exist at tp"),
        ("policy: llm/chat", "policy: llm/chut", "there is no ServingPolicy llm/chut"),
        ("compression: 8", "compression: 0", "compression"),
        ("budgetWatts: 12000", "budgetWatts: -1", "budgetWatts"),
    ],
    ids=["a misspelt kind", "a tp without a profile", "a trace for nobody", "no compression", "a negative budget"],
)
def test_a_wrong_scenario_names_the_field(tmp_path: Path, root: Path, old: str, new: str, says: str) -> None:
    text = (root / DEMO).read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "scenario.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(errors.Invalid, match=says):
        load.scenario(path, profiles=root / "policies" / "profiles")


def test_without_the_shared_data_the_trace_is_synthetic_and_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capstan.replay.traces.shared_data_at_hand", lambda: None)
    loaded = load.scenario(root / DEMO)
    assert "synthetic" in loaded.trace
    assert len(loaded.services[0].requests) > 500
