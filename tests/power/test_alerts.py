"""The alert rules of power domains, by promtool: each fires on what it is for, in its time, and not on what is well."""

from __future__ import annotations

import subprocess
from pathlib import Path

import promql_parser
import pytest
import yaml

from capstan.adapters import catalogue
from rig import binaries
from support.alerts import RULES, Case, document

D = 'domain="rack-7"'


def state(word: str) -> str:
    return f'capstan_domain_state{{{D},state="{word}"}}'


def flag(name: str, labels: str = D) -> str:
    return f"capstan_{name}{{{labels}}}"


BUDGET = {flag("domain_budget_watts"): "12000x400"}
CASES = (
    Case("CapstanOverBudget", {flag("domain_overbudget_seconds_total"): "0x12 0+1x20"},
         {flag("domain_overbudget_seconds_total"): "0x400"}, 100, 30),
    Case("CapstanBrake", {state("Brake"): "0x10 1x20"}, {state("Brake"): "0x400"}, 60, 30),
    Case("CapstanBrakeInsufficient", {flag("domain_beyond_brake"): "1x20"}, {flag("domain_beyond_brake"): "0x20"}, 60),
    Case("CapstanFailSafe", {state("FailSafe"): "1x400"}, {state("FailSafe"): "0x400"}, 60, 20),
    Case("CapstanTelemetryStale", {flag("domain_telemetry_age_seconds"): "6+5x20"},
         {flag("domain_telemetry_age_seconds"): "0.7x400"}, 60, 5),
    Case("CapstanCoverageLow", {flag("domain_telemetry_coverage_ratio"): "0.75x40"},
         {flag("domain_telemetry_coverage_ratio"): "1x40"}, 60, 5),
    Case("CapstanHighPriorityCapped", {state("HighCap"): "1x40"}, {state("HighCap"): "0x40"}, 120, 30),
    Case("CapstanHighPriorityCappedLong", {state("HighCap"): "1x400"}, {state("HighCap"): "1x100 0x300"}, 1000, 600),
    Case("CapstanLowPriorityCappedLong",
         {flag("domain_capped_seconds_total", f'{D},priority="low",state="LowBase"'): "0+180x340"},
         {flag("domain_capped_seconds_total", f'{D},priority="low",state="LowBase"'): "0+30x340"},
         599_400, step_s=1800),
    Case("CapstanThresholdDrift",
         {flag("domain_threshold_ratio", f'{D},name="high"'): "0.89x90",
          flag("domain_rise_ratio_max", f'{D},window="week"'): "0.3x90"},
         {flag("domain_threshold_ratio", f'{D},name="high"'): "0.72x90",
          flag("domain_rise_ratio_max", f'{D},window="week"'): "0.3x90"}, 4800, 1800, step_s=60),
    Case("CapstanActuationFailing", {flag("domain_unconfirmed_watts"): "400x40"},
         {flag("domain_unconfirmed_watts"): "0x40"}, 60),
    Case("CapstanActuationFailingBeyondHeadroom",
         {flag("domain_unconfirmed_watts"): "400x40", flag("domain_headroom_watts"): "300x40"},
         {flag("domain_unconfirmed_watts"): "400x40", flag("domain_headroom_watts"): "3000x40"}, 60),
    Case("CapstanUncontrollableLoad", {flag("domain_unconfirmed_watts"): "1300x40", **BUDGET},
         {flag("domain_unconfirmed_watts"): "1100x40", **BUDGET}, 120, 30),
    Case("CapstanCapDrift", {"capstan_cap_drift_total": "0x10 8x40"}, {"capstan_cap_drift_total": "8x40"}, 100, 40),
    Case("CapstanFlapping",
         {flag("domain_transitions_total", f'{D},from="Normal",to="LowBase",reason="AboveLowThreshold"'): "0+1x60"},
         {flag("domain_transitions_total", f'{D},from="Normal",to="LowBase",reason="AboveLowThreshold"'): "0x10 1x50"},
         3600, step_s=60),
    Case("CapstanExternalBrake", {'DCGM_EXP_CLOCK_EVENTS_COUNT{hostname="n",clock_event="hw_power_brake"}': "3x20"},
         {'DCGM_EXP_CLOCK_EVENTS_COUNT{hostname="n",clock_event="hw_slowdown"}': "3x20"}, 60),
    Case("CapstanFeedLost", {flag("domain_lost_feeds"): "1x20"}, {flag("domain_lost_feeds"): "0x20"}, 60),
    Case("CapstanSafeSumExceedsBudget",
         {flag("domain_armed"): "1x20", flag("domain_safe_sum_watts", f'{D},case="safe"'): "13000x20", **BUDGET},
         {flag("domain_armed"): "0x20", flag("domain_safe_sum_watts", f'{D},case="safe"'): "13000x20", **BUDGET}, 60),
    Case("CapstanGrantsExceedBudget", {flag("domain_grant_watts", f'{D},kind="held"'): "13000x40", **BUDGET},
         {flag("domain_grant_watts", f'{D},kind="held"'): "13000x2 12000x40", **BUDGET}, 100, 10),
    Case("CapstanGrantsSilent", {flag("domain_grant_watts", f'{D},kind="silent"'): "3000x90"},
         {flag("domain_grant_watts", f'{D},kind="silent"'): "0x90"}, 400, 120),
    Case("CapstanMeterDisagrees", {flag("domain_telemetry_disagreement_ratio"): "0.2x90"},
         {flag("domain_telemetry_disagreement_ratio"): "0.05x90"}, 400, 120),
    Case("CapstanReleaseBlocked", {flag("domain_release_blocked"): "1x90"}, {flag("domain_release_blocked"): "0x90"},
         400, 120),
    Case("CapstanPowerLeaderless",
         {flag("power_shard_leader", 'shard="0",pod="a"'): "1x10 0x40",
          flag("power_shard_leader", 'shard="0",pod="b"'): "0x50"},
         {flag("power_shard_leader", 'shard="0",pod="a"'): "1x10 0x40",
          flag("power_shard_leader", 'shard="0",pod="b"'): "0x9 1x40"}, 120, 60),
)  # fmt: skip


def rules(root: Path) -> list[dict[str, str]]:
    groups = yaml.safe_load((root / RULES).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def selected(node: object) -> set[str]:
    """Return the metric names that an expression reads."""
    if isinstance(node, promql_parser.VectorSelector):
        return {str(node.name)}
    children = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "vector_selector")]
    children += list(getattr(node, "args", None) or [])
    return set().union(*(selected(child) for child in children if child is not None)) if children else set()


def test_every_rule_reads_metrics_that_somebody_exports(root: Path) -> None:
    known = {*catalogue.names(), "DCGM_EXP_CLOCK_EVENTS_COUNT"}
    for rule in rules(root):
        read = selected(promql_parser.parse(rule["expr"]))
        assert read, rule["alert"]
        assert read <= known, f"{rule['alert']}: nobody exports {read - known}"


def test_every_rule_has_a_case(root: Path) -> None:
    assert sorted(rule["alert"] for rule in rules(root)) == sorted(case.alert for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_fires_on_what_it_is_for(case: Case, root: Path, tmp_path: Path) -> None:
    try:
        promtool = binaries.find(["promtool"], may_build=False)["promtool"].path
    except binaries.NotAvailable as missing:
        pytest.skip(str(missing))
    test = tmp_path / "power.yaml"
    test.write_text(yaml.safe_dump(document(case, root)), encoding="utf-8")
    done = subprocess.run([promtool, "test", "rules", test], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
