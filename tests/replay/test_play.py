"""Everything that one command asks for: which systems in which order, over which seeds, on which physics and limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from capstan.api import errors
from capstan.api import scenario as files
from capstan.model.profile import Profile
from capstan.replay import load, play
from capstan.replay.load import Loaded
from capstan.replay.options import Options
from capstan.replay.play import Outcome
from capstan.replay.runs import Run
from capstan.replay.systems import Capstan
from support import small
from support.small import Folder

SHIPPED = "llama-3.1-70b-h100-sxm5-80gb-tp4.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Folder:
    """A scenario with its trace and the one shipped profile that it needs; nobody writes to it."""
    path = tmp_path_factory.mktemp("play")
    (path / "profiles").mkdir()
    (path / "profiles" / SHIPPED).write_text((root / "policies" / "profiles" / SHIPPED).read_text())
    return small.folder(path)


def read(folder: Folder, **asked: Any) -> Loaded:
    options = Options(profiles=folder.path / "profiles", **asked)
    return load.read(folder.path / "scenario.yaml", options)


def outcome(folder: Folder, **asked: object) -> Outcome:
    (found,) = play.everything(read(folder, **asked), lambda *_: None)
    return found


def played(folder: Folder, **asked: object) -> Run:
    return outcome(folder, systems=("fixed",), **asked).comparison.columns[0].run


# --- systems and seeds -------------------------------------------------------------------------------


def test_baselines_come_first_and_bounds_last_whatever_the_order_asked_for() -> None:
    asked = ("bound", "capstan", "oracle", "keda-slo", "best-static", "single-pool", "keda-slo")
    assert play.wanted(asked) == ("single-pool", "best-static", "keda-slo", "capstan", "oracle", "bound")
    assert play.wanted(()) == ("single-pool", "capstan")
    everyone = play.wanted(("all",))
    assert (everyone[:2], everyone[-3:]) == (("single-pool", "best-static"), ("capstan", "oracle", "bound"))
    assert len(everyone) == 18
    variant = play.wanted(("oracle", "kubeai-shipped"))
    assert variant == ("kubeai-shipped", "oracle"), "a variant decides from what it sees, so before the oracle"


def test_an_unknown_system_is_named_beside_those_there_are() -> None:
    with pytest.raises(errors.Invalid, match=r"--systems: magic is none of single-pool, .*; or all"):
        play.wanted(("capstan", "magic"))


def test_systems_are_played_in_order_and_capstan_stands_first_in_the_report(folder: Folder) -> None:
    heard: list[str] = []
    loaded = read(folder, systems=("capstan", "single-pool", "keda-slo"))
    (found,) = play.everything(loaded, lambda what, _: heard.append(what))
    assert list(dict.fromkeys(heard)) == ["single-pool", "keda-slo", "capstan"]
    columns = found.comparison.columns
    assert [column.run.system for column in columns] == ["capstan", "single-pool", "keda-slo"]
    arrivals = [column.run.services[0].outcomes.requests.arrival_s for column in columns]
    for other in arrivals[1:]:
        np.testing.assert_array_equal(other, arrivals[0])


def test_each_seed_is_a_trace_of_its_own_and_differences_are_paired(folder: Folder) -> None:
    heard: list[str] = []
    loaded = read(folder, systems=("single-pool", "capstan"), scale_rate="1.5", seeds=(1, 2, 3))
    (found,) = play.everything(loaded, lambda what, _: heard.append(what))
    assert list(dict.fromkeys(heard))[::2] == [f"seed {seed}, single-pool" for seed in (1, 2, 3)]
    saving = found.comparison.relatives[0].saving
    assert saving is not None
    assert saving.seeds == 3
    assert saving.half_width is not None
    assert saving.half_width > 0


def test_where_nothing_is_random_one_seed_is_enough(folder: Folder) -> None:
    heard: list[str] = []
    loaded = read(folder, systems=("fixed",), seeds=(1, 2, 3))
    assert not loaded.chancy
    (found,) = play.everything(loaded, lambda what, _: heard.append(what))
    assert set(heard) == {"seed 1, fixed"}
    assert found.comparison.conditions.rate_multiple == 1.0


def test_fleet_sizes_are_outcomes_of_their_own(folder: Folder) -> None:
    found = play.everything(read(folder, systems=("fixed",), servers=(1, 3)), lambda *_: None)
    assert [one.servers for one in found] == [1, 3]
    free_j = [one.comparison.columns[0].run.energy_unassigned_j for one in found]
    assert free_j[1] == pytest.approx(5 * free_j[0]), "8 GPUs less 4, and 24 less 4"


# --- physics -----------------------------------------------------------------------------------------


def test_five_percent_more_watts_are_almost_five_percent_more_joules(folder: Folder) -> None:
    """Times do not change; the board limit does not move, so a step that runs into it gains less than 5 %."""
    plain, scaled = (played(folder, power_scale=ratio) for ratio in (1.0, 1.05))
    np.testing.assert_array_equal(plain.services[0].outcomes.finish_s, scaled.services[0].outcomes.finish_s)
    ratio = scaled.services[0].energy.total_j / plain.services[0].energy.total_j
    assert 1.04 < ratio <= 1.05 + 1e-9
    assert scaled.energy_unassigned_j == pytest.approx(1.05 * plain.energy_unassigned_j)
    assert ("power scale", "1.05 times the profile's watts") in scaled.settings


def written(folder: Folder, name: str, **timing: str) -> Path:
    """The shipped profile with other step times, as a file."""
    document = yaml.safe_load((folder.path / "profiles" / SHIPPED).read_text())
    document["spec"]["timing"].update(timing)
    return folder.write(name, yaml.safe_dump(document))


def test_another_truth_changes_the_world_and_not_what_is_believed(folder: Folder) -> None:
    """Weights that truly take three times as long: the same fleet is asked for, and answers come later."""
    slow = written(folder, "truth.yaml", weightsSeconds="0.06")
    loaded, plain = read(folder, truth=slow).scenario(), read(folder).scenario()
    assert loaded.services[0].profiles == plain.services[0].profiles
    assert loaded.services[0].start == plain.services[0].start
    assert loaded.truths[0][0].timing.weights_s == 0.06 != plain.truths[0][0].timing.weights_s
    assert _believed(Capstan.of(loaded)) == _believed(Capstan.of(plain))
    believed, true = played(folder), played(folder, truth=slow)
    np.testing.assert_array_equal(
        true.services[0].series.replicas_desired, believed.services[0].series.replicas_desired[0]
    )
    ends_s = [run.services[0].outcomes.finish_s for run in (believed, true)]
    assert (ends_s[1] > ends_s[0]).all()
    assert ("true physics", "truth.yaml") in true.settings


def _believed(system: Capstan) -> tuple[Profile, ...]:
    return system._profiles


# --- limits ------------------------------------------------------------------------------------------


def test_by_class_each_request_is_held_to_the_limit_of_its_prompts_length(folder: Folder) -> None:
    """By hand from the columns: 250 ms below 256 tokens, 400 ms below 1024, else 2 s; 100 ms a token."""
    column = outcome(folder, systems=("fixed",), slo=files.SloSet.CLASS).comparison.columns[0]
    done = column.run.services[0].outcomes
    prompt, output = done.requests.prompt_tokens, done.requests.output_tokens
    limit_s = np.where(prompt < 256, 0.25, np.where(prompt < 1024, 0.4, 2.0))
    pace_s = (done.finish_s - done.first_s) / np.maximum(output - 1, 1)
    good = (done.first_s - done.requests.arrival_s <= limit_s) & (pace_s <= 0.1)
    assert column.score.overall.attainment_ratio == pytest.approx(good.mean(), abs=1e-12)
    assert column.score.policies[0].limits.ttft_s == (0.25, 0.4, 2.0)
    scenario = outcome(folder, systems=("fixed",)).comparison.columns[0].score
    assert scenario.policies[0].limits.ttft_s == (2.0, 2.0, 2.0)
    assert (scenario.overall.attainment_ratio or 0) > good.mean(), "the class limits are the tighter ones"


# --- the past ----------------------------------------------------------------------------------------


def test_history_reaches_capstans_memory_and_nobody_else(folder: Folder) -> None:
    """Ten minutes of four times the load: what Capstan wants is another plan, all other runs are the same."""
    past = folder.write("past.csv", small.csv_of(small.requests(2000, 12.0, seed=9)))
    asked = {"systems": ("fixed", "keda-slo", "capstan")}
    without, within = (outcome(folder, **asked, history=h).comparison.columns for h in (None, past))
    wanted = {}
    for old, new in zip(without, within, strict=True):
        assert old.run.system == new.run.system
        was, now = old.run.services[0].series.replicas_desired, new.run.services[0].series.replicas_desired
        wanted[old.run.system] = len(was) == len(now) and bool((was == now).all())
        if old.run.system != "capstan":
            np.testing.assert_array_equal(old.run.services[0].outcomes.finish_s, new.run.services[0].outcomes.finish_s)
            assert old.run.services[0].energy == new.run.services[0].energy
    assert wanted == {"fixed": True, "keda-slo": True, "capstan": False}


def test_what_capstan_learnt_is_the_rate_of_the_history_and_ends_where_the_trace_begins(folder: Folder) -> None:
    past = folder.write("past.csv", small.csv_of(small.requests(2000, 12.0, seed=9)))
    scenario = read(folder, history=past).scenario()
    system = Capstan.of(scenario)
    system.start(scenario.services[0])
    (memory,) = system._memory.policies
    assert memory.policy == "llm/chat"
    times_s, rates = (np.array(column) for column in zip(*memory.of("all").rates, strict=True))
    assert (times_s < 0).all()
    assert times_s[-1] >= -scenario.settings.instance_period_s
    assert float(rates.mean()) == pytest.approx(12.0, rel=0.2)


def test_a_rate_moves_requests_and_another_seed_moves_them_otherwise(folder: Folder) -> None:
    loaded = read(folder)
    once, again, other = (loaded.scenario(seed=seed, rate=2.0).services[0].requests.arrival_s for seed in (1, 1, 2))
    assert len(once) == 600
    np.testing.assert_array_equal(once, again)
    assert len(other) != len(once) or (other != once).any()
    assert len(loaded.scenario(seed=2).services[0].requests) == 300, "X = 1 leaves the trace alone"
