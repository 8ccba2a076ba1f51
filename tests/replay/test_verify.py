"""A record decided again: equal when nothing was touched, and told by line, policy and field when something was."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from capstan.__main__ import cli
from capstan.journal.codec import Unreadable
from capstan.replay import verify
from support.recording import cycles, forge, lines, recorded

Line = dict[str, Any]  # a line as JSON has it, to be changed by hand


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 24)
    return path


def run(*files: Path) -> Result:
    return CliRunner().invoke(cli, ["replay", "verify", *map(str, files)])


def test_an_untouched_record_is_equal_to_the_last_line(file: Path) -> None:
    result = run(file)
    assert result.exit_code == 0, result.output
    assert result.output == f"{file}: 24 decisions (1 writer: one), 24 equal when decided again\n"


def more_replicas(line: Line) -> None:
    line["decision"][0]["pools"][0]["replicas"] += 1


def other_reason(line: Line) -> None:
    line["decision"][0]["clock_reason"] = "NoData"


def fewer_candidates(line: Line) -> None:
    line["decision"][0]["candidates"].pop()


def no_decision(line: Line) -> None:
    line["decision"] = []


def other_rates(line: Line) -> None:
    line["digest"][0]["pools"][0]["rates"] = "24 items, hash 0000000000000000"


def more_votes(line: Line) -> None:
    line["digest"][0]["pools"][0]["lower_clock_votes"] += 1


def more_load(line: Line) -> None:
    line["observed"]["services"][0]["arrival_rps"]["value"] *= 3


def blind(line: Line) -> None:
    line["observed"]["services"][0]["arrival_rps"] = {"$": "Missing", "reason": "NoData"}


def other_slo(line: Line) -> None:
    line["policies"][0]["slo"]["tpot_s"] *= 0.3


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (more_replicas, r"pools\[0\].replicas: recorded \d+, decided \d+"),
        (other_reason, "clock_reason: recorded NoData, decided "),
        (fewer_candidates, "candidates: recorded "),
        (no_decision, r"\(all\), policies: recorded \[\], decided \['llm/chat'\]"),
        (other_rates, r"memory.pools\[0\].rates: recorded 24 items, hash 0000000000000000, decided \d+ items"),
        (more_votes, r"memory.pools\[0\].lower_clock_votes: recorded 1, decided 0"),
        (more_load, r"expected|forecast_rps|pools\[0\]|candidates"),
        (blind, r"clock_cap_mhz: recorded \d+.0, decided none"),
        (other_slo, r"pools\[0\]|candidates|expected|replicas_reason|clock_reason"),
    ],
    ids=lambda value: getattr(value, "__name__", "is named"),
)
def test_whatever_is_changed_is_found_and_named(file: Path, change: Callable[[Line], None], field: str) -> None:
    number = forge(file, 17, change)
    verdict = verify.of_file(file)
    assert verdict.first is not None
    assert verdict.first.line == number
    assert verdict.decisions == 24
    assert verdict.equal < 24
    result = run(file)
    assert result.exit_code == 3
    said = result.output.splitlines()[-1]
    assert said.startswith(f"first difference: line {number}, 20")
    assert "writer one: policy " in said
    assert re.search(field, said), said


def test_a_changed_decision_is_one_difference_and_not_one_for_every_line_after(file: Path) -> None:
    forge(file, 3, more_replicas)
    assert verify.of_file(file).equal == 23


def test_other_physics_under_the_old_hash_is_refused(file: Path) -> None:
    found = lines(file)
    profile = json.loads(found[1])
    profile["value"]["timing"]["weights_s"] *= 2
    file.write_text("".join([found[0], json.dumps(profile) + "\n", *found[2:]]))
    assert_refused(file, "line 2", "changed")


@pytest.mark.parametrize("left", [-1, -60], ids=["without its line end", "in the middle"])
def test_a_last_line_that_was_cut_off_is_told_and_no_error(file: Path, left: int) -> None:
    file.write_bytes(file.read_bytes()[:left])
    result = run(file)
    assert result.exit_code == 0
    assert ("was cut off while it was written" in result.output) == (left == -60)
    assert f"{23 if left == -60 else 24} equal" in result.output


def test_gz_and_several_files_are_read_and_the_worst_decides_the_exit_code(file: Path, tmp_path: Path) -> None:
    packed = tmp_path / "decisions.jsonl.1.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert run(packed).exit_code == 0
    forge(file, 3, more_replicas)
    assert run(packed, file).exit_code == 3
    assert run(packed, file, tmp_path / "nowhere").exit_code == 2
    packed.write_bytes(packed.read_bytes()[:-200])
    assert_refused(packed, "gz is cut off", "fetch the file again")


def assert_refused(path: Path, *names: str) -> None:
    """One line on stderr, exit code 2, and every name in it."""
    result = run(path)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert all(name in result.stderr for name in (str(path), *names)), result.stderr


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["no decision", "--record"]),
        ("TIMESTAMP,ContextTokens\n1,2\n", ["no record of decisions", "--record FILE"]),
        ('{"apiVersion":"v1"}\n', ["line 1", "no record of decisions"]),
        ("[1, 2]\n", ["no record of decisions"]),
        ("\x00\x01\x02", ["no record of decisions"]),
        ('{"record":"capstan-decisions/9","writer":"a","version":"9.1"}\n', ["line 1", "format", "capstan '9.1'"]),
        ('{"record":"capstan-decisions/2"}\n', ["line 1", "'writer' is missing"]),
        ("[" * 100_000, ["no record of decisions"]),
    ],
    ids=["empty", "a trace", "other JSON", "a list", "binary", "a later format", "half a start", "deeply nested"],
)
def test_what_is_no_record_is_refused_in_one_line(tmp_path: Path, text: str, names: list[str]) -> None:
    path = tmp_path / "given"
    path.write_text(text)
    assert_refused(path, *names)


def test_a_folder_and_a_file_that_is_not_there_are_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, "directory")
    assert_refused(tmp_path / "nowhere", "No such file")


def test_a_part_of_a_record_is_refused_with_the_line_and_what_is_missing(file: Path) -> None:
    found = lines(file)
    for kept, names in (
        (found[5:], ["line 1", "no record of decisions"]),
        ([found[0], *found[2:]], ["line 2", "profile", "beginning is missing"]),
        ([*found[:2], *found[4:]], ["line 3", "remembered before it is missing"]),
        ([*found[:9], found[9][:50] + "\n", *found[10:]], ["line 10", "not a JSON object"]),
        ([*found[:9], found[9].replace('"settings"', '"set"'), *found[10:]], ["line 10", "'settings' is missing"]),
    ):
        file.write_text("".join(kept))
        assert_refused(file, *names)


def test_a_hole_in_the_middle_is_a_difference_of_memory(file: Path) -> None:
    """The line after the hole remembers what the lost one saw; nobody may take the file for whole."""
    found, at = lines(file), cycles(file)[10]
    file.write_text("".join(found[:at] + found[at + 1 :]))
    first = verify.of_file(file).first
    assert first is not None
    assert first.line == at + 1


def test_a_number_that_breaks_the_decision_names_the_line(file: Path) -> None:
    def impossible(line: Line) -> None:
        line["policies"][0]["slo"]["ttft_s"] = -1.0

    number = forge(file, 5, impossible)
    with pytest.raises(Unreadable, match=rf"line {number}: Policy\[0\].slo: an SLO limit"):
        verify.of_file(file)


def test_a_record_of_another_version_says_so_where_it_differs(file: Path) -> None:
    file.write_text(file.read_text().replace('"version":"0.1.0"', '"version":"0.0.7"', 1))
    assert run(file).exit_code == 0, "another version that decides the same is equal"
    forge(file, 3, more_replicas)
    assert "(capstan 0.0.7; this is " in run(file).output


def outcome(record: list[str]) -> str:
    """Return what is said of recorded lines, whichever way it ends."""
    try:
        return str(verify.of_lines(record))
    except Unreadable as refused:
        return f"refused: {refused}"


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every leaf of a JSON value, tags of records apart."""
    if not isinstance(value, dict | list):
        return [path]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [found for key, item in items if key != "$" for found in leaves(item, (*path, key))]


