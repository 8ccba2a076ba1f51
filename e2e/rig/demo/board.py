"""Does the shipped Grafana dashboard show anything? Every query of it, asked of the demo's own Prometheus."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

DASHBOARD = Path("charts/capstan/dashboards/capstan.json")


def expressions(root: Path) -> list[str]:
    """Return the PromQL of every panel."""
    panels = json.loads((root / DASHBOARD).read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def silent(root: Path, prometheus_url: str) -> list[str]:
    """Return the queries that get no series from this Prometheus."""
    with httpx.Client(base_url=prometheus_url, timeout=5, trust_env=False) as client:
        return [expr for expr in expressions(root) if not _series(client, expr)]


def _series(client: httpx.Client, expr: str) -> list[object]:
    """Return the series of the whole run: a clock that is not capped right now has none at this moment, on purpose."""
    answer = client.get("/api/v1/query", params={"query": f"last_over_time(({expr})[15m:15s])"})
    answer.raise_for_status()
    found: list[object] = answer.json()["data"]["result"]
    return found
