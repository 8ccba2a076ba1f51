"""`capstan search`: what people see and find in the folder, and one sentence with exit code 2 for what is of no use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from capstan.__main__ import cli
from support import small
from support.small import Folder, Json

SMALL = ("--pp", "1", "--max-num-seqs", "256", "--chunk-tokens", "1024", "--runs", "8")
ONLY_TP4 = "llama-3.1-70b-h100-sxm5-80gb-tp4.yaml"


@pytest.fixture
def folder(tmp_path: Path, root: Path) -> Folder:
    """A scenario with its trace, and the one shipped profile that it needs."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / ONLY_TP4).write_text((root / "policies" / "profiles" / ONLY_TP4).read_text())
    return small.folder(tmp_path)


def search(folder: Folder, *flags: str | Path) -> Result:
    arguments = [
        "--scenario",
        folder.path / "scenario.yaml",
        "--out",
        folder.out,
        "--profiles",
        folder.path / "profiles",
    ]
    return CliRunner().invoke(cli, ["search", *map(str, arguments), *map(str, flags)])


def report(folder: Folder) -> Json:
    read: Json = json.loads((folder.out / "search.json").read_text())
    return read


def test_a_small_search_prints_the_best_and_writes_page_and_json(folder: Folder) -> None:
    found = search(folder, *SMALL)
    assert found.exit_code == 0, found.output
    read = report(folder)
    assert read["sentence"] in found.output
    assert read["slo_met"] is True
    assert read["best"]["set_up"]["gpus"] <= 16
    assert 1 <= read["world_runs"] <= 8
    assert read["settings"]["tp"] == "4"
    assert read["settings"]["chunk_tokens"] == "512, 1,024"
    assert "set-ups screened in" in found.output
    assert (folder.out / "search.html").read_text().startswith("<!doctype html>")


def test_the_same_search_twice_is_the_same(folder: Folder) -> None:
    """But for the seconds that this machine took."""
    reads = []
    for _ in range(2):
        assert search(folder, *SMALL).exit_code == 0
        read = report(folder)
        reads.append({key: read[key] for key in ("best", "replayed", "frontier_closed_form", "world_runs")})
    assert reads[0] == reads[1]


def test_fewer_gpus_than_the_trace_needs_end_with_three_and_the_closest(folder: Folder) -> None:
    folder.write("trace.csv", small.csv_of(small.requests(400, 40.0)))
    found = search(folder, *SMALL, "--gpus", "4")
    assert found.exit_code == 3, found.output
    assert "Nothing meets the SLO on 4 GPUs. Closest: 1 x tp 4" in found.output
    assert report(folder)["best"] is None


def refused(folder: Folder, *flags: str | Path) -> str:
    """Run the command, which must end with one line, exit code 2, and no report."""
    found = search(folder, *flags)
    assert found.exit_code == 2, found.output
    assert isinstance(found.exception, SystemExit), "no traceback"
    assert found.output.startswith("capstan search: ")
    assert found.output.count("\n") == 1, "one line"
    assert not folder.out.is_dir() or list(folder.out.iterdir()) == [], "nothing half-written"
    return found.output


FLAGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "a degree that the policy does not allow": (("--tp", "8"), ("--tp: 8 is not in the policy's", "use 4")),
    "a degree in words": (("--tp", "four"), ("--tp: four is no list", "such as 1,2")),
    "a stage of none": (("--pp", "0"), ("--pp: 0 is no list",)),
    "the same stages twice": (("--pp", "2,2"), ("--pp: 2,2 is no list", "each once")),
    "more stages than anybody runs": (("--pp", "64"), ("--pp: 64 is not between 1 and 16",)),
    "a chunk of nearly nothing": (("--chunk-tokens", "4"), ("--chunk-tokens: 4 is not between 16 and 65,536",)),
    "more sequences than the kernel runs": (("--max-num-seqs", "9000"), ("--max-num-seqs: 9,000", "4,096")),
    "GPUs that hold no engine": (("--gpus", "3"), ("--gpus: no engine of the search fits", "needs 4 GPUs")),
    "no such policy": (("--policy", "llm/other"), ("--policy: llm/other", "use one of llm/chat")),
    "no such trace": (("--trace", "nowhere.csv"), ("nowhere.csv", "No such file")),
    "no such profiles": (("--profiles", "nowhere"), ("--profiles", "nowhere is no folder")),
    "no rate": (("--scale-rate", "fast"), ("--scale-rate: fast is no rate",)),
}


@pytest.mark.parametrize(("flags", "says"), FLAGS.values(), ids=FLAGS)
def test_a_flag_that_cannot_be_used_names_itself_and_the_fix(
    folder: Folder, flags: tuple[str, ...], says: tuple[str, ...]
) -> None:
    output = refused(folder, *flags)
    for word in says:
        assert word in output, output


def test_a_policy_without_a_profile_is_refused(folder: Folder) -> None:
    folder.scenario(policy={"spec.model": "nobody/knows-it"})
    output = refused(folder)
    assert "no profile of nobody/knows-it" in output


def test_without_a_scenario_it_says_what_to_try() -> None:
    found = CliRunner().invoke(cli, ["search"])
    assert found.exit_code == 2
    assert "try --scenario policies/scenarios/conversation-hour.yaml" in found.output


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_played(folder: Folder) -> None:
    """Not even by root: its parent is a file."""
    folder.write("file", "in the way")
    found = search(folder, "--out", folder.path / "file" / "out")
    assert found.exit_code == 2
    assert "give a folder that can be written" in found.output


def test_a_profile_s_range_makes_a_larger_chunk_extrapolated(folder: Folder) -> None:
    """The shipped tp 4 profile states prompts up to 2,755 tokens; 4,096 are beyond that."""
    read = yaml.safe_load((folder.path / "profiles" / ONLY_TP4).read_text())
    assert read["spec"]["validRange"]["promptTokens"]["max"] == 2755
    found = search(folder, "--pp", "1", "--max-num-seqs", "256", "--chunk-tokens", "4096", "--runs", "30")
    assert found.exit_code == 0, found.output
    remarks = {
        tuple(one["remarks"])[-1:] for one in report(folder)["replayed"] if one["set_up"].get("chunk_tokens") == 4096
    }
    assert remarks <= {("chunk extrapolated (measured to 2,755 tokens)",)}
    assert remarks