async def test_no_leaf_of_a_decision_or_of_its_memory_can_change_unseen(tmp_path: Path) -> None:
    """Each leaf in turn, with a value of its own type that it does not have, in the last line."""
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 3)
    kept, last = lines(path)[:-1], json.loads(lines(path)[-1])
    paths = [p for p in leaves(last) if p[0] in {"decision", "digest"}]
    assert len(paths) > 30, "else this test shows nothing"
    for at in paths:
        changed = json.loads(json.dumps(last))
        parent = changed
        for key in at[:-1]:
            parent = parent[key]
        was = parent[at[-1]]
        parent[at[-1]] = not was if isinstance(was, bool) else was + 1 if isinstance(was, int | float) else "NoData"
        said = outcome([*kept, json.dumps(changed) + "\n"])
        assert "first difference: line " in said or said.startswith("refused: line "), (at, said)


async def test_whatever_bytes_are_broken_it_is_a_verdict_or_one_line_and_never_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    await recorded(path, 3)
    whole, rng = path.read_bytes(), random.Random(7)  # noqa: S311 - which bytes to break
    for _ in range(300):
        broken = bytearray(whole)
        broken[rng.randrange(len(broken))] = rng.randrange(256)
        said = outcome(broken.decode(errors="replace").splitlines(keepends=True))
        assert len(said.splitlines()) == 1 or not said.startswith("refused"), said
