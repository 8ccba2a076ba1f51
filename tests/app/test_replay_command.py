"""`capstan replay` at its edges: what cannot be played is one sentence with exit code 2, and leaves nothing behind."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from capstan.__main__ import cli
from capstan.replay.runs import Requests
from capstan.replay.searches import bound
from support import small
from support.small import Folder, Json

HEADER = "Timestamp,Request tokens,Response tokens\n"
SHIPPED = "llama-3.1-70b-h100-sxm5-80gb-tp4.yaml"


@pytest.fixture
def folder(tmp_path: Path, root: Path) -> Folder:
    """A scenario with its trace, and the one shipped profile that it needs."""
    (tmp_path / "profiles").mkdir()
    shutil.copy(root / "policies" / "profiles" / SHIPPED, tmp_path / "profiles")
    return small.folder(tmp_path)


def refused(folder: Folder, *flags: str | Path) -> str:
    """Run the command, which must end with one line, exit code 2, and no report."""
    found = folder.replay("--profiles", folder.path / "profiles", *flags)
    assert found.exit_code == 2, found.output
    assert found.exception is None or isinstance(found.exception, SystemExit), "no traceback"
    assert found.output.startswith("capstan replay: ")
    assert found.output.count("\n") == 1, "one line"
    assert not folder.out.is_dir() or list(folder.out.iterdir()) == [], "nothing half-written"
    return found.output


TRACES = {
    "unknown columns": ("when,in,out\n1,2,3\n", ("row 1", "found when, in, out", "what would do", "--columns")),
    "a header and no rows": (HEADER, ("not one request",)),
    "nothing at all": ("", ("trace.csv",)),
    "a negative length": (HEADER + "0,10,5\n1,-3,5\n", ("row 3", "-3")),
    "no number": (HEADER + "0,10,5\n1,nan,5\n", ("row 3", "nan")),
    "an endless time": (HEADER + "0,10,5\ninf,3,5\n", ("row 3", "inf")),
    "time runs backwards": (HEADER + "5,10,5\n9,10,5\n2,3,5\n", ("row 4",)),
    "a missing cell": (HEADER + "0,10,5\n1,3\n", ("row 3",)),
}


@pytest.mark.parametrize(("text", "says"), TRACES.values(), ids=TRACES)
def test_a_trace_that_cannot_be_used_names_row_and_column(folder: Folder, text: str, says: tuple[str, ...]) -> None:
    folder.write("trace.csv", text)
    output = refused(folder)
    assert "trace.csv" in output
    for word in says:
        assert word in output, output


def test_a_gz_that_was_cut_off_is_refused(folder: Folder) -> None:
    packed = gzip.compress((folder.path / "trace.csv").read_bytes())
    path = folder.path / "cut.csv.gz"
    path.write_bytes(packed[: len(packed) // 2])
    assert "cut" in refused(folder, "--trace", path)


FLAGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "a system that nobody made": (("--systems", "capstan,magic"), ("--systems", "magic is none of", "oracle")),
    "all of a row": (("--full",), ("--full", "kind Row")),
    "a trace of a row": (("--save-trace", "row.csv"), ("--save-trace", "kind Row")),
    "a rate below zero": (("--scale-rate", "-1"), ("--scale-rate", "-1", "auto:12")),
    "a rate of zero": (("--scale-rate", "0"), ("--scale-rate", "above 0")),
    "a rate in words": (("--scale-rate", "twice"), ("--scale-rate", "twice")),
    "no rate at all": (("--scale-rate", "nan"), ("--scale-rate",)),
    "an automatic rate for nobody": (("--scale-rate", "auto:0"), ("--scale-rate", "auto:12")),
    "an automatic rate for more than fit": (("--scale-rate", "auto:4000"), ("--scale-rate", "auto:4000", "room for")),
    "so low a rate that nothing is left": (("--scale-rate", "0.0001"), ("llm/chat", "not one of its 300 requests")),
    "an endless stretch": (("--scale-time", "inf"), ("--scale-time", "above 0")),
    "two periods": (("--periods", "60,5"), ("--periods", "60,5", "1800,300,5")),
    "periods that are no numbers": (("--periods", "nan,60,5"), ("--periods", "nan,60,5")),
    "periods in the wrong order": (("--periods", "5,60,300"), ("--periods", "instance the shortest")),
    "seeds in words": (("--seeds", "1,x"), ("--seeds", "1,2,3")),
    "a seed twice": (("--seeds", "3,1,3"), ("--seeds", "3 is there twice")),
    "a fleet of no servers": (("--servers", "0"), ("--servers",)),
    "no such truth": (("--truth", "nowhere.yaml"), ("nowhere.yaml", "cannot be read")),
    "no such history": (("--history", "nowhere.csv"), ("nowhere.csv", "No such file")),
    "no such trace": (("--trace", "nowhere.csv"), ("nowhere.csv", "No such file")),
    "no such price": (("--price", "nowhere.csv"), ("nowhere.csv", "No such file")),
    "a rent below zero": (("--gpu-hour-price", "-1"), ("--gpu-hour-price", "-1 is no rent", "0 or above")),
    "carbon of an unknown grid": (("--objective", "carbon"), ("--objective", "--carbon-intensity FILE")),
    "a system that counts carbon of an unknown grid": (
        ("--systems", "capstan,least-carbon"),
        ("--systems least-carbon", "--carbon-intensity FILE"),
    ),
    "columns without names": (("--columns", "time,prompt"), ("--columns", "time=NAME")),
    "columns that are not there": (("--columns", "time=a,prompt=b,output=c"), ("a, b, c", "Timestamp")),
    "no such folder of profiles": (("--profiles", "nowhere"), ("--profiles", "nowhere")),
}


@pytest.mark.parametrize(("flags", "says"), FLAGS.values(), ids=FLAGS)
def test_a_flag_that_makes_no_sense_is_named_with_its_fix(
    folder: Folder, flags: tuple[str, ...], says: tuple[str, ...]
) -> None:
    output = refused(folder, *flags)
    for word in says:
        assert word in output, output


def test_a_tariff_is_refused_before_anything_is_played(folder: Folder) -> None:
    """A price that begins late, beside a search of minutes: the sentence comes at once."""
    path = folder.write("price.csv", "start_s,price_per_kwh\n60,0.2\n")
    output = refused(folder, "--price", path, "--systems", "oracle", "--scale-rate", "9000")
    assert "begin at 0" in output


Changes = dict[str, Json]
SCENARIOS: dict[str, tuple[Changes, tuple[str, ...]]] = {
    "a tp that no profile speaks for": (
        {"policy": {"spec.bounds.tensorParallel": [2, 4]}},
        ("spec.bounds.tensorParallel", "at tp [2]", "profiles exist at tp [4]"),
    ),
    "a fleet that holds no replica": (
        {"fleet": {"nodes.0.gpus": 2}},
        ("spec.bounds.minReplicas", "room for 0 replicas of 4 GPUs", "add nodes"),
    ),
    "a fleet that holds fewer than the least": (
        {"policy": {"spec.bounds.minReplicas": 4}, "fleet": {"nodes.0.count": 1}},
        ("spec.bounds.minReplicas", "room for 2 replicas", "lower minReplicas"),
    ),
    "a GPU that no profile speaks for": ({"fleet": {"nodes.0.gpuProduct": "NVIDIA-T4"}}, ("NVIDIA-T4", "tp")),
    "a trace for nobody": ({"run": {"traces.0.policy": "llm/chut"}}, ("traces[].policy", "llm/chut")),
    "a power scale of another machine": ({"run": {"powerScale": "9"}}, ("--power-scale", "between 0.5 and 2")),
    "a field that is misspelt": ({"run": {"startupSecond": 5}}, ("startupSecond", "no field")),
    "periods in the wrong order": ({"run": {"periods": "5,60,300"}}, ("periods", "1800,300,5")),
    "an event for nobody": (
        {"run": {"events": [{"atSeconds": 5, "kind": "BudgetCut", "domain": "rack", "budgetWatts": 5000}]}},
        ("events[0].domain", "no PowerDomain rack"),
    ),
}


@pytest.mark.parametrize(("changes", "says"), SCENARIOS.values(), ids=SCENARIOS)
def test_a_scenario_that_cannot_be_played_names_the_field(
    folder: Folder, changes: Changes, says: tuple[str, ...]
) -> None:
    policy, fleet, run = changes.get("policy", {}), changes.get("fleet", {}), changes.get("run", {})
    if "spec.bounds.tensorParallel" in policy:
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat2"}
        policy = {**policy, "spec.targets": [*_targets(), {"tensorParallel": 2, "scaleTargetRef": target}]}
    folder.scenario(policy=policy, fleet=fleet, run=run)
    output = refused(folder)
    for word in says:
        assert word in output, output


def _targets() -> list[Json]:
    spec = small.POLICY["spec"]
    assert isinstance(spec, dict)
    return list(spec["targets"])


def test_a_truth_without_a_tp_of_the_bounds_says_which_it_has(folder: Folder, root: Path) -> None:
    truth = root / "policies" / "profiles" / "llama-3.1-70b-h100-sxm5-80gb-tp8.yaml"
    output = refused(folder, "--truth", truth)
    assert "--truth: holds no profile" in output
    assert "at tp 4; it has tp [8]" in output


def test_an_output_folder_that_cannot_be_made_is_refused_before_anything_is_read(folder: Folder) -> None:
    file = folder.write("file", "")
    arguments = ["replay", "--scenario", str(folder.path / "scenario.yaml"), "--out", str(file / "out")]
    found = CliRunner().invoke(cli, arguments)
    assert found.exit_code == 2
    assert f"--out {file / 'out'}: Not a directory; give a folder that can be written" in found.output
    assert found.output.count("\n") == 1


def test_without_scenario_or_out_an_example_is_given() -> None:
    found = CliRunner().invoke(cli, ["replay"])
    assert found.exit_code == 2
    assert "--scenario policies/scenarios/conversation-hour.yaml --out out" in found.output


def test_an_old_report_survives_a_refusal(folder: Folder) -> None:
    folder.out.mkdir()
    (folder.out / "report.json").write_text("{}")
    found = folder.replay("--systems", "magic")
    assert found.exit_code == 2
    assert [path.name for path in folder.out.iterdir()] == ["report.json"]
    assert (folder.out / "report.json").read_text() == "{}"


# --- what ends well ----------------------------------------------------------------------------------


def test_a_report_is_written_and_the_same_seed_gives_the_same_bytes(folder: Folder) -> None:
    flags = ("--profiles", folder.path / "profiles", "--systems", "capstan,keda-slo", "--scale-rate", "1.5")
    written = []
    for _ in range(2):
        report = folder.report(*flags)
        written.append((folder.out / "report.json").read_bytes())
        assert sorted(path.name for path in folder.out.iterdir()) == ["report.html", "report.json"]
    assert written[0] == written[1]
    assert list(report["systems"]) == ["capstan", "keda-slo"]
    assert report["systems"]["capstan"]["completed"] == report["systems"]["capstan"]["requests"] > 300


def test_joules_money_and_carbon_are_all_told_whatever_is_chosen(folder: Folder) -> None:
    """A grid of 400 g and a price of 0.1 per kWh that never change: both are the run's joules times a factor."""
    grid = folder.write("grid.csv", "start_s,g_per_kwh\n0,400\n")
    price = folder.write("price.csv", "start_s,price_per_kwh\n0,0.1\n")
    flags = ("--profiles", folder.path / "profiles", "--price", price, "--carbon-intensity", grid)
    for chosen, words in (((), "Joules"), (("--objective", "carbon"), "Carbon;"), (("--objective", "cost"), "Cost;")):
        report = folder.report(*flags, "--gpu-hour-price", "2", *chosen)
        found, kwh = report["systems"]["fixed"], report["systems"]["fixed"]["energy_j"] / 3.6e6
        assert found["settings"]["objective"].startswith(words)
        assert found["settings"]["GPU rent"] == "2 a GPU-hour (as told)"
        assert found["cost_electricity"] == pytest.approx(0.1 * kwh)
        assert found["cost_rent"] == pytest.approx(2 * found["gpu_seconds"] / 3600)
        assert found["carbon_operational_g"] == pytest.approx(400 * kwh)
        assert found["carbon_embodied_g"] == pytest.approx(20.0114 * found["gpu_seconds"] / 3600, rel=1e-5)
        assert found["carbon_g"] == pytest.approx(found["carbon_operational_g"] + found["carbon_embodied_g"])


