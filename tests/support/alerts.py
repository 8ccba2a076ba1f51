"""Writes promtool's unit tests from a table: series in, the alerts that must fire, and those that must not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RULES = Path("charts/capstan/rules/power.yaml")
STEP_S = 5


@dataclass(frozen=True)
class Case:
    """One alert: it fires on `bad` at `at_s`, and on `good`, or before its time, it does not."""

    alert: str
    bad: dict[str, str]
    good: dict[str, str]
    at_s: int
    early_s: int | None = None
    step_s: int = STEP_S


def document(case: Case, root: Path) -> dict[str, object]:
    """Return the tests of one alert as promtool reads them."""
    times = [(case.at_s, True)] + ([] if case.early_s is None else [(case.early_s, False)])
    return {
        "rule_files": [str(root / RULES)],
        "evaluation_interval": f"{case.step_s}s",
        "tests": [_test(case, case.bad, times), _test(case, case.good, [(case.at_s, False)])],
    }


def _test(case: Case, values: dict[str, str], times: list[tuple[int, bool]]) -> dict[str, object]:
    """Return one test: a query that is 1 while the alert fires, whatever its labels, and absent else."""
    query = f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}}) > bool 0'
    return {
        "interval": f"{case.step_s}s",
        "input_series": [{"series": name, "values": shape} for name, shape in values.items()],
        "promql_expr_test": [
            {"expr": query, "eval_time": f"{at_s}s", "exp_samples": [{"labels": "{}", "value": 1}] if firing else []}
            for at_s, firing in times
        ],
    }
