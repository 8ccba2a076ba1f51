"""Every shipped scenario is read, begins with what has a place, and plays: half a minute of each, with two systems."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from capstan.api import manifests
from capstan.api import scenario as files
from capstan.replay import engine, load, sources
from capstan.replay.options import Options
from capstan.replay.scenario import Scenario
from capstan.replay.systems import Capstan, Fixed

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted(
    path
    for path in (ROOT / "policies" / "scenarios").glob("*.yaml")
    if "\nkind: Run\n" in path.read_text(encoding="utf-8")  # others are played by other means (app.replay_kinds)
)
NAMES = [path.stem for path in SCENARIOS]
SECONDS = 30


def shortened(path: Path, folder: Path) -> Scenario:
    """The first half minute, with every event in it: each one's time modulo 20 s."""
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    (run,) = (document for document in documents if document["kind"] == "Run")
    run |= {"durationSeconds": SECONDS, "drainSeconds": 30, "compression": 1}
    run.pop("history", None)
    for event in run.get("events", ()):
        event["atSeconds"] %= 20
    for trace in run["traces"]:
        trace["rateRatio"] = str(min(float(trace.get("rateRatio", "1")), 1.0)) if "steady" not in trace else "1"
    copy = folder / path.name
    copy.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return load.read(copy, Options(profiles=ROOT / "policies" / "profiles")).scenario()


@pytest.fixture(scope="module", params=SCENARIOS, ids=NAMES)
def scenario(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    return shortened(request.param, tmp_path_factory.mktemp("scenario"))


def test_what_is_to_stand_at_the_start_has_a_place(scenario: Scenario) -> None:
    gpus = sum(service.start.tp * service.start.replicas for service in scenario.services)
    assert 0 < gpus <= sum(node.gpus for node in scenario.nodes)
    assert all(service.start.replicas >= 1 for service in scenario.services)


def test_no_request_is_longer_than_every_cache(scenario: Scenario) -> None:
    for service, truth in zip(scenario.services, scenario.truths, strict=True):
        longest = (service.requests.prompt_tokens + service.requests.output_tokens).max()
        assert longest <= max(profile.kv_tokens for profile in truth)


def test_it_plays_with_capstan_and_with_a_fleet_that_never_moves(scenario: Scenario) -> None:
    standing = Fixed("as it starts", [service.start for service in scenario.services])
    for system in (Capstan.of(scenario), standing):
        run = engine.run(scenario, system)
        for service in run.services:
            assert service.energy.total_j > 0
            arrived = service.outcomes.requests.arrival_s
            assert len(arrived) > 0
            assert np.isfinite(service.outcomes.first_s).mean() > 0.5, "most are served, whatever happens to the fleet"


# --- what the files promise ----------------------------------------------------------------------------


def run_of(name: str) -> files.Run:
    documents = manifests.load(ROOT / "policies" / "scenarios" / f"{name}.yaml")
    (run,) = (document for document in documents if isinstance(document, files.Run))
    return run


@pytest.mark.parametrize("tokens", [650, 2000, 4000])
def test_a_steady_load_is_the_tokens_that_its_name_says(tokens: int) -> None:
    """30 minutes of Poisson arrivals on one server: within four standard deviations of the compound sum.

    Its relative deviation is sqrt((1 + cv^2) / n), with a request's tokens varying by about their mean and n requests.
    """
    path = ROOT / "policies" / "scenarios" / f"steady-{tokens}.yaml"
    loaded = load.read(path, Options(profiles=ROOT / "policies" / "profiles"))
    made = loaded.scenario()
    (service,) = made.services
    requests = service.requests
    total = float((requests.prompt_tokens + requests.output_tokens).sum())
    assert total / 1800 == pytest.approx(tokens, rel=4 * (2 / len(requests)) ** 0.5)
    assert sum(node.gpus for node in made.nodes) == 8
    assert service.history is not None
    assert loaded.chancy, "another seed is another run"


def test_the_weeks_have_a_week_before_them() -> None:
    for name in ("conversation-week", "spiky-week"):
        assert run_of(name).history == "synthetic"
        (trace,) = run_of(name).traces
        assert trace.source in sources.DIGITISED or trace.source.startswith("synthetic:")


def test_the_shocks_are_two_and_five_times_in_ten_seconds_and_a_node() -> None:
    events = run_of("shock").events
    assert [event.kind for event in events] == ["RateBurst", "RateBurst", "NodeLost"]
    bursts = [event for event in events if event.kind == "RateBurst"]
    assert [(float(b.factor), b.ramp_seconds) for b in bursts] == [(2.0, 10), (5.0, 10)]


def test_the_node_of_the_shock_is_lost_in_the_busiest_minute_of_the_code_trace(shared_data: Path) -> None:
    assert shared_data.is_dir()
    (lost,) = (event for event in run_of("shock").events if event.kind == "NodeLost")
    path = ROOT / "policies" / "scenarios" / "shock.yaml"
    loaded = load.read(path, Options(profiles=ROOT / "policies" / "profiles"))
    arrival_s = loaded.demands[0].requests(1).arrival_s
    starts_s = np.arange(0.0, arrival_s[-1] - 60, 1.0)
    minutes = np.searchsorted(arrival_s, starts_s + 60) - np.searchsorted(arrival_s, starts_s)
    second_half = starts_s >= 1718
    busiest_s = float(starts_s[second_half][np.argmax(minutes[second_half])])
    assert busiest_s <= lost.at_seconds <= busiest_s + 60