def test_requests_that_no_cache_holds_are_played_refused_and_counted(folder: Folder) -> None:
    """Two of five prompts are longer than the 4-GPU cache: 3 complete, attainment is 3/5, and the trace says so."""
    tokens = yaml.safe_load((folder.path / "profiles" / SHIPPED).read_text())["spec"]["kvTokens"]
    rows = "".join(f"{i},{prompt},5\n" for i, prompt in enumerate((100, tokens, 200, 2 * tokens, tokens - 5)))
    folder.write("trace.csv", HEADER + rows)
    folder.scenario(run={"drainSeconds": 3600})  # the one that just fits is minutes of prefill
    report = folder.report("--profiles", folder.path / "profiles")
    found = report["systems"]["fixed"]
    assert f"2 of 5 refused (longer than the KV cache of any replica, {tokens:,} tokens)" in json.dumps(report["trace"])
    assert (found["requests"], found["completed"]) == (5, 3)
    assert found["slo_attainment_ratio"] <= 3 / 5


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--assert",), 3)])
def test_a_missed_slo_is_an_exit_code_only_with_assert(folder: Folder, flags: tuple[str, ...], code: int) -> None:
    """Time to first token within 1 ms is out of reach: the report is written all the same."""
    folder.scenario(policy={"spec.slo.ttftMilliseconds": 1})
    found = folder.replay("--profiles", folder.path / "profiles", *flags)
    assert found.exit_code == code, found.output
    assert (folder.out / "report.json").exists()
    assert "missed" in found.output


