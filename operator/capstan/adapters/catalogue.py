"""Every metric that Capstan exports: one catalogue, and the page that lists them.

Who calls it: `metrics`, which makes a process's part of it, and `app.gen`. Base units and low-cardinality labels; the
word of a reason is the word of `model.reasons`. Must not know: who sets them, how they are scraped.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the catalogue. `kind` is gauge, counter or histogram; counters end in `_total` when scraped."""

    name: str
    kind: str
    process: str
    labels: tuple[str, ...]
    text: str


_POLICY = ("namespace", "policy")
_POOL = (*_POLICY, "pool")
_TARGET = (*_POOL, "target")

CATALOGUE = (
    Metric("capstan_leader", "gauge", "both", ("component",), "1 on the replica that decides, 0 on a standby"),
    Metric("capstan_api_writes_total", "counter", "both", ("verb", "resource"), "Writes to the API server"),
    Metric("capstan_cycle_seconds", "histogram", "both", ("component",), "Duration of one control cycle"),
    Metric("capstan_desired_replicas", "gauge", "operator", _TARGET, "Planned replicas; an HPA or KEDA may follow it"),
    Metric("capstan_current_replicas", "gauge", "operator", _TARGET, "Ready replicas"),
    Metric("capstan_desired_tensor_parallel", "gauge", "operator", _TARGET, "Planned GPUs per replica"),
    Metric("capstan_clock_cap_megahertz", "gauge", "operator", _POOL, "Planned SM clock cap; absent: full clock"),
    Metric(
        "capstan_advised_replicas",
        "gauge",
        "operator",
        (*_POOL, "tp"),
        "Replicas of a degree that the knobs that only advise would have; absent: no advice",
    ),
    Metric("capstan_advised_clock_cap_megahertz", "gauge", "operator", _POOL, "Clock cap of the advice; absent: none"),
    Metric("capstan_advised_power_watts", "gauge", "operator", _POLICY, "GPU watts that the advice should draw"),
    Metric(
        "capstan_class_arrival_rate",
        "gauge",
        "operator",
        (*_POLICY, "class"),
        "Requests arriving per second by class (SS: short prompt, short answer), where pools or limits are by class",
    ),
    Metric(
        "capstan_slo_ratio",
        "gauge",
        "operator",
        (*_POLICY, "slo"),
        "Observed latency quantile over its limit (slo: ttft, tpot)",
    ),
    Metric(
        "capstan_latency_seconds",
        "gauge",
        "operator",
        (*_POLICY, "priority", "capped", "slo"),
        "Observed latency quantile of pods that a PowerDomain caps (capped: true) and of the others (slo: ttft, tpot)",
    ),
    Metric("capstan_arrival_rate", "gauge", "operator", _POLICY, "Requests arriving per second"),
    Metric("capstan_forecast_arrival_rate", "gauge", "operator", _POLICY, "Peak that replicas are provisioned for"),
    Metric("capstan_policy_power_watts", "gauge", "operator", _POLICY, "GPU watts of the policy, observed"),
    Metric("capstan_expected_power_watts", "gauge", "operator", _POLICY, "GPU watts that the plan should draw"),
    Metric(
        "capstan_shed_ratio",
        "gauge",
        "operator",
        _POLICY,
        "Share of requests to refuse while a PowerDomain caps GPUs of the policy: advice, nothing of ours refuses any",
    ),
    Metric(
        "capstan_route_weight",
        "gauge",
        "operator",
        (*_POLICY, "domain", "tp"),
        "Requests in flight of a replica beside those of the fullest while a PowerDomain caps GPUs; absent: as ever",
    ),
    Metric("capstan_policy_energy_joules_total", "counter", "operator", _POLICY, "GPU joules of the policy"),
    Metric("capstan_joules_per_output_token", "gauge", "operator", _POLICY, "GPU joules per generated token, observed"),
    Metric(
        "capstan_request_joules",
        "gauge",
        "operator",
        (*_POLICY, "route"),
        "GPU joules per request of the last whole 5 minutes, by pool (route: the pool, or all)",
    ),
    Metric(
        "capstan_request_joules_anomaly",
        "gauge",
        "operator",
        (*_POLICY, "route"),
        "The same in robust standard deviations from the day before; beyond 3.5 either way is odd",
    ),
    Metric("capstan_decisions_total", "counter", "operator", ("knob", "reason"), "Decisions by knob and reason"),
    Metric(
        "capstan_held_decisions_total", "counter", "operator", ("reason",), "Cycles in which nothing changed, and why"
    ),
    Metric("capstan_input_age_seconds", "gauge", "operator", ("source",), "Age of an input when it was decided on"),
    Metric("capstan_actuation_errors_total", "counter", "operator", ("knob", "reason"), "Writes that were refused"),
    Metric(
        "capstan_kopf_restarts_total", "counter", "operator", (), "Times that kopf ended by itself and was called again"
    ),
    Metric(
        "capstan_power_shard_leader",
        "gauge",
        "power",
        ("shard",),
        "1 in the process that leads a shard of root domains, 0 in its standbys",
    ),
    Metric(
        "capstan_domain_power_watts",
        "gauge",
        "power",
        ("domain", "source"),
        "AC draw of a domain (source: agents, projected with silent nodes at their worst, meter)",
    ),
    Metric(
        "capstan_domain_budget_watts",
        "gauge",
        "power",
        ("domain",),
        "Budget in force: as declared, less reductions, halved while a feed is lost",
    ),
    Metric(
        "capstan_domain_utilization_ratio", "gauge", "power", ("domain",), "Projected draw over the budget in force"
    ),
    Metric("capstan_domain_headroom_watts", "gauge", "power", ("domain",), "Budget in force less projected draw"),
    Metric(
        "capstan_domain_oversubscription_ratio",
        "gauge",
        "power",
        ("domain",),
        "What the nodes can draw over the budget in force",
    ),
    Metric(
        "capstan_domain_state", "gauge", "power", ("domain", "state"), "1 for the state that a domain is in, else 0"
    ),
    Metric(
        "capstan_domain_advised_state",
        "gauge",
        "power",
        ("domain", "state"),
        "The same as mode Act would have it, for a domain in mode Advise",
    ),
    Metric("capstan_domain_armed", "gauge", "power", ("domain",), "1 while caps may be written"),
    Metric(
        "capstan_domain_beyond_brake",
        "gauge",
        "power",
        ("domain",),
        "1 while Brake does not bring the draw below the budget",
    ),
    Metric(
        "capstan_domain_threshold_ratio",
        "gauge",
        "power",
        ("domain", "name"),
        "Thresholds as shares of the budget (name: low, high, brake, hysteresis)",
    ),
    Metric(
        "capstan_domain_transitions_total",
        "counter",
        "power",
        ("domain", "from", "to", "reason"),
        "Changes of a domain's state",
    ),
    Metric(
        "capstan_domain_advised_transitions_total",
        "counter",
        "power",
        ("domain", "from", "to"),
        "Changes that mode Act would have made",
    ),
    Metric("capstan_domain_brake_events_total", "counter", "power", ("domain",), "Times that a domain braked"),
    Metric(
        "capstan_domain_overbudget_seconds_total",
        "counter",
        "power",
        ("domain",),
        "Seconds with the projected draw above the budget",
    ),
    Metric("capstan_domain_overbudget_joules_total", "counter", "power", ("domain",), "Joules above the budget"),
    Metric(
        "capstan_domain_capped_seconds_total",
        "counter",
        "power",
        ("domain", "priority", "state"),
        "Seconds in which GPUs of a priority were capped, by state",
    ),
    Metric(
        "capstan_domain_safe_sum_watts",
        "gauge",
        "power",
        ("domain", "case"),
        "What the safe setting draws at most (case: safe, one node lost)",
    ),
    Metric(
        "capstan_domain_grant_watts",
        "gauge",
        "power",
        ("domain", "kind"),
        "Strategy Guaranteed: granted; held, which counts; silent, held by nodes that do not answer; stranded, held "
        "and not drawn while a limit binds",
    ),
    Metric(
        "capstan_domain_release_blocked",
        "gauge",
        "power",
        ("domain",),
        "1 while a deleted domain keeps its caps, because the budget would not bear their release",
    ),
    Metric(
        "capstan_domain_lost_feeds",
        "gauge",
        "power",
        ("domain",),
        "Redundant feeds that died and have not carried again for a dwell",
    ),
    Metric(
        "capstan_domain_rise_ratio_max",
        "gauge",
        "power",
        ("domain", "window"),
        "Largest relative rise within one control latency of 5 s (window: week)",
    ),
    Metric(
        "capstan_domain_telemetry_age_seconds",
        "gauge",
        "power",
        ("domain",),
        "Age of the oldest sample in a domain's sum",
    ),
    Metric(
        "capstan_domain_telemetry_coverage_ratio",
        "gauge",
        "power",
        ("domain",),
        "Share of a domain's nodes with fresh watts",
    ),
    Metric(
        "capstan_domain_telemetry_disagreement_ratio",
        "gauge",
        "power",
        ("domain",),
        "How far meter and agents are apart; absent: no meter to believe",
    ),
    Metric(
        "capstan_domain_unconfirmed_watts",
        "gauge",
        "power",
        ("domain",),
        "DC watts of GPUs that do not show their caps, though they had the time to",
    ),
    Metric(
        "capstan_capped_gpus",
        "gauge",
        "power",
        ("domain", "priority"),
        "GPUs under a domain's cap, by priority (high, low), or held by the limit of a grant (grant)",
    ),
    Metric(
        "capstan_actuation_seconds",
        "histogram",
        "power",
        ("domain",),
        "From a tightening to its confirmation on every GPU",
    ),
    Metric("capstan_cap_drift_total", "counter", "power", (), "Caps that were in force on a GPU and no longer are"),
    Metric("capstan_agent_call_seconds", "histogram", "power", (), "Duration of the 1 s call to one agent"),
    Metric("capstan_agents", "gauge", "power", ("state",), "Agents by state (answering, silent)"),
    Metric(
        "capstan_agent_gpu_power_watts",
        "gauge",
        "agent",
        ("node", "gpu", "namespace", "pod"),
        "Watts of a GPU, sampled at 1 Hz",
    ),
    Metric("capstan_agent_gpu_sm_clock_megahertz", "gauge", "agent", ("node", "gpu"), "SM clock of a GPU"),
    Metric(
        "capstan_agent_gpu_clock_cap_megahertz", "gauge", "agent", ("node", "gpu"), "Clock cap in force; absent: none"
    ),
    Metric("capstan_agent_gpu_power_limit_watts", "gauge", "agent", ("node", "gpu"), "Enforced board power limit"),
    Metric(
        "capstan_agent_gpu_cap_verified",
        "gauge",
        "agent",
        ("node", "gpu", "kind"),
        "1: the cap (kind: clock, limit) is in force, by its effect; 0: it is not; absent: none set, or no telling yet",
    ),
    Metric(
        "capstan_agent_gpu_power_disagreement",
        "gauge",
        "agent",
        ("node", "gpu"),
        "1 while watts and energy counter differ by more than 10 %: the larger is shown; absent: no telling",
    ),
    Metric(
        "capstan_agent_actuation_failures_total",
        "counter",
        "agent",
        ("node", "call", "code"),
        "Calls to the setter that failed (call: clock, limit, devices, safe), by its word or NVML's (code)",
    ),
    Metric("capstan_agent_energy_joules_total", "counter", "agent", ("node", "gpu"), "Joules since the agent started"),
    Metric("capstan_agent_sample_age_seconds", "gauge", "agent", ("node",), "Age of the newest sample"),
    Metric("capstan_agent_sample_sequence", "gauge", "agent", ("node",), "Number of the newest sample"),
    Metric(
        "capstan_agent_lease_remaining_seconds",
        "gauge",
        "agent",
        ("node",),
        "Until the safe setting, without a renewal",
    ),
    Metric("capstan_agent_safe_setting", "gauge", "agent", ("node",), "1 while the node is in its safe setting"),
)


def names() -> tuple[str, ...]:
    """Return every series name as scraped (a histogram has three)."""
    made: list[str] = []
    for metric in CATALOGUE:
        suffixes = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        made += [metric.name + suffix for suffix in suffixes]
    return tuple(made)


def reference() -> str:
    """Return the page docs/reference/metrics.md."""
    rows = ["# Metrics", "", "| metric | type | exported by | labels | meaning |", "|---|---|---|---|---|"]
    for metric in CATALOGUE:
        by = "operator, power" if metric.process == "both" else metric.process
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {by} | {labels} | {metric.text} |")
    return "\n".join(rows) + "\n"
