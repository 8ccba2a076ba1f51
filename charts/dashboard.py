"""Write the Grafana dashboard that the chart ships: SLO, watts against budget, plan, reasons.

Run by `make gen`. The SDK is a developers' dependency; what ships is the JSON.
"""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

OUT = Path(__file__).parent / "capstan" / "dashboards" / "capstan.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 12  # of Grafana's 24 columns
HEIGHT = 8

# (title, unit, [(query, legend), ...], what a reader should look for)
SERIES = {
    "Service objectives": [
        ("TTFT against its limit", "percentunit",
         [('capstan_slo_ratio{slo="ttft"}', "{{namespace}}/{{policy}}")],
         "Observed percentile over its limit: above 1 the SLO is missed"),
        ("TPOT against its limit", "percentunit",
         [('capstan_slo_ratio{slo="tpot"}', "{{namespace}}/{{policy}}")],
         "Observed percentile over its limit: above 1 the SLO is missed"),
        ("Arrivals and forecast", "reqps",
         [("capstan_arrival_rate", "{{policy}} arriving"),
          ("capstan_forecast_arrival_rate", "{{policy}} forecast peak")],
         "Replicas follow the forecast peak"),
    ],
    "Watts": [
        ("Domain draw against budget", "watt",
         [("capstan_domain_power_watts", "{{domain}} {{source}}"),
          ("capstan_domain_budget_watts", "{{domain}} budget")],
         "The draw must be back under the budget within 10 s"),
        ("Domain state", "none",
         [("capstan_domain_state == 1", "{{domain}} {{state}}")],
         "Which step of the ladder holds"),
        ("Policy power, observed and expected", "watt",
         [("capstan_policy_power_watts", "{{policy}} observed"),
          ("capstan_expected_power_watts", "{{policy}} expected")],
         "The realised effect of the plan beside the expected one"),
        ("Joules per output token", "joule",
         [("capstan_joules_per_output_token", "{{policy}}")],
         "The objective"),
    ],
    "Power domains": [
        ("Draw over the budget in force", "percentunit",
         [("capstan_domain_utilization_ratio", "{{domain}}"),
          ('capstan_domain_threshold_ratio{name=~"low|high|brake"}', "{{domain}} {{name}}")],
         "The machine acts on the projected draw: silent nodes count at their worst"),
        ("GPUs under a cap", "none",
         [("capstan_capped_gpus", "{{domain}} {{priority}}")],
         "Low priority pays first; high priority for long means too few low ones, or too many servers"),
        ("Latency of capped pods and of the others", "s",
         [("capstan_latency_seconds", "{{policy}} {{slo}} capped={{capped}}")],
         "What the caps cost, at the SLO's percentile"),
        ("Worst rise within one latency, against what the high threshold bears", "percentunit",
         [('capstan_domain_rise_ratio_max{window="week"}', "{{domain}} seen"),
          ('1 / capstan_domain_threshold_ratio{name="high"} - 1', "{{domain}} borne")],
         "Seen above borne: the threshold is too high"),
        ("Nodes heard", "percentunit",
         [("capstan_domain_telemetry_coverage_ratio", "{{domain}}")],
         "A node that is not heard counts at its worst case"),
        ("Watts of grants", "watt",
         [("capstan_domain_grant_watts", "{{domain}} {{kind}}"),
          ("capstan_domain_safe_sum_watts", "{{domain}} safe setting, {{case}}")],
         "Strategy Guaranteed: what is held never exceeds the budget. Safe setting: what needs nobody"),
    ],
    "Plan": [
        ("Replicas, desired and current", "none",
         [("capstan_desired_replicas", "{{policy}} desired"), ("capstan_current_replicas", "{{policy}} current")],
         "An HPA may follow the desired count"),
        ("Clock caps", "megahertz",
         [("capstan_clock_cap_megahertz", "{{policy}}")],
         "No point means no cap: full clock"),
        ("SM clocks on the GPUs", "megahertz",
         [("max by (node) (capstan_agent_gpu_sm_clock_megahertz)", "{{node}}")],
         "What the boards really run at"),
    ],
}  # fmt: skip

WHY = [
    ("Decisions by reason, last hour",
     "sort_desc(sum by (knob, reason) (increase(capstan_decisions_total[1h])))"),
    ("Held, and why, last hour",
     "sort_desc(sum by (reason) (increase(capstan_held_decisions_total[1h])))"),
]  # fmt: skip


def query(expr: str, legend: str = "", *, instant: bool = False) -> prometheus.Dataquery:
    """Return one Prometheus query of a panel."""
    built = prometheus.Dataquery().expr(expr).legend_format(legend)
    return built.instant().format(PromQueryFormat.TABLE) if instant else built.range()


def panel(title: str, unit: str, queries: list[tuple[str, str]], note: str) -> timeseries.Panel:
    """Return one time series panel."""
    built = timeseries.Panel().title(title).description(note).unit(unit).datasource(SOURCE)
    built = built.height(HEIGHT).span(WIDTH).min(0)
    for expr, legend in queries:
        built = built.with_target(query(expr, legend))
    return built


def build() -> dashboard.Dashboard:
    """Return the whole dashboard: one row per question."""
    board = (
        dashboard.Dashboard("Capstan")
        .uid("capstan")
        .tags(["capstan", "llm", "power"])
        .refresh("10s")
        .time("now-1h", "now")
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus").label("Prometheus"))
    )
    lead = stat.Panel().title("Leader").description("One leader each, or nobody decides").datasource(SOURCE)
    board = board.with_panel(lead.height(4).span(24).with_target(query("capstan_leader", "{{component}}")))
    for row, panels in SERIES.items():
        board = board.with_row(dashboard.Row(row))
        for spec in panels:
            board = board.with_panel(panel(*spec))
    board = board.with_row(dashboard.Row("Why"))
    for title, expr in WHY:
        built = table.Panel().title(title).datasource(SOURCE).height(HEIGHT).span(WIDTH)
        board = board.with_panel(built.with_target(query(expr, instant=True)))
    return board


def main() -> None:
    """Write the JSON, the same bytes every time."""
    OUT.parent.mkdir(parents=True, exist_ok=True)
    encoded = JSONEncoder(sort_keys=True, indent=2).encode(build().build())
    OUT.write_text(json.dumps(json.loads(encoded), sort_keys=True, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