def test_assert_ends_well_where_slo_and_budget_held(folder: Folder) -> None:
    assert folder.replay("--profiles", folder.path / "profiles", "--assert").exit_code == 0


def test_a_failed_honesty_check_is_exit_code_4_with_the_case_beside_the_report(
    folder: Folder, dishonest: Callable[[], None]
) -> None:
    dishonest()
    folder.write("trace.csv", small.csv_of(small.requests(40)))
    flags = ("--profiles", folder.path / "profiles", "--systems", "fixed,bound", "--assert")
    found = folder.replay(*flags)
    assert found.exit_code == 4, found.output
    assert "honesty check failed: fixed meets the SLO with" in found.output
    case = json.loads((folder.out / "honesty.json").read_text())
    assert case["faults"][0].startswith("fixed meets the SLO with")
    assert set(case["systems"]) == {"fixed", "bound"}
    assert (folder.out / "report.json").exists()


@pytest.fixture
def dishonest(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Put the bound at a terajoule, above every run: a fault that no honest comparison can have."""

    def forced(requests: Requests, *_: object) -> bound.Bound:
        return bound.Bound(1e12, 1e12, 0.0, np.zeros(len(requests)), 0.0)

    return lambda: monkeypatch.setattr(bound, "of", forced)


def test_several_fleet_sizes_get_a_folder_each(folder: Folder) -> None:
    found = folder.replay("--profiles", folder.path / "profiles", "--servers", "1,3")
    assert found.exit_code == 0, found.output
    assert sorted(path.name for path in folder.out.iterdir()) == ["servers-1", "servers-3"]
    one, three = (json.loads((folder.out / f"servers-{n}" / "report.json").read_text()) for n in (1, 3))
    free_j = [r["systems"]["fixed"]["energy_unassigned_j"] for r in (one, three)]
    assert free_j[1] == pytest.approx(5 * free_j[0]), "8 GPUs less 4, 24 less 4"
