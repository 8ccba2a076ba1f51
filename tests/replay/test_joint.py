"""SLO and power together: systems with and without caps, apart and joint; requests that come with the servers."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from capstan.api import errors, manifests
from capstan.api import scenario as files
from capstan.api.servingpolicy import Knobs
from capstan.api.system import Begin, Power, System
from capstan.model import plan
from capstan.model.policy import Knob, Priority
from capstan.replay import configured, engine, load
from capstan.replay.options import Options
from capstan.replay.runs import Run
from capstan.replay.scenario import Scenario
from capstan.replay.seen import Seen, Want
from capstan.replay.stage import Stage
from capstan.replay.twins import Twins
from support import power_loop, racks, small
from support.racks import Load
from support.small import Folder

HIGH, LOW = "llm/high", "llm/low"
OFF = Knobs(replicas=Knob.OFF, tensor_parallel=Knob.OFF, clock=Knob.OFF)
SPAN_S = 60.0


def system(power: Power, **more: Any) -> System:
    return System(kind="System", name=f"under-{power.lower()}", words="for a test", power=power, **more)


# --- settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "knobs", "start", "power"),
    [
        ("neither", OFF, Begin.SINGLE_POOL, Power.UNARMED),
        ("polca-only", OFF, Begin.SINGLE_POOL, Power.SEPARATE),
        ("energy-only", None, Begin.SHARED, Power.UNARMED),
        ("both-separate", None, Begin.SHARED, Power.SEPARATE),
        ("both-joint", None, Begin.SHARED, Power.JOINT),
    ],
)
def test_the_five_systems_are_settings(name: str, knobs: Knobs | None, start: Begin, power: Power) -> None:
    found = configured.shipped(load.SHIPPED / "systems")[name]
    assert (found.knobs, found.start, found.power) == (knobs, start, power)


def test_the_scenario_plays_all_five_from_the_built_count_to_half_as_many_again() -> None:
    documents = manifests.load(load.SHIPPED / "scenarios" / "joint-week.yaml")
    (run,) = (document for document in documents if isinstance(document, files.Run))
    (fleet,) = (document for document in documents if isinstance(document, files.Fleet))
    assert set(run.systems) == {"neither", "polca-only", "energy-only", "both-separate", "both-joint"}
    assert (run.servers[0], run.servers[-1]) == (fleet.nodes[0].count, 1.5 * fleet.nodes[0].count)
    assert run.rate_follows_servers
    assert run.slowdowns


def test_a_slice_divides_a_second() -> None:
    trace = {"policy": "llm/chat", "source": "synthetic:conv"}
    with pytest.raises(ValidationError, match="sliceMilliseconds"):
        files.Run.model_validate({"kind": "Run", "name": "run", "traces": [trace], "sliceMilliseconds": 300})


# --- who sees what -----------------------------------------------------------------------------------


class Watching(configured.Configured):
    """A configured system that remembers what its decisions were shown."""

    looks: list[Seen]

    def decide(self, seen: Seen) -> plan.Decision:
        self.looks.append(seen)
        return super().decide(seen)


@functools.cache
def rack() -> Scenario:
    """One rack, above its high threshold from 15 s on; few decisions, and watts once a second: a test is short."""
    loads = (Load(HIGH, Priority.HIGH, ((0, 5.0),)), Load(LOW, Priority.LOW, ((0, 8.0),)))
    made = racks.scenario(loads, (racks.cut(15.0),), span_s=SPAN_S)
    settings = dataclasses.replace(made.settings, instance_period_s=15.0)
    return dataclasses.replace(made, settings=settings, slices_per_s=1)


@functools.cache
def played(power: Power) -> tuple[Run, list[Seen]]:
    watching = Watching(rack(), system(power))
    watching.looks = []
    return engine.run(rack(), watching), watching.looks


def levels(power: Power) -> set[str]:
    (domain,) = played(power)[0].domains
    return set(domain.level)


def test_a_joint_decision_sees_the_domain_and_whom_it_caps() -> None:
    assert levels(Power.JOINT) - {"Normal"}, "else there is nothing to see"
    looks = played(Power.JOINT)[1]
    assert all(seen.domains and seen.places for seen in looks)
    assert any(LOW in seen.capped for seen in looks)


def test_apart_the_domain_caps_and_the_decision_knows_nothing_of_it() -> None:
    assert levels(Power.SEPARATE) - {"Normal"}, "the caps are real"
    for seen in played(Power.SEPARATE)[1]:
        assert (seen.capped, seen.domains, seen.places) == (frozenset(), (), ())


def test_unarmed_nobody_is_capped() -> None:
    assert levels(Power.UNARMED) == {"Disarmed"}
    (domain,) = played(Power.UNARMED)[0].domains
    assert np.isnan(domain.cap_mhz).all()
    assert domain.draw_w.max() > racks.TIGHT_W, "it is watched all the same"


def test_a_fleet_without_knobs_stays_as_it_began_while_it_is_capped() -> None:
    still = system(Power.SEPARATE, knobs=OFF, start=Begin.SINGLE_POOL)
    fixed = {key: Want(key, 4, 2) for key in (HIGH, LOW)}
    run = engine.run(rack(), configured.Configured(rack(), still, fixed))
    for service in run.services:
        assert set(service.series.replicas_desired) == {2}
        assert service.reconfigurations == 0
    assert set(run.domains[0].level) - {"Normal"}


# --- played once -------------------------------------------------------------------------------------


def test_settings_that_are_the_same_are_played_once_under_both_names() -> None:
    """What caps cost `apart` is told by a run of `apart` without caps: `free` is that run."""
    both = {"apart": system(Power.SEPARATE), "free": system(Power.UNARMED)}
    twins = Twins(Stage(rack()), both)
    free, apart = twins.play("free", lambda _: None), twins.play("apart", lambda _: None)
    assert twins.uncapped(both["apart"], lambda _: None).services is free.services
    assert apart.services is not free.services


def test_where_no_domain_can_be_armed_all_settings_of_power_are_one() -> None:
    unfit = tuple(dataclasses.replace(domain, armed=False) for domain in rack().domains)
    twins = Twins(Stage(dataclasses.replace(rack(), domains=unfit)), {p: system(p) for p in Power})
    runs = [twins.play(power, lambda _: None) for power in Power]
    assert runs[0].services is runs[1].services is runs[2].services
    assert [run.system for run in runs] == ["under-joint", "under-separate", "under-unarmed"]


# --- requests that come with the servers -------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, root: Path) -> Folder:
    name = "llama-3.1-70b-h100-sxm5-80gb-tp4.yaml"
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / name).write_text((root / "policies" / "profiles" / name).read_text())
    made = small.folder(tmp_path, small.requests(1000))
    trace = {"policy": "llm/chat", "source": str(tmp_path / "trace.csv"), "rateRatio": "0.4"}
    made.scenario(run={"rateFollowsServers": True, "traces": [trace]})
    return made


def test_requests_come_with_the_servers(folder: Folder) -> None:
    """Two servers are listed, with 0.4 of 1,000 requests; three have 0.6 of them, the first 0.4 included."""
    loaded = load.read(folder.path / "scenario.yaml", Options(profiles=folder.path / "profiles"))
    two, three = (loaded.scenario(servers=servers).services[0].requests for servers in (2, 3))
    assert len(two) == pytest.approx(400, abs=4 * 240**0.5)
    assert len(three) == pytest.approx(600, abs=4 * 240**0.5)
    assert len(loaded.scenario().services[0].requests) == len(two), "without --servers it is the file's fleet"
    assert dict(loaded.scenario(servers=3).notes)["servers"] == "3, rates 1.5 times those of 2"


def test_the_command_tells_how_many_servers_hold_under_power_domains(folder: Folder) -> None:
    """Two racks' worth of watts: nobody is capped, and all sizes hold."""
    path, labels = folder.path / "scenario.yaml", {"rack": "7"}
    policy, fleet, run = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    fleet["nodes"][0]["labels"] = labels
    run |= {"systems": ["neither"], "sliceMilliseconds": 1000, "durationSeconds": 30}
    domain = power_loop.domain(budget_w=90_000)
    path.write_text(yaml.safe_dump_all([policy, domain, fleet, run]), encoding="utf-8")
    shutil.copytree(load.SHIPPED / "systems", folder.path / "systems")
    own = small.Folder(folder.path / "scenarios")
    own.path.mkdir()
    found = own.replay("--servers", "2,3", scenario=path.rename(own.path / "scenario.yaml"))
    assert found.exit_code == 0, found.output
    assert "Servers that hold, of 2 and 3: neither 3." in found.output
    assert {"servers.html", "servers.json"} < {written.name for written in own.out.iterdir()}


def test_more_servers_than_the_trace_has_requests_for_are_refused(folder: Folder) -> None:
    loaded = load.read(folder.path / "scenario.yaml", Options(profiles=folder.path / "profiles"))
    with pytest.raises(errors.Invalid, match=r"--servers 6: 1\.2 times the requests of llm/chat"):
        loaded.scenario(servers=6)
