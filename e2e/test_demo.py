"""The long runs: the demo without Capstan must fail, and a killed operator must lose nothing. About 13 minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUN_S = 900


def demo(out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the demo as `make demo` does."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "e2e"), "OUT": str(out), **environment}
    argv = [sys.executable, "-m", "rig", "demo"]
    return subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S, check=False)


def outcomes(out: Path) -> list[dict[str, object]]:
    """What became of every request."""
    return [json.loads(line) for line in (out / "outcomes.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.timeout(RUN_S)
def test_without_capstan_the_budget_is_broken(tmp_path: Path) -> None:
    """Fixed replicas at the mean load, full clock, no caps: the budget cut is not survived."""
    done = demo(tmp_path, CAPSTAN="off")
    assert done.returncode == 1, done.stdout[-2000:]
    assert "FAILED" in done.stdout


@pytest.mark.timeout(RUN_S)
def test_an_operator_killed_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    """Neither a request nor the objectives."""
    done = demo(tmp_path, CHAOS="kill-operator")
    assert done.returncode == 0, done.stdout[-2000:]
    assert all(outcome["finish_s"] is not None for outcome in outcomes(tmp_path))
