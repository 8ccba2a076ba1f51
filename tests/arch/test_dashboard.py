"""The Grafana dashboard that the chart ships: current, parseable, and about metrics that exist."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from capstan.adapters import catalogue

DASHBOARD = Path("charts/capstan/dashboards/capstan.json")


def panels(root: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((root / DASHBOARD).read_text(encoding="utf-8"))["panels"]
    return found


def expressions(root: Path) -> list[str]:
    return [target["expr"] for panel in panels(root) for target in panel.get("targets", [])]


def selected(node: object) -> set[str]:
    """Return the metric names that an expression reads."""
    if isinstance(node, promql_parser.VectorSelector):
        assert node.name is not None, "a selector without a metric name"
        return {node.name}
    children = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "vector_selector")]
    children += list(getattr(node, "args", None) or [])
    return set().union(*(selected(child) for child in children if child is not None)) if children else set()


def test_generating_it_again_gives_the_same_bytes(root: Path) -> None:
    before = (root / DASHBOARD).read_bytes()
    subprocess.run([sys.executable, root / "charts" / "dashboard.py"], check=True)
    assert (root / DASHBOARD).read_bytes() == before


def test_every_query_reads_metrics_that_we_export(root: Path) -> None:
    known = set(catalogue.names())
    for expr in expressions(root):
        read = selected(promql_parser.parse(expr))
        assert read, expr
        assert read <= known, f"{expr}: nobody exports {read - known}"


def test_panels_name_a_unit_and_no_two_overlap(root: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(root):
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "timeseries":
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@pytest.mark.parametrize("word", ["capstan-system", "llm", "localhost"])
def test_nothing_is_hard_coded(root: Path, word: str) -> None:
    assert f'namespace=\\"{word}' not in (root / DASHBOARD).read_text(encoding="utf-8")
