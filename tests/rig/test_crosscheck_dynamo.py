"""NVIDIA's replay beside ours: what it is given, how the pairs are run, what is said; and the real one, where it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from capstan.replay.runs import Requests
from rig.crosscheck import dynamo, venvs

LOAD = Requests(np.array([0.0, 0.5, 1.25]), np.array([10, 512, 513]), np.array([5, 6, 7]))
THEIR_REPORT = """#!/bin/sh
# Plays `python -m dynamo.replay TRACE … --report-json PATH`.
trace="$3"; for last; do :; done
lines=$(grep -c . "$trace")
echo "$@" >> "$(dirname "$0")/calls"
i=0; while [ $i -lt $((lines * 20000)) ]; do i=$((i+1)); done
%s
cat > "$last" <<END
{"num_requests": $lines, "completed_requests": $done, "mean_itl_ms": 30, "mean_ttft_ms": 200}
END
"""


def their_python(folder: Path, behaviour: str = "done=$lines") -> Path:
    """A program that takes CPU time in step with its trace's lines, and behaves."""
    path = folder / "python"
    path.write_text(THEIR_REPORT % behaviour)
    path.chmod(0o755)
    return path


def test_their_trace_has_milliseconds_and_no_prefix_in_common(tmp_path: Path) -> None:
    dynamo.write_trace(LOAD, tmp_path / "t")
    assert [json.loads(line) for line in (tmp_path / "t").read_text().splitlines()] == [
        {"timestamp": 0, "input_length": 10, "output_length": 5, "hash_ids": [0]},
        {"timestamp": 500, "input_length": 512, "output_length": 6, "hash_ids": [1]},
        {"timestamp": 1250, "input_length": 513, "output_length": 7, "hash_ids": [2, 3]},
    ]


def test_pairs_alternate_and_their_start_up_is_subtracted(tmp_path: Path) -> None:
    python, began = their_python(tmp_path), []

    def ours() -> float:
        began.append(len((tmp_path / "calls").read_text().splitlines()) if (tmp_path / "calls").exists() else 0)
        return 0.001

    found = dynamo.compare(python, LOAD, ours, pairs=3)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert ["one.jsonl" in call for call in calls] == [True, False] * 3
    assert began == [2, 2, 6], "after their first pair, before their second, after their third"
    assert all(json.dumps(dynamo.ENGINE) in call and "--num-workers 6" in call for call in calls)
    assert all(s > 0 for s in found.theirs_cpu_s), "three requests take longer than one: the start-up is off"
    assert found.ratios == tuple(s / 0.001 for s in found.theirs_cpu_s)


def test_what_is_told_names_the_load_the_spread_and_what_the_ratio_is_not() -> None:
    last = dynamo.Replayed(3.0, 1000, 0.0367, 0.215)
    found = dynamo.Compared(1000, (1.0, 2.0, 4.0), (0.01, 0.02, 0.01), (1.0, 1.1, 1.2), last)
    theirs, ours, ratio = found.told()
    assert "1,000 requests, 6 workers" in theirs
    assert "500 (250 to 1,000) requests/s of CPU (1.10 (1.00 to 1.20) s of start-up subtracted)" in theirs
    assert "mean ITL 36.7 ms, TTFT 215 ms" in theirs
    assert "100,000 (50,000 to 100,000) requests/s" in ours
    assert "100 (100 to 400) times (goal 50), 3 interleaved pairs" in ratio
    assert "not the same work" in ratio
    assert len(dynamo.Compared(1000, (1.0,), (), (1.0,), last).told()) == 1, "theirs alone"


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("done=$((lines - 1))", "finished 2 of 3"),
        ("echo no such option; exit 2", "ended with 2: no such option"),
        ("lines=$((lines - 1)); done=$lines", "read 2 of 3"),
    ],
    ids=["unfinished", "refused", "not all read"],
)
def test_a_run_of_theirs_that_is_not_whole_is_no_measurement(tmp_path: Path, behaviour: str, says: str) -> None:
    only_the_load = f'case "$trace" in *load.jsonl) {behaviour};; *) done=$lines;; esac'
    with pytest.raises(venvs.NotAvailable, match=says):
        dynamo.compare(their_python(tmp_path, only_the_load), LOAD, None, pairs=1)


def test_an_absent_program_is_told_with_what_puts_it_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSTAN_PEERS_CACHE", str(tmp_path))
    with pytest.raises(venvs.NotAvailable, match="crosscheck install dynamo"):
        venvs.python_of(venvs.DYNAMO)


def test_the_real_one_finishes_a_small_load() -> None:
    """Two seconds of CPU, most of it start-up."""
    if not venvs.DYNAMO.present:
        pytest.skip(f"ai-dynamo {venvs.DYNAMO.version} is not in {venvs.DYNAMO.folder}")
    found = dynamo.compare(venvs.DYNAMO.python, LOAD, None, pairs=1)
    assert found.last.completed == len(LOAD)
    assert 0.020 < found.last.itl_mean_s < 0.040, "decode steps near ours, as the settings say"
